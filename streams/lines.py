"""The types of what goes out: the `data` of the CloudEvents on mismatches, retrain-triggers, status, lifecycle.

The models write these lines as plain JSON; here stands what readers may rely on. Only ever add fields; a reader ignores
what it does not know. Every time is RFC 3339 in UTC, every interval covers 90% unless its text says otherwise, and null
stands where no honest number exists. The text under a field is its description in the published schema
(`streams.schemas`).
"""

from typing import Literal

import msgspec

from models.checks.verdict import Action, Effect, Severity, Side
from models.quality import Basis
from streams.events import Time


class Span(msgspec.Struct, kw_only=True):
    """A time from `start`, inclusive, to `end`, exclusive."""

    start: Time
    """The first moment."""
    end: Time
    """The first moment after it."""


class Forecast(msgspec.Struct, kw_only=True):
    """The forecast: when the quality will be below its threshold."""

    threshold: float | None
    """Quality below which the model is no longer good enough; null where none is declared."""
    best_before: Time | None = None
    """Median of the time at which the quality falls below the threshold; null beyond the horizon."""
    low: Time | None = None
    """Until then the model is good with 90% confidence (one-sided); null beyond the horizon."""
    high: Time | None = None
    """Upper end of the 90% interval; null beyond the horizon."""
    probability_within_lead_time: float | None = None
    """Probability, in [0, 1], that the quality is below the threshold within one lead time."""
    censored: bool = False
    """The median lies beyond the horizon."""
    reason: str | None = None
    """Why there is no forecast."""
    forecaster: str | None = None
    """Who made it: `amortised`, `kalman` or `holt`."""
    levels: str | None = None
    """Where the levels of its intervals come from."""
    n_resolved: int | None = None
    """Past forecasts of this model whose outcome is known."""
    season: str | None = None
    """Whether the declared season was taken out."""


class Mismatch(msgspec.Struct, kw_only=True):
    """Two sides that do not fit: what was declared, and what is seen; or, with `verdict` ok, that they fit again."""

    id: str
    """The line's id, as `ce_id`."""
    check: str
    """Which check."""
    verdict: Literal["mismatch", "ok"]
    """`ok` closes the mismatch named in `incident`."""
    severity: Severity
    """How much it matters."""
    model: str
    """Name of the model."""
    version: str | None
    """Version of the model; null: all versions side by side."""
    segment: str | None
    """Canonical JSON of the segment; null: all traffic."""
    field: str
    """Feature, item or metric that it is about."""
    left: Side | None
    """What was declared."""
    right: Side | None
    """What was seen."""
    effect: Effect | None
    """How large the difference is."""
    window: Span
    """Window in which it was confirmed."""
    first_seen: Time
    """Start of the first window that showed it."""
    message: str
    """What is wrong, for people."""
    owner: str
    """Who should act."""
    action: Action
    """What kind of cure it calls for."""
    remedy: str
    """What to do."""
    aliases: list[str]
    """Rules of other catalogues that it is, such as `tec:15`."""
    descriptors: str
    """Digest of the set of descriptors that it was judged by."""
    evidence: list[str]
    """Ids of at most 5 events that show it."""
    incident: str
    """Id of the line that opened it."""
    traces: list[str] = []
    """W3C trace contexts of at most 5 sampled requests that show it; left out where none came."""


class Quality(msgspec.Struct, kw_only=True):
    """A reading of a quality metric with its 90% interval; without a number, `reason` says why."""

    metric: str
    """Name of the metric; higher is better."""
    estimate: float | None
    """The metric, in its own unit: a share for accuracy."""
    low: float | None
    """Lower end of the interval."""
    high: float | None
    """Upper end of the interval."""
    n: float
    """Events or labels behind it."""
    basis: Basis
    """What it rests on."""
    reason: str | None
    """Why there is no number."""
    n_effective: float | None = None
    """What unequal weights leave of `n`."""


class Scheduled(msgspec.Struct, kw_only=True):
    """A retraining by the calendar."""

    scheduled_at: Time
    """When it would be."""
    days_before: float
    """Days from the trigger to that date."""


class Because(msgspec.Struct, kw_only=True):
    """An open cause that retraining cannot cure."""

    id: str | None
    """Id of the mismatch, or of the trigger that asked before."""
    check: str
    """Which check."""
    field: str
    """What it is about."""
    message: str = ""
    """What is wrong, for people."""


class Withheld(msgspec.Struct, kw_only=True):
    """The retraining that would be due, and what it waits for."""

    action: Literal["retrain"]
    """What is withheld."""
    because: list[Because]
    """What it waits for."""
    until: Literal["resolved"]
    """When it is asked for again, should it still be due."""


