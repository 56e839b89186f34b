"""From decoded records to a `Batch` for the window book, and to the predictions that are kept for late labels."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from bestbefore_client.sampling import u64
from numpy.typing import NDArray

from models.columns import Categories, Embedded, Inferences, Outcomes, Subject
from models.quality import top_confidence
from models.window_book import Batch, Group
from streams.frames import Decoded, reserved_of
from streams.records import RESERVED_FIELDS, InferenceEvent, InputSample, segment_key, time_us
from streams.store_rows import Prediction


class Stamped(NamedTuple):
    """A decoded record with its place in the log and the broker's time, in microseconds."""

    offset: int
    received: int
    event: Any


class Labelled(NamedTuple):
    """A label joined with one prediction it is about."""

    subject: Subject
    offset: int
    time: int
    event_time: int
    received: int
    correct: bool
    truth: str | None
    confidence: float
    propensity: float
    feedback: bool


def threshold(rate: float) -> np.uint64:
    """Hashes up to and including this are sampled at `rate`."""
    return np.uint64(min(max(int(rate * 2.0**64) - 1, 0), 2**64 - 1))


# -- frames --------------------------------------------------------------------------------------------------


def frame_batch(decoded: Decoded, offset: int, received: int) -> Batch:
    """The batch of one frame."""
    rows = decoded.rows
    groups: list[Group] = [(s, rows if isinstance(w, slice) else rows.take(w), w) for s, w in decoded.subjects]
    return Batch(rows.offset, rows.time, np.full(len(rows), received, dtype=np.int64), groups, offset)


def kept_of_frame(decoded: Decoded, rate: float) -> list[Prediction]:
    """The live predictions of a frame that are kept for late labels; see `_unanswered` for those that failed."""
    rows = decoded.rows
    if rate <= 0 or rows.id_hash is None:
        return []
    wanted = rows.id_hash <= threshold(rate)
    chosen = np.flatnonzero(wanted if rows.live is None else wanted & rows.live)
    if not len(chosen):
        return []
    ids = decoded.table.column("id").take(chosen).to_pylist()
    extra = reserved_of(decoded.table, chosen)
    labels = [None] * len(chosen) if rows.label is None else _texts(rows.label, chosen)
    confidence = _confidences(None if rows.scores is None else rows.scores[chosen], len(chosen))
    values = [None] * len(chosen) if rows.value is None else rows.value[chosen].tolist()
    times = rows.time[chosen].tolist()
    kept: list[Prediction] = []
    for subject, where in decoded.subjects:
        if subject.segment:
            continue
        mine = range(len(chosen)) if isinstance(where, slice) else np.flatnonzero(np.isin(chosen, where)).tolist()
        kept_here = [
            Prediction(
                model=subject.model, version=subject.version, inference_id=ids[i],
                segment=_segment_of(decoded, chosen[i]), time_us=times[i], label=labels[i], value=values[i],
                confidence=confidence[i], propensity=rate, extra=extra[i] or None,
            )
            for i in mine
        ]  # fmt: skip
        unanswered = _none_of(rows, chosen[mine])
        kept += [_unanswered(row) if none else row for row, none in zip(kept_here, unanswered, strict=True)]
    return kept


def _none_of(rows: Inferences, chosen: NDArray[np.intp]) -> list[bool]:
    """Which of these rows have no answer."""
    none = np.zeros(len(chosen), dtype=np.bool_)
    for flags in (rows.failed, rows.abstained):
        if flags is not None:
            none |= flags[chosen]
    return none.tolist()


def _unanswered(row: Prediction) -> Prediction:
    """What is kept where the model failed or abstained: no output, and a mark by which a label counts it as wrong."""
    extra = {**(row.extra or {}), "failed": True}
    return msgspec.structs.replace(row, label=None, value=None, confidence=None, extra=extra)


def _segment_of(decoded: Decoded, row: np.int64) -> str:
    if len(decoded.subjects) == 1:
        return ""
    for subject, where in decoded.subjects:
        if subject.segment and (isinstance(where, slice) or row in where):
            return subject.segment
    return ""


def _texts(column: Categories, rows: NDArray[np.intp]) -> list[str | None]:
    return [column.values[code] if code >= 0 else None for code in column.codes[rows].tolist()]


