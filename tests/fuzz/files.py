"""Targets that read files people hand over: recordings, histories for a backtest, labelled data, model files."""

import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from infra.describe_events import recorded
from infra.describe_model import load_model
from infra.history import Wanted, read_history
from infra.labelled_data import codes_of, read_labelled
from infra.recorded_lines import read_lines
from infra.recording import read_recording, sorted_by_time
from infra.replay import replay
from models.embedder import Embedder
from models.inspecting import inspect
from streams.settings import load
from tests.fuzz.arrow import of_csv, of_parquet
from tests.fuzz.damage import json_bytes, of_bytes, of_npz, of_tree, structured
from tests.fuzz.target import Target
from tests.fuzz.telemetry import CHANGE, EVENT, INPUT, LABEL, frames
from tests.test_importers import onnx_bytes


def in_file(name: str, content: bytes, call: Callable[[Path], object]) -> None:
    """Call with a file of that name."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        call(path)


def recording(name: str) -> Callable[[bytes], None]:
    """A recording, as `replay`, `describe` and `backtest` read it."""

    def call(path: Path) -> None:
        found = read_recording([path])
        sorted_by_time(found.labels)
        sorted_by_time(found.inputs)
        recorded([path], "", "", [])

    return lambda content: in_file(name, content, call)


def replayed(name: str) -> Callable[[bytes], None]:
    """A recording, replayed to its end, and the lines that come of it."""

    def call(path: Path) -> None:
        result = replay([path], [], path.parent / "out", load({}, Path("/"), keep_rate=1.0))
        assert len(read_lines(path.parent / "out" / "status.jsonl")) == result.status

    return lambda content: in_file(name, content, call)


def history(name: str, wanted: Wanted) -> Callable[[bytes], None]:
    """A history for `backtest`."""
    return lambda content: in_file(name, content, lambda path: read_history([path], wanted))


def labelled(name: str) -> Callable[[bytes], None]:
    """Labelled data for `induce`, with what becomes of the labels."""

    def call(path: Path) -> None:
        found = read_labelled(path, {})
        codes_of(found.labels, ("a", "b"), path)

    return lambda content: in_file(name, content, call)


def model(content: bytes) -> None:
    """A model file: what loading it tells is a value, whatever is in it."""
    found = inspect(content, outputs={"scores": "scores", "embedding": "embedding"}, golden_records=GOLDEN)
    assert found.error or found.outputs
    known = load_model(Path("model.onnx"), content, "model.onnx", "", {})
    Embedder.load(content, sha256=None, embedding=known.embedding or "embedding", scores="scores", max_batch=2)


GOLDEN = ({"inputs": {"image": [[0.0] * 16] * 16}, "scores": [0.1] * 10},)


# -- seeds and damage ----------------------------------------------------------------------------------------


def lines() -> list[bytes]:
    """A recording of every kind of record."""
    sample: dict[str, object] = {name: value for name, value in INPUT if name not in ("shape", "segment", "batch_size")}
    sample |= {"shape": [1, 2, 2], "data": "AACAPwAAgD8AAIA/AACAPw=="}
    events = [EVENT | {"id": f"r-{i}"} for i in range(3)]
    return [b"\n".join(json.dumps(one).encode() for one in (*events, LABEL, CHANGE, sample))]


@structured
def of_lines(content: bytes, random: Random) -> bytes:
    """One line of JSON is another one."""
    found = content.split(b"\n")
    at = random.randrange(len(found))
    found[at] = json_bytes(of_tree(json.loads(found[at]), random), random).replace(b"\n", b"")
    return b"\n".join(found)


def parquet(*tables: pa.Table) -> list[bytes]:
    """Tables as Parquet."""
    found = []
    for table in tables:
        sink = io.BytesIO()
        pq.write_table(table, sink)
        found.append(sink.getvalue())
    return found


def csv(table: pa.Table) -> list[bytes]:
    """A table as CSV."""
    sink = io.BytesIO()
    pacsv.write_csv(table, sink)
    return [sink.getvalue()]


def frame_tables() -> list[bytes]:
    """Frames as Parquet, and labels and inputs."""
    found = []
    for frame in frames():
        with pa.ipc.open_stream(frame) as reader:
            found.append(reader.read_all())
    return parquet(*found)


def quality() -> pa.Table:
    """Accuracy by window."""
    size = 30
    return pa.table(
        {
            "window": range(size),
            "accuracy": [0.9 - 0.005 * i for i in range(size)],
            "n": [100] * size,
            "version": ["1"] * size,
        }
    )


def rows() -> pa.Table:
    """Rows with a truth."""
    rng = np.random.default_rng(1)
    size = 80
    start = np.datetime64("2026-11-20T10:00:00")
    return pa.table(
        {
            "x": rng.normal(size=size),
            "c": rng.choice(["a", "b"], size),
            "at": start + np.arange(size) * np.timedelta64(3, "h"),
            "label": rng.choice(["a", "b"], size),
        }
    )


def arrays() -> list[bytes]:
    """Labelled images."""
    sink = io.BytesIO()
    np.savez(sink, inputs=np.zeros((4, 1, 2, 2), np.float32), labels=np.array(["a", "b", "a", "b"]))
    coded = io.BytesIO()
    np.savez(coded, inputs=np.zeros((4, 2), np.float32), labels=np.array([0, 1, 0, 1]))
    return [sink.getvalue(), coded.getvalue()]


def numbers() -> pa.Table:
    """Labelled numbers."""
    return pa.table({"x": [1.0, 2.0, 3.0], "y": [1, 2, 3], "label": ["a", "b", "a"]})


TABLE = Wanted(target="label", time="at", window="5", model="logistic", memory=20)
DAYS = Wanted(target="label", time="at", window="12 hours", model="logistic", memory=20)
TARGETS = (
    Target("recording-lines", recording("week.jsonl"), lines, of_lines, (), 100),
    Target("recording-parquet", recording("week.parquet"), frame_tables, of_parquet, (), 100),
    Target("replay-lines", replayed("week.jsonl"), lines, of_lines, (), 8),
    Target("replay-parquet", replayed("week.parquet"), frame_tables, of_parquet, (), 8),
    Target("quality-csv", history("quality.csv", Wanted(window_us=1)), lambda: csv(quality()), of_csv, (), 15),
    Target(
        "quality-parquet",
        history("quality.parquet", Wanted(window_us=1)),
        lambda: parquet(quality()),
        of_parquet,
        (),
        15,
    ),
    Target("history-csv", history("rows.csv", TABLE), lambda: csv(rows()), of_csv, (), 15),
    Target("history-times", history("rows.csv", DAYS), lambda: csv(rows()), of_csv, (), 15),
    Target("history-parquet", history("rows.parquet", TABLE), lambda: parquet(rows()), of_parquet, (), 15),
    Target("labelled-npz", labelled("accepted.npz"), arrays, of_npz, (), 150),
    Target("labelled-csv", labelled("accepted.csv"), lambda: csv(numbers()), of_csv, (), 50),
    Target("labelled-parquet", labelled("accepted.parquet"), lambda: parquet(numbers()), of_parquet, (), 50),
    Target("model-file", model, lambda: [onnx_bytes(ir_version=9)], of_bytes, (ValueError,), 50),
)
