"""The embedder: what was hashed is what runs, padded or split, where it was told to."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from agents.embed import as_taken
from models.embedder import CPU, CUDA, Embedder, ModelLoadError, decode_tensor, missing_cuda

CONTENT = (Path(__file__).parents[1] / "examples" / "digits" / "digits.onnx").read_bytes()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def images(n: int) -> NDArray[np.float32]:
    return np.random.default_rng(n).random((n, 1, 16, 16), dtype=np.float32)


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder.load(CONTENT, sha256="sha256:" + SHA256.upper(), embedding="embedding", scores="scores")


def exported(nodes: list[onnx.NodeProto], sides: list[str | int], **weights: NDArray[np.generic]) -> bytes:
    """A model from `x` to `y` made for one test."""
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, sides)]
    ends.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, None))
    initial = [numpy_helper.from_array(a, name) for name, a in weights.items()]
    graph = helper.make_graph(nodes, "small", ends[:1], ends[1:], initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def test_what_it_says_of_itself(embedder: Embedder) -> None:
    assert (embedder.input_shape, embedder.dtype, embedder.dimension) == ((1, 16, 16), np.dtype("float32"), 64)
    assert embedder.buckets == (1, 2, 4, 8, 16, 32, 64, 128, 256)
    assert embedder.warm_up() == 64
    assert embedder.provenance["sha256"] == SHA256
    assert embedder.provenance["provider"] == CPU
    assert embedder.provenance["embedding"] == "embedding"


@pytest.mark.parametrize("n", [1, 3, 64, 100])
def test_padding_changes_no_row(embedder: Embedder, n: int) -> None:
    batch = images(n)
    alone = np.concatenate([embedder.embed(image[None]) for image in batch])
    np.testing.assert_allclose(embedder.embed(batch), alone, atol=1e-5)


def test_more_than_the_largest_batch_is_split(embedder: Embedder) -> None:
    batch = images(300)
    small = Embedder.load(CONTENT, sha256=None, embedding="embedding", max_batch=100)
    assert small.buckets == (1, 2, 4, 8, 16, 32, 64, 100)
    assert embedder.embed(batch).shape == (300, 64)
    np.testing.assert_allclose(small.embed(batch), embedder.embed(batch), atol=1e-5)


def test_scores_come_with_the_embedding(embedder: Embedder) -> None:
    scores, embedding = embedder.outputs(images(5))
    assert scores is not None
    np.testing.assert_allclose(scores.sum(1), 1, atol=1e-5)
    assert embedding.shape == (5, 64)
    assert Embedder.load(CONTENT, sha256=None, embedding="embedding").outputs(images(2))[0] is None


def test_an_empty_batch_has_no_rows(embedder: Embedder) -> None:
    assert embedder.embed(images(0)).shape == (0, 64)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float64"])
def test_types_that_convert_are_accepted(embedder: Embedder, dtype: str) -> None:
    batch = np.round(images(3)).astype(dtype)
    np.testing.assert_allclose(embedder.embed(batch), embedder.embed(batch.astype(np.float32)))


def test_other_types_and_shapes_are_not(embedder: Embedder) -> None:
    with pytest.raises(ValueError, match="complex64"):
        embedder.embed(images(1).astype(np.complex64))
    with pytest.raises(ValueError, match="resize"):
        embedder.embed(images(1)[:, :, :8])


def test_one_input_decides_nothing_about_the_batch_it_comes_in() -> None:
    bytes_only = np.dtype("uint8")
    with pytest.raises(ValueError, match="input is float32, the model takes uint8: send uint8"):
        as_taken(images(1), bytes_only)
    tensors = [as_taken(images(1).astype(kind), np.dtype("float32")) for kind in ("float64", "float16", "uint8")]
    assert {tensor.dtype.name for tensor in tensors} == {"float32"}
    pixels = np.zeros((1, 16, 16), np.uint8)
    assert as_taken(pixels, bytes_only) is pixels


def test_a_swapped_file_names_both_digests() -> None:
    swapped = CONTENT.replace(b"digits", b"digitz")
    with pytest.raises(ModelLoadError) as caught:
        Embedder.load(swapped, sha256=SHA256, embedding="embedding")
    assert SHA256 in str(caught.value)
    assert hashlib.sha256(swapped).hexdigest() in str(caught.value)
    assert "register" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no model", CONTENT[:1000], CONTENT[: len(CONTENT) // 2]])
def test_damaged_files_are_refused(content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelLoadError, match="export it again"):
        Embedder.load(content, sha256=None, embedding="embedding")
    assert capfd.readouterr().err == ""


def test_a_graph_that_no_operator_fits_is_refused() -> None:
    with pytest.raises(ModelLoadError, match="refuses the model"):
        Embedder.load(exported([helper.make_node("Nonsense", ["x"], ["y"])], ["n", 4]), sha256=None, embedding="y")


def test_an_inner_tensor_can_be_named(embedder: Embedder) -> None:
    inner = Embedder.load(CONTENT, sha256=SHA256, embedding="dense", scores="scores")
    scores, dense = inner.outputs(images(7))
    expected, embedding = embedder.outputs(images(7))
    np.testing.assert_allclose(np.maximum(dense, 0), embedding, atol=1e-6)
    assert scores is not None
    assert expected is not None
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert Embedder.load(CONTENT, sha256=None, embedding="pool2").dimension == 32 * 4 * 4


def test_an_inner_tensor_beside_a_branch_can_be_named() -> None:
    output = helper.make_tensor_value_info("z", TensorProto.FLOAT, None)
    branches = [helper.make_graph([helper.make_node(op, ["h"], ["z"])], op, [], [output]) for op in ("Identity", "Neg")]
    nodes = [
        helper.make_node("Add", ["x", "one"], ["h"]),
        helper.make_node("If", ["flag"], ["i"], then_branch=branches[0], else_branch=branches[1]),
        helper.make_node("Add", ["i", "one"], ["j"]),
        helper.make_node("Neg", ["j"], ["y"]),
    ]
    content = exported(nodes, ["n", 2], one=np.ones(1, np.float32), flag=np.array(False))
    found = Embedder.load(content, sha256=None, embedding="j").embed(np.ones((3, 2), np.float32))
    np.testing.assert_array_equal(found, -np.ones((3, 2)))


def test_an_unknown_tensor_lists_the_known() -> None:
    with pytest.raises(ModelLoadError, match=r"'features'.*embedding, scores, .*dense"):
        Embedder.load(CONTENT, sha256=None, embedding="features")


def test_weights_outside_of_the_file_are_refused() -> None:
    model = onnx.load_model_from_string(CONTENT)
    weight = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(weight, "weights.bin")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    with pytest.raises(ModelLoadError, match=r"first: 'W1'.*one file"):
        Embedder.load(model.SerializeToString(), sha256=None, embedding="embedding")


def test_a_fixed_batch_is_the_only_bucket() -> None:
    fixed = Embedder.load(exported([helper.make_node("Neg", ["x"], ["y"])], [4, 2]), sha256=None, embedding="y")
    assert fixed.buckets == (4,)
    np.testing.assert_array_equal(fixed.embed(np.ones((9, 2), np.float32)), -np.ones((9, 2)))


def test_open_axes_need_a_declared_shape() -> None:
    content = exported([helper.make_node("Neg", ["x"], ["y"])], ["n", 3, "side"])
    with pytest.raises(ModelLoadError, match="fixes every open axis"):
        Embedder.load(content, sha256=None, embedding="y")
    with pytest.raises(ModelLoadError, match="fixes every open axis"):
        Embedder.load(content, sha256=None, embedding="y", input_shape=[4, 5])
    assert Embedder.load(content, sha256=None, embedding="y", input_shape=[3, 5]).dimension == 15


def test_a_tensor_without_a_row_per_input_is_no_embedding() -> None:
    nodes = [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=1)]
    with pytest.raises(ModelLoadError, match="row per input"):
        Embedder.load(exported(nodes, ["n", 2]), sha256=None, embedding="y")


def test_a_batch_baked_into_the_graph_is_found_at_load() -> None:
    nodes = [helper.make_node("Reshape", ["x", "one_row"], ["y"])]
    content = exported(nodes, ["n", 2], one_row=np.array([1, 2]))
    with pytest.raises(ModelLoadError, match=r"batch of 2.*open batch axis"):
        Embedder.load(content, sha256=None, embedding="y")


def test_the_policy_decides_where_it_runs(capfd: pytest.CaptureFixture[str]) -> None:
    reason = missing_cuda()
    preferred = Embedder.load(CONTENT, sha256=SHA256, embedding="embedding", policy="prefer", max_batch=4)
    if reason is None:
        required = Embedder.load(CONTENT, sha256=SHA256, embedding="embedding", policy="require", max_batch=4)
        assert preferred.provider == required.provider == CUDA
    else:
        with pytest.raises(ModelLoadError, match=r"CUDA is required, but .*`prefer`"):
            Embedder.load(CONTENT, sha256=SHA256, embedding="embedding", policy="require")
        assert preferred.provider == preferred.provenance["provider"] == CPU
        assert capfd.readouterr() == ("", "")


def test_tensors_are_decoded_as_the_model_expects_them() -> None:
    image = np.arange(256, dtype="<f8").reshape(16, 16)
    for shape in ([16, 16], [1, 16, 16], [1, 1, 16, 16]):
        got = decode_tensor(image.tobytes(), "float64", shape, (1, 16, 16))
        assert got.shape == (1, 16, 16)
        np.testing.assert_array_equal(got[0], image)
    grey = decode_tensor(bytes(range(256)), "uint8", [16, 16], (1, 16, 16))
    assert (grey.dtype, grey.max()) == (np.dtype("uint8"), 255)


@pytest.mark.parametrize(
    ("value", "dtype", "shape", "reason"),
    [
        (b"\0" * 1024, "object", [16, 16], "dtype 'object' is not supported"),
        (b"\0" * 1024, "O", [16, 16], "send one of uint8"),
        (b"\0" * 1023, "float32", [16, 16], r"1023 bytes, but shape \[16, 16\] of float32 takes 1024"),
        (b"\0" * 1024, "float32", [256], "check resize and axis order"),
        (b"\0" * 1024, "float32", [16, 16, 1], "check resize and axis order"),
        (b"\0" * 1024, "float32", [-16, -16], "no list of lengths"),
        (b"\0" * 1024, "float32", [16, "16"], "no list of lengths"),
        (b"\0" * 1024, "float32", [True, 16, 16], "no list of lengths"),
        (b"", "float32", [0], "check resize and axis order"),
        (np.full(256, np.nan, "<f4").tobytes(), "float32", [16, 16], "256 of 256 values that are not finite"),
        (np.array([np.inf, *[0] * 255], "<f2").tobytes(), "float16", [16, 16], "1 of 256 values"),
    ],
)
def test_bytes_that_do_not_fit_say_why(value: bytes, dtype: str, shape: list[int], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode_tensor(value, dtype, shape, (1, 16, 16))
