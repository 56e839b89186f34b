"""Delivery on Faust 0.15.3: a commit frontier in place of its acks.

Faust acks commit past a message that is not done yet, stop for ever on two of them, and are lost with a failed commit
(measured; tests/test_delivery.py tells when upstream mends it). So nothing is acked here. Every partition names its
frontier, the offset of the oldest record still needed, and the consumer commits just that, together with the
partition's clock, which the next owner needs to see the same log with the same eyes.
"""

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.conn import CloseReason
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    KafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
    UnknownTopicOrPartitionError,
)
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.exceptions import ProducerSendError
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Producer, Transport
from faust.types import TP
from mode.utils.queues import ThrowableQueue

from models.window_book import Clock
from streams.errors import ClockError
from streams.fetching import Fetched, Holes, read_batch

log = logging.getLogger(__name__)
FETCH_WAIT_MS = 250  # for which the broker holds a fetch back while it has nothing
ASK_AGAIN = 5.0  # seconds after which a gap that nothing came for is asked for again
Frontier = tuple[int, Clock | None]
Frontiers = dict[TP, Callable[[], Frontier | None]]  # partition -> its frontier, None while unknown


def encode_clock(clock: Clock | None) -> str:
    """The clock as commit metadata."""
    return "" if clock is None else msgspec.json.encode(clock).decode()


def decode_clock(metadata: str) -> Clock:
    """The clock from commit metadata; a fresh one where there is none. Raises ClockError."""
    try:
        return msgspec.json.decode(metadata, type=Clock) if metadata else Clock()
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ClockError(
            f"the metadata committed with an offset, {metadata[:100]!a}, are not ours ({str(error)[:60]!a}); does "
            "another program commit for this group? Set its offsets with Kafka's own tool, which leaves metadata empty"
        ) from None


def unnoticed(*_: Any) -> None:
    """What becomes of commits, and of records the broker has deleted, where nobody asks."""


class Cursor:
    """The next record wanted of a partition: an agent takes every record of the log once and in order.

    Records are lost between consumer and agent when a rebalance empties the buffers, and the consumer may go on behind
    them; then they are asked for again.
    """

    def __init__(self, consumer: Any, tp: TP, start: int) -> None:
        self._consumer, self._tp, self.wanted = consumer, tp, start
        self._asked: int | None = None  # the record behind a gap that was asked for
        self._asked_at = 0.0

    async def admit(self, offset: int) -> bool:
        """Whether this record is the next one. A gap is asked for, unless it is known that there is nothing in it."""
        if offset < self.wanted:
            return False
        if offset > self.wanted and self._consumer.empty_until(self._tp, self.wanted) < offset:
            if self._asked is None or offset > self._asked:
                await self._ask(offset)
                return False
            await self._consumer.missed(self._tp, self.wanted, offset)  # asked for, and its end came again
        self._asked = None
        self.wanted = offset + 1
        return True

    async def _ask(self, offset: int) -> None:
        # What was read ahead still comes for a while.
        if self._asked is not None and time.monotonic() - self._asked_at < ASK_AGAIN:
            return
        log.info("%s[%s]: record %s came where %s was due; going back", *self._tp, offset, self.wanted)
        self._asked, self._asked_at = offset, time.monotonic()
        await self._consumer.seek(self._tp, self.wanted)

    def reach(self) -> bool:
        """Pass over a hole behind the last record, of which no later one tells; whether there was one.

        Not while a record that was admitted is still on its way: it would seem to be dealt with.
        """
        wanted, self.wanted = self.wanted, self._consumer.empty_until(self._tp, self.wanted)
        return self.wanted > wanted

    async def probe(self, quiet_s: float) -> None:
        """Ask for what the broker is said to have and does not send, when nothing has come for `quiet_s` seconds.

        It was lost on the way, or deleted before it was read.
        """
        now = time.monotonic()
        if min(quiet_s, now - self._asked_at) < ASK_AGAIN or self._consumer.highwater(self._tp) <= self.wanted:
            return
        self._asked_at = now
        try:
            first = (await self._consumer.earliest_offsets(self._tp))[self._tp]
        except (TimeoutError, KafkaError) as error:
            log.info("%s[%s]: the broker does not say where it begins: %r", *self._tp, error)
            return
        if first > self.wanted:
            await self._consumer.missed(self._tp, self.wanted, first)
        else:
            await self._consumer.seek(self._tp, self.wanted)


