"""Names of categories leave only where people made them public: in events of drift, and in described files."""

from typing import Any

import numpy as np
import pytest

from models.checks.covariate_drift import CHECK
from models.describing_columns import Texts, texts_of
from models.describing_features import looks_personal, privacy_note, textual
from models.profile_inputs import moments
from models.reference import CategoricalFeature, Reference
from tests.observing import DAY, declared, normal_feature, over_windows, profile_of, small_reference

SHARES = {"mary@example.org": 0.45, "john@example.org": 0.55}


def drifted(**facts: Any) -> Any:
    """The verdict about a feature whose first category went from .45 to .95."""
    rng = np.random.default_rng(0)
    own = {"public_fields": facts.pop("public")} if "public" in facts else {}
    feature = CategoricalFeature(shares=SHARES, n=1604, **facts)
    reference = small_reference(window_us=DAY, minimum_n=24, categorical={"who": feature})
    reference = declared(reference, system_context=own) if own else reference
    days = [
        profile_of(reference, categorical={"who": np.where(rng.random(24) < rate, *SHARES).tolist()})
        for rate in [0.45] * 30 + [0.95] * 10
    ]
    return list(over_windows(CHECK, reference, days))[-1]["who"]


def test_measured_categories_get_neutral_names() -> None:
    verdict = drifted()
    assert verdict.verdict == "mismatch"
    assert "@" not in repr(verdict)
    assert "one category moved from 0." in verdict.message
    assert verdict.left.value == {"category 1": 0.55, "category 2": 0.45}
    assert verdict.right.value["category 2"] > 0.8, "the same neutral name on both sides"


@pytest.mark.parametrize("facts", [{"allowed": tuple(SHARES)}, {"public": ["who"]}])
def test_categories_that_people_made_public_are_named(facts: dict[str, Any]) -> None:
    verdict = drifted(**facts)
    assert verdict.left.value == SHARES
    assert "most of it in 'mary@example.org'" in verdict.message or "'john@example.org'" in verdict.message


@pytest.mark.parametrize("value", ["a.b@c.org", "+49 30 123456", "(0151) 234 567 89", "x" * 41])
def test_values_that_look_personal_are_not_written(value: str) -> None:
    column = Texts(texts_of([value] * 60 + ["no"] * 40), None)
    found = textual(column)
    assert found == {"type": "text", "n": 100, "missing": 0.0, "lengths": {"min": 2, "max": len(value)}}
    assert "no categories are written" in privacy_note(column, found)


@pytest.mark.parametrize("value", ["2024-05-01", "12:30", "1e3", "north-east", ""])
def test_names_of_categories_are_not_taken_for_personal(value: str) -> None:
    assert not looks_personal(value)


def test_more_categories_than_a_person_reads_are_pointed_out() -> None:
    many, few = (Texts(texts_of([f"c{i % k}" for i in range(200)]), None) for k in (21, 20))
    assert "21 categories" in privacy_note(many, textual(many))
    assert privacy_note(few, textual(few)) == ""


def test_moments_of_a_profile_merged_with_one_of_an_earlier_release() -> None:
    """An earlier release made no finest sums: those of one half must not stand for the whole."""
    feature = normal_feature(mean=0.0, sd=1.0)
    reference: Reference = small_reference(numeric={"x": feature})
    rng = np.random.default_rng(1)
    x = rng.normal(3.0, 1.0, 1000)
    old, merged = (profile_of(reference, numeric={"x": half}) for half in (x[:500], x[500:]))
    del old.sums["fine.x"]
    found = moments(merged.merge(old), "x", feature)
    assert found is not None
    np.testing.assert_allclose(found, (1000, x.mean(), x.std()), rtol=1e-4)
