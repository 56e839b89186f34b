"""Violations of a declared domain: the planted rate is recovered, and a clean million says nothing."""

from typing import Any

import numpy as np
import pytest

from models.checks.domain_and_schema import CHECK
from models.profile import Profile
from models.reference import Reference, compile_reference
from tests.observing import by_field, observed, profile_of

DESCRIPTORS: dict[str, dict[str, Any]] = {
    "trained_model": {"model_name": "loan", "model_version": "7"},
    "data_pipeline": {
        "input_spec": [
            {"item_name": "income", "item_type": "Float", "item_specification": {"min_value": 0, "max_value": 100_000}},
            {"item_name": "region", "item_type": "String", "item_specification": {"min_length": 1, "max_length": 1}},
        ]
    },
    "production_data": {
        "schema": [
            {"field_name": "term", "field_type": "Integer", "expected_values": "6..84"},
            {"field_name": "region", "field_type": "String", "expected_values": "N,S,E,W"},
        ]
    },
}
REFERENCE: Reference = compile_reference(DESCRIPTORS)


def traffic(n: int, rate: float, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    bad = rng.random(n) < rate
    income = np.where(bad, -5.0, rng.normal(3000, 500, n))
    term = np.where(bad, 12.5, rng.integers(6, 85, n))
    region = np.where(bad, "North", rng.choice(["N", "S", "E", "W"], n))
    return {"numeric": {"income": income, "term": term}, "categorical": {"region": region.tolist()}, "bad": bad.mean()}


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.1])
def test_the_planted_rate_lies_in_the_interval(rate: float) -> None:
    """Over twenty windows the 90% interval holds the rate about as often as it says."""
    held = 0
    for seed in range(20):
        columns = traffic(5000, rate, seed)
        columns.pop("bad")
        found = by_field(CHECK.live(observed(profile_of(REFERENCE, **columns), REFERENCE)))  # type: ignore[misc]
        effect = found["income"].effect
        assert effect is not None
        assert effect.low is not None
        assert effect.high is not None
        held += effect.low <= rate <= effect.high
        if rate >= 0.01:
            assert {found[name].verdict for name in ("income", "term", "region")} == {"mismatch"}
    assert held >= 15


def test_a_clean_million_gives_no_event() -> None:
    whole = Profile()
    for seed in range(50):
        columns = traffic(20_000, 0.0, seed)
        columns.pop("bad")
        whole.merge(profile_of(REFERENCE, **columns))
    found = by_field(CHECK.live(observed(whole, REFERENCE)))  # type: ignore[misc]
    assert whole.n == 1_000_000
    assert {v.verdict for v in found.values()} == {"ok"}


def test_the_message_names_kind_and_place() -> None:
    columns = traffic(1000, 0.05)
    columns.pop("bad")
    found = by_field(CHECK.live(observed(profile_of(REFERENCE, **columns), REFERENCE)))  # type: ignore[misc]
    assert "out of range" in found["income"].message
    assert "of another type" in found["term"].message
    assert found["region"].left is not None
    assert found["region"].left.path == "production_data.schema[1].expected_values"


def test_a_field_that_never_comes_is_unknown() -> None:
    found = by_field(CHECK.live(observed(profile_of(REFERENCE, numeric={"income": np.full(200, 9.0)}), REFERENCE)))  # type: ignore[misc]
    assert (found["term"].verdict, found["term"].reason) == ("unknown", "the events do not carry it")
