"""Tensors of the Open Inference Protocol as rows, from lists, raw bytes and protobuf contents.

Source: Open Inference Protocol v2 and Triton's binary extension. Tensors are row-major, raw ones little-endian; an
element of a raw BYTES tensor has its length before it, in four bytes. The first axis counts inferences.
"""

import math
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from streams.adapters.contract import MOST_ROWS, Row
from streams.errors import Unadaptable

_DTYPES = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1", "INT16": "<i2",
    "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
DATATYPES = frozenset((*_DTYPES, "BF16", "BYTES"))


class Tensor(NamedTuple):
    """A name, a shape, and the elements in row-major order."""

    name: str
    shape: Sequence[int]
    values: Sequence[Any]


def from_raw(name: str, datatype: str, shape: Sequence[int], raw: bytes) -> Tensor:
    """A tensor from its bytes. Raises Unadaptable."""
    if datatype == "BYTES":
        return Tensor(name, shape, [readable(one) for one in _lengths(name, raw)])
    if datatype == "BF16":
        halves = np.frombuffer(_whole(name, raw, 2), "<u2").astype("<u4") << 16
        return Tensor(name, shape, halves.view("<f4").tolist())
    dtype = _DTYPES.get(datatype)
    if dtype is None:
        raise Unadaptable(f"tensor {name[:60]!r}: its datatype is none of {', '.join(sorted(DATATYPES))}")
    return Tensor(name, shape, np.frombuffer(_whole(name, raw, np.dtype(dtype).itemsize), dtype).tolist())


def _whole(name: str, raw: bytes, size: int) -> bytes:
    if len(raw) % size:
        raise Unadaptable(f"tensor {name[:60]!r}: {len(raw)} bytes are no whole number of elements of {size} bytes")
    return raw


def _lengths(name: str, raw: bytes) -> list[bytes]:
    found: list[bytes] = []
    at = 0
    while at < len(raw):
        end = at + 4 + struct.unpack_from("<I", raw, at)[0] if at + 4 <= len(raw) else -1
        if not at + 4 <= end <= len(raw):
            raise Unadaptable(f"tensor {name[:60]!r}: element {len(found)} is longer than the bytes that are there")
        found.append(raw[at + 4 : end])
        at = end
    return found


def readable(element: Any) -> Any:
    """Bytes as text where they are text."""
    if not isinstance(element, bytes):
        return element
    try:
        return element.decode("utf-8")
    except UnicodeDecodeError:
        return element


def flat(name: str, data: Any, depth: int = 8) -> list[Any]:
    """Nested lists as one list of scalars."""
    if not isinstance(data, list):
        raise Unadaptable(f"tensor {name[:60]!r}: data is no list")
    if not any(isinstance(one, list) for one in data):
        return data
    if depth == 0:
        raise Unadaptable(f"tensor {name[:60]!r}: data is nested deeper than 8 lists")
    return [leaf for one in data for leaf in flat(name, one if isinstance(one, list) else [one], depth - 1)]


def rows(tensors: Sequence[Tensor]) -> list[Row]:
    """One row for each index of the first axis, with a column for each tensor.

    A column is a scalar where a row has one element of the tensor, else the list of them. Raises Unadaptable where the
    shape does not fit the elements, or first axes differ.
    """
    if not tensors:
        raise Unadaptable("there are no tensors")
    counts = {_count(tensor) for tensor in tensors}
    if len(counts) > 1:
        told = ", ".join(f"{t.name[:40]} {list(t.shape)[:8]}" for t in tensors[:6])
        raise Unadaptable(f"tensors of different lengths in one message: {told}; the first axis counts inferences")
    (n,) = counts
    found: list[Row] = [{} for _ in range(n)]
    for tensor in tensors:
        width = len(tensor.values) // n if n else 0
        for i, row in enumerate(found):
            one = list(tensor.values[i * width : (i + 1) * width])
            row[tensor.name] = one[0] if width == 1 else one
    return found


def _count(tensor: Tensor) -> int:
    shape = [int(axis) for axis in tensor.shape]
    if any(axis < 0 for axis in shape) or math.prod(shape) != len(tensor.values):
        raise Unadaptable(
            f"tensor {tensor.name[:60]!r}: shape {shape[:8]} does not hold {len(tensor.values)} elements; was it cut?"
        )
    n = shape[0] if shape else 1
    if n > MOST_ROWS:
        raise Unadaptable(f"{n} inferences in one record; at most {MOST_ROWS} are read")
    return n
