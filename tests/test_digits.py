"""The demo's images, model and descriptors agree with each other."""

import hashlib
import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from infra.demo.images import CORRUPTIONS, corrupt, image_features, load
from models.embedder import Embedder
from models.quality import label_free, top_confidence
from models.reference import compile_reference

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "digits"
KINDS = {
    "system_context",
    "raw_data",
    "training_data",
    "data_pipeline",
    "trained_model",
    "development_environment",
    "production_environment",
    "production_data",
}


@pytest.fixture(scope="module")
def descriptors() -> dict[str, dict[str, Any]]:
    return {path.stem: yaml.safe_load(path.read_text()) for path in (EXAMPLE / "descriptors").glob("*.yaml")}


@pytest.fixture(scope="module")
def model(descriptors: dict[str, dict[str, Any]]) -> Embedder:
    own = descriptors["trained_model"]["bestbefore"]
    content = (EXAMPLE / "descriptors" / own["file"]).read_bytes()
    return Embedder.load(content, sha256=own["digest"], **own["outputs"])


def accuracy(model: Embedder, images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> float:
    scores, _ = model.outputs(images[:, None])
    assert scores is not None
    return float((scores.argmax(1) == labels).mean())


def test_images_are_the_same_every_time_and_parts_are_disjoint() -> None:
    first, again = load(), load()
    assert [part.images.shape for part in first] == [(n, 16, 16) for n in (600, 500, 697)]
    assert all(np.array_equal(a.images, b.images) for a, b in zip(first, again, strict=True))
    everything = np.concatenate([part.images for part in first])
    assert everything.dtype == np.float32
    assert (everything.min(), everything.max()) == (0, 1)
    assert len(np.unique(everything.reshape(1797, -1), axis=0)) == 1797


@pytest.mark.parametrize("family", CORRUPTIONS)
def test_a_corruption_grows_from_nothing_and_without_jumps(family: str) -> None:
    images = load().held_out.images[:100]
    ladder = [corrupt(images, family, s, np.random.default_rng(1)) for s in np.linspace(0, 1, 41)]
    np.testing.assert_array_equal(ladder[0], images)
    np.testing.assert_array_equal(ladder[9], corrupt(images, family, 9 / 40, np.random.default_rng(1)))
    assert all(step.shape == images.shape and step.dtype == np.float32 for step in ladder)
    steps = [float(np.abs(b - a).mean()) for a, b in itertools.pairwise(ladder)]
    total = float(np.abs(ladder[-1] - ladder[0]).mean())
    assert total > 0.02
    assert max(steps) < 0.25 * total


def test_unknown_corruptions_and_severities_are_refused() -> None:
    images, rng = load().held_out.images[:1], np.random.default_rng(0)
    with pytest.raises(ValueError, match="choose one of blur"):
        corrupt(images, "fog", 0.5, rng)
    with pytest.raises(ValueError, match="from 0 to 1"):
        corrupt(images, "blur", 1.5, rng)


@pytest.mark.parametrize("family", CORRUPTIONS)
def test_quality_declines_with_severity(model: Embedder, family: str) -> None:
    data = load().held_out
    rng = np.random.default_rng(2)
    ladder = [accuracy(model, corrupt(data.images, family, s, rng), data.labels) for s in (0, 0.25, 0.5, 0.75, 1)]
    assert ladder[0] >= 0.93
    assert ladder[-1] < 0.85
    assert all(later <= earlier + 0.02 for earlier, later in itertools.pairwise(ladder))


def test_the_logged_features_follow_the_image() -> None:
    image = np.zeros((1, 16, 16), np.float32)
    image[0, 4, 11] = 1
    features = {name: float(column[0]) for name, column in image_features(image).items()}
    assert features == pytest.approx(
        {"brightness": 1 / 256, "contrast": 255**0.5 / 256, "ink": 1 / 256, "centre_y": 4, "centre_x": 11}, abs=1e-6
    )
    assert all(np.isfinite(column).all() for column in image_features(np.zeros((2, 16, 16), np.float32)).values())


def test_training_again_gives_the_same_file(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, EXAMPLE / "train.py", tmp_path], check=True, env=environment, capture_output=True)
    assert (tmp_path / "digits.onnx").read_bytes() == (EXAMPLE / "digits.onnx").read_bytes()
    assert {path.stem for path in (tmp_path / "descriptors").glob("*.yaml")} == KINDS


