"""One partition of the profiles topic, and a batch of its profiles on its way into the event store."""

import time
from collections import Counter

from faust.types import TP

from agents.assessed import counts_of, event_of
from agents.publish import outbox
from agents.restoring import profile_in, restored
from models.assessor import assess
from models.columns import Subject
from models.forecast_history import History, inherited, is_family
from models.lifecycle import recorded, take_in
from models.notes import Note
from models.profile import Profile
from models.reference import Reference
from models.subject_state import FORMAT as STATE_FORMAT
from models.subject_state import State, fresh
from streams.delivery import Cursor
from streams.event_store import DAY_US, EventStore
from streams.lane import ProfileRecord
from streams.runtime import Runtime
from streams.store_rows import State as StoredState
from streams.store_rows import WindowEstimate
from streams.store_transaction import Transaction
from streams.topics import INFERENCE, INPUTS, LABELS


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
        self.parents: list[str] = []  # spans that profiles were sent in, of those that wait
        self.told: set[tuple[str, str]] = set()  # versions with too many segments
        self.heard_at: dict[Subject, float] = {}  # when a source last said something, on the monotonic clock

    def frontier(self) -> tuple[int, None]:
        """Everything below is in the store."""
        return self.next_offset, None


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
