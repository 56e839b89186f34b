"""A run: traffic flows, faults come one after the other, each is waited out, and at the end all must have settled."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import msgspec

from streams.event_store import EventStore
from tests.faults.checker import counted, differences
from tests.faults.nemesis import Fault
from tests.faults.rig import Rig
from tests.faults.traffic import Traffic
from tests.faults.watch import Watch

RECOVERED_WITHIN = 30.0  # seconds from healing, by the promise
PATIENCE = 90.0  # seconds after which what has not recovered is given up, and the next fault comes
FLOWING_AFTER = 3.0  # seconds of traffic before the first fault
SETTLED_WITHIN = 90.0  # seconds after the last record after which counts that still differ are a failure


class Injected(msgspec.Struct):
    """Faults that came together, and the seconds from healing until everything moved again."""

    names: list[str]
    recovery: float
    last: str = ""  # the partition that was the last


class Run(msgspec.Struct):
    """What was done to the deployment, and what became of it while it lasted."""

    injected: list[Injected] = []
    backwards: list[str] = []

    def kinds(self) -> Counter[str]:
        """How often each fault came."""
        return Counter(name for one in self.injected for name in one.names)

    def longest_of(self, name: str) -> float:
        """The longest recovery after this fault, alone or with another, in seconds."""
        return max(one.recovery for one in self.injected if name in one.names)

    def slow(self) -> list[Injected]:
        """What did not recover as promised."""
        return [one for one in self.injected if one.recovery > RECOVERED_WITHIN]

    def longest(self) -> Injected:
        """The longest recovery."""
        return max(self.injected, key=lambda one: one.recovery, default=Injected(["none"], 0.0))


Told = Callable[[Injected, Rig], None]


def play(
    rig: Rig, traffic: Traffic, us_per_second: float, plan: Iterable[list[Fault]], *, long: bool = False,
    until: float | None = None, told: Told | None = None,
) -> Run:  # fmt: skip
    """Traffic and faults together; `until` (monotonic seconds) ends both, else each ends by itself."""
    run = Run()
    with Watch(rig) as watch, tended(rig), ThreadPoolExecutor(1, "sender") as pool:
        rig.crew.start()
        rig.crew.start()
        while not all(worker.ready for worker in list(rig.crew.workers)):
            time.sleep(0.1)
        sending = pool.submit(lambda: asyncio.run(rig.sender.send(traffic, us_per_second)))
        try:
            time.sleep(FLOWING_AFTER)
            for faults in plan:
                if until is not None and time.monotonic() > until:
                    rig.sender.stop()
                    break
                run.injected.append(inject(rig, watch, faults, long))
                if told is not None:
                    told(run.injected[-1], rig)
            sending.result()
        finally:
            rig.sender.stop()  # also when a fault could not be injected
        settle(rig, watch)
        run.backwards = watch.backwards
    return run


def inject(rig: Rig, watch: Watch, faults: list[Fault], long: bool) -> Injected:
    """Begin them all, heal each after its time, and wait until everything moves again."""

    def one(fault: Fault) -> None:
        fault.begin(rig)
        time.sleep(fault.lasts[long])
        fault.heal(rig)

    with ThreadPoolExecutor(len(faults), "fault") as pool:
        list(pool.map(one, faults))
    return Injected([fault.name for fault in faults], *watch.recovery(PATIENCE))


@contextmanager
def tended(rig: Rig) -> Iterator[None]:
    """Workers that end by themselves are replaced during the block, by a thread."""
    stop = threading.Event()

    def tend() -> None:
        while not stop.wait(0.2):
            rig.crew.look_after()

    thread = threading.Thread(target=tend, name="crew", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def settle(rig: Rig, watch: Watch) -> None:
    """Wait until nothing is left to be read or written, however long that takes, within the deadline."""
    store, ends = EventStore(rig.services.store), time.monotonic() + SETTLED_WITHIN
    while time.monotonic() < ends:
        if not differences(rig.sender.expected, counted(store)) and watch.done() and not store.counts()["outbox"]:
            break
        time.sleep(0.3)
    store.close()
