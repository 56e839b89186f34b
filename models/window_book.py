"""Open event-time windows of one source partition: which window a row belongs to, and when a window closes.

A function of the log alone. The running maximum of event time before a record decides whether its rows are late, so a
partition read again from its frontier opens and closes the same windows with the same rows. Only two things come from
outside, and both are written down with the commit: the clock in force at the frontier, and the cuts that closed an idle
partition by the wall clock.

Windows are keyed (subject, event window, arrival window). A row that comes in time has both equal. A late row waits
under the window that was open when it came; a label always does, with its inference's window as event window.
"""

import zlib
from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
import numpy as np

from models.columns import Embedded, Inferences, Ints, Losses, Outcomes, Served, Subject
from models.profile import Profile
from models.reference import Reference

Rows = Inferences | Embedded | Outcomes | Served | Losses
Group = tuple[Subject, Rows, Ints | slice]
Hold = tuple[int, tuple[int, int]]  # an offset that is still needed, and the clock in force before it
NEVER = -(1 << 62)  # before every time
RETIRE_AFTER = 3  # empty windows for which a subject goes on reporting
MOST_SEGMENTS = 100  # of a model version in one window
BEYOND = "beyond_segments"  # counter of the whole's profile: events whose segment is not watched on its own
MAX_CUTS = 64  # cuts after the frontier; they travel in the commit's metadata, for which Kafka allows 4096 bytes


class Cut(msgspec.Struct, frozen=True):
    """After record `offset`, windows that end by `time` were closed by the wall clock."""

    offset: int
    time: int


class Clock(msgspec.Struct):
    """Progress of a partition in event time: the newest credible time seen, and the floor set by cuts.

    Where records complete each other, the offset saved with it may lie before `counted`: what lies between is read
    again only for what it says about later records, of which those before `read` had been seen.
    """

    newest: int = NEVER
    cut: int = NEVER
    cuts: list[Cut] = []  # those that lie at or after the offset this clock was saved with
    counted: int = 0
    read: int = 0


class Key(NamedTuple):
    """A window of a subject: starts of event and arrival window, and their common length, in microseconds."""

    subject: Subject
    start: int
    arrival: int
    length: int

    @property
    def closes(self) -> int:
        """The event time that must have passed before this window is complete."""
        return self.arrival + self.length


@dataclass(slots=True)
class Open:
    """A window not yet complete; `offset` is its first record's, `clock` what was in force before that record."""

    offset: int
    clock: tuple[int, int]
    profile: Profile = field(default_factory=Profile)


class Closed(NamedTuple):
    """What leaves the book: a complete window, or (profile None) only the news of how far a subject has come."""

    key: Key
    profile: Profile | None
    watermark: int
    retired: bool = False


@dataclass(slots=True)
class Batch:
    """Rows in offset order, split by subject: `groups` hold row numbers into `offset` and `time`."""

    offset: Ints
    time: Ints
    received: Ints  # time the broker stamped the record with
    groups: list[Group]
    last: int  # offset of the last record, also when it had no usable row


