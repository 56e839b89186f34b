"""How soon the checks of drift find a change, and how often they cry wolf: `python -m benchmarks.detection`.

Every stream is made of events that go through `Profile.add`, window by window, as in production; a mismatch counts
when it would open, that is after two windows in a row that show it.
"""

import itertools
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from models.checks.covariate_drift import CHECK as COVARIATE
from models.checks.label_and_prediction_shift import CHECK as CLASSES
from models.profile import Profile
from models.reference import Reference
from tests.observing import DAY, HOUR, numeric_feature, opening, over_windows, profile_of, small_reference

Floats = NDArray[np.float64]
FEATURES = 5
KINDS = ("iid", "AR(1) 0.9", "daily cycle")


class Traffic:
    """Rows of standard normal features: independent, with autocorrelation 0.9, or around a daily sine of 1 sd."""

    def __init__(self, kind: str, seed: int, features: int = FEATURES, per_day: int = 24) -> None:
        self.kind, self.features, self.per_day = kind, features, per_day
        self.rng = np.random.default_rng(seed)
        self.last = self.rng.standard_normal(features)
        self.window = 0

    def rows(self, n: int, shift: float = 0.0) -> Floats:
        """The next window of `n` rows, as (features, n); `shift` is in sd of a row."""
        noise = self.rng.standard_normal((self.features, n))
        phase = 2 * np.pi * (self.window + np.arange(n) / n) / self.per_day
        self.window += 1
        if self.kind == "AR(1) 0.9":
            start = 0.9 * self.last[:, None]
            noise, _ = lfilter([np.sqrt(1 - 0.81)], [1, -0.9], noise, axis=1, zi=start)
            self.last = noise[:, -1].copy()
        elif self.kind == "daily cycle":
            noise = noise + np.sin(phase)
        return np.asarray(noise + shift * (np.sqrt(1.5) if self.kind == "daily cycle" else 1.0))


def described(
    kind: str, n: int, per_day: int = 24, window_us: int = HOUR, days: int = 30, seed: int = 10_001, **facts: Any
) -> Reference:
    """The reference of `days` whole days of this traffic with other random numbers."""
    past = Traffic(kind, seed, per_day=per_day)
    rows = np.concatenate([past.rows(n) for _ in range(days * per_day)], axis=1)
    features = {f"x{i}": numeric_feature(row) for i, row in enumerate(rows)}
    return small_reference(numeric=features, window_us=window_us, **facts)


def windows(
    kind: str,
    reference: Reference,
    *,
    n: int,
    count: int,
    seed: int,
    shift: float = 0.0,
    at: int = 0,
    per_day: int = 24,
) -> Iterator[Profile]:
    """`count` windows, shifted from window `at` on."""
    traffic = Traffic(kind, seed, per_day=per_day)
    for index in range(count):
        rows = traffic.rows(n, shift if index >= at else 0.0)
        yield profile_of(reference, numeric={f"x{i}": row for i, row in enumerate(rows)})


def false_alarms(kind: str, reference: Reference, *, n: int, count: int, seed: int, per_day: int = 24) -> int:
    """Mismatches that open, in any feature, while nothing changes."""
    opened = 0
    bad: dict[str, int] = {}
    is_open: dict[str, bool] = {}
    for verdicts in over_windows(
        COVARIATE, reference, windows(kind, reference, n=n, count=count, seed=seed, per_day=per_day)
    ):
        for name, verdict in verdicts.items():
            if verdict.verdict == "unknown":
                continue
            shown = verdict.verdict == "mismatch"
            bad[name] = bad.get(name, 0) + 1 if shown else 0
            if bad[name] == 2 and not is_open.get(name):
                opened += 1
            is_open[name] = bad[name] >= 2 or (is_open.get(name, False) and shown)
    return opened


def delay(
    kind: str, reference: Reference, shift: float, *, n: int, seed: int, at: int, longest: int = 240, per_day: int = 24
) -> float:
    """Windows from a lasting shift of all features until the first mismatch opens; infinite beyond `longest`."""
    stream = windows(kind, reference, n=n, count=at + longest, seed=seed, shift=shift, at=at, per_day=per_day)
    found = opening(over_windows(COVARIATE, reference, stream))
    return np.inf if found is None else float(found - at)


# Positives in percent per sample group, and events per group, as published with SEI's Augur (MIT licence).
SCHEDULES: dict[str, tuple[tuple[int, ...], int]] = {
    "gradual": ((65, 63, 60, 55, 45, 40), 1671),
    "gradual aggressive": ((65, 53, 40, 75, 35, 20), 1671),
    "sudden": ((65, 40, 60), 3333),
    "sudden aggressive": ((65, 10, 70), 3333),
    "recurring gradual": ((65, 55, 45, 30, 40, 50, 60, 50, 40, 30, 45, 55), 1000),
    "recurring gradual aggressive": ((65, 45, 35, 20, 30, 60, 70, 60, 30, 20, 35, 45), 1000),
    "recurring sudden": ((65, 40, 60), 3333),  # with +-5 on every repetition
    "recurring sudden aggressive": ((65, 10, 70), 3333),  # with +-10
    "none": ((65,), 10_028),
}
JITTER = {"recurring sudden": 5, "recurring sudden aggressive": 10}
CLASS_WINDOW = 200  # events a day
TRUE, FALSE = 0.93, 0.06  # the model says yes to so many of the positives, and of the negatives


