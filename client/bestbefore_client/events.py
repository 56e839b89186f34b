"""What waits in the recorder: single inferences, blocks of them, ready messages; and how inferences become frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple, Union

import numpy as np
from numpy.typing import NDArray

from bestbefore_client.columns import Column, Repeated
from bestbefore_client.frame import CONTENT_TYPE, encode_frame

# Kafka's default limit on a record batch is 1 048 588 bytes; the rest is for the key, the headers and the batch header.
MAX_VALUE = 1_000_000
OVERHEAD = 200  # bytes a Python object with its fields takes beside its payload, about

_Vector = Union["NDArray[Any]", "tuple[float, ...]"]


class Shape(NamedTuple):
    """What rows must share to stand in one frame."""

    version: str
    features: tuple[str, ...]
    segments: tuple[str, ...]
    classes: tuple[str, ...]
    embedding: int


class Row(NamedTuple):
    """One inference."""

    shape: Shape
    id: str
    time_us: int
    features: tuple[Any, ...]
    segments: tuple[str, ...]
    scores: _Vector
    embedding: _Vector
    extra: Mapping[str, Any]  # only fields that differ from their default
    size: int


@dataclass(frozen=True)
class Block:
    """Many inferences as columns."""

    columns: Mapping[str, Column]
    classes: tuple[str, ...] | None
    n: int
    size: int


@dataclass(frozen=True)
class Message:
    """A Kafka record to be sent; `topic` without its prefix; `items` is how many things it carries."""

    topic: str
    key: str | None
    value: bytes
    headers: list[tuple[str, bytes]]
    items: int
    size: int


Lost = Callable[[str, int, int, BaseException], None]
Framer = Callable[[bytes, str, int, int], Message]

# What encoding raises for values that do not fit; nanoarrow's own error is a RuntimeError.
UNFIT = (ValueError, TypeError, OverflowError, RuntimeError)

DEFAULTS: dict[str, Any] = {"status": 200, "abstained": False, "sampling": 1.0}


def rows_by_shape(rows: Iterable[Row]) -> dict[Shape, list[Row]]:
    """Group rows that can share a frame; order within a group is kept."""
    groups: dict[Shape, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.shape, []).append(row)
    return groups


def columns_of(rows: Sequence[Row], shared: Mapping[str, Column]) -> dict[str, Column]:
    """Lay out rows of one shape as the columns of a frame; `shared` are those that every row has in common."""
    shape = rows[0].shape
    columns: dict[str, Column] = {"id": [r.id for r in rows], "time": [r.time_us for r in rows], **shared}
    for name, values in zip(shape.features, zip(*(r.features for r in rows))):
        columns[f"features.{name}"] = values
    for name, values in zip(shape.segments, zip(*(r.segments for r in rows))):
        columns[f"segment.{name}"] = values
    if shape.classes:
        columns["scores"] = np.array([r.scores for r in rows], dtype=np.float32)
    if shape.embedding:
        columns["embedding"] = np.array([r.embedding for r in rows], dtype=np.float32)
    for name in dict.fromkeys(chain.from_iterable(r.extra for r in rows)):
        columns[name] = [r.extra.get(name, DEFAULTS.get(name)) for r in rows]
    return columns


def frames_of_rows(rows: Sequence[Row], shared: Mapping[str, Column], framer: Framer, lost: Lost) -> Iterator[Message]:
    """Encode rows of one shape, in halves where they are too many for one record.

    A row that cannot be encoded does not take the others with it: halving finds it, and `lost` is told.
    """
    size = sum(r.size for r in rows)
    reason = "too-large"
    try:
        value = encode_frame(columns_of(rows, shared), classes=rows[0].shape.classes or None)
        if len(value) <= MAX_VALUE:
            yield framer(value, rows[0].shape.version, len(rows), size)
            return
        error: Exception = ValueError(f"one event takes {len(value)} bytes, a record at most {MAX_VALUE}")
    except UNFIT as caught:
        reason, error = "invalid", caught
    if len(rows) == 1:
        lost(reason, 1, size, error)
        return
    middle = len(rows) // 2
    yield from frames_of_rows(rows[:middle], shared, framer, lost)
    yield from frames_of_rows(rows[middle:], shared, framer, lost)


def frames_of_block(block: Block, framer: Framer, lost: Lost) -> Iterator[Message]:
    """Encode a block, in halves where it is too large for one record."""
    try:
        value = encode_frame(block.columns, classes=block.classes)
    except UNFIT as error:
        lost("invalid", block.n, block.size, error)
        return
    if len(value) <= MAX_VALUE:
        yield framer(value, version_of(block), block.n, block.size)
    elif block.n == 1:
        lost("too-large", 1, block.size, ValueError(f"one event takes {len(value)} bytes, at most {MAX_VALUE} fit"))
    else:
        middle = block.n // 2
        yield from frames_of_block(part_of(block, 0, middle), framer, lost)
        yield from frames_of_block(part_of(block, middle, block.n), framer, lost)


def part_of(block: Block, start: int, stop: int) -> Block:
    """Cut rows out of a block; the bytes are shared out by the number of rows."""
    columns = {name: c if isinstance(c, Repeated) else c[start:stop] for name, c in block.columns.items()}
    size = block.size * stop // block.n - block.size * start // block.n
    return Block(columns, block.classes, stop - start, size)


def version_of(block: Block) -> str:
    """Tell the model version of a block; one value for all its rows."""
    version = block.columns["version"]
    return version.value if isinstance(version, Repeated) else ""


def frame_message(key: str | None, value: bytes, items: int) -> Message:
    """Wrap a frame into a record of the topic `inference`."""
    headers = [("content-type", CONTENT_TYPE.encode())]
    return Message("inference", key, value, headers, items, len(value) + OVERHEAD)
