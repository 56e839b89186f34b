"""When a worker counts as wedged, and when it rightly waits."""

import subprocess
import sys
import threading
import time
from pathlib import Path

from streams.watchdog import EXIT_WEDGED, Watchdog

ROOT = Path(__file__).parents[1]
AFTER = 10.0


def watched(backlog: int = 0) -> tuple[Watchdog, float]:
    """A watchdog that does not run, and the time it was last beaten."""
    dog = Watchdog(AFTER, lambda: backlog)
    return dog, time.monotonic()


def test_a_loop_that_does_not_turn_is_wedged_whatever_it_waits_for() -> None:
    dog, now = watched()
    dog.waiting = "store"
    assert dog.verdict(now + AFTER / 2) == ""
    assert "event loop has not turned for 11 s" in dog.verdict(now + AFTER + 1)
    dog.beat()
    assert dog.verdict(time.monotonic()) == ""


def test_records_that_wait_without_progress_are_a_wedge() -> None:
    dog, now = watched(backlog=5)
    dog._beat = now + 1000
    assert dog.verdict(now + AFTER / 2) == ""
    assert "5 records wait and none was worked off for 11 s" in dog.verdict(now + AFTER + 1)
    dog.progress()
    assert dog.verdict(time.monotonic()) == ""


def test_waiting_for_store_or_broker_is_no_wedge_and_the_time_starts_again_after_it() -> None:
    dog, now = watched(backlog=5)
    dog._beat = now + 1000
    dog.waiting = "store"
    assert dog.verdict(now + 3 * AFTER) == ""
    dog.waiting = ""
    assert dog.verdict(now + 3 * AFTER + AFTER / 2) == ""
    assert dog.verdict(now + 4 * AFTER + 1) != ""


def test_an_idle_worker_is_no_wedge() -> None:
    waiting = [0]
    dog = Watchdog(AFTER, lambda: waiting[0])
    now = time.monotonic()
    dog._beat = now + 1000
    assert dog.verdict(now + 5 * AFTER) == ""
    waiting[0] = 3
    assert dog.verdict(now + 5 * AFTER + 1) == ""


def test_the_thread_tells_once_and_stops() -> None:
    told, done = [], threading.Event()

    def end(reason: str) -> None:
        told.append(reason)
        done.set()

    dog = Watchdog(0.05, lambda: 1, end)
    dog.start()
    assert done.wait(10)
    dog.stop()
    assert len(told) == 1


def test_a_stopped_watchdog_ends_nothing() -> None:
    told: list[str] = []
    dog = Watchdog(0.05, lambda: 1, told.append)
    dog.stop()
    dog.start()
    for thread in threading.enumerate():
        if thread.name == "watchdog":
            thread.join(10)
    assert told == []


def test_a_wedged_process_ends_with_its_own_exit_code() -> None:
    code = "import time; from streams.watchdog import Watchdog; Watchdog(0.2, lambda: 1).start(); time.sleep(60)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == EXIT_WEDGED
    assert "worker is wedged and ends itself" in done.stderr
