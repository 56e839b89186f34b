"""`describe`, from recorded events to a reference: what it measures agrees with numpy and with the example."""

import base64
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from infra.demo.images import image_features, load
from infra.describe import Described, describe
from models.describing_features import PROBABILITIES
from models.descriptors.paths import KINDS
from models.embedder import Embedder
from models.grid import FEW_EDGES
from models.profile import standardised
from streams.descriptor_files import load_reference
from streams.errors import DescriptorError
from tests.describe_rig import SHARPER, START, Loans, read, write_lines

ROOT = Path(__file__).parents[1]
ONNX = ROOT / "examples" / "digits" / "digits.onnx"
DECLARED = ROOT / "examples" / "digits" / "declared.yaml"


@pytest.fixture(scope="module")
def loans() -> Loans:
    return Loans()


@pytest.fixture(scope="module")
def described(loans: Loans, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Described]:
    folder = tmp_path_factory.mktemp("loan")
    recording = write_lines(folder / "events.jsonl", loans.events())
    return folder / "out", describe([], [recording], folder / "out")


# -- a tabular classifier, from its events to a reference --------------------------------------------------------


def test_features_agree_with_numpy(loans: Loans, described: tuple[Path, Described]) -> None:
    reference = load_reference(described[0])
    features = read(described[0])["training_data"]["bestbefore"]["features"]
    income = loans.income[~loans.null]
    assert (reference.model, reference.version) == ("loan", "7")
    assert features["income"]["n"] == len(income)
    assert features["income"]["missing"] == pytest.approx(loans.null.mean(), rel=1e-5)
    assert features["income"]["mean"] == pytest.approx(income.mean(), rel=1e-5)
    assert features["income"]["sd"] == pytest.approx(income.std(ddof=1), rel=1e-5)
    assert features["income"]["special"]["-1"] == pytest.approx((income == -1).mean(), rel=1e-5)
    declared = [features["income"]["quantiles"][str(p)] for p in PROBABILITIES]
    np.testing.assert_allclose(declared, np.quantile(income, PROBABILITIES, method="inverted_cdf"), rtol=1e-5)
    assert features["term"]["type"] == "integer"
    assert features["region"]["categories"] == {
        str(name): pytest.approx((loans.region == name).mean(), rel=1e-5) for name in "NSEW"
    }
    assert features["region"]["lengths"] == {"min": 1, "max": 1}


def test_the_reference_holds_the_events_own_shares(loans: Loans, described: tuple[Path, Described]) -> None:
    reference = load_reference(described[0])
    income = loans.income[~loans.null]
    # Quantiles between unequal numbers are off by less than one row; those of whole numbers are exact.
    for name, values, off in (("income", income, 1 / len(income)), ("term", loans.term, 1e-6)):
        feature = reference.numeric[name]
        counts = np.bincount(np.searchsorted(feature.edges, values), minlength=len(feature.shares))
        assert len(feature.edges) <= FEW_EDGES
        np.testing.assert_allclose(feature.shares, counts / len(values), atol=off)


def test_classes_confusion_and_calibration(loans: Loans, described: tuple[Path, Described]) -> None:
    data = read(described[0])["training_data"]
    own, has = data["bestbefore"], loans.labelled
    answered = has & ~loans.failed
    right = loans.truth == loans.predicted
    assert own["classes"]["1"] == pytest.approx(loans.truth[has].mean(), rel=1e-5)
    assert {row["label"]: row["percentage"] for row in data["distribution"]}["1"] == pytest.approx(
        100 * loans.truth[has].mean(), rel=1e-5
    )
    for truth in (0, 1):
        for label in (0, 1):
            expected = int((answered & (loans.truth == truth) & (loans.predicted == label)).sum())
            assert own["confusion"][str(truth)][str(label)] == expected
    found = own["calibration"]
    assert found["n"] == int(answered.sum())
    assert found["accuracy"] == pytest.approx(right[answered].mean(), rel=1e-5)
    assert found["temperature"] == pytest.approx(SHARPER, rel=0.1)
    top = loans.scores[answered].max(axis=1)
    tempered = loans.scores[answered] ** (1 / found["temperature"])
    best = (tempered / tempered.sum(axis=1, keepdims=True)).max(axis=1)
    assert found["atc_threshold"] == pytest.approx(np.quantile(best, 1 - right[answered].mean()), rel=1e-4)
    assert len(found["bins"]) == 10
    assert sum(bin_["n"] for bin_ in found["bins"]) == int(answered.sum())
    inside = top <= found["bins"][0]["high"] + 1e-6
    assert found["bins"][0]["confidence"] == pytest.approx(top[inside].mean(), rel=1e-3)
    assert found["bins"][0]["accuracy"] == pytest.approx(right[answered][inside].mean(), rel=1e-2)
    assert load_reference(described[0]).calibration is not None