class WindowBook:
    """The open windows of one partition.

    `reference_of` gives the reference of a subject's model version: window, lateness and grids.
    `skew_us` and `age_us` bound credible times around the broker's stamp; others are capped and counted. Of a version
    and window `most_segments` segments are kept, those of the lowest ranks: the same ones in whatever order they come.
    What rows add to the counts named in `told` is added up in `tally`, by model, for whoever takes it out.
    """

    def __init__(
        self,
        reference_of: Callable[[str, str], Reference],
        clock: Clock,
        *,
        skew_us: int = 300_000_000,
        age_us: int = 400 * 86_400_000_000,
        most_segments: int = MOST_SEGMENTS,
        told: tuple[str, ...] = (),
    ) -> None:
        self._reference_of = reference_of
        self._skew, self._age, self._most = skew_us, age_us, most_segments
        self._segments: dict[Key, list[tuple[int, Key]]] = {}  # of the whole's window: those kept, by rank
        self._beyond: Counter[Key] = Counter()
        self._windows: dict[Key, Open] = {}
        self._seen: dict[Subject, int] = {}  # subject -> end of its newest window with rows
        self._told: dict[Subject, int] = {}  # subject -> watermark last published
        self.clock = Clock(clock.newest, clock.cut, [])
        self._ahead = sorted(clock.cuts, key=lambda c: c.offset)  # cuts made before a crash, to be made again
        self.newest_offset = -1
        self._counted = told
        self.tally: Counter[tuple[str, str]] = Counter()

    # -- rows in -----------------------------------------------------------------------------------------

    def add(self, batch: Batch) -> None:
        """Add rows that follow, in the log, all rows added before."""
        if len(batch.offset):
            before, cut, capped = self._advance(batch)
            for subject, rows, where in batch.groups:
                bad = capped[where]
                if bad.any():
                    rows.capped = bad
                    rows.time = batch.time[where]
                self._place(subject, rows, before[where], cut[where])
            self._count_beyond()
        self.newest_offset = batch.last
        self._repeat_cuts(batch.last)

    def _advance(self, batch: Batch) -> tuple[Ints, Ints, np.ndarray]:
        """Move the clock over the batch; returns, per row, the clock before its record, and which times were capped."""
        time, offset = batch.time, batch.offset
        if offset[0] == offset[-1]:
            low, high, received = int(time.min()), int(time.max()), int(batch.received[0])
            if low >= received - self._age and high <= received + self._skew:
                return self._advance_record(offset, high)
        starts = np.flatnonzero(np.concatenate(([True], offset[1:] != offset[:-1])))
        capped = (time > batch.received + self._skew) | (time < batch.received - self._age)
        credible = np.where(capped, NEVER, time)
        highest = np.maximum.reduceat(credible, starts)
        running = np.maximum.accumulate(np.concatenate(([self.clock.newest], highest)))
        per_record = np.diff(np.concatenate((starts, [len(offset)])))
        before = np.repeat(running[:-1], per_record)
        if capped.any():
            # An absurd clock says nothing: such rows count where the stream is, or where the broker stood.
            stand_in = np.where(before == NEVER, batch.received, before)
            batch.time = np.where(capped, stand_in, time)
        self.clock.newest = int(running[-1])
        cut = np.full(len(offset), self.clock.cut, dtype=np.int64)
        for made in self._ahead:
            cut[offset > made.offset] = np.maximum(cut[offset > made.offset], made.time)
        return before, cut, capped

    def _advance_record(self, offset: Ints, newest: int) -> tuple[Ints, Ints, np.ndarray]:
        """`_advance` for the rows of one record with sound times, without arrays of one value."""
        cut = max([self.clock.cut, *(made.time for made in self._ahead if offset[0] > made.offset)])
        before, shape = self.clock.newest, offset.shape
        self.clock.newest = max(before, newest)
        same = [np.broadcast_to(np.int64(value), shape) for value in (before, cut)]
        return same[0], same[1], np.broadcast_to(np.False_, shape)

    def _repeat_cuts(self, upto: int) -> None:
        while self._ahead and self._ahead[0].offset <= upto:
            made = self._ahead.pop(0)
            self.clock.cut = max(self.clock.cut, made.time)
            self.clock.cuts.append(made)

    def _place(self, subject: Subject, rows: Rows, before: Ints, cut: Ints) -> None:
        reference = self._reference_of(subject.model, subject.version)
        length = reference.window_us
        # Clock and cuts never go back, so what had passed before the last row had passed for none earlier.
        whole = _one_window(rows, length, max(int(before[-1]) - reference.lateness_us, int(cut[-1])))
        for chosen, start, landed in whole or _runs(rows, length, np.maximum(before - reference.lateness_us, cut)):
            part = rows if chosen is None else rows.take(chosen)
            first = 0 if chosen is None else int(chosen[0])
            key = Key(subject, start, landed, length)
            window = self._windows.get(key)
            if window is None:
                if subject.segment and not self._admit(key, part):
                    continue
                window = Open(int(rows.offset[first]), (int(before[first]), int(cut[first])))
                self._windows[key] = window
            elif rows.offset[first] < window.offset:  # an earlier group of the same batch began later
                window.offset, window.clock = int(rows.offset[first]), (int(before[first]), int(cut[first]))
            counts = window.profile.counts
            before_it = [counts.get(name, 0) for name in self._counted]
            window.profile.add(part, reference)
            if landed != start and not isinstance(rows, Outcomes | Losses):
                window.profile.count("late", len(part))
            self._seen[subject] = max(self._seen.get(subject, NEVER), key.closes)
            if subject.version and not subject.segment:  # others have the same rows once more
                for name, n in zip(self._counted, before_it, strict=True):
                    if counts.get(name, 0) != n:
                        self.tally[subject.model, name] += counts[name] - n

    def _admit(self, key: Key, rows: Rows) -> bool:
        """Whether this segment is one of those kept of its window; the one it takes the place of is forgotten.

        One that is kept in the end was never left out before, so its profile has all of its rows.
        """
        whole = _whole(key)
        kept = self._segments.setdefault(whole, [])
        insort(kept, (zlib.crc32(key.subject.segment.encode("utf-8", "surrogatepass")), key))
        if len(kept) <= self._most:
            return True
        out = kept.pop()[1]
        if out == key:
            self._beyond[whole] += len(rows) if isinstance(rows, Inferences) else 0
            return False
        self._beyond[whole] += self._windows.pop(out).profile.n
        if out.subject not in self._told and all(key.subject != out.subject for key in self._windows):
            self._seen.pop(out.subject, None)
        return True

    def _count_beyond(self) -> None:
        for whole, rows in self._beyond.items():
            if whole in self._windows:
                self._windows[whole].profile.count(BEYOND, rows)
        self._beyond.clear()

    # -- windows out -------------------------------------------------------------------------------------

    def watermark(self, subject: Subject) -> int:
        """Event time up to which this partition has told everything about `subject`."""
        lateness = self._reference_of(subject.model, subject.version).lateness_us
        return max(self.clock.newest - lateness, self.clock.cut)

    def close(self) -> list[Closed]:
        """Take out, in order, the windows that are complete and the news of subjects without one."""
        marks = {subject: self.watermark(subject) for subject in self._seen}
        keys = [key for key in self._windows if key.closes <= marks[key.subject]]
        keys.sort(key=lambda k: (k.closes, k.start, k.subject))
        # Only the last of several windows that close together may say that this time has passed.
        last = {(key.subject, key.closes): key for key in keys}
        done = [
            Closed(
                key, self._windows.pop(key).profile, key.closes if last[key.subject, key.closes] == key else key.arrival
            )
            for key in keys
        ]
        for key in keys:
            self._told[key.subject] = key.closes
            self._segments.pop(_whole(key), None)
        return done + list(self._news(marks))

    def _news(self, marks: dict[Subject, int]) -> Iterator[Closed]:
        for subject, mark in marks.items():
            if mark < NEVER // 2:
                continue  # no credible time yet, so nothing has passed
            length = self._reference_of(subject.model, subject.version).window_us
            passed = mark // length * length
            told = self._told.get(subject)
            if told is not None and passed <= told:
                continue
            if self._seen[subject] == NEVER:
                self._seen[subject] = mark  # it was expected before anything came: its absence begins now
            retired = mark - self._seen[subject] >= RETIRE_AFTER * length
            self._told[subject] = passed
            if retired:
                del self._seen[subject], self._told[subject]
            yield Closed(Key(subject, passed - length, passed - length, length), None, passed, retired)

    def cut(self, now: int) -> Cut | None:
        """Decide to close, by the wall clock, every open window that ended by `now`; None if there is none.

        None also when the oldest window is held open over so many cuts that the commit cannot carry another one: a
        forgotten cut would let late rows fall into windows already published.
        The caller makes the cut durable and then calls `apply`.
        """
        ends = [key.closes for key in self._windows if key.closes <= now]
        full = len(self.clock.cuts) + len(self._ahead) >= MAX_CUTS
        return Cut(self.newest_offset, max(ends)) if ends and not full else None

    def apply(self, cut: Cut) -> None:
        """Close windows up to a cut that is durable now."""
        self.clock.cut = max(self.clock.cut, cut.time)
        # A second cut behind the same record says all that the first did.
        self.clock.cuts = [*(made for made in self.clock.cuts if made.offset != cut.offset), cut]

    @property
    def now(self) -> tuple[int, int]:
        """The clock in force before the next record: newest time and cut."""
        return self.clock.newest, self.clock.cut

    def due(self) -> bool:
        """Whether `close` has something that others wait for: a complete window, or a subject not announced yet."""
        if len(self._seen) != len(self._told):
            return True
        return any(key.closes <= self.watermark(key.subject) for key in self._windows)

    def expect(self, subject: Subject) -> None:
        """Report on a subject before its first row: others wait for this source to say that it has nothing of it."""
        self._seen.setdefault(subject, self.clock.newest)

    def heard(self, time: int) -> None:
        """Nothing older than `time` will come, for another reason than a row: a replay in order, a heartbeat."""
        self.clock.newest = max(self.clock.newest, time)

    def frontier(self, holds: Iterable[Hold] = ()) -> tuple[int, Clock]:
        """Offset below which nothing is needed any more, with the clock to start again from there.

        `holds` are records needed for other reasons than an open window.
        """
        needed = [*((w.offset, w.clock) for w in self._windows.values()), *holds]
        if not needed:
            self.clock.cuts = []
            return self.newest_offset + 1, Clock(self.clock.newest, self.clock.cut, list(self._ahead))
        offset, clock = min(needed)
        self.clock.cuts = [c for c in self.clock.cuts if c.offset >= offset]
        return offset, Clock(*clock, [*self.clock.cuts, *self._ahead])

    def subjects(self) -> list[Subject]:
        """The subjects that report here."""
        return sorted(self._seen)

    def __len__(self) -> int:
        return len(self._windows)


