"""Nulls that become numbers, and numbers that were declared to be nulls."""

from typing import Any

import msgspec
import numpy as np
import pytest

from models.checks.missing_and_special_values import CHECK
from models.checks.verdict import Verdict
from models.reference import CategoricalFeature
from tests.observing import by_field, numeric_feature, observed, profile_of, small_reference

INCOME = np.random.default_rng(0).normal(-1.0, 2.0, 20_000)  # a mean of -1, so that -1 moves nothing
REFERENCE = small_reference(
    numeric={"income": numeric_feature(INCOME, missing=0.1)},
    categorical={"region": CategoricalFeature(shares={"N": 0.6, "S": 0.4}, n=5000, missing=0.0)},
)


def verdicts(values: Any, regions: list[str | None] | None = None, reference: Any = REFERENCE) -> dict[str, Verdict]:
    columns = {"numeric": {"income": values}, "missing": {"income": np.isnan(values)}}
    if regions is not None:
        columns["categorical"] = {"region": regions}
    return by_field(CHECK.live(observed(profile_of(reference, **columns), reference)))  # type: ignore[misc]


def window(seed: int, filler: float, share: float = 0.1, n: int = 4000) -> Any:
    rng = np.random.default_rng(seed)
    values = rng.normal(-1.0, 2.0, n)
    values[rng.random(n) < share] = filler
    return values


def test_nulls_that_became_minus_one_at_equal_mean_are_found() -> None:
    before, after = window(1, np.nan), window(1, -1.0)
    assert np.nanmean(before) == pytest.approx(after.mean(), abs=0.05)
    assert {v.verdict for f, v in verdicts(before).items() if f.startswith("income")} == {"ok"}
    found = verdicts(after)
    assert found["income"].verdict == found["income=-1"].verdict == "mismatch"
    assert "fewer; are they filled" in found["income"].message
    assert "exactly '-1' in 0.1" in found["income=-1"].message


def test_a_declared_sentinel_at_its_declared_rate_is_silent_and_at_another_is_not() -> None:
    feature = numeric_feature(
        np.where(np.random.default_rng(1).random(20_000) < 0.1, -1.0, INCOME), special={"-1": 0.1}
    )
    reference = msgspec.structs.replace(REFERENCE, numeric={"income": feature}, categorical={})
    assert {v.verdict for v in verdicts(window(2, -1.0), reference=reference).values()} == {"ok"}
    assert verdicts(window(2, -1.0, share=0.2), reference=reference)["income=-1"].verdict == "mismatch"


def test_more_nulls_than_declared_are_found() -> None:
    assert verdicts(window(3, np.nan, share=0.2))["income"].verdict == "mismatch"


def test_a_text_that_stands_for_nothing_is_found() -> None:
    values = window(4, np.nan)
    regions: list[str | None] = ["unknown" if i % 20 == 0 else "N" if i % 5 < 3 else "S" for i in range(len(values))]
    assert verdicts(values, regions)["region=unknown"].verdict == "mismatch"


def test_small_integers_are_no_stand_ins() -> None:
    rng = np.random.default_rng(5)
    known = rng.integers(0, 3, 10_000).astype(float)
    reference = small_reference(numeric={"children": numeric_feature(known, integer=True)})
    columns = {"numeric": {"children": rng.integers(0, 3, 4000).astype(float)}}
    found = by_field(CHECK.live(observed(profile_of(reference, **columns), reference)))  # type: ignore[misc]
    assert {v.verdict for v in found.values()} == {"ok"}
