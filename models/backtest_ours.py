"""Our policy in a backtest: production's forecast and decision, fed with audited quality as labels arrive.

Every label that arrives is a reading of the audited quality of the version that serves. The forecaster tells
P(below the threshold by the time a new model would be there), and `models.policy.decide` weighs it against the costs,
with its confirmation, its cool-down and its one open incident, as it does in production. A version that has served for
too short a time for the amortised forecaster, or for Holt's, is forecast by the Kalman filter. Three things are added
to production:

- The ages at which the models of the first third fell below the threshold give a hazard by age. It and the forecast
  speak of the same event, so their odds are multiplied, and the odds that the forecaster's own training gives to a
  version without evidence are divided out.
- Nothing is asked before the loss of this version, projected to when a new one would serve, is worth `patience`
  retrainings: rent until renting has cost as much as buying (Karlin et al. 1988, doi:10.1007/BF01762111). A new model
  needs labels from after the change as well, which waiting brings. The first third tunes it.
- Without a declared threshold there is one implied by the costs (`models.backtest_terms.implied_margin`).
"""

import functools
import math
from collections.abc import Callable
from typing import Literal

import msgspec
import numpy as np

from models.backtest import Outcome, Past, Policy, Setting
from models.backtest_policies import Never, costs_of, fresh_error
from models.backtest_terms import TYPICAL_LIFE, Family, family_of, implied_margin, terms_for
from models.forecast import Filtered, Passage, Reading, current_quality, filter_quality, first_passage
from models.forecaster import Forecaster
from models.holt import holt_passage
from models.policy import PolicyState, Terms, close, decide

Kind = Literal["amortised", "kalman", "holt"]
ACCEPTED_ON = 4  # windows of a new version that say what it was accepted with, where nothing is declared
PATIENCE = 2.0  # loss that is worth a retraining, in retrainings, where the first third does not tell
PATIENCES = (4.0, 2.0, 1.0, 0.5, 0.0)


