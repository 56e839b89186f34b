"""Delivery on Faust 0.15.3: a commit frontier in place of its acks.

Faust acks commit past a message that is not done yet, stop for ever on two of them, and are lost with a failed commit
(measured; tests/test_delivery.py tells when upstream mends it). So nothing is acked here. Every partition names its
frontier, the offset of the oldest record still needed, and the consumer commits just that, together with the
partition's clock, which the next owner needs to see the same log with the same eyes.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from faust.types import TP

from models.window_book import Clock

Frontier = tuple[int, Clock | None]
Frontiers = dict[TP, Callable[[], Frontier | None]]  # partition -> its frontier, None while unknown


def encode_clock(clock: Clock | None) -> str:
    """The clock as commit metadata."""
    return "" if clock is None else msgspec.json.encode(clock).decode()


def decode_clock(metadata: str) -> Clock:
    """The clock from commit metadata; a fresh one where there is none."""
    return msgspec.json.decode(metadata, type=Clock) if metadata else Clock()


class FrontierThread(AIOKafkaConsumerThread):
    """The thread that owns the aiokafka consumer: commits with metadata and reads it back."""

    async def commit_frontier(self, offsets: Mapping[TP, tuple[int, str]]) -> bool:
        """Commit; False when the broker refused or cannot be reached, and then nothing has changed."""
        return bool(await self.call_thread(self._commit_frontier, dict(offsets)))

    async def _commit_frontier(self, offsets: dict[TP, tuple[int, str]]) -> bool:
        consumer = self._ensure_consumer()
        try:
            await consumer.commit(
                {TopicPartition(tp.topic, tp.partition): OffsetAndMetadata(*where) for tp, where in offsets.items()}
            )
        except (CommitFailedError, IllegalStateError) as error:
            # Not the owner any more: whoever is will read again from the last frontier.
            self.log.info("commit refused: %s", error)
            return False
        except KafkaError as error:
            self.log.warning("commit failed, will be tried again: %r", error)
            return False
        return True

    async def committed(self, tp: TP) -> tuple[int | None, Clock]:
        """The committed frontier of a partition and the clock saved with it."""
        return await self.call_thread(self._committed, TopicPartition(tp.topic, tp.partition))  # type: ignore[no-any-return]

    async def _committed(self, tp: TopicPartition) -> tuple[int | None, Clock]:
        found = (await self._ensure_consumer()._coordinator.fetch_committed_offsets([tp])).get(tp)
        if found is None or found.offset < 0:
            return None, Clock()
        return found.offset, decode_clock(found.metadata)


class FrontierConsumer(Consumer):
    """Commits frontiers; keeps its books only when the broker agreed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.frontiers: Frontiers = getattr(self.app, "frontiers", {})
        self.written: dict[TP, Frontier] = {}

    def _new_consumer_thread(self) -> FrontierThread:
        self._frontier_thread = FrontierThread(self, loop=self.loop, beacon=self.beacon)
        return self._frontier_thread

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:  # noqa: ARG002 -- Faust's signature
        """Commit every frontier that has moved."""
        assigned = self.assignment()
        moved = {}
        for tp, frontier in list(self.frontiers.items()):
            where = frontier() if tp in assigned else None
            if where is not None and where != self.written.get(tp):
                moved[tp] = where
        return await self.write(moved)

    async def write(self, frontiers: Mapping[TP, Frontier]) -> bool:
        """Commit these frontiers now."""
        if not frontiers:
            return False
        if not await self._frontier_thread.commit_frontier(
            {tp: (o, encode_clock(c)) for tp, (o, c) in frontiers.items()}
        ):
            return False
        self.written.update(frontiers)
        offsets = {tp: offset for tp, (offset, _) in frontiers.items()}
        self._committed_offset.update(offsets)
        self.app.monitor.on_tp_commit(offsets)
        return True

    async def committed(self, tp: TP) -> tuple[int | None, Clock]:
        """The committed frontier of a partition and its clock."""
        return await self._frontier_thread.committed(tp)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Forget what belongs to the next owner now."""
        for tp in revoked:
            self.written.pop(tp, None)
        await super().on_partitions_revoked(revoked)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's detector compares clocks of two kinds and cries wolf; streams/watchdog.py stands in for it."""


class FrontierTransport(Transport):
    """Faust's aiokafka transport with the consumer above."""

    Consumer = FrontierConsumer
