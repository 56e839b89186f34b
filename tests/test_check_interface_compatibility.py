"""Which types, shapes, ranges and units fit which; and one changed fact of a coherent set is one finding."""

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.checks.interface_compatibility import design
from models.checks.verdict import Verdict
from models.checks.workplace import Workplace
from models.descriptors.paths import value_at
from models.inspection import Inspection, TensorFact
from models.interfaces import fits, same_unit, spec_of
from models.shapes import unify
from models.types_lattice import limits, type_fits, type_of
from tests.coherent import Shape, Trees, coherent, coherent_sets

TYPES = [
    ("int64", "int32", "mismatch"), ("int32", "int64", "ok"), ("float32", "float64", "ok"),
    ("float64", "float32", "mismatch"), ("int32", "float64", "ok"), ("int64", "float32", "mismatch"),
    ("int64", "float64", "mismatch"), ("int32", "float32", "mismatch"), ("int16", "float32", "ok"),
    ("int8", "float16", "ok"), ("int16", "float16", "mismatch"), ("uint8", "int16", "ok"),
    ("uint8", "int8", "mismatch"), ("int8", "uint8", "mismatch"), ("uint32", "int64", "ok"),
    ("uint64", "int64", "mismatch"), ("bool", "int8", "ok"), ("bool", "float32", "ok"), ("int8", "bool", "mismatch"),
    ("bool", "BOOL", "ok"), ("bool", "string", "mismatch"), ("float16", "bfloat16", "mismatch"),
    ("bfloat16", "float16", "mismatch"), ("bfloat16", "float32", "ok"), ("float32", "int64", "mismatch"),
    ("FP32", "float32", "ok"), ("tensor(float)", "FP32", "ok"), ("tensor(double)", "FP32", "mismatch"),
    ("tensor(int64)", "INT64", "ok"), ("BYTES", "tensor(string)", "ok"), ("Integer", "Float", "ok"),
    ("Float", "Integer", "mismatch"), ("Integer", "int64", "unknown"), ("int64", "Integer", "ok"),
    ("Float", "float64", "ok"), ("Float", "float32", "unknown"), ("float64", "Float", "ok"),
    ("double", "float64", "ok"),
    ("String", "Text", "ok"), ("Character", "String", "ok"), ("String", "Character", "mismatch"),
    ("String", "Integer", "mismatch"), ("Image", "Float", "mismatch"), ("Image", "Image", "ok"),
    ("Integer", "String", "mismatch"), ("Other", "Other", "ok"), ("Other", "Float", "unknown"),
    ("", "Float", "unknown"),
    ("Date", "timestamp", "ok"), ("datetime", "Date", "mismatch"),
]  # fmt: skip
RANGES = [
    ("Float", "0..5", "0..10", "ok"), ("Float", "0..10", "0..10", "ok"), ("Float", "0..11", "0..10", "mismatch"),
    ("Float", "-1..5", "0..10", "mismatch"), ("Float", "", "0..10", "unknown"), ("Float", "0..10", "", "ok"),
    ("Float", "0..inf", "0..10", "mismatch"), ("Float", "-5..5", "-inf..5", "ok"), ("Integer", "0,1", "0,1", "ok"),
    ("Integer", "0..1", "0,1", "ok"), ("Integer", "0..2", "0,1", "mismatch"), ("Integer", "0,1", "0..1", "ok"),
    ("Integer", "0,7", "0..1", "mismatch"), ("Float", "0..1", "0,1", "mismatch"), ("String", "N,S", "N,S,E,W", "ok"),
    ("String", "N,S,X", "N,S,E,W", "mismatch"), ("String", "", "N,S", "unknown"), ("Integer", "1,2", "1.0,2.0", "ok"),
    ("Float", "0..5 m", "0..10 metre", "ok"), ("Float", "0..5 ft", "0..10 m", "mismatch"),
    ("Float", "0..5", "0..10 m", "unknown"), ("Float", "0..50 degC", "0..500 kelvin", "mismatch"),
    ("Float", "0..5 EUR", "0..10 EUR", "ok"), ("Float", "0..5 USD", "0..10 EUR", "mismatch"),
]  # fmt: skip
SHAPES = [
    ([-1, 3, 224, 224], ["n", 3, 224, 224], "ok"), (["n", 224, 224, 3], ["n", 3, 224, 224], "mismatch"),
    ([1, 16], [16], "mismatch"), ([8, 16], [8, 16], "ok"), ([8, 16], [8, 17], "mismatch"), ([], [], "ok"),
    (["n", "n"], [3, 4], "mismatch"), (["n", "m"], [3, 4], "ok"), (["n", "n"], ["k", 4], "ok"),
    ([None, "?", 5], [7, 8, 5], "ok"), (["n", "n", 3], ["k", 4, "k"], "mismatch"), ([0], [-1], "ok"),
]  # fmt: skip


