"""Replay: the very same window books, assembly and assessor over recorded events, in event time, without a broker.

Every topic is one source here, and a source may say at any time how far all of them have come, because the recording is
read in order. So windows close as they do live when nobody is late.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from bestbefore_client.sampling import u64

from agents.label import about, labelled
from agents.lifecycle import change_of, concerned
from infra.plot import plot_status
from infra.recorded_lines import write_notes, write_requests
from infra.recording import Recording, Sample, read_recording, sorted_by_time
from models.assessor import assess
from models.columns import Subject
from models.embedder import Embedder, ModelLoadError, decode_tensor
from models.forecast_history import inherited, is_family
from models.inspection import Inspection
from models.lifecycle import Change, recorded, take_in
from models.notes import Note
from models.profile import Profile
from models.reference import ModelFile, Reference
from models.subject_state import State, fresh
from models.window_book import Batch, Clock, WindowBook
from streams.adapters.config import Sources
from streams.asking import Request, ask, ask_of_events, ask_of_frame, request_of
from streams.batches import (
    Labelled,
    Stamped,
    event_batch,
    frame_batch,
    kept_of_events,
    kept_of_frame,
    outcome_batch,
    threshold,
)
from streams.descriptor_files import load_reference
from streams.embedded import NOTHING, Recomputed, embedded_batch, recomputed
from streams.errors import ModelError
from streams.frames import decode_batch
from streams.heartbeats import heartbeat_batch
from streams.inspecting import inspection_of
from streams.records import InferenceEvent, LabelEvent, time_us
from streams.registry import Registry
from streams.settings import Settings
from streams.store_rows import Prediction
from streams.topics import INFERENCE, INPUTS, LABELS, LIFECYCLE

MAX_ROWS = 5_000
END = 1 << 60


class Result(NamedTuple):
    """What was replayed and what came of it; `rejected` counts rows, `undescribed` names model versions.

    `latest` is the last status line of all traffic of each version, `asked` the triggers, `used` how many labels could
    be joined at the rate at which predictions are kept.
    """

    events: int
    labels: int
    inputs: int
    status: int
    mismatches: int
    triggers: int
    lifecycle: int = 0
    requests: int = 0
    rejected: int = 0
    undescribed: tuple[str, ...] = ()
    latest: tuple[dict[str, Any], ...] = ()
    asked: tuple[dict[str, Any], ...] = ()
    plots: tuple[Path, ...] = ()
    used: int = 0


class Step(NamedTuple):
    """Some rows of one kind and one window. Labels come after the inferences before the last of them."""

    time: int
    kind: str
    rows: Any
    after: int = 0


def replay(
    paths: Sequence[Path],
    descriptors: Sequence[Path],
    out: Path,
    settings: Settings,
    *,
    sources: Sources | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Result:
    """Run recorded events through the estimators and write status, mismatches, triggers and plots into `out`.

    Raises RecordingError and DescriptorError.
    """
    references = [load_reference(folder) for folder in descriptors]
    recording = read_recording(paths, sources)
    engine = Engine(references, settings, labelled={label.inference_id for label in recording.labels})
    steps = sorted(_steps(recording, engine.shortest), key=lambda s: max(s.time, s.after))
    for done, step in enumerate(steps, 1):
        engine.take(step)
        progress(done, len(steps))
    engine.finish()
    out.mkdir(parents=True, exist_ok=True)
    lines = write_notes(engine.notes, out)
    if recording.rejected:
        (out / "rejected.txt").write_text("\n".join(recording.rejected) + "\n", "utf-8")
    told, asked = ([n.body for n in engine.notes if n.kind == kind] for kind in ("status", "trigger"))
    return Result(
        recording.size(),
        len(recording.labels),
        len(recording.inputs),
        lines["status"],
        lines["mismatch"],
        lines["trigger"],
        lines["lifecycle"],
        write_requests(engine.requests.values(), out),
        len(recording.rejected),
        _undescribed(engine.notes),
        latest=_latest(told),
        asked=tuple(asked),
        plots=tuple(plot_status(told, asked, out)),
        used=engine.wanted,
    )


def _latest(told: Iterable[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Of all traffic of each version the last line; its verdicts are those of the last window that had traffic."""
    last: dict[tuple[str, str], dict[str, Any]] = {}
    for line in (s for s in told if s["segment"] is None):
        name = (line["model"], line["version"])
        verdicts = line["verdicts"] if line["window"]["n"] or name not in last else last[name]["verdicts"]
        last[name] = {**line, "verdicts": verdicts}
    return tuple(last.values())


def _undescribed(notes: Iterable[Note]) -> tuple[str, ...]:
    """Model versions that had traffic and no descriptors."""
    found = {f"{n.body['model']} {n.body['version']}" for n in notes if n.kind == "status" and not n.body["registered"]}
    return tuple(sorted(found))


