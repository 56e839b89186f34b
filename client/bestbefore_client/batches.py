"""One call of `record_many` becomes blocks of columns, without a Python loop over its rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bestbefore_client.arrays import as_array, as_column, is_column, rows_of
from bestbefore_client.columns import VECTOR, Column, Repeated, Strings
from bestbefore_client.events import OVERHEAD, Block
from bestbefore_client.frame import KINDS
from bestbefore_client.rows import MAX_ID, MAX_SEGMENT_KEYS, checked_reserved, checked_time, size_of


def count_of(ids: Any) -> int:
    """Count ids for the books of what is dropped; what cannot be counted, whatever it raises, is one."""
    try:
        return max(len(ids), 1)
    except Exception:  # noqa: BLE001 -- an object of the server's may raise anything
        return 1


def ids_of(ids: Any) -> tuple[list[str], Strings]:
    """Give n ids as a list and laid out; raises ValueError for an empty or overlong one."""
    listed = ids.tolist() if hasattr(ids, "tolist") else list(ids)
    texts = listed if set(map(type, listed)) <= {str} else [str(v) for v in listed]
    lengths = set(map(len, texts))
    if lengths and (min(lengths) == 0 or max(lengths) > MAX_ID):
        raise ValueError(f"every id must have 1 to {MAX_ID} characters")
    return texts, Strings.of(texts)


def times_of(times_us: Any, now_us: int, n: int) -> NDArray[np.int64]:
    """Give n times in microseconds since the epoch, of integers or numpy's datetime64; raises ValueError beyond."""
    if times_us is None:
        return np.full(n, now_us, dtype=np.int64)
    times, _ = as_array(times_us)
    if times.dtype.kind == "M":
        times = times.astype("datetime64[us]").view(np.int64)
    if n and len(times) == n:
        checked_time(int(times.min())), checked_time(int(times.max()))
    whole: NDArray[np.int64] = times.astype(np.int64, copy=False)
    return whole


class Columns:
    """The columns of one call: as the server holds them, nothing copied yet."""

    def __init__(self, fields: Mapping[str, Any], n: int, rows: NDArray[np.intp] | None) -> None:
        """Take n values of each field, or only `rows` of them; None is left out, text stands for every row.

        Raises ValueError naming the column whose length is not n.
        """
        self.n = n if rows is None else len(rows)
        self.columns: dict[str, Column] = {}
        self._fresh = set()
        for name, value in fields.items():
            if value is None:
                continue
            column, fresh = _column(name, value)
            if not isinstance(column, Repeated):
                if len(column) != n:
                    raise ValueError(f"column {name!r} has {len(column)} values for {n} ids")
                if rows is not None and not isinstance(column, Strings):
                    column, fresh = rows_of(column, rows), True
            self.columns[name] = column
            if fresh:
                self._fresh.add(name)

    def segment(self, row: int) -> dict[str, str]:
        """Give the segment of one row."""
        named = ((name[8:], c) for name, c in self.columns.items() if name.startswith("segment."))
        return {name: _text_at(c, row) for name, c in named}

    def blocks(self, classes: tuple[str, ...] | None, rows: int) -> Iterator[Block]:
        """Cut them into blocks of at most `rows` rows each, copied once, so that the server may reuse its arrays."""
        for start in range(0, self.n, rows):
            stop = min(start + rows, self.n)
            cut = {
                name: c if isinstance(c, Repeated) else _copied(name, c[start:stop], name in self._fresh)
                for name, c in self.columns.items()
            }
            size = OVERHEAD * len(cut) + sum(_size(column, stop - start) for column in cut.values())
            times: Any = cut["time"]
            yield Block(cut, classes, stop - start, size, int(times.min()), int(times.max()))


def prefixed(prefix: str, columns: Mapping[str, Any] | None) -> dict[str, Any]:
    """Name the columns of features or segments as a frame names them; raises ValueError for too many segment keys."""
    named = {} if columns is None else {f"{prefix}.{name}": column for name, column in columns.items()}
    if prefix == "segment" and len(named) > MAX_SEGMENT_KEYS:
        raise ValueError(f"a segment has {len(named)} keys, at most {MAX_SEGMENT_KEYS} are allowed")
    return named


def reserved_columns(reserved: Mapping[str, Any]) -> dict[str, Any]:
    """Give reserved fields as columns: text or an object for all rows, a list with one entry per row."""
    lists = {name: as_column(v) for name, v in reserved.items() if is_column(v)}
    columns: dict[str, Any] = checked_reserved({name: v for name, v in reserved.items() if name not in lists})
    for name, values in lists.items():
        columns[name] = [None if v is None else checked_reserved({name: v})[name] for v in values]
    return columns


def _column(name: str, value: Any) -> tuple[Any, bool]:
    if isinstance(value, str):
        return Repeated(value), False
    if isinstance(value, (Strings, Repeated)):
        return value, False
    if KINDS.get(name) == VECTOR:
        return as_array(value)
    return as_column(value), False


def _text_at(column: Column, row: int) -> str:
    if isinstance(column, Repeated):
        return column.value
    if isinstance(column, Strings):
        return column.data[column.offsets[row] : column.offsets[row + 1]].tobytes().decode()
    return str(column[row])


def _copied(name: str, column: Any, fresh: bool) -> Column:
    """Copy what the server may change, at once into the type that a frame has."""
    if isinstance(column, list):
        return column if fresh else column.copy()
    if not isinstance(column, np.ndarray) or isinstance(column, np.ma.MaskedArray) or column.dtype == object:
        copy: Column = column.copy() if isinstance(column, np.ndarray) else column
        return copy
    wanted = np.float32 if KINDS.get(name) == VECTOR else _DTYPES.get(column.dtype, column.dtype)
    return np.ascontiguousarray(column, dtype=wanted) if fresh else np.array(column, dtype=wanted, order="C")


# As `columns.build` would convert them, later.
_DTYPES = {np.dtype(np.float16): np.dtype(np.float64)}


def _size(column: Any, n: int) -> int:
    if isinstance(column, np.ndarray):
        return int(column.nbytes)
    if isinstance(column, Strings):
        return 4 * n + int(column.offsets[-1] - column.offsets[0])
    if isinstance(column, Repeated):
        return 0
    return 8 * n + size_of(column)
