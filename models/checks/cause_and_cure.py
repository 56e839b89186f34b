"""Is retraining the cure of what is wrong?

| | |
|---|---|
| left | the threshold in `trained_model.algorithm_metrics`, `system_context.bestbefore` {lead_time, cost_retrain, cost_degraded_per_day} |
| right | the current quality with its forecast, and the mismatches that are open |
| statistic | the quality with its 90% interval; P(below the threshold within the lead time) against the probability from which acting is cheaper |
| mismatch | a trigger is due while a cause is open that retraining cannot cure; the message names cause and cure (severity `info`: the cause itself has been told) |
| ok | no trigger is due, or retraining is the cure |
| unknown | no threshold is declared, or there is neither an estimate nor a forecast |

When a trigger is due it asks for the cure of the open causes, the first of these: `roll-back` (other weights serve),
`fix-pipeline` (the data are broken), `recalibrate` (nothing is open but a shift of the classes, it explains the loss,
and recalibrated answers would be good enough), `review` (somebody must look), `retrain`. Until the causes are resolved
a retraining is withheld, and the trigger says so under `reason.withheld`. Once they are and two windows still ask, a
retraining is triggered without waiting for the cool-down.

Drift of features or embeddings withholds nothing: new data are what retraining is for. Neither does what is slow, old
or of severity `info`, nor a mismatch that touches less than half as many events as the accuracy has lost points: one
strange value in a million explains no loss. Give your own checks the severity `info` if a retraining should not wait for them.
"""

from collections.abc import Iterator

from models.causes import OpenCause, matters, recalibrated
from models.checks.check import Check
from models.checks.observed import Observed
from models.checks.quality_and_time_to_threshold import path_of, without_threshold
from models.checks.verdict import Action, Effect, Side, Verdict
from models.policy import Standing, standing, terms_of
from models.quality import Estimate

FIELD = "decision"  # one, so that what opens under one cure is resolved whatever came between
REMEDY: dict[Action, str] = {
    "roll-back": "roll back to the described weights",
    "fix-pipeline": "fix the pipeline",
    "recalibrate": "recalibrate to the present class shares",
    "review": "find out what the open mismatch means",
    "retrain": "retrain",
}
SHOWN = 3  # causes that a message names


def live(seen: Observed) -> Iterator[Verdict]:
    """One verdict about what is due."""
    terms, estimate, passage = terms_of(seen.reference), seen.estimate or Estimate(), seen.passage
    if terms is None:
        yield CHECK.unknown(without_threshold(seen.reference), field=FIELD)
        return
    left = Side(path_of(seen), terms.threshold)
    if estimate.estimate is None and (passage is None or passage.probability_within_lead is None):
        yield CHECK.unknown(estimate.reason or "there is neither an estimate nor a forecast", field=FIELD, left=left)
        return
    if seen.block is None and {c.action for c in seen.causes if matters(c)} == {"recalibrate"}:
        yield CHECK.unknown(f"whether recalibrating is enough: {seen.filling}", field=FIELD, left=left)
        return
    now = standing(
        terms, estimate=estimate, passage=passage, causes=seen.causes,
        recalibration=recalibrated(seen.block, seen.reference),
    )  # fmt: skip
    effect = _effect(now, terms.threshold, estimate)
    sides = {"field": FIELD, "left": left, "right": _quality(seen, estimate), "effect": effect}
    if not now.due or now.cure.action == "retrain":
        yield CHECK.ok(reason="a retraining is due, and no open cause withholds it" if now.due else "", **sides)
        return
    action = now.cure.action
    evidence = tuple(cause.id for cause in now.cure.because)
    yield CHECK.mismatch(
        _told(now, seen.reference.metric, estimate, terms.threshold), action=action, remedy=REMEDY[action],
        evidence=evidence, **sides,
    )  # fmt: skip


def _quality(seen: Observed, estimate: Estimate) -> Side:
    value = None if estimate.estimate is None else float(f"{estimate.estimate:.6g}")
    return Side(f"telemetry.quality.{seen.reference.metric}", value, low=estimate.low, high=estimate.high, n=estimate.n)


def _effect(now: Standing, threshold: float, estimate: Estimate) -> Effect | None:
    """What makes a trigger due: the quality where it is below, else its probability of falling."""
    if not now.below and now.probability is not None:
        return Effect(statistic="P(below the threshold within the lead time)", estimate=now.probability)
    if estimate.estimate is None:
        return None
    return Effect(
        statistic=estimate.metric, estimate=float(f"{estimate.estimate:.6g}"), low=estimate.low, high=estimate.high,
        threshold=threshold, n=estimate.n,
    )  # fmt: skip


def _told(now: Standing, metric: str, estimate: Estimate, threshold: float) -> str:
    """What is due, why it is no retraining, and until when."""
    if now.below and estimate.estimate is not None:
        loss = f"{metric} is {estimate.estimate:.3g}, below the declared {threshold:g}"
    else:
        loss = f"{metric} falls below the declared {threshold:g} within the lead time with probability {now.probability:.2g}"
    causes = now.cure.because
    named = "; ".join(_named(cause) for cause in causes[:SHOWN])
    more = f" and {len(causes) - SHOWN} more" if len(causes) > SHOWN else ""
    return (
        f"{loss}, while a cause is open that retraining cannot cure ({named}{more}): {REMEDY[now.cure.action]}; a "
        "retraining is withheld until it is resolved"
    )


def _named(cause: OpenCause) -> str:
    about = f"{cause.check} of {cause.field}" if cause.field else cause.check
    return f"{about} -> {cause.action}"


CHECK = Check(
    id="cause-and-cure",
    title="The right cure",
    owner="system owner",
    remedy="cure the open cause first",
    action="review",
    severity="info",
    live=live,
)
