"""An interval that holds for a kind of drift that was never induced: conformal, with the family as the unit.

Each induced family in turn is predicted by an estimator that never saw it. Its errors, in units of a scale sigma, weigh
the same as those of any other family; the quantile at level (1 - alpha)(G + 1) / G over G families covers a new family
that is exchangeable with them (Dunn, Wasserman and Ramdas 2023, arXiv:1809.07441, section on hierarchical sets). At
90% it is finite from nine families on.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from models.columns import Floats

LEVEL = 0.9
ENOUGH = 9  # families for a finite interval at LEVEL
INSIDE = 0.99  # share of left-out windows that the envelope holds


class Reading(NamedTuple):
    """What the regression says of w windows: share right, distance from induced ones, with their n and unevenness."""

    share: Floats
    distance: Floats
    n: Floats
    unevenness: Floats


class FamilyInterval(NamedTuple):
    """`scale` (5,) of the terms of sigma, the quantile `q` of errors in sigma, the largest distance within `reach`."""

    scale: Floats
    q: float
    reach: float
    families: int

    @property
    def finite(self) -> bool:
        """Are there families enough for an interval?"""
        return self.families >= ENOUGH

    def half_width(self, reading: Reading) -> Floats:
        """Half the width of the interval of each window, before it is cut at 0 and 1."""
        return np.asarray(self.q * (terms(reading) @ self.scale))


def terms(reading: Reading) -> Floats:
    """What sigma is a non-negative combination of, shape (w, 5)."""
    m = np.clip(reading.share, 0.03, 0.97)
    spread = m * (1 - m)
    noise = np.sqrt(spread / reading.n)
    return np.stack([np.ones_like(m), noise, reading.distance, spread, reading.unevenness * spread], axis=1)


def fit(reading: Reading, truth: Floats, family: NDArray[np.int64]) -> FamilyInterval:
    """The interval from windows (w,) each read without its family, numbered `family`."""
    codes, counts = np.unique(family, return_counts=True)
    each = counts[np.searchsorted(codes, family)]
    basis, error = terms(reading), np.abs(truth - reading.share)
    scale, _ = nnls(basis / np.sqrt(each)[:, None], error / np.sqrt(each))
    scale[0] = max(scale[0], 0.004)
    level = min(LEVEL * (len(codes) + 1) / len(codes), 1.0)
    q = weighted_quantile(error / (basis @ scale), 1 / each, level)
    return FamilyInterval(scale, q, weighted_quantile(reading.distance, 1 / each, INSIDE), len(codes))


def weighted_quantile(values: Floats, weight: Floats, level: float) -> float:
    """The least of `values` (n,) that carries at least `level` of the weight up to it."""
    order = np.argsort(values)
    share = np.cumsum(weight[order]) / weight.sum()
    return float(values[order][min(int(np.searchsorted(share, level - 1e-12)), len(values) - 1)])
