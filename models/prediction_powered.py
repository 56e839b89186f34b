"""Accuracy from few audited labels and a proxy for all traffic, unbiased whatever the proxy is worth.

The proxy f is a probability that an answer is right, known for every inference. The mean of f over all traffic is
corrected by the mean of w (y - f) over the audits, w = mean propensity / propensity of the audited inference: as w
undoes the sampling, this is the accuracy of the traffic even if f is nonsense, and needs fewer labels the better f is.
Sources: prediction-powered inference, Angelopoulos et al. 2023, arXiv:2301.09633, and its power tuning, 2023,
arXiv:2311.01453; augmented inverse probability weighting, Robins, Rotnitzky and Zhao 1994, doi:10.2307/2290910.
"""

import math
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.confidence_sequence import ConfidenceSequence, MovingMean, MovingMeanState, SequenceState
from models.quality import Estimate, wilson

Floats = NDArray[np.float64]
VERSION = 1
UNIT = 1 << 32  # fixed point of the sums over traffic: the same in any order
TRUST = 50.0  # audits that the belief in a calibrated proxy counts for, beside those its power is fitted to


class Traffic(msgspec.Struct, kw_only=True):
    """What the inferences of a cohort say together, audited or not; plain sums and maxima, so cohorts merge exactly.

    `proxy` and `propensity` are sums in units of 1 / UNIT. `right` and `wrong` are the largest f / propensity and
    (1 - f) / propensity: how much a single label can surprise, which a confidence sequence must know beforehand.
    """

    n: int = 0
    proxy: int = 0
    propensity: int = 0
    right: float = 0.0
    wrong: float = 0.0

    def update(self, proxy: Floats, propensity: Floats) -> None:
        """Add inferences: P(correct) and propensity of each, shape (n,). ValueError for values that are neither."""
        checked(proxy, propensity)
        if not len(proxy):
            return
        self.n += len(proxy)
        self.proxy += int(np.rint(proxy * UNIT).astype(np.int64).sum())
        self.propensity += int(np.rint(propensity * UNIT).astype(np.int64).sum())
        self.right = max(self.right, float((proxy / propensity).max()))
        self.wrong = max(self.wrong, float(((1 - proxy) / propensity).max()))

    def merge(self, other: "Traffic") -> None:
        """Add the inferences of another part of the same cohort."""
        self.n += other.n
        self.proxy += other.proxy
        self.propensity += other.propensity
        self.right, self.wrong = max(self.right, other.right), max(self.wrong, other.wrong)

    @property
    def mean_proxy(self) -> float:
        """Mean of f over all inferences; NaN without any."""
        return self.proxy / UNIT / self.n if self.n else math.nan

    @property
    def mean_propensity(self) -> float:
        """Mean probability of being audited; NaN without any inference."""
        return self.propensity / UNIT / self.n if self.n else math.nan


