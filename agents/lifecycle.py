"""lifecycle -> profiles: hand deployments, roll-backs and the like to whoever assesses the versions they concern."""

from functools import partial
from typing import Any

import msgspec
from faust.types import TP

from models.lifecycle import TOLD, Change
from streams.intake import Intake
from streams.lane import Lane, change_record, subject_key
from streams.records import LifecycleEvent, decode_lifecycle, header, time_us
from streams.registry import Registry
from streams.runtime import Runtime
from streams.topics import LIFECYCLE, PROFILES

OURS = "io.bestbefore."  # type of the CloudEvents that workers write


def change_of(event: LifecycleEvent) -> Change:
    """The event as the assessor sees it."""
    return Change(
        id=event.id, at_us=time_us(event.time), kind=event.kind, version=event.version, previous=event.previous,
        served=event.served or "live", message=event.message, trigger_id=event.trigger_id,
    )  # fmt: skip


def concerned(change: Change, model: str, registry: Registry) -> list[str]:
    """The versions that a change is handed to: those it names, and all registered ones, which alone ask for things."""
    known = {reference.version for reference in registry if reference.model == model}
    return sorted({change.version, *known} | ({change.previous} if change.previous else set()))


class Lifecycle(Intake):
    """Reads the lifecycle topic."""

    name, topic = "lifecycle", LIFECYCLE

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._ends: dict[TP, int] = {}  # of each partition when this worker began with it
        runtime.lifecycle_read = self.caught_up

    def caught_up(self) -> bool:
        """Whether every event that lay at the broker when this worker began has been handed on."""
        topic = self.runtime.settings.topic(self.topic)
        return all(self._read(tp) for tp in self.runtime.app.consumer.assignment() if tp.topic == topic)

    def _read(self, tp: TP) -> bool:
        """A partition that is assigned, and not opened yet, is not read."""
        lane, end = self.lanes.get(tp), self._ends.get(tp)
        return lane is not None and end is not None and lane.book.newest_offset + 1 >= end

    def decode(self, message: Any) -> LifecycleEvent | None:
        """A lifecycle event from JSON or a CloudEvent; None for what we wrote ourselves, and for tombstones."""
        if message.value is None or header(message.headers, "ce_type").startswith(OURS):
            return None
        event = decode_lifecycle(message.value, message.headers)
        return None if event.kind in TOLD else event

    async def digest(self, lane: Lane, message: Any, record: LifecycleEvent | None) -> None:
        """Publish it for each version; only then is it done. Published again, it is recognised by its id."""
        if record is not None:
            change = change_of(record)
            for version in concerned(change, record.model, self.runtime.registry):
                body = msgspec.msgpack.encode(change_record(change, record.model, version))
                await self.runtime.send(PROFILES, subject_key(record.model, version), body)
        lane.passed(message.offset)

    async def tick(self) -> None:
        """Once a second or so. No window waits for this topic, so nothing is said of how far it has come."""
        await self._open_assigned()
        await self.look_ahead()
        consumer = self.runtime.app.consumer
        for tp, lane in list(self.lanes.items()):
            if tp not in self._ends:
                ends = await self.runtime.answered(partial(consumer.highwaters, tp))
                if self.lanes.get(tp) is not lane:
                    continue  # it was taken away while the broker was asked
                self._ends |= ends
        # Only then: settling waits until all of them are known, and read.
        for lane in list(self.lanes.values()):
            await lane.settle()

    def revoked(self, tps: set[TP]) -> None:
        """Forget partitions that belong to others now."""
        super().revoked(tps)
        self._ends = {tp: end for tp, end in self._ends.items() if tp not in tps}
