"""When to ask for a retraining, or for another cure: a pure decision over estimate, forecast, costs and open causes.

Retraining too early costs one retraining, too late costs degraded days for as long as a new model takes. So the
trigger is due when P(below the threshold within the lead time) >= c_early / (c_early + c_late), the newsvendor rule, or
when the whole interval of the quality lies below the threshold already. c_early is one retraining, c_late a degraded
day times the lead time in days, both in one currency. Two consecutive windows must agree. Drift is evidence and never a
reason.

While a cause is open that retraining cannot cure, the trigger names the cure of that cause instead, and says that and
why a retraining is withheld (`models.causes`). Once the cause is resolved and two windows still ask, a retraining is.

One incident per model version and action is open at a time; it yields one trigger. A retraining closes by `close`
(another version took over) or when the quality has been back, with a small probability of falling, for some windows;
any other when the causes its trigger named are resolved. A later incident of the same action triggers no earlier than
the cool-down, one lead time after the last trigger; so does a critical cause that the open trigger did not name, and
the newer trigger, which names both, then stands for the older. Ids follow from what happened, so a replay repeats them.
"""

import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec

from models.causes import Cure, OpenCause, Recalibration, cure_of
from models.checks.verdict import Action
from models.forecast import Passage
from models.incidents import Incident, ended, fact, outgrown
from models.quality import Estimate
from models.reference import Reference

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
    accepted: float | None = None  # the metric when the model was accepted
    retrain_every_us: int | None = None  # the calendar by which it would be retrained

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
    incidents: int = 0  # retrainings asked for; the four fields up to `cooldown_until_us` are about them
    open_since_us: int | None = None
    trigger_id: str | None = None
    cooldown_until_us: int | None = None
    alarming: int = 0  # windows in a row that call for a trigger
    calm: int = 0  # windows in a row that are fine, while a retraining is asked for
    decided_until_us: int | None = None
    calling: Action = "retrain"  # what the last window called for
    cures: dict[str, Incident] = {}  # by action other than retrain
    recalibration: Recalibration | None = None  # the last one known, while one would matter

    @property
    def open_triggers(self) -> dict[str, str]:
        """Ids of the triggers that are open, by action."""
        found = {action: incident.trigger_id for action, incident in sorted(self.cures.items())}
        return {k: v for k, v in {"retrain": self.trigger_id, **found}.items() if v is not None}


