"""Columns of a frame: from what servers hold (arrays, lists, one value for all rows) to Arrow buffers.

Arrow's layout is public (https://arrow.apache.org/docs/format/Columnar.html): a validity bitmap, offsets, data. Numpy
arrays of the right type are handed over as they are, without a copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Union

import nanoarrow as na
import numpy as np
from numpy.typing import NDArray

BOOL, FLOAT32, FLOAT64, INT32, STRING, TIME, VECTOR = "bool", "f4", "f8", "i4", "string", "time", "vector"


@dataclass(frozen=True)
class Repeated:
    """One value for every row: the model, the version, a segment."""

    value: str


@dataclass(frozen=True)
class Strings:
    """Strings in Arrow's layout: `data` uint8 (bytes,), `offsets` int64 or int32 (n + 1,); no nulls."""

    data: NDArray[np.uint8]
    offsets: NDArray[Any]

    @classmethod
    def of(cls, values: Sequence[str]) -> Strings:
        """Lay out n strings; raises UnicodeEncodeError for a lone surrogate, TypeError for what is not a string."""
        return cls(*_joined(values))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, rows: slice) -> Strings:
        """Cut out consecutive rows, without a copy."""
        start, stop, _ = rows.indices(len(self))
        return Strings(self.data, self.offsets[start : max(start, stop) + 1])


Column = Union["NDArray[Any]", Sequence[Any], Strings, Repeated]


@dataclass(frozen=True)
class Built:
    """One column ready to be written: its kind, the list size (vectors only) and the Arrow array."""

    kind: str
    size: int
    array: Any


def build(column: Column, kind: str | None, n: int) -> Built:
    """Build n rows of `column` as `kind`, or as what the values are (string, bool or float64) when `kind` is None.

    None, a masked entry of `numpy.ma`, and nothing else, is a null; NaN stays NaN.
    Raises ValueError or TypeError when the values do not fit.
    """
    if isinstance(column, Repeated):
        return _repeated(column.value, n)
    if len(column) != n:
        raise ValueError(f"has {len(column)} rows, the ids have {n}; give every column one value per id")
    if isinstance(column, Strings):
        return _string(column.data, column.offsets, n, None)
    if kind == VECTOR:
        return _vector(column, n)
    if isinstance(column, np.ndarray) and column.dtype != object and not isinstance(column, np.ma.MaskedArray):
        if kind == STRING or (kind is None and column.dtype.kind == "U"):
            return _texts(column.tolist(), n, None)
        return _numbers(column, kind or _kind_of_array(column), n, None)
    values, valid = _without_nulls(column)
    kind = kind or _kind_of(values)
    return _texts(values, n, valid) if kind == STRING else _numbers(values, kind, n, valid)


def length_of(column: Column, default: int) -> int:
    """Count the rows of a column; a repeated value fits any number of rows."""
    return default if isinstance(column, Repeated) else len(column)


def arrow_type(kind: str, size: int) -> Any:
    """Give the nanoarrow schema of a kind."""
    return _vector_type(size) if kind == VECTOR else _SCALARS[kind]


@lru_cache(maxsize=64)
def _vector_type(size: int) -> Any:
    return na.c_schema(na.fixed_size_list(na.float32(), size))


def _without_nulls(column: Any) -> tuple[Any, NDArray[np.bool_] | None]:
    """Give the values, nulls filled with something harmless, and which are valid; None when nothing is null."""
    values = column.tolist() if isinstance(column, np.ndarray) else column
    if type(None) not in set(map(type, values)):
        return values, None
    valid = np.fromiter((v is not None for v in values), dtype=np.bool_, count=len(values))
    filler = next((type(v)() for v in values if isinstance(v, (str, bool, int, float))), 0.0)
    return [filler if v is None else v for v in values], valid


def _kind_of_array(values: NDArray[Any]) -> str:
    """Tell what Arrow type fits an array of scalars; raises TypeError if none does."""
    if values.dtype.kind not in "bfiu":
        raise TypeError(f"has dtype {values.dtype}; give float32, float64, integers, bool or text")
    if values.dtype.kind == "b":
        return BOOL
    return FLOAT32 if values.dtype == np.float32 else FLOAT64


