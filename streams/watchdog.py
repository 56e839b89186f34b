"""Ends a worker that has work and makes no progress, so that another one takes its partitions over.

A thread of its own, because a wedged event loop could not tell of itself. Waiting for the store or the broker is no
wedge: whoever waits says so through `waiting`.
"""

import logging
import os
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)
EXIT_WEDGED = 70  # EX_SOFTWARE of sysexits.h


def _end(reason: str) -> None:
    log.critical("worker is wedged and ends itself: %s", reason)
    logging.shutdown()
    os._exit(EXIT_WEDGED)


class Watchdog:
    """Call `beat` from the event loop and `progress` when records were worked off.

    `backlog` counts records that wait; `end` is what happens to a wedged worker.
    """

    def __init__(self, after: float, backlog: Callable[[], int], end: Callable[[str], None] = _end) -> None:
        self._after, self._backlog, self._end = after, backlog, end
        self._beat = self._moved = time.monotonic()
        self._stop = threading.Event()
        self.waiting = ""  # for whom the worker rightly waits

    def start(self) -> None:
        """Begin to watch."""
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Stop watching."""
        self._stop.set()

    def beat(self) -> None:
        """The event loop turns."""
        self._beat = time.monotonic()

    def progress(self) -> None:
        """Records were worked off."""
        self._moved = time.monotonic()

    def _watch(self) -> None:
        while not self._stop.wait(self._after / 8):
            reason = self.verdict(time.monotonic())
            if reason:
                self._end(reason)
                return

    def verdict(self, now: float) -> str:
        """Why the worker is wedged; empty when it is not."""
        if now - self._beat > self._after:
            return f"the event loop has not turned for {now - self._beat:.0f} s"
        if self.waiting:
            self._moved = now
            return ""
        backlog = self._backlog()
        if not backlog:
            self._moved = now
        elif now - self._moved > self._after:
            return f"{backlog} records wait and none was worked off for {now - self._moved:.0f} s"
        return ""
