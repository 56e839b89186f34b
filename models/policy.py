"""When to ask for a retraining: a pure decision over estimate, forecast and costs.

Retraining too early costs one retraining, too late costs degraded days for as long as a new model takes. So the
trigger is due when P(below the threshold within the lead time) >= c_early / (c_early + c_late), the newsvendor rule, or
when the whole interval of the quality lies below the threshold already. Two consecutive windows must agree. Drift is
evidence and never a reason.

One incident per model version is open at a time; it yields one trigger. It closes by `close` (another version took
over) or when the quality has been back, with a small probability of falling, for some windows. A later incident
triggers no earlier than the cool-down, one lead time after the last trigger. Ids follow from what happened, so a
replay repeats them.
"""

import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec

from models.forecast import Passage
from models.quality import Estimate

CONFIRMATIONS = 2  # windows that must agree before a trigger
CALM_WINDOWS = 3  # windows of regained quality that close an incident
SMALL = 0.5  # "small" is a probability below this share of the one that triggers
NAMESPACE = uuid.UUID("8f2f2f0e-3c0e-5b58-9b57-5f8d0c9f4a11")
DAY_US = 86_400_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What people declared for one model: threshold of a metric (higher is better), lead time, costs (one currency)."""

    threshold: float
    lead_time_us: int
    window_us: int
    metric: str = "accuracy"
    cost_retrain: float = 1.0
    cost_degraded_per_day: float = 1.0

    @property
    def lead_windows(self) -> float:
        """Lead time in windows."""
        return self.lead_time_us / self.window_us

    @property
    def trigger_probability(self) -> float:
        """P(T <= lead time) from which acting is cheaper than waiting; one half if no cost is declared at all."""
        late = self.cost_degraded_per_day * self.lead_time_us / DAY_US
        return self.cost_retrain / (self.cost_retrain + late) if self.cost_retrain + late > 0 else 0.5


class PolicyState(msgspec.Struct, frozen=True, kw_only=True):
    """What the decisions of one model version remember; serialise it with the estimators."""

    version: int = 1
    incidents: int = 0
    open_since_us: int | None = None
    trigger_id: str | None = None
    cooldown_until_us: int | None = None
    alarming: int = 0  # windows in a row that call for a retraining
    calm: int = 0  # windows in a row that are fine, while an incident is open
    decided_until_us: int | None = None


class Trigger(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the topic `retrain-triggers`; times are RFC 3339, UTC."""

    trigger_id: str
    action: Literal["retrain", "recalibrate", "fix-pipeline", "roll-back", "review"]
    model_name: str
    model_version: str
    severity: Literal["warning", "critical"]
    retrain_by: str
    reason: dict[str, Any]
    forecast: dict[str, Any]
    dedupe_key: str
    cooldown_until: str
    created_at: str
    evidence: tuple[str, ...] = ()
    data: dict[str, Any] = {}


def decide(
    state: PolicyState,
    terms: Terms,
    *,
    subject: tuple[str, str],
    now_us: int,
    estimate: Estimate,
    passage: Passage | None,
    open_mismatches: Sequence[str] = (),
) -> tuple[PolicyState, Trigger | None]:
    """Decide at the end of one window, `now_us` in event time, for `subject` = (model, version).

    `passage` must have been made with `lead=terms.lead_windows`. `open_mismatches` are ids that become evidence. A
    window not after the last one decided (a replay, a revision) changes nothing.
    """
    if state.decided_until_us is not None and now_us <= state.decided_until_us:
        return state, None
    below = _below(terms, estimate)
    probability = passage.probability_within_lead if passage is not None else None
    due = below or (probability is not None and probability > 0 and probability >= terms.trigger_probability)
    calm = not due and _calm(terms, estimate, probability)
    state = msgspec.structs.replace(
        state,
        decided_until_us=now_us,
        alarming=state.alarming + 1 if due else 0,
        calm=state.calm + 1 if calm and state.open_since_us is not None else 0,
    )
    if state.open_since_us is not None:
        return (close(state) if state.calm >= CALM_WINDOWS else state), None
    cooling = state.cooldown_until_us is not None and now_us < state.cooldown_until_us
    if state.alarming < CONFIRMATIONS or cooling:
        return state, None
    state = _opened(state, terms, subject, now_us)
    return state, _trigger(state, terms, subject, now_us, estimate=estimate, passage=passage, evidence=open_mismatches)