class Trigger(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the topic `retrain-triggers`; times are RFC 3339, UTC."""

    trigger_id: str
    action: Action
    model_name: str
    model_version: str
    severity: Literal["info", "warning", "critical"]
    retrain_by: str
    reason: dict[str, Any]
    forecast: dict[str, Any]
    dedupe_key: str
    cooldown_until: str
    created_at: str
    evidence: tuple[str, ...] = ()
    data: dict[str, Any] = {}


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What one window asks for, whatever was asked before. `cure` counts only where a trigger is `due`."""

    due: bool
    below: bool
    probability: float | None
    cure: Cure


def standing(
    terms: Terms,
    *,
    estimate: Estimate,
    passage: Passage | None,
    causes: Sequence[OpenCause] = (),
    recalibration: Recalibration | None = None,
) -> Standing:
    """Weigh one window: is a trigger due, and for what?"""
    below = _below(terms, estimate)
    probability = passage.probability_within_lead if passage is not None else None
    due = below or (probability is not None and probability > 0 and probability >= terms.trigger_probability)
    enough = recalibration is not None and recalibration.cures(terms.threshold, estimate)
    known = estimate.estimate is not None and terms.accepted is not None
    loss = max((terms.accepted or 0.0) - (estimate.estimate or 0.0), 0.0) if known else None
    cure = cure_of(causes, recalibration=enough, loss=loss)
    return Standing(due=due, below=below, probability=probability, cure=cure)


def decide(
    state: PolicyState,
    terms: Terms,
    *,
    subject: tuple[str, str],
    now_us: int,
    estimate: Estimate,
    passage: Passage | None,
    open_mismatches: Sequence[str] = (),
    causes: Sequence[OpenCause] = (),
    recalibration: Recalibration | None = None,
    scheduled_us: int | None = None,
) -> tuple[PolicyState, Trigger | None]:
    """Decide at the end of one window, `now_us` in event time, for `subject` = (model, version).

    `passage` must have been made with `lead=terms.lead_windows`. `open_mismatches` are ids that become evidence,
    `causes` the same mismatches with their cures. `recalibration` None: as last known. `scheduled_us`: when a calendar
    would retrain. A window not after the last one decided (a replay, a revision) changes nothing.
    """
    if state.decided_until_us is not None and now_us <= state.decided_until_us:
        return state, None
    may_recalibrate = any(cause.action == "recalibrate" for cause in causes)
    recalibration = (recalibration or state.recalibration) if may_recalibrate else None
    now = standing(terms, estimate=estimate, passage=passage, causes=causes, recalibration=recalibration)
    state = msgspec.structs.replace(
        _resolved(state, causes),
        decided_until_us=now_us,
        recalibration=recalibration,
        **_counted(state, terms, now, estimate),
    )
    if state.open_since_us is not None and state.calm >= CALM_WINDOWS:
        state = _calmed(state)
    action = now.cure.action
    incident = _incident(state, action)
    cooling = incident.cooldown_until_us is not None and now_us < incident.cooldown_until_us
    asked = incident.open_since_us is not None and not outgrown(incident, now.cure)
    if asked or state.alarming < CONFIRMATIONS or cooling:
        return state, None
    incident = _opened(incident, terms, subject, now_us, now.cure)
    trigger = _trigger(
        state, incident, terms, subject, now_us, now=now, estimate=estimate, passage=passage, evidence=open_mismatches,
        scheduled_us=scheduled_us,
    )  # fmt: skip
    return _with(state, action, incident), trigger


def close(state: PolicyState) -> PolicyState:
    """End what is open, because a lifecycle event says that another version serves. Cool-downs stay."""
    cures = {action: ended(incident) for action, incident in state.cures.items()}
    return msgspec.structs.replace(_calmed(state), cures=cures)


def hold(state: PolicyState, until_us: int) -> PolicyState:
    """Ask for no further retraining before `until_us`: a new model is on its way."""
    until = max(until_us, state.cooldown_until_us or until_us)
    return msgspec.structs.replace(state, cooldown_until_us=until)


def withheld(state: PolicyState, now: Standing) -> dict[str, Any] | None:
    """Why the retraining that is due is not asked for (again); None where none is due or nothing withholds it."""
    if not now.due:
        return None
    because: list[dict[str, Any]] = [cause.told() for cause in now.cure.because]
    if state.open_since_us is not None:
        message = f"a retraining was asked for at {rfc3339(state.open_since_us)}"
        because.append({"id": state.trigger_id, "check": "cause-and-cure", "field": "retrain", "message": message})
    return {"action": "retrain", "because": because, "until": "resolved"} if because else None


def terms_of(reference: Reference) -> Terms | None:
    """What was declared, as terms of a decision; None without a threshold."""
    if reference.threshold is None:
        return None
    return Terms(
        threshold=reference.threshold,
        lead_time_us=reference.lead_time_us,
        window_us=reference.window_us,
        metric=reference.metric,
        cost_retrain=reference.cost_retrain,
        cost_degraded_per_day=reference.cost_degraded_per_day,
        accepted=reference.calibration.accuracy if reference.calibration else None,
        retrain_every_us=reference.retrain_every_us,
    )


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


def _counted(state: PolicyState, terms: Terms, now: Standing, estimate: Estimate) -> dict[str, Any]:
    """Windows in a row that ask, and that are fine."""
    calm = not now.due and _calm(terms, estimate, now.probability)
    # Windows that asked for another cure say nothing about what remains after it: for a retraining, count anew.
    before = 0 if now.cure.action == "retrain" and state.calling != "retrain" else state.alarming
    return {
        "alarming": before + 1 if now.due else 0,
        "calm": state.calm + 1 if calm and state.open_since_us is not None else 0,
        "calling": now.cure.action,
    }


def _calmed(state: PolicyState) -> PolicyState:
    """The state without an open retraining."""
    return msgspec.structs.replace(state, open_since_us=None, trigger_id=None, alarming=0, calm=0)


def _resolved(state: PolicyState, causes: Sequence[OpenCause]) -> PolicyState:
    """End incidents of which every cause is resolved."""
    still = {cause.id for cause in causes}
    cures = {
        action: incident if still.intersection(incident.causes) else ended(incident)
        for action, incident in state.cures.items()
    }
    return msgspec.structs.replace(state, cures=cures)


def _incident(state: PolicyState, action: Action) -> Incident:
    """What is known of the triggers for `action`."""
    if action != "retrain":
        return state.cures.get(action, Incident())
    return Incident(
        number=state.incidents,
        open_since_us=state.open_since_us,
        trigger_id=state.trigger_id,
        cooldown_until_us=state.cooldown_until_us,
    )


def _with(state: PolicyState, action: Action, incident: Incident) -> PolicyState:
    """The inverse of `_incident`."""
    if action != "retrain":
        return msgspec.structs.replace(state, cures={**state.cures, action: incident})
    return msgspec.structs.replace(
        state,
        incidents=incident.number,
        open_since_us=incident.open_since_us,
        trigger_id=incident.trigger_id,
        cooldown_until_us=incident.cooldown_until_us,
        calm=0,
    )


def _opened(incident: Incident, terms: Terms, subject: tuple[str, str], now_us: int, cure: Cure) -> Incident:
    number, causes = incident.number + 1, tuple(sorted(cause.id for cause in cure.causes))
    of = () if cure.action == "retrain" else (cure.action, causes)
    identity = json.dumps([*subject, number, now_us - terms.window_us, *of])
    return Incident(
        number=number,
        open_since_us=now_us,
        trigger_id=str(uuid.uuid5(NAMESPACE, identity)),
        cooldown_until_us=now_us + terms.lead_time_us,
        causes=causes,
        facts=tuple(sorted({fact(cause) for cause in cure.causes})),
    )


def _trigger(
    state: PolicyState,
    incident: Incident,
    terms: Terms,
    subject: tuple[str, str],
    now_us: int,
    *,
    now: Standing,
    estimate: Estimate,
    passage: Passage | None,
    evidence: Sequence[str],
    scheduled_us: int | None,
) -> Trigger:
    model, version = subject
    action, causes = now.cure.action, now.cure.causes
    since = min([now_us - terms.window_us, *(cause.first_seen_us for cause in causes)])
    reason = {
        "rule": "below-threshold" if now.below else "probability-within-lead-time",
        "metric": terms.metric,
        "threshold": terms.threshold,
        "quality": msgspec.to_builtins(estimate),
        "probability_within_lead_time": now.probability,
        "trigger_probability": terms.trigger_probability,
        "incident": incident.number,
    }
    if scheduled_us is not None:
        before = (scheduled_us - now_us) / DAY_US
        reason["schedule"] = {"scheduled_at": rfc3339(scheduled_us), "days_before": before}
    other = () if action == "retrain" else (action,)
    return Trigger(
        trigger_id=str(incident.trigger_id),
        action=action,
        model_name=model,
        model_version=version,
        severity="critical" if now.below else "warning",
        retrain_by=rfc3339(_retrain_by(terms, passage, now_us, now.below)),
        reason=reason if action == "retrain" else {**reason, "withheld": withheld(state, now)},
        forecast=forecast_fields(terms, passage, now_us),
        evidence=tuple(evidence),
        dedupe_key="/".join((model, version, *other, str(incident.number))),
        cooldown_until=rfc3339(now_us + terms.lead_time_us),
        data={"time_range": {"start": rfc3339(since), "end": rfc3339(now_us)}},
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
