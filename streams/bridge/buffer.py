"""Records that wait for the broker in memory, bounded in number and in bytes; what does not fit is refused at once."""

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from streams.bridge.message import OVERHEAD, Outgoing
from streams.errors import Refusal

RETRY_AFTER = 2  # seconds: a full buffer of small records empties in that time once the broker answers


class Ack:
    """What becomes of the records of one request; `done` is set when the broker has answered for each of them."""

    def __init__(self, records: int) -> None:
        self.left, self.failed = records, ""
        self.done = asyncio.Event()
        if not records:
            self.done.set()

    def tell(self, failure: str = "") -> None:
        """One record was delivered, or given up because of `failure`."""
        self.left -= 1
        self.failed = self.failed or failure
        if self.left == 0:
            self.done.set()


class Waiting(NamedTuple):
    """A record with the request it came in; `since` is monotonic."""

    record: Outgoing
    ack: Ack
    since: float


class Buffer:
    """First in, first out. Counted until the broker has acknowledged, so that what is under way is bounded too.

    Of one event loop: nothing here waits, but `take`.
    """

    def __init__(self, most_records: int, most_bytes: int) -> None:
        self._most_records, self._most_bytes = most_records, most_bytes
        self._waiting: deque[Waiting] = deque()
        self._wakes = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._closed = False
        self.records = self.bytes = 0

    @property
    def full(self) -> bool:
        """Whether even a small record would be refused."""
        return self.records >= self._most_records or self.bytes + OVERHEAD > self._most_bytes

    def reserve(self, n: int) -> None:
        """Bytes of a body that is being read. Raises Refusal (429) where there is no room for them."""
        if self.bytes + n > self._most_bytes or self.records >= self._most_records:
            raise self._refusal()
        self.bytes += n

    def release(self, n: int) -> None:
        """The body is no longer held."""
        self.bytes -= n

    def put(self, records: list[Outgoing]) -> Ack:
        """Take all of them. Raises Refusal (429, 503) where there is no room for all: then none is taken."""
        if self._closed:
            raise Refusal(503, "stopping", "the bridge is stopping; nothing was taken, send it again", RETRY_AFTER)
        n = sum(cost(one) for one in records)
        if self.bytes + n > self._most_bytes or self.records + len(records) > self._most_records:
            raise self._refusal()
        ack, now = Ack(len(records)), time.monotonic()
        self._waiting.extend(Waiting(one, ack, now) for one in records)
        self.bytes += n
        self.records += len(records)
        if records:
            self._empty.clear()
            self._wakes.set()
        return ack

    async def take(self, most: int, most_bytes: int) -> list[Waiting]:
        """The next records, in order, as soon as there are any; they stay counted until `gone`."""
        while not self._waiting:
            self._wakes.clear()
            await self._wakes.wait()
        found: list[Waiting] = []
        size = 0
        while self._waiting and len(found) < most and (not found or size < most_bytes):
            found.append(self._waiting.popleft())
            size += found[-1].record.size
        return found

    def gone(self, ended: Iterable[Waiting]) -> None:
        """These are delivered, or given up."""
        for one in ended:
            self.bytes -= cost(one.record)
            self.records -= 1
        if self.records == 0:
            self._empty.set()

    def close(self) -> int:
        """Take nothing any more; the number of records that are left."""
        self._closed = True
        return self.records

    async def emptied(self) -> None:
        """Wait until nothing waits."""
        while self.records:  # more may have come since it was empty
            await self._empty.wait()

    def _refusal(self) -> Refusal:
        return Refusal(
            429, "full",
            f"{self.records} records in {self.bytes >> 20} MiB wait for the broker, and there is no room for more; "
            "nothing of this request was taken, send it again later", RETRY_AFTER,
        )  # fmt: skip


def cost(record: Outgoing) -> int:
    """Bytes of memory that a record takes, about."""
    return record.size + OVERHEAD
