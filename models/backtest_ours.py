"""Our policy in a backtest: production's forecast and decision, fed with audited quality as labels arrive.

Every label that arrives is a reading of the audited quality of the version that serves. The forecaster tells
P(below the threshold by the time a new model would be there), and `models.policy.decide` weighs it against the costs,
with its confirmation, its cool-down and its one open incident, as it does in production. A version that has served for
too short a time to be forecast by the amortised forecaster is forecast by the Kalman filter.

A version can be forecast better by what is known of those before it: the ages at which the models of the first third
fell below the threshold give a hazard by age. Both say something of the same event, so their odds are multiplied and
the odds that the forecaster's own training gives to a version without evidence are divided out.

Without a declared threshold there is one implied by the costs: the quality of a model at the age at which a schedule
tuned on the first third would replace it.
"""

import math
from collections.abc import Callable
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.backtest import SMOOTHED, Outcome, Past, Policy, Setting
from models.backtest_policies import Never, fresh_error, tuned_period
from models.forecast import Filtered, Passage, Reading, current_quality, filter_quality, first_passage
from models.forecaster import Forecaster
from models.policy import DAY_US, PolicyState, Terms, close, decide

Kind = Literal["amortised", "kalman", "holt"]
TYPICAL_LIFE = 124.0  # windows: 38% of the forecasts of the training protocol saw no crossing in 120 windows
PRIOR_WINDOWS = 20.0  # windows at risk that the prior hazard of a family is worth
HORIZON = 120
Floats = NDArray[np.float64]


class Family(msgspec.Struct, frozen=True):
    """Hazard per window, by age, of falling below the threshold, of models like this one."""

    hazard: tuple[float, ...] = ()

    def within(self, age: int, ahead: int) -> float:
        """P(below within `ahead` windows, given that it held until `age`)."""
        last = len(self.hazard) - 1
        held = math.prod(1 - self.hazard[min(a, last)] for a in range(age, age + ahead))
        return 1 - held if self.hazard else 1 - math.exp(-ahead / TYPICAL_LIFE)


class Ours(Never):
    """The forecaster and the rule of production."""

    def __init__(self, setting: Setting, terms: Terms, fresh: float, family: Family, kind: Kind = "amortised") -> None:
        self._setting, self._terms, self._fresh, self._family, self._kind = setting, terms, fresh, family, kind
        self._state = PolicyState()
        self.renewed(0)

    def renewed(self, window: int) -> None:
        """Another version took over: its readings and its forecast begin anew, what was open is closed."""
        self._since, self._state = window, close(self._state)
        self._readings: list[Reading] = []
        self._forecaster = Forecaster(self._terms.threshold, registered=self._fresh)

    def learnt(self, outcome: Outcome) -> None:
        """One reading of the serving version."""
        if outcome.since != self._since or not len(outcome.wrong):
            return
        right = 1 - float(outcome.wrong.mean())
        reading = Reading(window=outcome.window, audit=right, audit_n=float(len(outcome.wrong)))
        self._readings.append(reading)
        self._forecaster.update(reading)

    def asks(self, window: int) -> bool:
        """The decision of production at the end of this window."""
        filtered = filter_quality(self._readings)
        self._state, trigger = decide(
            self._state,
            self._terms,
            subject=("backtest", str(self._since)),
            now_us=(window + 1) * self._terms.window_us,
            estimate=current_quality(filtered),
            passage=self._passage(window, filtered),
        )
        return trigger is not None

    def _passage(self, window: int, filtered: Filtered) -> Passage:
        """From the last window with labels to when a new model would be there; the family's ages weighed in."""
        seen = self._readings[-1].window if self._readings else self._since - 1
        ahead = window + 1 + self._setting.lead - seen
        found = self._forecast(filtered, float(ahead))
        if self._kind != "amortised":
            return found
        odds = _odds(self._family.within(max(seen + 1 - self._since, 0), ahead))
        if found.probability_within_lead is not None:
            odds *= _odds(found.probability_within_lead) / _odds(1 - math.exp(-ahead / TYPICAL_LIFE))
        return msgspec.structs.replace(found, probability_within_lead=odds / (1 + odds))

    def _forecast(self, filtered: Filtered, lead: float) -> Passage:
        if self._kind == "holt":
            return holt_passage(self._readings, self._terms.threshold, lead=lead)
        if self._kind == "amortised":
            found = self._forecaster.passage(lead=lead)
            if found.reason is None:
                return found
        return first_passage(filtered, self._terms.threshold, lead=lead)


