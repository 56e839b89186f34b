"""What goes into and comes out of the event store. Times are microseconds since the epoch, UTC."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from msgspec import Struct

Subject = tuple[str, str, str]
"""Model, version and segment; the segment is '' where there is none."""

EventKind = Literal["status", "mismatch", "trigger", "label-request", "lifecycle", "registration"]
Column = Sequence[Any] | npt.NDArray[np.generic]


class Claim(Struct, frozen=True):
    """A partition taken over: every write with an older epoch is refused from now on.

    `next_offset` is the first offset not yet applied, None when the group never applied one.
    """

    epoch: int
    next_offset: int | None = None


class Registration(Struct, frozen=True):
    """The active descriptors of a model version, as JSON."""

    model: str
    version: str
    digest: str
    body: bytes
    registered_at_us: int


class Event(Struct, frozen=True, kw_only=True):
    """One line of the append-only record; the same `event_id` is stored once. `body` must be JSON."""

    event_id: str
    kind: EventKind
    model: str
    version: str
    segment: str = ""
    check: str | None = None
    severity: str | None = None
    occurred_at_us: int
    window_start_us: int | None = None
    window_end_us: int | None = None
    body: dict[str, Any]


class StoredEvent(Event, frozen=True, kw_only=True):
    """An event with its number; numbers grow, may have gaps, and two writers may commit theirs out of order."""

    seq: int


class WindowKey(Struct, frozen=True, kw_only=True):
    """A window of a subject, start inclusive, end exclusive."""

    model: str
    version: str
    segment: str
    window_start_us: int
    window_end_us: int


class WindowCounts(WindowKey, frozen=True, kw_only=True):
    """Counts to add to a window. `weight` is the sum of 1 / sampling over its events."""

    n: int = 0
    n_late: int = 0
    n_capped: int = 0
    n_failed: int = 0
    n_input: int = 0
    n_labelled: int = 0
    n_correct: int = 0
    weight: float = 0.0


class WindowEstimate(WindowKey, frozen=True, kw_only=True):
    """What was concluded of a window; replaces what was concluded before."""

    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    basis: str | None = None
    best_before_us: int | None = None


class Window(WindowCounts, frozen=True, kw_only=True):
    """A window as stored: its counts and, once assessed, its estimate."""

    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    basis: str | None = None
    best_before_us: int | None = None


class State(Struct, frozen=True):
    """An estimator's state as it was serialised."""

    format_version: int
    body: bytes


class StateFormat(Struct, frozen=True):
    """In which format the state of a model version was written."""

    model: str
    version: str
    format_version: int


class PredictionColumns(Struct, kw_only=True):
    """Predictions kept for late labels, as columns of one length (lists or numpy arrays).

    A missing optional column is all null; NaN is null. `extra` holds JSON objects or None.
    """

    model: Column
    version: Column
    inference_id: Column
    segment: Column
    time_us: Column
    label: Column | None = None
    value: Column | None = None
    confidence: Column | None = None
    propensity: Column | None = None
    extra: Sequence[dict[str, Any] | None] | None = None


class Prediction(Struct, frozen=True, kw_only=True):
    """One kept prediction; `propensity` is the probability with which it was kept."""

    model: str
    version: str
    inference_id: str
    segment: str
    time_us: int
    label: str | None = None
    value: float | None = None
    confidence: float | None = None
    propensity: float | None = None
    extra: dict[str, Any] | None = None


class LabelRow(Struct, frozen=True, kw_only=True):
    """One label with the record (topic, partition, offset) it came in; the first of (inference_id, source) wins."""

    inference_id: str
    source: str
    topic: str
    partition: int
    offset: int
    time_us: int
    label: str | None = None
    value: float | None = None
    correct: bool | None = None
    propensity: float | None = None
    model: str | None = None
    version: str | None = None


class OutboxMessage(Struct, frozen=True, kw_only=True):
    """A record to be sent; `partition` is the source partition whose owner sends it, which keeps their order."""

    partition: int
    topic: str
    key: str
    headers: dict[str, str]
    value: bytes


class OutboxRow(OutboxMessage, frozen=True, kw_only=True):
    """A record still to be sent; hand `seq` to `EventStore.sent` once the broker has acknowledged it."""

    seq: int
