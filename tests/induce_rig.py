"""Days of a deployment as `replay` takes them, for a real ONNX model whose every input is sampled."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from bestbefore_client import Repeated, encode_frame
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from infra.recording import Sample
from infra.replay import Engine, Step
from models.embedder import Embedder
from models.reference import Reference
from models.units import DAY_US
from streams.records import InputSample
from streams.settings import load
from streams.topics import INFERENCE, INPUTS

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
START_US = 20_000 * DAY_US


class Day(NamedTuple):
    """What was put in on a day (n, …), and the truth; the last `failed` of them got no answer."""

    inputs: NDArray[Any]
    labels: NDArray[Any]
    failed: int = 0


def embedder_of(reference: Reference) -> Embedder:
    """The model file of a reference."""
    file = reference.file
    assert file is not None
    return Embedder.load(Path(file.path).read_bytes(), sha256=file.sha256, embedding=file.embedding, scores=file.scores)


def steps(days: Sequence[Day], reference: Reference, model: Embedder) -> list[Step]:
    """The days in event time."""
    found = []
    for number, day in enumerate(days):
        n = len(day.labels)
        scores = model.outputs(day.inputs)[0]
        times = START_US + number * DAY_US + np.linspace(0, DAY_US - 1, n).astype(np.int64)
        status = np.where(np.arange(n) < n - day.failed, 200, 500)
        columns: dict[str, Any] = {
            "id": [f"i-{number}-{i}" for i in range(n)], "time": times, "model": Repeated(reference.model),
            "version": Repeated(reference.version), "scores": scores, "status": status,
        }  # fmt: skip
        with pa.ipc.open_stream(pa.py_buffer(encode_frame(columns))) as reader:
            found.append(Step(int(times[0]), INFERENCE, next(iter(reader))))
        for i, (time, one) in enumerate(zip(times.tolist(), day.inputs, strict=True)):
            meta = InputSample(
                inference_id=f"i-{number}-{i}", model=reference.model, version=reference.version,
                time=EPOCH + timedelta(microseconds=time), dtype="float32", shape=list(one.shape),
            )  # fmt: skip
            found.append(Step(time, INPUTS, Sample(meta, one.astype("<f4").tobytes())))
    return sorted(found, key=lambda step: step.time)


def engine(reference: Reference, **settings: Any) -> Engine:
    """An engine of `replay` for this reference."""
    return Engine([reference], load({}, Path("/"), **settings), labelled=set())


def played(days: Sequence[Day], reference: Reference, model: Embedder, **settings: Any) -> list[dict[str, Any]]:
    """The status line of every day."""
    running = engine(reference, **settings)
    for step in steps(days, reference, model):
        running.take(step)
    running.finish()
    return status_of(running)[: len(days)]


def status_of(running: Engine) -> list[dict[str, Any]]:
    """Status lines so far."""
    return [note.body for note in running.notes if note.kind == "status"]


def read(line: dict[str, Any]) -> dict[str, Any]:
    """The label-free reading of a status line."""
    found: dict[str, Any] = line["window_quality"]["label_free"]
    return found


def logistic(weights: NDArray[Any], mean: NDArray[Any], sd: NDArray[Any]) -> bytes:
    """A table's model: standardises (the embedding), weighs (features, classes), softmax."""
    tensors = {"mean": mean, "sd": sd, "w": weights}
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "sd"], ["standard"]),
        helper.make_node("MatMul", ["standard", "w"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
    ]
    graph = helper.make_graph(
        nodes, "logistic",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", len(mean)])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", weights.shape[1]])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in tensors.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())
