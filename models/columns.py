"""Telemetry as columns: what frames and single events both become before anything is computed.

One row is one inference, one embedded input, or one labelled inference. All times are int64 microseconds UTC.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Subject(NamedTuple):
    """Whom a figure is about. `segment` is canonical JSON of the segment's keys, empty for all traffic."""

    model: str
    version: str
    segment: str = ""


class Categories(NamedTuple):
    """A column of strings: `values[codes[i]]` is row i, code -1 is missing."""

    codes: NDArray[np.int32]
    values: tuple[str, ...]


class Ids(Protocol):
    """Ids of rows, turned into text only for the few rows that somebody asks about."""

    def take(self, rows: NDArray[np.intp] | slice) -> "Ids":
        """Only `rows`."""

    def texts(self, rows: NDArray[np.intp]) -> list[str]:
        """The ids of `rows`."""


class TextIds:
    """Ids that are text already."""

    __slots__ = ("_texts",)

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts

    def take(self, rows: NDArray[np.intp] | slice) -> "TextIds":
        """Only `rows`."""
        return TextIds(self._texts[rows] if isinstance(rows, slice) else self.texts(rows))

    def texts(self, rows: NDArray[np.intp]) -> list[str]:
        """The ids of `rows`."""
        return [self._texts[row] for row in rows.tolist()]


class Traces:
    """Trace contexts of rows, of which only those that are `sampled` are ever asked for."""

    __slots__ = ("_texts", "sampled")

    def __init__(self, texts: Ids, sampled: NDArray[np.bool_]) -> None:
        self._texts, self.sampled = texts, sampled

    def take(self, rows: NDArray[np.intp] | slice) -> "Traces":
        """Only `rows`."""
        return Traces(self._texts.take(rows), self.sampled[rows])

    def texts(self, rows: NDArray[np.intp]) -> list[str]:
        """The trace contexts of `rows`."""
        return self._texts.texts(rows)


def _take(column: Any, rows: NDArray[np.intp] | slice) -> Any:
    if column is None:
        return None
    if isinstance(column, Categories):
        return Categories(column.codes[rows], column.values)
    if isinstance(column, tuple):
        return column
    if isinstance(column, dict):
        return {name: _take(part, rows) for name, part in column.items()}
    return column[rows] if isinstance(column, np.ndarray) else column.take(rows)


@dataclass(slots=True, kw_only=True)
class Columns:
    """Rows of one subject: `offset` of the record each came in, `time` on the stream, `weight` = 1 / probability."""

    offset: Ints
    time: Ints
    weight: Floats | None = None  # None: every row counts once

    def __len__(self) -> int:
        return len(self.time)

    def take(self, rows: NDArray[np.intp] | slice) -> Self:
        """The same columns with only `rows`."""
        return type(self)(**{name: _take(getattr(self, name), rows) for name in self.names()})

    @classmethod
    def names(cls) -> Iterator[str]:
        """Names of all columns."""
        return iter(cls.__dataclass_fields__)


@dataclass(slots=True, kw_only=True)
class Inferences(Columns):
    """Inference events. `scores` is (n, k) with one class name per column; a NaN feature is missing or broken."""

    numeric: dict[str, Floats] = field(default_factory=dict)
    missing: dict[str, NDArray[np.bool_]] = field(default_factory=dict)  # rows of a numeric feature that are null
    categorical: dict[str, Categories] = field(default_factory=dict)
    scores: NDArray[np.float32] | None = None
    classes: tuple[str, ...] = ()  # of the columns of `scores`
    label: Categories | None = None
    value: Floats | None = None
    latency_ms: Floats | None = None
    failed: NDArray[np.bool_] | None = None  # status 400 and above
    abstained: NDArray[np.bool_] | None = None
    live: NDArray[np.bool_] | None = None  # False: shadow or holdout, counted apart
    capped: NDArray[np.bool_] | None = None  # the clock of the sender is absurd
    id_hash: NDArray[np.uint64] | None = None
    ids: Ids | None = None
    traces: Traces | None = None  # W3C trace contexts of requests; None where none was sampled
    status: Categories | None = None  # classes of status codes: 2xx, 4xx, …
    digest: Categories | None = None  # of the file that served, as the server says
    embedded: NDArray[np.bool_] | None = None  # the event carries the server's embedding
    propensity: Floats | None = None  # probability that a label is asked for; 0 where none can be
    asked: NDArray[np.bool_] | None = None  # a label is asked for
    step: Ints | None = None  # P(correct) in steps, of those that a label is asked for; -1 without an answer


@dataclass(slots=True, kw_only=True)
class Served(Columns):
    """Live inference events of one model, whatever its version: who answered."""

    version: Categories
    digest: Categories | None = None
    failed: NDArray[np.bool_] | None = None
    capped: NDArray[np.bool_] | None = None


@dataclass(slots=True, kw_only=True)
class Embedded(Columns):
    """Sampled inputs after the embedder: `embedding` is (n, d) float32.

    `skew` is the relative error of the embedding that the server sent, `cosine` that of the angle between the two; NaN
    where it sent none, or one of another length (`misfit`). `origin` is `<provider or ?>|<batch size or ?>` there.
    """

    embedding: NDArray[np.float32]
    label: Categories | None = None  # class of the highest recomputed score
    skew: Floats | None = None
    cosine: Floats | None = None
    origin: Categories | None = None
    misfit: NDArray[np.bool_] | None = None
    capped: NDArray[np.bool_] | None = None
    scores: NDArray[np.float32] | None = None  # (n, classes) as recomputed; NaN in rows that have none
    segment: Categories | None = None  # which segment each row is of; only in the rows of all traffic


@dataclass(slots=True, kw_only=True)
class Losses(Columns):
    """What clients did not send, as their heartbeats tell: a row is one heartbeat, no inference.

    `weight` is 1 / the client's sampling: what was dropped had been chosen to be sent.
    """

    sampled_out: Ints
    dropped: dict[str, Ints] = field(default_factory=dict)  # by reason
    capped: NDArray[np.bool_] | None = None


@dataclass(slots=True, kw_only=True)
class Outcomes(Columns):
    """Late ground truth: `time` is the label's, `event_time` that of the inference it is about."""

    event_time: Ints
    correct: NDArray[np.bool_]
    truth: Categories
    confidence: Floats
    feedback: NDArray[np.bool_]  # biased evidence, counted apart from audits
    predicted: Categories | None = None  # the label that the model gave
    kept: Floats | None = None  # probability with which the prediction was kept for its label; None: 1
    asked: NDArray[np.bool_] | None = None  # the label answers a request
    capped: NDArray[np.bool_] | None = None
