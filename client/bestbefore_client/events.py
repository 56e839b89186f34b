"""What waits in the recorder: rows of one shape, blocks of columns, ready messages; and how they become frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Union

import numpy as np

from bestbefore_client.columns import Column, Repeated
from bestbefore_client.courtesy import Courtesy
from bestbefore_client.frame import CONTENT_TYPE, encoded

# Kafka's default limit on a record batch is 1 048 588 bytes; the rest is for the key, the headers and the batch header.
MAX_VALUE = 1_000_000
OVERHEAD = 200  # bytes a Python object with its fields takes beside its payload, about
NEVER = 1 << 63  # later than any event time

DEFAULTS: dict[str, Any] = {"status": 200, "abstained": False, "sampling": 1.0}
DEFAULTED = ("label", "value", "latency_ms", "status", "abstained", "sampling")


@dataclass(frozen=True, eq=False)
class Shape:
    """What rows must share to stand in one frame, and how they lie: `width` places, one after the other.

    id, time, `DEFAULTED`, features, segments, scores (k places, or one array where `scores` is -k), embedding (one
    array), reserved fields. `base` is the bytes a row takes beside what is long; the last `measured` places are.
    """

    version: str
    features: tuple[str, ...]
    segments: tuple[str, ...]
    classes: tuple[str, ...]
    scores: int
    embedding: int
    reserved: tuple[str, ...]
    width: int
    base: int
    measured: int


@dataclass
class Batch:
    """Rows of one shape, flat: a list of texts and numbers costs the garbage collector nothing, a thousand rows do."""

    shape: Shape
    values: list[Any] = field(default_factory=list)
    n: int = 0
    size: int = 0
    low: int = NEVER

    def part(self, start: int, stop: int) -> Batch:
        """Cut rows out; the bytes are shared out by the number of rows."""
        size = self.size * stop // self.n - self.size * start // self.n
        width = self.shape.width
        return Batch(self.shape, self.values[start * width : stop * width], stop - start, size, self.low)


@dataclass(frozen=True)
class Block:
    """Many inferences as columns; none of them is older than `low` or newer than `high`."""

    columns: Mapping[str, Column]
    classes: tuple[str, ...] | None
    n: int
    size: int
    low: int = NEVER
    high: int = -NEVER

    def part(self, start: int, stop: int) -> Block:
        """Cut rows out; the bytes are shared out by the number of rows."""
        columns = {name: c if isinstance(c, Repeated) else c[start:stop] for name, c in self.columns.items()}
        size = self.size * stop // self.n - self.size * start // self.n
        return Block(columns, self.classes, stop - start, size, self.low, self.high)


@dataclass(frozen=True, eq=False)
class Message:
    """A Kafka record to be sent; `topic` without its prefix; `items` is how many things it carries.

    Whoever gives `landed` is told what became of it (None, or the error), and its items are not in the ledger.
    """

    topic: str
    key: str | None
    value: bytes
    headers: list[tuple[str, bytes]]
    items: int
    size: int
    low: int = NEVER
    partition: int | None = None
    landed: Callable[[BaseException | None], None] | None = None


Events = Union[Batch, Block]
Lost = Callable[[str, int, int, BaseException], None]
Framer = Callable[[bytes, str, Events], Message]
Shared = Callable[[str], Mapping[str, Column]]


def columns_of(batch: Batch, shared: Mapping[str, Column], courtesy: Courtesy) -> dict[str, Column]:
    """Lay out rows of one shape as the columns of a frame; `shared` are those that every row has in common."""
    shape, width = batch.shape, batch.shape.width
    lanes = (batch.values[at::width] for at in range(width))
    columns: dict[str, Column] = {"id": next(lanes), "time": next(lanes), **shared}
    for name in DEFAULTED:
        lane, default = next(lanes), DEFAULTS.get(name)
        if lane.count(default) != batch.n:
            columns[name] = lane if default is None else [default if v is None else v for v in lane]
    for name in shape.features:
        columns[f"features.{name}"] = next(lanes)
    for name in shape.segments:
        columns[f"segment.{name}"] = next(lanes)
    if shape.scores > 0:
        points = np.empty((batch.n, shape.scores), dtype=np.float32)
        for k in range(shape.scores):
            points[:, k] = next(lanes)
            courtesy()
        columns["scores"] = points
    elif shape.scores < 0:
        columns["scores"] = np.concatenate(next(lanes)).reshape(batch.n, -1)
    if shape.embedding:
        columns["embedding"] = np.concatenate(next(lanes)).reshape(batch.n, -1)
    columns.update(zip(shape.reserved, lanes))
    return columns


def frames_of(events: Events, shared: Shared, framer: Framer, lost: Lost, courtesy: Courtesy) -> Iterator[Message]:
    """Encode events, in halves where they are too many for one record.

    An event that cannot be encoded does not take the others with it: halving finds it, and `lost` is told. Columns that
    came as such (`record_many`) stand or fall together.
    """
    reason = "too-large"
    try:
        if isinstance(events, Batch):
            version, classes = events.shape.version, events.shape.classes or None
            columns: Mapping[str, Column] = columns_of(events, shared(version), courtesy)
        else:
            version, classes, columns = version_of(events), events.classes, events.columns
        value = encoded(columns, classes, courtesy)
        if len(value) <= MAX_VALUE:
            yield framer(value, version, events)
            return
        error: BaseException = ValueError(f"one event takes {len(value)} bytes, a record at most {MAX_VALUE}")
    except Exception as caught:  # noqa: BLE001 -- whatever a value does when it is read, the thread must go on
        reason, error = "invalid", caught
    if events.n == 1 or (reason == "invalid" and isinstance(events, Block)):
        lost(reason, events.n, events.size, error)
        return
    middle = events.n // 2
    for part in (events.part(0, middle), events.part(middle, events.n)):
        yield from frames_of(part, shared, framer, lost, courtesy)


def version_of(block: Block) -> str:
    """Tell the model version of a block; one value for all its rows."""
    version = block.columns["version"]
    return version.value if isinstance(version, Repeated) else ""


def frame_message(key: str | None, value: bytes, items: int, low: int) -> Message:
    """Wrap a frame into a record of the topic `inference`."""
    headers = [("content-type", CONTENT_TYPE.encode())]
    return Message("inference", key, value, headers, items, len(value) + OVERHEAD, low)


def lowest(things: Sequence[Any]) -> int:
    """Give the time of the oldest event in batches, blocks and messages."""
    return min((thing.low for thing in things), default=NEVER)
