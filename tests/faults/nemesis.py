"""What is done to a deployment: faults with a name, a beginning and an end, and seeded plans of them.

Add a fault by appending an instance to `FAULTS`. `begin` and `heal` run in a thread of their own and may block. Two
faults of different `target`s may overlap.
"""

import random
import time
from collections.abc import Iterator

from tests.faults.crew import Worker
from tests.faults.proxy import Proxy
from tests.faults.rig import Rig


class Fault:
    """`lasts`: seconds from the end of `begin` to `heal`, in the short and in the long form."""

    name: str
    target: str  # workers, broker, store, or what else no other fault may touch at the same time
    lasts: tuple[float, float] = (0.0, 0.0)

    def begin(self, rig: Rig) -> None:
        """Do it."""
        raise NotImplementedError

    def heal(self, rig: Rig) -> None:
        """Undo it; nothing where the deployment has to help itself."""


class KilledWorker(Fault):
    """The oldest one, and a new one is started."""

    name, target = "worker killed (-9)", "workers"

    def begin(self, rig: Rig) -> None:
        """Kill -9."""
        rig.crew.replace(rig.crew.workers[0])


class PausedWorker(Fault):
    """Beyond its session: another takes over, and then it comes back as a zombie."""

    name, target, lasts = "worker paused beyond its session", "workers", (8.0, 12.0)
    _paused: Worker

    def begin(self, rig: Rig) -> None:
        """SIGSTOP."""
        self._paused = rig.crew.workers[0]
        self._paused.pause()

    def heal(self, rig: Rig) -> None:
        """SIGCONT."""
        self._paused.go_on()


class RebalanceStorm(Fault):
    """A worker is added or removed every three seconds, or as soon as the added one works."""

    name, target = "rebalance storm", "workers"
    every, times, patience = 3.0, 4, 30.0  # seconds, of each, seconds

    def begin(self, rig: Rig) -> None:
        """Add one; when it works, the oldest leaves the group, or is killed, in turn."""
        for turn in range(self.times):
            began, added = time.monotonic(), rig.crew.start()
            while time.monotonic() - began < self.every or not (
                added.ready or added not in rig.crew.workers or time.monotonic() - began > self.patience
            ):
                time.sleep(0.1)
            rig.crew.remove(rig.crew.workers[0], killed=turn % 2 == 1)
            time.sleep(self.every)


class KilledBroker(Fault):
    """Kill -9 and a new start."""

    name, target, lasts = "broker killed (-9)", "broker", (1.0, 5.0)

    def begin(self, rig: Rig) -> None:
        """Kill -9."""
        rig.broker.kill()

    def heal(self, rig: Rig) -> None:
        """Start it, and wait until it answers."""
        rig.broker.start()


class RestartedBroker(KilledBroker):
    """A clean restart."""

    name, lasts = "broker restarted", (0.0, 2.0)

    def begin(self, rig: Rig) -> None:
        """Shut it down."""
        rig.broker.stop()


class StoppedStore(Fault):
    """Shut down for a while."""

    name, target, lasts = "store stopped", "store", (3.0, 30.0)

    def begin(self, rig: Rig) -> None:
        """Shut it down, clients or not."""
        rig.postgres.stop()

    def heal(self, rig: Rig) -> None:
        """Start it, and wait until it answers."""
        rig.postgres.start()


class KilledStore(StoppedStore):
    """Kill -9 and a new start."""

    name, lasts = "store killed (-9)", (0.5, 3.0)

    def begin(self, rig: Rig) -> None:
        """Kill -9."""
        rig.postgres.kill()


class Network(Fault):
    """Something is wrong between the workers and one of the services."""

    kind: str

    def __init__(self, target: str) -> None:
        self.target, self.name = target, f"{target} {self.kind}"

    def proxy(self, rig: Rig) -> Proxy:
        """The proxy in front of the service."""
        return rig.broker_proxy if self.target == "broker" else rig.store_proxy

    def heal(self, rig: Rig) -> None:
        """A good network again."""
        self.proxy(rig).heal()


class SlowNetwork(Network):
    """Latency, and little bandwidth."""

    kind, lasts = "slow", (2.0, 20.0)

    def begin(self, rig: Rig) -> None:
        """0.1 s for every piece, 1 MB/s."""
        self.proxy(rig).slow(0.1, 1e6)


class HalfOpenNetwork(Network):
    """Connections are open, and nothing comes back: nobody is told that they are dead."""

    kind, lasts = "half-open", (3.0, 15.0)

    def begin(self, rig: Rig) -> None:
        """Silence."""
        self.proxy(rig).half_open()


class ResetNetwork(Network):
    """Every connection is reset, once."""

    kind = "connections reset"

    def begin(self, rig: Rig) -> None:
        """RST."""
        self.proxy(rig).reset()


class RefusingNetwork(Network):
    """Nobody listens."""

    kind, lasts = "refusing connections", (2.0, 10.0)

    def begin(self, rig: Rig) -> None:
        """Close the port."""
        self.proxy(rig).refuse()


FAULTS: list[Fault] = [
    KilledWorker(), PausedWorker(), RebalanceStorm(), KilledBroker(), RestartedBroker(), StoppedStore(), KilledStore(),
    *(kind(target) for target in ("broker", "store")
      for kind in (SlowNetwork, HalfOpenNetwork, ResetNetwork, RefusingNetwork)),
]  # fmt: skip


def named(*names: str) -> list[Fault]:
    """The faults of these names."""
    known = {fault.name: fault for fault in FAULTS}
    return [known[name] for name in names]


def rounds(rng: random.Random, faults: list[Fault] = FAULTS, overlapping: float = 0.3) -> Iterator[list[Fault]]:
    """Endless: all faults in random order, over and over; some together with the next one, if the targets differ."""
    while True:
        order = rng.sample(faults, len(faults))
        while order:
            together = [order.pop()]
            if order and order[-1].target != together[0].target and rng.random() < overlapping:
                together.append(order.pop())
            yield together
