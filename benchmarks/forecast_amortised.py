"""The amortised forecaster on simulated worlds: its forecasts, its own history, and levels that adapt.

Used by benchmarks/forecast.py, which prints the tables. Laws are given that the level still holds, as for every other
method there.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.decay_worlds import World, world
from benchmarks.train_forecaster import features
from models.conformal import standard_error
from models.decays import HORIZON, LENGTH, Forecasts
from models.forecaster import cut
from models.own_history import Calibration, Resolved, learn
from models.passage_network import shipped
from models.seasons import GROUPS, grouped, joined, seasonal_profile

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Ints = NDArray[np.int64]

BLOCKS = ((0, 25), (25, 100), (100, 300), (300, 600))  # series after which adaptive levels are looked at


class Forecast(NamedTuple):
    """Laws P(T <= h), one row per forecast, and the ends of intervals and bounds cut from them."""

    law: Floats
    low: Floats
    high: Floats
    bound: Floats


def seen_features(found: World) -> Singles:
    """Features of every forecast in a world."""
    at_once = np.zeros(len(found.values), dtype=np.int64)
    return features(
        Forecasts(found.values, found.labels, found.thresholds, found.series, found.origin, found.truth, at_once)
    )


def seasonal(found: World, calibration: Calibration) -> Forecast:
    """Forecasts where the length of the season is known, its profile learnt from what was seen before each forecast."""
    rows, deviations, groups = len(found.truth), [], []
    values = np.full((rows, LENGTH), np.nan)
    for row, (series, origin) in enumerate(zip(found.series, found.origin, strict=True)):
        seen, period = found.values[series, :origin], found.periods[series]
        windows = np.flatnonzero(~np.isnan(seen))
        share = float(np.nanmean(seen))
        errors = np.full(len(windows), np.sqrt(share * (1 - share) / found.labels[series]))
        season = seasonal_profile(windows.tolist(), seen[windows], errors, period) or (0.0,) * period
        values[row, :origin] = seen - np.array(season)[np.arange(origin) % period]
        depth, group = grouped(season)
        deviations.append(depth)
        groups.append(group)
    drawn, origin = found.series.repeat(GROUPS), found.origin.repeat(GROUPS)
    bars = found.thresholds[drawn] - np.concatenate(deviations)
    number = np.arange(rows * GROUPS)
    inputs = features(
        Forecasts(values.repeat(GROUPS, axis=0), found.labels[drawn], bars, number, origin, origin, 0 * number)
    )
    laws = calibration.laws(shipped(), inputs).reshape(rows, GROUPS, -1)
    law = np.array([joined(one, g, int(o) - 1) for one, g, o in zip(laws, groups, found.origin, strict=True)])
    law = (law - law[:, :1]) / (1 - law[:, :1])  # given that the level still holds
    low, high, bound = cut(law, *calibration.leaves_out(inputs[::GROUPS]))
    return Forecast(law, low.astype(float), high.astype(float), bound.astype(float))


def own_history(found: World) -> Calibration:
    """What a world of resolved forecasts teaches."""
    seen = seen_features(found)
    rows = zip(found.series.tolist(), seen.tolist(), found.truth.tolist(), strict=True)
    history = [Resolved(series=s, features=tuple(f), crossing=t if t <= HORIZON else None) for s, f, t in rows]
    return learn(shipped(), history)


def forecasts(seen: Singles, calibration: Calibration, *, live: bool = False) -> Forecast:
    """Forecasts of these features; `live` ones do not know that the level still holds."""
    law = calibration.laws(shipped(), seen, live=live)
    low, high, bound = cut(law, *calibration.leaves_out(seen))
    return Forecast(law, low.astype(float), high.astype(float), bound.astype(float))


def crps(law: Floats, truth: Ints) -> float:
    """Continuous ranked probability score of log T up to the horizon."""
    h = np.arange(1, HORIZON + 1)
    return float((((law[:, 1:] - (truth[:, None] <= h)) ** 2) * np.log1p(1 / h)).sum(axis=1).mean())


def summary(found: World, made: Forecast) -> Floats:
    """Coverage, width, width after onset, bound held, CRPS."""
    inside = (found.truth >= made.low) & (found.truth <= made.high)
    width, after = made.high - made.low, found.phase > 1
    held = found.truth >= made.bound
    return np.array([inside.mean(), width.mean(), width[after].mean(), held.mean(), crps(made.law, found.truth)])


def several_draws(kinds: tuple[str, ...], seeds: range) -> Floats:
    """`summary` on fresh series of every seed, each calibrated on a history of its own; one row per seed."""
    rows = []
    for seed in seeds:
        calibration = own_history(world(kinds, 400, 2 * seed))
        test = world(kinds, 1000, 2 * seed + 1)
        rows.append(summary(test, forecasts(seen_features(test), calibration)))
    return np.array(rows)


def adaptive(kind: str, calibration: Calibration, seed: int) -> list[str]:
    """Deployments of one kind one after the other, levels moved by each resolved series; coverage (width) by block."""
    found = world((kind,), BLOCKS[-1][1], seed)
    seen = seen_features(found)
    inside, held = np.zeros(len(seen), dtype=bool), np.zeros(len(seen), dtype=bool)
    width = np.zeros(len(seen))
    for series in np.unique(found.series):
        rows = found.series == series
        made, truth = forecasts(seen[rows], calibration), found.truth[rows]
        inside[rows] = (truth >= made.low) & (truth <= made.high)
        held[rows], width[rows] = truth >= made.bound, made.high - made.low
        calibration = calibration.after(1 - inside[rows].mean(), 1 - held[rows].mean())
    cells = []
    for first, last in BLOCKS:
        block = (found.series >= first) & (found.series < last)
        cells.append(f"{inside[block].mean():.3f} ({width[block].mean():.0f})")
    block = found.series >= BLOCKS[-1][0]
    spread = standard_error(inside[block], found.series[block])
    return [*cells, f"+-{spread:.3f}", f"{held[block].mean():.3f}"]