class AuditedState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an `AuditedAccuracy` is."""

    version: int = VERSION
    n: int = 0
    proxy: float = 0.0
    if_wrong: float = 0.0
    if_right: float = 0.0
    sums: tuple[float, ...] = (0.0,) * 3
    products: tuple[float, ...] = (0.0,) * 9
    sequence: SequenceState
    moving: MovingMeanState


class AuditedAccuracy:
    """Accuracy of a span from closed cohorts: at one look (`estimate`), and at all looks at once (`interval`).

    Cohorts weigh by their number of audits. Restart it where a change of the concept is declared: the sequence speaks
    of the whole span since.
    """

    def __init__(self, alpha: float = 0.05, *, cells: int = 1000) -> None:
        self._sequence = ConfidenceSequence(-1.0, 1.0, alpha=alpha, cells=2 * cells)
        self._moving = MovingMean(-1.0, 1.0, alpha=alpha)
        self._n, self._proxy = 0, 0.0  # audits; mean f of the traffic, summed over audits
        self._if_wrong = self._if_right = 0.0  # what missing labels could still take away, or add
        self._sums, self._products = np.zeros(3), np.zeros((3, 3))

    @property
    def n(self) -> int:
        """Audits that were used."""
        return self._n

    def update(self, traffic: Traffic, correct: Floats, proxy: Floats, propensity: Floats) -> None:
        """Take the audits of one closed cohort, shape (n,), in an order that knows nothing of the labels.

        `correct` is 1 or 0, and NaN where the label never came: that counts both ways. `traffic` counts all inferences
        of the cohort, these among them. ValueError where it cannot hold them.
        """
        checked(proxy, propensity)
        if len(correct) != len(proxy):
            raise ValueError(f"{len(correct)} labels for {len(proxy)} proxies; they must be of the same audits")
        if not len(correct):
            return
        if len(correct) > traffic.n:
            raise ValueError(f"{len(correct)} audits in a cohort of {traffic.n} inferences; add all of its traffic")
        rate, mean = traffic.mean_propensity, traffic.mean_proxy
        weight = rate / propensity
        low, high = -rate * traffic.right, rate * traffic.wrong
        missing = np.isnan(correct)
        least = weight * (np.where(missing, 0.0, correct) - proxy)
        most = weight * (np.where(missing, 1.0, correct) - proxy)
        for x, y in zip(least.tolist(), most.tolist(), strict=True):
            self._sequence.update(x, low, high, most=y)
            self._moving.update(x, low, high, most=y)
        self._if_wrong += float(-least[missing].sum())
        self._if_right += float(most[missing].sum())
        columns = np.stack([weight * np.where(missing, proxy, correct), weight * proxy - mean, weight - 1])
        self._sums = self._sums + columns.sum(axis=1)
        self._products = self._products + columns @ columns.T
        self._n += len(correct)
        self._proxy += mean * len(correct)

    def interval(self, *, steady: bool = True) -> tuple[float, float]:
        """Time-uniform interval of the accuracy at level 1 - alpha.

        `steady` relies on labels and proxy differing by the same gap on average throughout the span, whatever the
        traffic does; without it, or where the labels refute it, the gap may change, and the interval is wider.
        """
        if not self._n:
            return 0.0, 1.0
        found, mean = self._sequence.interval() if steady else None, self._proxy / self._n
        low, high = found or self._moving.interval()
        return min(max(mean + low, 0.0), 1.0), max(min(mean + high, 1.0), 0.0)

    @property
    def power(self) -> float:
        """How far the proxy is used: the share of it, in [0, 1], that leaves the least variance."""
        return float(self._coefficients()[0])

    @property
    def estimate(self) -> Estimate:
        """Power-tuned estimate with the 90% interval for one look at a number of audits fixed beforehand.

        Missing labels are put at their proxy; the interval reaches as far as they could move it.
        """
        if self._n < 2:
            return Estimate(n=self._n, reason="fewer than two audited labels")
        control = self._coefficients()
        mean = self._sums / self._n
        share = min(max(float(mean[0] - control @ mean[1:]), 0.0), 1.0)
        spread = self._products / self._n - np.outer(mean, mean)
        form = np.array([1.0, *-control])
        # Never less spread than half a wrong answer among those audited: all right says little when they are few.
        variance = max(float(form @ spread @ form), 0.5 / self._n) / max(self._n - 3, 1)
        level = min(max(share, 0.5 / self._n), 1 - 0.5 / self._n)
        effective = max(level * (1 - level) / variance, 1.0)
        low, high = wilson(share, effective)
        low, high = max(low - self._if_wrong / self._n, 0.0), min(high + self._if_right / self._n, 1.0)
        return Estimate(estimate=share, low=low, high=high, n=self._n, basis="both", n_effective=effective)

    @property
    def state(self) -> AuditedState:
        """What `from_state` needs to go on exactly where this one stands."""
        return AuditedState(
            n=self._n,
            proxy=self._proxy,
            if_wrong=self._if_wrong,
            if_right=self._if_right,
            sums=tuple(self._sums.tolist()),
            products=tuple(self._products.ravel().tolist()),
            sequence=self._sequence.state,
            moving=self._moving.state,
        )

    @classmethod
    def from_state(cls, state: AuditedState) -> "AuditedAccuracy":
        """The one whose state this was; ValueError for a version this code does not know."""
        if state.version != VERSION:
            raise ValueError(f"audit state has version {state.version}, known is {VERSION}; start it afresh")
        found = cls(state.sequence.alpha)
        found._sequence = ConfidenceSequence.from_state(state.sequence)
        found._moving = MovingMean.from_state(state.moving)
        found._n, found._proxy = state.n, state.proxy
        found._if_wrong, found._if_right = state.if_wrong, state.if_right
        found._sums, found._products = np.array(state.sums), np.array(state.products).reshape(3, 3)
        return found

    def _coefficients(self) -> Any:
        """Coefficients of what has a known mean: w f, whose mean is that of the traffic, and w, whose mean is 1."""
        mean = self._sums / max(self._n, 1)
        spread = self._products / max(self._n, 1) - np.outer(mean, mean)
        # The ridge decides where the proxy, or the weight, hardly varies: it then has nothing to explain.
        within = spread[1:, 1:] + 1e-6 * np.eye(2)
        best = np.linalg.solve(within, spread[1:, 0])
        if not 0 <= best[0] <= 1:
            best[0] = min(max(float(best[0]), 0.0), 1.0)
            best[1] = (spread[2, 0] - best[0] * spread[2, 1]) / within[1, 1]
        return (self._n * best + TRUST * np.array([1.0, 0.0])) / (self._n + TRUST)


def checked(proxy: Floats, propensity: Floats) -> None:
    """ValueError unless every proxy is a probability, and every propensity a positive one."""
    if len(proxy) != len(propensity):
        raise ValueError(f"{len(proxy)} proxies and {len(propensity)} propensities; give one of each per inference")
    if not ((proxy >= 0) & (proxy <= 1)).all():
        raise ValueError("a proxy is not a probability in [0, 1]; leave out inferences without one, or give 0.5")
    if not ((propensity > 0) & (propensity <= 1)).all():
        raise ValueError("a propensity is not in (0, 1]; log the probability with which the label was asked for")


def with_feedback(proxy: Floats, wrong: NDArray[np.bool_], if_right: float, if_wrong: float) -> Floats:
    """P(correct) after users said, or did not say, "wrong"; feedback is evidence, never a label.

    `if_right` and `if_wrong` are how often users say so of right and of wrong answers, from earlier audits; both must
    lie in (0, 1). Bayes' rule on the odds. A wrong rate costs sharpness only: the audits correct what is left.
    """
    if not (0 < if_right < 1 and 0 < if_wrong < 1):
        raise ValueError(f"rates of feedback {if_right} and {if_wrong} must lie between 0 and 1; smooth the counts")
    says = np.where(wrong, if_right / if_wrong, (1 - if_right) / (1 - if_wrong))
    p = np.clip(proxy, 1e-6, 1 - 1e-6)
    return np.asarray(p * says / (p * says + 1 - p))
