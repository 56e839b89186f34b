"""Is what a window shows still what was declared? Thin first forms of the distribution checks.

Two things must hold for a mismatch: the distance is above what sampling noise reaches (significance), and the lower
end of its interval is above a tolerance (effect). No evidence is `unknown` with the reason, never `ok`; nor is `ok`
what a check says that could not have fired.
"""

import math
from collections.abc import Iterator
from typing import Any, Literal

import msgspec
import numpy as np

from models.distance import Distance, jensen_shannon
from models.profile import MISSING, UNIT, WEIGHT, Profile
from models.quality import Estimate
from models.reference import CategoricalFeature, NumericFeature, Reference

TOLERANCE = 0.02  # nats of Jensen-Shannon divergence; a shift of a normal by 0.4 sd
ALPHA = 0.001
LARGEST = math.log(2)  # nats; no two distributions are further apart
ENOUGH_INPUTS = 20  # embeddings are sampled, so fewer of them than of events must do
QUALITY = "quality-and-time-to-threshold"
Outcome = Literal["ok", "mismatch", "unknown"]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What one check says about one field of a subject."""

    check: str
    verdict: Outcome
    field: str = ""
    reason: str = ""
    severity: Literal["info", "warning", "critical"] = "warning"
    left: Any = None
    right: Any = None
    distance: Distance | None = None
    message: str = ""


def distribution_verdicts(profile: Profile, reference: Reference) -> list[Verdict]:
    """Inputs, predictions and embeddings of one block of windows against the reference."""
    if not reference.registered:
        return []
    return [*_features(profile, reference), _predictions(profile, reference), _embedding(profile, reference)]


def _features(profile: Profile, reference: Reference) -> Iterator[Verdict]:
    check = "covariate-drift"
    if not reference.numeric and not reference.categorical:
        yield Verdict(check=check, verdict="unknown", reason="training_data.bestbefore.features is not declared")
    for name, feature in sorted(reference.numeric.items()):
        counts = profile.histograms.get(f"feature.{name}")
        if not feature.shares:
            yield Verdict(check=check, field=name, verdict="unknown", reason="no reference quantiles are declared")
        elif counts is None:
            yield Verdict(check=check, field=name, verdict="unknown", reason="the events do not carry it")
        elif counts[:-2].sum() == 0:
            yield Verdict(check=check, field=name, verdict="unknown", reason="it is missing in every event")
        else:
            distance = _compare(counts[:-2], np.array(feature.shares), feature.n, profile)
            verdict = _judged(check, name, distance, _mean(profile, name, feature), feature.mean, feature.unit)
            yield _believed(verdict, distance, feature.n, reference.minimum_n)
    for name, category in sorted(reference.categorical.items()):
        table = profile.categories.get(f"feature.{name}")
        yield _category(check, name, table, category, profile, reference.minimum_n)


def _predictions(profile: Profile, reference: Reference) -> Verdict:
    check = "label-and-prediction-shift"
    table = profile.categories.get("label")
    if not reference.classes:
        return Verdict(check=check, verdict="unknown", reason="training_data.bestbefore.classes is not declared")
    if not table:
        return Verdict(check=check, verdict="unknown", reason="the events carry no predicted label")
    expected = CategoricalFeature(shares=_predicted_shares(reference), n=reference.n)
    return _category(check, "label", table, expected, profile, reference.minimum_n)


def _category(
    check: str, field: str, table: dict[str, int] | None, category: CategoricalFeature, profile: Profile, enough: int
) -> Verdict:
    if not category.shares:
        return Verdict(check=check, field=field, verdict="unknown", reason="no categories are declared")
    if not table:
        return Verdict(check=check, field=field, verdict="unknown", reason="the events do not carry it")
    if not any(count for name, count in table.items() if name != MISSING):
        return Verdict(check=check, field=field, verdict="unknown", reason="it is missing in every event")
    distance, now, declared = _compare_categories(table, category, profile)
    return _believed(_judged(check, field, distance, now, declared), distance, category.n, enough)


def _predicted_shares(reference: Reference) -> dict[str, float]:
    """Shares of *predicted* classes: the declared classes seen through the confusion matrix."""
    shares: dict[str, float] = dict.fromkeys(reference.classes, 0.0)
    for truth, share in reference.classes.items():
        row = reference.confusion.get(truth, {truth: 1.0})
        total = sum(row.values()) or 1.0
        for label, count in row.items():
            shares[label] = shares.get(label, 0.0) + share * count / total
    return shares


def _embedding(profile: Profile, reference: Reference) -> Verdict:
    check = "embedding-drift"
    if reference.embedding is None:
        return Verdict(check=check, verdict="unknown", reason="training_data.bestbefore.embedding is not declared")
    counts = profile.histograms.get("embedding")
    if counts is None or counts.sum() == 0:
        failed = profile.counts.get("embedding_without_reference", 0)
        reason = f"{failed} sampled inputs could not be embedded" if failed else "no sampled inputs in this window"
        return Verdict(check=check, verdict="unknown", reason=reason)
    known = reference.embedding
    distance = _compare(counts, np.array(known.shares), known.n, profile, of="n_input", weight="input_weight")
    far = float(counts[-1] / counts.sum())
    unit = "share beyond the reference's 99% distance"
    verdict = _judged(check, "embedding", distance, far, known.shares[-1], unit)
    return _believed(verdict, distance, known.n, min(reference.minimum_n, ENOUGH_INPUTS))


def _compare(
    counts: np.ndarray, shares: np.ndarray, m: int, profile: Profile, *, of: str = "n", weight: str = "weight"
) -> Distance:
    total = profile.counts.get(weight, 0)
    seen = float(counts.sum()) / WEIGHT
    n = effective(profile.counts.get(of, 0), total, profile.counts.get(f"{weight}_squared", 0))
    n = n * seen / max(total / WEIGHT, 1e-9)
    return jensen_shannon(counts, shares, n=max(n, 1.0), m=max(m, 1), alpha=ALPHA)


def effective(n: int, weight: int, squared: int) -> float:
    """What unequal weights leave of `n` observations: Kish's (sum w)^2 / sum w^2, both sums in units of WEIGHT.

    Equal weights leave all of them, and so does an unknown sum of squares. Source: Kish 1965, Survey Sampling, 8.2.
    """
    return min(n, weight * weight / (squared * WEIGHT)) if squared else n


def _compare_categories(
    table: dict[str, int], category: CategoricalFeature, profile: Profile
) -> tuple[Distance, dict[str, float], dict[str, float]]:
    present = {name: count for name, count in table.items() if name != MISSING}
    names = sorted({*present, *category.shares})
    counts = np.array([present.get(name, 0) for name in names], dtype=np.float64)
    shares = np.array([category.shares.get(name, 0.0) for name in names])
    now = {name: round(float(c / counts.sum()), 4) for name, c in zip(names, counts, strict=True)}
    distance = _compare(counts, shares, category.n, profile)
    return distance, now, {k: round(v, 4) for k, v in category.shares.items()}


def _mean(profile: Profile, name: str, feature: NumericFeature) -> float | None:
    sums = profile.sums.get(f"feature.{name}")
    counts = profile.histograms[f"feature.{name}"]
    seen = int(counts[:-2].sum())
    # Values that are absent were added as the reference's mean, that is as zero.
    return (
        None
        if sums is None or not seen
        else float(f"{feature.mean + feature.sd * (sums[0] / UNIT) / (seen / WEIGHT):.6g}")
    )


def _judged(check: str, field: str, distance: Distance, now: Any, declared: Any, unit: str = "") -> Verdict:
    shifted = distance.significant and distance.low > TOLERANCE
    message = ""
    if shifted:
        message = (
            f"{field} no longer looks as declared: Jensen-Shannon divergence {distance.estimate:.3g} nats "
            f"(90% interval {distance.low:.3g} to {distance.high:.3g}, tolerance {TOLERANCE}), "
            f"{_told(now, declared, unit)}"
        )
    return Verdict(
        check=check, verdict="mismatch" if shifted else "ok", field=field, left=declared, right=now,
        distance=distance, message=message, severity="warning",
    )  # fmt: skip


def _believed(verdict: Verdict, distance: Distance, m: int, enough: int) -> Verdict:
    """The verdict, or `unknown` where too few values are behind it or no shift at all could exceed their noise."""
    reason = None
    if round(distance.n) < enough:
        reason = f"{distance.n:.4g} observed values in effect, {enough} are needed"
    elif distance.threshold > LARGEST:
        reason = _too_noisy(distance, max(m, 1))
    return verdict if reason is None else Verdict(
        check=verdict.check, verdict="unknown", field=verdict.field, reason=reason
    )  # fmt: skip


def _too_noisy(distance: Distance, m: int) -> str:
    # The noise level goes with 1/n + 1/m, so this is the harmonic half size at which a total change would show.
    least = distance.threshold / LARGEST * distance.n * m / (distance.n + m)
    told = f"{distance.n:.4g} observed values against {m} of the reference show no shift above their noise"
    if m <= least:
        return f"{told}; a reference n above {math.ceil(least)} is needed"
    return f"{told}; {math.ceil(least * m / (m - least))} observed values are needed"


def quality_verdict(reference: Reference, estimate: Estimate) -> Verdict:
    """Is the accuracy above the declared threshold? Only an interval that lies on one side of it says so."""
    threshold = reference.threshold
    if threshold is None:
        reason = estimate.reason or without_threshold(reference)
        return Verdict(check=QUALITY, verdict="unknown", reason=reason, severity="critical")
    if estimate.estimate is None or estimate.low is None or estimate.high is None:
        reason = estimate.reason or "there is no estimate with an interval"
        return Verdict(check=QUALITY, verdict="unknown", reason=reason, severity="critical")
    interval = f"90% interval {estimate.low:.3f} to {estimate.high:.3f}"
    outcome: Outcome = "mismatch" if estimate.high < threshold else "ok" if estimate.low >= threshold else "unknown"
    below = (
        f"{reference.metric} is {estimate.estimate:.3f} ({interval}, {estimate.basis}), below the declared {threshold}"
    )
    return Verdict(
        check=QUALITY, verdict=outcome, field=reference.metric, severity="critical", left=threshold,
        right=float(f"{estimate.estimate:.6g}"), message=below if outcome == "mismatch" else "",
        reason=f"the {interval} includes the threshold {threshold}" if outcome == "unknown" else "",
    )  # fmt: skip


def without_threshold(reference: Reference) -> str:
    """Why there is no threshold to compare with."""
    if reference.metric != "accuracy":
        return f"only accuracy is assessed, trained_model.algorithm_metrics declares {reference.metric}"
    return "no threshold is declared in trained_model.algorithm_metrics"


def _told(now: Any, declared: Any, unit: str) -> str:
    if isinstance(now, dict):
        moved = max(now, key=lambda k: abs(now[k] - declared.get(k, 0.0)))
        return f"most of it in {moved!r}: share {now[moved]:.3g}, declared {declared.get(moved, 0.0):.3g}"
    return f"now {now:.4g}, declared {declared:.4g} {unit}".rstrip() if now is not None else "without a mean"
