"""Arrays as bytes and back, without pickle: msgpack of type, shape and little-endian content, under a SHA-256.

>>> content = pack("ruler", 1, {"edges": np.array([0.5, 1.0])})
>>> unpack("ruler", 1, content, digest(content))
{'edges': array([0.5, 1. ])}
>>> unpack("ruler", 2, content)
Traceback (most recent call last):
    ...
ValueError: this ruler has format version 1, known is 2; register it again with this version of the software
"""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

DTYPES = ("<f8", "<f4", "<i8", "|b1", "|u1")


class _Array(msgspec.Struct, frozen=True):
    dtype: str
    shape: tuple[int, ...]
    content: bytes


class _Packed(msgspec.Struct, frozen=True):
    kind: str
    version: int
    arrays: dict[str, _Array] = {}


def pack(kind: str, version: int, arrays: Mapping[str, Any]) -> bytes:
    """Arrays and numbers of the types in DTYPES, named and versioned; equal input gives equal bytes."""
    found = {}
    for name, value in sorted(arrays.items()):
        array = np.asarray(value)
        array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(array.shape)
        if array.dtype.str not in DTYPES:
            raise ValueError(f"{kind}: {name} is of type {array.dtype.str}, which is none of {', '.join(DTYPES)}")
        found[name] = _Array(array.dtype.str, array.shape, array.tobytes())
    return msgspec.msgpack.encode(_Packed(kind, version, found))


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def unpack(kind: str, version: int, content: bytes, expected: str | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of `pack`. Raises ValueError for another digest, kind or version, or bytes that cannot be read."""
    if expected is not None and digest(content) != expected:
        raise ValueError(
            f"this {kind} has digest {digest(content)}, registered is {expected}: the file is not the one that was "
            "registered; fetch that one or register this one"
        )
    try:
        packed = msgspec.msgpack.decode(content, type=_Packed)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"this is no {kind}: {error}; register it again") from error
    if packed.kind != kind:
        raise ValueError(f"this is a {packed.kind[:60]}, not a {kind}; give the other file")
    if packed.version != version:
        raise ValueError(
            f"this {kind} has format version {packed.version}, known is {version}; "
            "register it again with this version of the software"
        )
    return {name: _array(kind, name, value) for name, value in packed.arrays.items()}


def _array(kind: str, name: str, value: _Array) -> NDArray[Any]:
    if value.dtype not in DTYPES:
        raise ValueError(
            f"{name[:60]} of this {kind} is of type {value.dtype[:20]}, which is unknown; register it again"
        )
    if math.prod(value.shape) * np.dtype(value.dtype).itemsize != len(value.content) or min(value.shape, default=0) < 0:
        raise ValueError(
            f"{name[:60]} of this {kind} has {len(value.content)} bytes, not {str(value.shape)[:60]}; register it again"
        )
    try:
        return np.frombuffer(value.content, dtype=value.dtype).reshape(value.shape).copy()
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{name[:60]} of this {kind} is cut short: {error}; register it again") from error
