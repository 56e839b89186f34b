"""Policies to compare with: never, periodic tuned on the first third, change detectors, cost-aware, upper quantiles.

| name | asks when | tuned on the first third | after |
|---|---|---|---|
| never | never | - | |
| periodic | so many windows have passed | the period, among PERIODS and never | |
| adwin | ADWIN finds that errors rose | - (delta .002, the default of river) | Bifet and Gavalda 2007 |
| hddm | HDDM_A finds that errors rose | - (confidence .001, the default of river) | Frias-Blanco et al. 2015 |
| cara | staleness since renewal costs a multiple of a retraining | the multiple | Mahadevan, Mathioudakis 2023 |
| upf | upper quantile of keeping costs more than that of a retraining | regression and variance | Regol et al. 2025 |

`cara` and `upf` keep the rule of their papers and not the rest, hence "-like": staleness is measured on labels as they
arrive instead of estimated from similar queries, and performance is forecast from age and time alone.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river.drift import ADWIN
from river.drift.binary import HDDMA
from scipy.stats import beta

from models.backtest import Outcome, Past, Policy, Setting, costs_served, simulate

PERIODS = (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64)
MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0)
UPPER = 0.95
RIDGE = 1e-3
Floats = NDArray[np.float64]


class Never:
    """Keeps the first model for ever."""

    def renewed(self, window: int) -> None:
        """Nothing to remember."""

    def learnt(self, outcome: Outcome) -> None:
        """Nothing to learn."""

    def asks(self, window: int) -> bool:  # noqa: ARG002
        """No."""
        return False


class Periodic(Never):
    """A new model begins to serve every `period` windows, whatever happens."""

    def __init__(self, period: int, lead: int) -> None:
        self.period, self._lead, self._since = period, lead, 0

    def renewed(self, window: int) -> None:
        """The period begins anew."""
        self._since = window

    def asks(self, window: int) -> bool:
        """So early that the next model is there when the period ends, at once if that is impossible."""
        return window + 1 + self._lead - self._since >= self.period


class Detector(Never):
    """Asks when a detector of river, fed with the serving model's errors one by one, finds that they rose."""

    def __init__(self, name: str) -> None:
        self._name, self._since, self._alarm = name, 0, False
        self._detector = _DETECTORS[name]()

    def renewed(self, window: int) -> None:
        """A fresh detector for the new model."""
        self._since, self._alarm, self._detector = window, False, _DETECTORS[self._name]()

    def learnt(self, outcome: Outcome) -> None:
        """One update per label; labels of earlier models say nothing of this one."""
        if outcome.since != self._since:
            return
        for wrong in outcome.wrong.tolist():
            before = self._detector.estimation if self._name == "adwin" else 0.0
            self._detector.update(bool(wrong) if self._name == "hddm" else float(wrong))
            if self._detector.drift_detected:
                self._alarm |= self._name == "hddm" or self._detector.estimation > before

    def asks(self, window: int) -> bool:  # noqa: ARG002
        """After an alarm."""
        return self._alarm


# HDDMA is one-sided by default: it alarms when errors rise.
_DETECTORS: dict[str, Callable[[], Any]] = {"adwin": ADWIN, "hddm": HDDMA}


class Cara(Never):
    """Asks once the cost of staleness since the renewal exceeds `multiple` retrainings (the cumulative rule)."""

    def __init__(self, setting: Setting, fresh: float, multiple: float) -> None:
        self._setting, self._fresh, self._multiple = setting, fresh, multiple
        self._since, self._stale = 0, 0.0

    def renewed(self, window: int) -> None:
        """A new model is not stale."""
        self._since, self._stale = window, 0.0

    def learnt(self, outcome: Outcome) -> None:
        """Cost of this window beyond that of a fresh model."""
        if outcome.since == self._since and len(outcome.wrong):
            s, error = self._setting, float(outcome.wrong.mean())
            self._stale += s.cost_error * (error - self._fresh) * len(outcome.wrong)
            if s.threshold is not None:
                self._stale += s.cost_degraded_per_day * s.window_days * (1 - error < s.threshold)
            self._stale = max(self._stale, 0.0)

    def asks(self, window: int) -> bool:  # noqa: ARG002
        """Has waiting cost as much as a retraining?"""
        return self._stale >= self._multiple * self._setting.cost_retrain > 0