class FrontierThread(AIOKafkaConsumerThread):
    """The thread that owns the aiokafka consumer: reads what was committed, commits with metadata and reads it back."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.holes = Holes()
        self._fetched = Fetched(self.holes)

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        # Faust's own switch for this would come with its transactions.
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"
        # Whatever else the broker is asked waits, on the same connection, behind a fetch that has nothing to bring:
        # with Faust's 1.5 s a worker took that long for each partition it began with.
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        return consumer

    async def on_start(self) -> None:
        """Watch what is fetched from the first record on."""
        await super().on_start()
        self._ensure_consumer()._fetcher._records = self._fetched

    async def _fetch_records(self, consumer: AIOKafkaConsumer, *args: Any, **kwargs: Any) -> Any:
        """What was fetched, and records that could not be decoded."""
        records: dict[Any, list[Any]] = dict(await super()._fetch_records(consumer, *args, **kwargs))
        while self._fetched.unreadable:
            tp, offset = self._fetched.unreadable.popitem()
            try:
                found, behind = await read_batch(consumer, tp, offset)
            except KafkaError as error:
                self.log.info("reading around a header that is not UTF-8: %r", error)
                continue  # the fetcher is still there, and will tell again
            subscription = consumer._subscription.subscription
            assignment = subscription.assignment if subscription is not None else None
            state = assignment.state_value(tp) if assignment is not None and assignment.active else None
            if state is None or not state.has_valid_position or state.position != offset:
                continue  # taken away, or sent elsewhere, while the broker was asked
            state.consumed_to(behind)
            after = [record.offset + 1 for record in found]
            for start, end in zip([offset, *after], [*(one - 1 for one in after), behind], strict=True):
                self.holes.note(tp, start, end)
            records.setdefault(tp, []).extend(found)
        return records

    async def seek_to(self, tp: TP, offset: int) -> None:
        """Go on reading from an offset; a partition that was lost in the meantime is left alone."""
        await self.call_thread(self._seek_to, TopicPartition(tp.topic, tp.partition), offset)

    async def _seek_to(self, tp: TopicPartition, offset: int) -> None:
        consumer = self._ensure_consumer()
        if tp in consumer.assignment():
            consumer.seek(tp, offset)

    def known_end(self, tp: TP) -> int:
        """The end of what can be read of a partition, as last told; 0 while it is not known, or not our partition."""
        subscription = self._consumer._subscription.subscription if self._consumer is not None else None
        assignment = subscription.assignment if subscription is not None else None
        state = assignment.state_value(TopicPartition(tp.topic, tp.partition)) if assignment is not None else None
        if state is None:
            return 0
        # Behind a transaction that is still open nothing is given to us.
        return (state.highwater if state.lso is None or state.lso < 0 else state.lso) or 0

    async def commit_frontier(self, offsets: Mapping[TP, tuple[int, str]], generation: int) -> bool:
        """Commit, trying until the broker answers; False when it refused, or a rebalance was since `generation`."""
        return bool(await self.call_thread(self._commit_frontier, dict(offsets), generation))

    async def _commit_frontier(self, offsets: dict[TP, tuple[int, str]], generation: int) -> bool:
        coordinator = self._ensure_consumer()._coordinator
        wanted = {TopicPartition(tp.topic, tp.partition): OffsetAndMetadata(*where) for tp, where in offsets.items()}
        # Not consumer.commit(): while the broker is away that goes on trying through a rebalance, and would in the end
        # put what is old by then over the frontier of the next owner.
        while coordinator.generation == generation and not self.should_stop:
            await coordinator.ensure_coordinator_known()
            try:
                async with coordinator._commit_lock:
                    if coordinator.generation == generation:
                        await asyncio.shield(coordinator._do_commit_offsets(None, wanted))
                        return True
            except (CommitFailedError, IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError) as error:
                # Not the owner any more: whoever is will read again from the last frontier.
                self.log.info("commit refused: %r", error)
                return False
            except KafkaError as error:
                self.log.log(logging.DEBUG if error.retriable else logging.WARNING, "commit failed: %r", error)
                if not error.retriable:
                    return False
                await asyncio.sleep(0.1)
        self.log.info("commit dropped: a rebalance came first")
        return False

    async def committed(self, tp: TP) -> tuple[int | None, Clock]:
        """The committed frontier of a partition and the clock saved with it."""
        return await self.call_thread(self._committed, TopicPartition(tp.topic, tp.partition))  # type: ignore[no-any-return]

    async def _committed(self, tp: TopicPartition) -> tuple[int | None, Clock]:
        found = (await self._ensure_consumer()._coordinator.fetch_committed_offsets([tp])).get(tp)
        if found is None or found.offset < 0:
            return None, Clock()
        return found.offset, decode_clock(found.metadata)


class Buffer(ThrowableQueue[Any]):
    """Between consumer and agent. A full one pauses its partitions, but does not block who fills it.

    Faust has one task that fills the buffers of all topics. Were it to wait for an agent that itself waits for another
    (labels for their predictions), both would wait for ever.
    """

    def full(self) -> bool:
        """Never: what was fetched already is taken."""
        return False

    def clear(self) -> None:
        """Empty it for a rebalance, after which every partition is active."""
        super().clear()
        self._pending_pressure_drop_callbacks.clear()


class Unfiltered(defaultdict[TP, int | None]):
    """Switches off Faust's filter of old offsets: it would drop what a seek brings back behind records read ahead."""

    def __getitem__(self, tp: TP) -> int | None:
        return None


