"""Single inference events as columns, as if they had come in a frame."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from bestbefore_client.sampling import u64_many
from numpy.typing import NDArray

from models.columns import Categories, Inferences, TextIds
from streams.frames import status_classes
from streams.records import InferenceEvent
from streams.traces import of_texts

MOST_REMEMBERED = 16 << 10  # characters of the names of one event's features


def shape_of(event: InferenceEvent) -> tuple[Any, ...]:
    """Which fields an event has, and which of its features are text."""
    out, features = event.output, event.features
    answer = (
        (True, True, True) if out is None else (out.label is None and not out.scores, not out.scores, out.value is None)
    )
    names, kinds = (*features,), (*map(type, features.values()),)
    try:
        fields = _remembered(names, kinds)
    except _TooLong:
        fields = _fields(names, kinds)
    return (*answer, event.latency_ms is None, fields)


class _TooLong(Exception):
    """Names that are not remembered: senders choose them, and their length is bounded by that of a record alone."""


@lru_cache(maxsize=1024)
def _remembered(names: tuple[str, ...], kinds: tuple[type, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """As `_fields`, kept: most events have the fields of others. What is raised is not kept."""
    if sum(map(len, names)) > MOST_REMEMBERED:
        raise _TooLong
    return _fields(names, kinds)


def _fields(names: tuple[str, ...], kinds: tuple[type, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of features, and those of them that are text, in whatever order they come."""
    return tuple(sorted(names)), tuple(sorted(name for name, kind in zip(names, kinds, strict=True) if kind is str))


def inferences(events: list[InferenceEvent], offset: Any, time: Any) -> Inferences:
    """Events of one shape as columns."""
    numeric, missing, categorical = _features(events)
    scores, classes = _scores(events)
    return Inferences(
        offset=offset,
        time=time,
        weight=weight_of(events),
        numeric=numeric,
        missing=missing,
        categorical=categorical,
        scores=scores,
        classes=classes,
        label=_labels(events),
        value=_column([e.output.value if e.output else None for e in events]),
        latency_ms=_column([e.latency_ms for e in events]),
        failed=true_of([has_failed(e) for e in events]),
        abstained=true_of([e.abstained for e in events]),
        live=np.array([is_live(e) for e in events]),
        id_hash=hashes([e.id for e in events]),
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


def hashes(ids: Sequence[str]) -> NDArray[np.uint64]:
    """`u64` of each id."""
    texts = [name.encode() for name in ids]
    offsets = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum([len(text) for text in texts], out=offsets[1:])
    return u64_many(np.frombuffer(b"".join(texts), dtype=np.uint8), offsets)


def _features(events: list[InferenceEvent]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Categories]]:
    names = (*events[0].features,)
    numeric, missing, categorical = {}, {}, {}
    for name, values in zip(names, _across([e.features for e in events], names), strict=True):
        if isinstance(values[0], str):
            categorical[name] = encoded(values)
            continue
        column = numeric[name] = np.array(values, dtype=np.float64)  # None becomes NaN
        if np.isnan(column).any():
            absent = np.array([value is None for value in values])
            if absent.any():
                missing[name] = absent
    return numeric, missing, categorical


def _across(rows: list[dict[str, Any]], names: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    """The columns of rows that all have these names, mostly in this order."""
    return zip(*(row.values() if (*row,) == names else [row[name] for name in names] for row in rows), strict=True)


def _scores(events: list[InferenceEvent]) -> tuple[NDArray[np.float32] | None, tuple[str, ...]]:
    rows = [e.output.scores if e.output and e.output.scores else {} for e in events]
    found = dict.fromkeys(map(tuple, rows))
    classes = tuple(sorted({name for names in found for name in names}))
    if not classes:
        return None, ()
    if len(found) == 1:
        place = {name: i for i, name in enumerate(next(iter(found)))}
        matrix = np.array([(*row.values(),) for row in rows], dtype=np.float32)
        return np.ascontiguousarray(matrix[:, [place[name] for name in classes]]), classes
    # Servers may send only the top scores; what is left out is zero.
    matrix = np.array([[row.get(name, 0.0) for name in classes] for row in rows], dtype=np.float32)
    matrix[[not row for row in rows]] = np.nan
    return matrix, classes


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
