"""Working beside a server: the interpreter lock is let go in short pieces.

CPython takes the lock from a thread that computes only after 5 ms, which a waiting request would feel.
"""

from __future__ import annotations

import time

_LONGEST = 200e-6  # seconds of work at a stretch
_PAUSE = 20e-6  # a real sleep: one of zero seconds would take the lock again at once


class Courtesy:
    """Called between small steps, it sleeps for a moment when the last moment was long ago."""

    def __init__(self) -> None:
        self._since = 0.0

    def __call__(self) -> None:
        """Let others run, if this thread has worked for 200 microseconds."""
        if time.perf_counter() - self._since > _LONGEST:
            time.sleep(_PAUSE)
            self._since = time.perf_counter()
