"""`describe` keeps what people wrote, invents nothing, and refuses bad input before it writes."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.describe import describe
from streams.descriptor_files import load_reference
from streams.errors import DescriptorError
from tests.describe_rig import START, read, small, write_lines

# -- people's words stay -----------------------------------------------------------------------------------------


def test_existing_files_keep_words_comments_and_order(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    text = (
        "# Ours since 2024\n"
        "dataset_name: Survey   # the long one\n"
        "schema: [{field_name: age, field_type: Float, expected_values: '0..120'}]\n"
        "bestbefore:\n"
        "  features:\n"
        "    # measured by the survey team\n"
        "    age: {type: number, unit: year, n: 90000, mean: 41.5}\n"
    )
    (out / "training_data.yaml").write_text(text, "utf-8")
    (out / "production_data.json").write_text('{"data_rates": "5 per hour"}', "utf-8")
    result = describe([], [small(tmp_path / "e.jsonl")], out)
    kept = (out / "training_data.yaml").read_text("utf-8")
    assert all(line in kept for line in ("# Ours since 2024", "# the long one", "# measured by the survey team"))
    tree = yaml.safe_load(kept)
    assert tree["bestbefore"]["features"]["age"] == {"type": "number", "unit": "year", "n": 90000, "mean": 41.5}
    assert tree["schema"] == [{"field_name": "age", "field_type": "Float", "expected_values": "0..120"}]
    assert tree["statistics"]
    assert json.loads((out / "production_data.json").read_text("utf-8"))["data_rates"] == "5 per hour"
    assert "training_data.statistics" in result.filled
    assert "training_data.bestbefore.features.age" not in " ".join(result.filled)
    assert not any(place.startswith("bestbefore.features") for place in tree["bestbefore"]["provenance"])
    assert tree["bestbefore"]["provenance"]["statistics"] == {"tool": "bestbefore describe", "observed": "2026-11-01"}


def test_edits_of_existing_files_are_read_back_as_they_were_meant(tmp_path: Path) -> None:
    """Texts and numbers that YAML 1.1 and 1.2 read differently, in what people wrote and in what is added."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "training_data.yaml").write_text("ours: [yes, 'no', 010, 1_000]   # as it is\n", "utf-8")
    rows = [
        {
            "id": str(i), "time": (START + timedelta(minutes=i)).isoformat(), "model": "m", "version": "1",
            "features": {"smoker": ["yes", "no", "12:30", "1e3", "ä: b"][i % 5], "tiny": 1e-5 * (i + 1) ** 0.5},
        }
        for i in range(200)
    ]  # fmt: skip
    describe([], [write_lines(tmp_path / "e.jsonl", rows)], out)
    tree = read(out)["training_data"]
    assert tree["ours"] == [True, "no", 8, 1000]
    assert "[yes, 'no', 010, 1_000]" in (out / "training_data.yaml").read_text("utf-8")
    features = tree["bestbefore"]["features"]
    assert features["smoker"]["categories"] == dict.fromkeys(("yes", "no", "12:30", "1e3", "ä: b"), 0.2)
    assert features["tiny"]["min"] == 1e-5
    assert load_reference(out).numeric["tiny"].n == 200


def test_a_file_with_a_key_twice_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "training_data.yaml").write_text("dataset_name: a\ndataset_name: b\n", "utf-8")
    with pytest.raises(DescriptorError, match=r"training_data\.yaml cannot be edited(?s:.)*dataset_name"):
        describe([], [small(tmp_path / "e.jsonl")], out)
    assert [path.name for path in out.iterdir()] == ["training_data.yaml"]


def test_force_measures_again_and_leaves_the_other_words(tmp_path: Path) -> None:
    out = tmp_path / "out"
    describe([], [small(tmp_path / "e.jsonl")], out)
    path = out / "training_data.yaml"
    path.write_text("# kept\ndataset_name: Survey\n" + path.read_text("utf-8"), "utf-8")
    before = read(out)["training_data"]["bestbefore"]["features"]["age"]
    newer = small(tmp_path / "newer.jsonl", rows=300)
    assert describe([], [newer], out).files == []
    assert path in describe([], [newer], out, force=True).files
    tree = read(out)["training_data"]
    assert (before["n"], tree["bestbefore"]["features"]["age"]["n"]) == (200, 300)
    assert tree["dataset_name"] == "Survey"
    assert "# kept" in path.read_text("utf-8")


def test_declared_special_values_are_measured_even_where_they_never_come(tmp_path: Path) -> None:
    declared = tmp_path / "declared.yaml"
    declared.write_text(
        "raw_data: {schema: [{field_name: age, interpret_special: '-7 is refused'}]}\n"
        "training_data: {bestbefore: {features: {age: {unit: year}}}}\n",
        "utf-8",
    )
    describe([], [small(tmp_path / "e.jsonl")], tmp_path / "out", declared=declared)
    age = read(tmp_path / "out")["training_data"]["bestbefore"]["features"]["age"]
    assert age["special"] == {"-7": 0.0}
    assert (age["unit"], age["n"]) == ("year", 200)


# -- nothing is invented -----------------------------------------------------------------------------------------


