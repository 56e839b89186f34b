"""The end of a worker that was asked to stop: within ten seconds, whatever store, broker or event loop are doing."""

import logging
import os
import signal
import threading
import time
from typing import Any

import faust

from streams.app import App
from streams.runtime import EXIT_BROKEN, Runtime
from streams.watchdog import EXIT_WEDGED

log = logging.getLogger(__name__)
# Seconds for an end in good order, and for one while store or broker are away; whoever asked may kill after ten.
STOP_PATIENCE, AWAY_PATIENCE = 8.0, 3.0


class Deadline:
    """Ends the process when stopping takes too long: while the broker is away Faust would wait for its consumer."""

    def __init__(self, app: App, runtime: Runtime) -> None:
        self._app, self._runtime = app, runtime
        self._asked = threading.Event()
        threading.Thread(target=self._watch, name="end", daemon=True).start()

    def asked(self, *_: Any) -> None:
        """A signal asks the worker to stop; called in the main thread, also while its event loop stands."""
        self._asked.set()

    def _watch(self) -> None:
        while not self._asked.wait(0.2) and not self._app.should_stop:
            pass
        self._runtime.watchdog.stop()
        stood = not self._runtime.watchdog.turns(time.monotonic())
        waiting = self._patience()
        log.warning(
            "ends without having let go of everything%s; what is not committed is read again",
            f": waiting for {waiting}" if waiting else "",
        )  # fmt: skip
        logging.shutdown()
        # Nothing is lost, so whoever asked gets what was asked for; a loop that stood before is a wedge all the same.
        # Where nobody asked the worker had broken down.
        os._exit(EXIT_WEDGED if stood else 0 if self._asked.is_set() else EXIT_BROKEN)

    def _patience(self) -> str:
        """Give the worker its time; returns for whom it waits at the end of it."""
        began = time.monotonic()
        while True:
            time.sleep(0.1)
            now = time.monotonic()
            waiting = self._runtime.services.waiting(now)
            if now - began > (AWAY_PATIENCE if waiting else STOP_PATIENCE):
                return waiting


class Worker(faust.Worker):
    """Faust's worker, whose signals also reach the deadline when its event loop stands."""

    def __init__(self, app: App, deadline: Deadline, **given: Any) -> None:
        super().__init__(app, **given)
        self._deadline = deadline

    def install_signal_handlers(self) -> None:
        """The event loop hears of a signal through its wake-up pipe, whichever Python function is called for it."""
        super().install_signal_handlers()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._deadline.asked)
