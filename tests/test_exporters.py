"""Exporters: the forms of others, held against what their standards require, and read back where we read them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.descriptors.text import parse, yaml_text
from models.domains import domains
from models.exporters.cyclonedx import cyclonedx
from models.exporters.odcs import odcs
from models.exporters.tec import tec
from models.importers import read
from streams.descriptor_files import read_descriptors

DIGITS = Path(__file__).parents[1] / "examples" / "digits" / "descriptors"
CONTRACT = Path(__file__).parent / "data" / "artefacts" / "contract.odcs.yaml"

# From the JSON schema of ODCS 3.1.0: keys of a contract and of a property, logical types, what options they may have.
CONTRACT_KEYS = {"version", "kind", "apiVersion", "id", "name", "status", "dataProduct", "description", "schema",
                 "slaProperties"}  # fmt: skip
PROPERTY_KEYS = {"name", "description", "logicalType", "logicalTypeOptions", "required", "quality", "customProperties"}
NUMERIC = {"minimum", "maximum"}
OPTIONS = {"number": NUMERIC, "integer": NUMERIC, "string": {"minLength", "maxLength", "pattern"}}
DIMENSIONS = {"accuracy", "completeness", "conformity", "consistency", "coverage", "timeliness", "uniqueness"}
METRICS = {"nullValues", "missingValues", "invalidValues", "duplicateValues", "rowCount"}

# From the JSON schema of CycloneDX 1.7: keys of the parts that are written here.
COMPONENT_KEYS = {"type", "bom-ref", "name", "version", "description", "hashes", "modelCard", "properties"}
CARD_KEYS = {
    "modelParameters": {"task", "architectureFamily", "datasets", "inputs", "outputs"},
    "quantitativeAnalysis": {"performanceMetrics"},
    "considerations": {"useCases", "technicalLimitations"},
}


@pytest.fixture(name="digits")
def digits_fixture() -> dict[str, Any]:
    return read_descriptors(DIGITS)


def check_contract(contract: dict[str, Any]) -> None:
    assert {"version", "apiVersion", "kind", "id", "status"} <= set(contract) <= CONTRACT_KEYS
    assert (contract["kind"], contract["apiVersion"]) == ("DataContract", "v3.1.0")
    for table in contract.get("schema", []):
        assert table["name"]
        for one in table["properties"]:
            check_property(one)
    for level in contract.get("slaProperties", []):
        assert {"property", "value"} <= set(level) <= {"property", "value", "unit", "driver", "description"}


def check_property(one: dict[str, Any]) -> None:
    assert {"name"} <= set(one) <= PROPERTY_KEYS
    logical = one.get("logicalType", "")
    assert logical in ("", *OPTIONS)
    assert set(one.get("logicalTypeOptions", {})) <= OPTIONS.get(logical, set())
    for rule in one.get("quality", []):
        assert rule["type"] == "library"
        assert (rule["metric"] in METRICS, rule["dimension"] in DIMENSIONS) == (True, True)
        assert len([key for key in rule if key.startswith("must")]) == 1


def test_tec_has_what_tec_has(digits: dict[str, Any]) -> None:
    before = json.dumps(digits)
    plain = tec(digits)
    assert set(plain) == set(digits)
    for kind, tree in plain.items():
        assert (tree["version"], "bestbefore" in tree) == ("1.2", False)
        assert tree == {key: value for key, value in digits[kind].items() if key != "bestbefore"}
    assert tec(digits, extended=True) == digits
    assert json.dumps(digits) == before
    plain["trained_model"]["ml_frameworks"].append("changed")
    assert json.dumps(digits) == before
    with pytest.raises(ValueError, match="'model_card' is no kind of descriptor"):
        tec({"model_card": {}})


def test_contract_of_the_example_is_a_contract_and_reads_back(digits: dict[str, Any]) -> None:
    digits["production_data"]["bestbefore"]["rate"] = {"mean": 120, "p99": 400, "unit": "1/minute"}
    contract = odcs(digits)
    check_contract(contract)
    assert [one["name"] for one in contract["schema"][0]["properties"]] == [
        "brightness", "contrast", "ink", "centre_y", "centre_x",
    ]  # fmt: skip
    back = read("contract.yaml", yaml_text(contract).encode())
    assert back.notes == []
    assert back.trees["production_data"]["schema"] == digits["production_data"]["schema"]
    assert back.trees["production_data"]["bestbefore"]["rate"] == {"mean": 120, "unit": "1/minute"}
    due = digits["production_environment"]["required_inference_time"]
    assert back.trees["production_environment"]["required_inference_time"] == due


def test_contract_that_was_imported_is_exported_with_the_same_facts() -> None:
    trees = read("contract.yaml", CONTRACT.read_bytes()).trees
    contract = odcs(trees)
    check_contract(contract)
    properties = {one["name"]: one for one in contract["schema"][0]["properties"]}
    assert properties["income"]["required"] is True
    assert properties["age"]["logicalTypeOptions"] == {"minimum": 18, "maximum": 120}
    assert properties["postcode"]["logicalTypeOptions"] == {"minLength": 4, "maxLength": 10, "pattern": "^[0-9A-Z ]+$"}
    back = read("contract.json", json.dumps(contract).encode())
    assert back.notes == []
    for one in trees["production_data"]["schema"]:  # ODCS has no type for what is none of TEC's either
        if one["field_type"] == "Other":
            del one["field_type"]
    assert back.trees["production_data"]["schema"] == trees["production_data"]["schema"]
    assert back.trees["production_data"]["data_sources"] == trees["production_data"]["data_sources"]
    due = trees["production_environment"]["required_inference_time"]
    assert back.trees["production_environment"]["required_inference_time"] == due
    assert back.trees["production_environment"]["bestbefore"] == trees["production_environment"]["bestbefore"]


def test_units_of_the_training_data_go_into_the_contract() -> None:
    field = {"field_name": "t", "field_type": "Float"}
    own = {"features": {"t": {"unit": "degC"}}}
    contract = odcs({"production_data": {"schema": [field]}, "training_data": {"bestbefore": own}})
    assert contract["schema"][0]["properties"][0]["customProperties"] == [{"property": "unit", "value": "degC"}]


def test_nothing_known_gives_an_empty_contract() -> None:
    contract = odcs({})
    check_contract(contract)
    assert "schema" not in contract
    assert "slaProperties" not in contract


def test_bill_of_materials_of_the_example(digits: dict[str, Any]) -> None:
    bill = cyclonedx(digits)
    check_bill(bill)
    model = bill["components"][0]
    assert (model["name"], model["version"], model["bom-ref"]) == ("digits", "1", "digits@1")
    digest = digits["trained_model"]["bestbefore"]["digest"]
    assert model["hashes"] == [{"alg": "SHA-256", "content": digest.removeprefix("sha256:")}]
    metrics = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    stated = digits["trained_model"]
    assert metrics == [
        {"type": row["metric"], "value": str(row["result"]), "slice": part}
        for key, part in (("evaluation_metrics", "evaluation"), ("test_metrics", "test"))
        for row in stated[key]
    ]
    assert model["modelCard"]["modelParameters"]["task"] == "Classification"
    assert bill == cyclonedx(digits)
    changed = {**digits, "trained_model": {**stated, "model_version": "2"}}
    assert cyclonedx(changed)["serialNumber"] != bill["serialNumber"]


def check_bill(bill: dict[str, Any]) -> None:
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.7", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}", bill["serialNumber"])
    assert set(bill) <= {"bomFormat", "specVersion", "serialNumber", "version", "components", "dependencies"}
    models = [one for one in bill["components"] if one["type"] == "machine-learning-model"]
    assert len(models) == 1
    assert all(one["type"] == "framework" and one["name"] for one in bill["components"] if one not in models)
    (model,) = models
    assert {"type", "name"} <= set(model) <= COMPONENT_KEYS
    for key, part in model.get("modelCard", {}).items():
        assert set(part) <= CARD_KEYS[key]
    card = model.get("modelCard", {})
    for row in card.get("quantitativeAnalysis", {}).get("performanceMetrics", []):
        assert all(isinstance(value, str) for value in row.values())
        assert set(row) <= {"type", "value", "slice"}
    parameters = card.get("modelParameters", {})
    assert all(set(one) == {"format"} for side in ("inputs", "outputs") for one in parameters.get(side, []))
    assert all({"type", "name"} <= set(one) and one["type"] == "dataset" for one in parameters.get("datasets", []))
    assert all(isinstance(one["value"], str) for one in model.get("properties", []))
    references = [one["bom-ref"] for one in bill["components"]]
    assert len(set(references)) == len(references)
    for row in bill.get("dependencies", []):
        assert {row["ref"], *row["dependsOn"]} <= set(references)


def test_a_bill_of_materials_needs_the_name_of_the_model() -> None:
    with pytest.raises(ValueError, match=r"trained_model\.model_name is missing"):
        cyclonedx({"trained_model": {"model_version": "1"}})
    check_bill(cyclonedx({"trained_model": {"model_name": "m", "bestbefore": {"digest": "md5:0"}}}))


NAMES = st.text(st.characters(categories=["L", "N"], include_characters="_"), min_size=1, max_size=10)
BOUNDS = st.tuples(st.integers(-1000, 1000), st.integers(0, 1000)).map(lambda pair: f"{pair[0]}..{pair[0] + pair[1]}")
HALVES = st.floats(-1e6, 1e6).map(lambda low: f"{low!r}..inf")
SETS = st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=4, unique=True).map(",".join)
LENGTHS = st.integers(0, 20).map(lambda low: f"{low}..{low + 5} characters")
FIELDS = st.one_of(
    st.tuples(st.sampled_from(["Float", "Integer"]), BOUNDS),
    st.tuples(st.just("Float"), HALVES),
    st.tuples(st.just("String"), SETS | LENGTHS),
    st.tuples(st.sampled_from(["Float", "Integer", "String", "Other"]), st.just("")),
)
MISSING = st.sampled_from(["", "none", "at most 2%", "at most 2.5%"])


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(NAMES, st.tuples(FIELDS, MISSING), min_size=1, max_size=5))
def test_schema_facts_survive_the_way_there_and_back(fields: dict[str, tuple[tuple[str, str], str]]) -> None:
    schema = [
        {"field_name": name, "field_type": kind, "expected_values": allowed, "missing_values": missing}
        for name, ((kind, allowed), missing) in fields.items()
    ]
    contract = odcs({"production_data": {"schema": schema}})
    check_contract(contract)
    assert parse(yaml_text(contract).encode()).tree == contract
    back = read("contract.yaml", yaml_text(contract).encode()).trees
    said = {one["field_name"]: one for one in back["production_data"]["schema"]}
    for one in schema:
        assert said[one["field_name"]].get("missing_values", "") == one["missing_values"]
        assert said[one["field_name"]].get("field_type", "Other") == one["field_type"]
    assert facts(back) == facts({"production_data": {"schema": schema}})


def facts(trees: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Bounds and sets by field, as the checks read them."""
    return {name: (one.low, one.high, one.allowed) for name, one in domains(trees).items()}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1e300, 1e300) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 1_000_000), JSON)
def test_descriptors_with_any_value_anywhere_are_exported(place: int, value: Any) -> None:
    trees = read_descriptors(DIGITS)
    del trees["trained_model"]["bestbefore"]["golden_records"]  # hundreds of numbers that nothing exports
    spots = [(holder, key) for holder, key in spots_of(trees) if holder is not trees and key != "model_name"]
    holder, key = spots[place % len(spots)]
    holder[key] = value
    for exported in (odcs(trees), cyclonedx(trees), tec(trees)):
        json.dumps(exported, allow_nan=False)
    check_contract(odcs(trees))
    check_bill(cyclonedx(trees))


def spots_of(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every list or object below `tree` with each of its keys."""
    for key, value in list(tree.items() if isinstance(tree, dict) else enumerate(tree)):
        yield tree, key
        if isinstance(value, dict | list):
            yield from spots_of(value)