def item(kind: str, expected: str = "", **more: Any) -> dict[str, Any]:
    return {"item_type": kind, "expected_values": expected, **more}


def outcome(one: dict[str, Any], other: dict[str, Any]) -> str:
    return fits(spec_of("given", one), spec_of("taken", other)).outcome


def test_the_table_is_large_enough() -> None:
    assert len(TYPES) + len(RANGES) + len(SHAPES) >= 60


@pytest.mark.parametrize(("given_type", "taken", "expected"), TYPES)
def test_types(given_type: str, taken: str, expected: str) -> None:
    assert outcome(item(given_type), item(taken)) == expected


@pytest.mark.parametrize(("kind", "given_values", "taken", "expected"), RANGES)
def test_ranges_sets_and_units(kind: str, given_values: str, taken: str, expected: str) -> None:
    assert outcome(item(kind, given_values), item(kind, taken)) == expected


@pytest.mark.parametrize(("one", "other", "expected"), SHAPES)
def test_shapes(one: list[Any], other: list[Any], expected: str) -> None:
    assert unify(one, other).outcome == unify(other, one).outcome == expected


def test_a_range_tells_whether_an_integer_without_width_fits() -> None:
    assert outcome(item("Integer", "0..255"), item("uint8")) == "ok"
    assert outcome(item("Integer", "0..256"), item("uint8")) == "mismatch"
    assert outcome(item("String", "N,S"), item("Character")) == "ok"


@pytest.mark.parametrize(
    ("short", "long", "expected"), [(1, 8, "ok"), (0, 8, "mismatch"), (1, 9, "mismatch"), (None, None, "unknown")]
)
def test_lengths_of_texts(short: int | None, long: int | None, expected: str) -> None:
    taken = {"item_type": "String", "item_specification": {"min_length": 1, "max_length": 8}}
    spec = {key: value for key, value in (("min_length", short), ("max_length", long)) if value is not None}
    assert outcome({"item_type": "Text", "item_specification": spec}, taken) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [({}, "ok"), ({"resolution_x": 640}, "mismatch"), ({"channels": 1}, "mismatch"),
     ({"image_format": "PNG"}, "mismatch"),
     ({"image_format": "jpeg"}, "ok"), ({"channels": None}, "unknown")],
)  # fmt: skip
def test_images(change: dict[str, Any], expected: str) -> None:
    spec = {"resolution_x": 320, "resolution_y": 240, "channels": 3, "image_format": "JPG"}
    one, other = ({"item_type": "Image", "item_specification": inner} for inner in (spec | change, spec))
    assert outcome(one, other) == expected


def test_a_unit_that_the_pipeline_converts_is_compared_after_that() -> None:
    taken = item("Float", "0..10", unit="m", converted_from="ft")
    assert outcome(item("Float", "0..32", unit="ft"), taken) == "ok"
    assert outcome(item("Float", "0..34", unit="ft"), taken) == "mismatch"
    assert outcome(item("Float", "0..1", unit="s"), taken) == "mismatch"
    assert same_unit("ms", "Milliseconds")
    assert not same_unit("mW", "MW")


named = st.sampled_from(sorted({name for row in TYPES for name in row[:2] if name}))


@given(named, named)
def test_types_that_fit_each_other_are_the_same_or_of_one_family(one: str, other: str) -> None:
    a, b = type_of(one), type_of(other)
    assert a is not None
    assert b is not None
    if type_fits(a, b).outcome == type_fits(b, a).outcome == "ok":
        assert a.family == b.family
        assert not (a.bits and b.bits) or a.name == b.name
    if limits(a) and limits(b) and a.family == b.family == "integer":
        assert "mismatch" in (type_fits(a, b).outcome, type_fits(b, a).outcome) or a.name == b.name or a.bits != b.bits


axes = st.lists(st.one_of(st.integers(-1, 4), st.sampled_from(["n", "m", "?"])), max_size=4)


@given(axes, axes)
def test_unification_is_symmetric_and_every_shape_is_its_own(one: list[Any], other: list[Any]) -> None:
    assert unify(one, other).outcome == unify(other, one).outcome
    assert unify(one, one).outcome == "ok"


ranges = st.tuples(st.integers(-50, 50), st.integers(0, 50)).map(lambda r: f"{r[0]}..{r[0] + r[1]}")


@given(ranges, ranges)
def test_ranges_that_fit_each_other_are_equal(one: str, other: str) -> None:
    both = (
        outcome(item("Float", one), item("Float", other)) == outcome(item("Float", other), item("Float", one)) == "ok"
    )
    assert both == (one == other)


def told(trees: Trees, **more: Any) -> list[Verdict]:
    return list(design(Workplace(trees, **more)))


def wrong(trees: Trees, **more: Any) -> list[Verdict]:
    return [v for v in told(trees, **more) if v.verdict == "mismatch"]


