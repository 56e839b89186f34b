"""How far can the time to threshold be believed? Coverage and width of the 90% interval, beside two baselines.

    python -m benchmarks.forecast                  house, draws, adaptive and away: about three minutes on one core
    python -m benchmarks.forecast house            only these tables; also: kalman, the baseline as it is shipped

Same figures every run. Simulated series of window accuracies hold .92, then stay or decay from an unknown onset; the
truth is the first window whose *true* level is below .85, or beyond 120 windows. Up to four forecasts per series, only
while the level still holds; laws are conditioned on that. Every method is calibrated on the same 400 series and asked
for .90 plus one standard error (clustered by series): the amortised forecaster (models/forecaster.py) by refitted
hazards and levels, the Kalman filter with onsets (models/forecast.py) by the share its interval leaves out, the plain
Kalman trend and Holt by stretching log T (conformalised quantiles). The test series are others. Losses are printed too.

house     fresh house kinds, 3 981 forecasts: all methods side by side
draws     the amortised one on twenty other pairs of calibration and test series: median, worst and best
adaptive  600 deployments of one foreign kind in sequence: coverage (width) as levels adapt
away      kinds, label counts and gaps that no calibration saw, and a season that is known
kalman    "ours as it is" is what models/forecast.py ships; "no onset" is ours without the decays yet to begin
"""

import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.decay_worlds import FOREIGN, HOUSE, NOVEL, World, world
from benchmarks.forecast_amortised import (
    Forecast,
    adaptive,
    crps,
    forecasts,
    own_history,
    seasonal,
    seen_features,
    several_draws,
)
from models.evidence import Evidence, readings
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
from models.holt import holt_times, stretched
from models.outlook import Outlook, forecast
from models.own_history import Calibration
from models.profile import WEIGHT
from models.reference import FORECASTERS, Reference

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
LENGTH, HORIZON, FRESH, THRESHOLD, PATHS = 200, 120, 0.92, 0.85, 1000
KINDS = ("stable", "linear", "accelerating", "random-walk", "step")
CALIBRATION_SEED, TEST_SEED = 52001, 61003
HOUSE_CALIBRATION, HOUSE_TEST, DRAWS = 7021, 9000, range(88000, 88020)


class Case(NamedTuple):
    """One forecast to make: the accuracies seen so far (NaN: none), labels per window, and the true answer."""

    series: int
    seen: Floats
    labels: int
    truth: int
    after_onset: bool
    threshold: float = THRESHOLD


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
    times = simulate(filtered, case.threshold, horizon=HORIZON, seed=seed, paths=PATHS, hazard=hazard)
    return times[times > 0] if (times > 0).sum() >= PATHS // 50 else np.ones(1, dtype=np.int64)


def no_onset(case: Case, seed: int) -> Ints:
    """The same without decays yet to begin: what a trend model alone can say."""
    return ours(case, seed, hazard=0.0)


def holt(case: Case, seed: int) -> Ints:
    """Holt's linear trend (smoothing .2 and .05) with bootstrapped residuals, its level taken for the truth."""
    return holt_times(case.seen[~np.isnan(case.seen)], case.threshold, seed)


def law(name: str, method: Callable[[Case, int], Ints], todo: list[Case]) -> Law:
    """The forecasts of one method: P(T <= h) for every case."""
    return Law(name, np.array([passage_law(method(case, number), HORIZON) for number, case in enumerate(todo)]))


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
    low, high, _ = knob.cut(found.probability, settings[0])
    line(name, Forecast(found.probability, low, high, knob.cut(found.probability, settings[1])[2]), todo)


