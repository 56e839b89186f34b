"""`status --watch`: how every model stands, again and again, in a terminal or as lines for a pipe."""

import json
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from infra import show
from models.columns import Subject
from streams.errors import StoreUnreachable
from streams.event_store import EventStore

TREND = 24  # windows
MOST_TRENDS = 100  # subjects, so that a look stays a few queries
_BARS = "▁▂▃▄▅▆▇█"
_UNKNOWN = "·"


class Trends:
    """The newest estimates of every subject: read from the store once, then kept up from the status lines."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._known: dict[Subject, deque[float | None]] = {}
        self._ends: dict[Subject, str] = {}

    def take(self, body: dict[str, Any]) -> str:
        """The trend of a subject with its newest line; empty for those beyond the limit."""
        subject = Subject(body["model"], body["version"], body.get("segment") or "")
        if subject not in self._known:
            if len(self._known) >= MOST_TRENDS:
                return ""
            found = self._store.windows(*subject)[-TREND:]
            self._known[subject] = deque([w.estimate for w in found], TREND)
        elif self._ends[subject] != body["window"]["end"]:
            self._known[subject].append(body["quality"].get("estimate"))
        self._ends[subject] = body["window"]["end"]
        return spark(self._known[subject])


def spark(values: Sequence[float | None]) -> str:
    """A line of bars from the lowest to the highest value, a dot for what is unknown.

    >>> spark([0.9, 0.95, None, 1.0])
    '▁▄·█'
    >>> spark([0.9, 0.9])
    '▄▄'
    """
    known = [v for v in values if v is not None]
    if not known:
        return _UNKNOWN * len(values)
    low, span = min(known), max(known) - min(known)
    top = len(_BARS) - 1
    middle = _BARS[top // 2]
    bars = [_UNKNOWN if v is None else _BARS[int((v - low) / span * top)] if span else middle for v in values]
    return "".join(bars)


class Watch:
    """Looks every `every` seconds until it is interrupted; while the store is away what was known stays, dated."""

    def __init__(self, store: EventStore, model: str | None, every: float) -> None:
        self._store, self._model, self._every = store, model, every
        self._trends = Trends(store)
        self._bodies: list[dict[str, Any]] = []
        self._looked: datetime | None = None
        self._away: StoreUnreachable | None = None

    def look(self) -> bool:
        """Ask the store; whether anything is new."""
        try:
            bodies = [event.body for event in self._store.latest_status(self._model)]
            trends = [self._trends.take(body) for body in bodies]
        except StoreUnreachable as error:
            new, self._away = self._away is None, error
            return new
        shown = [{**body, "trend": trend} for body, trend in zip(bodies, trends, strict=True)]
        new = self._away is not None or self._looked is None or shown != self._bodies
        self._bodies, self._looked, self._away = shown, datetime.now(UTC), None
        return new

    def screen(self) -> Group:
        """What a terminal shows."""
        known = "never" if self._looked is None else f"{self._looked:%H:%M:%S} UTC"
        head = Text(f"bestbefore status, {known}, every {self._every:g} s, Ctrl-C ends", style="dim")
        if self._away is not None:
            head = Text(f"NOT CURRENT: as of {known}. {self._away}", style="bold red")
        if not self._bodies and self._away is None:
            return Group(head, Text(show.NOTHING_YET))
        return Group(head, show.status(self._bodies)[1])

    def in_terminal(self, console: Console) -> None:
        """Until Ctrl-C; the last screen stays."""
        with Live(self.screen(), console=console, auto_refresh=False) as live:
            self._repeat(lambda: live.update(self.screen(), refresh=True), always=True)

    def as_lines(self, out: TextIO) -> None:
        """For a pipe: one JSON line for each status that is new, by model, version, segment and window."""
        seen: dict[Subject, str] = {}

        def tell() -> None:
            for body in self._bodies:
                subject = Subject(body["model"], body["version"], body.get("segment") or "")
                line = json.dumps({k: v for k, v in body.items() if k != "trend"}, default=str)
                if seen.get(subject) != line:
                    seen[subject] = line
                    out.write(line + "\n")
            out.flush()
            if self._away is not None:
                sys.stderr.write(f"bestbefore: {self._away}; trying again\n")

        self._repeat(tell, always=False)

    def _repeat(self, tell: Callable[[], None], *, always: bool) -> None:
        """Until Ctrl-C. The first only asks for the end, so that it is not lost in a driver's callback."""
        stop = threading.Event()

        def end(*_: object) -> None:
            stop.set()
            signal.signal(signal.SIGINT, signal.default_int_handler)

        before = signal.signal(signal.SIGINT, end)
        try:
            while not stop.is_set():
                if self.look() or always:
                    tell()
                stop.wait(self._every)
        except KeyboardInterrupt:
            pass  # the second one: the store did not answer
        finally:
            signal.signal(signal.SIGINT, before)
