"""Store and broker as the worker sees them: whether they answer, since when, and who waits for them."""

import time

STALE = 6.0  # seconds without an answer after which a service counts as away


class Service:
    """A probe says `answered` or `failed`, calls say `wait` and `done`; times are seconds since the epoch."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.since = time.time()  # since when it is as it is
        self.waits = 0  # times that a call began to wait
        self._up = True  # the worker starts only where both answer
        self._answered = time.monotonic()
        self._waiting: list[float] = []  # since when, each call that waits now
        self._waited = 0.0

    def answered(self) -> None:
        """It has just answered."""
        self._answered = time.monotonic()
        self._turn(up=True)

    def failed(self) -> None:
        """It has just refused or did not answer in time."""
        self._turn(up=False)

    def _turn(self, *, up: bool) -> None:
        if up != self._up:
            self._up, self.since = up, time.time()

    def reachable(self, now: float) -> bool:
        """Whether it answered the last time it was asked, and that was not long ago; `now` is monotonic."""
        if self._up and now - self._answered > STALE:
            self._up, self.since = False, time.time() - (now - self._answered)
        return self._up

    def wait(self) -> float:
        """A call begins to wait; hand the returned moment to `done`."""
        began = time.monotonic()
        self.waits += 1
        self._waiting.append(began)
        return began

    def done(self, began: float) -> None:
        """A call no longer waits."""
        self._waiting.remove(began)
        self._waited += time.monotonic() - began

    def away(self, now: float) -> bool:
        """Whether the worker rightly waits for it."""
        return bool(self._waiting) or not self.reachable(now)

    def waited(self, now: float) -> float:
        """Seconds that calls have waited, added up over calls, those that wait now included."""
        return self._waited + sum(now - began for began in list(self._waiting))


class Services:
    """Everything outside that the worker needs."""

    def __init__(self) -> None:
        self.store, self.broker = Service("store"), Service("broker")

    def __getitem__(self, name: str) -> Service:
        return {"store": self.store, "broker": self.broker}[name]

    def waiting(self, now: float) -> str:
        """For whom the worker waits; empty when for nobody."""
        return ", ".join(service.name for service in (self.store, self.broker) if service.away(now))
