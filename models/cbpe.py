"""Performance of a classifier from its calibrated probabilities, in O(1) state: CBPE.

Each answer is right with the calibrated probability of the class it names; the mean of that is the expected accuracy.
F1 and AUC follow in the same way. Calibration is isotonic, fitted on the reference; with more than two classes each
class has its own table and rows are normalised. Source: Kivimaki et al. 2024, arXiv:2407.08649 (CBPE as in NannyML);
isotonic calibration: Zadrozny and Elkan 2002, doi:10.1145/775047.775151.

It holds while P(class | score) stays as it was. A changed concept, or scores that were never calibrated on what comes
now, is invisible to it: only labels show that (`models.concept`).
"""

import math
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.special import chdtri

from models.distance import Z90
from models.quality import Estimate

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
VERSION = 1
UNIT = 1 << 32  # fixed point of the sums, so that batches and replays arrive at the same bits
AUC_BINS = 64
FOLDS = 5


class Table(msgspec.Struct, frozen=True):
    """A calibrated probability for every score: straight lines between knots, constant outside of them."""

    knots: tuple[float, ...]
    values: tuple[float, ...]

    def __call__(self, scores: Floats) -> Floats:
        """Calibrated probabilities, same shape."""
        return np.asarray(np.interp(scores, self.knots, self.values))


class Calibrator(msgspec.Struct, frozen=True, kw_only=True):
    """What registration found on labelled reference data, frozen.

    `tables` has one entry for two classes (of the positive one, code 1), else one per class. `residual` is the standard
    deviation of the accuracy estimate's error beyond sampling noise, over parts of the reference it was not fitted on,
    or rather what that is at most, with 90% confidence.
    """

    version: int = VERSION
    tables: tuple[Table, ...]
    residual: float
    n: int

    @property
    def classes(self) -> int:
        """Number of classes."""
        return max(len(self.tables), 2)

    def __call__(self, scores: Floats) -> Floats:
        """Calibrated probabilities; shape (n,) of the positive class for two classes, else (n, classes)."""
        if len(self.tables) == 1:
            return self.tables[0](scores if scores.ndim == 1 else scores[:, 1])
        raw = np.stack([t(scores[:, k]) for k, t in enumerate(self.tables)], axis=1)
        mass = raw.sum(axis=1, keepdims=True)
        return np.asarray(np.where(mass > 0, raw / np.where(mass > 0, mass, 1), 1 / len(self.tables)))


def fit(scores: Floats, predicted: Ints, truth: Ints) -> Calibrator:
    """Calibrate on reference data in the order of time.

    `scores` has shape (n,) for the positive one of two classes or (n, classes); `predicted` and `truth` are class
    codes. Raises ValueError for fewer than 100 rows, or a score that is not finite.
    """
    if len(scores) < 100 or not len(scores) == len(predicted) == len(truth):
        raise ValueError(f"{len(scores)} scores, {len(truth)} labels: at least 100 rows of each are needed")
    if not np.isfinite(scores).all():
        raise ValueError("a reference score is not finite; leave such rows out, at run time they count as unknown")
    errors, noise = [], []
    edges = np.linspace(0, len(scores), FOLDS + 1).astype(int)
    for low, high in pairwise(edges):
        out = np.zeros(len(scores), dtype=bool)
        out[low:high] = True
        inside = Calibrator(tables=_tables(scores[~out], truth[~out]), residual=0.0, n=int((~out).sum()))
        right = right_of(inside(scores[out]), predicted[out])
        errors.append(float(right.mean() - (predicted[out] == truth[out]).mean()))
        noise.append(float((right * (1 - right)).mean() / len(right)))
    # Five parts tell little of a spread: what it is with 90% confidence, or an error of calibration would go unseen.
    largest = FOLDS * float(np.mean(np.square(errors))) / float(chdtri(FOLDS, 0.9))
    # And the tables are no better known than the accuracy of the reference itself.
    own = float(np.var(predicted == truth)) / len(truth)
    residual = math.sqrt(max(largest - float(np.mean(noise)), 0.0) + own)
    return Calibrator(tables=_tables(scores, truth), residual=residual, n=len(scores))


class CbpeState(msgspec.Struct, frozen=True, kw_only=True):
    """Sums of a window in units of 1 / UNIT: P(right), its variance, and for two classes what F1 and AUC need."""

    version: int = VERSION
    n: int = 0
    unknown: int = 0
    right: int = 0
    variance: int = 0
    positive: tuple[int, ...] = (0,) * AUC_BINS
    negative: tuple[int, ...] = (0,) * AUC_BINS
    hits: int = 0
    named: int = 0