def line(name: str, made: Forecast, todo: list[Case]) -> None:
    """Print coverage, width, the same after onset, the bound, CRPS of log T and Brier scores."""
    truth, series = np.array([case.truth for case in todo]), np.array([case.series for case in todo])
    after = np.array([case.after_onset for case in todo])
    inside, width = (truth >= made.low) & (truth <= made.high), made.high - made.low
    brier = " ".join(f"{((made.law[:, x] - (truth <= x)) ** 2).mean():.3f}" for x in (5, 10, 20, 40))
    print(
        f"{name:27s} {inside.mean():.3f} +-{standard_error(inside, series):.3f} {width.mean():6.1f}"
        f" {inside[after].mean():6.3f} {width[after].mean():6.1f} | {(truth >= made.bound).mean():.3f}"
        f" {made.bound.mean():5.1f} | {crps(made.law, truth):.3f} | {brier}",
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


def as_cases(found: World) -> list[Case]:
    """The forecasts of a world, for methods that see one series at a time."""
    rows = zip(found.series, found.origin, found.truth, found.phase, strict=True)
    labels, threshold = int(found.labels[0]), float(found.thresholds[0])
    return [Case(int(s), found.values[s, :o], labels, int(t), bool(p > 1), threshold) for s, o, t, p in rows]


PEERS = (
    ("Kalman with onsets", ours, LEVEL),
    ("Kalman conformal", no_onset, STRETCH),
    ("Holt conformal", holt, STRETCH),
)
HEAD = f"{'':27s} covers       width  after onset: both | bound  mean | CRPS  | Brier 5 10 20 40"


def peer_settings() -> dict[str, tuple[float, float]]:
    """Settings of the peers from the calibration series of the house test."""
    history = as_cases(world(HOUSE, 400, HOUSE_CALIBRATION))
    return {name: calibrated(law(name, method, history), history, knob) for name, method, knob in PEERS}


def house() -> None:
    """All methods on fresh series of the kinds that calibrated them."""
    side_by_side({"fresh house series": world(HOUSE, 1000, HOUSE_TEST)})
    found, calibration = world(HOUSE, 400, HOUSE_TEST + 100, late=12), own_history(world(HOUSE, 400, HOUSE_CALIBRATION))
    live = forecasts(seen_features(found), calibration, live=True)
    print("\nas it runs live: also up to 12 windows after a crossing nobody has seen, where the truth is 0")
    line("amortised, own history", live, as_cases(found))


def away(series: int = 150) -> None:
    """The same on sets that no calibration saw."""
    seed = HOUSE_TEST + 1
    sets = {
        "100 labels a window": world(HOUSE, series, seed, labels=100),
        "40% of windows missing, and an outage": world(HOUSE, series, seed + 1, missing=True),
        "level .75, threshold .70, 2000 labels": world(HOUSE, series, seed + 2, labels=2000, fresh=0.75, depth=0.05),
    }
    sets |= {kind: world((kind,), series, HOUSE_TEST + 10 + i) for i, kind in enumerate(FOREIGN + NOVEL)}
    side_by_side(sets)


def side_by_side(sets: dict[str, World]) -> None:
    """Print a table per set: the amortised forecaster without and with own history, and its peers."""
    calibration = own_history(world(HOUSE, 400, HOUSE_CALIBRATION))
    settings = peer_settings()
    print(f"settings of the peers (interval, bound): {settings}")
    print(f"own history: {calibration.levels}, hazards {np.round(calibration.theta, 2).tolist()}")
    for title, found in sets.items():
        todo = as_cases(found)
        beyond = np.mean(found.truth > HORIZON)
        print(
            f"\n{title}: {len(todo)} forecasts, {beyond:.2f} beyond the horizon; 90% interval, 90% lower bound\n{HEAD}"
        )
        seen = seen_features(found)
        line("amortised, default levels", forecasts(seen, Calibration()), todo)
        line("amortised, own history", forecasts(seen, calibration), todo)
        if min(found.periods):
            line("the same, season known", seasonal(found, calibration), todo)
        for name, method, knob in PEERS:
            row(name, law(name, method, todo), todo, knob, settings[name])


def draws() -> None:
    """The amortised forecaster with own history on twenty other pairs of calibration and test series."""
    found = several_draws(HOUSE, DRAWS)
    print(f"\namortised, own history, {len(found)} draws of 400 + 1000 series: median (lowest to highest)")
    names = ("covers", "width", "after onset", "bound held", "CRPS")
    for name, column in zip(names, found.T, strict=True):
        print(f"{name:12s} {np.median(column):.3f} ({column.min():.3f} to {column.max():.3f})")


def adapting() -> None:
    """Levels that adapt to one foreign kind, from house levels on."""
    calibration = own_history(world(HOUSE, 400, HOUSE_CALIBRATION))
    print(
        "\nlevels adapt, series 0-25, 25-100, 100-300, 300-600: coverage (width), standard error and bound of the last"
    )
    for number, kind in enumerate(FOREIGN + NOVEL):
        print(f"{kind:12s}", "  ".join(adaptive(kind, calibration, HOUSE_TEST + 200 + number)), flush=True)


def kalman() -> None:
    """The shipped Kalman forecast beside its own variants: calibrate on one seed, test on another."""
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


def cost() -> None:
    """CPU time per window of each forecaster as the assessor runs it: 180 windows, labels four windows late."""
    rng, length = np.random.default_rng(1), 3_600_000_000
    declared = Reference("cost", "1", window_us=length, threshold=THRESHOLD)
    ring: list[Evidence] = []
    times: dict[str, list[float]] = {name: [] for name in ("the level now (Kalman filter)", *FORECASTERS)}
    outlook = Outlook()
    for number in range(300):
        ring = [*ring, Evidence(number * length, n=500)][-180:]
        if number >= 4:
            late, right = ring[-5], int(rng.binomial(500, 0.92 - 0.0002 * max(0, number - 150)))
            late.audits, late.audit_weight, late.audit_squared = 500, 500 * WEIGHT, 500 * WEIGHT
            late.audits_correct, late.audit_correct = right, right * WEIGHT
            outlook.touched(late.start)
        started = time.process_time()
        filtered = filter_quality(readings(ring, declared))
        times["the level now (Kalman filter)"].append(time.process_time() - started)
        for name in FORECASTERS:
            chosen = msgspec.structs.replace(declared, forecaster=name)
            started = time.process_time()
            told = forecast(outlook, ring, chosen, Calibration(), filtered, number)
            times[name].append(time.process_time() - started)
    print(f"CPU time a window, median (90th percentile) of the last 100; the last forecast is {told.passage.good_for}")
    for label, seen in times.items():
        print(f"{label:30s} {1e6 * np.median(seen[-100:]):6.0f} us ({1e6 * np.percentile(seen[-100:], 90):.0f})")


TABLES: dict[str, Callable[[], None]] = {
    "house": house,
    "draws": draws,
    "adaptive": adapting,
    "away": away,
    "cost": cost,
    "kalman": kalman,
}


def main() -> None:
    """Print the tables that were asked for, each with its time."""
    for name in sys.argv[1:] or list(TABLES)[:-1]:
        started = time.perf_counter()
        TABLES[name]()
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
