"""The queue between the server's threads and the recorder's: chunks of about a frame, each taken in constant time."""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Union

from bestbefore_client.events import NEVER, Batch, Block, Message, Shape, lowest

Thing = Union[Block, Message]


class Chunk:
    """What is encoded at a time: rows by shape, and blocks and messages."""

    def __init__(self) -> None:
        self.batches: dict[Shape, Batch] = {}
        self.things: list[Thing] = []
        self.items = 0
        self.since = time.monotonic()

    @property
    def low(self) -> int:
        """The time of its oldest event."""
        return min(lowest(list(self.batches.values())), lowest(self.things))


class Intake:
    """An open chunk that is being filled, and full ones that wait; whoever calls holds the ledger's lock."""

    def __init__(self, frame_rows: int, frame_seconds: float) -> None:
        """A chunk is full with `frame_rows` items, and due after `frame_seconds`."""
        self.frame_rows, self.frame_seconds = frame_rows, frame_seconds
        self.high = -NEVER  # time of the newest event ever
        self._open: Chunk | None = None
        self._full: deque[Chunk] = deque()

    def row(self, shape: Shape, values: tuple[Any, ...], size: int, at: int) -> bool:
        """Add a row; True when it filled a chunk."""
        chunk = self._open
        if chunk is None:
            chunk = self._open = Chunk()
        batch = chunk.batches.get(shape)
        if batch is None:
            batch = chunk.batches[shape] = Batch(shape)
        batch.values.extend(values)
        batch.n += 1
        batch.size += size
        if at < batch.low:  # noqa: PLR1730 -- a call would cost more than the rest
            batch.low = at
        if at > self.high:  # noqa: PLR1730
            self.high = at
        chunk.items += 1
        return chunk.items >= self.frame_rows and self._filled(chunk)

    def thing(self, thing: Thing, items: int, high: int) -> bool:
        """Add a block or a message whose newest event is of time `high`; True when it filled a chunk."""
        chunk = self._open
        if chunk is None:
            chunk = self._open = Chunk()
        chunk.things.append(thing)
        chunk.items += items
        self.high = max(self.high, high)
        return self._filled(chunk)

    def due(self, hurried: bool) -> float:
        """Seconds until there is something to take; 0 when there is, frame_seconds when nothing waits."""
        if self._full:
            return 0.0
        if self._open is None:
            return self.frame_seconds
        return 0.0 if hurried else max(0.0, self._open.since + self.frame_seconds - time.monotonic())

    def take(self, hurried: bool) -> Chunk | None:
        """Take the oldest chunk that is due."""
        if self._full:
            return self._full.popleft()
        if self._open is None or self.due(hurried) > 0:
            return None
        chunk, self._open = self._open, None
        return chunk

    def low(self) -> int:
        """Give the time of the oldest event that waits."""
        waiting = [*self._full, self._open] if self._open else self._full
        return min((chunk.low for chunk in waiting), default=NEVER)

    def _filled(self, chunk: Chunk) -> bool:
        if chunk.items < self.frame_rows:
            return False
        self._full.append(chunk)
        self._open = None
        return True