def _steps(recording: Recording, window_us: int) -> Iterator[Step]:
    for table in recording.tables:
        yield from _table_steps(table, window_us)
    for events in _by_window(sorted_by_time(recording.events), window_us):
        yield Step(time_us(events[0].time), "events", events)
    for labels in _by_window(sorted_by_time(recording.labels), window_us):
        yield Step(time_us(labels[0].time), LABELS, labels, after=time_us(labels[-1].time))
    for happened in sorted_by_time(recording.lifecycle):
        yield Step(time_us(happened.time), LIFECYCLE, happened)
    for heartbeat in sorted_by_time(recording.heartbeats):
        yield Step(time_us(heartbeat.time), "heartbeat", heartbeat)
    for sample in sorted_by_time(recording.inputs):
        yield Step(time_us(sample.meta.time), INPUTS, sample)


def _by_window(rows: Sequence[Any], window_us: int) -> Iterator[list[Any]]:
    """Rows in event time, in lists that do not cross the end of a window: columns are far cheaper than single rows."""
    for _, mine in itertools.groupby(rows, lambda row: time_us(row.time) // window_us):
        while chunk := list(itertools.islice(mine, MAX_ROWS)):
            yield chunk


def _table_steps(table: pa.Table, window_us: int) -> Iterator[Step]:
    """Slices in event time that do not cross the end of a window."""
    # A row without a time has no place; in a frame it would be among the dead letters.
    table = table.filter(pc.is_valid(table.column("time"))).sort_by("time")
    if not table.num_rows:
        return
    times = table.column("time").cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    window = times // window_us
    edges = np.flatnonzero(np.diff(window)) + 1
    for first, last in zip([0, *edges], [*edges, len(times)], strict=True):
        for start in range(int(first), int(last), MAX_ROWS):
            part = table.slice(start, min(MAX_ROWS, int(last) - start))
            batch = part.combine_chunks().to_batches()[0]
            yield Step(int(times[start]), INFERENCE, batch)


class Engine:
    """Window books of the three input topics, and the assessor's states, for a set of references."""

    def __init__(self, references: Sequence[Reference], settings: Settings, labelled: set[str]) -> None:
        self._settings = settings
        self._registry = Registry(window_us=settings.us("default_window"), lateness_us=settings.us("default_lateness"))
        self._inspections: dict[tuple[str, str], Inspection] = {}
        for reference in references:
            self._registry.put(reference)
            inspection = inspection_of(reference, settings)
            if inspection is not None:
                self._inspections[reference.model, reference.version] = inspection
        self.shortest = min((r.window_us for r in references), default=settings.us("default_window"))
        limit = int(threshold(settings.keep_rate)) if settings.keep_rate > 0 else -1
        self._wanted = {name for name in labelled if u64(name) <= limit}
        self._predictions: dict[str, list[Prediction]] = {}
        self._books = {
            name: WindowBook(self._registry.get, Clock(), age_us=END, most_segments=settings.max_segments)
            for name in (INFERENCE, INPUTS, LABELS)
        }
        self._states: dict[Subject, State] = {}
        self._embedders: dict[ModelFile, Embedder | None] = {}
        self._samples: list[Sample] = []
        self._labels_seen: set[tuple[str, str]] = set()
        self._changes: list[tuple[str, Change]] = []  # lifecycle events of the current window, with their model
        self._changes_seen: set[tuple[str, str]] = set()
        self._offset = 0
        self._window = -END
        self.wanted = len(self._wanted)  # inferences that have a label and whose prediction is kept
        self.notes: list[Note] = []
        self.requests: dict[tuple[str, str, str], Request] = {}  # by model, version and inference

    def take(self, step: Step) -> None:
        """Take in one step; windows that ended before it are closed first."""
        window = step.time // self.shortest
        if window != self._window:
            self._embed()
            self._close(step.time)
            self._window = window
        self._offset += 1
        if step.kind == INFERENCE:
            self._frame(step.rows)
        elif step.kind == "events":
            self._events(step.rows)
        elif step.kind == "heartbeat":
            self._add(INFERENCE, heartbeat_batch(step.rows, self._offset, step.time))
        elif step.kind == LABELS:
            self._labels(step.rows)
        elif step.kind == LIFECYCLE:
            self._changes.append((step.rows.model, change_of(step.rows)))
        else:
            self._samples.append(step.rows)
            if len(self._samples) >= self._settings.embed_batch:
                self._embed()

    def state(self, subject: Subject) -> State | None:
        """What the assessor remembers of a subject, to read."""
        return self._states.get(subject)

    def finish(self) -> None:
        """The recording is over: close everything."""
        self._embed()
        for book in self._books.values():
            cut = book.cut(END)
            if cut is not None:
                book.apply(cut)
        self._publish()
        for state in self._states.values():
            state.assembly.give_up()
        self._assess()

    def _add(self, topic: str, batch: Batch) -> None:
        self._books[topic].add(batch)

    def _frame(self, batch: pa.RecordBatch) -> None:
        decoded = decode_batch(batch, self._offset)
        rate, registry = self._settings.keep_rate, self._registry
        ask_of_frame(decoded, rate, registry.get)
        self._keep(ask(kept_of_frame(decoded, rate, registry.temperature), rate, registry.get))
        newest = int(decoded.rows.time.max()) if len(decoded.rows) else 0
        self._add(INFERENCE, frame_batch(decoded, self._offset, newest, self._registry.describes))

    def _events(self, events: Sequence[InferenceEvent]) -> None:
        stamped = [Stamped(self._offset, time_us(event.time), event) for event in events]
        rate, registry = self._settings.keep_rate, self._registry
        asked = ask_of_events(events, rate, registry.get)
        self._keep(ask(kept_of_events(stamped, rate, registry.temperature), rate, registry.get))
        self._add(INFERENCE, event_batch(stamped, registry.describes, asked))

    def _keep(self, kept: Sequence[Prediction]) -> None:
        for row in kept:
            request = request_of(row, self._registry.get(row.model, row.version))
            if request is not None:
                self.requests.setdefault((row.model, row.version, row.inference_id), request)
            if row.inference_id in self._wanted:
                self._predictions.setdefault(row.inference_id, []).append(row)

    def _labels(self, labels: Sequence[LabelEvent]) -> None:
        joined = [row for label in labels for row in self._joined(label)]
        if joined:
            self._add(LABELS, outcome_batch(joined, self._offset))

    def _joined(self, label: LabelEvent) -> list[Labelled]:
        first = (label.inference_id, label.source) not in self._labels_seen
        self._labels_seen.add((label.inference_id, label.source))
        stamped = Stamped(self._offset, time_us(label.time), (label, None))
        known = self._predictions.get(label.inference_id, []) if first else []
        asks = [self._registry.get(p.model, p.version).labels.plan is not None for p in known]
        return [labelled(stamped, p, asking=asking) for p, asking in zip(known, asks, strict=True) if about(label, p)]

    def _embed(self) -> None:
        samples, self._samples = self._samples, []
        by_file: dict[ModelFile | None, list[Sample]] = {}
        for sample in samples:
            by_file.setdefault(self._registry.get(sample.meta.model, sample.meta.version).file, []).append(sample)
        for file, mine in by_file.items():
            self._offset += 1
            found = self._recomputed(file, mine)
            stamped = [Stamped(self._offset, time_us(s.meta.time), s.meta) for s in mine]
            self._add(INPUTS, embedded_batch(stamped, found, self._offset, self._registry.get))

    def _recomputed(self, file: ModelFile | None, samples: list[Sample]) -> list[Recomputed]:
        embedder = self._embedder(file) if file is not None else None
        if embedder is None:
            return [NOTHING] * len(samples)
        shape = embedder.input_shape
        return recomputed(
            embedder, np.stack([decode_tensor(s.data, s.meta.dtype, s.meta.shape, shape) for s in samples])
        )

    def _embedder(self, file: ModelFile) -> Embedder | None:
        if file not in self._embedders:
            try:
                content = Path(file.path).read_bytes()
                self._embedders[file] = Embedder.load(
                    content, sha256=file.sha256 or None, embedding=file.embedding, scores=file.scores or None,
                    max_batch=self._settings.embed_batch,
                )  # fmt: skip
            except (ModelLoadError, OSError) as error:
                raise ModelError(
                    f"{file.path}: the model's ONNX file cannot be used: {error}; it stands in "
                    "trained_model.bestbefore.file, relative to the descriptors"
                ) from None
        return self._embedders[file]

    # -- windows -----------------------------------------------------------------------------------------

    def _close(self, time: int) -> None:
        """All sources have come as far as `time`."""
        for book in self._books.values():
            book.heard(time)
        self._publish()

    def _publish(self) -> None:
        for topic, book in self._books.items():
            for key, profile, watermark, retired in book.close():
                assembly = self._state(key.subject, key.start).assembly
                if profile is not None:
                    assembly.add(key.start, key.arrival, Profile.unpack(profile.pack()))
                assembly.heard(topic, watermark, retired=retired)
        self._assess()

    def _change(self) -> None:
        """Hand lifecycle events to the versions they concern, before their window is assessed."""
        changes, self._changes = self._changes, []
        for model, change in changes:
            if (model, change.id) in self._changes_seen:
                continue
            self._changes_seen.add((model, change.id))
            self.notes.append(recorded(change, model))
            for version in concerned(change, model, self._registry):
                subject = Subject(model, version)
                if subject in self._states or self._registry.get(model, version).registered:
                    take_in(self._state(subject, change.at_us).life, change)

    def _assess(self) -> None:
        self._change()
        for subject, state in sorted(self._states.items()):
            key = (subject.model, subject.version)
            notes, _ = assess(state, subject, self._registry.get(*key), self._inspections.get(key))
            self.notes += notes

    def _state(self, subject: Subject, start: int) -> State:
        """The state of a subject; a new one, born in the window that begins at `start`, inherits from its family."""
        state = self._states.get(subject)
        if state is None:
            reference = self._registry.get(subject.model, subject.version)
            family = {s.version: known.history for s, known in self._states.items() if is_family(s, subject)}
            history = inherited(family, start // reference.window_us)
            state = self._states[subject] = fresh(reference, history=history)
        return state
