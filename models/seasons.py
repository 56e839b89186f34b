"""A known season taken out of a series of readings, so that the forecast is about what decays.

The profile holds one deviation per phase of a cycle of known length, in windows. It is learnt against the centred mean
over one whole cycle, which a season does not move (classical decomposition: Kendall & Stuart 1966, ch. 46), and shrunk
towards none by what sampling noise alone would show (positive-part James-Stein), so a season that is not there costs
next to nothing.

With a season the threshold is passed near its low. The phases are put into a few groups by their deviation; per group
the forecast asks when the level without season comes down to the threshold less that deviation, and a window ahead
belongs to the group of its phase. For a level that only falls, what has passed there has passed: the law is the
running maximum of the groups' laws, each read at its own windows.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

CYCLES = 3  # whole cycles needed before a profile is believed
GROUPS = 4  # of phases


def seasonal_profile(
    windows: Sequence[int], values: ArrayLike, errors: ArrayLike, period: int
) -> tuple[float, ...] | None:
    """Deviation from the level per phase (`window % period`), with mean 0; None with fewer than three cycles.

    `values` and their standard errors belong to `windows`, which ascend and may have gaps. Raises ValueError for a
    period below 2.
    """
    if period < 2:
        raise ValueError(f"a season has at least 2 windows, not {period}; leave it out where there is none")
    if not windows or windows[-1] - windows[0] + 1 < CYCLES * period:
        return None
    at = np.asarray(windows) - windows[0]
    series, weight = np.zeros(at[-1] + 1), np.zeros(at[-1] + 1)
    series[at], weight[at] = values, 1.0
    level, around = _centred(series, weight, period)
    usable = (weight > 0) & (around > 0.5 * period)
    phase = (np.arange(len(series)) + windows[0]) % period
    counts = np.bincount(phase, usable, minlength=period)
    if counts.min() < CYCLES - 1:
        return None
    profile = np.bincount(phase, np.where(usable, series - level, 0.0), minlength=period) / counts
    profile -= profile.mean()
    noise = float(np.mean(np.square(np.asarray(errors, dtype=np.float64)))) * float((1 / counts).sum())
    shrink = max(0.0, 1 - noise * (period - 1) / period / max(float((profile**2).sum()), 1e-12))
    return tuple((profile * shrink).tolist())


def grouped(season: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Deviation of every group of phases, deepest first, and the group of every phase; one group without a season."""
    if not season:
        return np.zeros(1), np.zeros(1, dtype=np.int64)
    profile, number = np.asarray(season, dtype=np.float64), min(GROUPS, len(season))
    rank = np.argsort(np.argsort(profile, kind="stable"), kind="stable")
    group = rank * number // len(season)
    return np.bincount(group, profile) / np.bincount(group), group


def joined(laws: NDArray[np.float64], group: NDArray[np.int64], window: int) -> NDArray[np.float64]:
    """P(T <= h) from the laws of the groups, (groups, h), after `window` was the last one seen."""
    ahead = np.arange(laws.shape[1])
    return np.asarray(np.maximum.accumulate(laws[group[(window + ahead) % len(group)], ahead]))


def _centred(
    series: NDArray[np.float64], weight: NDArray[np.float64], period: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean over the cycle around every window, its two ends at half weight where the period is even, and its weight."""
    kernel = np.ones(period) if period % 2 else np.r_[0.5, np.ones(period - 1), 0.5]
    total, around = np.convolve(series * weight, kernel, mode="same"), np.convolve(weight, kernel, mode="same")
    half = len(kernel) // 2
    around[:half] = around[len(around) - half :] = 0.0  # no whole cycle there
    return total / np.maximum(around, 1e-9), around
