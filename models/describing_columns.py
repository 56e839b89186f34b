"""What was recorded of one model version, as columns to be described: events of any origin become one set of arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.columns import Categories, Floats, Inferences, Ints

Flags = NDArray[np.bool_]


class Part(NamedTuple):
    """Inference events that came together, with the class names of their score columns."""

    rows: Inferences
    classes: tuple[str, ...] = ()


class Numbers(NamedTuple):
    """A numeric feature over the events that carry it: NaN where `null`, or where what was sent is not finite."""

    values: Floats
    null: Flags
    weight: Floats | None = None


class Texts(NamedTuple):
    """A feature of texts over the events that carry it; code -1 is null."""

    column: Categories
    weight: Floats | None = None


class Truths(NamedTuple):
    """Ground truth joined with its inference: `rows` are indices of events, `weight` is 1 / propensity."""

    rows: NDArray[np.intp]
    truth: Categories
    value: Floats
    delay_us: Ints
    weight: Floats | None = None


@dataclass(slots=True)
class Embeddings:
    """Embeddings (n, d) of sampled inputs, and the class that the model predicted for each (code -1: unknown)."""

    embedding: NDArray[np.float32]
    predicted: Categories
    weight: Floats | None = None
    origin: dict[str, str] = field(default_factory=dict)  # what computed them: provider, onnxruntime, dtype, sha256


@dataclass(slots=True, kw_only=True)
class Observations:
    """Live events of one model version; row i of every column but those of features is the same event.

    `scores` is (n, k) with NaN rows where an event has none; a feature's columns hold the events that carry it.
    """

    model: str
    version: str
    time: Ints
    predicted: Categories
    value: Floats
    latency_ms: Floats
    failed: Flags
    abstained: Flags
    weight: Floats | None = None
    numbers: dict[str, Numbers] = field(default_factory=dict)
    texts: dict[str, Texts] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    scores: NDArray[np.float32] | None = None
    truths: Truths | None = None
    embeddings: Embeddings | None = None

    def __len__(self) -> int:
        return len(self.time)


def gather(model: str, version: str, parts: Sequence[Part]) -> Observations:
    """One set of columns from parts, in their order. A column that a part lacks is NaN, False or -1 there."""
    rows = [part.rows for part in parts]
    classes, scores = _scores(parts)
    weights = [r.weight for r in rows]
    return Observations(
        model=model,
        version=version,
        time=np.concatenate([r.time for r in rows]),
        predicted=joined([r.label or _none(len(r)) for r in rows]),
        value=_floats([r.value for r in rows], rows),
        latency_ms=_floats([r.latency_ms for r in rows], rows),
        failed=_flags([r.failed for r in rows], rows),
        abstained=_flags([r.abstained for r in rows], rows),
        weight=_weights(weights, rows),
        numbers=_numbers(rows),
        texts=_texts(rows),
        classes=classes,
        scores=scores,
    )


def joined(columns: Sequence[Categories]) -> Categories:
    """Columns of texts one after the other, with one list of values."""
    values: dict[str, int] = {}
    codes = []
    for column in columns:
        table = np.array([*(values.setdefault(v, len(values)) for v in column.values), -1], dtype=np.int32)
        codes.append(table[column.codes])
    return Categories(np.concatenate(codes), tuple(values))


def texts_of(values: Sequence[str | None]) -> Categories:
    """A column of texts from a list of them."""
    codes: dict[str, int] = {}
    found = [-1 if v is None else codes.setdefault(v, len(codes)) for v in values]
    return Categories(np.array(found, dtype=np.int32), tuple(codes))


def _none(size: int) -> Categories:
    return Categories(np.full(size, -1, np.int32), ())


def _floats(columns: Sequence[Floats | None], rows: Sequence[Inferences]) -> Floats:
    parts = [np.full(len(r), np.nan) if c is None else c for c, r in zip(columns, rows, strict=True)]
    return np.concatenate(parts)


def _flags(columns: Sequence[Flags | None], rows: Sequence[Inferences]) -> Flags:
    return np.concatenate([np.zeros(len(r), np.bool_) if c is None else c for c, r in zip(columns, rows, strict=True)])


def _weights(columns: Sequence[Floats | None], rows: Sequence[Inferences]) -> Floats | None:
    """None where every event weighs the same: sums are then plain."""
    found: Floats = np.concatenate([np.ones(len(r)) if c is None else c for c, r in zip(columns, rows, strict=True)])
    return None if (found == found[:1]).all() else found


def _scores(parts: Sequence[Part]) -> tuple[tuple[str, ...], NDArray[np.float32] | None]:
    names: dict[str, int] = {}
    for rows, classes in parts:
        for i in range(0 if rows.scores is None else rows.scores.shape[1]):
            names.setdefault(_class(classes, i), len(names))
    if not names:
        return (), None
    blocks = []
    for rows, classes in parts:
        block = np.full((len(rows), len(names)), np.nan, np.float32)
        if rows.scores is not None:
            usable = np.isfinite(rows.scores).all(axis=1)
            # Servers may send only the top scores; what is left out is zero.
            block[usable] = 0.0
            for i in range(rows.scores.shape[1]):
                block[usable, names[_class(classes, i)]] = rows.scores[usable, i]
        blocks.append(block)
    return tuple(names), np.concatenate(blocks)


def _class(classes: tuple[str, ...], i: int) -> str:
    return classes[i] if classes else str(i)


def _numbers(rows: Sequence[Inferences]) -> dict[str, Numbers]:
    found = {}
    for name in dict.fromkeys(name for r in rows for name in r.numeric):
        carrying = [r for r in rows if name in r.numeric]
        values: Floats = np.concatenate([r.numeric[name] for r in carrying])
        null = _flags([r.missing.get(name) for r in carrying], carrying)
        values = np.where(np.isfinite(values), values, np.nan)
        found[name] = Numbers(values, null, _weights([r.weight for r in carrying], carrying))
    return found


def _texts(rows: Sequence[Inferences]) -> dict[str, Texts]:
    found = {}
    for name in dict.fromkeys(name for r in rows for name in r.categorical):
        carrying: list[Any] = [r for r in rows if name in r.categorical]
        column = joined([r.categorical[name] for r in carrying])
        found[name] = Texts(column, _weights([r.weight for r in carrying], carrying))
    return found
