"""How an agent takes records from its topic: the loop that never raises, the lanes, the timers.

An agent says how to decode a record (`decode`) and what to do with decoded ones (`digest`, `flush`); everything about
offsets, dead letters, idle partitions and rebalances is here, once.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from faust.types import TP

from streams.errors import BadRecord, BestbeforeError, Undecodable
from streams.lane import Lane
from streams.runtime import Runtime, trace_of

log = logging.getLogger(__name__)
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
        self._taking = False  # a record that was admitted is on its way

    # -- what an agent says ------------------------------------------------------------------------------

    def decode(self, message: Any) -> Any:
        """The record as a value; raises BadRecord."""
        raise NotImplementedError

    async def digest(self, lane: Lane, message: Any, record: Any) -> None:
        """Deal with one decoded record."""
        raise NotImplementedError

    async def flush(self) -> None:
        """Put what waits into the books."""

    # -- the loop ----------------------------------------------------------------------------------------

    async def run(self, stream: Any) -> None:
        """The body of the Faust agent."""
        await take_all(self.runtime, self.name, stream, self.take)

    async def take(self, message: Any) -> None:
        """Deal with one record."""
        # Whoever is cancelled below, at the end of the worker, leaves it set: the record is nowhere, not dealt with.
        self._taking = True
        lane = await self.lane_of(message)
        if lane is not None and await lane.admit(message.offset, int(message.timestamp * 1e6)):
            self._note_time(lane, message)
            await self._deal(lane, message)
        self._taking = False

    async def _deal(self, lane: Lane, message: Any) -> None:
        limit = self.runtime.settings.max_record_bytes
        try:
            if len(message.value or b"") > limit:
                raise Undecodable(f"record of {len(message.value)} bytes; at most {limit} are read (max_record_bytes)")
            record = self.decode(message)
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

    def _note_time(self, lane: Lane, message: Any) -> None:
        if message.timestamp_type == LOG_APPEND_TIME:
            live, lane.awaited = message.offset == lane.awaited, None
            self.runtime.clock.stamped(int(message.timestamp * 1e6), live=live)

    async def lane_of(self, message: Any) -> Lane | None:
        """The lane of a record's partition; None for a record fetched before the last rebalance."""
        tp, generation = message.tp, self.runtime.app.consumer_generation_id
        if message.generation_id != generation:
            return None
        lane = self.lanes.get(tp)
        if lane is not None and lane.generation == generation:
            return lane
        return await self._open(tp, generation)

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
            lane = Lane(self.runtime, tp, generation, start, clock)
            self.lanes[tp] = lane
            self.runtime.frontiers[tp] = lane.frontier
            self.runtime.progress.opened(tp, start, lane.book)
            log.info("%s[%s]: reading from offset %s", tp.topic, tp.partition, start)
            return lane

    async def _open_assigned(self) -> None:
        """Open lanes before their first record, so that they can say that nothing comes."""
        topic, generation = self.runtime.settings.topic(self.topic), self.runtime.app.consumer_generation_id
        for tp in list(self.runtime.app.consumer.held):
            lane = self.lanes.get(tp)
            if tp.topic == topic and (lane is None or lane.generation != generation):
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
        for lane in list(self.lanes.values()):
            if self._taking:  # perhaps a record of this lane, which is neither in a queue nor in the book yet
                return
            lane.reach()
            await lane.probe()

    async def tick(self) -> None:
        """Once a second or so: flush, settle, and close idle partitions."""
        idle_after = self.runtime.settings.seconds("idle_after")
        await self._open_assigned()
        await self.look_ahead()
        await self.flush()
        for lane in list(self.lanes.values()):
            lane.expect(self.runtime.registry)
            await lane.settle()
            await lane.rest(idle_after, self.runtime.clock.now_us())


async def take_all(runtime: Runtime, agent: str, stream: Any, take: Callable[[Any], Awaitable[None]]) -> None:
    """Take every record of a stream. It does not raise: Faust would skip the record and go on.

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
                runtime.end(f"agent {agent} failed at {place(event.message)}", error)
    finally:
        runtime.progress.absent(agent)


def place(message: Any) -> str:
    """Where a record lies, for messages."""
    return f"{message.topic}[{message.partition}]@{message.offset}"