class FrontierConsumer(Consumer):
    """Commits frontiers; keeps its books only when the broker agreed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.frontiers: Frontiers = getattr(self.app, "frontiers", {})
        self.written: dict[TP, Frontier] = {}
        self.pending: dict[TP, float] = {}  # since when a commit of the partition is due, on the monotonic clock
        self.lost: Counter[TP] = Counter()  # offsets that the broker had deleted before they were read
        # Ours, from the end of one rebalance to the beginning of the next: `assignment` goes on naming, in between,
        # what we had. Whoever begins to read a partition then finds himself with it later, behind those who own it now.
        self.held: set[TP] = set()
        self._writing = asyncio.Lock()  # an older frontier must not land after a newer one
        self._read_offset = Unfiltered()

    def _new_consumer_thread(self) -> FrontierThread:
        self._frontier_thread = FrontierThread(self, loop=self.loop, beacon=self.beacon)
        return self._frontier_thread

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:  # noqa: ARG002 -- Faust's signature
        """Commit every frontier that has moved."""
        async with self._writing:
            assigned = self.assignment()
            moved = {}
            for tp, frontier in list(self.frontiers.items()):
                where = frontier() if tp in assigned else None
                if where is not None and where != self.written.get(tp):
                    moved[tp] = where
                    self.pending.setdefault(tp, time.monotonic())
                else:
                    self.pending.pop(tp, None)
            return await self._write(moved, self.app.consumer_generation_id)

    async def write(self, frontiers: Mapping[TP, Frontier], generation: int) -> bool:
        """Commit these frontiers now, unless a rebalance was since `generation`."""
        async with self._writing:
            return await self._write(frontiers, generation)

    async def _write(self, frontiers: Mapping[TP, Frontier], generation: int) -> bool:
        if not frontiers:
            return False
        done = await self._frontier_thread.commit_frontier(
            {tp: (o, encode_clock(c)) for tp, (o, c) in frontiers.items()}, generation
        )
        tell: Callable[[bool], None] = getattr(self.app, "on_commit", unnoticed)
        tell(done)
        if not done:
            return False
        self.written.update(frontiers)
        for tp in frontiers:
            self.pending.pop(tp, None)
        offsets = {tp: offset for tp, (offset, _) in frontiers.items()}
        self._committed_offset.update(offsets)
        self.app.monitor.on_tp_commit(offsets)
        return True

    async def committed(self, tp: TP) -> tuple[int | None, Clock]:
        """The committed frontier of a partition and its clock."""
        return await self._frontier_thread.committed(tp)

    async def _seek(self, partition: TP, offset: int) -> None:
        await self._frontier_thread.seek_to(partition, offset)

    def reached(self, tp: TP) -> int | None:
        """The offset committed by this worker; None while it has committed none."""
        where = self.written.get(tp)
        return None if where is None else where[0]

    def knock(self, answer: Callable[[], None]) -> None:
        """Have the consumer's thread call `answer`, if it turns."""
        if not self._frontier_thread.should_stop:
            self._frontier_thread.thread_loop.call_soon_threadsafe(answer)

    def highwater(self, tp: TP) -> int:
        """The end of what can be read of a partition, as last told; 0 while it is not known, or not our partition."""
        return self._frontier_thread.known_end(tp)

    def empty_until(self, tp: TP, offset: int) -> int:
        """The first offset from `offset` on at which a record may lie, as far as the log is known."""
        return self._frontier_thread.holes.until(tp, offset)

    async def missed(self, tp: TP, start: int, end: int) -> None:
        """Note that what lies from `start` up to, and without, `end` is not to be had, and what of it is lost."""
        self._frontier_thread.holes.note(tp, start, end)
        try:
            first = (await self.earliest_offsets(tp))[tp]
        except (TimeoutError, KafkaError) as error:
            log.error("%s[%s]: offsets %s to %s do not come; why could not be asked: %r", *tp, start, end - 1, error)
            return
        if first <= start:
            log.info("%s[%s]: offsets %s to %s do not exist", *tp, start, end - 1)
            return
        lost = min(first, end) - start
        self.lost[tp] += lost
        tell: Callable[[str, int], None] = getattr(self.app, "on_lost", unnoticed)
        tell(tp.topic, lost)
        log.error(
            "%s[%s]: up to %s records are lost: offsets %s to %s were deleted from the topic before they were read. "
            "Reading goes on at %s; give the topic a retention that is longer than the longest standstill",
            *tp, lost, start, start + lost - 1, first,
        )  # fmt: skip

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Forget what belongs to the next owner now."""
        self.held.clear()
        await super().on_partitions_revoked(revoked)  # commits once more
        self._buffered_partitions.difference_update(revoked)
        for tp in revoked:
            self.written.pop(tp, None)
            self.pending.pop(tp, None)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Partitions may be read from now on."""
        self.held = set(assigned)
        await super().on_partitions_assigned(assigned, generation_id)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's detector compares clocks of two kinds and cries wolf; streams/watchdog.py stands in for it."""


class FreshProducer(Producer):
    """Leaves connections on which it has asked in vain where a topic is.

    aiokafka closes a connection on which a record was not acknowledged in time, but not one on which metadata were not
    told: over a dead one it would ask for minutes. A topic that this worker has not yet sent to cannot be sent to then.
    """

    async def send(self, *args: Any, **kwargs: Any) -> Any:
        """As Faust's."""
        try:
            return await super().send(*args, **kwargs)
        except ProducerSendError as error:
            if isinstance(error.__cause__, UnknownTopicOrPartitionError):
                for connection in list(self._ensure_producer().client._conns.values()):
                    connection.close(reason=CloseReason.CONNECTION_TIMEOUT)
            raise


class FrontierTransport(Transport):
    """Faust's aiokafka transport with the consumer and the producer above."""

    Consumer = FrontierConsumer
    Producer = FreshProducer
