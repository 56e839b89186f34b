"""Delete each field and the check that needs it goes unknown; dates that cannot be, and models that are too old."""

import copy
import importlib
import importlib.util
from typing import Any

import numpy as np
import pytest

from models.checks.check import Check
from models.checks.completeness_and_staleness import CHECK, NEEDS, completeness
from models.checks.observed import Observed
from models.checks.required_attributes import REQUIRED
from models.checks.verdict import Verdict
from models.checks.workplace import Workplace
from models.descriptors.fields import instant_us
from models.descriptors.paths import KINDS, value_at
from models.evidence import Evidence
from models.profile import WEIGHT, Profile
from models.reference import compile_reference
from tests.coherent import Shape, Trees, coherent
from tests.observing import START, by_field, declared, observed, profile_of, small_reference

NOW = instant_us("2026-11-20")
SHAPE = Shape()
N = 1000
PATHS = sorted({path for paths, _ in NEEDS for path in paths})


def without(trees: Trees, *paths: str) -> Trees:
    left = copy.deepcopy(trees)
    for path in paths:
        parent, _, key = path.rpartition(".")
        holder = value_at(left, parent)
        if holder is not None:
            holder.pop(key, None)
    return left


def designed(trees: Trees, now_us: int | None = NOW) -> dict[str, Verdict]:
    return by_field(CHECK.design(Workplace(trees, now_us)))  # type: ignore[misc]


def wrong(found: dict[str, Verdict]) -> list[str]:
    return [name for name, v in found.items() if v.verdict == "mismatch"]


def window(trees: Trees) -> Observed:
    rng = np.random.default_rng(1)
    reference = compile_reference(trees)
    p = rng.choice([0.05, 0.95], N, p=[0.2, 0.8]).astype(np.float32)
    profile = profile_of(
        reference,
        numeric={"f0": rng.uniform(0, 1000, N), "f1": rng.integers(1, 100, N).astype(np.float64)},
        categorical={"f2": rng.choice(["N", "S", "E", "W"], N, p=[0.4, 0.3, 0.2, 0.1]).tolist()},
        scores=np.stack([1 - p, p], axis=1), label=[str(int(v > 0.5)) for v in p], latency_ms=np.full(N, 10.0),
    )  # fmt: skip
    ring = [Evidence(START, audits=200, audits_correct=180, audit_weight=200 * WEIGHT, audit_correct=180 * WEIGHT)]
    ring[0].add(profile)
    return observed(profile, reference, estimate=ring[0].label_free(reference), ring=ring)


def check_at_hand(name: str) -> Check | None:
    module = f"models.checks.{name.replace('-', '_')}"
    return importlib.import_module(module).CHECK if importlib.util.find_spec(module) else None


def told(check: Check, trees: Trees) -> list[Verdict]:
    seen = window(trees)
    return [
        *(check.design(Workplace(trees, NOW)) if check.design else ()),
        *(check.live(seen) if check.live else ()),
        *(check.fleet(seen) if check.fleet else ()),
    ]


def unknowns(check: Check, trees: Trees) -> set[tuple[str, str]]:
    return {(v.field, v.reason) for v in told(check, trees) if v.verdict == "unknown"}


@pytest.mark.parametrize(("paths", "checks"), NEEDS, ids=[" or ".join(paths) for paths, _ in NEEDS])
def test_without_a_field_the_check_that_needs_it_is_unknown(paths: tuple[str, ...], checks: tuple[str, ...]) -> None:
    whole = coherent(SHAPE)
    less = without(whole, *paths)
    found = designed(less)[" or ".join(paths)]
    assert found.verdict == "unknown"
    assert found.severity == "info"
    assert all(word in found.reason for word in (*paths, *checks))
    for check in filter(None, map(check_at_hand, checks)):
        verdicts = told(check, less)
        assert not [v for v in verdicts if v.verdict == "ok" and v.left and v.left.path.startswith(paths)], check.id
        missing = unknowns(check, less)
        assert missing, check.id
        if any(value_at(whole, path) for path in paths):
            assert missing - unknowns(check, whole), check.id


def test_each_alternative_is_enough() -> None:
    trees = coherent()
    trees["production_environment"]["bestbefore"]["latency"] = {"percentile": 99, "value": 50, "unit": "ms"}
    trees["production_environment"].pop("required_inference_time")
    assert [v.verdict for name, v in designed(trees).items() if "required_inference_time" in name] == ["ok"]


def test_a_fact_of_the_wrong_type_is_no_fact() -> None:
    trees = coherent()
    trees["production_environment"]["computing_resources"] = 5
    found = designed(trees)["production_environment.computing_resources"]
    assert (found.verdict, found.severity) == ("unknown", "info")
    assert "cannot be read; needed by capacity-and-deadline" in found.reason


def test_every_needed_field_and_check_has_its_name() -> None:
    from models.checks.catalogue import BY_ID  # noqa: PLC0415 -- it imports every check

    assert all(path.split(".")[0] in KINDS for path in PATHS)
    assert all(check for _, checks in NEEDS for check in checks)
    assert {"quality-and-time-to-threshold", "covariate-drift"} <= {
        c for _, checks in NEEDS for c in checks
    } & BY_ID.keys()


# -- the completeness report -------------------------------------------------------------------------------------


def test_nothing_at_all_lacks_everything() -> None:
    found = completeness({})
    assert len(found) == sum("[]" not in field for fields in REQUIRED.values() for field in fields)
    assert {one.descriptor for one in found} == set(KINDS)
    assert all(one.rationale for one in found)


