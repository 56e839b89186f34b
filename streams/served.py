"""All versions of a model side by side: who answered, for the subject `Subject(model, "", "")`."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.columns import Categories, Served, Subject
from models.window_book import Group
from streams.event_columns import digests, encoded, has_failed, is_live, true_of, weight_of
from streams.records import InferenceEvent

if TYPE_CHECKING:
    from streams.frames import Decoded

Describes = Callable[[str], bool]  # whether a version of this model is registered


def nothing_described(_: str) -> bool:
    """No model is registered, so versions are not counted side by side."""
    return False


def served_of_frame(decoded: "Decoded", describes: Describes) -> Iterator[Group]:
    """One group per registered model, of the live rows of a frame."""
    rows = decoded.rows
    by_model: dict[str, list[tuple[str, Any]]] = {}
    for subject, where in decoded.subjects:
        if not subject.segment and describes(subject.model):
            by_model.setdefault(subject.model, []).append((subject.version, where))
    for model, parts in by_model.items():
        index, codes = _joined(parts, len(rows))
        if rows.live is not None:
            alive = np.flatnonzero(rows.live[index])
            index, codes = np.arange(len(rows))[index][alive], codes[alive]
        if not len(codes):
            continue
        served = Served(
            offset=rows.offset[index],
            time=rows.time[index],
            weight=None if rows.weight is None else rows.weight[index],
            version=Categories(codes, tuple(version for version, _ in parts)),
            digest=None if rows.digest is None else Categories(rows.digest.codes[index], rows.digest.values),
            failed=None if rows.failed is None else rows.failed[index],
        )
        yield Subject(model, ""), served, index


def _joined(parts: Sequence[tuple[str, Any]], size: int) -> tuple[Any, NDArray[np.int32]]:
    """Rows of all versions in their order, and the number of the version of each."""
    if len(parts) == 1:
        where = parts[0][1]
        return where, np.zeros(size if isinstance(where, slice) else len(where), np.int32)
    rows = np.concatenate([where for _, where in parts])
    codes = np.repeat(np.arange(len(parts), dtype=np.int32), [len(where) for _, where in parts])
    order = np.argsort(rows, kind="stable")
    return rows[order], codes[order]


def served_of_events(
    events: Sequence[InferenceEvent], offset: NDArray[np.int64], time: NDArray[np.int64], describes: Describes
) -> Iterator[Group]:
    """One group per registered model, of live single events."""
    by_model: dict[str, list[int]] = {}
    described = {model for model in {event.model for event in events} if describes(model)}
    for i, event in enumerate(events if described else ()):
        if event.model in described and is_live(event):
            by_model.setdefault(event.model, []).append(i)
    for model, where in by_model.items():
        index, mine = np.array(where), [events[i] for i in where]
        served = Served(
            offset=offset[index],
            time=time[index],
            weight=weight_of(mine),
            version=encoded([event.version for event in mine]),
            digest=digests(mine),
            failed=true_of([has_failed(event) for event in mine]),
        )
        yield Subject(model, ""), served, index
