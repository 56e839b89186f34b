"""Arrow columns of a frame as numpy arrays: every layout that senders use, and a clear error for any other."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.columns import Categories
from streams.errors import Invalid
from streams.frame_size import MAX_FRAME_BYTES


def text_buffers(column: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """UTF-8 bytes of a string column, and where each text begins and the last one ends."""
    wide = column.type == pa.large_string()
    _, offsets, data = column.buffers()
    # Counted, not sliced: a buffer may end in bytes that are no whole offset.
    count = column.offset + len(column) + 1 if len(column) else 0
    bounds = np.frombuffer(offsets or b"", np.int64 if wide else np.int32, count)[column.offset :]
    return np.frombuffer(data or b"", np.uint8), bounds.astype(np.int64, copy=False)


def constant(column: pa.Array) -> str | None:
    """The one text that all rows of a string column share, where a look at the bytes can tell."""
    if column.null_count or not len(column) or pa.types.is_dictionary(column.type):
        return None
    data, bounds = text_buffers(column)
    width = int(bounds[1] - bounds[0])
    if width == 0 or int(bounds[-1] - bounds[0]) != width * len(column) or (np.diff(bounds) != width).any():
        return None
    texts = data[bounds[0] : bounds[-1]].reshape(len(column), width)
    return str(column[0].as_py()) if (texts == texts[0]).all() else None


def is_text(kind: pa.DataType) -> bool:
    """Strings in any layout."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def times(column: pa.Array) -> NDArray[np.int64]:
    """Microseconds since the epoch."""
    if column.type.unit != "us":
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    found: NDArray[np.int64] = column.view(pa.int64()).to_numpy()
    return found


def numbers(kind: pa.DataType) -> bool:
    """Whatever becomes a float: booleans are numbers."""
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def floats(column: pa.Array | None, name: str) -> NDArray[np.float64] | None:
    """float64, NaN where null."""
    if column is None:
        return None
    if not numbers(column.type):
        raise Invalid(f"frame: column {name!r} must hold numbers, is {column.type}")
    if pa.types.is_boolean(column.type) or (column.null_count and pa.types.is_integer(column.type)):
        column = column.cast(pa.float64(), safe=False)
    values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return values.astype(np.float64, copy=False)


def flags(column: pa.Array | None, name: str) -> NDArray[np.bool_] | None:
    """Booleans; None where none is true."""
    if column is None:
        return None
    if not pa.types.is_boolean(column.type):
        raise Invalid(f"frame: column {name!r} must be boolean, is {column.type}")
    found: NDArray[np.bool_] = column.fill_null(False).to_numpy(zero_copy_only=False)
    return found if found.any() else None


def matrix(column: pa.Array | None, name: str) -> NDArray[np.float32] | None:
    """A fixed-size list column as (n, k), NaN rows where null."""
    if column is None:
        return None
    if not pa.types.is_fixed_size_list(column.type) or not pa.types.is_floating(column.type.value_type):
        raise Invalid(f"frame: column {name!r} must be a fixed-size list of floats, is {column.type}")
    width = column.type.list_size
    if not width:
        raise Invalid(f"frame: column {name!r} holds lists of no length; leave it out where there is nothing to say")
    inner = column.values.slice(column.offset * width, len(column) * width)
    found: NDArray[np.float32] = (
        inner.to_numpy(zero_copy_only=False).reshape(len(column), width).astype(np.float32, copy=False)
    )
    if column.null_count:
        found = found.copy()
        found[column.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return found


def categories(column: pa.Array, name: str) -> Categories:
    """Codes and values of a string column; a null is a missing value."""
    if not is_text(column.type):
        raise Invalid(f"frame: column {name!r} must be a string, is {column.type}")
    same = constant(column)
    if same is not None:
        return Categories(np.zeros(len(column), np.int32), (same,))
    if pa.types.is_dictionary(column.type) and column.dictionary.null_count:
        column = dictionary_decoded(column, name)
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    codes = encoded.indices.cast(pa.int32())  # as they come they may have no room for -1
    codes = codes.fill_null(-1) if codes.null_count else codes
    return Categories(codes.to_numpy().astype(np.int32, copy=False), tuple(encoded.dictionary.to_pylist()))


def dictionary_decoded(column: pa.Array, name: str) -> pa.Array:
    """A dictionary column as plain text. Raises Invalid where one long text in many rows would take a lot of memory."""
    sizes = pc.binary_length(column.dictionary).take(column.indices)
    if (pc.sum(sizes).as_py() or 0) > MAX_FRAME_BYTES:
        raise Invalid(f"frame: column {name!r} repeats texts of over {MAX_FRAME_BYTES} bytes in all; send shorter ones")
    return column.dictionary_decode()


def present(column: pa.Array | None) -> NDArray[np.bool_] | None:
    """Rows of a column of any type that are not null."""
    if column is None:
        return None
    if not column.null_count:
        return np.ones(len(column), np.bool_)
    return np.asarray(column.is_valid().to_numpy(zero_copy_only=False))


class ArrowIds:
    """Ids that stay in their Arrow column until some of them are asked for."""

    __slots__ = ("_column", "_rows")

    def __init__(self, column: pa.Array, rows: NDArray[np.intp] | None = None) -> None:
        self._column, self._rows = column, rows

    def take(self, rows: NDArray[np.intp] | slice) -> "ArrowIds":
        """Only `rows`."""
        every = np.arange(len(self._column)) if self._rows is None else self._rows
        return ArrowIds(self._column, every[rows])

    def texts(self, rows: NDArray[np.intp]) -> list[str]:
        """The ids of `rows`."""
        chosen = rows if self._rows is None else self._rows[rows]
        return [str(self._column[row].as_py()) for row in chosen.tolist()]
