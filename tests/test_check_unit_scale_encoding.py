"""A transform has its name and its numbers; a world that changed is not called a unit error."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.checks.unit_scale_encoding import CHECK
from models.checks.verdict import Verdict
from models.reference import NumericFeature
from tests.observing import by_field, numeric_feature, observed, profile_of, small_reference

N = 20_000


def verdicts(features: dict[str, NumericFeature], values: dict[str, Any]) -> dict[str, Verdict]:
    reference = small_reference(numeric=features)
    return by_field(CHECK.live(observed(profile_of(reference, numeric=values), reference)))  # type: ignore[misc]


@pytest.mark.parametrize(
    ("unit", "mean", "sd", "a", "b", "name"),
    [
        ("degC", 18.0, 6.0, 1.8, 32.0, "degF instead of degC"),
        ("degC", 18.0, 6.0, 1.0, 273.15, "kelvin instead of degC"),
        ("level", 120.0, 40.0, 1 / 255, 0.0, "divided by 255"),
        ("m", 30.0, 9.0, 3.28084, 0.0, "ft instead of m"),
        ("m", 30.0, 9.0, 1000.0, 0.0, "mm instead of m"),
        ("EUR", 3000.0, 800.0, 100.0, 0.0, "hundredths"),
        ("hour", 12.0, 3.0, 1.0, 2.0, "the hour of another time zone (+2 h)"),
    ],
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_transform_is_named_and_a_and_b_lie_within_two_percent(
    unit: str, mean: float, sd: float, a: float, b: float, name: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    feature = numeric_feature(rng.normal(mean, sd, 50_000), unit=unit)
    verdict = verdicts({"x": feature}, {"x": a * rng.normal(mean, sd, N) + b})["x"]
    assert verdict.verdict == "mismatch"
    assert name in verdict.message
    assert verdict.right is not None
    told = verdict.right.value
    assert told["a"] == pytest.approx(a, rel=0.02)
    # b is small beside the values it is taken from, so 2% are of the spread or of b, whichever is larger.
    assert told["b"] == pytest.approx(b, abs=0.02 * max(abs(b), a * mean))
    assert told["transform_a"] == pytest.approx(a, rel=1e-3)
    assert told["transform_b"] == pytest.approx(b, rel=1e-3, abs=1e-9)
    assert verdict.action == "fix-pipeline"


@settings(max_examples=60, deadline=None)
@given(st.floats(-3, 3), st.floats(0.75, 1.6), st.sampled_from(["degC", "m", "kg", "s"]), st.integers(0, 1000))
def test_a_true_shift_is_not_called_a_unit_error(shift: float, stretch: float, unit: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    feature = numeric_feature(rng.normal(20, 5, 50_000), unit=unit)
    found = verdicts({"x": feature}, {"x": rng.normal(20 + 5 * shift, 5 * stretch, 4000)})
    assert found["x"].verdict == "ok"


def test_channels_that_changed_places_are_named() -> None:
    rng = np.random.default_rng(3)
    means = {"r": 0.5, "g": 0.45, "b": 0.3}
    features = {k: numeric_feature(rng.normal(m, 0.1, 50_000), unit="share", channel="rgb") for k, m in means.items()}
    bgr = {"r": rng.normal(0.3, 0.1, N), "g": rng.normal(0.45, 0.1, N), "b": rng.normal(0.5, 0.1, N)}
    found = verdicts(features, bgr)
    assert found["b<->r"].verdict == "mismatch"
    assert "exchanged their places" in found["b<->r"].message
    assert {f: v.verdict for f, v in found.items() if v.verdict == "mismatch"} == {"b<->r": "mismatch"}


def test_few_values_are_unknown() -> None:
    feature = numeric_feature(np.random.default_rng(0).normal(0, 1, 5000), unit="m")
    assert verdicts({"x": feature}, {"x": np.full(100, 9.0)})["x"].verdict == "unknown"
