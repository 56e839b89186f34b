"""profiles -> estimates, verdicts, forecast, decision: applied in one transaction of the event store.

The store is the truth. A batch of profiles, the events they lead to, the estimators' state and the applied offset are
committed together; an epoch per partition refuses the transaction of a worker that has lost it.
"""

import asyncio
import logging
import time
from contextlib import nullcontext
from typing import Any

from faust.types import TP

from agents.applying import Application, Part
from agents.publish import Publisher
from models.assessor import misses
from models.columns import Subject
from models.subject_state import State
from streams.chunks import Chunk
from streams.delivery import Cursor
from streams.errors import BadRecord, Fenced
from streams.intake import take_all
from streams.lane import ProfileRecord
from streams.profile_reading import decode_profile
from streams.runtime import Runtime
from streams.store_rows import Claim
from streams.topics import PROFILES
from streams.trace_context import PARENT, context_of

log = logging.getLogger(__name__)
MAX_BATCH = 256


class Assess:
    """Reads the profiles topic."""

    name, topic, flush_every = "assess", PROFILES, 0.1

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.parts: dict[TP, Part] = {}
        self.publisher = Publisher(runtime)
        self._lock = asyncio.Lock()
        self._taking = False  # a profile that was admitted is on its way

    async def run(self, stream: Any) -> None:
        """The body of the Faust agent."""
        await take_all(self.runtime, self.name, stream, self.take)

    async def take(self, chunk: Chunk) -> None:
        """Take in profiles; they are applied together with others."""
        for message in chunk.records:
            if chunk.generation != self.runtime.app.consumer_generation_id:
                return
            part = await self._part(chunk.tp, chunk.generation)
            # Also after a claim that was fenced: what it had taken in and not applied must come again.
            if part is not None and await part.cursor.admit(message.offset):
                await self._take(part, message)

    async def _take(self, part: Part, message: Any) -> None:
        self.runtime.progress.taken(part.tp, part.cursor.wanted, message.timestamp * 1000)
        self.runtime.metrics.records(part.tp.topic, 1, message.offset - part.admitted - 1)
        part.admitted, part.heard_last = message.offset, time.monotonic()
        if (context := context_of(message.headers)) and len(part.parents) < MAX_BATCH:
            part.parents.append(context[PARENT])
        self._taking = True  # and stays so where this is cancelled, at the end of the worker
        part.waiting.append((message.offset, await self._read(message)))
        self._taking = False
        if len(part.waiting) >= MAX_BATCH:
            await self.flush()

    async def _read(self, message: Any) -> ProfileRecord | None:
        """The profile; None when it cannot be read and lies in the dead letters now."""
        try:
            return decode_profile(message.value)
        except BadRecord as error:
            await self.runtime.bury(message, error, self.name)
            return None

    async def _look_ahead(self) -> None:
        """See what lies behind the last profile of each partition: holes, and what was lost or deleted."""
        for part in list(self.parts.values()):
            if self._taking:
                return
            if part.cursor.reach():
                part.waiting.append((part.cursor.wanted - 1, None))
                self.runtime.progress.taken(part.tp, part.cursor.wanted)
            await part.cursor.probe(time.monotonic() - part.heard_last)

    async def _part(self, tp: TP, generation: int) -> Part | None:
        async with self._lock:
            part = self.parts.get(tp)
            if part is not None and part.generation == generation:
                return part
            if not self.runtime.holds(tp, generation):
                return None
            group, store = self.runtime.settings.group, self.runtime.store
            claim = await self.runtime.stored(store.claim, group, tp.topic, tp.partition)
            start = await self._start(tp, claim)
            if not self.runtime.holds(tp, generation):
                return None  # lost while the store was asked
            part = Part(tp, generation, claim.epoch, Cursor(self.runtime.app.consumer, tp, start))
            self.parts[tp] = part
            self.runtime.frontiers[tp] = part.frontier
            self.runtime.progress.opened(tp, start)
            await self.publisher.drain(tp.partition)
            return part

    async def _start(self, tp: TP, claim: Claim) -> int:
        """The next offset to apply: the store knows it, unless the topic was made anew since."""
        consumer, store, wanted = self.runtime.app.consumer, self.runtime.store, claim.next_offset or 0
        if not wanted or wanted <= (await self.runtime.answered(lambda: consumer.highwaters(tp)))[tp]:
            return wanted
        start: int = (await self.runtime.answered(lambda: consumer.earliest_offsets(tp)))[tp]
        log.error(
            "%s[%s] ends before offset %s, from which the event store would go on: was the topic made anew? "
            "Reading it from its beginning, offset %s; what was applied before is not counted again",
            *tp, wanted, start,
        )  # fmt: skip
        await self.runtime.stored(store.rewind, self.runtime.settings.group, tp.topic, tp.partition, claim.epoch, start)
        return start

    async def _take_over(self) -> None:
        """Open every partition that is assigned: its last owner may have left records in the outbox."""
        name, generation = self.runtime.settings.topic(self.topic), self.runtime.app.consumer_generation_id
        for tp in list(self.runtime.app.consumer.held):
            if tp.topic == name and tp not in self.parts:
                await self._part(tp, generation)

    def revoked(self, tps: set[TP]) -> None:
        """Forget partitions that belong to others now."""
        for tp in tps & self.parts.keys():
            del self.parts[tp]
            self.runtime.frontiers.pop(tp, None)
            self.runtime.progress.lost(tp)

    async def flush(self) -> None:
        """Apply what waits."""
        async with self._lock:
            for part in list(self.parts.values()):
                await self._apply(part)

    async def tick(self) -> None:
        """Give up on sources that have kept a window waiting for longer than the grace; notice who fell silent."""
        await self._take_over()
        await self._look_ahead()
        await self.flush()
        grace, now = self.runtime.settings.seconds("assess_grace"), time.monotonic()
        async with self._lock:
            for part in list(self.parts.values()):
                late = []
                for subject, state in part.states.items():
                    if not state.assembly.waiting():
                        part.blocked_since.pop(subject, None)
                        if self._silent(part, subject, state, now - grace):
                            late.append(subject)
                    elif now - part.blocked_since.setdefault(subject, now) > grace:
                        late.append(subject)
                        part.blocked_since.pop(subject)
                if late:
                    await self._apply(part, give_up=late)
                await self.publisher.drain(part.tp.partition)

    def _silent(self, part: Part, subject: Subject, state: State, now: float) -> bool:
        """Whether no source has spoken of a described model for a whole window; the next one begins then."""
        reference = self.runtime.registry.get(subject.model, subject.version)
        if not misses(state, subject, reference):
            return False
        patience = (reference.window_us + reference.lateness_us) / 1e6
        if now - part.heard_at.setdefault(subject, now) <= patience:
            return False
        part.heard_at[subject] += patience
        return True

    async def _apply(self, part: Part, give_up: list[Subject] | None = None) -> None:
        waiting = list(part.waiting)  # more may come meanwhile
        if not waiting and not give_up:
            return
        next_offset = waiting[-1][0] + 1 if waiting else part.next_offset
        call = Application(self.runtime, part, [r for _, r in waiting if r is not None], give_up or [], next_offset)
        began = time.monotonic()
        parents, part.parents = part.parents, []
        span = self.runtime.spans.step("assess", part.tp.topic, parents=parents, profiles=len(call.records))
        with span if parents else nullcontext():
            await self._commit(part, call, len(waiting), next_offset, began)

    async def _commit(self, part: Part, call: Application, taken: int, next_offset: int, began: float) -> None:
        try:
            await self.runtime.stored(call.apply)
        except Fenced as error:
            log.warning("%s", error)
            self.revoked({part.tp})
            # Fenced by one who claimed late what was no longer its own: read again, and claim with the first record.
            if self.runtime.holds(part.tp, part.generation):
                await self.runtime.app.consumer.seek(part.tp, part.next_offset)
            return
        self.runtime.metrics.assessed(call.assessed, time.monotonic() - began)
        for model, n in call.too_late.items():
            self.runtime.metrics.too_late(model, n)
        del part.waiting[:taken]
        part.next_offset = next_offset
        self._tell(part, call.refused)
        for subject in call.moved:
            part.blocked_since.pop(subject, None)
        part.heard_at.update(dict.fromkeys({r.subject for r in call.records} - call.refused, time.monotonic()))
        if call.notes:
            await self.publisher.drain(part.tp.partition)

    def _tell(self, part: Part, refused: set[Subject]) -> None:
        for model, version in sorted({subject[:2] for subject in refused} - part.told):
            log.warning("%s %s has more segments than max_segments: others count in the whole only", model, version)
            part.told.add((model, version))