def _confidences(scores: NDArray[np.float32] | None, size: int) -> list[float | None]:
    if scores is None:
        return [None] * size
    values = top_confidence(scores, 1.0)
    return [v if np.isfinite(v) else None for v in values.tolist()]


# -- single events -------------------------------------------------------------------------------------------


def event_batch(stamped: Sequence[Stamped]) -> Batch:
    """The batch of single inference events, in offset order.

    Only events with the same fields become rows of the same columns: a field that an event does not have must not
    look like a null only because it was decoded together with one that has it.
    """
    alike: dict[tuple[Subject, Any], list[int]] = {}
    for i, (_, _, event) in enumerate(stamped):
        shape = _shape(event)
        for segment in {"", segment_key(event.segment)}:
            alike.setdefault((Subject(event.model, event.version, segment), shape), []).append(i)
    offset = np.array([s.offset for s in stamped], dtype=np.int64)
    time = np.array([time_us(s.event.time) for s in stamped], dtype=np.int64)
    received = np.array([s.received for s in stamped], dtype=np.int64)
    groups: list[Any] = []
    for (subject, _), where in alike.items():
        index = np.array(where)
        groups.append((subject, _inferences([stamped[i].event for i in where], offset[index], time[index]), index))
    return Batch(offset, time, received, groups, int(offset[-1]))


def _shape(event: InferenceEvent) -> tuple[Any, ...]:
    """Which fields an event has, and which of its features are text."""
    out = event.output
    present = (predicted(event) is None, not (out and out.scores), out is None or out.value is None)
    text = tuple(sorted(name for name, value in event.features.items() if isinstance(value, str)))
    return (*present, event.latency_ms is None, tuple(sorted(event.features)), text)


def _inferences(events: list[InferenceEvent], offset: Any, time: Any) -> Inferences:
    numeric, missing, categorical = _event_features(events)
    classes = sorted({name for e in events if e.output and e.output.scores for name in e.output.scores})
    return Inferences(
        offset=offset,
        time=time,
        weight=_event_weight(events),
        numeric=numeric,
        missing=missing,
        categorical=categorical,
        scores=_event_scores(events, classes),
        label=_event_labels(events),
        value=_column([e.output.value if e.output else None for e in events]),
        latency_ms=_column([e.latency_ms for e in events]),
        failed=_true([_failed(e) for e in events]),
        abstained=_true([e.abstained for e in events]),
        live=np.array([_live(e) for e in events]),
        id_hash=np.array([u64(e.id) for e in events], dtype=np.uint64),
    )


def _live(event: InferenceEvent) -> bool:
    return event.served in (None, "live")


def _failed(event: InferenceEvent) -> bool:
    return event.status >= 400 or _without_output(event)


def _without_output(event: InferenceEvent) -> bool:
    """The event announces an output and has none; an event without `output` at all only carries inputs."""
    out = event.output
    return out is not None and not event.abstained and out.label is None and not out.scores and out.value is None


def _event_weight(events: list[InferenceEvent]) -> NDArray[np.float64] | None:
    rates = [e.sampling for e in events]
    return None if all(r == 1.0 for r in rates) else 1.0 / np.array(rates)


def _event_features(events: list[InferenceEvent]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Categories]]:
    names = list(dict.fromkeys(name for e in events for name in e.features))
    numeric, missing, categorical = {}, {}, {}
    for name in names:
        values = [e.features.get(name) for e in events]
        if isinstance(values[0], str):
            categorical[name] = _encode([str(v) for v in values])
            continue
        numeric[name] = np.array([np.nan if v is None else float(v) for v in values])
        absent = np.array([v is None for v in values])
        if absent.any():
            missing[name] = absent
    return numeric, missing, categorical


def _event_scores(events: list[InferenceEvent], classes: list[str]) -> NDArray[np.float32] | None:
    if not classes:
        return None
    matrix = np.full((len(events), len(classes)), np.nan, dtype=np.float32)
    column = {name: i for i, name in enumerate(classes)}
    for row, event in enumerate(events):
        if event.output and event.output.scores:
            # Servers may send only the top scores; what is left out is zero.
            matrix[row] = 0.0
            for name, value in event.output.scores.items():
                matrix[row, column[name]] = value
    return matrix


def predicted(event: InferenceEvent) -> str | None:
    """The predicted label: as sent, else the class of the highest score."""
    out = event.output
    if out is None or out.label is not None or not out.scores:
        return out.label if out else None
    return max(out.scores, key=out.scores.__getitem__)


