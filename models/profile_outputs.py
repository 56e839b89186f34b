"""What a profile observes of the answers: labels, values, confidences, latencies, and which fields are filled."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.class_tables import add_judged
from models.columns import Categories, Floats, Inferences, Ints
from models.fixed_point import CLIP, COARSER, UNIT, WEIGHT, fixed, of, some, total
from models.profile_inputs import any_feature, effective_n
from models.quality import top_confidence
from models.reference import GENERIC_EDGES, Reference
from models.tables import Tables

ID_SAMPLE, MAX_IDS = 64, 10_000
# Latency in ms, four bins per factor of two from 1/16 ms to about 18 minutes.
LATENCY_EDGES = np.array([2.0 ** (k / 4) for k in range(-16, 81)])
CONFIDENCE_EDGES = np.linspace(0.0, 1.0, 65)[1:-1]
# Values are added up on scales of 1, 1024, 1024^2 and 1024^3, each by its size: see CLIP.
VALUE_SCALES = ("value", "wide.value", "wider.value", "widest.value")
_VALUE_EDGES = np.array(GENERIC_EDGES)
Mask = NDArray[np.bool_]


class Repeats:
    """Which of the sampled ids and of their outputs were seen before, in this partition and window."""

    __slots__ = ("_ids", "_outputs")

    def __init__(self) -> None:
        self._ids: set[int] = set()
        self._outputs: set[int] = set()

    def add(self, into: Tables, rows: Inferences, sampled: NDArray[np.intp]) -> None:
        """Count, of the `sampled` rows, ids that come again, and outputs that come again with another id."""
        if rows.id_hash is None or not len(sampled):
            return
        outputs = _outputs(rows, sampled)
        ids_repeated = outputs_sampled = outputs_repeated = taken = 0
        for name, output in zip(rows.id_hash[sampled].tolist(), outputs, strict=True):
            if len(self._ids) >= MAX_IDS:
                break
            taken += 1
            if name in self._ids:
                ids_repeated += 1
                continue
            self._ids.add(name)
            if output is not None:
                seen = hash(output)
                outputs_sampled += 1
                outputs_repeated += seen in self._outputs
                self._outputs.add(seen)
        into.count("ids_sampled", taken)
        into.count("ids_repeated", ids_repeated)
        into.count("outputs_sampled", outputs_sampled)
        into.count("outputs_repeated", outputs_repeated)


def _outputs(rows: Inferences, sampled: NDArray[np.intp]) -> list[tuple[str | None, bytes] | None]:
    """The answer of each sampled row; None where there is none with a number in it.

    Scores are compared by size, beside the label: which columns they stand in depends on what came in the same batch.
    """
    answers: Any = rows.scores if rows.scores is not None else rows.value
    if answers is None:
        return [None] * len(sampled)
    chosen = np.sort(answers[sampled].reshape(len(sampled), answers[0].size), axis=1)
    usable = np.isfinite(chosen).all(axis=1).tolist()
    labels: list[str | None] = [None] * len(sampled)
    if rows.label is not None:
        names = (*rows.label.values, None)
        labels = [names[code] for code in rows.label.codes[sampled].tolist()]
    # Classes that were left out are zeros, and come first.
    return [
        (label, row.tobytes().lstrip(b"\0")) if good else None
        for label, row, good in zip(labels, chosen, usable, strict=True)
    ]


def add_outputs(into: Tables, rows: Inferences, weight: Ints | None, reference: Reference) -> None:
    """Everything about the answers of live rows."""
    answered = _answered(rows)
    filled = Filled(into, len(rows), weight, answered)
    into.count("answered", filled.answered_weight)
    if rows.failed is not None:
        into.sample("failed", rows, rows.failed.nonzero()[0])
    if rows.label is not None:
        into.tally("label", rows.label, weight)
        filled.codes("label", rows.label)
    if rows.value is not None:
        filled.mask("value", _add_values(into, "value", rows.value, _VALUE_EDGES, weight))
        _add_value_moments(into, rows.value, weight)
    if rows.latency_ms is not None:
        filled.mask("latency_ms", _add_values(into, "latency_ms", rows.latency_ms, LATENCY_EDGES, weight))
        _add_slow(into, rows, reference)
    if rows.scores is not None:
        filled.mask("scores", _add_scores(into, rows, weight, answered, reference))
    if rows.digest is not None:
        add_present(into, "digest", rows.digest, weight)
        filled.codes("digest", rows.digest)
    if rows.status is not None:
        into.tally("status", rows.status, weight)
    if rows.embedded is not None:
        filled.mask("embedding", rows.embedded)
    if rows.numeric or rows.categorical:
        filled.mask("features", any_feature(rows))


def add_present(into: Tables, name: str, column: Categories, weight: Ints | None) -> None:
    """Count rows by category without those that have none."""
    if column.codes.min() < 0:
        known = (column.codes >= 0).nonzero()[0]
        column, weight = Categories(column.codes[known], column.values), some(weight, known)
    if len(column.codes):
        into.tally(name, column, weight)


def _answered(rows: Inferences) -> Mask | None:
    """Rows that neither failed nor abstained; None: all of them."""
    flags = [f for f in (rows.failed, rows.abstained) if f is not None]
    return ~np.logical_or.reduce(flags) if flags else None


class Filled:
    """Weights of rows that have a field, of all rows and of answered ones."""

    def __init__(self, into: Tables, size: int, weight: Ints | None, answered: Mask | None) -> None:
        self._into, self._weight, self._answered = into, weight, answered
        self._all = total(weight, size)
        self.answered_weight = self._all if answered is None else of(weight, answered.nonzero()[0])

    def codes(self, name: str, column: Categories) -> None:
        """A field of text, filled where it has a code."""
        self.mask(name, None if column.codes.min() >= 0 else column.codes >= 0)

    def mask(self, name: str, present: Mask | None) -> None:
        """A field that is filled in the rows of `present`; None: in all."""
        if present is not None and present.all():
            present = None
        everywhere = self._all if present is None else of(self._weight, present.nonzero()[0])
        self._into.category("filled", name, everywhere)
        if name not in ("scores", "label", "value"):
            return
        if self._answered is None or present is None:
            answered = everywhere if self._answered is None else self.answered_weight
        else:
            answered = of(self._weight, (present & self._answered).nonzero()[0])
        self._into.category("filled.answered", name, answered)


def _add_values(into: Tables, name: str, values: Floats, edges: Floats, weight: Ints | None) -> Mask | None:
    """A histogram of the values that are there; returns which are, None for all."""
    bins = np.searchsorted(edges, values)
    present = ~np.isnan(values)
    if present.all():
        into.histogram(name, bins, len(edges) + 1, weight)
        return None
    into.histogram(name, bins[present], len(edges) + 1, some(weight, present))
    return present


def _add_value_moments(into: Tables, values: Floats, weight: Ints | None) -> None:
    size = np.abs(values)
    scale, lower = 1.0, -1.0
    for name in VALUE_SCALES:
        last = name == VALUE_SCALES[-1]
        found = ((size > lower) & ((size <= CLIP * scale) | last)).nonzero()[0]
        if len(found):
            scaled = np.clip(values[found] / scale, -CLIP, CLIP)
            mine = some(weight, found)
            sums = [of(weight, found), fixed(scaled, mine), fixed(scaled * scaled, mine)]
            into.sum(name, np.array(sums, dtype=np.int64))
        if len(found) == len(values):
            return
        scale, lower = scale * COARSER, CLIP * scale


def _add_slow(into: Tables, rows: Inferences, reference: Reference) -> None:
    if reference.latency_limit_ms is not None and rows.latency_ms is not None:
        into.sample("slow", rows, (rows.latency_ms > reference.latency_limit_ms).nonzero()[0])


def _add_scores(
    into: Tables, rows: Inferences, weight: Ints | None, answered: Mask | None, reference: Reference
) -> Mask:
    """Confidences of answered rows; returns which rows have usable scores, answered or not."""
    calibration = reference.calibration
    assert rows.scores is not None  # noqa: S101 -- the caller has looked
    confidence = top_confidence(rows.scores, calibration.temperature if calibration else 1.0)
    finite = np.isfinite(confidence)
    usable = finite if answered is None else finite & answered
    if not usable.all():
        into.count("scores_unusable", int((~usable).sum()))
        confidence, weight = confidence[usable], some(weight, usable)
    into.count("scored", total(weight, len(confidence)))
    threshold = calibration.atc_threshold if calibration else None
    above = confidence > (1.0 if threshold is None else threshold)
    into.sum("confidence", np.array([fixed(confidence, weight), fixed(above.astype(np.float64), weight)]))
    add_judged(into, rows, usable, weight, reference.tables)
    into.histogram("confidence", np.searchsorted(CONFIDENCE_EDGES, confidence), len(CONFIDENCE_EDGES) + 1, weight)
    return finite


def value_moments(profile: Tables) -> tuple[float, float, float] | None:
    """Effective number of values that regressions answered, their mean and their sd; None where there are none.

    Sizes beyond 1e12 count as 1e12.
    """
    weight = first = second = 0.0
    for power, name in enumerate(VALUE_SCALES):
        sums = profile.sums.get(name)
        if sums is not None:
            scale = COARSER**power
            weight += float(sums[0]) / WEIGHT
            first += float(sums[1]) / UNIT * scale
            second += float(sums[2]) / UNIT * scale * scale
    if not weight:
        return None
    mean = first / weight
    return effective_n(profile, weight), mean, math.sqrt(max(second / weight - mean * mean, 0.0))
