"""Recorded telemetry in files: inference events, sampled inputs, labels, lifecycle events, as JSON lines or Parquet.

A row with `inference_id` and a tensor (`dtype`, `shape`, `data`) is a sampled input, one with `inference_id` alone a
label, one with `kind` a lifecycle event, one with `recorder` a client's heartbeat, any other an inference event.
Parquet columns are those of frames. The order in the files does not matter. With sources.yaml, lines of a topic that it
names are read by their adapter; the name of a file without its ending is the topic of lines that do not tell it.
"""

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.source_samples import record_of
from infra.table_files import TableError, read_table
from models.lifecycle import TOLD
from streams.adapters.config import Sources
from streams.adapters.contract import Thing, Unpaired
from streams.errors import BadRecord, BestbeforeError, SettingsError
from streams.heartbeats import Heartbeat, decode_heartbeat
from streams.records import (
    InferenceEvent,
    InputSample,
    LabelEvent,
    LifecycleEvent,
    bounded_segment_key,
    decode_inference,
    decode_label,
    decode_lifecycle,
    time_us,
)

LOGS, OWN_LOGS = (".parquet", ".jsonl", ".ndjson"), (".json", ".log")  # what is read of a folder


class RecordingError(BestbeforeError):
    """A file of recorded events cannot be read."""


@dataclass
class Sample:
    """A sampled input with its tensor's bytes."""

    meta: InputSample
    data: bytes


@dataclass
class Recording:
    """Everything recorded: frames as tables, the rest as values, in the order of the files."""

    tables: list[pa.Table] = field(default_factory=list)
    events: list[InferenceEvent] = field(default_factory=list)
    labels: list[LabelEvent] = field(default_factory=list)
    inputs: list[Sample] = field(default_factory=list)
    lifecycle: list[LifecycleEvent] = field(default_factory=list)
    heartbeats: list[Heartbeat] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)

    def size(self) -> int:
        """Inference events."""
        return sum(int(t.num_rows) for t in self.tables) + len(self.events)

    def first(self, length_us: int) -> "Recording":
        """The inferences and inputs of the first `length_us` microseconds, and the labels that are about them."""
        starts = [pc.min(_us(t)).as_py() for t in self.tables if t.num_rows]
        end = min([*starts, *(time_us(e.time) for e in self.events)]) + length_us
        tables = [t.filter(pc.less(_us(t), end)) for t in self.tables]
        events = [e for e in self.events if time_us(e.time) < end]
        known = {e.id for e in events}.union(*(map(str, t.column("id").to_pylist()) for t in tables))
        return Recording(
            tables, events,
            labels=[label for label in self.labels if label.inference_id in known],
            inputs=[sample for sample in self.inputs if time_us(sample.meta.time) < end],
            rejected=self.rejected,
        )  # fmt: skip


def read_recording(paths: Sequence[Path], sources: Sources | None = None) -> Recording:
    """Read files, and the files in folders. Raises RecordingError naming the file."""
    recording = Recording()
    for path in _files(paths, LOGS if sources is None else (*LOGS, *OWN_LOGS)):
        try:
            if sources is not None and path.suffix != ".parquet":
                _read_logs(path, sources, recording)
            elif path.suffix == ".parquet":
                _read_parquet(path, recording)
            else:
                _read_lines(path, recording)
        except (OSError, pa.ArrowException) as error:
            raise RecordingError(f"{path} cannot be read: {error}") from None
        except TableError as error:
            raise RecordingError(str(error)) from None
    for entry in sources.entries if sources is not None else ():
        _sort(entry.source.rest(), entry.where, recording)
    if not (recording.tables or recording.events):
        raise RecordingError(_nothing_in(paths, recording, sources))
    return recording


def _us(table: pa.Table) -> Any:
    return table.column("time").cast(pa.timestamp("us", "UTC")).cast(pa.int64())


def _nothing_in(paths: Sequence[Path], recording: Recording, sources: Sources | None) -> str:
    """What was found instead of inference events, and what to do about it."""
    found = (
        f"{len(recording.labels)} labels, {len(recording.inputs)} inputs, {len(recording.lifecycle)} lifecycle events"
    )
    text = f"no inference events in {', '.join(map(str, paths))} (but {found}); JSONL and Parquet files are read"
    rejected = recording.rejected
    if not rejected:
        return text
    hint = "say what their fields are with --sources sources.yaml, see docs/sources.md"
    if sources is not None:
        known = ", ".join(pattern.text for entry in sources.entries for pattern in entry.patterns)
        hint = f"the name of a file without its ending must be a topic of sources.yaml, which has {known}"
    return (
        f"{text}; rows that cannot be read: {len(rejected)}, first {rejected[0]}; if these are logs of your own, {hint}"
    )


