"""Single inference events as columns, as if they had come in a frame."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from bestbefore_client.sampling import u64
from numpy.typing import NDArray

from models.columns import Categories, Inferences, TextIds
from streams.frames import status_classes
from streams.records import InferenceEvent
from streams.traces import of_texts


def shape_of(event: InferenceEvent) -> tuple[Any, ...]:
    """Which fields an event has, and which of its features are text."""
    out = event.output
    present = (predicted(event) is None, not (out and out.scores), out is None or out.value is None)
    text = tuple(sorted(name for name, value in event.features.items() if isinstance(value, str)))
    return (*present, event.latency_ms is None, tuple(sorted(event.features)), text)


def inferences(events: list[InferenceEvent], offset: Any, time: Any) -> Inferences:
    """Events of one shape as columns."""
    numeric, missing, categorical = _features(events)
    classes = sorted({name for e in events if e.output and e.output.scores for name in e.output.scores})
    return Inferences(
        offset=offset,
        time=time,
        weight=weight_of(events),
        numeric=numeric,
        missing=missing,
        categorical=categorical,
        scores=_scores(events, classes),
        classes=tuple(classes),
        label=_labels(events),
        value=_column([e.output.value if e.output else None for e in events]),
        latency_ms=_column([e.latency_ms for e in events]),
        failed=true_of([has_failed(e) for e in events]),
        abstained=true_of([e.abstained for e in events]),
        live=np.array([is_live(e) for e in events]),
        id_hash=np.array([u64(e.id) for e in events], dtype=np.uint64),
        ids=TextIds([e.id for e in events]),
        traces=of_texts([e.traceparent for e in events]),
        status=status_classes(np.array([float(e.status) for e in events])),
        digest=digests(events),
        embedded=true_of([e.embedding is not None for e in events]),
    )


def digests(events: list[InferenceEvent]) -> Categories | None:
    """Digests of the files that served; None where no event has one."""
    return encoded([e.digest for e in events]) if any(e.digest is not None for e in events) else None


def is_live(event: InferenceEvent) -> bool:
    """Whether it counts in live figures."""
    return event.served in (None, "live")


def has_failed(event: InferenceEvent) -> bool:
    """Status 400 and above, or an output announced and absent."""
    return event.status >= 400 or _without_output(event)


def _without_output(event: InferenceEvent) -> bool:
    """The event announces an output and has none; an event without `output` at all only carries inputs."""
    out = event.output
    return out is not None and not event.abstained and out.label is None and not out.scores and out.value is None


def weight_of(events: list[InferenceEvent]) -> NDArray[np.float64] | None:
    """1 / probability; None where every event counts once."""
    rates = [e.sampling for e in events]
    return None if all(r == 1.0 for r in rates) else 1.0 / np.array(rates)


def _features(events: list[InferenceEvent]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Categories]]:
    names = list(dict.fromkeys(name for e in events for name in e.features))
    numeric, missing, categorical = {}, {}, {}
    for name in names:
        values = [e.features.get(name) for e in events]
        if isinstance(values[0], str):
            categorical[name] = encoded([str(v) for v in values])
            continue
        numeric[name] = np.array([np.nan if v is None else float(v) for v in values])
        absent = np.array([v is None for v in values])
        if absent.any():
            missing[name] = absent
    return numeric, missing, categorical


def _scores(events: list[InferenceEvent], classes: list[str]) -> NDArray[np.float32] | None:
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


def _labels(events: list[InferenceEvent]) -> Categories | None:
    labels = [predicted(e) for e in events]
    return None if all(label is None for label in labels) else encoded(labels)


def encoded(values: Sequence[str | None]) -> Categories:
    """Texts as categories; None is missing."""
    names = list(dict.fromkeys(v for v in values if v is not None))
    code: dict[str | None, int] = {name: i for i, name in enumerate(names)}
    return Categories(np.array([code.get(v, -1) for v in values], dtype=np.int32), tuple(names))


def _column(values: list[float | None]) -> NDArray[np.float64] | None:
    if all(v is None for v in values):
        return None
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)


def true_of(flags: list[bool]) -> NDArray[np.bool_] | None:
    """Flags of rows; None where none is true."""
    return np.array(flags) if any(flags) else None
