"""Descriptors as types, TEC's schema versions, and what a set of descriptors knows of itself."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from models.descriptors.fields import findings, instant_us, typed
from models.descriptors.kinds import kind_of, meant
from models.descriptors.paths import KINDS, value_at
from models.descriptors.types import TYPES, TrainedModel, TrainingData
from models.descriptors.versions import VERSIONS, upgrade
from streams.descriptor_files import load_reference, read_descriptor, read_set, write_descriptors
from streams.errors import DescriptorError
from tests.coherent import coherent

ROOT = Path(__file__).parents[1]
TEC = ROOT / "tests" / "data" / "tec"


def problems(kind: str, tree: dict[str, Any]) -> list[tuple[str, str]]:
    return [(f.path.removeprefix(f"{kind}."), f.message) for f in findings(kind, tree) if not f.note]


def notes(kind: str, tree: dict[str, Any]) -> list[str]:
    return [f.message for f in findings(kind, tree) if f.note]


# -- types ---------------------------------------------------------------------------------------------------------


def test_all_eight_have_a_type_whose_attributes_are_optional() -> None:
    assert tuple(TYPES) == KINDS
    for kind, type_ in TYPES.items():
        assert all(getattr(type_(), field.name) is None for field in msgspec.structs.fields(type_))
        assert list(findings(kind, {})) == []


def test_a_descriptor_becomes_an_object_with_its_facts() -> None:
    trees = coherent()
    model, data = typed("trained_model", trees["trained_model"]), typed("training_data", trees["training_data"])
    assert isinstance(model, TrainedModel)
    assert isinstance(data, TrainingData)
    assert model.algorithm_metrics is not None
    assert model.algorithm_metrics[0].threshold == 0.85
    assert model.bestbefore is not None
    assert (model.model_composition_details, model.bestbefore.minimum_n) == (None, 80)
    assert data.bestbefore is not None
    assert data.bestbefore.features is not None
    assert data.bestbefore.features["f0"].quantiles is not None
    assert data.bestbefore.features["f0"].quantiles["0.5"] == 500


@pytest.mark.parametrize(
    ("kind", "tree", "path", "message"),
    [
        ("trained_model", {"algorithm_metrics": 5}, "algorithm_metrics", "expected a list, found int"),
        (
            "trained_model",
            {"algorithm_metrics": ["Accuracy"]},
            "algorithm_metrics[0]",
            "expected keys and values, found str",
        ),
        (
            "trained_model",
            {"algorithm_metrics": [{"threshold": "85"}]},
            "algorithm_metrics[0].threshold",
            "expected a number, found '85'",
        ),
        ("trained_model", {"model_name": ["m"]}, "model_name", "expected text, found list"),
        ("trained_model", {"ensemble": "yes"}, "ensemble", "expected true or false, found 'yes'"),
        (
            "raw_data",
            {"labels_distribution": [{"percentage": 120}]},
            "labels_distribution[0].percentage",
            "must be at most 100, is 120",
        ),
        (
            "production_environment",
            {"required_inference_time": 50},
            "required_inference_time",
            "expected keys and values, found int",
        ),
    ],
)
def test_a_wrong_type_in_a_tec_attribute_is_found(kind: str, tree: dict[str, Any], path: str, message: str) -> None:
    assert problems(kind, tree) == [(path, message)]


@pytest.mark.parametrize(
    ("kind", "own", "path", "message"),
    [
        ("trained_model", [1], "", "expected keys and values, found list"),
        ("trained_model", {"minimum_n": 2.5}, ".minimum_n", "expected a whole number, found 2.5"),
        ("trained_model", {"minimum_n": True}, ".minimum_n", "expected a whole number, found True"),
        ("trained_model", {"minimum_n": -1}, ".minimum_n", "must be at least 0, is -1"),
        ("trained_model", {"digest": 5}, ".digest", "expected text, found 5"),
        ("trained_model", {"digest": {}}, ".digest", "expected text, found dict"),
        ("trained_model", {"score_range": [1]}, ".score_range", "expected 2 values, found 1"),
        (
            "trained_model",
            {"inputs": [{"shape": [1, "n", 2.5]}]},
            ".inputs[0].shape[2]",
            "expected a whole number, found 2.5",
        ),
        ("trained_model", {"inference_time": {"value": "x"}}, ".inference_time.value", "expected a number, found 'x'"),
        ("system_context", {"window": "1 fortnight"}, ".window", "'1 fortnight' is not a duration"),
        ("system_context", {"season": ""}, ".season", "'' is not a duration"),
        ("system_context", {"valid_from": "soon"}, ".valid_from", "'soon' is not a time; write 2026-11-20 or"),
        ("system_context", {"owners": ["me"]}, ".owners", "expected keys and values, found list"),
        ("system_context", {"cost_retrain": "much"}, ".cost_retrain", "expected a number, found 'much'"),
        ("system_context", {"provenance": {"task": {"observed": 5}}}, ".provenance.task.observed", "5 is not a time"),
        ("training_data", {"features": {"a.b": {"sd": -1}}}, '.features["a.b"].sd', "must be at least 0, is -1"),
        ("training_data", {"features": {"x": 5}}, ".features.x", "expected keys and values, found int"),
        ("training_data", {"classes": {"0": 20}}, ".classes.0", "must be at most 1, is 20"),
        ("training_data", {"confusion": {"0": {"1": "9"}}}, ".confusion.0.1", "expected a number, found '9'"),
        ("training_data", {"calibration": {"temperature": 0}}, ".calibration.temperature", "must be more than 0, is 0"),
        (
            "production_environment",
            {"traffic": {"7": None, "8": "all"}},
            ".traffic.8",
            "expected a number, found 'all'",
        ),
        ("production_data", {"labels": {"delay": 7}}, ".labels.delay", "7 is not a duration"),
    ],
)
def test_our_own_keys_are_strict(kind: str, own: Any, path: str, message: str) -> None:
    ((found, said),) = problems(kind, {"bestbefore": own})
    assert found == f"bestbefore{path}"
    assert said.startswith(message)


def test_what_is_unknown_empty_or_unlisted_is_kept() -> None:
    tree = {
        "x_team": {"any": ["thing"]}, "model_version": 1.5, "model_name": 7, "ensemble": "", "algorithm_metrics": "",
        "inference_time": None, "output_spec": [{"item_type": "Tensor", "x": 1}],
        "bestbefore": {"x": [1], "file": None},
    }  # fmt: skip
    assert problems("trained_model", tree) == []
    assert [note[:26] for note in notes("trained_model", tree)] == [
        "is the number 1.5; put it ",
        "'Tensor' is not one of Int",
    ]
    assert upgrade("trained_model", tree).tree == tree


def test_times_are_read_with_and_without_a_zone() -> None:
    assert (
        instant_us("1970-01-01T01:00:00+01:00") == instant_us("1970-01-01") == instant_us("1970-01-01T00:00:00Z") == 0
    )
    for text in ("", "yesterday", "2026-13-01", "9" * 30):
        with pytest.raises(ValueError, match="is not a time"):
            instant_us(text)


# -- kinds ---------------------------------------------------------------------------------------------------------


def test_the_kind_is_told_by_the_content_in_every_version() -> None:
    for version in VERSIONS:
        found = {kind: read_set(TEC / version).original[kind] for kind in KINDS}
        assert [kind_of(tree) for tree in found.values()] == list(KINDS)
    assert kind_of({}) is None
    assert kind_of({"schema": [], "statistics": [], "distribution": []}) is None
    assert kind_of({"name": "compose", "services": {}, "version": "3"}) is None


def test_a_kind_is_never_mistaken_for_another_by_its_name() -> None:
    assert [meant(kind) for kind in KINDS] == [None] * 8
    assert {meant(kind.replace("_", "-")) for kind in KINDS} == set(KINDS)
    assert [meant(name) for name in ("notes", "data", "model", "docker-compose", "production")] == [None] * 5


def test_an_export_of_any_name_is_read_alone_too() -> None:
    for path in sorted((TEC / "1.1").iterdir()):
        kind, tree = read_descriptor(path)
        assert tree == read_set(TEC / "1.1").original[kind]
    assert read_descriptor(ROOT / "examples" / "loan" / "raw_data.yaml")[0] == "raw_data"


def test_a_file_that_tells_no_kind_says_which_there_are(tmp_path: Path) -> None:
    (tmp_path / "notes.yaml").write_text("schema: []")
    with pytest.raises(DescriptorError, match=r"notes\.yaml: neither the name nor the keys .*production_data"):
        read_descriptor(tmp_path / "notes.yaml")


# -- versions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_is_read_as_one_tree_and_written_back_as_it_came(tmp_path: Path, version: str) -> None:
    found = read_set(TEC / version)
    assert set(found) == set(KINDS)
    assert set(found.versions.values()) == {version}
    assert {tree["version"] for tree in found.trees.values()} == {"1.2"}
    assert value_at(found.trees, "system_context.goals[0].id") == "G1"
    assert value_at(found.trees, "system_context.goals[0].metric") == "Accuracy"
    assert value_at(found.trees, "trained_model.business_metrics[0].goal_mapping") == "G1"
    spec = value_at(found.trees, "data_pipeline.input_spec[0].item_specification")
    assert (spec["min_value"], spec["max_value"]) == (0, 1000)
    assert "resolution_x" not in spec
    text = value_at(found.trees, "data_pipeline.input_spec[2].item_specification")
    assert "min_value" not in text
    assert text.get("other_value") == ("" if version == "1.2" else "one letter, N to W")
    for suffix in (".json", ".yaml"):
        write_descriptors(tmp_path / suffix[1:], found.original, suffix)
        again = read_set(tmp_path / suffix[1:])
        assert again.original == found.original
        assert json.dumps(again.original) == json.dumps(found.original)
        assert again.digest() == found.digest()
    for path in (TEC / version).iterdir():
        kind, tree = read_descriptor(path)
        assert json.loads(path.read_text("utf-8")) == tree == found.original[kind]
    assert load_reference(TEC / version).threshold == 0.85


def test_notes_say_what_was_read_in_another_way_and_where() -> None:
    told = "\n".join(read_set(TEC / "1.0").note_lines())
    assert "system_context.json:27: system_context.goals[0].metric: is made of the success criteria of TEC 1.0" in told
    assert "trained_model.json:2: trained_model.version: is TEC 1.0, read as 1.2" in told
    told = "\n".join(read_set(TEC / "1.2").note_lines())
    assert "data_pipeline.json:65: data_pipeline.input_spec[2].item_specification: min_value and max_value of 0" in told


def test_an_upgrade_takes_malformed_trees_as_they_are() -> None:
    for odd in (5, "x", [5], [{"expected_values": [1], "item_specification": 5}], {"a": 1}, None):
        for key in ("goals", "business_goals", "success_criteria", "business_metrics", "output_spec", "input_spec"):
            for kind in KINDS:
                tree = {"version": "1.0", key: odd}
                assert upgrade(kind, tree).original is tree
    assert upgrade("trained_model", {"version": 1.1}).version == "1.1"
    assert upgrade("trained_model", {}).version == "1.2"


@pytest.mark.parametrize("version", ["2.0", "1.3", 1, True, ["1.2"]])
def test_an_unknown_version_is_named_with_those_that_are_known(tmp_path: Path, version: object) -> None:
    (tmp_path / "trained_model.yaml").write_text(f"# a comment\nmodel_name: m\nversion: {json.dumps(version)}\n")
    with pytest.raises(
        DescriptorError, match=r"trained_model\.yaml:3: schema version .* is not known.*1\.0, 1\.1, 1\.2"
    ):
        read_set(tmp_path)