def _files(paths: Sequence[Path], endings: Sequence[str]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(p for p in path.iterdir() if p.suffix in endings)
        else:
            yield path


def _read_parquet(path: Path, recording: Recording) -> None:
    table = read_table(path)
    names = set(table.column_names)
    if "inference_id" not in names:
        _check_times(path, table)
        recording.tables.append(table)
        return
    for number, row in enumerate(table.to_pylist(), 1):
        _take({k: v for k, v in row.items() if v is not None}, f"{path} row {number}", recording)


def _check_times(path: Path, table: pa.Table) -> None:
    kind = table.schema.field("time").type if "time" in table.column_names else pa.null()
    if not pa.types.is_timestamp(kind) or kind.tz is None:
        raise RecordingError(f"{path}: recorded frames have a column `time` of timestamps in UTC; this one is {kind}")


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that hold something, with their numbers."""
    with path.open("rb") as lines:
        yield from ((number, line) for number, line in enumerate(lines, 1) if line.strip())


def _read_lines(path: Path, recording: Recording) -> None:
    for number, line in _lines(path):
        place = f"{path}:{number}"
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            recording.rejected.append(f"{place}: {error}")
            continue
        _take(fields, place, recording, line)


def _read_logs(path: Path, sources: Sources, recording: Recording) -> None:
    """Lines of topics that sources.yaml names, by their adapters; others as lines of this project."""
    modified = path.stat().st_mtime_ns // 1000
    for number, line in _lines(path):
        place = f"{path}:{number}"
        try:
            record = record_of(path, number, line, None, modified, default=path.stem)
            fitting = sources.of(record.topic)
            if fitting is not None:
                _sort(fitting[0].adapt(record, fitting[1]), place, recording)
                continue
            _take(json.loads(record.value or b""), place, recording, record.value)
        except (BadRecord, SettingsError, ValueError, RecursionError) as error:
            recording.rejected.append(f"{place}: {error}")


def _sort(things: Sequence[Thing], place: str, recording: Recording) -> None:
    for thing in things:
        if isinstance(thing, Unpaired):
            recording.rejected.append(f"{place}: {thing.side} {thing.id} without its other half: {thing.reason}")
        elif isinstance(thing, LabelEvent):
            recording.labels.append(thing)
        else:
            recording.events.append(thing)


def _take(fields: Any, place: str, recording: Recording, line: bytes | None = None) -> None:
    try:
        if isinstance(fields, dict) and "kind" in fields and "inference_id" not in fields:
            event = decode_lifecycle(line or msgspec.json.encode(fields), ())
            if event.kind not in TOLD:  # what was concluded then is concluded again
                recording.lifecycle.append(event)
        elif isinstance(fields, dict) and "recorder" in fields and "id" not in fields:
            recording.heartbeats.append(decode_heartbeat(line or msgspec.json.encode(fields)))
        elif not isinstance(fields, dict) or "inference_id" not in fields:
            recording.events.append(decode_inference(line or msgspec.json.encode(fields), ()))
        elif "data" in fields:
            data = fields.pop("data")
            meta = msgspec.convert(fields, InputSample, strict=False)
            recording.inputs.append(Sample(meta, data if isinstance(data, bytes) else base64.b64decode(data)))
            bounded_segment_key(meta.segment)
        else:
            recording.labels.append(decode_label(line or msgspec.json.encode(fields), ()))
    except (BadRecord, msgspec.ValidationError, ValueError, TypeError, RecursionError) as error:
        recording.rejected.append(f"{place}: {error}")


class Writer:
    """Writes what is recorded into a folder: inference.parquet, inputs.parquet, labels.jsonl."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._frames: pq.ParquetWriter | None = None
        self._labels = (folder / "labels.jsonl").open("w", encoding="utf-8")
        self._inputs: list[dict[str, Any]] = []

    def frame(self, frame: bytes) -> None:
        """Add a frame as it was sent."""
        with pa.ipc.open_stream(frame) as reader:
            table = reader.read_all()
        if self._frames is None:
            self._frames = pq.ParquetWriter(self._folder / "inference.parquet", table.schema, compression="zstd")
        self._frames.write_table(table)

    def label(self, body: dict[str, Any]) -> None:
        """Add a label event."""
        self._labels.write(json.dumps(body) + "\n")

    def input(self, row: dict[str, Any]) -> None:
        """Add a sampled input: its headers, and its bytes under `data`."""
        self._inputs.append(row)

    def close(self) -> None:
        """Finish the files."""
        self._labels.close()
        if self._frames is not None:
            self._frames.close()
        if self._inputs:
            pq.write_table(pa.Table.from_pylist(self._inputs), self._folder / "inputs.parquet")


def sorted_by_time(items: Sequence[Any]) -> list[Any]:
    """Labels or samples in event time; equal times keep their order."""
    return sorted(items, key=lambda item: time_us((item.meta if isinstance(item, Sample) else item).time))