def _whole(key: Key) -> Key:
    """The window of the model version that a segment is a part of."""
    return key._replace(subject=Subject(key.subject.model, key.subject.version))


Run = tuple[np.ndarray | None, int, int]  # row numbers (None: all), start of event window, start of arrival window


def _one_window(rows: Rows, length: int, closed: int) -> list[Run] | None:
    """The usual case at a glance: inferences or inputs that all belong to one window that is still open."""
    if isinstance(rows, Outcomes):
        return None
    own = int(rows.time.min()) // length * length
    return [(None, own, own)] if int(rows.time.max()) < own + length and own + length > closed else None


def _runs(rows: Rows, length: int, closed: Ints) -> Iterator[Run]:
    """The rows of each pair of event and arrival window; `closed` is the time that had passed before each row."""
    own = event = rows.time // length * length
    if isinstance(rows, Outcomes):
        event = rows.event_time // length * length
        own = np.maximum(own, event)  # a label is not older than its inference, whatever the labeller's clock says
    late = own + length <= closed
    arrival = np.where(late, closed // length * length, own)
    pairs, which = np.unique(np.stack((event, arrival), axis=1), axis=0, return_inverse=True)
    which = which.reshape(-1)
    for i, (start, landed) in enumerate(pairs.tolist()):
        yield None if len(pairs) == 1 else np.flatnonzero(which == i), start, landed
