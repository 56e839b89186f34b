"""Sums of sampled inputs from which a registered estimator reads the quality of a window, and that reading.

In a profile they are `sums["induced.<digest>"]`: number of rows, sum of squared weights, weight and confidence of rows
that have one, then the sums of `InducedQuality`. The name tells the estimator, so what another one added up is never
read as its own.

Sampled inputs happen to be easier or harder than all traffic. By how much shows in the confidences, which all events
have: the reading is moved by the mean confidence of all less that of the sampled (a control variate with coefficient
one; on the digits it halves the variance of sampling). It also parts the reading from labels of the very same events.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

import msgspec
import numpy as np

from models.columns import Embedded
from models.distance import effective
from models.fixed_point import UNIT, WEIGHT, fixed, of, some, squares, weights
from models.induced_quality import LEAST, InducedQuality
from models.quality import Estimate, top_confidence
from models.quality_estimator import QualityEstimator
from models.reference import Reference
from models.tables import Tables

INDUCED = "induced."
HEAD = 4  # numbers before those of the estimator
CHANCE = 3.0  # standard errors up to which a difference in confidence is luck of sampling; beyond, it is not used
RARE = 1_000  # where fewer than one event in so many is sampled, windows are not joined for the sake of inputs
MAX_BYTES = 512 << 10  # of sums that a subject keeps for its windows; 180 windows of 26 classes
READINGS = 1_024


class Registered(NamedTuple):
    """An estimator that speaks of the model file that runs, the bytes it came in, and the name of its sums."""

    packed: QualityEstimator
    quality: InducedQuality
    name: str


class InducedSums(msgspec.Struct, frozen=True):
    """Sums by name, as little-endian int64; sums of windows are added."""

    parts: dict[str, bytes] = {}

    def __add__(self, other: "InducedSums") -> "InducedSums":
        if not self.parts or not other.parts:
            return self if self.parts else other
        found = dict(self.parts)
        for name, theirs in other.parts.items():
            mine = found.get(name)
            found[name] = theirs if mine is None else _added(mine, theirs)
        return InducedSums(dict(sorted(found.items())))

    @property
    def rows(self) -> int:
        """How many sampled inputs were added up."""
        return sum(int(_counts(part)[0]) for part in self.parts.values())

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(map(len, self.parts.values()))

    @classmethod
    def of(cls, profile: Tables) -> "InducedSums":
        """Those of a profile."""
        return cls({k: v.astype("<i8").tobytes() for k, v in sorted(profile.sums.items()) if k.startswith(INDUCED)})


def registered(reference: Reference) -> Registered | None:
    """The estimator of a reference; None where none is registered, or only one that speaks of another model file."""
    packed = reference.quality_estimator
    if packed is None or not packed.content:
        return None
    if not packed.speaks_of(reference.file.sha256 if reference.file is not None else ""):
        return None
    try:
        quality = packed.unpacked()
    except ValueError:  # registered by a newer version: confidences speak until this worker is upgraded
        return None
    return Registered(packed, quality, f"{INDUCED}{packed.digest[:16]}")


def add_induced(into: Tables, rows: Embedded, reference: Reference) -> None:
    """Add sampled inputs, with the scores and the embedding that the model file gives them."""
    if rows.scores is None:
        return
    known = registered(reference)
    if known is None:
        return
    quality = known.quality
    if (rows.scores.shape[1], rows.embedding.shape[1]) != (quality.classes, len(quality.reference.whitening)):
        into.count("induced_misfit", len(rows))
        return
    finite = np.isfinite(np.column_stack([rows.scores, rows.embedding])).all(axis=1)
    usable = np.flatnonzero(finite)
    if len(usable) < len(rows):
        into.count("induced_unusable", len(rows) - len(usable))
        rows = rows.take(usable)
    if not len(rows) or rows.scores is None:
        return
    weight = weights(rows.weight)
    confidence = top_confidence(rows.scores, reference.calibration.temperature if reference.calibration else 1.0)
    confident = np.flatnonzero(np.isfinite(confidence))
    head = [
        len(rows), squares(rows.weight, len(rows)), of(weight, confident),
        fixed(confidence[confident], some(weight, confident)),
    ]  # fmt: skip
    sums = quality.sums(rows.scores, rows.embedding, weight)
    into.sum(known.name, np.concatenate([np.array(head, dtype=np.int64), sums]))
    into.join_groups()


def induced_estimate(
    sums: InducedSums, reference: Reference, failed: float, confidence: float | None
) -> Estimate | None:
    """What the estimator of the reference reads; None where it has too little to read, so that another may speak.

    `failed` is the share of all traffic without a usable answer; all of it is an outage, which needs no inputs.
    `confidence` is the mean over the answers of all traffic.
    """
    known = registered(reference)
    part = sums.parts.get(known.name) if known is not None else None
    if known is None or part is None or failed >= 1:
        return None
    if len(_counts(part)) != HEAD + known.quality.size or _effective(part) < LEAST:
        return None
    found = _read(known.packed, part, failed)
    return found if confidence is None else _moved(found, _luck(part, confidence) * (1 - failed), 1 - failed)


@lru_cache(maxsize=READINGS)
def _read(packed: QualityEstimator, part: bytes, failed: float) -> Estimate:
    """Pure, so that windows of the past are not read again and again."""
    counts = _counts(part)
    return packed.unpacked().read(counts[HEAD:], int(counts[0]), _effective(part), failed)


def _moved(found: Estimate, by: float, most: float) -> Estimate:
    """The same reading for all traffic, whose mean confidence differs from that of the sampled inputs by chance."""
    if found.estimate is None or found.low is None or found.high is None or not by:
        return found
    value, low, high = (min(max(v + by, 0.0), most) for v in (found.estimate, found.low, found.high))
    return msgspec.structs.replace(found, estimate=value, low=low, high=high)


def _luck(part: bytes, confidence: float) -> float:
    """Mean confidence of all answers less that of the sampled inputs; 0 where it is more than chance."""
    _, _, weight, total, everything = _counts(part)[: HEAD + 1].tolist()
    if not weight or weight != everything:
        return 0.0
    mean = total / UNIT / (weight / WEIGHT)
    error = math.sqrt(max(mean * (1 - mean), 0.0) / _effective(part))  # the largest that numbers in [0, 1] can have
    return confidence - mean if abs(confidence - mean) <= CHANCE * error else 0.0


def _effective(part: bytes) -> float:
    """What unequal weights leave of the rows."""
    counts = _counts(part)
    return effective(int(counts[0]), int(counts[HEAD]), int(counts[1]), WEIGHT)


def _counts(part: bytes) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.frombuffer(part, "<i8").astype(np.int64)


def _added(mine: bytes, theirs: bytes) -> bytes:
    if len(mine) != len(theirs):
        return max(mine, theirs, key=len)
    return (_counts(mine) + _counts(theirs)).astype("<i8").tobytes()


class HasInduced(Protocol):
    """The evidence of a window."""

    induced: InducedSums


def bound(ring: Sequence[HasInduced]) -> None:
    """Keep the sums of the newest windows, as far as MAX_BYTES go."""
    left = MAX_BYTES
    for window in reversed(ring):
        left -= window.induced.size
        if left < 0:
            window.induced = InducedSums()
