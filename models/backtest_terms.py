"""What the first third of a history tells our policy: hazards by age, a threshold where none is declared, its terms."""

import math

import msgspec
import numpy as np

from models.backtest import Past, Setting, near
from models.policy import DAY_US, Terms

TYPICAL_LIFE = 124.0  # windows: 38% of the forecasts of the training protocol saw no crossing in 120 windows
PRIOR_WINDOWS = 20.0  # windows at risk that the prior hazard of a family is worth
HORIZON = 120
BEYOND = 1.0  # ages not seen yet that count, as a share of those that were


class Family(msgspec.Struct, frozen=True):
    """Hazard per window, by age, of falling below the threshold, of models like this one."""

    hazard: tuple[float, ...] = ()

    def within(self, age: int, ahead: int) -> float:
        """P(below within `ahead` windows, given that it held until `age`)."""
        if not self.hazard:
            return 1 - math.exp(-ahead / TYPICAL_LIFE)
        last = len(self.hazard) - 1
        return 1 - math.prod(1 - self.hazard[min(a, last)] for a in range(age, age + ahead))

    @property
    def life(self) -> float:
        """Windows a model holds on the average, at most HORIZON."""
        return math.fsum(1 - self.within(0, age) for age in range(HORIZON)) if self.hazard else TYPICAL_LIFE


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
    at_risk, crossed = near(at_risk), near(crossed)
    return Family(tuple(((crossed + PRIOR_WINDOWS / TYPICAL_LIFE) / (at_risk + PRIOR_WINDOWS)).tolist()))


def _crossing_age(curve: list[tuple[float, int]], threshold: float) -> int | None:
    right, count = near(np.array([q * n for q, n in curve])), near(np.array([n for _, n in curve], float))
    low = np.flatnonzero(right / np.maximum(count, 1) < threshold)
    return int(low[0]) if len(low) else None


def implied_margin(past: Past, setting: Setting) -> float:
    """Loss of quality at which a model is worth replacing: where its excess cost exceeds the mean cost of a cycle.

    With excess cost e(a) of a model of age a, replacing at age A costs (retraining + e(0) + .. + e(A - 1)) / A per
    window. The least of that over A is what the best schedule costs, and a model that costs more in a window is due
    (marginal cost rule of renewal theory; Barlow and Hunter 1960). Ages not seen yet are taken to be like the oldest.
    """
    seen = past.errors()
    if not seen:
        return 0.0
    answers = float(np.mean([n for _, _, _, n in seen]))
    lost, count = np.zeros((2, max(j - i for i, j, _, _ in seen) + 1))
    for i, j, error, n in seen:
        lost[j - i] += error * n
        count[j - i] += n
    curve = near(lost) / np.maximum(near(count), 1)
    excess = np.maximum(np.maximum.accumulate(curve) - curve[0], 0.0)
    excess = np.concatenate([excess, np.full(round(BEYOND * len(excess)), excess[-1])])
    cycle = (setting.cost_retrain / (setting.cost_error * answers) + np.cumsum(excess)) / np.arange(1, len(excess) + 1)
    return float(cycle.min())


def terms_for(past: Past, setting: Setting, threshold: float, fresh: float, family: Family) -> Terms:
    """What production would have been told. Wrong answers beyond those of a fresh model are a cost per day too.

    Costs are per window too early and too late, as the newsvendor rule has it: a retraining that comes a window early
    wastes one window of the life of a model, so that share of its cost.
    """
    window_us = max(round(setting.window_days * DAY_US), 1)
    counts = [n for _, _, _, n in past.errors()]
    per_day = float(np.mean(counts)) / setting.window_days if counts else 0.0
    extra = setting.cost_error * max(fresh - threshold, 0.0) * per_day
    lead = max(setting.lead, 1)  # acting is possible once per window
    return Terms(
        threshold=threshold,
        lead_time_us=lead * window_us,
        window_us=window_us,
        cost_retrain=setting.cost_retrain * lead / family.life,
        cost_degraded_per_day=setting.cost_degraded_per_day + extra,
        accepted=fresh,
    )
