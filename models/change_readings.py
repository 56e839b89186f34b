"""What a window gives to the streams of change: shares of bad answers, and where its data lie in the reference.

| stream | value of a window | kind |
|---|---|---|
| `errors` | share of wrong answers among the labels that became known with it, by 1 / propensity | harm |
| `failures` | share of events that failed or abstained | harm |
| `quality` | 1 - the label-free estimate of accuracy | harm |
| `confidence` | 1 - mean confidence; only where there is no label-free estimate | harm |
| `inputs/<feature>` | mean rank of its values among those of the reference; share of its commonest category | change |
| `outputs` | share of the predicted class that is the commonest in the reference | change |
| `embedding`, `embedding/...` | the distances of sampled inputs from the reference | change |
"""

from collections.abc import Iterator, Mapping

import numpy as np

from models.change import Reading
from models.checks.label_and_prediction_shift import predicted_shares
from models.checks.observed import Observed
from models.evidence import Evidence
from models.profile import MISSING, UNIT, WEIGHT, Profile, short_name
from models.reference import CategoricalFeature, NumericFeature

ERRORS, FAILURES, QUALITY, CONFIDENCE = "errors", "failures", "quality", "confidence"
INPUTS, OUTPUTS, EMBEDDING = "inputs", "outputs", "embedding"


def change_readings(seen: Observed, evidence: Evidence, drift: Mapping[str, float]) -> dict[str, Reading]:
    """One value per stream that the window has something to say about.

    `drift` holds distances by stream, of which those of embeddings are taken: what is measured of single features
    here is finer than their largest distance over a whole season.
    """
    found = {name: Reading(value, harm=True) for name, value in _harm(seen, evidence)}
    found |= {name: Reading(value) for name, value in drift.items() if name.partition("/")[0] == EMBEDDING}
    return found | {name: Reading(value) for name, value in _data(seen)}


def _harm(seen: Observed, evidence: Evidence) -> Iterator[tuple[str, float]]:
    labels = seen.labels
    if labels is not None and labels.counts.get("audit.weight"):
        yield ERRORS, 1 - labels.counts.get("audit.weight_correct", 0) / labels.counts["audit.weight"]
    if evidence.n:
        yield FAILURES, (evidence.failed + evidence.abstained) / evidence.n
    if evidence.scored:
        estimate = evidence.label_free(seen.reference).estimate
        if estimate is not None:
            yield QUALITY, 1 - estimate
        else:
            yield CONFIDENCE, 1 - evidence.confidence / UNIT / (evidence.scored / WEIGHT)


def _data(seen: Observed) -> Iterator[tuple[str, float]]:
    reference, window = seen.reference, seen.window
    for name, number in sorted(reference.numeric.items()):
        rank = _rank(window, name, number)
        if rank is not None:
            yield f"{INPUTS}/{name}", rank
    for name, category in sorted(reference.categorical.items()):
        share = _commonest(window, f"feature.{short_name(name)}", category)
        if share is not None:
            yield f"{INPUTS}/{name}", share
    if reference.classes:
        share = _commonest(window, "label", CategoricalFeature(shares=predicted_shares(reference)))
        if share is not None:
            yield OUTPUTS, share


def _rank(window: Profile, name: str, feature: NumericFeature) -> float | None:
    """Mean over the window of P(reference < x) + P(reference = x) / 2: the statistic of Wilcoxon 1945."""
    counts = window.histograms.get(f"feature.{short_name(name)}")
    if counts is None or len(counts) != len(feature.shares) + 2:
        return None
    inside = counts[:-2].astype(np.float64)
    total = float(inside.sum())
    if not total:
        return None
    shares = np.array(feature.shares)
    return float(inside @ (np.cumsum(shares) - shares / 2)) / total


def _commonest(window: Profile, table: str, feature: CategoricalFeature) -> float | None:
    """Share of the category that is the most frequent one in the reference."""
    counts = window.categories.get(table, {})
    total = sum(counts.values()) - counts.get(MISSING, 0)
    if not feature.shares or total <= 0:
        return None
    top = min(feature.shares, key=lambda name: (-feature.shares[name], name))
    return counts.get(top, 0) / total
