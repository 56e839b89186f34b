"""Are predictions right as often as they claim, and are the labels that say so a fair sample?

| | |
|---|---|
| left | `trained_model.model_output_interpretation`, `training_data.bestbefore.calibration`: scores are probabilities |
| right | late labels joined with the confidence of the prediction they are about |
| statistic | audited labels one by one against the lower end of the label-free 90% interval of their own window, a Shiryaev-Roberts e-detector; accuracy of audited predictions minus their mean confidence, in points of probability (`concept`); mean confidence of audited predictions minus that of all predictions of the same windows (`labels`) |
| mismatch | `concept`: the labels of closed windows contradict the label-free estimate (while they do not, one such flag in 10,000 labels at most; taken back after 400 labels without another), or the gap exceeds chance (once in 1000 windows) and 3 points: P(y given x) is not what it was, though inputs may look the same. `labels`: the audited predictions are more, or less, confident than the traffic they stand for: labels are not missing at random, and figures from them are biased |
| unknown | no calibration was registered, fewer than 100 labels of predictions with a confidence |

The newest windows that together hold 100, 200 and 400 labels are judged, the chance of an error shared between the
three: few labels show a large change soon, more show a small one. Whenever labels came, late, in another order or
twice, the answer is the same, because a label belongs to the window of its prediction and counts once.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

from models.checks.check import Check
from models.checks.observed import Observed
from models.checks.verdict import Effect, Side, Verdict
from models.distance import Z90
from models.evidence import Evidence
from models.profile import UNIT, WEIGHT
from models.quality import wilson

ENOUGH = 100  # labels; a gap of 15 points then exceeds chance
HORIZONS = (100, 200, 400)
FLOOR = 0.03  # points of probability that no calibration promises to hold
Z_ALPHA = 3.59  # two-sided, once in a thousand over three horizons
CALIBRATION = "training_data.bestbefore.calibration"
LABELS = "production_data.bestbefore.labels"


class Gap(NamedTuple):
    """A difference of two means, its standard error, and the number of labels behind it."""

    difference: float
    error: float
    n: int
    audited: float
    other: float


def live(seen: Observed) -> Iterator[Verdict]:
    """Concept, and fairness of the labels."""
    contradicted = _contradicted(seen)
    if contradicted is not None:
        yield contradicted
    if seen.reference.calibration is None:
        if contradicted is None:
            yield CHECK.unknown(f"{CALIBRATION} is not declared", field="concept")
        return
    horizons = [newest(seen, n) for n in HORIZONS]
    n = sum(e.audit_confident for e in horizons[-1])
    if n < ENOUGH:
        if contradicted is None:
            reason = f"{n} labels of predictions with a confidence, {ENOUGH} are needed"
            yield CHECK.unknown(reason, field="concept", left=seen.side(CALIBRATION, "scores are probabilities"))
        return
    if contradicted is None:
        yield _concept(seen, _clearest([gap_to_truth(windows) for windows in horizons]))
    yield _fair(_clearest([gap_to_traffic(windows) for windows in horizons]))


def _clearest(gaps: list[Gap]) -> Gap:
    """The gap of the shortest horizon that shows one, else that of the longest, which is the most exact."""
    return next((gap for gap in gaps if _broken(gap)), gaps[-1])


def newest(seen: Observed, enough: int) -> list[Evidence]:
    """The newest windows that together hold `enough` labels; all of them where they do not."""
    chosen: list[Evidence] = []
    for window in reversed(seen.ring):
        if sum(e.audit_confident for e in chosen) >= enough:
            break
        if window.audit_confident:
            chosen.append(window)
    return chosen


def gap_to_truth(windows: list[Evidence]) -> Gap:
    """Audited accuracy minus mean confidence of the same predictions."""
    weight, correct, confidence, _, n = _sums(windows)
    accuracy, claimed = correct / weight, confidence / weight
    # Given the confidences, the number of right answers has the variance of that many coins; the weights cost some n.
    # Under the claim the variance is that of the confidences, which knows no certainty at zero errors.
    variance = max(claimed * (1 - claimed), accuracy * (1 - accuracy), 0.5 / n) / _effective(windows, n)
    return Gap(accuracy - claimed, math.sqrt(variance), n, accuracy, claimed)


def gap_to_traffic(windows: list[Evidence]) -> Gap:
    """Mean confidence of audited predictions minus that of all predictions, window by window, weighted by labels."""
    difference, weights, audited, other = 0.0, 0.0, 0.0, 0.0
    for window in windows:
        if not window.scored:
            continue
        weight = window.audit_confident_weight / WEIGHT
        mine = window.audit_confidence / UNIT / weight
        all_of_it = window.confidence / UNIT / (window.scored / WEIGHT)
        difference += weight * (mine - all_of_it)
        audited, other, weights = audited + weight * mine, other + weight * all_of_it, weights + weight
    weight, _, confidence, squares, n = _sums(windows)
    variance = max(squares / weight - (confidence / weight) ** 2, 1e-6) / _effective(windows, n)
    total = max(weights, 1e-9)
    return Gap(difference / total, math.sqrt(variance), n, audited / total, other / total)


def _sums(windows: list[Evidence]) -> tuple[float, float, float, float, int]:
    weight = sum(e.audit_confident_weight for e in windows) / WEIGHT
    correct = sum(e.audit_confident_correct for e in windows) / WEIGHT
    confidence = sum(e.audit_confidence for e in windows) / UNIT
    squares = sum(e.audit_confidence_squared for e in windows) / UNIT
    return weight, correct, confidence, squares, sum(e.audit_confident for e in windows)


def _effective(windows: list[Evidence], n: int) -> float:
    """What unequal weights of the labels leave of `n`."""
    weight, squares = sum(e.audit_weight for e in windows) / WEIGHT, sum(e.audit_squared for e in windows) / WEIGHT
    audits = sum(e.audits for e in windows)
    return n * min(weight * weight / squares / audits, 1.0) if squares and audits else float(n)


def _effect(statistic: str, gap: Gap) -> Effect:
    reach = Z90 * gap.error
    return Effect(
        statistic=statistic, estimate=gap.difference, low=gap.difference - reach, high=gap.difference + reach,
        threshold=max(FLOOR, Z_ALPHA * gap.error), n=gap.n,
    )  # fmt: skip


def _broken(gap: Gap) -> bool:
    # The interval must leave the floor behind as well: a large error with little evidence says nothing.
    return abs(gap.difference) > Z_ALPHA * gap.error and abs(gap.difference) - Z90 * gap.error > FLOOR


def _concept(seen: Observed, gap: Gap) -> Verdict:
    left = seen.side(CALIBRATION, round(gap.other, 4))
    right = Side("telemetry.audited.accuracy", round(gap.audited, 4), n=gap.n)
    effect = _effect("audited accuracy minus mean confidence", gap)
    sides = {"field": "concept", "left": left, "right": right, "effect": effect}
    if not _broken(gap):
        return CHECK.ok(**sides)
    # Too modest a model needs other probabilities, not other weights.
    modest = gap.difference > 0
    told = (
        "better than it claims"
        if modest
        else "wrong more often than it claims: what the labels mean for the same inputs has changed, or the confidences no longer hold"
    )
    return CHECK.mismatch(
        f"{gap.audited:.3f} of {gap.n} audited predictions are right, their mean confidence is {gap.other:.3f}: the "
        f"model is {told}",
        action="recalibrate" if modest else "retrain", severity="info" if modest else "critical", **sides,
    )  # fmt: skip


def _contradicted(seen: Observed) -> Verdict | None:
    """The flag of the watch on audited labels, while it is up; None otherwise. See `models.concept`."""
    audited = seen.audited
    if audited is None or audited.flag is None or audited.concept is None:
        return None
    flag, run = audited.flag, round(audited.concept.run_length)
    share = flag.right / flag.n
    low, high = wilson(share, flag.n)
    effect = Effect(
        statistic="audited accuracy minus lower end of the label-free estimate", estimate=share - flag.low,
        low=low - flag.low, high=high - flag.low, threshold=0.0, n=flag.n,
    )  # fmt: skip
    return CHECK.mismatch(
        f"{share:.3f} of {flag.n} audited predictions are right, the label-free estimate of the same windows says at "
        f"least {flag.low:.3f}: what the labels mean for the same inputs has changed, or content has come that the "
        f"estimate cannot judge (without either, one such flag in {run:,} labels)",
        field="concept", left=Side("telemetry.quality.label_free.low", round(flag.low, 4)),
        right=Side("telemetry.audited.accuracy", round(share, 4), n=flag.n), effect=effect,
    )  # fmt: skip


def _fair(gap: Gap) -> Verdict:
    left = Side(LABELS, "a fair sample")
    right = Side("telemetry.audited.confidence", round(gap.audited, 4), n=gap.n)
    effect = _effect("mean confidence of audited minus all predictions", gap)
    sides = {"field": "labels", "left": left, "right": right, "effect": effect}
    if not _broken(gap):
        return CHECK.ok(**sides)
    more = "more" if gap.difference > 0 else "less"
    return CHECK.mismatch(
        f"the {gap.n} labelled predictions are {more} confident ({gap.audited:.3f}) than all of the same windows "
        f"({gap.other:.3f}): labels are not missing at random, so audited accuracy is biased",
        action="review", severity="warning", owner="operations", remedy="label a random sample, and log its propensity",
        **sides,
    )  # fmt: skip


CHECK = Check(
    id="calibration-and-concept",
    title="As right as it claims",
    owner="data scientist",
    remedy="retrain on newer labels; look at what changed in the meaning of the label",
    action="retrain",
    severity="critical",
    live=live,
)