def holt_passage(readings: list[Reading], threshold: float, *, lead: float, paths: int = 400) -> Passage:
    """Holt's linear trend (smoothing .2 and .05) with bootstrapped residuals, its level taken for the truth."""
    values = [r.audit for r in readings if r.audit is not None]
    if len(values) < 8:
        return Passage(threshold=threshold, lead=lead, reason=f"needs 8 assessed windows, has {len(values)}")
    level, slope, residuals = values[0], 0.0, []
    for value in values[1:]:
        residuals.append(value - level - slope)
        smoothed = 0.2 * value + 0.8 * (level + slope)
        level, slope = smoothed, 0.05 * (smoothed - level) + 0.95 * slope
    rng = np.random.default_rng(len(values))
    steps = slope + 0.2 * rng.choice(residuals[-60:], (paths, max(round(lead), 1)))
    below = (level < threshold) | (level + np.cumsum(steps, axis=1) < threshold).any(axis=1)
    return Passage(threshold=threshold, lead=lead, probability_within_lead=float(below.mean()))


# -- what the first third tells ------------------------------------------------------------------------------


def family_of(past: Past, threshold: float) -> Family:
    """Hazard by age from the models of the past, their quality averaged over five windows each."""
    curves: dict[int, list[tuple[float, int]]] = {}
    for i, _, error, n in past.errors():
        curves.setdefault(i, []).append((1 - error, n))
    longest = max((len(c) for c in curves.values()), default=0)
    at_risk, crossed = np.zeros(longest + 1), np.zeros(longest + 1)
    for curve in curves.values():
        age = _crossing_age(curve, threshold)
        at_risk[: len(curve) if age is None else age + 1] += 1
        crossed[age if age is not None else longest] += age is not None
    kernel = np.ones(2 * SMOOTHED + 1)
    at_risk, crossed = np.convolve(at_risk, kernel, "same"), np.convolve(crossed, kernel, "same")
    return Family(tuple(((crossed + PRIOR_WINDOWS / TYPICAL_LIFE) / (at_risk + PRIOR_WINDOWS)).tolist()))


def _crossing_age(curve: list[tuple[float, int]], threshold: float) -> int | None:
    right, count = np.array([q * n for q, n in curve]), np.array([n for _, n in curve], float)
    kernel = np.ones(2 * SMOOTHED + 1)
    near = [np.convolve(v, kernel)[SMOOTHED : SMOOTHED + len(v)] for v in (right, count)]
    low = np.flatnonzero(near[0] / np.maximum(near[1], 1) < threshold)
    return int(low[0]) if len(low) else None


def implied_threshold(past: Past, setting: Setting) -> float:
    """Quality at the age at which the tuned schedule would replace a model; at its oldest age where that is never."""
    period = tuned_period(past, setting) or past.end - past.first
    old = [(e * n, n) for i, j, e, n in past.errors() if abs(j - i - period) <= SMOOTHED]
    old = old or [(e * n, n) for _, _, e, n in past.errors()]
    return 1 - math.fsum(e for e, _ in old) / max(sum(n for _, n in old), 1)


def ours(kind: Kind) -> Callable[[Past, Setting, int], Policy]:
    """Our policy with one of its forecasts, as a maker like those of `models.backtest_policies`."""

    def made(past: Past, setting: Setting, windows: int) -> Policy:  # noqa: ARG001
        fresh = 1 - fresh_error(past)
        threshold = setting.threshold if setting.threshold is not None else implied_threshold(past, setting)
        terms = terms_for(past, setting, threshold, fresh)
        return Ours(setting, terms, fresh, family_of(past, threshold), kind)

    return made


def terms_for(past: Past, setting: Setting, threshold: float, fresh: float) -> Terms:
    """What production would have been told. Wrong answers beyond those of a fresh model are a cost per day too."""
    window_us = max(round(setting.window_days * DAY_US), 1)
    counts = [n for _, _, _, n in past.errors()]
    per_day = float(np.mean(counts)) / setting.window_days if counts else 0.0
    extra = setting.cost_error * max(fresh - threshold, 0.0) * per_day
    # Acting is possible once per window, so a lead time below one window still costs one.
    return Terms(
        threshold=threshold,
        lead_time_us=max(setting.lead, 1) * window_us,
        window_us=window_us,
        cost_retrain=setting.cost_retrain,
        cost_degraded_per_day=setting.cost_degraded_per_day + extra,
        accepted=fresh,
    )


def _odds(probability: float) -> float:
    kept = min(max(probability, 1e-6), 1 - 1e-6)
    return kept / (1 - kept)