class Upf(Never):
    """Uncertainty-performance: compares upper quantiles of the errors to come with and without a retraining.

    A ridge regression of error on (trained, age, window), all over the length of the history, gives the mean, its
    residuals the variance of a Beta law. Over the windows that a periodic rival would take, keeping is worth it until
    its `UPPER` quantile costs more than that of a new model plus the retraining.
    """

    def __init__(self, setting: Setting, past: Past, windows: int, horizon: int) -> None:
        rows = past.errors()
        self._setting, self._windows, self._horizon, self._trained = setting, windows, horizon, past.end
        x = _upf_features(np.array([r[0] for r in rows]), np.array([r[1] for r in rows]), windows)
        y = np.array([r[2] for r in rows])
        self._answers = float(np.mean([r[3] for r in rows])) if rows else 0.0
        penalty = RIDGE * len(y) * np.diag([0.0, 1, 1, 1])
        self._weights = np.linalg.lstsq(x.T @ x + penalty, x.T @ y, rcond=None)[0] if len(y) else np.zeros(4)
        self._variance = float(np.var(y - x @ self._weights)) if len(y) > 8 else 0.05

    def renewed(self, window: int) -> None:
        """Which model it is follows from the delays."""
        self._trained = window - self._setting.lead - self._setting.delay

    def asks(self, window: int) -> bool:
        """Is the risk of keeping above that of a retraining?"""
        s, serves = self._setting, window + 1 + self._setting.lead
        ahead = np.arange(serves, min(serves + self._horizon, self._windows))
        if not len(ahead):
            return False
        keep = self._risk(np.full(len(ahead), self._trained), ahead)
        new = self._risk(np.full(len(ahead), window + 1 - s.delay), ahead)
        return keep > new + s.cost_retrain

    def _risk(self, trained: NDArray[np.int64], windows: NDArray[np.int64]) -> float:
        mean = np.clip(_upf_features(trained, windows, self._windows) @ self._weights, 0.005, 0.995)
        variance = np.minimum(self._variance, 0.95 * mean * (1 - mean))
        size = mean * (1 - mean) / variance - 1
        upper = beta.ppf(UPPER, mean * size, (1 - mean) * size)
        cost = self._setting.cost_error * upper * self._answers
        if self._setting.threshold is not None:
            below = beta.sf(1 - self._setting.threshold, mean * size, (1 - mean) * size)
            cost = cost + self._setting.cost_degraded_per_day * self._setting.window_days * below
        return float(cost.sum())


def _upf_features(trained: NDArray[np.int64], window: NDArray[np.int64], windows: int) -> Floats:
    return np.stack([np.ones(len(trained)), trained / windows, (window - trained) / windows, window / windows], axis=1)


# -- tuning --------------------------------------------------------------------------------------------------


def costs_of(candidates: Sequence[Callable[[], Policy]], past: Past, setting: Setting) -> list[float]:
    """What each candidate would have cost on the past."""
    world, start = past.world(), min(past.first + setting.delay, past.end - 1)
    return [
        float(costs_served(world, simulate(world, make(), setting, start=start), setting).sum()) for make in candidates
    ]


def best_of(candidates: Sequence[Callable[[], Policy]], past: Past, setting: Setting) -> int:
    """Index of the candidate that costs least on the past; the first of equals."""
    return int(np.argmin(costs_of(candidates, past, setting)))


def tuned_period(past: Past, setting: Setting) -> int | None:
    """The period that would have cost least on the past; None: never."""
    shorter = [p for p in PERIODS if p < past.end - past.first]
    found = best_of([Never, *(lambda p=p: Periodic(p, setting.lead) for p in reversed(shorter))], past, setting)
    return None if found == 0 else shorter[::-1][found - 1]


def fresh_error(past: Past, ages: int = 2) -> float:
    """Share of wrong answers of the models of the past in their first windows."""
    young = [(e * n, n) for i, j, e, n in past.errors() if j - i < ages]
    return math.fsum(e for e, _ in young) / max(sum(n for _, n in young), 1) if young else 0.0


def periodic(past: Past, setting: Setting, windows: int) -> Policy:  # noqa: ARG001
    """Periodic as tuned."""
    period = tuned_period(past, setting)
    return Never() if period is None else Periodic(period, setting.lead)


def cara(past: Past, setting: Setting, windows: int) -> Policy:  # noqa: ARG001
    """Cost-aware as tuned."""
    fresh = fresh_error(past)
    made = [lambda m=m: Cara(setting, fresh, m) for m in reversed(MULTIPLES)]
    return made[best_of(made, past, setting)]()


def upf(past: Past, setting: Setting, windows: int) -> Policy:
    """Uncertainty-performance as fitted; its horizon is the tuned period, or the whole past."""
    return Upf(setting, past, windows, tuned_period(past, setting) or max(past.end - past.first, 1))