def test_a_whole_set_lacks_little_and_each_deleted_attribute_is_named() -> None:
    trees = coherent()
    known = completeness(trees)
    assert {f"{m.descriptor}.{m.field}" for m in known} == {
        "raw_data.metadata.known_issues", "trained_model.evaluation_dataset", "trained_model.test_dataset",
        "trained_model.integration_test_dataset",
    }  # fmt: skip
    for kind, fields in REQUIRED.items():
        for field in fields:
            path, _, inner = field.partition("[].")
            less = copy.deepcopy(trees)
            if inner:
                items = value_at(less, f"{kind}.{path}")
                items[0].pop(inner, None)
                expected = f"{field} (1 of {len(items)})"
            else:
                less, expected = without(less, f"{kind}.{path}"), field
            assert expected in {m.field for m in completeness(less) if m.descriptor == kind}, f"{kind}.{field}"


def test_an_empty_list_says_that_there_is_nothing_and_an_empty_text_says_nothing() -> None:
    trees = coherent()
    trees["trained_model"] |= {"business_metrics": [], "model_description": " "}
    added = {m.field for m in completeness(trees)} - {m.field for m in completeness(coherent())}
    assert added == {"model_description"}


def test_a_missing_attribute_names_the_checks_that_need_it() -> None:
    (found,) = [
        m for m in completeness(without(coherent(), "trained_model.ml_frameworks")) if m.field == "ml_frameworks"
    ]
    assert found.needed_by == ("runtime-fingerprint",)


# -- dates -------------------------------------------------------------------------------------------------------


def dated(**facts: Any) -> Trees:
    trees = coherent()
    for path, value in facts.items():
        kind, key = path.split("__")
        if kind == "raw_data":
            trees[kind]["metadata"][key] = value
        elif key == "training_date":
            trees[kind][key] = value
        else:
            trees[kind].setdefault("bestbefore", {})[key] = value
    return trees


@pytest.mark.parametrize(
    ("facts", "fields"),
    [
        ({}, []),
        ({"trained_model__training_date": "2027-01-01"}, ["training_date"]),
        ({"trained_model__training_date": "2025-06-01"}, ["collection"]),
        ({"raw_data__collection_date": "2026-09-10"}, ["collection"]),
        ({"raw_data__timeframe": "2024 to 2027"}, ["collection"]),
        ({"raw_data__timeframe": "2024-01-01 .. 2026-08-31"}, []),
        ({"raw_data__timeframe": "before 1998"}, []),
        ({"trained_model__max_age": "60 days"}, ["age"]),
        ({"trained_model__max_age": "90 days"}, []),
        ({"trained_model__valid_to": "2026-11-01"}, ["trained_model period"]),
        ({"data_pipeline__valid_from": "2026-12-01T00:00:00Z"}, ["data_pipeline period"]),
        ({"data_pipeline__valid_from": "2026-10-01", "data_pipeline__valid_to": "2026-12-01"}, []),
    ],
)
def test_dates(facts: dict[str, Any], fields: list[str]) -> None:
    found = designed(dated(**facts))
    assert wrong(found) == fields
    if any("period" in name or name == "age" for name in fields):
        assert found[fields[0]].message


def test_an_age_is_a_number_of_days() -> None:
    found = designed(dated(trained_model__max_age="60 days"))["age"]
    assert found.effect is not None
    assert (found.effect.estimate, found.effect.threshold) == (80.0, 60.0)
    assert "80.0 days old" in found.message


def test_without_a_clock_or_a_date_nothing_is_ok() -> None:
    trees = dated(trained_model__max_age="60 days", trained_model__valid_to="2026-11-01")
    blind = designed(trees, None)
    assert {blind[name].verdict for name in ("training_date", "trained_model period")} == {"unknown"}
    assert "age" not in blind
    assert designed(dated(trained_model__training_date="last spring"))["training_date"].verdict == "unknown"
    assert (
        designed(dated(raw_data__collection_date="long ago", raw_data__timeframe="?"))["collection"].verdict
        == "unknown"
    )


def test_a_model_grows_too_old_while_it_serves() -> None:
    reference = declared(
        small_reference(descriptors={"trained_model": {"training_date": "2026-09-01"}}),
        trained_model={"max_age": "90 days"},
    )
    outcomes = []
    for day in ("2026-11-29", "2026-12-01"):
        seen = observed(Profile(), reference)
        seen.end_us = instant_us(day)
        (found,) = CHECK.live(seen)  # type: ignore[misc]
        outcomes.append((found.field, found.verdict))
    assert outcomes == [("age", "ok"), ("age", "mismatch")]


def test_a_descriptor_in_use_beyond_its_period() -> None:
    reference = declared(small_reference(), trained_model={"valid_to": "2026-12-01"})
    seen = observed(Profile(), reference)
    seen.end_us = instant_us("2026-12-01T00:00:00Z")
    (found,) = CHECK.live(seen)  # type: ignore[misc]
    assert found.verdict == "mismatch"
    assert found.message == (
        "trained_model holds until 2026-12-01 (trained_model.bestbefore.valid_to), it is used on 2026-12-01"
    )
    assert found.remedy == "register the descriptors of what is deployed now"


def test_without_any_date_the_age_is_unknown() -> None:
    (found,) = CHECK.live(observed(Profile(), small_reference()))  # type: ignore[misc]
    assert found.verdict == "unknown"
