"""When a worker counts as wedged, and when it rightly waits."""

import subprocess
import sys
import threading
import time
from pathlib import Path

from faust.types import TP

from streams.progress import TIMER_PATIENCE, Progress
from streams.services import STALE, Service, Services
from streams.watchdog import EXIT_WEDGED, Sign, Watchdog

ROOT = Path(__file__).parents[1]
AFTER = 10.0
ONE, TWO = TP("inference", 0), TP("inference", 1)


class Rig:
    """A watchdog that does not run, over partitions that a test moves; its time is that of the test."""

    def __init__(self) -> None:
        self.ends: dict[TP, int] = {}
        self.due: dict[TP, float] = {}
        self.waits = ""
        self.progress = Progress(lambda tp: self.ends.get(tp, 0), self.due.get)
        self.dog = Watchdog(AFTER, self.progress.signs, lambda _: self.waits)
        self.now = time.monotonic()

    def later(self, seconds: float) -> str:
        """The verdict after some time in which the event loop has turned."""
        self.now += seconds
        self.dog._beat = self.now
        return self.dog.verdict(self.now)

    def taken(self, tp: TP, wanted: int) -> None:
        """A record of a partition is worked off, at the time of the test."""
        self.progress.taken(tp, wanted)
        self.progress._moved[tp] = self.now


def test_a_loop_that_does_not_turn_is_wedged_whatever_it_waits_for() -> None:
    rig = Rig()
    rig.waits = "store"
    assert rig.dog.verdict(rig.now + AFTER / 2) == ""
    assert "event loop has not turned for 11 s" in rig.dog.verdict(rig.now + AFTER + 1)
    rig.dog.beat()
    assert rig.dog.verdict(time.monotonic()) == ""


def test_one_partition_that_stands_while_others_move_is_a_wedge() -> None:
    rig = Rig()
    for tp in (ONE, TWO):
        rig.progress.opened(tp, 5)
        rig.ends[tp] = 9
    for wanted in range(6, 10):
        rig.taken(TWO, wanted)
        said = rig.later(AFTER * 0.3)
        assert ("inference[0]: 4 records wait and none was worked off" in said) == (wanted == 9), said
    rig.taken(ONE, 6)
    assert rig.later(1) == ""


def test_a_partition_without_records_does_not_stand_still() -> None:
    rig = Rig()
    rig.progress.opened(ONE, 5)
    rig.ends[ONE] = 5
    assert rig.later(5 * AFTER) == ""
    rig.ends[ONE] = 8
    assert rig.later(AFTER - 1) == ""
    assert "3 records wait" in rig.later(2)
    rig.progress.lost(ONE)
    assert rig.later(AFTER) == ""


def test_waiting_for_store_or_broker_is_no_wedge_and_the_time_starts_again_after_it() -> None:
    rig = Rig()
    rig.progress.opened(ONE, 5)
    rig.ends[ONE] = 8
    rig.waits = "store"
    assert rig.later(3 * AFTER) == ""
    rig.waits = ""
    assert rig.later(AFTER / 2) == ""
    assert rig.later(AFTER) != ""


def test_an_agent_that_waits_for_something_of_its_own_is_alive() -> None:
    rig = Rig()
    rig.progress.opened(ONE, 5)
    rig.ends[ONE] = 8
    rig.progress.round("ingest.flush")
    assert "records wait" in rig.later(AFTER + 1)
    rig.now = time.monotonic()
    rig.progress.alive("inference", "ingest")
    assert rig.later(AFTER - 1) == ""


def test_offsets_that_are_due_and_not_committed_are_a_wedge() -> None:
    rig = Rig()
    rig.progress.opened(ONE, 5)
    rig.due[ONE] = rig.now
    assert rig.later(AFTER - 1) == ""
    assert "inference[0]: offsets are due and were not committed for 11 s" in rig.later(2)
    del rig.due[ONE]
    assert rig.later(AFTER) == ""


def test_a_call_of_the_store_that_does_not_return_is_a_wedge() -> None:
    """Also where all records were taken and none waits at the broker."""
    rig = Rig()
    with rig.progress.calling("add_labels"):
        assert rig.later(AFTER - 1) == ""
        assert "the call add_labels of the store has not returned for" in rig.later(3)
    assert rig.later(AFTER) == ""


def test_an_agent_that_stopped_silently_is_a_wedge() -> None:
    rig = Rig()
    rig.progress.absent("label")
    assert "agent label has not been reading for" in rig.later(AFTER + 1)
    rig.progress.reading("label")
    assert rig.later(AFTER) == ""


def test_a_timer_that_does_not_come_round_is_a_wedge_after_a_while() -> None:
    rig = Rig()
    rig.progress.round("label.tick")
    assert rig.later(AFTER * TIMER_PATIENCE - 1) == ""
    assert "label.tick has not come round for" in rig.later(2)


def test_a_service_is_away_while_a_call_waits_or_nobody_has_had_an_answer() -> None:
    services, now = Services(), time.monotonic()
    assert services.waiting(now) == ""
    began = services.store.wait()
    assert services.waiting(now) == "store"
    assert services.store.waited(began + 3.0) == 3.0
    services.store.done(began)
    assert services.waiting(now) == ""
    services.broker.failed()
    assert services.waiting(now) == "broker"
    services.broker.answered()
    assert services.waiting(time.monotonic()) == ""
    hung = Service("store")
    assert hung.reachable(now)
    assert not hung.reachable(time.monotonic() + STALE + 1)


def test_two_calls_that_wait_are_waited_for_until_both_are_answered() -> None:
    """The answer to one call says nothing of another, which is why each is counted."""
    service = Service("broker")
    one, two = service.wait(), service.wait()
    service.done(two)
    assert service.away(time.monotonic())
    service.done(one)
    assert not service.away(time.monotonic())
    assert service.waits == 2


def stands(now: float) -> list[Sign]:
    """Something that has never moved."""
    return [Sign(now - 1000, "nothing moved for {}", excused=False)]


def test_the_thread_tells_once_and_stops() -> None:
    told, done = [], threading.Event()

    def end(reason: str) -> None:
        told.append(reason)
        done.set()

    dog = Watchdog(0.05, stands, end=end)
    dog.start()
    assert done.wait(10)
    dog.stop()
    assert len(told) == 1


def test_a_stopped_watchdog_ends_nothing() -> None:
    told: list[str] = []
    dog = Watchdog(0.05, stands, end=told.append)
    dog.stop()
    dog.start()
    for thread in threading.enumerate():
        if thread.name == "watchdog":
            thread.join(10)
    assert told == []


def test_a_wedged_process_ends_with_its_own_exit_code() -> None:
    code = (
        "import time; from streams.watchdog import Sign, Watchdog; "
        "Watchdog(0.2, lambda now: [Sign(0, 'stood for {}', excused=False)]).start(); time.sleep(60)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == EXIT_WEDGED
    assert "worker is wedged and ends itself" in done.stderr
