"""profiles -> estimates, verdicts, forecast, decision: applied in one transaction of the event store.

The store is the truth. A batch of profiles, the events they lead to, the estimators' state and the applied offset are
committed together; an epoch per partition refuses the transaction of a worker that has lost it.
"""

import asyncio
import logging
import time
from collections import Counter
from typing import Any

from faust.types import TP

from agents.assessed import counts_of, event_of
from agents.publish import Publisher, outbox
from agents.restoring import profile_in, restored
from models.assessor import assess, misses
from models.columns import Subject
from models.forecast_history import History, inherited, is_family
from models.lifecycle import recorded, take_in
from models.notes import Note
from models.profile import Profile
from models.reference import Reference
from models.subject_state import FORMAT as STATE_FORMAT
from models.subject_state import State, fresh
from streams.delivery import Cursor
from streams.errors import BadRecord, Fenced
from streams.event_store import DAY_US, EventStore
from streams.intake import take_all
from streams.lane import ProfileRecord
from streams.profile_reading import decode_profile
from streams.runtime import Runtime
from streams.store_rows import Claim, WindowEstimate
from streams.store_rows import State as StoredState
from streams.store_transaction import Transaction
from streams.topics import INFERENCE, INPUTS, LABELS, PROFILES

log = logging.getLogger(__name__)
MAX_BATCH = 256


class Part:
    """One partition of the profiles topic in the hands of this worker."""

    def __init__(self, tp: TP, generation: int, epoch: int, cursor: Cursor) -> None:
        self.tp, self.generation, self.epoch, self.cursor = tp, generation, epoch, cursor
        self.next_offset = cursor.wanted  # everything below is in the store
        self.admitted = cursor.wanted - 1
        self.waiting: list[tuple[int, ProfileRecord | None]] = []  # None: a dead letter, or nothing at all
        self.states: dict[Subject, State] = {}
        self.blocked_since: dict[Subject, float] = {}
        self.heard_last = time.monotonic()  # when any profile came
        self.told: set[tuple[str, str]] = set()  # versions with too many segments
        self.heard_at: dict[Subject, float] = {}  # when a source last said something, on the monotonic clock

    def frontier(self) -> tuple[int, None]:
        """Everything below is in the store."""
        return self.next_offset, None


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

    async def take(self, message: Any) -> None:
        """Take in one profile; it is applied together with others."""
        if message.generation_id != self.runtime.app.consumer_generation_id:
            return
        part = await self._part(message.tp, message.generation_id)
        # Also after a claim that was fenced: what it had taken in and not applied must come again.
        if part is None or not await part.cursor.admit(message.offset):
            return
        self.runtime.progress.taken(part.tp, part.cursor.wanted, int(message.timestamp * 1e6))
        self.runtime.metrics.record(part.tp.topic, missing=message.offset - part.admitted - 1)
        part.admitted, part.heard_last = message.offset, time.monotonic()
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
        del part.waiting[: len(waiting)]
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


