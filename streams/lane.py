"""One source partition in the hands of this worker: its window book, what must be written before the frontier may move.

record ─> admit ─> (decode) ─> book ─> settle: keep predictions, await dead letters, publish profiles ─> frontier
"""

import asyncio
import hashlib
import logging
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from typing import Any, NamedTuple

import msgspec
from faust.types import TP

from models.columns import Subject
from models.lifecycle import Change
from models.notes import note_id
from models.traces import examples
from models.window_book import Batch, Clock, Closed, Hold, WindowBook
from streams.asking import asked_with, request_of
from streams.batches import Stamped
from streams.delivery import Cursor, Frontier
from streams.envelopes import attributes, traced
from streams.errors import TooNew
from streams.metrics import TOLD
from streams.registry import Registry
from streams.runtime import Runtime
from streams.sourced import Sourced
from streams.store_rows import Prediction, PredictionColumns
from streams.topics import INFERENCE, LABEL_REQUESTS, LIFECYCLE, PROFILES
from streams.trace_context import PARENT, STATE, bounded

log = logging.getLogger(__name__)
PROFILE_FORMAT = 1  # raised only where the previous version could not read what this one writes
MAX_REQUESTS = 500  # requests for labels on their way to the broker at once
MAX_KEPT = 20_000  # predictions held in memory before the lane waits for the store


class ProfileRecord(msgspec.Struct, array_like=True):
    """What travels on the profiles topic. `profile` None only tells how far the source has come.

    With a `change`, a lifecycle event, it is no profile at all: that travels here because whoever assesses the version
    reads nothing else, so there is one log, in which it has its place.
    """

    v: int
    source: str
    model: str
    version: str
    segment: str
    start: int
    arrival: int
    length: int
    watermark: int
    retired: bool = False
    profile: bytes | None = None
    idle: bool = False  # nothing more is to be waited for from this source until it speaks again
    change: Change | None = None

    @property
    def subject(self) -> Subject:
        """Whom it is about."""
        return Subject(self.model, self.version, self.segment)

    def identity(self) -> str:
        """The same for every profile of the same rows, whoever made it and however often."""
        parts = [self.source, *self.subject, str(self.start), str(self.arrival), str(self.length)]
        if self.change is not None:  # the first of an id counts
            parts = [self.source, *self.subject, self.change.id]
        return hashlib.blake2b("\x00".join(parts).encode(), digest_size=16).hexdigest()


_decoder = msgspec.msgpack.Decoder(ProfileRecord)


def decode_profile_record(value: bytes) -> ProfileRecord:
    """The record of the profiles topic. Raises TooNew for one that only a later version can read."""
    try:
        record = _decoder.decode(value)
        if record.v <= PROFILE_FORMAT:
            return record
        found = record.v
    except msgspec.DecodeError:
        whole = msgspec.msgpack.decode(value)
        first = whole[0] if isinstance(whole, list) and whole else None
        if not isinstance(first, int) or first <= PROFILE_FORMAT:
            raise
        found = first
    raise TooNew(
        f"a record of the topic {PROFILES} has format {found}, this version reads up to {PROFILE_FORMAT}; it stays "
        "where it is: start the later version that wrote it here too"
    )


def profile_record(source: str, closed: Closed) -> ProfileRecord:
    """The record of something that left a window book."""
    key = closed.key
    body = closed.profile.pack() if closed.profile is not None else None
    return ProfileRecord(
        PROFILE_FORMAT, source, *key.subject, key.start, key.arrival, key.length, closed.watermark, closed.retired, body
    )


def change_record(change: Change, model: str, version: str) -> ProfileRecord:
    """The record of a lifecycle event for one version of the model. `retired`: it is no source to be waited for."""
    at = change.at_us
    return ProfileRecord(PROFILE_FORMAT, LIFECYCLE, model, version, "", at, at, 0, at, retired=True, change=change)


def subject_key(model: str, version: str) -> bytes:
    """Key of the profiles topic: all segments of a model version meet at one assessor, which keeps one incident."""
    return f"{model}/{version}".encode()


