"""Is what a window shows still what was declared? Thin first forms of the distribution checks.

Two things must hold for a mismatch: the distance is above what sampling noise reaches (significance), and the lower
end of its interval is above a tolerance (effect). No evidence is `unknown` with the reason, never `ok`.
"""

from collections.abc import Iterator
from typing import Any, Literal

import msgspec
import numpy as np

from models.distance import Distance, jensen_shannon
from models.profile import UNIT, WEIGHT, Profile
from models.reference import CategoricalFeature, NumericFeature, Reference

TOLERANCE = 0.02  # nats of Jensen-Shannon divergence; a shift of a normal by 0.4 sd
ALPHA = 0.001
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
        elif counts is None or counts[:-2].sum() == 0:
            yield Verdict(check=check, field=name, verdict="unknown", reason="the events do not carry it")
        else:
            distance = _compare(counts[:-2], np.array(feature.shares), feature.n, profile)
            yield _judged(check, name, distance, _mean(profile, name, feature), feature.mean, feature.unit)
    for name, category in sorted(reference.categorical.items()):
        table = profile.categories.get(f"feature.{name}")
        if not table or not category.shares:
            yield Verdict(check=check, field=name, verdict="unknown", reason="the events do not carry it")
        else:
            yield _judged(check, name, *_compare_categories(table, category, profile))


def _predictions(profile: Profile, reference: Reference) -> Verdict:
    check = "label-and-prediction-shift"
    table = profile.categories.get("label")
    if not reference.classes:
        return Verdict(check=check, verdict="unknown", reason="training_data.bestbefore.classes is not declared")
    if not table:
        return Verdict(check=check, verdict="unknown", reason="the events carry no predicted label")
    expected = CategoricalFeature(shares=_predicted_shares(reference), n=max(reference.n, 1))
    return _judged(check, "label", *_compare_categories(table, expected, profile))


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
    n = profile.counts.get("n_input", 0)
    distance = jensen_shannon(counts, np.array(known.shares), n=n, m=max(known.n, 1), alpha=ALPHA)
    far = float(counts[-1] / counts.sum())
    return _judged(check, "embedding", distance, far, known.shares[-1], "share beyond the reference's 99% distance")


def _compare(counts: np.ndarray, shares: np.ndarray, m: int, profile: Profile) -> Distance:
    # Weighted events: as many observations as events, spread as the weights say.
    seen = float(counts.sum()) / WEIGHT
    n = profile.n * seen / max(profile.counts.get("weight", 0) / WEIGHT, 1e-9)
    return jensen_shannon(counts, shares, n=max(n, 1.0), m=max(m, 1), alpha=ALPHA)


def _compare_categories(
    table: dict[str, int], category: CategoricalFeature, profile: Profile
) -> tuple[Distance, dict[str, float], dict[str, float]]:
    present = {name: count for name, count in table.items() if name != "__missing__"}
    names = sorted({*present, *category.shares})
    counts = np.array([present.get(name, 0) for name in names], dtype=np.float64)
    shares = np.array([category.shares.get(name, 0.0) for name in names])
    if counts.sum() == 0:
        counts = counts + 1.0
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


def _told(now: Any, declared: Any, unit: str) -> str:
    if isinstance(now, dict):
        moved = max(now, key=lambda k: abs(now[k] - declared.get(k, 0.0)))
        return f"most of it in {moved!r}: share {now[moved]:.3g}, declared {declared.get(moved, 0.0):.3g}"
    return f"now {now:.4g}, declared {declared:.4g} {unit}".rstrip() if now is not None else "without a mean"
