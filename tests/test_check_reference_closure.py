"""Each reference of a coherent set is changed, one at a time: exactly one finding each."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings

from models.checks.reference_closure import CHECK, design
from models.checks.verdict import Verdict
from models.checks.workplace import Workplace
from models.closure import Reference, closure
from models.descriptors.paths import value_at
from models.inspection import Inspection, TensorFact
from tests.coherent import Shape, Trees, coherent, coherent_sets

SETS = {
    "plain": coherent(Shape(outputs=2, goals=2, percentages=(20, 30, 50))),
    "post-processed": coherent(Shape(outputs=2, post_processing=True)),
    "one of each": coherent(Shape(features=Shape().features[:1])),
}


def told(trees: Trees, **more: Any) -> list[Verdict]:
    return list(design(Workplace(trees, **more)))


def wrong(trees: Trees, **more: Any) -> list[Verdict]:
    return [v for v in told(trees, **more) if v.verdict == "mismatch"]


def put(trees: Trees, path: str, value: Any) -> Trees:
    """A copy with another value at `path`."""
    changed = copy.deepcopy(trees)
    where, _, key = path.rpartition(".")
    value_at(changed, where)[key] = value
    return changed


def leaves(trees: Trees, path: str, key: str) -> Iterator[str]:
    yield from (f"{path}[{i}].{key}" for i in range(len(value_at(trees, path) or [])))


def references(trees: Trees) -> Iterator[str]:
    """Paths of everything that names something, and of everything that is named."""
    yield from (
        "trained_model.training_data_identifier", "trained_model.data_pipeline_identifier",
        "trained_model.model_version",
        "training_data.raw_data_identifier", "training_data.dataset_identifier", "raw_data.dataset_identifier",
        "data_pipeline.pipeline_identifier", "development_environment.upstream_components[0].component_name",
        "development_environment.downstream_components[0].component_name",
    )  # fmt: skip
    spec = "final_output_spec" if trees["trained_model"]["post_processing"] else "output_spec"
    for items in ("data_pipeline.input_spec", f"trained_model.{spec}"):
        yield from leaves(trees, items, "component_mapping.component")
        yield from leaves(trees, items, "component_mapping.data_item")
    for path, key in (
        ("system_context.goals", "id"), ("trained_model.algorithm_metrics", "goal_mapping"),
        ("training_data.schema", "field_name"), ("production_data.schema", "field_name"),
        ("training_data.distribution", "label"), ("training_data.distribution", "mapping_production_data"),
        ("production_data.distribution", "label"), ("training_data.statistics", "field"),
        ("production_data.statistics", "field"),
        ("development_environment.upstream_components[0].output_spec", "item_name"),
        ("development_environment.downstream_components[0].input_spec", "item_name"),
    ):  # fmt: skip
        yield from leaves(trees, path, key)
    yield from list(leaves(trees, "training_data.schema", "mapping_production_data"))[:-1]  # the last is the label's


CASES = [(name, path) for name, trees in SETS.items() for path in references(trees)]


@pytest.mark.parametrize(("name", "path"), CASES)
def test_one_changed_name_is_one_finding(name: str, path: str) -> None:
    trees = SETS[name]
    found = wrong(put(trees, path, "another"))
    named = {item["field"] for item in trees["training_data"]["statistics"]}
    # A field of training without statistics, such as the label, is named by nobody.
    free = (
        path.startswith("training_data.schema") and path.endswith("field_name") and value_at(trees, path) not in named
    )
    assert len(found) == (0 if free else 1), [v.message for v in found]
    assert all("another" in v.message or "training_data.schema" in v.message for v in found)


@given(coherent_sets())
@settings(max_examples=50, deadline=None)
def test_a_coherent_set_is_closed(trees: Trees) -> None:
    assert {v.verdict for v in told(trees)} == {"ok"}


@pytest.mark.parametrize("path", [path for name, path in CASES if name == "plain" and "mapping" in path])
def test_a_reference_taken_away_is_never_ok(path: str) -> None:
    before = {v.field for v in told(SETS["plain"]) if v.verdict == "ok"}
    after = told(put(SETS["plain"], path, ""))
    assert before - {v.field for v in after if v.verdict == "ok"}
    assert sum(v.verdict == "mismatch" for v in after) <= 1


def cut(path: str, index: int) -> Callable[[Trees], None]:
    def change(trees: Trees) -> None:
        del value_at(trees, path)[index]

    return change


@pytest.mark.parametrize(
    ("change", "alias"),
    [
        (cut("trained_model.algorithm_metrics", 1), "tec:1"),
        (cut("system_context.goals", 1), "tec:1"),
        (cut("trained_model.output_spec", 1), "tec:3C"),
        (cut("development_environment.downstream_components[0].input_spec", 1), "tec:3B"),
        (cut("data_pipeline.input_spec", 0), "tec:5C"),
        (cut("development_environment.upstream_components[0].output_spec", 0), "tec:5B"),
        (cut("training_data.schema", 0), "tec:14C"),
        (cut("production_data.schema", 0), "tec:14B"),
    ],
)
def test_what_is_gone_is_seen_from_the_side_that_is_left(change: Callable[[Trees], None], alias: str) -> None:
    trees = copy.deepcopy(SETS["plain"])
    change(trees)
    assert [v.aliases for v in wrong(trees) if v.aliases] == [(alias,)]
    assert alias in CHECK.aliases


def test_identifiers_in_a_circle_are_one_finding() -> None:
    same = put(put(SETS["plain"], "raw_data.dataset_identifier", "train"), "training_data.raw_data_identifier", "train")
    assert ["derived from itself" in v.message for v in wrong(same)] == [True]
    back = put(SETS["plain"], "raw_data.training_data_identifier", "train")
    (found,) = wrong(back)
    assert found.message.startswith("raw_data.training_data_identifier -> training_data.raw_data_identifier")


def test_labels_of_one_place_that_differ_from_the_two_others() -> None:
    trees = copy.deepcopy(SETS["plain"])
    trees["training_data"]["bestbefore"]["classes"] = {"0": 0.2, "1": 0.3, "two": 0.5}
    (found,) = wrong(trees)
    assert found.message.endswith("it has two; it lacks 2")
    trees = copy.deepcopy(SETS["plain"])
    trees["training_data"]["bestbefore"]["confusion"]["0"]["nine"] = 3
    (found,) = wrong(trees)
    assert "nine" in found.message


def test_tensors_are_looked_up_in_the_file_or_else_in_the_signature() -> None:
    trees = copy.deepcopy(SETS["plain"])
    own = trees["trained_model"]["bestbefore"]
    own["outputs"] = {"scores": "probabilities"}
    own["signature"] = {"outputs": [{"name": "scores"}]}
    assert "probabilities" in wrong(trees)[0].message
    file = Inspection(inputs=(TensorFact("x", "float32"),), outputs=(TensorFact("probabilities", "float32"),))
    assert wrong(trees, inspection=file) == []
    own["metric_polarity"] = {"Accurcy": "higher"}
    assert "accurcy" in wrong(trees, inspection=file)[0].message


def test_references_into_a_renamed_component_are_one_fact() -> None:
    refs = [Reference("a", ("form", "x")), Reference("b", ("form", "y"))]
    found = closure(refs, [("sheet", "x"), ("sheet", "y"), ("sheet", "z")])
    assert (len(found.dangling), found.unused, found.held) == (1, (("sheet", "z"),), ())
    assert found.dangling[0].meant == (("sheet", "x"), ("sheet", "y"))


def test_nothing_declared_is_unknown_and_names_what_is_absent() -> None:
    found = told({})
    assert {v.verdict for v in found} == {"unknown"}
    assert any("trained_model.training_data_identifier" in v.reason for v in found)