def _kind_of(values: Sequence[Any]) -> str:
    """Tell what Arrow type fits scalars: text wins over numbers, numbers over bools; raises TypeError if none does."""
    types = set(map(type, values))
    if any(issubclass(t, str) for t in types):
        return STRING
    if types and all(issubclass(t, (bool, np.bool_)) for t in types):
        return BOOL
    wrong = [t.__name__ for t in types if not issubclass(t, (bool, np.bool_, int, float, np.integer, np.floating))]
    if wrong:
        raise TypeError(f"holds {', '.join(sorted(wrong))}; give numbers, text, bools or None")
    return FLOAT64


def _texts(values: Sequence[Any], n: int, valid: NDArray[np.bool_] | None) -> Built:
    types = set(map(type, values))
    wrong = [t.__name__ for t in types if not issubclass(t, (str, bool, int, float, np.generic))]
    if wrong:
        raise TypeError(f"holds {', '.join(sorted(wrong))}; give text")
    data, offsets = _joined(values if types <= {str} else [str(v) for v in values])
    return _string(data, offsets, n, valid)


def _joined(values: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    text = "".join(values)
    data = text.encode()
    lengths: Iterable[int] = map(len, values)
    if len(data) != len(text):
        lengths = (len(v.encode()) for v in values)
    offsets = np.zeros(len(values) + 1, dtype=np.int32)
    np.cumsum(np.fromiter(lengths, dtype=np.int32, count=len(values)), out=offsets[1:])
    return np.frombuffer(data, dtype=np.uint8), offsets


@lru_cache(maxsize=256)
def _repeated(value: str, n: int) -> Built:
    data = value.encode()
    offsets = np.arange(n + 1, dtype=np.int32) * len(data)
    return _string(np.frombuffer(data * n, dtype=np.uint8), offsets, n, None)


def _string(data: NDArray[np.uint8], offsets: NDArray[Any], n: int, valid: NDArray[np.bool_] | None) -> Built:
    if offsets[0] != 0:
        data, offsets = data[offsets[0] : offsets[-1]], offsets - offsets[0]
    if offsets[-1] >= 1 << 31:
        raise ValueError(f"holds {offsets[-1]} bytes of text; a frame takes less than 2 GiB")
    return Built(STRING, 0, _array(STRING, n, [np.ascontiguousarray(offsets, dtype=np.int32), data], valid))


def _numbers(values: Any, kind: str, n: int, valid: NDArray[np.bool_] | None) -> Built:
    data: NDArray[Any] = np.ascontiguousarray(values, dtype=_DTYPES[kind])
    if data.shape != (n,):
        raise ValueError(f"has shape {data.shape}, expected ({n},)")
    return Built(kind, 0, _array(kind, n, [_bits(data) if kind == BOOL else data], valid))


def _vector(column: Any, n: int) -> Built:
    data = np.ascontiguousarray(column, dtype=np.float32)
    if data.ndim != 2 or data.shape[1] == 0:
        raise ValueError(f"has shape {data.shape}, expected (rows, values) with at least one value")
    size = data.shape[1]
    child = _array(FLOAT32, n * size, [data.reshape(-1)], None)
    array = na.c_array_from_buffers(
        _vector_type(size), n, [None], null_count=0, children=[child], validation_level="none"
    )
    return Built(VECTOR, size, array)


def _array(kind: str, n: int, buffers: list[Any], valid: NDArray[np.bool_] | None) -> Any:
    nulls = 0 if valid is None else n - int(np.count_nonzero(valid))
    bitmap = None if valid is None else _bits(valid)
    # The buffers come from here, so their sizes are right; checking them again costs a fifth of the time.
    return na.c_array_from_buffers(_SCALARS[kind], n, [bitmap, *buffers], null_count=nulls, validation_level="none")


def _bits(flags: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.packbits(flags, bitorder="little")


_SCALARS = {
    BOOL: na.c_schema(na.bool_()),
    FLOAT32: na.c_schema(na.float32()),
    FLOAT64: na.c_schema(na.float64()),
    INT32: na.c_schema(na.int32()),
    STRING: na.c_schema(na.string()),
    TIME: na.c_schema(na.timestamp("us", "UTC")),
}
_DTYPES = {BOOL: np.bool_, FLOAT32: np.float32, FLOAT64: np.float64, INT32: np.int32, TIME: np.int64}