def test_what_events_do_not_hold_is_absent_and_noted(tmp_path: Path) -> None:
    result = describe([], [small(tmp_path / "e.jsonl", rows=30)], tmp_path / "out")
    trees = read(tmp_path / "out")
    own = trees["training_data"]["bestbefore"]
    assert not {"classes", "confusion", "calibration", "embedding"} & set(own)
    assert "evaluation_metrics" not in trees["trained_model"]
    assert "labels" not in trees["production_data"]["bestbefore"]
    assert trees["production_data"]["bestbefore"]["rate"] == {"mean": 1.0, "unit": "1/minute"}
    noted = " ".join(result.notes)
    assert all(word in noted for word in ("no ground truth", "no latency_ms", "rate.p99", "100 are needed"))
    assert not any(tree.get("expected_values") for tree in trees["production_data"]["schema"])


def test_feedback_and_proxies_describe_no_class(tmp_path: Path) -> None:
    events = small(tmp_path / "e.jsonl", output={"label": "a"})
    labels = [
        {"inference_id": str(i), "time": START.isoformat(), "label": "b", "source": source}
        for i, source in enumerate(["feedback", "proxy:clicks"] * 50)
    ]
    result = describe([], [events, write_lines(tmp_path / "l.jsonl", labels)], tmp_path / "out")
    assert "classes" not in read(tmp_path / "out")["training_data"]["bestbefore"]
    assert any("100 labels are feedback" in note for note in result.notes)


def test_shadow_answers_and_mixed_types_are_left_out(tmp_path: Path) -> None:
    rows = [
        {
            "id": str(i), "time": (START + timedelta(minutes=i)).isoformat(), "model": "m", "version": "1",
            "features": {"age": 1e9 if i % 2 else 40.0, "mix": "x" if i % 4 else 1.0, "name": f"person {i}"},
            "served": "shadow" if i % 2 else "live",
        }
        for i in range(200)
    ]  # fmt: skip
    result = describe([], [write_lines(tmp_path / "e.jsonl", rows)], tmp_path / "out")
    features = read(tmp_path / "out")["training_data"]["bestbefore"]["features"]
    assert (features["age"]["n"], features["age"]["max"]) == (100, 40.0)
    assert "mix" not in features
    assert any("features.mix: a number in some events and a text in others" in note for note in result.notes)
    assert features["name"] == {"type": "text", "n": 100, "missing": 0.0, "lengths": {"min": 8, "max": 10}}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"model": "other"}, "no event is of model other version of any name; recorded are: m version 1"),
        ({"version": "2"}, "recorded are: m version 1"),
        ({"declared": "list.yaml"}, "expected keys and values at the top, found list"),
        ({"declared": "alias.yaml"}, "alias.yaml:2: aliases"),
        ({"declared": "tag.yaml"}, "tag.yaml cannot be read"),
        ({"declared": "kind.yaml"}, "'trained-model' is no descriptor"),
        ({"declared": "quantiles.yaml"}, "do not decrease|must not decrease"),
        ({"declared": "absent.yaml"}, "absent.yaml cannot be read"),
    ],
)
def test_bad_input_names_the_place_and_writes_nothing(tmp_path: Path, arguments: dict[str, str], told: str) -> None:
    (tmp_path / "list.yaml").write_text("[1, 2]")
    (tmp_path / "alias.yaml").write_text("raw_data: &a {}\ntraining_data: *a\n")
    (tmp_path / "tag.yaml").write_text("raw_data: !!python/object:os.system {}\n")
    (tmp_path / "kind.yaml").write_text("trained-model: {}\n")
    (tmp_path / "quantiles.yaml").write_text(
        "training_data: {bestbefore: {features: {age: {type: number, quantiles: {'0.1': 5, '0.9': 1}}}}}\n"
    )
    given: dict[str, Any] = dict(arguments)
    if "declared" in given:
        given["declared"] = tmp_path / given["declared"]
    with pytest.raises(DescriptorError, match=told):
        describe([], [small(tmp_path / "e.jsonl")], tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


def test_several_models_must_be_told_apart(tmp_path: Path) -> None:
    first, second = small(tmp_path / "a.jsonl"), small(tmp_path / "b.jsonl", version="2")
    with pytest.raises(DescriptorError, match="m version 1, m version 2; say which"):
        describe([], [first, second], tmp_path / "out")
    describe([], [first, second], tmp_path / "out", version="2")
    assert read(tmp_path / "out")["trained_model"]["model_version"] == "2"


def test_a_folder_about_another_version_is_left_alone(tmp_path: Path) -> None:
    events = small(tmp_path / "e.jsonl")
    describe([], [events], tmp_path / "out")
    with pytest.raises(DescriptorError, match="model_version is '1', but '2' was asked for; describe it in another"):
        describe([], [events], tmp_path / "out", version="2")


def test_a_damaged_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x80\x04 no model")
    with pytest.raises(DescriptorError, match=r"m\.onnx"):
        describe([tmp_path / "m.onnx"], [small(tmp_path / "e.jsonl")], tmp_path / "out")
    assert not (tmp_path / "out").exists()
