"""What a forecast was worth, once it is known how things went: error, coverage, warning given, cost against a calendar.

A trigger is a promise: "below the threshold around then". It is kept until the quality is seen below, or until the
version is replaced, retired or well again; then the crossing is censored, since nobody saw it.
"""

from typing import Any

import msgspec

from models.forecast import Passage
from models.notes import digits
from models.policy import DAY_US, Terms, Trigger, rfc3339

CROSSED, ENDED = "crossed", "ended"


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """What was forecast when a retraining was asked for; times in microseconds, None beyond the horizon."""

    trigger_id: str
    at_us: int
    forecast: bool = False  # whether there was one: below the threshold already needs none
    best_before_us: int | None = None
    low_us: int | None = None
    high_us: int | None = None
    probability_within_lead: float | None = None


def promised(trigger: Trigger, terms: Terms, passage: Passage | None, now_us: int) -> Promise:
    """The promise that a trigger makes at `now_us`."""
    if passage is None or passage.reason is not None:
        return Promise(trigger_id=trigger.trigger_id, at_us=now_us)

    def at(windows: float | None) -> int | None:
        return None if windows is None else now_us + round(windows * terms.window_us)

    return Promise(
        trigger_id=trigger.trigger_id, at_us=now_us, forecast=True, best_before_us=at(passage.median),
        low_us=at(passage.low), high_us=at(passage.high), probability_within_lead=passage.probability_within_lead,
    )  # fmt: skip


def outcome(
    promise: Promise, terms: Terms, *, crossed_us: int | None, until_us: int, scheduled_us: int | None, stage: str
) -> dict[str, Any]:
    """How the promise stands at `until_us`; `crossed_us` None: the quality was never seen below the threshold.

    `within_interval` is None where nobody can tell: no forecast, or a version that ended inside its interval.
    """
    warning = None if crossed_us is None else crossed_us - promise.at_us
    error = None
    if crossed_us is not None and promise.best_before_us is not None:
        error = (crossed_us - promise.best_before_us) / terms.window_us
    found = {
        "trigger_id": promise.trigger_id,
        "forecast": {
            "made_at": rfc3339(promise.at_us), "best_before": _text(promise.best_before_us),
            "low": _text(promise.low_us), "high": _text(promise.high_us),
            "probability_within_lead_time": promise.probability_within_lead,
        },
        "observed": {"crossed": _text(crossed_us), "censored": crossed_us is None, "until": rfc3339(until_us)},
        "error_windows": error,
        "within_interval": _within(promise, crossed_us, until_us),
        "warning_windows": None if warning is None else warning / terms.window_us,
        "lead_windows": terms.lead_windows,
        "warned_in_time": None if warning is None else warning >= terms.lead_time_us,
        "cost": _cost(promise, terms, crossed_us, until_us, scheduled_us) if stage == ENDED else None,
    }  # fmt: skip
    told: dict[str, Any] = digits(found)
    return told


def _within(promise: Promise, crossed_us: int | None, until_us: int) -> bool | None:
    """Whether the interval held the crossing; an unseen one lies after `until_us`."""
    if not promise.forecast or promise.low_us is None:
        return None
    if crossed_us is not None:
        return promise.low_us <= crossed_us and (promise.high_us is None or crossed_us <= promise.high_us)
    return False if promise.high_us is not None and until_us > promise.high_us else None


def _cost(
    promise: Promise, terms: Terms, crossed_us: int | None, until_us: int, scheduled_us: int | None
) -> dict[str, Any] | None:
    """What acting on the trigger cost beside a calendar that would have retrained at `scheduled_us`; None without one.

    Degraded days run from the crossing, seen or else forecast, to the new version: `until_us` here, a lead time after
    the date there. A retraining brought forward by a share of the schedule costs that share of one more. In the
    currency of the descriptor; positive: the trigger was cheaper.
    """
    below = crossed_us if crossed_us is not None else promise.best_before_us
    if scheduled_us is None or terms.retrain_every_us is None:
        return None
    ready = scheduled_us + terms.lead_time_us
    ours, theirs = ((max(end - below, 0) if below is not None else 0) / DAY_US for end in (until_us, ready))
    brought_forward = max(ready - until_us, 0) / terms.retrain_every_us * terms.cost_retrain
    return {
        "scheduled_at": rfc3339(scheduled_us),
        "basis": "observed" if crossed_us is not None else "forecast",
        "degraded_days": ours,
        "degraded_days_by_schedule": theirs,
        "retraining_brought_forward": brought_forward,
        "saved": (theirs - ours) * terms.cost_degraded_per_day - brought_forward,
    }


def _text(us: int | None) -> str | None:
    return None if us is None else rfc3339(us)