class Reason(msgspec.Struct, kw_only=True):
    """Why a trigger was written."""

    rule: Literal["below-threshold", "probability-within-lead-time", "schedule-not-needed"]
    """The rule that fired; `schedule-not-needed` is an advice, and opens nothing."""
    metric: str
    """Name of the quality metric."""
    threshold: float
    """Its threshold."""
    quality: Quality
    """The metric now."""
    probability_within_lead_time: float | None = None
    """Probability, in [0, 1], that the quality is below the threshold within one lead time."""
    trigger_probability: float | None = None
    """Probability from which acting is cheaper than waiting."""
    incident: int | None = None
    """Number of the incident of this action, from 1."""
    schedule: Scheduled | None = None
    """The next retraining by the calendar, where one is declared."""
    withheld: Withheld | None = None
    """The retraining that is due and not asked for; only where the action is another."""
    scheduled_at: Time | None = None
    """Of an advice: the scheduled retraining that is not needed."""
    good_until: Time | None = None
    """Of an advice: until then the model is good with 90% confidence."""
    next_review: Time | None = None
    """Of an advice: when to look again."""
    message: str | None = None
    """Of an advice: for people."""


class Affected(msgspec.Struct, kw_only=True):
    """The data that a trigger is about."""

    time_range: Span | None = None
    """From the first sign to the trigger; none for an advice."""


class RetrainTrigger(msgspec.Struct, kw_only=True):
    """What to do about a model version, once per cause; idempotent by `trigger_id`."""

    trigger_id: str
    """The trigger's id, as `ce_id`; the same under replay."""
    action: Action
    """What is asked for."""
    model_name: str
    """Name of the model."""
    model_version: str
    """Version of the model."""
    severity: Severity
    """`critical` where the quality is below the threshold already; `info`: an advice, which asks for nothing."""
    retrain_by: Time
    """When the cure must begin, one lead time before the quality may be below the threshold."""
    reason: Reason
    """Why."""
    forecast: Forecast
    """The forecast behind it."""
    dedupe_key: str
    """The same for every trigger of one incident."""
    cooldown_until: Time
    """No further trigger of this action before."""
    created_at: Time
    """End of the window that decided."""
    evidence: list[str]
    """Ids of the mismatches that are open."""
    data: Affected
    """The data that it is about."""
    traces: list[str] = []
    """W3C trace contexts of at most 5 sampled requests of the window that decided; left out where none came."""


class TriggerResolved(msgspec.Struct, kw_only=True, tag="trigger-resolved", tag_field="kind"):
    """A trigger is not open any more."""

    id: str
    """The line's id, as `ce_id`."""
    time: Time
    """Since when."""
    model: str
    """Name of the model; also the record's key."""
    version: str
    """Version of the model."""
    trigger_id: str
    """Which trigger."""
    action: Action
    """What it had asked for."""
    resolution: Literal["superseded", "retired", "deployed", "replaced", "recovered", "causes-resolved"]
    """How it ended."""
    replaced_by: str | None
    """The newer trigger that stands for it."""
    successor: str | None
    """The version that took over."""
    because: str | None
    """Id of the lifecycle event that ended it."""
    message: str
    """For people."""


class ForecastMade(msgspec.Struct, kw_only=True):
    """What was forecast when a retraining was asked for."""

    made_at: Time
    """When."""
    best_before: Time | None
    """Median; null without a forecast, or beyond the horizon."""
    low: Time | None
    """Lower end of the 90% interval."""
    high: Time | None
    """Upper end of the 90% interval."""
    probability_within_lead_time: float | None
    """Probability, in [0, 1], that the quality is below the threshold within one lead time."""


class Observation(msgspec.Struct, kw_only=True):
    """What came of it."""

    crossed: Time | None
    """When the quality was first seen below the threshold; null: never."""
    censored: bool
    """Nobody saw it cross."""
    until: Time
    """Until when it was watched."""


class Cost(msgspec.Struct, kw_only=True):
    """What acting on the trigger cost beside a calendar, in days and in the currency of the descriptors."""

    scheduled_at: Time
    """When the calendar would have retrained."""
    basis: Literal["observed", "forecast"]
    """Whether the crossing was seen or is the forecast one."""
    degraded_days: float
    """Days below the threshold."""
    degraded_days_by_schedule: float
    """Days below the threshold that the calendar would have cost."""
    retraining_brought_forward: float
    """What retraining earlier than the calendar costs."""
    saved: float
    """Positive: the trigger was cheaper."""


class ForecastOutcome(msgspec.Struct, kw_only=True, tag="forecast-outcome", tag_field="kind"):
    """What the forecast of a trigger was worth."""

    id: str
    """The line's id, as `ce_id`."""
    time: Time
    """When it became known."""
    model: str
    """Name of the model; also the record's key."""
    version: str
    """Version of the model."""
    trigger_id: str
    """Whose forecast."""
    stage: Literal["crossed", "ended"]
    """The quality was seen below the threshold, or the trigger ended."""
    resolution: str
    """How the trigger ended; `open` while it has not."""
    forecast: ForecastMade
    """What was forecast."""
    observed: Observation
    """What came of it."""
    error_windows: float | None
    """Crossing minus median, in windows."""
    within_interval: bool | None
    """Whether the interval held the crossing; null where nobody can tell."""
    warning_windows: float | None
    """From trigger to crossing, in windows."""
    lead_windows: float
    """Lead time, in windows."""
    warned_in_time: bool | None
    """Whether the warning was as long as the lead time; null without a crossing."""
    cost: Cost | None
    """Beside the calendar; null while it is open, or where no calendar is declared."""


Told = TriggerResolved | ForecastOutcome
