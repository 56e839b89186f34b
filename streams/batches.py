"""From decoded records to a `Batch` for the window book, and to the predictions that are kept for late labels."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.columns import Categories, Inferences, Outcomes, Subject
from models.quality import top_confidence
from models.window_book import Batch, Group
from streams.asking import Asked
from streams.event_columns import encoded, has_failed, hashes, inferences, is_live, predicted, shape_of
from streams.frames import Decoded, reserved_of
from streams.records import RESERVED_FIELDS, InferenceEvent, segment_key, time_us
from streams.served import Describes, nothing_described, served_of_events, served_of_frame
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
    predicted: str | None = None
    kept: float = 1.0  # probability with which the prediction was kept for its label
    asked: bool = False  # the label answers a request


Temperatures = Callable[[str, str], float]


def untempered(model: str, version: str) -> float:  # noqa: ARG001 -- one of `Temperatures`
    """The temperature of scores that are probabilities as they are."""
    return 1.0


def threshold(rate: float) -> np.uint64:
    """Hashes up to and including this are sampled at `rate`."""
    return np.uint64(min(max(int(rate * 2.0**64) - 1, 0), 2**64 - 1))


# -- frames --------------------------------------------------------------------------------------------------


def frame_batch(decoded: Decoded, offset: int, received: int, describes: Describes = nothing_described) -> Batch:
    """The batch of one frame. Of models that `describes` knows, all versions are counted side by side, too."""
    rows = decoded.rows
    groups: list[Group] = [(s, rows if isinstance(w, slice) else rows.take(w), w) for s, w in decoded.subjects]
    groups += served_of_frame(decoded, describes)
    return Batch(rows.offset, rows.time, np.full(len(rows), received, dtype=np.int64), groups, offset)


def kept_of_frame(decoded: Decoded, rate: float, temperature: Temperatures = untempered) -> list[Prediction]:
    """The live predictions of a frame that are kept for late labels; see `_unanswered` for those that failed.

    Confidences are tempered as those of all traffic are, so that the two can be compared.
    """
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
    scores = None if rows.scores is None else rows.scores[chosen]
    values = [None] * len(chosen) if rows.value is None else rows.value[chosen].tolist()
    times = rows.time[chosen].tolist()
    kept: list[Prediction] = []
    for subject, where in decoded.subjects:
        if subject.segment:
            continue
        mine = range(len(chosen)) if isinstance(where, slice) else np.flatnonzero(np.isin(chosen, where)).tolist()
        confidence = _confidences(scores, len(chosen), temperature(subject.model, subject.version))
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


def _confidences(scores: NDArray[np.float32] | None, size: int, temperature: float) -> list[float | None]:
    if scores is None:
        return [None] * size
    values = top_confidence(scores, temperature)
    return [v if np.isfinite(v) else None for v in values.tolist()]


# -- single events -------------------------------------------------------------------------------------------


def event_batch(
    stamped: Sequence[Stamped], describes: Describes = nothing_described, asked: Asked | None = None
) -> Batch:
    """The batch of single inference events, in offset order; `describes` as for frames, `asked` as `ask_of_events`.

    Only events with the same fields become rows of the same columns: a field that an event does not have must not
    look like a null only because it was decoded together with one that has it.
    """
    events = [s.event for s in stamped]
    alike: dict[tuple[str, str, Any], list[int]] = {}
    for i, event in enumerate(events):
        alike.setdefault((event.model, event.version, shape_of(event)), []).append(i)
    offset = np.array([s.offset for s in stamped], dtype=np.int64)
    time = np.array([time_us(event.time) for event in events], dtype=np.int64)
    received = np.array([s.received for s in stamped], dtype=np.int64)
    groups: list[Any] = []
    for (model, version, _), where in alike.items():
        index, mine = np.array(where), [events[i] for i in where]
        rows = inferences(mine, offset[index], time[index])
        if asked is not None:
            rows.propensity, rows.asked, rows.step = (column[index] for column in asked)
        groups.append((Subject(model, version), rows, index))
        for segment, part in _by_segment(mine).items():
            # Even of all rows a copy: whoever takes rows in may write into them.
            groups.append((Subject(model, version, segment), rows.take(part), index[part]))
    groups += served_of_events(events, offset, time, describes)
    return Batch(offset, time, received, groups, int(offset[-1]))


def _by_segment(events: Sequence[InferenceEvent]) -> dict[str, NDArray[np.intp]]:
    """Row numbers of each segment."""
    found: dict[str, list[int]] = {}
    for i, event in enumerate(events):
        if event.segment:
            found.setdefault(segment_key(event.segment), []).append(i)
    return {segment: np.array(rows) for segment, rows in found.items()}


def kept_of_events(stamped: Sequence[Stamped], rate: float, temperature: Temperatures = untempered) -> list[Prediction]:
    """The live predictions of single events that are kept for late labels; see `kept_of_frame`."""
    if rate <= 0:
        return []
    wanted = (hashes([s.event.id for s in stamped]) <= threshold(rate)).tolist()
    chosen = [s.event for s, keep in zip(stamped, wanted, strict=True) if keep and is_live(s.event)]
    return [_prediction(event, rate, temperature(event.model, event.version)) for event in chosen]


def _prediction(event: InferenceEvent, rate: float, temperature: float) -> Prediction:
    out = event.output
    scores = np.array([list(out.scores.values())]) if out and out.scores else None
    extra = {k: v for k in RESERVED_FIELDS if (v := getattr(event, k)) is not None}
    row = Prediction(
        model=event.model,
        version=event.version,
        inference_id=event.id,
        segment=segment_key(event.segment),
        time_us=time_us(event.time),
        label=predicted(event),
        value=out.value if out else None,
        confidence=_confidences(scores, 1, temperature)[0],
        propensity=rate,
        extra=msgspec.to_builtins(extra) or None,
    )
    return _unanswered(row) if has_failed(event) or event.abstained else row


# -- labels --------------------------------------------------------------------------------------------------


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
            truth=encoded([j.truth for j in mine]),
            confidence=np.array([j.confidence for j in mine]),
            feedback=np.array([j.feedback for j in mine]),
            predicted=encoded([j.predicted for j in mine]),
            kept=np.array([j.kept for j in mine]),
            asked=np.array([j.asked for j in mine]),
        )
        groups.append((subject, rows, index))
    return Batch(offset, time, np.array([j.received for j in joined], dtype=np.int64), groups, last)
