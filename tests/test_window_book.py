"""Which window a row belongs to: against a plain oracle, over any batching, any crash and any idle cut."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.columns import Categories, Inferences, Outcomes, Subject
from models.reference import Reference
from models.window_book import MAX_CUTS, NEVER, RETIRE_AFTER, Batch, Clock, Closed, Cut, Key, WindowBook
from streams.delivery import decode_clock, encode_clock

SECOND = 1_000_000
SKEW, AGE = 30 * SECOND, 2000 * SECOND
START = 1_795_000_000 * SECOND
REFERENCES = {
    "quick": Reference("quick", "1", window_us=10 * SECOND, lateness_us=2 * SECOND),
    "steady": Reference("steady", "1", window_us=60 * SECOND, lateness_us=0),
    "patient": Reference("patient", "1", window_us=15 * SECOND, lateness_us=70 * SECOND),
}
MODELS = tuple(REFERENCES)
KAFKA_METADATA = 4096  # offset.metadata.max.bytes of a broker


class Row(NamedTuple):
    """One row of a record; `about` is the time of the inference that a label is about, None for an inference."""

    name: str
    model: str
    time: int
    about: int | None = None


@dataclass
class Record:
    """One record of the log. Without rows it stands for a dead letter."""

    offset: int
    received: int
    rows: list[Row]


def reference_of(model: str, version: str) -> Reference:
    return REFERENCES[model]


def new_book(clock: Clock | None = None, start: int = 0) -> WindowBook:
    book = WindowBook(reference_of, clock or Clock(), skew_us=SKEW, age_us=AGE)
    book.newest_offset = start - 1
    return book


def batch_of(records: list[Record]) -> Batch:
    """The rows of some records as an agent would hand them to the book."""
    flat = [(r.offset, r.received, row) for r in records for row in r.rows]
    offset = np.array([o for o, _, _ in flat], dtype=np.int64)
    time = np.array([row.time for _, _, row in flat], dtype=np.int64)
    by_model: dict[str, list[int]] = defaultdict(list)
    for i, (_, _, row) in enumerate(flat):
        by_model[row.model].append(i)
    groups: list[Any] = []
    for model, where in by_model.items():
        index = np.array(where)
        groups.append((Subject(model, "1"), rows_of([flat[i][2] for i in where], offset[index], time[index]), index))
    received = np.array([r for _, r, _ in flat], dtype=np.int64)
    return Batch(offset, time, received, groups, records[-1].offset)


def rows_of(rows: list[Row], offset: Any, time: Any) -> Inferences | Outcomes:
    names = Categories(np.arange(len(rows), dtype=np.int32), tuple(r.name for r in rows))
    if rows[0].about is None:
        return Inferences(offset=offset, time=time, label=names)
    return Outcomes(
        offset=offset,
        time=time,
        event_time=np.array([r.about for r in rows], dtype=np.int64),
        correct=np.ones(len(rows), dtype=np.bool_),
        truth=names,
        confidence=np.ones(len(rows)),
        feedback=np.zeros(len(rows), dtype=np.bool_),
    )


# -- the oracle ----------------------------------------------------------------------------------------------


def credible(row: Row, received: int) -> bool:
    return received - AGE <= row.time <= received + SKEW


def oracle(log: list[Record], cuts: list[Cut]) -> dict[Key, set[str]]:
    """Row by row, in words of the architecture: what came in time, what came late, and under which arrival window."""
    found: dict[Key, set[str]] = defaultdict(set)
    newest = NEVER
    for record in log:
        floor = max((c.time for c in cuts if c.offset < record.offset), default=NEVER)
        for row in record.rows:
            reference = REFERENCES[row.model]
            length = reference.window_us
            stand_in = record.received if newest == NEVER else newest
            time = row.time if credible(row, record.received) else stand_in
            closed = max(newest - reference.lateness_us, floor)
            about = time if row.about is None else row.about
            event = about - about % length
            own = max(time - time % length, event)
            arrival = closed - closed % length if own + length <= closed else own
            found[Key(Subject(row.model, "1"), event, arrival, length)].add(row.name)
        newest = max([newest, *(r.time for r in record.rows if credible(r, record.received))])
    return dict(found)


# -- random logs ---------------------------------------------------------------------------------------------


def random_log(rng: Random, size: int, labels: bool = False) -> list[Record]:
    log, now, clock, offset = [], START, START, rng.choice([0, 0, 7])
    for i in range(size):
        now += rng.choice([0, 1, 3, 40]) * SECOND // rng.choice([1, 3])
        clock += rng.choice([0, 1, 2, 5, 30]) * SECOND
        count = rng.choice([0, 1, 1, 1, 2, 3, 8])
        models = MODELS if rng.random() < 0.7 else MODELS[:1]
        rows = []
        for j in range(count):
            time = random_time(rng, clock)
            about = clock - rng.choice([-20, 0, 5, 100, 900]) * SECOND if labels else None
            rows.append(Row(f"{i}.{j}", rng.choice(models), time, about))
        log.append(Record(offset, max(now, clock - 5 * SECOND), rows))
        offset += rng.choice([1, 1, 1, 4])
    return log


def random_time(rng: Random, clock: int) -> int:
    kind = rng.random()
    if kind < 0.06:
        return rng.choice([0, 4_102_444_800 * SECOND, 1])  # 1970, 2100
    if kind < 0.2:
        return clock - rng.randrange(1500) * SECOND  # a device that was offline
    return clock + rng.randrange(-8 * SECOND, 3 * SECOND)


@dataclass
class Partition:
    """One source partition over its life: workers come and go, only commits and publications remain."""

    log: list[Record]
    rng: Random
    labels: bool = False
    mortal: bool = True
    published: dict[Key, Any] = field(default_factory=dict)  # first publication wins, as in the store
    told: list[Closed] = field(default_factory=list)  # everything published, in order
    cuts: list[Cut] = field(default_factory=list)
    commits: list[tuple[int, str]] = field(default_factory=list)  # the broker may have any from the last cut on
    furthest: int = 0  # newest offset that any worker has read

    def worker(self, *, crash_after: int | None = None) -> WindowBook:
        """Read from a committed frontier to the end, or to a crash."""
        start, clock = self.rng.choice(self.commits) if self.commits else (self.log[0].offset, "")
        book = new_book(decode_clock(clock), start)
        rest = [r for r in self.log if r.offset >= start]
        holds: list[Any] = []
        for done, records in enumerate(batches(self.rng, rest)):
            if crash_after is not None and done >= crash_after:
                return book
            if self.rng.random() < 0.15:  # a dead letter, or a record that waits for another reason
                holds.append((records[0].offset, book.now))
            self._take(book, records)
            if self.rng.random() < 0.8:
                self.publish(book)
                holds = holds[self.rng.choice([0, 1, 1]) :]
                self._returned(book.frontier(holds))
                assert all(self.commits[-1][0] <= offset for offset, _ in holds)
            # A partition is idle only when every record that was ever read has been read again.
            idle = records[-1].offset >= self.furthest and self.rng.random() < 0.3
            self.furthest = max(self.furthest, records[-1].offset)
            if idle and not self.idle(book, self.rng.randrange(-30, 200) * SECOND):
                return self.worker()
        return book

    def _take(self, book: WindowBook, records: list[Record]) -> None:
        with_rows = [r for r in records if r.rows]
        if with_rows:
            book.add(batch_of(with_rows))
        book.newest_offset = max(book.newest_offset, records[-1].offset)

    def _returned(self, frontier: tuple[int, Clock]) -> None:
        text = encode_clock(frontier[1])
        assert len(text) < KAFKA_METADATA
        self.commits.append((frontier[0], text))

    def publish(self, book: WindowBook) -> None:
        for item in book.close():
            self.told.append(item)
            if item.profile is not None:
                self.published.setdefault(item.key, item.profile)

    def idle(self, book: WindowBook, ahead: int) -> bool:
        """Close by the wall clock: the cut is committed before it is made, so older frontiers are gone.

        False when the worker was killed between the two.
        """
        cut = book.cut(book.clock.newest + ahead)
        if cut is None:
            return True
        offset, clock = self.commits[-1] if self.commits else (self.log[0].offset, "")
        before = decode_clock(clock)
        self.commits = [(offset, encode_clock(Clock(before.newest, before.cut, [*before.cuts, cut])))]
        self.cuts.append(cut)
        if self.mortal and self.rng.random() < 0.2:
            return False
        book.apply(cut)
        self.publish(book)
        return True

    def rows(self) -> dict[Key, set[str]]:
        table = "truth" if self.labels else "label"
        return {key: set(profile.categories[table]) for key, profile in self.published.items()}


def batches(rng: Random, records: list[Record]) -> Iterator[list[Record]]:
    while records:
        size = rng.choice([1, 1, 2, 5, 30])
        yield records[:size]
        records = records[size:]


def finish(partition: Partition, book: WindowBook) -> None:
    partition.publish(book)
    partition._returned(book.frontier())
    cut = book.cut(1 << 61)
    if cut is not None:
        partition.cuts.append(cut)
        book.apply(cut)
        partition.publish(book)
    assert not len(book)


@settings(max_examples=400, derandomize=True, deadline=None)
@given(st.integers(1, 60), st.integers(0, 2**32), st.booleans())
def test_every_row_is_counted_once_and_where_the_oracle_says(size: int, seed: int, labels: bool) -> None:
    rng = Random(seed)
    log = random_log(rng, size, labels)
    partition, book = Partition(log, rng, labels), new_book(start=log[0].offset)
    cuts = []
    for records in batches(rng, log):
        partition._take(book, records)
        partition.publish(book)
        cut = book.cut(book.clock.newest + 100 * SECOND) if rng.random() < 0.1 else None
        if cut is not None:
            book.apply(cut)
            cuts.append(cut)
    finish(partition, book)
    expected = oracle(log, cuts)
    assert partition.rows() == expected
    names = [name for rows in expected.values() for name in rows]
    assert sorted(names) == sorted(row.name for record in log for row in record.rows)
    assert len([c for c in partition.told if c.profile is not None]) == len(partition.published)
    absurd = sum(not credible(row, r.received) for r in log for row in r.rows)
    assert sum(p.counts.get("capped", 0) for p in partition.published.values()) == absurd


@settings(max_examples=400, derandomize=True, deadline=None)
@given(st.integers(1, 60), st.integers(0, 2**32), st.booleans())
def test_crashes_and_restarts_from_any_frontier_change_nothing(size: int, seed: int, labels: bool) -> None:
    rng = Random(seed)
    log = random_log(rng, size, labels)
    partition = Partition(log, rng, labels)
    for _ in range(rng.choice([1, 1, 2, 4])):
        partition.worker(crash_after=rng.randrange(size))
    finish(partition, partition.worker())
    assert partition.rows() == oracle(log, partition.cuts)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.integers(1, 60), st.integers(0, 2**32))
def test_a_published_watermark_is_never_taken_back(size: int, seed: int) -> None:
    rng = Random(seed)
    log = random_log(rng, size)
    partition = Partition(log, rng, mortal=False)
    finish(partition, partition.worker())
    passed: dict[Subject, int] = {}
    for item in partition.told:
        before = passed.get(item.key.subject, NEVER)
        assert item.watermark >= before
        if item.profile is not None:
            assert item.key.closes > before
        passed[item.key.subject] = item.watermark


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.integers(1, 60), st.integers(0, 2**32))
def test_the_watermark_only_follows_credible_times(size: int, seed: int) -> None:
    log = random_log(Random(seed), size)
    book = new_book()
    newest = NEVER
    for record in log:
        if record.rows:
            book.add(batch_of([record]))
        newest = max([newest, *(r.time for r in record.rows if credible(r, record.received))])
        assert book.clock.newest == newest


# -- single cases --------------------------------------------------------------------------------------------


def feed(book: WindowBook, *times: int, model: str = "quick") -> list[Closed]:
    """One record per time, in seconds after START, then what closes."""
    for at in times:
        offset = book.newest_offset + 1
        row = Row(str(offset), model, START + at * SECOND)
        book.add(batch_of([Record(offset, max(START, START + at * SECOND), [row])]))
    return book.close()


def test_of_several_windows_that_close_together_the_last_carries_the_watermark() -> None:
    book = new_book()
    feed(book, 0, 25)
    feed(book, 3)  # late: event window 0, arrives in window 20
    closed = [c for c in feed(book, 40) if c.profile is not None]
    told = [((c.key.start, c.key.arrival, c.watermark), c.profile.counts.get("late", 0)) for c in closed if c.profile]
    late, last = (START, START + 20 * SECOND, START + 20 * SECOND), START + 30 * SECOND
    assert told == [(late, 1), ((START + 20 * SECOND, START + 20 * SECOND, last), 0)]


def test_a_subject_is_announced_at_once_and_retires_when_it_stays_away() -> None:
    book = new_book()
    announced = feed(book, 5)
    assert [(c.key.subject.model, c.profile, c.retired) for c in announced] == [("quick", None, False)]
    assert announced[0].watermark <= START
    news = [c for at in range(10, 100, 10) for c in feed(book, at, model="steady") if c.key.subject.model == "quick"]
    assert [c.profile is not None for c in news][:1] == [True]
    assert [c.retired for c in news] == [False] * RETIRE_AFTER + [True]
    assert book.subjects() == [Subject("steady", "1")]
    again = [c for c in feed(book, 101) if c.key.subject.model == "quick"]
    assert [c.retired for c in again] == [False]


def test_news_of_a_patient_subject_stay_behind_its_open_windows() -> None:
    """A lateness of several windows: nothing has passed while windows that old may still be open."""
    book = new_book()
    told = feed(book, 0, 60, model="patient")
    assert all(c.watermark <= START - 10 * SECOND for c in told)
    assert len(book) == 2


def test_rows_without_any_credible_time_count_where_the_broker_stands() -> None:
    book = new_book()
    book.add(batch_of([Record(0, START, [Row("a", "quick", 0)])]))
    assert book.clock.newest == NEVER
    assert book.close() == []
    cut = book.cut(START + 20 * SECOND)
    assert cut is not None
    book.apply(cut)
    (first, *_) = book.close()
    assert first.key.start == START
    assert first.profile is not None
    whole = dict.fromkeys(("weight", "weight_squared", "answered"), 1 << 16)
    assert first.profile.counts == whole | {"n": 1, "capped": 1}


def test_an_older_record_in_a_later_group_holds_the_frontier() -> None:
    """Two groups of one subject in one batch: the window needs the older of their first records."""
    book = new_book()
    batch = batch_of([Record(5, START, [Row("a", "quick", START)]), Record(6, START, [Row("b", "quick", START)])])
    ((subject, rows, where),) = batch.groups
    batch.groups = [(subject, rows.take(np.array([i])), np.asarray(where)[[i]]) for i in (1, 0)]
    book.add(batch)
    assert book.frontier()[0] == 5


def test_the_cuts_a_commit_carries_are_bounded() -> None:
    """A window held open for long, beside one that idle cuts close again and again."""
    book = new_book()
    feed(book, 0, model="steady")
    made = 0
    for i in range(3 * MAX_CUTS):
        offset = book.newest_offset + 1
        at = START + i * 10_000  # event time all but stands still
        book.add(batch_of([Record(offset, START, [Row(str(offset), "quick", at)])]))
        cut = book.cut(START + 10 * SECOND) if i else None
        if cut is not None:
            book.apply(cut)
            made += 1
        book.close()
        assert len(encode_clock(book.frontier()[1])) < KAFKA_METADATA
    assert 1 <= made <= MAX_CUTS


def test_cuts_behind_one_record_become_one() -> None:
    book = new_book()
    feed(book, 0, 12, 25, model="patient")
    for end in (5, 20, 35):
        cut = book.cut(START + end * SECOND)
        if cut is not None:
            book.apply(cut)
    assert book.clock.cuts == [Cut(2, START + 35 * SECOND)]
