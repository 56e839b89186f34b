"""Series of window accuracies whose true level is known: the test worlds of the forecasters.

Five house kinds calibrate every method. Four foreign kinds are never used to calibrate, but the training prior holds
shapes like them; three novel kinds are in neither. Levels are drawn around .92 with a threshold of .85 and rescaled
where a set asks for others. The order of the draws is part of the protocol: with its seeds the house test has 3 981
forecasts.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.decays import HORIZON, LENGTH, NEVER, first_below

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HOUSE = ("stable", "linear", "accelerating", "random-walk", "step")
FOREIGN = ("sigmoid", "season", "dips", "drop")
NOVEL = ("staircase", "regimes", "bursts")
FRESH, DEPTH = 0.92, 0.07
FIRST, EVERY, FORECASTS = 30, 12, 4  # origins 30, 42, ...; at most four of them per series
STABLE, BEFORE, EARLY, LATER = range(4)  # phases; early means the first 20 windows after onset
WINDOWS = np.arange(LENGTH + HORIZON)


class World(NamedTuple):
    """Series (`values`: series x windows, NaN missing) and, per forecast, its series, origin, answer and phase."""

    values: Floats
    labels: Floats
    thresholds: Floats
    series: Ints
    origin: Ints
    truth: Ints
    phase: Ints
    periods: tuple[int, ...]  # length of the season per series, 0 where there is none


def world(
    kinds: tuple[str, ...],
    series: int,
    seed: int,
    *,
    labels: int = 500,
    missing: bool = False,
    fresh: float = FRESH,
    depth: float = DEPTH,
    late: int = 0,
) -> World:
    """So many series of these kinds in turn, forecasts only while the true level holds, or up to `late` windows after.

    `missing` loses 40% of the windows and an outage of 10 to 20 more. `fresh` and `depth` are the level at the start
    and its distance to the threshold.
    """
    rng, rows, values, periods = np.random.default_rng(seed), [], [], []
    threshold = fresh - depth
    for number in range(series):
        kind = kinds[number % len(kinds)]
        level, onset, period = _level(kind, rng)
        level = fresh - (FRESH - level) * depth / DEPTH
        shown = level[:LENGTH]
        if kind == "bursts":  # labels of a window agree with each other: twice the noise
            shown = rng.beta(shown * labels / 3, (1 - shown) * labels / 3)
        seen = rng.binomial(labels, shown) / labels
        if missing:
            lost = rng.uniform(size=LENGTH) < 0.4
            outage = int(rng.integers(20, 180))
            lost[outage : outage + int(rng.integers(10, 21))] = True
            seen[lost] = np.nan
        values.append(seen)
        periods.append(period)
        crossing = int(first_below(level[None], np.array([threshold]))[0])
        origins = [origin for origin in range(FIRST, LENGTH, EVERY) if origin < crossing + late]
        if crossing and origins:
            for origin in rng.choice(origins, min(FORECASTS, len(origins)), replace=False):
                truth = min(max(crossing - origin + 1, 0), HORIZON + 1)
                rows.append((number, origin, truth, _phase(origin - onset)))
    which, origin, truth, phase = np.array(rows, dtype=np.int64).T
    ones = np.ones(series)
    return World(np.array(values), labels * ones, threshold * ones, which, origin, truth, phase, tuple(periods))


def _phase(age: int) -> int:
    if age < -(10**5):
        return STABLE
    return BEFORE if age < 0 else EARLY if age < 20 else LATER


def _level(kind: str, rng: np.random.Generator) -> tuple[Floats, int, int]:
    """True level per window, onset of its decay (NEVER: none), and the length of its season."""
    onset = int(rng.integers(30, 110))
    if kind in HOUSE:
        return *_house(kind, onset, rng), 0
    if kind in NOVEL:
        return *_novel(kind, onset, rng), 0
    return _foreign(kind, onset, rng)


def _clip(loss: Floats) -> Floats:
    return np.clip(FRESH - loss, 0.3, 0.995)


def _house(kind: str, onset: int, rng: np.random.Generator) -> tuple[Floats, int]:
    age = np.maximum(0, WINDOWS - onset)
    if kind == "linear":
        return _clip(age * rng.uniform(0.0006, 0.003)), onset
    if kind == "accelerating":
        return _clip(age**2 * rng.uniform(8e-6, 4e-5)), onset
    if kind == "random-walk":
        slope = np.cumsum(rng.normal(0, 2.5e-4, len(WINDOWS)) * (onset < WINDOWS))
        return _clip(-np.cumsum(np.minimum(slope, 2e-4))), onset
    if kind == "step":
        return _clip((onset < WINDOWS) * rng.uniform(0.01, 0.05) + age * rng.uniform(0, 0.001)), onset
    return _clip(np.zeros(len(WINDOWS))), NEVER


def _foreign(kind: str, onset: int, rng: np.random.Generator) -> tuple[Floats, int, int]:
    if kind == "sigmoid":
        width = rng.uniform(4, 20)
        return _clip(rng.uniform(0.03, 0.15) / (1 + np.exp(-(WINDOWS - onset - 4 * width) / width))), onset, 0
    if kind == "season":
        size, period = rng.uniform(0.005, 0.02), int(rng.choice([7, 30]))
        swing = size * np.sin(2 * np.pi * (WINDOWS / period + rng.uniform()))
        return _clip(np.maximum(0, WINDOWS - onset) * rng.uniform(0.0005, 0.002) - swing), onset, period
    if kind == "dips":
        loss, start = np.zeros(len(WINDOWS)), int(rng.integers(5, 20))
        while start < len(WINDOWS):
            half = int(rng.integers(5, 20))
            loss += rng.uniform(0.02, 0.06) * np.clip(1 - abs(WINDOWS - start - half) / half, 0, 1)
            start += 2 * half + int(rng.integers(10, 40))
        onset = int(rng.integers(60, 180)) if rng.uniform() < 0.5 else NEVER
        return _clip(loss + np.maximum(0, WINDOWS - onset) * rng.uniform(0.0006, 0.003)), onset, 0
    onset = int(rng.integers(100, 195))
    return _clip(rng.uniform(0.08, 0.2) * np.clip((WINDOWS - onset) / rng.integers(1, 4), 0, 1)), onset, 0


def _novel(kind: str, onset: int, rng: np.random.Generator) -> tuple[Floats, int]:
    if kind == "staircase":
        loss = np.zeros(len(WINDOWS))
        for step in np.cumsum(rng.exponential(40, 12)):
            loss += (step < WINDOWS) * rng.uniform(0.005, 0.025)
        return _clip(loss), 0
    if kind == "regimes":  # two levels with random dwell times, slow decay underneath in half of the series
        state = np.cumsum(rng.exponential(30, 40)).searchsorted(WINDOWS) % 2
        onset = onset if rng.uniform() < 0.5 else NEVER
        loss = state * rng.uniform(0.01, 0.05) + np.maximum(0, WINDOWS - onset) * rng.uniform(0.0004, 0.002)
        return _clip(loss), onset
    if rng.uniform() < 0.3:
        return _clip(np.zeros(len(WINDOWS))), NEVER
    return _clip(np.maximum(0, WINDOWS - onset) * rng.uniform(0.0006, 0.003)), onset