def test_traffic_is_observed_and_never_becomes_a_limit(loans: Loans, described: tuple[Path, Described]) -> None:
    trees = read(described[0])
    environment = trees["production_environment"]["bestbefore"]
    assert "latency" not in environment
    seen = environment["provenance"]["bestbefore.latency"]
    np.testing.assert_allclose(
        [seen["p50"], seen["p95"], seen["p99"]], np.quantile(loans.latency, [0.5, 0.95, 0.99]), rtol=1e-5
    )
    assert environment["error_rate"] == pytest.approx(0.01, rel=1e-5)
    own = trees["production_data"]["bestbefore"]
    assert own["rate"] == {"mean": 10.0, "p99": 10.0, "unit": "1/minute"}
    assert own["labels"]["delay"] == "7 days"
    assert own["labels"]["source"] == "ground-truth"
    assert own["labels"]["share"] == pytest.approx(0.5, abs=0.03)
    assert trees["training_data"]["bestbefore"]["abstention_rate"] == 0.0
    assert load_reference(described[0]).latency_limit_ms is None


def test_tec_gets_its_texts_and_what_is_left_is_listed(described: tuple[Path, Described]) -> None:
    out, result = described
    trees = read(out)
    assert set(trees) == set(KINDS)
    rows = {(r["property"], r["field"]): r["value"] for r in trees["production_data"]["statistics"]}
    assert all(isinstance(value, str) for value in rows.values())
    mean = trees["training_data"]["bestbefore"]["features"]["term"]["mean"]
    assert float(rows["Mean", "term"]) == mean
    types = {row["field_name"]: row["field_type"] for row in trees["production_data"]["schema"]}
    assert types == {"income": "Float", "region": "String", "term": "Integer"}
    left = {item.path: item for item in result.left}
    assert {"system_context.goals", "system_context.risks", "trained_model.algorithm_metrics"} <= set(left)
    assert "measured accuracy" in left["trained_model.algorithm_metrics"].why
    assert "observed p99" in left["production_environment.bestbefore.latency"].why
    assert all(isinstance(yaml.safe_load(item.example), dict) for item in result.left)
    assert not any("threshold" in str(tree.get("algorithm_metrics")) for tree in trees.values())


def test_frames_and_single_events_describe_the_same(
    loans: Loans, described: tuple[Path, Described], tmp_path: Path
) -> None:
    pq.write_table(loans.table(), tmp_path / "inference.parquet")
    labels = [row for row in loans.events() if "inference_id" in row]
    write_lines(tmp_path / "labels.jsonl", labels)
    describe([], [tmp_path], tmp_path / "out")
    assert read(tmp_path / "out") == read(described[0])


# -- the digits, with their model --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Described]:
    """The reference split served by the model, recorded, and described with what people declare."""
    folder = tmp_path_factory.mktemp("digits")
    data = load().reference
    model = Embedder.load(ONNX.read_bytes(), sha256=None, embedding="embedding", scores="scores")
    scores, _ = model.outputs(data.images[:, None])
    assert scores is not None
    features = image_features(data.images)
    rows: list[dict[str, Any]] = []
    for i, image in enumerate(data.images):
        about = {"time": (START + timedelta(seconds=20 * i)).isoformat(), "model": "digits", "version": "1"}
        output = {"scores": {str(k): float(p) for k, p in enumerate(scores[i])}}
        rows += [
            {"id": f"d{i}", **about, "features": {k: float(v[i]) for k, v in features.items()}, "output": output},
            {"inference_id": f"d{i}", "time": about["time"], "label": str(data.labels[i])},
            {
                "inference_id": f"d{i}", **about, "dtype": "float32", "shape": [1, 16, 16],
                "data": base64.b64encode(image.astype("<f4").tobytes()).decode(),
            },
        ]  # fmt: skip
    events = write_lines(folder / "events.jsonl", rows)
    return folder, events, describe([ONNX], [events], folder / "out", declared=DECLARED)


