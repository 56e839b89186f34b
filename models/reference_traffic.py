"""The values a stream began with, kept to learn its baseline from: bounded, whatever time they span.

Values lie on units of a few ticks. Where there are too many, or too few ticks have a value, units are joined: two into
one, or as many more as the season needs, since a unit must fit it. What a unit holds is the mean of the ticks in it
that had a value.
"""

import math
from array import array
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MOST = 1_024  # units kept
FULL = 0.9  # of the units must have a value
JUDGED = 64  # units, before it is judged whether they are full
PRIMES = (2, 3, 5, 7)


class Unit(NamedTuple):
    """The mean of a unit that is over, and its number: tick // unit."""

    number: int
    mean: float


class TrafficState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything `ReferenceTraffic` is; `values` are float64, little-endian, NaN where a unit had none."""

    season: int
    version: int = 1
    unit: int = 1
    first: int = 0
    values: bytes = b""
    at: int = -1
    n: int = 0
    mean: float = 0.0
    fixed: bool = False
    frozen: bool = False


class ReferenceTraffic:
    """Collects until it is `frozen`, then only tells when a unit is over; `season` is in ticks.

    While it is `fixed`, because a detector counts on the unit, none are joined, and it freezes when it is full.

    >>> traffic = ReferenceTraffic(season=1)
    >>> for tick in range(5):
    ...     traffic.update(tick, float(tick))
    >>> traffic.values.tolist(), traffic.unit
    ([0.0, 1.0, 2.0, 3.0, 4.0], 1)
    """

    def __init__(self, season: int) -> None:
        self.season, self.unit, self.first = season, 1, 0
        self.fixed = self.frozen = False
        self._values = array("d")
        self._known = 0  # of the values are no NaN
        self._at, self._n, self._mean = -1, 0, 0.0
        self._closed: tuple[Unit, ...] = ()

    @property
    def values(self) -> Floats:
        """One value per unit since `first`, NaN where there was none; whole seasons, from the start of one."""
        whole = max(self.season // self.unit, 1)
        skipped = -self.first % whole
        return np.array(self._values[skipped:], np.float64)

    @property
    def start(self) -> int:
        """The tick at which `values` start."""
        return -(-self.first * self.unit // max(self.season, self.unit)) * max(self.season, self.unit)

    @property
    def ticks(self) -> int:
        """How many ticks the values span."""
        return len(self._values) * self.unit

    @property
    def closed(self) -> tuple[Unit, ...]:
        """Units that the last update completed: after a gap it can be two."""
        return self._closed

    def update(self, tick: int, value: float) -> None:
        """Take the value of a tick; ticks ascend. What is not finite counts as no value."""
        self._closed = ()
        if not math.isfinite(value):
            return
        if self._n and tick // self.unit != self._at // self.unit:
            self._close()
        self._at = tick
        self._n += 1
        self._mean += value / self._n - self._mean / self._n
        if tick % self.unit == self.unit - 1:
            self._close()

    def _close(self) -> None:
        unit = Unit(self._at // self.unit, self._mean)
        self._closed += (unit,)
        self._n, self._mean = 0, 0.0
        if self.frozen:
            return
        if not self._values:
            self.first = unit.number
        gap = unit.number - self.first - len(self._values)
        if gap > MOST:  # nothing for so long: what came before is another time
            self._values, self._known, self.first, gap = array("d"), 0, unit.number, 0
        self._values.extend([*[math.nan] * gap, unit.mean])
        self._known += 1
        if self.fixed:
            self.frozen = len(self._values) >= MOST
            return
        while len(self._values) > MOST or self._sparse():
            self._join()

    def _sparse(self) -> bool:
        return len(self._values) >= JUDGED and self._known < FULL * len(self._values)

    def _join(self) -> None:
        """Make units longer by the smallest factor that fits the season."""
        factor = next((p for p in PRIMES if self._fits(p * self.unit)), 0) or max(self.season // self.unit, 2)
        skipped = -self.first % factor
        kept = self._values[skipped : len(self._values) - (len(self._values) - skipped) % factor]
        groups = np.array(kept, np.float64).reshape(-1, factor)
        known = np.isfinite(groups)
        sums, n = np.where(known, groups, 0.0).sum(axis=1), known.sum(axis=1)
        self._values = array("d", np.where(n > 0, sums / np.maximum(n, 1), np.nan).tolist())
        self._known = int((n > 0).sum())
        self.first = (self.first + skipped) // factor
        self.unit *= factor

    def _fits(self, unit: int) -> bool:
        return self.season % unit == 0 or unit % self.season == 0

    @property
    def state(self) -> TrafficState:
        """What `from_state` needs; `closed` is not part of it, read it first."""
        values = np.asarray(self._values, "<f8").tobytes()
        return TrafficState(
            season=self.season, unit=self.unit, first=self.first, values=values, at=self._at, n=self._n,
            mean=self._mean, fixed=self.fixed, frozen=self.frozen,
        )  # fmt: skip

    @classmethod
    def from_state(cls, state: TrafficState) -> "ReferenceTraffic":
        """The traffic whose state this was; ValueError for a version this code does not know."""
        if state.version != 1:
            raise ValueError(f"reference traffic has version {state.version}, known is 1; start the stream afresh")
        found = cls(state.season)
        found.unit, found.first = state.unit, state.first
        found.fixed, found.frozen = state.fixed, state.frozen
        found._values = array("d", np.frombuffer(state.values, "<f8").tolist())
        found._known = sum(not math.isnan(v) for v in found._values)
        found._at, found._n, found._mean = state.at, state.n, state.mean
        return found