def classifier() -> Reference:
    """A model of two classes, 65% positive in training, that confuses some."""
    confusion = {"yes": {"yes": TRUE * 3250, "no": (1 - TRUE) * 3250}, "no": {"yes": FALSE * 1750, "no": 1645.0}}
    return small_reference(window_us=DAY, classes={"yes": 0.65, "no": 0.35}, confusion=confusion, n=5000)


def prevalence(name: str, seed: int) -> Floats:
    """Share of positives of every event of a schedule; the recurring sudden ones run three times."""
    groups, size = SCHEDULES[name]
    if name not in JITTER:
        return np.repeat(np.array(groups, np.float64), size) / 100
    moved = np.random.default_rng(seed).integers(-JITTER[name], JITTER[name] + 1, (3, len(groups)))
    moved[0, 0] = 0
    return np.repeat((np.array(groups) + moved).ravel(), size) / 100


def predictions(reference: Reference, shares: Floats, seed: int) -> Iterator[Profile]:
    """Daily windows of predicted labels."""
    rng = np.random.default_rng(seed)
    positive = rng.random(len(shares)) < shares
    says_yes = rng.random(len(shares)) < np.where(positive, TRUE, FALSE)
    for start in range(0, len(shares) - CLASS_WINDOW + 1, CLASS_WINDOW):
        yield profile_of(
            reference, label=["yes" if y else "no" for y in says_yes[start : start + CLASS_WINDOW].tolist()]
        )


def schedule_delay(name: str, seed: int) -> tuple[float, int]:
    """Windows from the first change beyond the tolerance until the mismatch opens, and those that opened before."""
    reference, shares = classifier(), prevalence(name, seed)
    found = opening(over_windows(CLASSES, reference, predictions(reference, shares, seed)), "predicted")
    beyond = np.flatnonzero(np.abs(TRUE * shares + FALSE * (1 - shares) - TRUE * 0.65 - FALSE * 0.35) > 0.05)
    change = float(beyond[0] / CLASS_WINDOW) if len(beyond) else np.inf
    if found is None:
        return np.inf, 0
    return (np.inf, 1) if found <= change else (found - change, 0)


def print_schedules(seeds: int) -> None:
    """Delay and false alarms of the published prevalence schedules."""
    print(f"{'prevalence schedule':32}{'windows until open, median (worst)':36}false alarms, of {seeds} runs")
    for name in SCHEDULES:
        runs = [schedule_delay(name, seed) for seed in range(seeds)]
        delays = [found for found, _ in runs]
        told = "never" if np.isinf(delays).all() else f"{np.median(delays):.1f} ({max(delays):.1f})"
        print(f"{name:32}{told:36}{sum(early for _, early in runs)}")


def print_covariates(seeds: int, days: int) -> None:
    """Delay and false alarms of features: hourly windows of 200 rows, and daily ones of 24 and 200."""
    print(f"\n{'traffic':14}{'window':10}{'rows':>6}  {'false alarms (promised)':28}windows until open: .25, .5, 1 sd")
    for kind, (per_day, n) in itertools.product(KINDS, ((24, 200), (1, 200), (1, 24))):
        reference = described(kind, n, per_day, DAY // per_day, minimum_n=24)
        opened = sum(
            false_alarms(kind, reference, n=n, count=days * per_day, seed=seed, per_day=per_day)
            for seed in range(seeds)
        )
        delays = [
            np.median([
                delay(kind, reference, shift, n=n, seed=s, at=20 * per_day + per_day // 3, per_day=per_day)
                for s in range(seeds)
            ])
            for shift in (0.25, 0.5, 1.0)
        ]  # fmt: skip
        told = f"{opened} in {seeds} x {days} days ({seeds * days / 90:.0f})"
        print(
            f"{kind:14}{'1 hour' if per_day == 24 else '1 day':10}{n:>6}  {told:28}"
            + ", ".join("> 240" if np.isinf(d) else f"{d:g}" for d in delays)
        )


def main(arguments: list[str]) -> None:
    """Prints the tables; `--quick` takes fewer runs."""
    quick = "--quick" in arguments
    print_schedules(3 if quick else 20)
    print_covariates(1 if quick else 10, 90 if quick else 180)


if __name__ == "__main__":
    main(sys.argv[1:])