class Ours(Never):
    """The forecaster and the rule of production.

    `margin` is the loss of quality, against what a version was accepted with, from which it is to be replaced; None
    where the threshold was declared.
    """

    def __init__(
        self,
        setting: Setting,
        terms: Terms,
        family: Family,
        *,
        fresh: float,
        margin: float | None = None,
        patience: float = PATIENCE,
        kind: Kind = "amortised",
    ) -> None:
        self._setting, self._terms, self._family, self._kind = setting, terms, family, kind
        self._patience = patience
        self._fresh, self._margin = fresh, margin
        self._state = PolicyState()
        self._readings: list[Reading] = []
        self._forecaster: Forecaster | None = None
        self.renewed(0)

    def renewed(self, window: int) -> None:
        """Another version took over: its readings and its forecast begin anew, what was open is closed."""
        self._fresh = self._accepted()
        self._since, self._state, self._readings = window, close(self._state), []
        self._forecaster, self._read = None, 0

    def learnt(self, outcome: Outcome) -> None:
        """One reading of the serving version."""
        if outcome.since != self._since or not len(outcome.wrong):
            return
        right = 1 - float(outcome.wrong.mean())
        self._readings.append(Reading(window=outcome.window, audit=right, audit_n=float(len(outcome.wrong))))

    def _accepted(self) -> float:
        """What the serving version was accepted with: its first windows, half believed, half what others showed."""
        first = [r.audit for r in self._readings[:ACCEPTED_ON] if r.audit is not None]
        return (math.fsum(first) + ACCEPTED_ON * self._fresh) / (len(first) + ACCEPTED_ON)

    def _terms_now(self) -> Terms:
        """The terms, with the threshold that the margin gives where none is declared."""
        if self._margin is None:
            return self._terms
        return msgspec.structs.replace(self._terms, threshold=self._accepted() - self._margin)

    def _fed(self, threshold: float) -> Forecaster:
        """The forecaster of this version, fed with what it has not read yet; another one for another threshold."""
        if self._forecaster is None or self._forecaster.state.threshold != threshold:
            self._forecaster, self._read = Forecaster(threshold, registered=self._accepted()), 0
        for reading in self._readings[self._read :]:
            self._forecaster.update(reading)
        self._read = len(self._readings)
        return self._forecaster

    def asks(self, window: int) -> bool:
        """The decision of production at the end of this window, once the loss is worth a retraining."""
        if self._lost(window) < self._patience * self._setting.cost_retrain:
            return False
        filtered, terms = filter_quality(self._readings), self._terms_now()
        self._state, trigger = decide(
            self._state,
            terms,
            subject=("backtest", str(self._since)),
            now_us=(window + 1) * terms.window_us,
            estimate=current_quality(filtered),
            passage=self._passage(window, filtered, terms.threshold),
        )
        return trigger is not None

    def _lost(self, window: int) -> float:
        """What this version has cost beyond an accepted one, until a new one could serve: what is not seen yet is
        taken to be like the last windows.
        """
        s, accepted = self._setting, self._accepted()
        if not self._readings:
            return 0.0
        each = []
        for r in self._readings:
            quality = accepted if r.audit is None else r.audit
            below = s.threshold is not None and quality < s.threshold
            each.append(
                s.cost_error * (accepted - quality) * r.audit_n + s.cost_degraded_per_day * s.window_days * below
            )
        total = 0.0
        for loss in each:
            total = max(total + loss, 0.0)
        unseen = window + s.lead - self._readings[-1].window
        return total + unseen * max(math.fsum(each[-ACCEPTED_ON:]) / len(each[-ACCEPTED_ON:]), 0.0)

    def _passage(self, window: int, filtered: Filtered, threshold: float) -> Passage:
        """From the last window with labels to when a new model would be there; the family's ages weighed in."""
        seen = self._readings[-1].window if self._readings else self._since - 1
        ahead = window + 1 + self._setting.lead - seen
        found = self._forecast(filtered, threshold, float(ahead))
        if self._kind != "amortised":
            return found
        odds = _odds(self._family.within(max(seen + 1 - self._since, 0), ahead))
        if found.probability_within_lead is not None:
            odds *= _odds(found.probability_within_lead) / _odds(1 - math.exp(-ahead / TYPICAL_LIFE))
        return msgspec.structs.replace(found, probability_within_lead=odds / (1 + odds))

    def _forecast(self, filtered: Filtered, threshold: float, lead: float) -> Passage:
        found = None
        if self._kind == "holt":
            found = holt_passage(self._readings, threshold, lead=lead, seed=len(self._readings))
        elif self._kind == "amortised":
            found = self._fed(threshold).passage(lead=lead)
        if found is not None and found.reason is None:
            return found
        # Nothing beyond the lead time is asked for, so nothing beyond it is simulated.
        return first_passage(filtered, threshold, lead=lead, horizon=max(math.ceil(lead), 1))


def ours(kind: Kind) -> Callable[[Past, Setting, int], Policy]:
    """Our policy with one of its forecasts, as a maker like those of `models.backtest_policies`."""

    def made(past: Past, setting: Setting, windows: int) -> Policy:  # noqa: ARG001
        fresh = 1 - fresh_error(past)
        margin = None if setting.threshold is not None else implied_margin(past, setting)
        threshold = fresh - margin if setting.threshold is None and margin is not None else setting.threshold or 0.0
        family = family_of(past, threshold)
        terms = terms_for(past, setting, threshold, fresh, family)
        one = functools.partial(Ours, setting, terms, family, fresh=fresh, margin=margin, kind=kind)
        return one(patience=_patience(one, past, setting))

    return made


def _patience(make: Callable[..., Ours], past: Past, setting: Setting) -> float:
    """The patience that would have cost least on the past; the usual one where it makes no difference."""
    costs = costs_of([functools.partial(make, patience=p) for p in PATIENCES], past, setting)
    usual = costs[PATIENCES.index(PATIENCE)]
    return PATIENCE if usual <= min(costs) else PATIENCES[int(np.argmin(costs))]


def _odds(probability: float) -> float:
    kept = min(max(probability, 1e-6), 1 - 1e-6)
    return kept / (1 - kept)
