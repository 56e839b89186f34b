"""The decision at the end of a window: ask, advise, resolve, and say what the last forecast was worth.

Only all traffic of a model version decides, and only while it serves: one incident a cause, one trigger, whatever its
segments say.
"""

from collections.abc import Sequence

import msgspec

from models.causes import OpenCause, recalibrated
from models.checks.observed import Observed
from models.lifecycle import Life, resolved, worth
from models.notes import Note, digits
from models.outcome_of_forecast import CROSSED, promised
from models.policy import PolicyState, Terms, Trigger, decide, terms_of
from models.quality import Estimate
from models.schedule import advise, next_scheduled


def decision(
    life: Life, policy: PolicyState, seen: Observed, causes: Sequence[OpenCause]
) -> tuple[PolicyState, list[Note]]:
    """The policy after the window, and the lines to tell. `causes` are the mismatches that are open by now."""
    terms, subject, reference, now_us = terms_of(seen.reference), seen.subject, seen.reference, seen.end_us
    if terms is None or subject.segment or not reference.registered or not life.serving:
        return policy, []
    estimate = seen.estimate or Estimate()
    _watch(life, terms, estimate, now_us)
    scheduled = next_scheduled(reference, now_us, life.since_us)
    after, trigger = decide(
        policy, terms, subject=(subject.model, subject.version), now_us=now_us, estimate=estimate,
        passage=seen.passage, open_mismatches=[cause.id for cause in causes], causes=causes,
        recalibration=recalibrated(seen.block, reference), scheduled_us=scheduled,
    )  # fmt: skip
    notes = resolved(life, subject, reference, policy, after, now_us)
    if trigger is not None:
        notes.append(_note(seen, trigger))
        if trigger.action == "retrain":
            life.promise, life.crossed = promised(trigger, terms, seen.passage, now_us), False
    if life.promise is not None and life.below and not life.crossed:
        life.crossed = True
        notes += worth(life, subject, reference, now_us, CROSSED, "open")
    life.advice, advice = advise(
        life.advice, terms, subject=(subject.model, subject.version), now_us=now_us, estimate=estimate,
        passage=seen.passage, scheduled_us=scheduled, causes=causes, labelled=any(e.audits for e in seen.ring),
        idle=not after.open_triggers and not after.alarming,
    )  # fmt: skip
    return after, [*notes, *([] if advice is None else [_note(seen, advice)])]


def _watch(life: Life, terms: Terms, estimate: Estimate, now_us: int) -> None:
    """Since when the quality is below the threshold; an unknown one says nothing of it."""
    if estimate.estimate is None:
        return
    if estimate.estimate >= terms.threshold:
        life.below_since_us, life.below = None, False
        return
    life.below_since_us = now_us if life.below_since_us is None else life.below_since_us
    life.below = life.below or (estimate.high is not None and estimate.high < terms.threshold)


def _note(seen: Observed, trigger: Trigger) -> Note:
    body, traces = digits(msgspec.to_builtins(trigger)), seen.traces()
    return Note(
        id=trigger.trigger_id, kind="trigger", subject=seen.subject, at_us=seen.end_us, start_us=seen.start_us,
        end_us=seen.end_us, body={**body, "traces": traces} if traces else body, severity=trigger.severity,
    )  # fmt: skip