def close(state: PolicyState) -> PolicyState:
    """End the open incident, because the quality is back or a lifecycle event says that another version serves."""
    return msgspec.structs.replace(state, open_since_us=None, trigger_id=None, alarming=0, calm=0)


def forecast_fields(terms: Terms, passage: Passage | None, now_us: int) -> dict[str, Any]:
    """The `forecast` object of a status or trigger line: windows ahead become times.

    `low` is the one-sided bound, the time until which the model is good with 90% confidence.
    """
    if passage is None:
        return {"threshold": terms.threshold, "reason": "no forecast was made"}
    times = {"best_before": passage.median, "low": passage.good_for, "high": passage.high}
    return {
        "threshold": passage.threshold,
        **{key: None if ahead is None else rfc3339(_ahead(now_us, ahead, terms)) for key, ahead in times.items()},
        "probability_within_lead_time": passage.probability_within_lead,
        "censored": passage.reason is None and passage.median is None,
        "reason": passage.reason,
    }


def rfc3339(us: int) -> str:
    """Microseconds since the epoch as RFC 3339 in UTC.

    >>> rfc3339(0)
    '1970-01-01T00:00:00Z'
    """
    return (EPOCH + timedelta(microseconds=us)).isoformat().replace("+00:00", "Z")


def _below(terms: Terms, estimate: Estimate) -> bool:
    """Does the whole interval lie below the threshold?"""
    return estimate.high is not None and estimate.high < terms.threshold


def _calm(terms: Terms, estimate: Estimate, probability: float | None) -> bool:
    """Is the quality back, with a small probability of falling? Without evidence the answer is no."""
    if estimate.estimate is None or probability is None:
        return False
    small = SMALL * terms.trigger_probability
    return estimate.estimate >= terms.threshold and (probability < small or probability == 0)


def _opened(state: PolicyState, terms: Terms, subject: tuple[str, str], now_us: int) -> PolicyState:
    number = state.incidents + 1
    identity = json.dumps([*subject, number, now_us - terms.window_us])
    return msgspec.structs.replace(
        state,
        incidents=number,
        open_since_us=now_us,
        trigger_id=str(uuid.uuid5(NAMESPACE, identity)),
        cooldown_until_us=now_us + terms.lead_time_us,
        calm=0,
    )


def _trigger(
    state: PolicyState,
    terms: Terms,
    subject: tuple[str, str],
    now_us: int,
    *,
    estimate: Estimate,
    passage: Passage | None,
    evidence: Sequence[str],
) -> Trigger:
    model, version = subject
    below = _below(terms, estimate)
    window_start = rfc3339(now_us - terms.window_us)
    reason = {
        "rule": "below-threshold" if below else "probability-within-lead-time",
        "metric": terms.metric,
        "threshold": terms.threshold,
        "quality": msgspec.to_builtins(estimate),
        "probability_within_lead_time": passage.probability_within_lead if passage is not None else None,
        "trigger_probability": terms.trigger_probability,
        "incident": state.incidents,
    }
    return Trigger(
        trigger_id=str(state.trigger_id),
        action="retrain",
        model_name=model,
        model_version=version,
        severity="critical" if below else "warning",
        retrain_by=rfc3339(_retrain_by(terms, passage, now_us, below)),
        reason=reason,
        forecast=forecast_fields(terms, passage, now_us),
        evidence=tuple(evidence),
        dedupe_key=f"{model}/{version}/{state.incidents}",
        cooldown_until=rfc3339(now_us + terms.lead_time_us),
        data={"time_range": {"start": window_start, "end": rfc3339(now_us)}},
        created_at=rfc3339(now_us),
    )


def _retrain_by(terms: Terms, passage: Passage | None, now_us: int, below: bool) -> int:
    """One lead time before the model may be below its threshold, but not in the past."""
    if below or passage is None or passage.reason is not None:
        return now_us
    good_for = float(passage.horizon) if passage.good_for is None else passage.good_for
    return max(now_us, _ahead(now_us, good_for, terms) - terms.lead_time_us)


def _ahead(now_us: int, windows: float, terms: Terms) -> int:
    return now_us + round(windows * terms.window_us)
