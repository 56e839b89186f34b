"""Simulated decays: the prior under which the forecaster of the time to threshold is trained.

Everything is in units that make series comparable: losses in units of the gap between the fresh level and the
threshold (1 = the threshold), durations in windows. Shapes, onsets, sizes, labels per window and missing windows are
drawn so broadly that a deployment is some draw of them; what a user's own history says is learnt later, by
`models.hazards`. Losses that stop, swing, recover or collapse are part of it, because a forecaster that has seen only
steady decay is bold where decay pauses.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LENGTH = 200  # windows of history at most
HORIZON = 120  # windows ahead; beyond it a time to threshold is censored
EARLIEST = 20  # windows of history before the first forecast
PAST = 12  # a few forecasts are made up to so many windows after the crossing, so that "already below" is learnt
NEVER = 10**6
LONGEST_OUTAGE = 25
LATEST = 12  # windows that labels are late at most


class Forecasts(NamedTuple):
    """Simulated series and the forecasts to be made on them.

    `values` is (series, windows), NaN where a window is missing; `labels`, `thresholds` and `late` are per series.
    `series`, `origin` and `truth` are per forecast: made after `origin` windows of that series, the threshold is passed
    `truth` windows ahead (0 already, HORIZON + 1 beyond).
    """

    values: Floats
    labels: Floats
    thresholds: Floats
    series: Ints
    origin: Ints
    truth: Ints
    late: Ints  # per series: windows before a forecast whose labels have not come yet


def simulate(series: int, rng: np.random.Generator, *, forecasts: int = 4) -> Forecasts:
    """Draw series from the prior with at most so many forecasts each, at random origins."""
    windows = np.arange(LENGTH + HORIZON)
    labels = np.round(_log_uniform(rng, 60, 4000, series))
    fresh = rng.uniform(0.62, 0.97, series)
    gap = np.sqrt(fresh * (1 - fresh) / labels) * _log_uniform(rng, 1.5, 25, series)
    gap = np.clip(gap, 0.01, np.minimum(0.3, fresh - 0.5))
    onset = _onsets(series, rng)
    loss = _gradual(windows, onset, rng)
    for row in np.flatnonzero(rng.uniform(size=series) < 0.4):
        loss[row] = _overlaid(loss[row], windows, float(onset[row]), rng)
    loss += _wiggle(series, len(windows), rng)
    level = np.clip(fresh[:, None] - gap[:, None] * loss, 0.02, 0.998)
    values = rng.binomial(labels[:, None].astype(np.int64), level[:, :LENGTH]) / labels[:, None]
    values[_missing(series, rng)] = np.nan
    crossing = first_below(level, fresh - gap)
    last = np.minimum(crossing + PAST, LENGTH)
    origin = EARLIEST + (rng.uniform(size=(series, forecasts)) * np.maximum(last - EARLIEST, 0)[:, None]).astype(int)
    which, column = np.nonzero(np.broadcast_to((last > EARLIEST)[:, None], origin.shape))
    when = origin[which, column]
    truth = np.clip(crossing[which] - when + 1, 0, HORIZON + 1)
    return Forecasts(values, labels, fresh - gap, which, when, truth, _late(series, rng))


def first_below(level: Floats, threshold: Floats) -> Ints:
    """Index of the first window whose level is below the threshold, NEVER if there is none; one row per series."""
    below = level < threshold[:, None]
    return np.where(below.any(axis=1), below.argmax(axis=1), NEVER)


def _log_uniform(rng: np.random.Generator, low: float, high: float, size: int | tuple[int, int]) -> Floats:
    return np.exp(rng.uniform(np.log(low), np.log(high), size))


def _onsets(series: int, rng: np.random.Generator) -> Floats:
    """A fifth never decays; else the hazard is one in 30 to 120 windows, and half begin with a safe time."""
    safe = (rng.uniform(size=series) < 0.5) * rng.uniform(0, 120, series)
    onset = np.floor(rng.exponential(_log_uniform(rng, 30, 120, series)) + safe)
    return np.where(rng.uniform(size=series) < 0.2, float(NEVER), onset)


def _gradual(windows: Ints, onset: Floats, rng: np.random.Generator) -> Floats:
    """Loss in units of the gap: linear, a power of time, a step with or without a slope, or a random-walk slope."""
    one = (len(onset), 1)
    lasts = _log_uniform(rng, 12, 250, one)  # windows from onset to threshold
    age = np.maximum(0.0, windows - onset[:, None])
    # A quarter changes speed on the way, anything from a halt to twice as fast.
    turn = rng.uniform(0.1, 1.5, one) * lasts
    turned = turn + (age - turn) * rng.uniform(0, 2, one)
    age = np.where((rng.uniform(size=one) < 0.25) & (age > turn), turned, age)
    part = np.minimum(age / lasts, 50)
    kind = rng.choice(4, len(onset), p=[0.35, 0.25, 0.2, 0.2])[:, None]
    power = part ** _log_uniform(rng, 0.5, 3, one)
    step = (age > 0) * rng.uniform(0.1, 0.8, one) + part * (rng.uniform(size=one) < 0.8)
    loss = np.where(kind == 1, power, np.where(kind == 2, step, part))
    rows = np.flatnonzero(kind[:, 0] == 3)
    slope = np.cumsum(rng.normal(size=(len(rows), len(windows))) * (age[rows] > 0), axis=1)
    slope = np.maximum(slope, -rng.uniform(0, 1.5, (len(rows), 1)))
    loss[rows] = np.cumsum(slope, axis=1) * rng.uniform(0.5, 2, (len(rows), 1)) / lasts[rows] ** 1.5
    return loss


def _overlaid(loss: Floats, windows: Ints, onset: float, rng: np.random.Generator) -> Floats:
    """One of four things that steady decay does not announce: saturation, a swing, passing dips, or a collapse."""
    kind = rng.integers(4)
    if kind == 0:
        lasts = float(_log_uniform(rng, 12, 250, 1)[0])
        steep = np.clip(8 * (windows - onset) / lasts - 4, -30, 30)
        return np.asarray(rng.uniform(0.3, 2.5) / (1 + np.exp(-steep)))
    if kind == 1:
        return loss + rng.uniform(0.05, 0.4) * np.sin(2 * np.pi * (windows / rng.uniform(4, 40) + rng.uniform()))
    if kind == 2:
        loss, start = loss.copy(), int(rng.integers(30))
        while start < len(windows):
            half = int(rng.integers(3, 25))
            loss += rng.uniform(0.1, 0.9) * np.clip(1 - abs(windows - start - half) / half, 0, 1)
            start += 2 * half + int(rng.integers(5, 60))
        return loss
    return np.asarray(rng.uniform(0.6, 3) * np.clip((windows - onset) / rng.integers(1, 4), 0, 1))


def _wiggle(series: int, windows: int, rng: np.random.Generator) -> Floats:
    """Three in ten levels carry a first-order autoregression of their own."""
    noise = rng.standard_normal((windows, series))
    keeps = rng.uniform(0.5, 0.98, series)
    fresh = np.sqrt(1 - keeps**2)
    for window in range(1, windows):
        noise[window] = keeps * noise[window - 1] + fresh * noise[window]
    size = _log_uniform(rng, 0.005, 0.1, series) * (rng.uniform(size=series) < 0.3)
    return (noise * size).T


def _missing(series: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Half lose no window, the others 10% or 40%; one in ten has an outage besides. The first two are always there."""
    missing = rng.uniform(size=(series, LENGTH)) < rng.choice([0, 0, 0.1, 0.4], series)[:, None]
    start = rng.integers(20, LENGTH, series)
    lasts = rng.integers(5, LONGEST_OUTAGE + 1, series) * (rng.uniform(size=series) < 0.1)
    windows = np.arange(LENGTH)
    missing |= (windows >= start[:, None]) & (windows < (start + lasts)[:, None])
    missing[:, :2] = False
    return missing


def _late(series: int, rng: np.random.Generator) -> Ints:
    """Half have their labels at once, for the others the last windows before a forecast are still missing."""
    return np.where(rng.uniform(size=series) < 0.5, 0, rng.integers(1, LATEST + 1, series))