class Cbpe:
    """Expected accuracy, F1 and AUC of a window, fed in batches; sums only, so windows merge exactly.

    >>> reference = np.tile([0.1, 0.9], 500)
    >>> window = Cbpe(fit(reference, np.tile([0, 1], 500), np.tile([0, 1] * 4 + [1, 0], 100)))
    >>> window.update(np.array([0.1, 0.9]), np.array([0, 1]))
    >>> round(window.accuracy.estimate, 3)
    0.8
    """

    def __init__(self, calibrator: Calibrator) -> None:
        self.calibrator = calibrator
        self._n = self._unknown = self._right = self._variance = self._hits = self._named = 0
        self._positive, self._negative = np.zeros(AUC_BINS, dtype=np.int64), np.zeros(AUC_BINS, dtype=np.int64)

    def update(self, scores: Floats, predicted: Ints) -> None:
        """Add answers: scores as for `fit`, class codes (n,). Rows with a score that is not finite count as unknown."""
        finite = np.isfinite(scores).reshape(len(scores), -1).all(axis=1)
        if not finite.all():
            self._unknown += int((~finite).sum())
            scores, predicted = scores[finite], predicted[finite]
        q = self.calibrator(scores)
        right = right_of(q, predicted)
        self._n += len(right)
        self._right += _fixed(right)
        self._variance += _fixed(right * (1 - right))
        if self.calibrator.classes == 2:
            positive = q if q.ndim == 1 else q[:, 1]
            units = np.rint(positive * UNIT)
            bins = np.minimum((scores if scores.ndim == 1 else scores[:, 1]) * AUC_BINS, AUC_BINS - 1).astype(np.int64)
            bins = np.maximum(bins, 0)
            # Sums of whole numbers below 2^53 are exact in double precision: a million rows a batch.
            self._positive += np.bincount(bins, units, AUC_BINS).astype(np.int64)
            self._negative += np.bincount(bins, UNIT - units, AUC_BINS).astype(np.int64)
            self._hits += int(units[predicted == 1].sum())
            self._named += int((predicted == 1).sum())

    @property
    def accuracy(self) -> Estimate:
        """Expected accuracy; the 90% interval holds sampling noise and the error seen on the reference, not more."""
        if not self._n:
            return Estimate(n=0, reason="no answers with usable scores in this window")
        share = self._right / UNIT / self._n
        reach = Z90 * math.sqrt(self._variance / UNIT / self._n**2 + self.calibrator.residual**2)
        low, high = max(share - reach, 0.0), min(share + reach, 1.0)
        return Estimate(estimate=share, low=low, high=high, n=self._n, basis="label-free")

    @property
    def f1(self) -> float | None:
        """Expected F1 of the positive class; None for more than two classes, or where nothing is positive."""
        total = int(self._positive.sum()) + self._named * UNIT
        return 2 * self._hits / total if self.calibrator.classes == 2 and total else None

    @property
    def auc(self) -> float | None:
        """Expected area under the ROC curve, from scores in 64 bins; None unless both classes are expected."""
        p, q = self._positive.astype(float), self._negative.astype(float)
        if self.calibrator.classes > 2 or not p.sum() or not q.sum():
            return None
        below = np.cumsum(q) - q
        return float((p * (below + q / 2)).sum() / (p.sum() * q.sum()))

    def merge(self, other: "Cbpe") -> None:
        """Add another part of the same window, calibrated alike."""
        if other.calibrator != self.calibrator:
            raise ValueError("windows with different calibrators cannot be merged; they are of different versions")
        self._n += other._n
        self._unknown += other._unknown
        self._right += other._right
        self._variance += other._variance
        self._positive += other._positive
        self._negative += other._negative
        self._hits += other._hits
        self._named += other._named

    @property
    def state(self) -> CbpeState:
        """What `from_state` needs beside the calibrator to go on exactly where this one stands."""
        return CbpeState(
            n=self._n,
            unknown=self._unknown,
            right=self._right,
            variance=self._variance,
            positive=tuple(self._positive.tolist()),
            negative=tuple(self._negative.tolist()),
            hits=self._hits,
            named=self._named,
        )

    @classmethod
    def from_state(cls, state: CbpeState, calibrator: Calibrator) -> "Cbpe":
        """The window whose state this was; ValueError for a version this code does not know."""
        if state.version != VERSION:
            raise ValueError(f"CBPE state has version {state.version}, known is {VERSION}; start it afresh")
        found = cls(calibrator)
        found._n, found._unknown, found._right = state.n, state.unknown, state.right
        found._variance, found._hits, found._named = state.variance, state.hits, state.named
        found._positive = np.array(state.positive, dtype=np.int64)
        found._negative = np.array(state.negative, dtype=np.int64)
        return found


def _tables(scores: Floats, truth: Ints) -> tuple[Table, ...]:
    if scores.ndim == 1 or scores.shape[1] == 2:
        return (_table(scores if scores.ndim == 1 else scores[:, 1], truth == 1),)
    return tuple(_table(scores[:, k], truth == k) for k in range(scores.shape[1]))


def _table(scores: Floats, outcome: NDArray[np.bool_]) -> Table:
    """Isotonic regression, reduced to the ends of its steps."""
    x, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    means = np.bincount(place.ravel(), outcome.astype(float)) / counts
    y: Any = isotonic_regression(means, weights=counts.astype(float)).x
    flat = np.zeros(len(x), dtype=bool)
    flat[1:-1] = (y[1:-1] == y[:-2]) & (y[1:-1] == y[2:])
    return Table(tuple(x[~flat].tolist()), tuple(np.clip(y[~flat], 0, 1).tolist()))


def right_of(q: Floats, predicted: Ints) -> Floats:
    """P(right) of each answer, from calibrated probabilities as a `Calibrator` gives them."""
    if q.ndim == 1:
        return np.asarray(np.where(predicted == 1, q, 1 - q))
    return np.asarray(q[np.arange(len(q)), predicted])


def _fixed(values: Floats) -> int:
    return int(np.rint(values * UNIT).sum())
