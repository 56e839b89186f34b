"""What loading a model file tells, and that no file is bad enough to raise."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from models.inspecting import inspect, newest_versions
from models.inspection import GoldenResult, Inspection

DIGITS = Path(__file__).parents[1] / "examples" / "digits"
CONTENT = (DIGITS / "digits.onnx").read_bytes()
OWN = yaml.safe_load((DIGITS / "descriptors" / "trained_model.yaml").read_text("utf-8"))["bestbefore"]
WEIGHTS = np.array([[1.0, -1.0], [0.5, 2.0]], np.float32)


def linear(
    weights: Any = WEIGHTS, opset: int = 17, ir: int = 9, scores: str = "scores", shape: Any = ("batch", 2)
) -> bytes:
    """x @ weights as `hidden`, and its softmax as `scores`."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["hidden"]), helper.make_node("Softmax", ["hidden"], [scores])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(scores, TensorProto.FLOAT, [None, 2])],
        [numpy_helper.from_array(np.asarray(weights, np.float32), "w")],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir, producer_name="test"
    )
    return bytes(model.SerializeToString())


def golden(x: Any = (1.0, 0.0), label: str | None = "a", **facts: Any) -> dict[str, Any]:
    z = np.exp(np.asarray(x) @ WEIGHTS)
    scores = (z / z.sum()).tolist()
    outputs: dict[str, Any] = {"scores": dict(zip("ab", scores, strict=True))}
    return {"inputs": {"x": list(x)}, "outputs": outputs | ({"label": label} if label else {})} | facts


def replayed(content: bytes, record: Any, **outputs: str) -> GoldenResult:
    found = inspect(content, golden_records=[record], outputs={"scores": "scores", **outputs})
    assert found.error == ""
    return found.golden[0]


def test_the_digits_are_what_their_descriptor_says() -> None:
    found = inspect(CONTENT, golden_records=OWN["golden_records"], outputs=OWN["outputs"], at_us=7)
    assert (found.digest, found.error, found.at_us, found.policy) == (OWN["digest"], "", 7, "cpu")
    assert found.providers == ("CPUExecutionProvider",)
    assert [(t.name, t.dtype, t.shape) for t in found.inputs] == [("image", "float32", ("n", 1, 16, 16))]
    assert [t.name for t in found.outputs] == ["scores", "embedding"]
    assert (found.opset, found.ir_version, found.producer) == ({"ai.onnx": 17}, 9, "digits")
    assert [g.label for g in found.golden] == ["0", "2", "6"]
    assert all(g.error is not None and g.error < 1e-4 and g.label == g.expected for g in found.golden)


def test_exchanged_weights_are_seen_and_so_is_another_label() -> None:
    model = onnx.load_model_from_string(CONTENT)
    (dense,) = [w for w in model.graph.initializer if 10 in w.dims and len(w.dims) == 2]  # the layer of ten scores
    weights = numpy_helper.to_array(dense)
    dense.CopyFrom(numpy_helper.from_array(np.roll(weights, 1, axis=weights.shape.index(10)), dense.name))
    found = inspect(model.SerializeToString(), golden_records=OWN["golden_records"], outputs=OWN["outputs"])
    assert found.digest != OWN["digest"]
    assert all((g.error or 0) > g.tolerance and g.label != g.expected for g in found.golden)


def test_open_axes_have_their_name_or_minus_one() -> None:
    found = inspect(linear(shape=(None, 2)))
    assert found.inputs[0].shape == (-1, 2)
    assert inspect(linear()).inputs[0].shape == ("batch", 2)
    assert found.outputs[0].shape == (-1, 2)


@pytest.mark.parametrize("x", [(1.0, 0.0), [[1.0, 0.0]]], ids=["row", "batch"])
def test_a_golden_record_replays_with_and_without_its_batch_axis(x: Any) -> None:
    record = golden() | {"inputs": {"x": x}, "tolerance": 0.5}
    one = replayed(linear(), record)
    assert (one.reason, one.label, one.expected, one.tolerance) == ("", "a", "a", 0.5)
    assert one.error == pytest.approx(0, abs=1e-6)


