"""How far can the time to threshold be believed? Coverage and width of the 90% interval, beside two baselines.

    python benchmarks/forecast.py        (or python -m benchmarks.forecast, where the project is not installed)

One core, under two minutes, the same figures every run. Simulated series of window accuracies (500 labels each) hold
.92, then stay or decay in one of five ways from an unknown onset; the truth is the first window whose *true* level is
below .85, or beyond 120 windows. Up to four forecasts per series, only while the level still holds; laws are
conditioned on that. Every method is calibrated on the same 400 series and asked for .90 plus one standard error
(clustered by series), ours by the share its interval leaves out, the baselines by stretching log T; the test series
are others. "Ours as it is" is what models/forecast.py ships; "no onset" is ours without the decays yet to begin.
Losses are printed too.
"""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.forecast import (
    LEAVES_OUT,
    ONSET_HAZARD,
    Reading,
    filter_quality,
    passage_law,
    quantile,
    shortest_interval,
    simulate,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
LENGTH, HORIZON, FRESH, THRESHOLD, PATHS = 200, 120, 0.92, 0.85, 1000
KINDS = ("stable", "linear", "accelerating", "random-walk", "step")
CALIBRATION_SEED, TEST_SEED = 52001, 61003


class Case(NamedTuple):
    """One forecast to make: the accuracies seen so far (NaN: none), labels per window, and the true answer."""

    series: int
    seen: Floats
    labels: int
    truth: int
    after_onset: bool


class Law(NamedTuple):
    """Forecasts of one method for many cases: P(T <= h), h = 0 .. HORIZON, one row each."""

    name: str
    probability: Floats


def true_level(kind: str, rng: np.random.Generator) -> tuple[Floats, float]:
    """True accuracy per window, and the onset of its decay."""
    windows = np.arange(LENGTH + HORIZON)
    onset = float(rng.integers(30, 110))
    age = np.maximum(0.0, windows - onset)
    if kind == "linear":
        loss = age * rng.uniform(0.0006, 0.003)
    elif kind == "accelerating":
        loss = age**2 * rng.uniform(8e-6, 4e-5)
    elif kind == "random-walk":
        slope = np.cumsum(rng.normal(0, 2.5e-4, len(windows)) * (age > 0))
        loss = -np.cumsum(np.minimum(slope, 2e-4))
    elif kind == "step":
        loss = (age > 0) * rng.uniform(0.01, 0.05) + age * rng.uniform(0, 0.001)
    else:
        loss, onset = np.zeros(len(windows)), np.inf
    return np.clip(FRESH - loss, 0.3, 0.995), onset


def cases(series: int, seed: int, *, labels: int = 500, missing: float = 0.0) -> Iterator[Case]:
    """Simulated series of every kind in turn, with at most four origins each."""
    rng = np.random.default_rng(seed)
    for number in range(series):
        level, onset = true_level(KINDS[number % len(KINDS)], rng)
        seen = rng.binomial(labels, level[:LENGTH]) / labels
        seen[rng.uniform(size=LENGTH) < missing] = np.nan
        below = level < THRESHOLD
        crossing = int(below.argmax()) if below.any() else 10**6
        origins = np.arange(30, min(LENGTH, crossing), 12)
        for origin in rng.permutation(origins)[:4]:
            truth = min(crossing - int(origin) + 1, HORIZON + 1)
            yield Case(number, seen[:origin], labels, truth, bool(origin >= onset))


def ours(case: Case, seed: int, hazard: float = ONSET_HAZARD) -> Ints:
    """First-passage times by the project's own filter, audited accuracies only."""
    found = np.flatnonzero(~np.isnan(case.seen))
    readings = [Reading(window=int(w), audit=float(case.seen[w]), audit_n=case.labels) for w in found]
    readings.append(Reading(window=len(case.seen)))  # nothing seen yet there, so the filter only predicts up to it
    filtered = filter_quality(readings[:-1] if found[-1] == len(case.seen) - 1 else readings)
    times = simulate(filtered, THRESHOLD, horizon=HORIZON, seed=seed, paths=PATHS, hazard=hazard)
    return times[times > 0] if (times > 0).sum() >= PATHS // 50 else np.ones(1, dtype=np.int64)


def no_onset(case: Case, seed: int) -> Ints:
    """The same without decays yet to begin: what a trend model alone can say."""
    return ours(case, seed, hazard=0.0)


def holt(case: Case, seed: int) -> Ints:
    """Holt's linear trend (smoothing .2 and .05) with bootstrapped residuals, its level taken for the truth."""
    rng = np.random.default_rng(seed)
    values = case.seen[~np.isnan(case.seen)]
    level, slope = float(values[0]), 0.0
    residuals = []
    for value in values[1:]:
        residuals.append(value - level - slope)
        smoothed = 0.2 * value + 0.8 * (level + slope)
        level, slope = smoothed, 0.05 * (smoothed - level) + 0.95 * slope
    steps = slope + 0.2 * rng.choice(residuals[-60:], (PATHS, HORIZON))
    below = level + np.cumsum(steps, axis=1) < THRESHOLD
    return np.where(below.any(axis=1), below.argmax(axis=1) + 1, HORIZON + 1)


def law(name: str, method: Callable[[Case, int], Ints], todo: list[Case]) -> Law:
    """The forecasts of one method: P(T <= h) for every case."""
    return Law(name, np.array([passage_law(method(case, number), HORIZON) for number, case in enumerate(todo)]))


def stretched(probability: Floats, by: float) -> tuple[Floats, Floats, Floats]:
    """Two-sided interval and one-sided bound, moved outwards on the log scale by `by`."""
    low, bound, high = (np.maximum(quantile(probability, share), 1.0) for share in (0.05, 0.10, 0.95))
    shrink = np.exp(-by)
    return np.floor(low * shrink), np.minimum(np.ceil(high / shrink), HORIZON + 1), np.floor(bound * shrink)


def levelled(probability: Floats, leaves_out: float) -> tuple[Floats, Floats, Floats]:
    """Shortest interval and one-sided bound that leave out a share."""
    low, high = shortest_interval(probability, leaves_out)
    return low.astype(float), high.astype(float), np.maximum(quantile(probability, leaves_out), 1.0)


def standard_error(hits: NDArray[np.bool_], series: Ints) -> float:
    """Of a mean, forecasts of one series counting as one observation."""
    return float(np.sqrt((np.bincount(series, hits - hits.mean()) ** 2).sum()) / len(hits))


class Knob(NamedTuple):
    """How a method is calibrated: its cut, the settings from narrow to wide, and the one that means "as it is"."""

    cut: Callable[[Floats, float], tuple[Floats, Floats, Floats]]
    settings: Floats
    start: float


LEVEL = Knob(levelled, np.arange(0.4, 0.001, -0.002), LEAVES_OUT)
STRETCH = Knob(stretched, np.arange(0.0, 4.0, 0.01), 0.0)


def covers(found: Law, todo: list[Case], knob: Knob, setting: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Did the interval, and did the one-sided bound hold?"""
    truth = np.array([case.truth for case in todo])
    low, high, bound = knob.cut(found.probability, setting)
    return (truth >= low) & (truth <= high), truth >= bound


def calibrated(found: Law, todo: list[Case], knob: Knob) -> tuple[float, float]:
    """First settings whose interval, and whose bound, cover .90 plus one standard error; the widest if none does."""
    series = np.array([case.series for case in todo])
    chosen = [float(knob.settings[-1])] * 2
    for which in (0, 1):
        for setting in knob.settings:
            hits = covers(found, todo, knob, float(setting))[which]
            if hits.mean() - standard_error(hits, series) >= 0.9:
                chosen[which] = round(float(setting), 4)
                break
    return chosen[0], chosen[1]


def row(name: str, found: Law, todo: list[Case], knob: Knob, settings: tuple[float, float]) -> None:
    """Print one line of the table."""
    truth, series = np.array([case.truth for case in todo]), np.array([case.series for case in todo])
    after = np.array([case.after_onset for case in todo])
    low, high, _ = knob.cut(found.probability, settings[0])
    inside, width, bound = (truth >= low) & (truth <= high), high - low, knob.cut(found.probability, settings[1])[2]
    h = np.arange(1, HORIZON + 1)
    crps = (((found.probability[:, 1:] - (truth[:, None] <= h)) ** 2) * np.log1p(1 / h)).sum(axis=1).mean()
    brier = " ".join(f"{((found.probability[:, x] - (truth <= x)) ** 2).mean():.3f}" for x in (5, 10, 20, 40))
    print(
        f"{name:21s} {inside.mean():.3f} +-{standard_error(inside, series):.3f} {width.mean():6.1f}"
        f" {inside[after].mean():6.3f} {width[after].mean():6.1f} | {(truth >= bound).mean():.3f} {bound.mean():5.1f}"
        f" | {crps:.3f} | {brier}",
        flush=True,
    )


def reliability(found: Law, todo: list[Case]) -> None:
    """Print forecast against seen frequency of a crossing within h windows."""
    truth = np.array([c.truth for c in todo])
    for h in (5, 10, 20, 40):
        p, hit = found.probability[:, h], truth <= h
        bins = [(p >= a) & (p < b) for a, b in ((0, 0.02), (0.02, 0.1), (0.1, 0.3), (0.3, 0.6), (0.6, 1.01))]
        pairs = "  ".join(f"{p[b].mean():.3f}->{hit[b].mean():.3f} ({b.sum()})" for b in bins if b.sum() > 20)
        print(f"P(T <= {h:2d}) forecast -> seen: {pairs}")


def methods(todo: list[Case], marginal: Floats) -> list[tuple[Law, Knob]]:
    """Laws of every method; "constant" always forecasts the times to threshold of the calibration series."""
    return [
        (law("ours", ours, todo), LEVEL),
        (law("no onset", no_onset, todo), STRETCH),
        (law("Holt", holt, todo), STRETCH),
        (Law("constant", np.tile(marginal, (len(todo), 1))), LEVEL),
    ]


def main() -> None:
    """Calibrate on one seed, test on another, print the tables."""
    started = time.perf_counter()
    history = list(cases(400, CALIBRATION_SEED))
    marginal = passage_law(np.array([case.truth for case in history]), HORIZON)
    settings = {found.name: calibrated(found, history, knob) for found, knob in methods(history, marginal)}
    print(f"settings (interval, bound) from {len(history)} forecasts, seed {CALIBRATION_SEED}: {settings}")
    sets = {
        "as calibrated": list(cases(1000, TEST_SEED)),
        "100 labels a window": list(cases(300, TEST_SEED + 1, labels=100)),
        "40% of windows missing": list(cases(300, TEST_SEED + 2, missing=0.4)),
    }
    for title, todo in sets.items():
        beyond = np.mean([case.truth > HORIZON for case in todo])
        print(f"\n{title}: {len(todo)} forecasts, {beyond:.2f} beyond the horizon; 90% interval, 90% lower bound")
        print(f"{'':21s} covers       width  after onset: both | bound  mean | CRPS  | Brier 5 10 20 40")
        found = methods(todo, marginal)
        for one, knob in found:
            row(f"{one.name} as it is", one, todo, knob, (knob.start, knob.start))
            row(f"{one.name} calibrated", one, todo, knob, settings[one.name])
        reliability(found[0][0], todo)
    print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
