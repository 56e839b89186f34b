"""How an agent takes records from its topic: the loop that never raises, the lanes, the timers.

An agent says how to decode a record (`decode`) and what to do with decoded ones (`digest`, `flush`); everything about
offsets, dead letters, idle partitions and rebalances is here, once.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, ClassVar

from faust.types import TP

from models.window_book import Clock
from streams.chunks import MOST_RECORDS, Chunk
from streams.errors import BadRecord, BestbeforeError, Undecodable
from streams.lane import Lane
from streams.runtime import Runtime, trace_of

log = logging.getLogger(__name__)
MAX_OWED = 1000  # dead letters and labels of a lane that are on their way to the broker when more is read
LOG_APPEND_TIME = 1  # type of a record's timestamp: the broker's own


class Intake:
    """Base of the agents that read telemetry: `ingest`, `embed`, `label`."""

    name: ClassVar[str]
    topic: ClassVar[str]
    flush_every: float = 0.1  # seconds a decoded record may wait for others

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.lanes: dict[TP, Lane] = {}
        self._opening = asyncio.Lock()
        self._taking: TP | None = None  # where records that were admitted are on their way

    # -- what an agent says ------------------------------------------------------------------------------

    def decode(self, message: Any) -> Any:
        """The record as a value; raises BadRecord."""
        raise NotImplementedError

    def read(self, lane: Lane, message: Any) -> Any:  # noqa: ARG002 -- for those who tell partitions apart
        """As `decode`, of a record of this lane."""
        return self.decode(message)

    async def digest(self, lane: Lane, message: Any, record: Any) -> None:
        """Deal with one decoded record."""
        raise NotImplementedError

    async def flush(self) -> None:
        """Put what waits into the books."""

    # -- the loop ----------------------------------------------------------------------------------------

    async def run(self, stream: Any) -> None:
        """The body of the Faust agent."""
        await take_all(self.runtime, self.name, stream, self.take)

    async def take(self, chunk: Chunk) -> None:
        """Deal with records that follow each other in one partition."""
        # Whoever is cancelled below, at the end of the worker, leaves it set: records are nowhere, not dealt with.
        self._taking = chunk.tp
        lane = await self.lane_of(chunk)
        wanted = await lane.admit(chunk.records) if lane is not None else ()
        if lane is not None and wanted:
            await self._take(lane, wanted)
        self._taking = None

    async def _take(self, lane: Lane, records: Sequence[Any]) -> None:
        self._note_time(lane, records)
        for message in records:
            await self._deal(lane, message)
            if self.lanes.get(lane.tp) is not lane:
                return  # lost meanwhile: whoever has the partition now reads them again
        lane.dealt(records)
        under_way = [task for _, task in lane.owed if not task.done()]
        if len(under_way) > MAX_OWED:  # more is read than can be written, as where no record can be used
            await asyncio.wait(under_way)

    async def _deal(self, lane: Lane, message: Any) -> None:
        limit = self.runtime.settings.max_record_bytes
        try:
            if len(message.value or b"") > limit:
                raise Undecodable(f"record of {len(message.value)} bytes; at most {limit} are read (max_record_bytes)")
            record = self.read(lane, message)
        except BadRecord as error:
            lane.bury(message, error, self.name)
            lane.passed(message.offset)
        except BestbeforeError:
            raise
        except Exception as error:  # noqa: BLE001 -- a defect of ours: told, and the record is set apart
            log.error("decoder of %s failed at %s\n%s", self.name, place(message), trace_of(error))
            lane.bury(message, error, self.name)
            lane.passed(message.offset)
        else:
            await self.digest(lane, message, record)

    def _note_time(self, lane: Lane, records: Sequence[Any]) -> None:
        first, last = records[0], records[-1]
        if first.timestamp_type == LOG_APPEND_TIME:
            live, lane.awaited = first.offset == lane.awaited, None
            self.runtime.clock.stamped(first.timestamp * 1000, live=live)
            self.runtime.clock.stamped(last.timestamp * 1000, live=False)

    async def lane_of(self, chunk: Chunk) -> Lane | None:
        """The lane of a chunk's partition; None for one fetched before the last rebalance."""
        tp, generation = chunk.tp, self.runtime.app.consumer_generation_id
        if chunk.generation != generation:
            return None
        lane = self.lanes.get(tp)
        if lane is not None and lane.generation == generation:
            return lane
        return await self._open(tp, generation)

    def reads(self, topic: str) -> bool:
        """Whether this agent reads a topic."""
        return topic == self.runtime.settings.topic(self.topic)

    def lane(self, tp: TP, generation: int, start: int, clock: Clock) -> Lane:
        """The lane of a partition that is read from what was committed."""
        return Lane(self.runtime, tp, generation, start, clock)

    async def _open(self, tp: TP, generation: int) -> Lane | None:
        async with self._opening:
            if not self.runtime.holds(tp, generation):
                return None
            opened = self.lanes.get(tp)
            if opened is not None and opened.generation == generation:
                return opened  # by whoever had the lock before
            consumer = self.runtime.app.consumer
            start, clock = await self.runtime.answered(lambda: consumer.committed(tp))
            if start is None:
                start = (await self.runtime.answered(lambda: consumer.earliest_offsets(tp)))[tp]
            if not self.runtime.holds(tp, generation):
                return None  # lost while the broker was asked
            lane = self.lane(tp, generation, start, clock)
            self.lanes[tp] = lane
            self.runtime.frontiers[tp] = lane.frontier
            self.runtime.progress.opened(tp, start, lane.book)
            log.info("%s[%s]: reading from offset %s", tp.topic, tp.partition, start)
            return lane

    async def _open_assigned(self) -> None:
        """Open lanes before their first record, so that they can say that nothing comes."""
        generation = self.runtime.app.consumer_generation_id
        for tp in list(self.runtime.app.consumer.held):
            lane = self.lanes.get(tp)
            if self.reads(tp.topic) and (lane is None or lane.generation != generation):
                await self._open(tp, generation)

    # -- rebalances and timers ---------------------------------------------------------------------------

    def revoked(self, tps: set[TP]) -> None:
        """Forget partitions that belong to others now."""
        for tp in tps & self.lanes.keys():
            del self.lanes[tp]
            self.runtime.frontiers.pop(tp, None)
            self.runtime.progress.lost(tp)

    async def look_ahead(self) -> None:
        """See what lies behind the last record of each partition: holes, and what was lost or deleted."""
        for lane in self._at_rest():
            lane.reach()
            await lane.probe()

    def _at_rest(self) -> Iterator[Lane]:
        """Lanes of which every record that was admitted is in a queue or in the book."""
        return (lane for lane in list(self.lanes.values()) if lane.tp != self._taking)

    async def tick(self) -> None:
        """Once a second or so: flush, settle, and close idle partitions."""
        idle_after = self.runtime.settings.seconds("idle_after")
        await self._open_assigned()
        await self.look_ahead()
        await self.flush()
        for lane in list(self.lanes.values()):
            lane.expect(self.runtime.registry)
            await lane.settle()
        for lane in self._at_rest():
            await lane.rest(idle_after, self.runtime.clock.now_us())


async def take_all(runtime: Runtime, agent: str, stream: Any, take: Callable[[Chunk], Awaitable[None]]) -> None:
    """Take every chunk of a stream. It does not raise: Faust would skip it and go on.

    While it lasts the agent reads; a loop that ends although the worker goes on is a wedge.
    """
    runtime.progress.reading(agent)
    try:
        async for event in stream.noack().events():
            try:
                await take(event.message)
            except (asyncio.CancelledError, GeneratorExit):
                raise
            except Exception as error:  # noqa: BLE001 -- anything here is a defect of ours, not of the record
                runtime.end(
                    f"agent {agent} failed at {place(event.message)} or up to {MOST_RECORDS} records behind it", error
                )
    finally:
        runtime.progress.absent(agent)


def place(message: Any) -> str:
    """Where a record lies, for messages."""
    return f"{message.topic}[{message.partition}]@{message.offset}"