def test_the_error_is_relative_to_the_largest_score() -> None:
    record = golden()
    record["outputs"]["scores"] = {"a": record["outputs"]["scores"]["a"] * 1.1, "b": record["outputs"]["scores"]["b"]}
    assert replayed(linear(), record).error == pytest.approx(0.1 / 1.1, rel=1e-4)


def test_an_inner_tensor_and_an_embedding_can_be_read() -> None:
    record = {"inputs": {"x": [1.0, 0.0]}, "outputs": {"embedding": [1.0, -1.0]}}
    assert replayed(linear(), record, embedding="hidden").error == 0


def test_an_output_that_is_no_number_is_an_error_as_large_as_can_be() -> None:
    one = replayed(linear(np.full((2, 2), np.nan)), golden())
    assert one.reason == ""
    assert one.error == 1e9


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"inputs": {"y": [1.0, 0.0]}, "outputs": {"label": "a"}}, "it has no input 'x'; it has y"),
        (golden() | {"inputs": {"x": [1.0, 0.0, 3.0]}}, "Got invalid dimensions"),
        (golden() | {"inputs": {"x": ["one", "two"]}}, "could not convert string to float"),
        (golden() | {"outputs": {"scores": [0.1, 0.2, 0.7]}}, "2 numbers where the record has 3"),
        (golden() | {"outputs": {}}, "it names no output"),
        (golden() | {"outputs": {"embedding": [1.0]}}, "the model has no tensor nowhere"),
        ({}, "it names no output"),
    ],
)
def test_a_record_that_cannot_be_replayed_has_a_reason(record: dict[str, Any], reason: str) -> None:
    one = replayed(linear(), record, embedding="nowhere")
    assert reason in one.reason
    assert one.error is None


def test_text_labels_are_read_from_their_tensor() -> None:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["label"])], "same",
        [helper.make_tensor_value_info("x", TensorProto.STRING, [None])],
        [helper.make_tensor_value_info("label", TensorProto.STRING, [None])],
    )  # fmt: skip
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    record = {"inputs": {"x": "cat"}, "outputs": {"label": "cat"}}
    (one,) = inspect(content, golden_records=[record], outputs={"label": "label"}).golden
    assert (one.label, one.expected, one.reason) == ("cat", "cat", "")


def test_what_the_runtime_loads_is_found_by_trial() -> None:
    opset, ir = newest_versions()
    assert opset >= 21
    assert ir >= 10
    assert inspect(linear(opset=opset)).error == ""
    newer = inspect(linear(opset=opset + 1))
    assert newer.opset == {"ai.onnx": opset + 1}
    assert newer.error
    assert inspect(linear(ir=ir + 1)).error


def test_bad_content_is_an_error_with_the_digest_of_what_was_read() -> None:
    for content in (b"", b"junk", CONTENT[:1000], b"\x80\x04\x95" + b"x" * 50):
        found = inspect(content, declared_digest=OWN["digest"])
        assert found.error.endswith("it is not the file that was declared")
        assert found.digest.startswith("sha256:")
        assert found.runtime
        assert not found.golden


def test_a_file_without_opset_is_an_error() -> None:
    model = onnx.load_model_from_string(linear())
    del model.opset_import[:]
    found = inspect(model.SerializeToString(), outputs={"embedding": "hidden"})
    assert "No opset import" in found.error
    assert found.ir_version == 9


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, len(linear()) - 1), st.binary(min_size=1, max_size=8))
def test_no_damaged_file_raises(position: int, noise: bytes) -> None:
    sound = linear()
    damaged = sound[:position] + noise + sound[position + len(noise) :]
    assert isinstance(inspect(damaged, golden_records=[golden()], outputs={"scores": "scores"}), Inspection)
