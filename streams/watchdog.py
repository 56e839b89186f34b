"""Ends a worker that has work and makes no progress, so that another one takes its partitions over.

A thread of its own, because a wedged event loop could not tell of itself. What is watched is a list of signs, each with
the moment since which nothing has moved: the event loop, each partition with records that wait, each that cannot
commit, each agent and timer. Waiting for the store or the broker is no wedge, and the time starts again after it.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

log = logging.getLogger(__name__)
EXIT_WEDGED = 70  # EX_SOFTWARE of sysexits.h


class Sign(NamedTuple):
    """Something that has not moved since `since` (monotonic); `told` says so, with the seconds to be filled in.

    `patience` is how many times longer than usual it may stand; `excused` whether store or broker may be the cause.
    """

    since: float
    told: str
    patience: float = 1.0
    excused: bool = True


def no_signs(now: float) -> list[Sign]:  # noqa: ARG001 -- one of `signs`
    """Nothing but the event loop is watched."""
    return []


def not_waiting(now: float) -> str:  # noqa: ARG001 -- one of `waiting`
    """Nobody is waited for."""
    return ""


def _end(reason: str) -> None:
    log.critical("worker is wedged and ends itself: %s", reason)
    logging.shutdown()
    os._exit(EXIT_WEDGED)


class Watchdog:
    """Call `beat` from the event loop.

    `signs(now)` lists what may stand still, `waiting(now)` says for whom the worker rightly waits, if for anybody, and
    `end` is what happens to a wedged worker. All three are called in the watchdog's thread, `verdict` also in others.
    """

    def __init__(
        self,
        after: float,
        signs: Callable[[float], Iterable[Sign]] = no_signs,
        waiting: Callable[[float], str] = not_waiting,
        end: Callable[[str], None] = _end,
    ) -> None:
        self.after, self._signs, self._waiting, self._end = after, signs, waiting, end
        self._beat = self._excused = time.monotonic()
        self._stop = threading.Event()

    def start(self) -> None:
        """Begin to watch."""
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Stop watching."""
        self._stop.set()

    def beat(self) -> None:
        """The event loop turns."""
        self._beat = time.monotonic()

    def turns(self, now: float) -> bool:
        """Whether the event loop has turned of late."""
        return now - self._beat <= self.after

    def _watch(self) -> None:
        while not self._stop.wait(self.after / 8):
            reason = self.verdict(time.monotonic())
            if reason and not self._stop.is_set():
                self._end(reason)
                return

    def verdict(self, now: float) -> str:
        """Why the worker is wedged; empty when it is not."""
        if not self.turns(now):
            return f"the event loop has not turned for {now - self._beat:.0f} s"
        if self._waiting(now):
            self._excused = now
        for sign in self._signs(now):
            stands = now - (max(sign.since, self._excused) if sign.excused else sign.since)
            if stands > sign.patience * self.after:
                return sign.told.format(f"{stands:.0f} s")
        return ""