class Application:
    """One batch of profiles on its way into the store; `apply` may be called again when the store did not answer."""

    def __init__(
        self, runtime: Runtime, part: Part, records: list[ProfileRecord], give_up: list[Subject], next_offset: int
    ) -> None:
        self._runtime, self._part, self.records = runtime, part, records
        self._give_up, self._next_offset = give_up, next_offset
        self._subjects = {*(r.subject for r in records), *give_up}
        self.states: dict[Subject, State] = {}
        self.notes: list[Note] = []  # what is told
        self.heard: list[Note] = []  # what was told to us
        self.moved: set[Subject] = set()
        self.refused: set[Subject] = set()  # segments beyond `max_segments` of their version
        self.assessed = 0  # windows
        self.too_late: Counter[str] = Counter()  # late events of windows that are in no estimate, by model

    def apply(self) -> None:
        """One transaction. Raises StoreUnreachable and Fenced; then nothing has changed, here or there."""
        try:
            self._transact()
        except BaseException:
            # What is in memory may be ahead of the store now: the next try starts from what the store has.
            for subject in self._subjects:
                self._part.states.pop(subject, None)
            raise
        self._part.states.update(self.states)

    def _transact(self) -> None:
        runtime, part = self._runtime, self._part
        group = runtime.settings.group
        store: EventStore = runtime.store
        self.states, self.notes, self.heard, self.moved, self.refused = {}, [], [], set(), set()
        self.assessed, self.too_late = 0, Counter()
        with store.transaction() as tx:
            tx.advance(group, part.tp.topic, part.tp.partition, part.epoch, self._next_offset)
            self._load(tx)
            with_rows = [r for r in self.records if r.profile is not None or r.change is not None]
            new = tx.new_profiles(group, [r.identity() for r in with_rows])
            fresh_ones = {id(r) for r, is_new in zip(with_rows, new, strict=True) if is_new}
            windows, estimates = [], []
            for record in self.records:
                if record.subject in self.refused:
                    continue  # its rows are among those of the whole version
                if record.change is not None:
                    estimates += self._change(record) if id(record) in fresh_ones else []
                    continue
                body = record.profile if id(record) in fresh_ones else None
                profile = profile_in(record, body) if body is not None else None
                # Rows of all versions side by side are those of the versions once more.
                if profile is not None and record.version:
                    windows.append(counts_of(record, profile))
                estimates += self._hear(record, profile)
            for subject in self._give_up:
                assembly = self.states[subject].assembly
                if assembly.waiting():
                    assembly.give_up()
                else:
                    assembly.fall_silent()
                estimates += self._assess(subject)
            tx.add_windows(windows)
            self._forget_unknown()
            tx.append_events([event_of(note) for note in [*self.heard, *self.notes]])
            tx.set_estimates(estimates)
            tx.save_states({s: StoredState(STATE_FORMAT, state.encode()) for s, state in self.states.items()})
            tx.enqueue([outbox(note, part.tp.partition, runtime.settings) for note in self.notes])

    def _load(self, tx: Transaction) -> None:
        known = self._part.states
        self.states = {s: known[s] for s in self._subjects if s in known}
        missing = self._subjects - self.states.keys()
        for subject, saved in tx.load_states(missing).items():
            self.states[Subject(*subject)] = restored(Subject(*subject), saved)
        new = sorted(missing - self.states.keys())
        self.refused = self._too_many(tx, [subject for subject in new if subject.segment])
        for subject in new:
            if subject in self.refused:
                continue
            self.states[subject] = fresh(self._reference(subject), self._sources(subject), self._inherited(tx, subject))

    def _too_many(self, tx: Transaction, new: list[Subject]) -> set[Subject]:
        """Segments beyond the bound of their version; those that have been silent for `keep_days` do not count."""
        settings, left, refused = self._runtime.settings, dict[tuple[str, str], int](), set()
        since = self._runtime.clock.now_us() - settings.keep_days * DAY_US
        for subject in new:
            version = subject[:2]
            if version not in left:
                left[version] = settings.max_segments - tx.segments(*version, since)
            left[version] -= 1
            if left[version] < 0:
                refused.add(subject)
        return refused

    def _inherited(self, tx: Transaction, subject: Subject) -> History:
        """What the forecasts of earlier versions taught, by what was known when the first window began."""
        if subject.segment or not subject.version:
            return History()
        versions = tx.load_versions(subject.model)
        saved = {Subject(*s): restored(Subject(*s), state) for s, state in versions.items()}
        family = {s.version: state.history for s, state in {**saved, **self.states}.items() if is_family(s, subject)}
        heard = [r for r in self.records if r.subject == subject]
        born = min(
            (r.start if r.change is None else r.change.at_us for r in heard if r.profile or r.change), default=None
        )
        return inherited(family, None if born is None else born // self._reference(subject).window_us)

    def _sources(self, subject: Subject) -> list[str]:
        """Every partition may have rows of a registered model, and says so when it has none."""
        if subject.segment or not self._reference(subject).registered:
            return []
        consumer, settings = self._runtime.app.consumer, self._runtime.settings
        # Versions are counted side by side where inferences are read, and nowhere else.
        names = (INFERENCE, INPUTS, LABELS) if subject.version else (INFERENCE,)
        topics = [settings.topic(name) for name in names]
        return [f"{t}/{p}" for t in topics for p in range(consumer.topic_partitions(t) or settings.partitions)]

    def _reference(self, subject: Subject) -> Reference:
        return self._runtime.registry.get(subject.model, subject.version)

    def _change(self, record: ProfileRecord) -> list[WindowEstimate]:
        """A lifecycle event waits for its window; the version that it names has it recorded."""
        assert record.change is not None  # noqa: S101 -- for the type checker
        if record.change.version == record.version:
            self.heard.append(recorded(record.change, record.model))
        take_in(self.states[record.subject].life, record.change)
        return self._assess(record.subject)

    def _forget_unknown(self) -> None:
        """Keep no state of a version that was only spoken of: it starts with its registration or its first row."""
        for subject, state in list(self.states.items()):
            if not self._reference(subject).registered and state.assembly.untouched:
                del self.states[subject]

    def _hear(self, record: ProfileRecord, profile: Profile | None) -> list[WindowEstimate]:
        subject = record.subject
        assembly = self.states[subject].assembly
        if profile is not None:
            if self.states[subject].forgets(record.start) and record.version and not record.segment:
                self.too_late[record.model] += profile.counts.get("late", 0)
            assembly.add(record.start, record.arrival, profile)
        assembly.heard(record.source, record.watermark, retired=record.retired, idle=record.idle)
        return self._assess(subject)

    def _assess(self, subject: Subject) -> list[WindowEstimate]:
        inspection = self._runtime.inspections.get((subject.model, subject.version))
        notes, conclusions = assess(self.states[subject], subject, self._reference(subject), inspection)
        self.notes += notes
        self.assessed += len(conclusions)
        if conclusions:
            self.moved.add(subject)
        return [
            WindowEstimate(
                model=subject.model, version=subject.version, segment=subject.segment, window_start_us=c.start_us,
                window_end_us=c.end_us, estimate=c.estimate.estimate, low=c.estimate.low, high=c.estimate.high,
                basis=c.estimate.basis, best_before_us=c.best_before_us,
            )
            for c in conclusions
        ]  # fmt: skip