class Lane:
    """`start` is the committed frontier, or the partition's first offset where nothing was committed yet."""

    def __init__(
        self, runtime: Runtime, tp: TP, generation: int, start: int, clock: Clock, sourced: Sourced | None = None
    ) -> None:
        self.runtime, self.tp, self.generation, self.sourced = runtime, tp, generation, sourced
        self.cursor = Cursor(runtime.app.consumer, tp, start)
        settings = runtime.settings
        self.book = WindowBook(
            runtime.registry.get,
            clock,
            skew_us=settings.us("clock_skew"),
            age_us=settings.us("oldest_event"),
            most_segments=settings.max_segments,
            told=TOLD,
        )
        counted = start if sourced is None else sourced.counted
        self.book.newest_offset = counted - 1
        self.queue: list[Stamped] = []  # decoded, not yet in the book
        self._taken: list[int] = []  # first offsets of those that left the queue and are not in the book yet
        self._passed = counted - 1  # newest record that added nothing
        self._admitted = start - 1
        self.adding = asyncio.Lock()  # held while the book changes, and while a cut is written
        # Held while queued records are on their way into the book, which keeps their order.
        self.joining = asyncio.Lock()
        self._settling = asyncio.Lock()
        self._torn = False  # a settling did not come to its end: the frontier stays where it is
        self._soon: asyncio.Task[None] | None = None
        self._kept: list[Prediction] = []
        self._kept_hold: Hold | None = None
        self._kept_count: Counter[tuple[str, str, int]] = Counter()
        self.owed: list[tuple[Hold, asyncio.Future[None]]] = []  # being sent; the frontier waits for it
        self._frontier: Frontier = (start, clock)
        self._idle_told = False
        self._expected: set[Subject] = set()
        self.awaited: int | None = None  # offset of the next record, when all before it were read
        self.opened = self.last_record = time.monotonic()

    # -- records -----------------------------------------------------------------------------------------

    async def admit(self, records: Sequence[Any]) -> Sequence[Any]:
        """Those of the records that are wanted next."""
        wanted = await self.cursor.admit_all(records)
        if wanted:
            self.last_record = time.monotonic()
            self._idle_told = False
        return wanted

    def dealt(self, records: Sequence[Any]) -> None:
        """These, which were admitted together, have been dealt with."""
        last = records[-1]
        self.runtime.progress.taken(self.tp, self.cursor.wanted, last.timestamp * 1000)
        self.runtime.metrics.records(self.tp.topic, len(records), last.offset - self._admitted - len(records))
        self._admitted = last.offset

    def reach(self) -> None:
        """Pass over a hole behind the last record, so that an end that is one is reached; see `Cursor.reach`."""
        if self.cursor.reach():
            self.runtime.progress.taken(self.tp, self.cursor.wanted)
            self.passed(self.cursor.wanted - 1)

    async def probe(self) -> None:
        """Ask for what should have come; note where the next record is due, if nothing waits."""
        at_end = self.runtime.app.consumer.highwater(self.tp) == self.cursor.wanted
        self.awaited = self.cursor.wanted if at_end else None
        if not at_end:
            await self.cursor.probe(time.monotonic() - self.last_record)

    def expect(self, registry: Registry) -> None:
        """Report on every registered model version: a window waits for all partitions that may have rows of it."""
        versions = [Subject(reference.model, reference.version) for reference in registry]
        # All versions of a model side by side, which only inferences are counted for.
        inference = self.sourced is not None or self.tp.topic == self.runtime.settings.topic(INFERENCE)
        models = [Subject(subject.model, "") for subject in versions if inference]
        for subject in (*versions, *models):
            if subject not in self._expected:
                self._expected.add(subject)
                self.book.expect(subject)
                self._idle_told = False  # not of this one

    def hold(self, offset: int) -> Hold:
        """A claim on `offset`, which is about to be added, with the clock before it."""
        return offset, self.book.now

    def queued(self, record: Stamped) -> None:
        """Put a decoded record behind those that wait for the book."""
        self.queue.append(record)

    def unqueue(self) -> list[Stamped]:
        """Take all that wait for the book; they stay needed until `add`."""
        taken, self.queue = self.queue, []
        if taken:
            self._taken.append(taken[0].offset)
        return taken

    @property
    def queue_hold(self) -> Hold | None:
        """A claim on the oldest record on its way into the book. All before it are in, so the clock is the book's."""
        if self._taken:
            return self.hold(self._taken[0])
        return self.hold(self.queue[0].offset) if self.queue else None

    async def add(self, batch: Batch, kept: list[Prediction] | None = None) -> None:
        """Put rows into the book, and close what is complete."""
        async with self.adding:
            if kept:
                self._keep(kept, self.hold(int(batch.offset[0])))
            self.book.add(batch)
            self._taken = [first for first in self._taken if first > batch.last]
            self.passed(self._passed)
            tally, self.book.tally = self.book.tally, Counter()
        self.runtime.metrics.rows(self.tp.topic, tally)
        if len(self._kept) > MAX_KEPT:
            await self.settle()
        elif self.book.due() and (self._soon is None or self._soon.done()):
            # Reading goes on meanwhile: what is added now is not in the windows that close.
            self._soon = asyncio.ensure_future(self._settle_soon())

    async def _settle_soon(self) -> None:
        try:
            await self.settle()
        except Exception as error:  # noqa: BLE001 -- a task of its own: nobody else would see it
            self.runtime.end("publishing profiles failed", error)

    def _keep(self, kept: list[Prediction], hold: Hold) -> None:
        limit, over = self.runtime.settings.keep_per_window, 0
        for row in kept:
            window = self.runtime.registry.get(row.model, row.version).window_us
            key = (row.model, row.version, row.time_us // window)
            if self._kept_count[key] >= limit and asked_with(row) is None:
                over += 1
                continue  # what labels are asked for is kept beyond the limit: the budget bounds it
            self._kept_count[key] += 1
            if not self._kept:
                self._kept_hold = hold
            self._kept.append(row)
        self.runtime.metrics.kept(len(kept) - over, over)
        if len(self._kept_count) > 10_000:
            self._kept_count.clear()

    def claim(self, offset: int) -> Hold:
        """A claim on a record that was just taken.

        Behind records that are not in the book yet the clock before it is unknown: theirs is known, and lower.
        """
        return self.queue_hold or self.hold(offset)

    def bury(self, message: Any, error: Exception, agent: str, hold: Hold | None = None) -> None:
        """Send a record to the dead letters; the frontier waits until it is there."""
        if self.sourced is not None and message.offset < self.sourced.counted:
            return  # it is there: what is read again for pairs alone would take the frontier back
        self.owe(self.runtime.bury(message, error, agent), hold or self.claim(message.offset))

    def owe(self, sending: Coroutine[Any, Any, None], hold: Hold) -> None:
        """Have something sent; the frontier waits at `hold` until it is at the broker."""
        self.owed.append((hold, asyncio.ensure_future(sending)))

    def passed(self, offset: int) -> None:
        """A record that adds nothing was dealt with."""
        self._passed = max(self._passed, offset)
        if self.queue_hold is None:
            self.book.newest_offset = max(self.book.newest_offset, offset)

    # -- settling ----------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Write what must be durable, publish what is complete, and only then move the frontier."""
        async with self._settling:
            if self._torn:
                return
            # Whoever is cancelled below, at the end of the worker, has taken out what nobody has yet.
            self._torn = True
            kept, self._kept, self._kept_hold = self._kept, [], None
            owed, self.owed = self.owed, []
            if kept:
                await self.runtime.stored(self.runtime.store.keep_predictions, _columns(kept))
                await self._ask(kept)
            for _, task in owed:
                await task
            await self._publish()
            half = None if self.sourced is None else self.sourced.hold
            holds = [h for h in (self.queue_hold, self._kept_hold, half) if h is not None]
            holds += [hold for hold, _ in self.owed]
            found = self.book.frontier(holds)
            self._frontier = found if self.sourced is None else self.sourced.committed(*found)
            self._torn = False

    async def _ask(self, kept: list[Prediction]) -> None:
        """Send the requests for labels, once the predictions they are about are in the store."""
        runtime = self.runtime
        messages = [m for row in kept if (m := label_request(row, runtime)) is not None]
        for start in range(0, len(messages), MAX_REQUESTS):
            some = messages[start : start + MAX_REQUESTS]
            await asyncio.gather(*(runtime.send(LABEL_REQUESTS, m.key, m.value, m.headers) for m in some))

    async def _publish(self) -> None:
        await self.runtime.changes_first()
        source = f"{self.tp.topic}/{self.tp.partition}"
        # One after the other: records of one key must not overtake each other in a retry.
        for item in self.book.close():
            record = profile_record(source, item)
            key, value, spans = subject_key(*item.key.subject[:2]), msgspec.msgpack.encode(record), self.runtime.spans
            shown, about = examples((), item.profile), item.key.subject
            with spans.step("ingest", self.tp.topic, shown, model=about.model, version=about.version):
                await self.runtime.send(PROFILES, key, value, spans.headers())
            if item.profile is not None:
                self.runtime.metrics.closed(self.tp.topic, 1)

    def frontier(self) -> Frontier | None:
        """Offset and clock to commit."""
        return self._frontier

    async def rest(self, idle_after: float, now_us: int) -> None:
        """Close by the wall clock what an idle partition would keep open. The cut is committed before it is made."""
        # No settling moves the frontier while the broker is waited for: what is written would take it back again.
        async with self._settling, self.adding:
            if self._torn or not self._quiet(idle_after):
                return
            cut = self.book.cut(now_us)
            if cut is None and self._idle_told:
                return  # until a window ends that was open when the partition fell silent
            if cut is not None:
                offset, clock = self._frontier
                clock = clock or Clock()
                ahead = msgspec.structs.replace(clock, cuts=[*clock.cuts, cut])
                if not await self.runtime.app.consumer.write({self.tp: (offset, ahead)}, self.generation):
                    return
                # Committed again until the windows are published: without it the cut would be forgotten.
                self._frontier = offset, ahead
                self.book.apply(cut)
        await self.settle()
        await self._tell_idle()
        self._idle_told = True

    def _quiet(self, idle_after: float) -> bool:
        """Whether nothing has come for so many seconds, and nothing is known to come."""
        return (
            time.monotonic() - self.last_record > idle_after
            and not self.queue_hold
            and self.runtime.holds(self.tp, self.generation)
            and self.runtime.app.consumer.highwater(self.tp) == self.cursor.wanted  # lower: not known yet
        )

    async def _tell_idle(self) -> None:
        source = f"{self.tp.topic}/{self.tp.partition}"
        for subject in self.book.subjects():
            length = self.runtime.registry.get(subject.model, subject.version).window_us
            start = self.book.watermark(subject) // length * length - length
            record = ProfileRecord(
                PROFILE_FORMAT, source, *subject, start, start, length, start + length, False, None, True
            )
            await self.runtime.send(PROFILES, subject_key(*subject[:2]), msgspec.msgpack.encode(record))


def _columns(rows: list[Prediction]) -> PredictionColumns:
    names = Prediction.__struct_fields__
    return PredictionColumns(**{name: [getattr(row, name) for row in rows] for name in names})


class LabelRequest(NamedTuple):
    """A record of the topic label-requests."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


def label_request(row: Prediction, runtime: Runtime) -> LabelRequest | None:
    """The CloudEvent that asks for the label of a kept prediction; its id is the same whoever asks, however often."""
    found = request_of(row, runtime.registry.get(row.model, row.version))
    if found is None:
        return None
    subject = Subject(row.model, row.version)
    name = note_id(subject, row.time_us, "label-request", row.inference_id)
    told = attributes(
        "label-request", name, group=runtime.settings.group, time=found.time, subject=row.inference_id
    )  # fmt: skip
    context = bounded({name: text for name in (PARENT, STATE) if isinstance(text := (row.extra or {}).get(name), str)})
    if context:
        told |= traced(context[PARENT], context.get(STATE, ""))
    headers = [(name, value.encode()) for name, value in told.items()]
    return LabelRequest(row.inference_id.encode(), msgspec.json.encode(found), headers)
