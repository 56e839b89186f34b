"""A served embedding beside the recomputed one, on the digits CNN: broken pipelines fire, half precision does not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.checks.pipeline_skew import CHECK
from models.checks.verdict import Verdict
from models.columns import Categories
from models.embedder import Embedder
from models.profile import Profile
from models.skew import compared
from tests.observing import by_field, embedded, observed, small_reference

ROOT = Path(__file__).parents[1]
REFERENCE = small_reference()
N = 200
Images = NDArray[np.float32]


@pytest.fixture(scope="module")
def cnn() -> Embedder:
    return Embedder.load((ROOT / "examples/digits/digits.onnx").read_bytes(), sha256=None, embedding="embedding")


@pytest.fixture(scope="module")
def images() -> Images:
    from sklearn.datasets import load_digits  # noqa: PLC0415 -- slow to import

    small = load_digits().images[:N].astype(np.float32) / 16
    return np.ascontiguousarray(small.repeat(2, axis=1).repeat(2, axis=2)[:, None])


def profile(cnn: Embedder, images: Images, served: Images, origin: list[str]) -> Profile:
    recomputed = cnn.embed(images)
    skews = [compared(s.astype("<f4").tobytes(), r) for s, r in zip(served, recomputed, strict=True)]
    names = tuple(dict.fromkeys(origin))
    columns: dict[str, Any] = {
        "skew": np.array([s.error for s in skews]),
        "cosine": np.array([s.cosine for s in skews]),
        "misfit": np.array([s.misfit for s in skews]),
        "origin": Categories(np.array([names.index(o) for o in origin], np.int32), names),
    }
    return embedded(REFERENCE, recomputed, **columns)


def verdicts(*args: Any) -> dict[str, Verdict]:
    made = profile(*args)
    return by_field(CHECK.live(observed(made, REFERENCE)))  # type: ignore[misc]


def test_a_sound_server_and_half_precision_are_silent(cnn: Embedder, images: Images) -> None:
    exact = cnn.embed(images)
    assert verdicts(cnn, images, exact, ["CPU|1"] * N)["CPU|1"].verdict == "ok"
    half = exact.astype(np.float16).astype(np.float32)
    assert verdicts(cnn, images, half, ["CUDA|8"] * N)["CUDA|8"].verdict == "ok"
    rounded_inputs = cnn.embed(images.astype(np.float16).astype(np.float32))
    assert verdicts(cnn, images, rounded_inputs, ["CUDA|8"] * N)["CUDA|8"].verdict == "ok"


@pytest.mark.parametrize("broken", ["raw grey levels", "another resize", "mean and sd of another set", "transposed"])
def test_a_broken_preprocessing_fires_within_200_samples(cnn: Embedder, images: Images, broken: str) -> None:
    wrong = {
        "raw grey levels": images * 16,
        "another resize": np.roll(images, 1, axis=3),
        "mean and sd of another set": (images - 0.485) / 0.229,
        "transposed": images.swapaxes(2, 3),
    }[broken]
    found = verdicts(cnn, images, cnn.embed(np.ascontiguousarray(wrong)), ["CPU|1"] * N)["CPU|1"]
    assert (found.verdict, found.action) == ("mismatch", "fix-pipeline")


def test_an_export_that_depends_on_the_batch_is_found_in_its_batch_size(cnn: Embedder, images: Images) -> None:
    """Batches of 16 see statistics of their own, as with a normalisation that was left in training mode."""
    served = cnn.embed(images).copy()
    batches = images[:160].reshape(10, 16, 1, 16, 16)
    served[:160] = cnn.embed((batches - batches.mean(axis=(1, 3, 4), keepdims=True)).reshape(160, 1, 16, 16))
    found = verdicts(cnn, images, served, ["CPU|16"] * 160 + ["CPU|1"] * 40)
    assert (found["CPU|16"].verdict, found["CPU|1"].verdict) == ("mismatch", "ok")


def test_an_embedding_of_another_length_is_another_model(cnn: Embedder, images: Images) -> None:
    found = verdicts(cnn, images, np.zeros((N, 8), np.float32), ["CPU|1"] * N)
    assert found["dimension"].verdict == "mismatch"


def test_without_served_embeddings_it_is_unknown(cnn: Embedder, images: Images) -> None:
    (only,) = CHECK.live(observed(embedded(REFERENCE, cnn.embed(images)), REFERENCE))  # type: ignore[misc]
    assert only.verdict == "unknown"
