"""How far each partition has come, kept while records are taken and looked at from other threads.

The event loop writes, once a second it takes a `Snapshot`; web pages and metrics read only that. The watchdog asks for
the signs of what stands still.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from faust.types import TP

from models.window_book import NEVER, WindowBook
from streams.watchdog import Sign

TIMER_PATIENCE = 5.0  # times `watchdog_after`: one round of a timer may hold several waits for labels


class Seen(NamedTuple):
    """One partition at the moment of a snapshot; times in microseconds since the epoch, ages from `monotonic`."""

    topic: str
    partition: int
    wanted: int
    end: int
    committed: int
    uncommitted_since: float | None  # monotonic; None: all that may be committed is
    event_us: int | None = None  # newest credible event time
    received_us: int | None = None  # the broker's stamp on the newest record taken
    watermark_us: int | None = None
    windows: int = 0

    @property
    def lag(self) -> int:
        """Records that wait at the broker, as far as is known."""
        return max(self.end - self.wanted, 0)


class Snapshot(NamedTuple):
    """What was so at `at` (monotonic); `assigned` is whether the group has given this worker its share."""

    at: float
    assigned: bool
    partitions: tuple[Seen, ...] = ()


class Progress:
    """`end_of` and `pending_of` tell the end of a partition, and since when a commit of it is due."""

    def __init__(self, end_of: Callable[[TP], int], pending_of: Callable[[TP], float | None]) -> None:
        self._end_of, self._pending_of = end_of, pending_of
        self.wanted: dict[TP, int] = {}  # next offset wanted
        self._moved: dict[TP, float] = {}
        self._received: dict[TP, int] = {}
        self._started: dict[TP, int] = {}
        self._books: dict[TP, WindowBook] = {}
        self._absent: dict[str, float] = {}  # agents that are not reading, since when
        self._rounds: dict[str, float] = {}  # timers, when they last came round
        self._calls: dict[object, tuple[str, float]] = {}  # calls of the store that have not returned, since when
        self.snapshot = Snapshot(time.monotonic(), assigned=False)

    # -- the event loop tells ------------------------------------------------------------------------------

    def opened(self, tp: TP, start: int, book: WindowBook | None = None) -> None:
        """This worker reads a partition from `start`."""
        self._moved[tp] = time.monotonic()
        self.wanted[tp] = self._started[tp] = start
        if book is not None:
            self._books[tp] = book

    def taken(self, tp: TP, wanted: int, received_us: int | None = None) -> None:
        """A record was worked off; the next one wanted is `wanted`."""
        self._moved[tp] = time.monotonic()
        self.wanted[tp] = wanted
        if received_us is not None:
            self._received[tp] = received_us

    def lost(self, tp: TP) -> None:
        """The partition belongs to another worker."""
        for table in (self.wanted, self._moved, self._received, self._started, self._books):
            table.pop(tp, None)

    def alive(self, topic: str, agent: str) -> None:
        """An agent rightly waits for something of its own: nothing of it counts as standing still."""
        now = time.monotonic()
        self._moved.update(dict.fromkeys((tp for tp in self.wanted if tp.topic == topic), now))
        self._rounds.update(dict.fromkeys((name for name in self._rounds if name.startswith(f"{agent}.")), now))

    def reading(self, agent: str) -> None:
        """The agent's loop over its records has begun."""
        self._absent.pop(agent, None)

    def absent(self, agent: str) -> None:
        """The agent does not read, not yet or not any more."""
        self._absent.setdefault(agent, time.monotonic())

    def round(self, timer: str) -> None:
        """A timer, `agent.name`, or the consumer's thread has come round."""
        self._rounds[timer] = time.monotonic()

    @contextmanager
    def calling(self, name: str) -> Iterator[None]:
        """While the block lasts a call of the store is on its way."""
        mark = object()
        self._calls[mark] = name, time.monotonic()
        try:
            yield
        finally:
            del self._calls[mark]

    # -- others look ---------------------------------------------------------------------------------------

    def signs(self, now: float) -> Iterator[Sign]:
        """What may stand still; called in other threads."""
        for tp, wanted in list(self.wanted.items()):
            lag = self._end_of(tp) - wanted
            if lag > 0:
                told = f"{tp.topic}[{tp.partition}]: {lag} records wait and none was worked off for {{}}"
                yield Sign(self._moved.get(tp, now), told)
            elif tp in self._moved:
                self._moved[tp] = now
            pending = self._pending_of(tp)
            if pending is not None:
                yield Sign(pending, f"{tp.topic}[{tp.partition}]: offsets are due and were not committed for {{}}")
        for name, since in list(self._calls.values()):
            yield Sign(since, f"the call {name} of the store has not returned for {{}}")
        for agent, since in list(self._absent.items()):
            yield Sign(since, f"agent {agent} has not been reading for {{}}")
        for timer, since in list(self._rounds.items()):
            yield Sign(since, f"{timer} has not come round for {{}}", TIMER_PATIENCE if "." in timer else 1.0)

    def look(self, *, assigned: bool, lateness_us: int, committed: Callable[[TP], int | None]) -> None:
        """Take a snapshot; `lateness_us` is the longest of any model, so the watermark is told of all of them."""
        found = [self._seen(tp, lateness_us, committed(tp)) for tp in sorted(self.wanted)]
        self.snapshot = Snapshot(time.monotonic(), assigned, tuple(found))

    def _seen(self, tp: TP, lateness_us: int, committed: int | None) -> Seen:
        book = self._books.get(tp)
        event = None if book is None or book.clock.newest == NEVER else book.clock.newest
        mark = NEVER if book is None else max(book.clock.newest - lateness_us, book.clock.cut)
        return Seen(
            topic=tp.topic, partition=tp.partition, wanted=self.wanted[tp], end=self._end_of(tp),
            committed=self._started[tp] if committed is None else committed, uncommitted_since=self._pending_of(tp),
            event_us=event, received_us=self._received.get(tp), watermark_us=mark if mark > NEVER // 2 else None,
            windows=0 if book is None else len(book),
        )  # fmt: skip