def test_digits_are_described_as_the_example_is(digits: tuple[Path, Path, Described]) -> None:
    folder, _, _ = digits
    found, example = read(folder / "out"), read(ROOT / "examples" / "digits" / "descriptors")
    own, theirs = (trees["training_data"]["bestbefore"] for trees in (found, example))
    for name, feature in theirs["features"].items():
        for key in ("n", "mean", "sd", "min", "max"):
            assert own["features"][name][key] == pytest.approx(feature[key], rel=2e-5), (name, key)
    assert own["classes"] == theirs["classes"]
    assert {t: {p: c for p, c in row.items() if c} for t, row in theirs["confusion"].items()} == own["confusion"]
    for key in ("accuracy", "n", "temperature", "atc_threshold"):
        assert own["calibration"][key] == pytest.approx(theirs["calibration"][key], rel=2e-3), key
    np.testing.assert_allclose(own["embedding"]["mean"], theirs["embedding"]["mean"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(own["embedding"]["sd"], theirs["embedding"]["sd"], rtol=1e-4, atol=1e-5)
    assert found["trained_model"]["bestbefore"]["digest"] == example["trained_model"]["bestbefore"]["digest"]
    for kind, facts in yaml.safe_load(DECLARED.read_text("utf-8")).items():
        filled = {"production_data": ["bestbefore"], "production_environment": ["bestbefore"]}.get(kind, [])
        assert {k: v for k, v in found[kind].items() if k in facts and k not in filled} == {
            k: v for k, v in facts.items() if k not in filled
        }
    assert found["production_data"]["bestbefore"]["labels"]["delay"] == "7 days"


def test_the_embedding_reference_is_what_a_window_of_the_same_inputs_shows(
    digits: tuple[Path, Path, Described],
) -> None:
    reference = load_reference(digits[0] / "out")
    known, file = reference.embedding, reference.file
    assert known is not None
    assert file is not None
    data = load().reference
    model = Embedder.load(Path(file.path).read_bytes(), sha256=file.sha256, embedding="embedding", scores="scores")
    scores, embedding = model.outputs(data.images[:, None])
    assert scores is not None
    distance = np.sqrt((standardised(embedding, known) ** 2).mean(axis=1))
    bins = np.searchsorted(known.edges, distance)
    np.testing.assert_allclose(np.bincount(bins, minlength=10) / 500, known.shares, atol=1 / 500)
    labels = scores.argmax(axis=1)
    assert set(known.classes) == {str(k) for k in range(10)}
    for label, (share, shares) in known.classes.items():
        mine = labels == int(label)
        assert share == pytest.approx(mine.mean())
        np.testing.assert_allclose(shares, np.bincount(bins[mine], minlength=10) / mine.sum(), atol=1e-5)


def test_golden_records_hold_inputs_and_the_files_own_answers(digits: tuple[Path, Path, Described]) -> None:
    own = read(digits[0] / "out")["trained_model"]["bestbefore"]
    model = Embedder.load(ONNX.read_bytes(), sha256=own["digest"], **own["outputs"])
    assert own["input"] == {"name": "image", "shape": [1, 16, 16], "dtype": "float32"}
    assert len(own["golden_records"]) == 3
    for record in own["golden_records"]:
        scores, _ = model.outputs(np.array([record["inputs"]["image"]], np.float32))
        assert scores is not None
        assert str(scores[0].argmax()) == record["outputs"]["label"]
        np.testing.assert_allclose(list(record["outputs"]["scores"].values()), scores[0], atol=record["tolerance"])


def test_describing_again_changes_nothing(digits: tuple[Path, Path, Described]) -> None:
    folder, events, _ = digits
    before = {path.name: path.read_bytes() for path in (folder / "out").iterdir()}
    again = describe([ONNX], [events], folder / "out")
    assert again.files == []
    assert {path.name: path.read_bytes() for path in (folder / "out").iterdir()} == before


def test_another_file_under_the_same_version_is_refused(digits: tuple[Path, Path, Described]) -> None:
    folder, events, _ = digits
    other = folder / "other.onnx"
    content = ONNX.read_bytes()
    other.write_bytes(content.replace(b"digits", b"digitz", 1))
    with pytest.raises(DescriptorError, match=r"other\.onnx hashes to sha256:.*describe a new version"):
        describe([other], [events], folder / "out")


def test_a_model_file_alone_gives_what_it_says_and_nothing_measured(tmp_path: Path) -> None:
    result = describe([ONNX], [], tmp_path, model="digits", version="1")
    trees = read(tmp_path)
    own = trees["trained_model"]["bestbefore"]
    assert own["signature"]["inputs"][0]["name"] == "image"
    assert own["outputs"] == {"scores": "scores", "embedding": "embedding"}
    assert load_reference(tmp_path).file is not None
    assert "golden_records" not in own
    assert "features" not in trees["training_data"].get("bestbefore", {})
    assert any("no sampled inputs" in note for note in result.notes)


def test_artefacts_count_more_than_measurements_and_less_than_people(
    digits: tuple[Path, Path, Described], tmp_path: Path
) -> None:
    """A model card says the accuracy; people say the frameworks; the events would say another accuracy."""
    card = (
        "---\nmodel-index:\n- name: other\n  results:\n  - task: {type: image-classification}\n"
        "    dataset: {name: digits, type: digits}\n    metrics: [{type: accuracy, value: 0.9, name: Accuracy}]\n---\n"
    )
    (tmp_path / "README.md").write_text(card, "utf-8")
    describe([ONNX, tmp_path / "README.md"], [digits[1]], tmp_path / "out", declared=DECLARED)
    trained = read(tmp_path / "out")["trained_model"]
    assert trained["evaluation_metrics"][0]["result"] == 0.9
    assert trained["ml_frameworks"] == ["numpy"]
    origins = trained["bestbefore"]["provenance"]
    assert "ml_frameworks" not in origins
    assert origins["bestbefore.opset"]["tool"] == "onnx"
    assert origins["bestbefore.golden_records"] == {"tool": "bestbefore describe", "observed": "2026-11-01"}
    assert (trained["model_name"], trained["model_version"]) == ("digits", "1")