def test_the_descriptors_tell_of_this_very_file(descriptors: dict[str, dict[str, Any]]) -> None:
    trained, data = descriptors["trained_model"], descriptors["training_data"]
    digest = "sha256:" + hashlib.sha256((EXAMPLE / "digits.onnx").read_bytes()).hexdigest()
    assert set(descriptors) == KINDS
    assert (trained["model_name"], trained["model_version"]) == ("digits", "1")
    assert trained["bestbefore"]["digest"] == data["bestbefore"]["embedding"]["digest"] == digest
    assert trained["evaluation_metrics"][0]["result"] > trained["algorithm_metrics"][0]["threshold"]


def test_golden_records_replay(descriptors: dict[str, dict[str, Any]], model: Embedder) -> None:
    golden = descriptors["trained_model"]["bestbefore"]["golden_records"]
    assert len(golden) == 3
    for record in golden:
        scores, _ = model.outputs(np.array([record["inputs"]["image"]], np.float32))
        assert scores is not None
        assert str(scores[0].argmax()) == record["outputs"]["label"]
        np.testing.assert_allclose(scores[0], list(record["outputs"]["scores"].values()), atol=record["tolerance"])


def test_the_reference_statistics_are_those_of_the_reference_images(
    descriptors: dict[str, dict[str, Any]], model: Embedder
) -> None:
    own, reference = descriptors["training_data"]["bestbefore"], load().reference
    for name, column in image_features(reference.images).items():
        described = own["features"][name]
        assert described["n"] == 500
        assert described["mean"] == pytest.approx(column.mean(), rel=1e-5)
        np.testing.assert_allclose(
            list(described["quantiles"].values()), np.quantile(column, [*map(float, described["quantiles"])]), rtol=1e-5
        )
    confusion = np.array([list(row.values()) for row in own["confusion"].values()])
    assert confusion.sum() == 500
    assert np.trace(confusion) / 500 == own["calibration"]["accuracy"]
    assert sum(own["classes"].values()) == pytest.approx(1)
    embedding, profile = model.embed(reference.images[:, None]), own["embedding"]
    assert len(profile["mean"]) == len(profile["sd"]) == model.dimension
    mean, sd = np.array(profile["mean"]), np.array(profile["sd"])
    distance = np.sqrt((((embedding - mean) / np.maximum(sd, 1e-3 * sd.max())) ** 2).mean(1))
    assert profile["distance_quantiles"]["0.5"] == pytest.approx(np.quantile(distance, 0.5), rel=1e-3)


def test_the_label_free_interval_holds_on_images_and_draws_it_was_not_made_from(
    descriptors: dict[str, dict[str, Any]], model: Embedder
) -> None:
    reference, data = compile_reference(descriptors), load().held_out
    calibration, rng, inside = reference.calibration, np.random.default_rng(5), []
    assert calibration is not None
    assert calibration.atc_threshold is not None
    assert calibration.families == tuple(CORRUPTIONS)
    for family, severity in itertools.product(CORRUPTIONS, (0.15, 0.4, 0.6, 0.9)):
        scores, _ = model.outputs(corrupt(data.images, family, severity, rng)[:, None])
        assert scores is not None
        top = top_confidence(scores, calibration.temperature)
        above = float((top > calibration.atc_threshold).sum())
        estimate = label_free(len(top), float(top.sum()), above, 0, calibration)
        assert estimate.low is not None
        assert estimate.high is not None
        inside.append(estimate.low <= (scores.argmax(1) == data.labels).mean() <= estimate.high)
    assert np.mean(inside) >= calibration.level


def test_the_workers_read_what_training_wrote(descriptors: dict[str, dict[str, Any]], model: Embedder) -> None:
    reference = compile_reference(descriptors)
    day = 86_400 * 10**6
    assert (reference.window_us, reference.lateness_us, reference.lead_time_us) == (day, day // 12, 7 * day)
    assert (reference.threshold, reference.metric, reference.minimum_n) == (0.85, "accuracy", 200)
    assert set(reference.numeric) == {"brightness", "contrast", "ink", "centre_y", "centre_x"}
    assert all(sum(feature.shares) == pytest.approx(1) for feature in reference.numeric.values())
    assert reference.embedding is not None
    assert len(reference.embedding.mean) == model.dimension
    assert reference.file is not None
    assert reference.file.sha256 == model.provenance["sha256"]
