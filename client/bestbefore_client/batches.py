"""One call of `record_many` becomes blocks of columns, without a Python loop over its rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from bestbefore_client.columns import Column, Repeated, Strings
from bestbefore_client.events import OVERHEAD, Block, part_of
from bestbefore_client.rows import MAX_ID, MAX_SEGMENT_KEYS, checked_reserved


def ids_of(ids: Any) -> tuple[list[str], Strings]:
    """Give n ids as a list and laid out; raises ValueError for an empty or overlong one."""
    listed = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
    texts = listed if set(map(type, listed)) <= {str} else [str(v) for v in listed]
    lengths = set(map(len, texts))
    if lengths and (min(lengths) == 0 or max(lengths) > MAX_ID):
        raise ValueError(f"every id must have 1 to {MAX_ID} characters")
    return texts, Strings.of(texts)


def whole_block(fields: Mapping[str, Any], classes: tuple[str, ...] | None, n: int) -> Block:
    """Put columns together and check their lengths; None is left out, text stands for every row.

    Nothing is copied yet. Raises ValueError naming the column whose length is not n.
    """
    columns = {name: _column(value) for name, value in fields.items() if value is not None}
    for name, column in columns.items():
        if not isinstance(column, Repeated) and len(column) != n:
            raise ValueError(f"column {name!r} has {len(column)} values for {n} ids")
    return Block(columns, classes, n, 0)


def blocks(whole: Block, rows: int) -> Iterator[Block]:
    """Cut a block into copies of at most `rows` rows each, so that the server may reuse its arrays."""
    for start in range(0, whole.n, rows):
        part = part_of(whole, start, min(start + rows, whole.n))
        columns = {name: _copied(column) for name, column in part.columns.items()}
        size = OVERHEAD * len(columns) + sum(_size(column, part.n) for column in columns.values())
        yield Block(columns, part.classes, part.n, size)


def prefixed(prefix: str, columns: Mapping[str, Any] | None) -> dict[str, Any]:
    """Name the columns of features or segments as a frame names them; raises ValueError for too many segment keys."""
    named = {f"{prefix}.{name}": column for name, column in (columns or {}).items()}
    if prefix == "segment" and len(named) > MAX_SEGMENT_KEYS:
        raise ValueError(f"a segment has {len(named)} keys, at most {MAX_SEGMENT_KEYS} are allowed")
    return named


def reserved_columns(reserved: Mapping[str, Any]) -> dict[str, Any]:
    """Give reserved fields as columns: text or an object for all rows, a list with one entry per row."""
    lists = {name: value for name, value in reserved.items() if isinstance(value, (list, np.ndarray))}
    columns: dict[str, Any] = checked_reserved({name: v for name, v in reserved.items() if name not in lists})
    for name, values in lists.items():
        columns[name] = [None if v is None else checked_reserved({name: v})[name] for v in values]
    return columns


def _column(value: Any) -> Column:
    if isinstance(value, str):
        return Repeated(value)
    if isinstance(value, (np.ndarray, Strings, Repeated, list, tuple)):
        return value
    return np.asarray(value)


def _copied(column: Any) -> Column:
    copy: Column = column.copy() if isinstance(column, (np.ndarray, list)) else column
    return copy


def _size(column: Any, n: int) -> int:
    if isinstance(column, np.ndarray):
        return int(column.nbytes)
    if isinstance(column, Strings):
        return 4 * n + int(column.offsets[-1] - column.offsets[0])
    if isinstance(column, Repeated):
        return 0
    return 50 * n + sum(len(v) for v in column if type(v) is str)