def _event_labels(events: list[InferenceEvent]) -> Categories | None:
    labels = [predicted(e) for e in events]
    return None if all(label is None for label in labels) else _encode(labels)


def _encode(values: list[str | None]) -> Categories:
    names = list(dict.fromkeys(v for v in values if v is not None))
    code: dict[str | None, int] = {name: i for i, name in enumerate(names)}
    return Categories(np.array([code.get(v, -1) for v in values], dtype=np.int32), tuple(names))


def _column(values: list[float | None]) -> NDArray[np.float64] | None:
    if all(v is None for v in values):
        return None
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)


def _true(flags: list[bool]) -> NDArray[np.bool_] | None:
    return np.array(flags) if any(flags) else None


def kept_of_events(stamped: Sequence[Stamped], rate: float) -> list[Prediction]:
    """The live predictions of single events that are kept for late labels; see `_unanswered` for those that failed."""
    if rate <= 0:
        return []
    limit = int(threshold(rate))
    return [_prediction(s.event, rate) for s in stamped if _live(s.event) and u64(s.event.id) <= limit]


def _prediction(event: InferenceEvent, rate: float) -> Prediction:
    out = event.output
    scores = list(out.scores.values()) if out and out.scores else []
    extra = {k: v for k in RESERVED_FIELDS if (v := getattr(event, k)) is not None}
    row = Prediction(
        model=event.model,
        version=event.version,
        inference_id=event.id,
        segment=segment_key(event.segment),
        time_us=time_us(event.time),
        label=predicted(event),
        value=out.value if out else None,
        confidence=max(scores) / total if scores and (total := sum(scores)) > 0 else None,
        propensity=rate,
        extra=msgspec.to_builtins(extra) or None,
    )
    return _unanswered(row) if _failed(event) or event.abstained else row


# -- sampled inputs and labels -------------------------------------------------------------------------------


def embedded_batch(stamped: Sequence[Stamped], vectors: Sequence[NDArray[np.float32]], last: int) -> Batch:
    """The batch of sampled inputs after the embedder; `vectors[i]` belongs to `stamped[i]`."""
    by_subject: dict[Subject, list[int]] = {}
    for i, (_, _, event) in enumerate(stamped):
        for segment in {"", segment_key(event.segment)}:
            by_subject.setdefault(Subject(event.model, event.version, segment), []).append(i)
    offset = np.array([s.offset for s in stamped], dtype=np.int64)
    time = np.array([time_us(s.event.time) for s in stamped], dtype=np.int64)
    groups: list[Any] = []
    for subject, where in sorted(by_subject.items()):
        index = np.array(where)
        samples: list[InputSample] = [stamped[i].event for i in where]
        rows = Embedded(
            offset=offset[index],
            time=time[index],
            weight=1.0 / np.array([s.propensity for s in samples]),
            embedding=np.stack([vectors[i] for i in where]),
        )
        groups.append((subject, rows, index))
    return Batch(offset, time, np.array([s.received for s in stamped], dtype=np.int64), groups, last)


def outcome_batch(joined: Sequence[Labelled], last: int) -> Batch:
    """The batch of labels joined with their predictions, in offset order."""
    by_subject: dict[Subject, list[int]] = {}
    for i, row in enumerate(joined):
        for segment in {"", row.subject.segment}:
            by_subject.setdefault(row.subject._replace(segment=segment), []).append(i)
    offset = np.array([j.offset for j in joined], dtype=np.int64)
    time = np.array([j.time for j in joined], dtype=np.int64)
    groups: list[Any] = []
    for subject, where in sorted(by_subject.items()):
        index, mine = np.array(where), [joined[i] for i in where]
        rows = Outcomes(
            offset=offset[index],
            time=time[index],
            weight=1.0 / np.array([j.propensity for j in mine]),
            event_time=np.array([j.event_time for j in mine], dtype=np.int64),
            correct=np.array([j.correct for j in mine]),
            truth=_encode([j.truth for j in mine]),
            confidence=np.array([j.confidence for j in mine]),
            feedback=np.array([j.feedback for j in mine]),
        )
        groups.append((subject, rows, index))
    return Batch(offset, time, np.array([j.received for j in joined], dtype=np.int64), groups, last)
