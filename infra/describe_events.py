"""Recorded events of one model version as the columns that are described, with labels joined and inputs decoded."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.recording import Recording, Sample, read_recording, sorted_by_time
from models.columns import Inferences
from models.describing_columns import Observations, Part, Truths, gather, texts_of
from streams.adapters.config import Sources
from streams.batches import Stamped, event_batch
from streams.errors import DescriptorError
from streams.frames import decode_batch
from streams.records import InferenceEvent, LabelEvent, time_us

TRUTH = "ground-truth"
Name = tuple[str, str]  # of a model and its version


class Recorded(NamedTuple):
    """Columns of one model version, the ids of their rows, and the sampled inputs in the order of their times."""

    columns: Observations
    ids: pa.Array
    inputs: list[Sample]


class _Piece(NamedTuple):
    part: Part
    ids: pa.Array


def recorded(
    events: Sequence[Path], model: str, version: str, notes: list[str], *,
    sources: Sources | None = None, first_us: int | None = None,
) -> Recorded:  # fmt: skip
    """Read the files and keep what is about one model version; an empty name stands for the only one there.

    With `first_us` only the first microseconds of the recording are kept.

    Raises RecordingError, and DescriptorError where none or several remain.
    """
    recording = read_recording(events, sources)
    recording = recording if first_us is None else recording.first(first_us)
    if recording.rejected:
        notes.append(
            f"{len(recording.rejected)} records cannot be read and are left out; first: {recording.rejected[0]}"
        )
    pieces: dict[Name, list[_Piece]] = {}
    for name, piece in (*_tables(recording.tables), *_events(recording.events)):
        if len(piece.part.rows):
            pieces.setdefault(name, []).append(piece)
    name = _chosen(list(pieces), model, version)
    mine = pieces[name]
    columns = gather(*name, [piece.part for piece in mine])
    ids = pa.concat_arrays([piece.ids for piece in mine])
    repeated = len(ids) - pc.count_distinct(ids).as_py()
    if repeated:
        notes.append(f"{repeated} of {len(ids)} events repeat an id and count again; a label is joined with the first")
    columns.truths = _truths(recording, columns, ids, notes)
    inputs = [s for s in sorted_by_time(recording.inputs) if (s.meta.model, s.meta.version) == name]
    return Recorded(columns, ids, inputs)


def _chosen(names: list[Name], *wanted: str) -> Name:
    fitting = [n for n in names if all(w in ("", part) for w, part in zip(wanted, n, strict=True))]
    if len(fitting) == 1:
        return fitting[0]
    listed = ", ".join(f"{m} version {v}" for m, v in sorted(fitting or names)[:10]) or "none that is live"
    asked = " version ".join(w or "of any name" for w in wanted)
    if fitting:
        raise DescriptorError(f"the events are of {listed}; say which to describe with --model and --version")
    raise DescriptorError(f"no event is of model {asked}; recorded are: {listed}")


def _tables(tables: Iterable[pa.Table]) -> Iterator[tuple[Name, _Piece]]:
    for table in tables:
        for number, batch in enumerate(table.combine_chunks().to_batches()):
            decoded = decode_batch(batch, number)
            ids = _plain(decoded.table.column("id"))
            for subject, where in decoded.subjects:
                if subject.segment or not subject.version:
                    continue
                rows = decoded.rows.take(where)
                mine = ids if isinstance(where, slice) else ids.take(pa.array(where))
                yield (subject.model, subject.version), _live(rows, decoded.classes, mine)


def _events(events: Sequence[InferenceEvent]) -> Iterator[tuple[Name, _Piece]]:
    if not events:
        return
    batch = event_batch([Stamped(i, time_us(event.time), event) for i, event in enumerate(events)])
    ids = pa.array([event.id for event in events], pa.string())
    for subject, rows, where in batch.groups:
        if subject.segment or not subject.version or not isinstance(rows, Inferences):
            continue
        index = np.arange(len(events))[where]
        chosen = [events[i] for i in index.tolist()]
        classes = sorted({name for e in chosen if e.output and e.output.scores for name in e.output.scores})
        yield (subject.model, subject.version), _live(rows, tuple(classes), ids.take(pa.array(index)))


def _plain(column: pa.Array) -> pa.Array:
    return column.cast(pa.string())


def _live(rows: Inferences, classes: tuple[str, ...], ids: pa.Array) -> _Piece:
    """Shadow and holdout answers are not what people were served."""
    if rows.live is not None and not rows.live.all():
        live = np.flatnonzero(rows.live)
        rows, ids = rows.take(live), ids.take(pa.array(live))
    return _Piece(Part(rows, classes), ids)


def _truths(recording: Recording, columns: Observations, ids: pa.Array, notes: list[str]) -> Truths | None:
    """The first ground truth of each inference, with the delay after it; feedback and proxies describe nothing."""
    first: dict[str, LabelEvent] = {}
    others = 0
    for label in sorted_by_time(recording.labels):
        if label.model not in (None, columns.model) or label.version not in (None, columns.version):
            continue
        if label.source != TRUTH or (label.label is None and label.value is None):
            others += 1
            continue
        first.setdefault(label.inference_id, label)
    if others:
        notes.append(f"{others} labels are feedback, a proxy or name no truth; they describe no class")
    if not first:
        return None
    rows = pc.index_in(pa.array(list(first), pa.string()), value_set=ids)
    joined = [(row, label) for row, label in zip(rows.to_pylist(), first.values(), strict=True) if row is not None]
    if len(joined) < len(first):
        notes.append(f"{len(first) - len(joined)} labels are about inferences that are not recorded")
    if not joined:
        return None
    where = np.array([row for row, _ in joined], dtype=np.intp)
    labels: list[Any] = [label for _, label in joined]
    weight = 1.0 / np.array([label.propensity or 1.0 for label in labels])
    return Truths(
        rows=where,
        truth=texts_of([label.label for label in labels]),
        value=np.array([np.nan if label.value is None else label.value for label in labels]),
        delay_us=np.array([time_us(label.time) for label in labels], dtype=np.int64) - columns.time[where],
        weight=None if (weight == weight[0]).all() else weight,
    )