@given(coherent_sets())
@settings(max_examples=50, deadline=None)
def test_a_coherent_set_fits(trees: Trees) -> None:
    assert {v.verdict for v in told(trees)} == {"ok"}


UPSTREAM = "development_environment.upstream_components[0].output_spec[0]"


@pytest.mark.parametrize(
    ("path", "value", "alias"),
    [
        (f"{UPSTREAM}.item_type", "String", "tec:5A"),
        (f"{UPSTREAM}.expected_values", "0..2000", "tec:5A"),
        ("data_pipeline.input_spec[0].item_type", "Image", "tec:5A"),
        ("data_pipeline.input_spec[0].item_specification.max_value", 10, "tec:5A"),
        ("trained_model.output_spec[0].item_type", "Float", "tec:3A"),
        ("trained_model.output_spec[0].item_specification.max_value", 7, "tec:3A"),
        ("development_environment.downstream_components[0].input_spec[0].expected_values", "0,2", "tec:3A"),
        ("production_data.schema[0].field_type", "String", "tec:14A"),
        ("production_data.schema[0].expected_values", "-5..1000", "tec:14A"),
        ("training_data.schema[0].field_type", "String", "tec:14A"),
        ("training_data.schema[0].expected_values", "0..10", "tec:14A"),
        ("training_data.schema[2].expected_values", "N,S,E", "tec:14A"),
        ("raw_data.schema[0].field_type", "String", None),
        ("raw_data.schema[0].expected_values", "0..5000", None),
    ],
)
def test_one_changed_fact_is_one_finding(path: str, value: Any, alias: str | None) -> None:
    trees = copy.deepcopy(coherent())
    where, _, key = path.rpartition(".")
    value_at(trees, where)[key] = value
    assert [v.aliases for v in wrong(trees)] == [(alias,) if alias else ()]


def test_after_post_processing_the_final_outputs_count() -> None:
    trees = coherent(Shape(post_processing=True))
    trees["trained_model"]["final_output_spec"][0]["item_type"] = "String"
    trees["trained_model"]["output_spec"][0]["item_type"] = "Image"
    assert [v.aliases for v in wrong(trees)] == [("tec:4A",)]


def test_raw_data_that_are_prepared_may_differ() -> None:
    trees = coherent()
    trees["raw_data"]["schema"][0]["field_type"] = "String"
    trees["training_data"]["preparation_process"] = [{"data_processing_step": "parse", "data_processing_detail": ""}]
    assert wrong(trees) == []
    assert any("preparation_process" in v.reason for v in told(trees) if v.verdict == "unknown")


def test_a_reference_that_leads_nowhere_is_unknown_here() -> None:
    trees = coherent()
    trees["data_pipeline"]["input_spec"][0]["component_mapping"]["data_item"] = "lost"
    assert wrong(trees) == []
    assert any("component_mapping leads to nothing" in v.reason for v in told(trees))


FILE = Inspection(
    inputs=(TensorFact("image", "float32", ("n", 3, 240, 320)),), outputs=(TensorFact("scores", "float32", ("n", 10)),)
)


def vision(**own: Any) -> Trees:
    image = {"resolution_x": 320, "resolution_y": 240, "channels": 3}
    return {
        "trained_model": {"bestbefore": own},
        "data_pipeline": {"input_spec": [{"item_name": "image", "item_type": "Image", "item_specification": image}]},
    }


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        ({}, 0),
        ({"shape": [-1, 3, 240, 320]}, 0),
        ({"shape": [-1, 240, 320, 3]}, 1),
        ({"dtype": "float64"}, 1),
        ({"dtype": "FP32"}, 0),
        ({"name": "picture"}, 1),
        ({"shape": [3, 240]}, 1),
        ({"name": None}, 0),
    ],
)
def test_declared_tensors_beside_those_of_the_file(tensor: dict[str, Any], expected: int) -> None:
    whole = {"name": "image", "shape": [3, 240, 320], "dtype": "float32"} | tensor
    trees = vision(input=whole, signature={"inputs": [whole] if whole["name"] else []})
    assert len(wrong(trees, inspection=FILE)) == expected
    assert [v.reason for v in told(trees) if v.field == "model file"] == ["the model file was not inspected"]


def test_the_image_of_the_pipeline_beside_the_input_of_the_model() -> None:
    trees = vision(input={"name": "image", "shape": [3, 240, 320], "dtype": "float32"})
    assert wrong(trees) == wrong(trees, inspection=FILE) == []
    trees["data_pipeline"]["input_spec"][0]["item_specification"]["channels"] = 1
    assert ["the model takes" in v.message for v in wrong(trees)] == [True]
    trees["data_pipeline"]["bestbefore"] = {"preprocessing": {"resize": [224, 224]}}
    assert ["224 x 224" in v.message for v in wrong(trees)] == [True]


def test_nothing_declared_is_unknown() -> None:
    assert {v.verdict for v in told({})} == {"unknown"}
