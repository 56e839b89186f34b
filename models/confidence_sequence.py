"""Intervals for a mean that hold at every moment at once, so that one may look after each label and stop at will.

`ConfidenceSequence` bets against every candidate mean (Waudby-Smith and Ramdas 2024, arXiv:2010.09686): a gambler whose
fortune grows only if the candidate is wrong. It asks that the mean be the same for all observations of a span.
`MovingMean` needs no such thing: it bounds the average of changing means, and is wider.
"""

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
VERSION = 1
STAKE = 0.9  # share of the fortune a bet may lose at most
BETS = np.geomspace(0.02, 3.0, 24)  # of `MovingMean`, per unit of the observations
PRIOR = 20.0  # observations that the variance expected beforehand counts for


class SequenceState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a confidence sequence is: two log fortunes per candidate, and the moments that set the bets."""

    version: int = VERSION
    low: float
    high: float
    alpha: float
    horizon: int
    variance: float
    above: tuple[float, ...]
    below: tuple[float, ...]
    n: int = 0
    mean: float = 0.0
    squares: float = 0.0
    cubes: float = 0.0
    first: int = 0
    last: int
    skipped: int = 0


class ConfidenceSequence:
    """Time-uniform interval for the mean in [low, high] of bounded observations with one and the same mean.

    Observations may lie outside of [low, high]: `update` is told the bounds of each. `alpha` is the level the bets aim
    at (any level may be read), `horizon` the number of observations up to which they are as sharp as they can be, and
    `variance` a first guess. Candidates lie (high - low) / cells apart; the interval is rounded outwards to them.

    When what was rejected at one time or another leaves nothing, the mean has changed within the span and there is no
    interval: start a new span, or read a `MovingMean`. A smaller change may go unnoticed and make it too narrow.

    >>> sequence = ConfidenceSequence()
    >>> for label in [1, 1, 1, 0, 1, 1, 1, 1, 1, 1] * 20:
    ...     sequence.update(label)
    >>> low, high = sequence.interval()
    >>> round(low, 2), round(high, 2)
    (0.83, 0.95)
    """

    def __init__(
        self,
        low: float = 0.0,
        high: float = 1.0,
        *,
        alpha: float = 0.05,
        cells: int = 1000,
        horizon: int = 300,
        variance: float = 0.1,
    ) -> None:
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"a mean between {low} and {high} cannot be bounded; give finite low < high")
        if not 0 < alpha < 1 or cells < 2 or horizon < 1 or not 0 < variance < math.inf:
            raise ValueError(f"alpha {alpha}, cells {cells}, horizon {horizon}, variance {variance}: out of range")
        self.low, self.high, self.alpha = low, high, alpha
        self._horizon, self._variance = horizon, variance
        self._candidates = np.linspace(low, high, cells + 1)
        self._above, self._below = np.zeros(cells + 1), np.zeros(cells + 1)
        self._first, self._last = 0, cells  # candidates that bound what was never rejected
        self._n, self._skipped = 0, 0
        self._mean = self._squares = self._cubes = 0.0
        self._bounds: tuple[float, float] | None = None  # of the last observation, and the largest bets they allow
        self._caps: tuple[Floats, ...] = ()

    @property
    def n(self) -> int:
        """Observations that were used."""
        return self._n

    @property
    def skipped(self) -> int:
        """Observations that were not numbers and therefore left out."""
        return self._skipped

    @property
    def mean(self) -> float | None:
        """Their plain mean."""
        return self._mean if self._n else None

    def update(
        self, x: float, low: float | None = None, high: float | None = None, *, most: float | None = None
    ) -> None:
        """Take one observation known beforehand to lie in [low, high], by default the bounds of the mean.

        With `most` all that is known of it is that it lies between `x` and `most`; it then counts as `x` against low
        candidates and as `most` against high ones. Raises ValueError when it lies outside of its bounds, because the
        promise would be void. NaN is counted and left out.
        """
        low, high = self.low if low is None else low, self.high if high is None else high
        most = x if most is None else most
        if not (math.isfinite(x) and math.isfinite(most)):
            self._skipped += 1
            return
        _within(x, most, low, high)
        for_above, for_below = self._bets()
        if self._bounds != (low, high):  # the same for all observations of a cohort
            self._bounds = (low, high)
            with np.errstate(divide="ignore"):
                self._caps = tuple(
                    STAKE / np.maximum(room, 0) for room in (self._candidates - low, high - self._candidates)
                )
        up, down = np.minimum(for_above, self._caps[0]), np.minimum(for_below, self._caps[1])
        self._above += np.log1p(np.maximum(up * (x - self._candidates), -STAKE))
        self._below += np.log1p(np.maximum(down * (self._candidates - most), -STAKE))
        self._learn((x + most) / 2)
        first, last = self._ends(math.log(2 / self.alpha))
        self._first, self._last = max(first, self._first), min(last, self._last)

    def interval(self, alpha: float | None = None) -> tuple[float, float] | None:
        """The interval at level 1 - `alpha`, or None where no single mean agrees with what was seen.

        It is what the last observation left: to keep all that was ever rejected would be narrower, and allowed while
        the mean is the same, but far from the truth after a small change of it.
        """
        if self._first > self._last:
            return None
        first, last = self._ends(math.log(2 / (self.alpha if alpha is None else alpha)))
        return (float(self._candidates[first]), float(self._candidates[last])) if first <= last else None

    @property
    def state(self) -> SequenceState:
        """What `from_state` needs to go on exactly where this one stands."""
        return SequenceState(
            low=self.low,
            high=self.high,
            alpha=self.alpha,
            horizon=self._horizon,
            variance=self._variance,
            above=tuple(self._above.tolist()),
            below=tuple(self._below.tolist()),
            n=self._n,
            mean=self._mean,
            squares=self._squares,
            cubes=self._cubes,
            first=self._first,
            last=self._last,
            skipped=self._skipped,
        )

    @classmethod
    def from_state(cls, state: SequenceState) -> "ConfidenceSequence":
        """The sequence whose state this was; ValueError for a version this code does not know."""
        _known(state.version, "confidence sequence")
        found = cls(
            state.low,
            state.high,
            alpha=state.alpha,
            cells=len(state.above) - 1,
            horizon=state.horizon,
            variance=state.variance,
        )
        found._above, found._below = np.array(state.above), np.array(state.below)
        found._n, found._skipped = state.n, state.skipped
        found._first, found._last = state.first, state.last
        found._mean, found._squares, found._cubes = state.mean, state.squares, state.cubes
        return found

    def _ends(self, limit: float) -> tuple[int, int]:
        """Places of the last candidates rejected on either side, each with half of alpha.

        The fortune that bets on "above" falls along the candidates and the other rises, so these bound all that lies
        between two candidates, too.
        """
        first = int(np.searchsorted(-self._above, -limit, side="right")) - 1
        last = int(np.searchsorted(self._below, limit, side="left"))
        return max(first, 0), min(last, len(self._candidates) - 1)

    def _learn(self, x: float) -> None:
        """Running mean and central moments (Welford's recursion, and its like for cubes)."""
        self._n += 1
        step = (x - self._mean) / self._n
        square = step * step * self._n * (self._n - 1)
        self._cubes += square * step * (self._n - 2) - 3 * step * self._squares
        self._squares += square
        self._mean += step

    def _bets(self) -> tuple[float, float]:
        """Best at `horizon` observations for the variance seen, and falling as sqrt(1 / (n log n)) beyond it.

        A side whose losses are rarer but larger than its gains bets less: with c the third central moment against it,
        its reach log(2 / alpha) / (n l) + l variance / 2 + l^2 c / 3 is least where l^2 (variance / 2 + 2 c l / 3) =
        log(2 / alpha) / n.
        """
        n = self._n + PRIOR
        variance, skew = (self._squares + PRIOR * self._variance) / n, self._cubes / n
        ahead = max(self._n + 1, self._horizon)
        target = math.log(2 / self.alpha) / (ahead * (1 + math.log(ahead / self._horizon)))
        return _least(target, variance, max(-skew, 0.0)), _least(target, variance, max(skew, 0.0))


def _least(target: float, variance: float, against: float) -> float:
    """Solve l^2 (variance / 2 + 2 against l / 3) = target by Newton's steps from above, where it is convex."""
    bet = math.sqrt(2 * target / variance)
    if against > 0:
        for _ in range(6):
            value = bet * bet * (variance / 2 + 2 * against * bet / 3) - target
            bet -= value / (bet * (variance + 2 * against * bet))
    return bet


class MovingMeanState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a `MovingMean` is: what each of its bets has paid for the spread, and two sums."""

    version: int = VERSION
    low: float
    high: float
    alpha: float
    paid: tuple[float, ...]
    n: int = 0
    least: float = 0.0
    most: float = 0.0
    skipped: int = 0


class MovingMean:
    """Time-uniform interval for the plain average of means that may change from one observation to the next.

    Bets that never change, mixed: for each l in BETS, exp(l (sum of x - mean) - psi(l) (sum of squared surprises)) is
    a supermartingale whatever the means do, psi(l) = (-ln(1 - c l) - c l) / c^2 for a range c. State: one number per
    bet. Source: empirical Bernstein bounds of Howard et al. 2021, arXiv:1810.08240, section 4.2.
    """

    def __init__(self, low: float = 0.0, high: float = 1.0, *, alpha: float = 0.05) -> None:
        if not (math.isfinite(low) and math.isfinite(high) and low < high and 0 < alpha < 1):
            raise ValueError(f"low {low}, high {high}, alpha {alpha}: finite low < high and 0 < alpha < 1 are needed")
        self.low, self.high, self.alpha = low, high, alpha
        self._paid = np.zeros(len(BETS))
        self._n, self._skipped = 0, 0
        self._least = self._most = 0.0
        self._width, self._price = math.nan, np.zeros(len(BETS))  # of the last observation, and what spread costs

    @property
    def n(self) -> int:
        """Observations that were used."""
        return self._n

    def update(
        self, x: float, low: float | None = None, high: float | None = None, *, most: float | None = None
    ) -> None:
        """Take one observation; bounds, `most`, NaN and errors as for `ConfidenceSequence.update`."""
        low, high = self.low if low is None else low, self.high if high is None else high
        most = x if most is None else most
        if not (math.isfinite(x) and math.isfinite(most)):
            self._skipped += 1
            return
        _within(x, most, low, high)
        expected = ((self._least + self._most) / 2 + (self.low + self.high) / 2) / (self._n + 1)
        expected = min(max(expected, low), high)
        if self._width != high - low:  # the same for all observations of a cohort
            self._width = high - low
            risk = np.minimum(self._width * BETS, 1.0)
            with np.errstate(divide="ignore"):  # a bet that could lose all has paid everything, and is out for good
                self._price = (-np.log1p(-risk) - risk) / self._width**2
        self._paid = self._paid + self._price * max((x - expected) ** 2, (most - expected) ** 2, 1e-12)
        self._n += 1
        self._least += x
        self._most += most

    def interval(self) -> tuple[float, float]:
        """The interval at level 1 - alpha for the average so far; the whole range before the first observation."""
        if not self._n:
            return self.low, self.high
        near, far = 0.0, self._n * 2 * (self.high - self.low)
        for _ in range(50):
            middle = (near + far) / 2
            wealth = np.logaddexp.reduce(BETS * middle - self._paid) - math.log(len(BETS))
            near, far = (near, middle) if wealth >= math.log(2 / self.alpha) else (middle, far)
        return max((self._least - far) / self._n, self.low), min((self._most + far) / self._n, self.high)

    @property
    def state(self) -> MovingMeanState:
        """What `from_state` needs to go on exactly where this one stands; a bet that is out is written as -1."""
        paid = tuple(p if math.isfinite(p) else -1.0 for p in self._paid.tolist())
        own = {name: getattr(self, f"_{name}") for name in ("n", "least", "most", "skipped")}
        return MovingMeanState(low=self.low, high=self.high, alpha=self.alpha, paid=paid, **own)

    @classmethod
    def from_state(cls, state: MovingMeanState) -> "MovingMean":
        """The bound whose state this was; ValueError for a version this code does not know."""
        _known(state.version, "moving mean")
        found = cls(state.low, state.high, alpha=state.alpha)
        found._paid = np.array([p if p >= 0 else np.inf for p in state.paid])
        found._n, found._least, found._most, found._skipped = state.n, state.least, state.most, state.skipped
        return found


def _within(x: float, most: float, low: float, high: float) -> None:
    slack = 1e-9 * (1 + abs(low) + abs(high))
    if not low - slack <= x <= most <= high + slack:
        raise ValueError(f"observation {x} .. {most} outside of its bounds {low} .. {high}; correct the bounds")


def _known(version: int, what: str) -> None:
    if version != VERSION:
        raise ValueError(f"state of a {what} has version {version}, known is {VERSION}; start it afresh")
