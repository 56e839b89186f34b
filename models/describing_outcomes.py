"""What labels say of the model: class shares, confusion, calibration, and the metrics of the reference events."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from models.class_tables import measured
from models.columns import Floats
from models.describing_columns import Flags, Observations
from models.describing_features import moments, quantile, rounded
from models.quality import top_confidence

BINS = 10
LEAST_SCORED = 5 * BINS  # five labels in each bin; fewer would say nothing about any of them
TEMPERATURES = (0.05, 20.0)  # beyond them the likelihood has no inner maximum: the labels do not tell a temperature


class Judged(NamedTuple):
    """Inferences with a class as ground truth. `truth` and `predicted` index `names`; predicted -1 is no answer."""

    names: tuple[str, ...]
    truth: NDArray[np.intp]
    predicted: NDArray[np.intp]
    scores: NDArray[np.float32] | None  # one column per class name of the observations
    columns: NDArray[np.intp]  # score column of the truth, -1 where the model has none for it
    weight: Floats | None


def judged(seen: Observations) -> Judged | None:
    """Labels joined with answers; None where no label names a class."""
    truths = seen.truths
    if truths is None or not (truths.truth.codes >= 0).any():
        return None
    has = truths.truth.codes >= 0
    rows = truths.rows[has]
    names = {name: i for i, name in enumerate(sorted({*truths.truth.values, *seen.predicted.values}))}
    of_truth = np.array([names[v] for v in truths.truth.values], dtype=np.intp)
    of_label = np.array([*(names[v] for v in seen.predicted.values), -1], dtype=np.intp)
    predicted = of_label[seen.predicted.codes[rows]]
    predicted[seen.failed[rows] | seen.abstained[rows]] = -1
    where = {name: i for i, name in enumerate(seen.classes)}
    columns = np.array([where.get(v, -1) for v in truths.truth.values], dtype=np.intp)
    codes = truths.truth.codes[has]
    scores = None if seen.scores is None else seen.scores[rows]
    return Judged(tuple(names), of_truth[codes], predicted, scores, columns[codes], _weights(seen, has))


def _weights(seen: Observations, has: Flags) -> Floats | None:
    """1 / (probability that the event was kept and labelled), scaled to a mean of 1; None where all are the same."""
    truths = seen.truths
    if truths is None or (truths.weight is None and seen.weight is None):
        return None
    weight = np.ones(len(has)) if truths.weight is None else truths.weight
    if seen.weight is not None:
        weight = weight * seen.weight[truths.rows]
    weight = weight[has]
    return None if (weight == weight[0]).all() else weight * (len(weight) / weight.sum())


def classes(found: Judged) -> dict[str, float]:
    """Share of each true class."""
    mass = np.bincount(found.truth, weights=found.weight, minlength=len(found.names))
    return {name: rounded(m / mass.sum()) for name, m in zip(found.names, mass, strict=True) if m}


def confusion(found: Judged) -> dict[str, dict[str, float]]:
    """Truth -> predicted -> count of answered inferences; counts are weighted where labels were drawn unequally."""
    size = len(found.names)
    answered = found.predicted >= 0
    weight = None if found.weight is None else found.weight[answered]
    flat = np.bincount(found.truth[answered] * size + found.predicted[answered], weights=weight, minlength=size**2)
    table = flat.reshape(size, size)
    rows = {t: {p: _count(c) for p, c in zip(found.names, table[i], strict=True) if c} for i, t in _enumerated(found)}
    return {truth: row for truth, row in rows.items() if row}


def _enumerated(found: Judged) -> list[tuple[int, str]]:
    return list(enumerate(found.names))


def _count(value: Any) -> float:
    return int(value) if float(value).is_integer() else rounded(value)


def calibration(found: Judged) -> tuple[dict[str, Any], list[str]]:
    """`training_data.bestbefore.calibration`, and why parts of it are absent.

    Accuracy of answered inferences; the temperature that maximises the likelihood of the labels (Guo et al. 2017,
    arXiv:1706.04599); the confidence above which as many answers lie as are right (Garg et al. 2022,
    arXiv:2201.04234); ten bins of equal mass of the raw confidence, each from its `low` (excluded but in the first) to
    its `high`.
    """
    answered = found.predicted >= 0
    if not answered.any():
        return {}, ["calibration: none of the labelled inferences was answered"]
    right = found.predicted == found.truth
    weight = found.weight
    accuracy = _mean(right[answered], weight, answered)
    plain = {"accuracy": rounded(accuracy), "n": int(answered.sum())}
    if found.scores is None:
        return plain, ["calibration.temperature: the events carry no scores"]
    raw = top_confidence(found.scores)
    usable = answered & np.isfinite(raw)
    if usable.sum() < LEAST_SCORED:
        return plain, [f"calibration.temperature: {usable.sum()} labelled scores, {LEAST_SCORED} are needed"]
    notes = []
    temperature = _temperature(found, usable)
    if temperature is None:
        notes.append("calibration.temperature: the labels do not tell one; all answers may be right")
    tempered = top_confidence(found.scores[usable], temperature or 1.0)
    mine = None if weight is None else weight[usable]
    atc = float(quantile(tempered, 1 - min(_mean(right[usable], weight, usable), 1.0), mine))
    fitted = {} if temperature is None else {"temperature": temperature}
    found_bins = {"bins": _bins(raw[usable], right[usable], mine)}
    return {**fitted, "atc_threshold": rounded(atc), **plain, **found_bins}, notes


def class_tables(found: Judged, classes: Sequence[str]) -> dict[str, Any] | None:
    """`training_data.bestbefore.calibration.tables`, from answered inferences; `classes` names the score columns.

    None for labels drawn with unequal probabilities, or where there is too little to measure.
    """
    if found.scores is None or found.weight is not None or len(classes) != found.scores.shape[1]:
        return None
    codes = {name: i for i, name in enumerate(classes)}
    of_name = np.array([*(codes.get(name, -1) for name in found.names), -1], dtype=np.int64)
    predicted, truth = of_name[found.predicted], found.columns.astype(np.int64)
    rows = (predicted >= 0) & (truth >= 0)
    return measured(classes, found.scores[rows].astype(np.float64), predicted[rows], truth[rows])


def _mean(hit: Flags, weight: Floats | None, rows: Flags) -> float:
    return float(np.average(hit, weights=None if weight is None else weight[rows]))


def _temperature(found: Judged, usable: Flags) -> float | None:
    """Maximum likelihood; None where the likelihood has no maximum within TEMPERATURES.

    It is concave in 1 / T, so it has none exactly if every label has the best score (T towards 0), or if labels have
    no better scores than other classes on average (T towards infinity).
    """
    rows = usable & (found.columns >= 0)
    if found.scores is None or not rows.any():
        return None
    logs = np.log(np.maximum(found.scores[rows].astype(np.float64), 1e-12))
    own = logs[np.arange(len(logs)), found.columns[rows]]
    weight = np.ones(len(logs)) if found.weight is None else found.weight[rows]

    if (own >= logs.max(axis=1)).all() or weight @ (own - logs.mean(axis=1)) <= 0:
        return None

    def loss(log_temperature: float) -> float:
        cold = 1 / math.exp(log_temperature)
        top = (logs * cold).max(axis=1)
        partition = top + np.log(np.exp(logs * cold - top[:, None]).sum(axis=1))
        return float(weight @ (partition - own * cold) / weight.sum())

    low, high = (math.log(t) for t in TEMPERATURES)
    best = float(minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6}).x)
    return None if min(best - low, high - best) < 0.01 * (high - low) else rounded(math.exp(best))


def _bins(confidence: Floats, right: Flags, weight: Floats | None) -> list[dict[str, float]]:
    edges = np.unique(quantile(confidence, np.linspace(0, 1, BINS + 1), weight))
    edges = edges if len(edges) > 1 else np.repeat(edges, 2)
    which = np.clip(np.searchsorted(edges, confidence) - 1, 0, len(edges) - 2)
    found = []
    for i in range(len(edges) - 1):
        mine = which == i
        if not mine.any():
            continue
        parts = None if weight is None else weight[mine]
        figures = {
            "confidence": np.average(confidence[mine], weights=parts),
            "accuracy": np.average(right[mine], weights=parts),
        }
        ends = {"low": rounded(edges[i]), "high": rounded(edges[i + 1]), "n": int(mine.sum())}
        found.append(ends | {name: rounded(value) for name, value in figures.items()})
    return found


def metrics(accuracy: float) -> list[dict[str, Any]]:
    """TEC's `evaluation_metrics` of a classifier."""
    return [{"metric": "Accuracy", "other_metric": "", "result": accuracy}]


def errors(seen: Observations) -> list[dict[str, Any]]:
    """TEC's `evaluation_metrics` of a regression: mean absolute and root mean squared error over labelled answers."""
    truths = seen.truths
    if truths is None:
        return []
    gap = seen.value[truths.rows] - truths.value
    known = np.isfinite(gap) & ~(seen.failed | seen.abstained)[truths.rows]
    if not known.any():
        return []
    weight = _weights(seen, known)
    figures = {
        "Mean Absolute Error": moments(np.abs(gap[known]), weight)[0],
        "Root Mean Squared Error": math.sqrt(moments(gap[known] ** 2, weight)[0]),
    }
    return [{"metric": "Other", "other_metric": name, "result": rounded(v)} for name, v in figures.items()]
