"""Recorders and the process they live in: a fork gives the child recorders of its own, an exit sends what waits."""

from __future__ import annotations

import atexit
import logging
import os
import time
import weakref
from typing import Any, Protocol

log = logging.getLogger("bestbefore_client")

AT_EXIT = 0.9  # seconds, for all recorders together; with what ends a thread, less than one


class Forkable(Protocol):
    """What a recorder does for its process."""

    def begin_close(self, deadline: float) -> None:
        """Refuse more and begin to send what waits, until `deadline` of `time.monotonic()`."""
        ...

    def close(self, timeout: float) -> bool:
        """Wait for it, at most `timeout` seconds."""
        ...

    def start_afresh(self) -> Any:
        """In a forked child: begin empty, with locks of its own; give what must never be touched again."""
        ...


class _Process:
    """The recorders of this process. One object for all, because a process forks once for all and exits once."""

    def __init__(self) -> None:
        self.recorders: weakref.WeakSet[Forkable] = weakref.WeakSet()
        self.of_parents: list[Any] = []
        self.hooked = False

    def hook(self) -> None:
        """Ask to be told, once: hooks at a fork cannot be taken back."""
        if not self.hooked:
            self.hooked = True
            atexit.register(self.at_exit)
            if hasattr(os, "register_at_fork"):
                os.register_at_fork(after_in_child=self.in_child)

    def in_child(self) -> None:
        """Begin anew: no lock of the parent is touched, another thread may have held it."""
        # Kept, not closed: destructors would wait for threads that only the parent has, and sockets are shared.
        self.of_parents += [recorder.start_afresh() for recorder in list(self.recorders)]

    def at_exit(self) -> None:
        """Give all recorders the same second."""
        recorders, deadline = list(self.recorders), time.monotonic() + AT_EXIT
        for recorder in recorders:
            recorder.begin_close(deadline)
        whole = [recorder.close(max(0.0, deadline - time.monotonic())) for recorder in recorders]
        if not all(whole):
            log.warning("the process ended before the recorder had sent everything; close() recorders to wait longer")


_process = _Process()


def watch(recorder: Forkable) -> None:
    """Look after a recorder until it is closed or forgotten."""
    _process.hook()
    _process.recorders.add(recorder)


def forget(recorder: Forkable) -> None:
    """Look after it no longer."""
    _process.recorders.discard(recorder)
