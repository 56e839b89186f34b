"""What a set of descriptors knows of itself: identity, digest, validity, contradictions, and where a fact stands."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from models.descriptors.holder import Descriptors, Identity
from models.descriptors.paths import KINDS
from models.descriptors.problem import DescriptorProblem
from models.units import DAY_US
from streams.descriptor_files import load_reference, read_set, write_descriptors
from streams.errors import DescriptorError
from tests.coherent import Shape, coherent

ROOT = Path(__file__).parents[1]
EXAMPLES = (ROOT / "examples" / "loan", ROOT / "examples" / "digits" / "descriptors")


# -- a set ---------------------------------------------------------------------------------------------------------


def test_a_set_knows_who_it_is() -> None:
    found = Descriptors(coherent(Shape(version="2026-09")))
    assert found.identity("trained_model") == Identity("loan", "2026-09")
    assert found.identity("data_pipeline") == Identity("pipeline", "4")
    assert found.identity("production_data") == Identity("", "")
    assert found.of("raw_data")["dataset_identifier"] == "raw"
    assert Descriptors({}).of("raw_data") == {}
    assert Descriptors({"raw_data": {"bestbefore": {"descriptor_id": "r1"}}}).identity("raw_data") == Identity("", "")
    assert len({found.digest(), *(found.digest(kind) for kind in found)}) == 9
    assert Descriptors({}).digest("raw_data") == ""
    with pytest.raises(DescriptorProblem, match="'model' is no descriptor; the eight are system_context"):
        Descriptors({"model": {}})


def test_the_digest_of_a_set_is_that_of_its_reference() -> None:
    for folder in EXAMPLES:
        assert read_set(folder).digest() == load_reference(folder).digest


def test_validity_is_a_half_open_period() -> None:
    found = Descriptors(
        {"raw_data": {"bestbefore": {"valid_from": "1970-01-02", "valid_to": "1970-01-03"}}, "training_data": {}}
    )
    assert found.validity("raw_data") == (DAY_US, 2 * DAY_US)
    assert [found.valid_at(us) for us in (DAY_US - 1, DAY_US, 2 * DAY_US - 1, 2 * DAY_US)] == [False, True, True, False]
    assert found.invalid_at(0) == ["raw_data"]


@pytest.mark.parametrize(
    ("trees", "paths"),
    [
        (
            {"trained_model": {"digest": "sha256:" + "0" * 64, "signature": {"digest": "1" * 64}}},
            ["trained_model.bestbefore.digest", "trained_model.bestbefore.signature.digest"],
        ),
        (
            {
                "trained_model": {
                    "input": {"name": "x", "dtype": "float32"},
                    "signature": {"inputs": [{"name": "x", "dtype": "float64"}]},
                }
            },
            ["trained_model.bestbefore.input.dtype", "trained_model.bestbefore.signature.inputs[0].dtype"],
        ),
        (
            {"trained_model": {"inputs": [{"name": "x", "shape": [3, 8]}, {"name": "x", "shape": [8, 3]}]}},
            ["trained_model.bestbefore.inputs[0].shape", "trained_model.bestbefore.inputs[1].shape"],
        ),
        (
            {"production_environment": {"deployment_id": "eu"}, "production_data": {"deployment_id": "us"}},
            ["production_environment.bestbefore.deployment_id", "production_data.bestbefore.deployment_id"],
        ),
        (
            {"raw_data": {"valid_from": "2026-02-01", "valid_to": "2026-01-01"}},
            ["raw_data.bestbefore.valid_from", "raw_data.bestbefore.valid_to"],
        ),
    ],
)
def test_facts_that_cannot_both_be_true_are_named_with_both_places(
    tmp_path: Path, trees: dict[str, Any], paths: list[str]
) -> None:
    whole = {"trained_model": {"model_name": "m"}} | {kind: {"bestbefore": own} for kind, own in trees.items()}
    with pytest.raises(DescriptorProblem, match="keep the true one") as problem:
        Descriptors(whole)
    assert list(problem.value.paths) == paths
    for kind, tree in whole.items():
        (tmp_path / f"{kind}.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(DescriptorError, match=r"yaml:\d+ and .*yaml:\d+: .* says .*; keep the true one"):
        read_set(tmp_path)


def test_tensors_that_differ_in_open_axes_only_agree() -> None:
    own = {
        "input": {"name": "x", "shape": [1, 16, 16]},
        "signature": {"inputs": [{"name": "x", "shape": [-1, 1, "h", 16]}]},
    }
    assert Descriptors({"trained_model": {"bestbefore": own}}).notes == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"training_data.raw_data_identifier": "train"},
        {"raw_data.training_data_identifier": "train"},
        {"training_data.data_pipeline_identifier": "pipeline", "data_pipeline.training_data_identifier": "train"},
    ],
)
def test_identifiers_that_go_in_a_circle_are_named(changes: dict[str, str]) -> None:
    trees = coherent()
    for path, value in changes.items():
        kind, key = path.split(".")
        trees[kind][key] = value
    with pytest.raises(DescriptorProblem, match="identifiers go in a circle") as problem:
        Descriptors(trees)
    assert set(changes) <= set(problem.value.paths)


def test_one_name_for_two_data_sets_is_no_circle() -> None:
    trees = coherent()
    for kind in ("raw_data", "training_data"):
        trees[kind]["dataset_identifier"] = "loan"
    trees["training_data"]["raw_data_identifier"] = trees["trained_model"]["training_data_identifier"] = "loan"
    assert Descriptors(trees).notes == ()


# -- places --------------------------------------------------------------------------------------------------------


def test_every_fact_knows_its_line_in_yaml_and_json(tmp_path: Path) -> None:
    (tmp_path / "trained_model.yaml").write_text(
        "model_name: m\n\n# a comment\noutput_spec:\n- item_name: a\n  item_type: Float\n"
        "- {item_name: b,\n   item_type: Integer}\n"
    )
    (tmp_path / "raw_data.json").write_text(
        '{"schema": [\n {"field_name": "x"},\n\n {"field_name":\n "y"}],\n "a.b": {"c": 1}}'
    )
    found = read_set(tmp_path)
    for path, line in {
        "trained_model": 1, "trained_model.output_spec": 4, "trained_model.output_spec[0].item_type": 6,
        "trained_model.output_spec[1].item_type": 8, "trained_model.output_spec[1].gone": 7,
        "trained_model.output_spec[9].gone": 4, "trained_model.bestbefore.features[\"a.b\"].mean": 1,
    }.items():  # fmt: skip
        assert found.place(path) == f"trained_model.yaml:{line}", path
    for path, line in {
        "raw_data.schema[0].field_name": 2, "raw_data.schema[1].field_name": 4, 'raw_data["a.b"].c': 6,
        "raw_data.schema[2]": 1,
    }.items():  # fmt: skip
        assert found.place(path) == f"raw_data.json:{line}", path
    assert found.place("training_data.schema") == found.place("") == found.place("nonsense") == ""
    assert found.file("raw_data") == tmp_path / "raw_data.json"


@pytest.mark.parametrize("folder", EXAMPLES, ids=["loan", "digits"])
def test_the_examples_are_read_without_a_problem(folder: Path) -> None:
    found = read_set(folder)
    assert set(found) == set(KINDS)
    assert found.valid_at(0)
    for kind in KINDS:
        text = (folder / f"{kind}.yaml").read_text("utf-8")
        assert found.original[kind] == yaml.safe_load(text)


def test_a_descriptor_of_a_model_that_nobody_has_seen_is_no_error() -> None:
    assert Descriptors({"production_environment": {"bestbefore": {"traffic": {"never-deployed": 1.0}}}}).notes == ()


def test_other_files_in_the_folder_are_let_alone(tmp_path: Path) -> None:
    write_descriptors(tmp_path, coherent())
    (tmp_path / "compose.yaml").write_text("version: '3'\nservices: !reset {}\n")
    (tmp_path / "notes.json").write_text("not JSON")
    (tmp_path / "model.onnx").write_bytes(b"\x08")
    assert set(read_set(tmp_path)) == set(KINDS)
    (tmp_path / "second.json").write_text(json.dumps(coherent()["raw_data"]))
    with pytest.raises(DescriptorError, match=r"second\.json: raw_data is there twice, first in raw_data\.yaml"):
        read_set(tmp_path)


def test_endings_in_capitals_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "trained_model.YAML").write_text("model_name: m")
    (tmp_path / "raw_data.JSON").write_text('{"a": [1]}')
    assert read_set(tmp_path).trees == {"raw_data": {"a": [1]}, "trained_model": {"model_name": "m"}}


def test_only_the_eight_are_written(tmp_path: Path) -> None:
    with pytest.raises(DescriptorError, match=r"model\.yaml is no name of a descriptor"):
        write_descriptors(tmp_path, {"model": {}})
    with pytest.raises(DescriptorError, match=r"raw_data\.txt is no name of a descriptor"):
        write_descriptors(tmp_path, {"raw_data": {}}, ".txt")
