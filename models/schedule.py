"""A retraining by the calendar: when it is due, and when it may be left out because the model is provably good.

The advice is given once per scheduled date, within one lead time before it, and only on evidence: the one-sided 90%
bound of the best-before date lies a lead time beyond the date (so that a retraining begun then would still be in
time), the whole interval of the quality lies above the threshold, labels say so where labels come, and nothing
critical is open. What cannot be shown is not said: silence means "keep to the schedule".
"""

import uuid
from collections.abc import Sequence

import msgspec

from models.causes import OpenCause
from models.descriptors.fields import instant_us
from models.forecast import Passage
from models.policy import CONFIRMATIONS, DAY_US, NAMESPACE, Terms, Trigger, forecast_fields, rfc3339
from models.quality import Estimate
from models.reference import Reference


class Advice(msgspec.Struct, frozen=True):
    """`advised_us`: the last scheduled date that was advised against. `proven`: windows in a row that could."""

    advised_us: int | None = None
    proven: int = 0


def next_scheduled(reference: Reference, after_us: int, deployed_us: int | None = None) -> int | None:
    """The first scheduled date after `after_us`; None where no schedule is declared, or nobody knows its beginning.

    It begins with the training of this version (`trained_model.training_date`), else with its deployment.
    """
    every = reference.retrain_every_us
    start = _trained_us(reference) if every is not None else None
    start = deployed_us if start is None else start
    if every is None or start is None:
        return None
    return start + max((after_us - start) // every + 1, 1) * every


def advise(
    advice: Advice,
    terms: Terms,
    *,
    subject: tuple[str, str],
    now_us: int,
    estimate: Estimate,
    passage: Passage | None,
    scheduled_us: int | None,
    causes: Sequence[OpenCause] = (),
    labelled: bool = False,
    idle: bool = True,
) -> tuple[Advice, Trigger | None]:
    """Advise, at the end of one window, against the retraining at `scheduled_us`; `idle` False: one is asked for.

    `labelled`: labels come, so only they can prove. Two windows in a row must.
    """
    if scheduled_us is None or scheduled_us == advice.advised_us or now_us < scheduled_us - terms.lead_time_us:
        return Advice(advice.advised_us), None
    good_until = _good_until(terms, passage, now_us)
    proven = (
        idle
        and good_until is not None
        and good_until >= scheduled_us + terms.lead_time_us
        and estimate.low is not None
        and estimate.low >= terms.threshold
        and not any(cause.severity == "critical" for cause in causes)
        and (estimate.basis in ("labels", "both") or not labelled)
    )
    if not proven or good_until is None or advice.proven + 1 < CONFIRMATIONS:
        return Advice(advice.advised_us, advice.proven + 1 if proven else 0), None
    trigger = _trigger(terms, subject, now_us, estimate, passage, scheduled_us, good_until)
    return Advice(scheduled_us), trigger


def _good_until(terms: Terms, passage: Passage | None, now_us: int) -> int | None:
    """With 90% confidence; the horizon where the bound lies beyond it."""
    if passage is None or passage.reason is not None:
        return None
    windows = float(passage.horizon) if passage.good_for is None else passage.good_for
    return now_us + round(windows * terms.window_us)


def _trigger(
    terms: Terms, subject: tuple[str, str], now_us: int, estimate: Estimate, passage: Passage | None, scheduled_us: int,
    good_until: int,
) -> Trigger:  # fmt: skip
    model, version = subject
    review = good_until - terms.lead_time_us
    scheduled = rfc3339(scheduled_us)
    days = (review - scheduled_us) / DAY_US
    return Trigger(
        trigger_id=str(uuid.uuid5(NAMESPACE, "\x00".join((*subject, "schedule-not-needed", str(scheduled_us))))),
        action="review",
        model_name=model,
        model_version=version,
        severity="info",
        retrain_by=rfc3339(review),
        reason={
            "rule": "schedule-not-needed",
            "scheduled_at": scheduled,
            "good_until": rfc3339(good_until),
            "next_review": rfc3339(review),
            "metric": terms.metric,
            "threshold": terms.threshold,
            "quality": msgspec.to_builtins(estimate),
            "message": f"the retraining scheduled for {scheduled} is not needed: with 90% confidence the model stays "
            f"above {terms.threshold:g} until {rfc3339(good_until)}; look again {days:.1f} days after that date",
        },
        forecast=forecast_fields(terms, passage, now_us),
        dedupe_key="/".join((model, version, "schedule", scheduled)),
        cooldown_until=scheduled,
        created_at=rfc3339(now_us),
    )


def _trained_us(reference: Reference) -> int | None:
    value = reference.descriptors.get("trained_model", {}).get("training_date")
    try:
        return None if value is None else instant_us(str(value))
    except ValueError:
        return None  # a check tells that it is no date
