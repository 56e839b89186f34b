"""How much an interval may leave out, so that it keeps its promise: conformal levels by series, and adaptive ones.

A level is the share of the law that an interval leaves out. On resolved forecasts it is the largest whose coverage is
the promise plus one standard error, forecasts of one series counting as one observation, because the series is what is
exchangeable (Vovk, Gammerman & Shafer 2005; Angelopoulos et al. 2022, arXiv:2208.02814, for choosing such a knob).
Live, every resolved series moves the level a little, up where it was covered and down where it was missed, which keeps
long-run coverage on any sequence (Gibbs & Candes 2021, arXiv:2106.00170); on the log scale, so it stays positive.
"""

import math
from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.forecast import quantile, shortest_interval

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Hits = NDArray[np.bool_]

PROMISE = 0.90
ENOUGH = 50  # resolved series; with 10 the worst of eight draws covered 83%, so below this the defaults stay
STEP = 0.15
SMALLEST, LARGEST = 0.0005, 0.4
LEVELS = np.r_[np.arange(0.4, 0.01, -0.004), 0.01, 0.006, 0.003, 0.001]  # from narrow to wide


class Levels(msgspec.Struct, frozen=True, kw_only=True):
    """Shares left out by the 90% interval and by the one-sided 90% bound, and how many resolved series chose them."""

    interval: float = 0.10
    bound: float = 0.10
    series: int = 0


def standard_error(hits: Hits, series: Ints) -> float:
    """Of a mean, forecasts of one series counting as one observation."""
    _, which = np.unique(series, return_inverse=True)
    return float(np.sqrt((np.bincount(which, hits - hits.mean()) ** 2).sum()) / len(hits))


def level_by_series(covers: Callable[[float], Hits], series: Ints) -> float:
    """The first of LEVELS whose coverage is the promise plus one standard error; the smallest if none is."""
    for level in LEVELS:
        hits = covers(float(level))
        if hits.mean() - standard_error(hits, series) >= PROMISE:
            return float(level)
    return float(LEVELS[-1])


def covered(law: Floats, times: Ints, level: float) -> Hits:
    """Does the shortest interval that leaves out `level` hold the time? Laws P(T <= h), one row per forecast."""
    low, high = shortest_interval(law, level)
    return np.asarray((times >= low) & (times <= high))


def bounded(law: Floats, times: Ints, level: float) -> Hits:
    """Is the time at least the one-sided bound that leaves out `level`?"""
    return np.asarray(times >= quantile(law, level))


def fit_levels(law: Floats, times: Ints, series: Ints) -> Levels:
    """Levels from resolved forecasts, all of them followed to the crossing or for the whole horizon.

    With fewer than ENOUGH series the defaults stay.
    """
    resolved = len(np.unique(series))
    if resolved < ENOUGH:
        return Levels(series=resolved)
    return Levels(
        interval=level_by_series(lambda level: covered(law, times, level), series),
        bound=level_by_series(lambda level: bounded(law, times, level), series),
        series=resolved,
    )


def adapted(levels: Levels, missed: float, bound_missed: float) -> Levels:
    """Levels after one more series: `missed` and `bound_missed` are the shares of its forecasts that were missed."""
    return Levels(
        interval=_moved(levels.interval, missed), bound=_moved(levels.bound, bound_missed), series=levels.series + 1
    )


def _moved(level: float, missed: float) -> float:
    return min(max(level * math.exp(STEP * (1 - PROMISE - missed)), SMALLEST), LARGEST)
