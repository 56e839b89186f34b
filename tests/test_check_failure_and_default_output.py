"""Zeros upstream, 500s, a silent topic, a stuck output: never ok."""

from typing import Any

import numpy as np
import pytest

from models.checks.failure_and_default_output import CHECK
from models.checks.verdict import Verdict
from models.profile import Profile
from tests.observing import by_field, declared, normal_feature, observed, profile_of, small_reference

REFERENCE = small_reference(
    classes={"0": 0.3, "1": 0.7}, n=5000, numeric={"a": normal_feature(), "b": normal_feature()},
    descriptors={"trained_model": {"default_model_output": "0"}},
)  # fmt: skip
N = 500
RNG = np.random.default_rng(0)


def traffic(**changes: Any) -> dict[str, Any]:
    labels = RNG.choice(["0", "1"], N, p=[0.3, 0.7]).tolist()
    columns = {"label": labels, "numeric": {"a": RNG.normal(0, 1, N), "b": RNG.normal(0, 1, N)}} | changes
    return {name: column for name, column in columns.items() if column is not None}


def verdicts(**changes: Any) -> dict[str, Verdict]:
    return by_field(CHECK.live(observed(profile_of(REFERENCE, **traffic(**changes)), REFERENCE)))  # type: ignore[misc]


def test_a_sound_window_is_ok() -> None:
    assert {v.verdict for v in verdicts().values()} == {"ok"}


def test_zeros_upstream() -> None:
    found = verdicts(numeric={"a": np.zeros(N), "b": np.zeros(N)})["inputs"]
    assert (found.verdict, found.severity) == ("mismatch", "critical")
    assert "a, b have one single value" in found.message
    assert verdicts(numeric={"a": np.zeros(N), "b": RNG.normal(0, 1, N)})["inputs"].verdict == "ok", "as a month is"


def test_answers_with_status_500() -> None:
    assert verdicts(failed=np.ones(N, np.bool_))["status"].severity == "critical"
    some = verdicts(failed=np.arange(N) % 10 == 0)["status"]
    assert some.verdict == "mismatch"
    assert some.effect is not None
    assert some.effect.low is not None
    assert some.effect.low < 0.1 < (some.effect.high or 0)


def test_a_declared_error_rate_is_allowed() -> None:
    reference = declared(REFERENCE, production_environment={"error_rate": 0.12})
    profile = profile_of(reference, **traffic(failed=np.arange(N) % 10 == 0))
    assert by_field(CHECK.live(observed(profile, reference)))["status"].verdict == "ok"  # type: ignore[misc]


def test_a_silent_topic_is_unknown() -> None:
    (only,) = CHECK.live(observed(Profile(), REFERENCE, block=None))  # type: ignore[misc]
    assert only.verdict == "unknown"
    assert "no events in this window" in only.reason


def test_a_stuck_output_and_the_default_one() -> None:
    stuck = verdicts(label=["1"] * N)["output"]
    assert (stuck.verdict, stuck.severity) == ("mismatch", "critical")
    default = verdicts(label=["0"] * 300 + ["1"] * 200)["default"]
    assert default.verdict == "mismatch"
    assert "far commoner than in training" in default.message


def test_a_stuck_number() -> None:
    assert verdicts(label=None, value=np.full(N, 17.25))["output"].verdict == "mismatch"
    assert verdicts(label=None, value=RNG.normal(17, 1, N))["output"].verdict == "ok"


def test_abstentions_beyond_the_declared_rate() -> None:
    assert verdicts(abstained=np.arange(N) % 5 == 0)["abstained"].verdict == "unknown"
    reference = declared(REFERENCE, trained_model={"abstention_rate": 0.1})
    profile = profile_of(reference, **traffic(abstained=np.arange(N) % 5 == 0))
    assert by_field(CHECK.live(observed(profile, reference)))["abstained"].verdict == "mismatch"  # type: ignore[misc]


def test_a_sampled_success_weighs_as_much_as_it_stands_for() -> None:
    """All failures are sent, and one success in a hundred: the rate of failures is that of the traffic."""
    failed = np.arange(N) < 200
    found = verdicts(failed=failed, weight=np.where(failed, 1.0, 100.0))["status"]
    assert found.effect is not None
    assert found.effect.estimate == pytest.approx(200 / (200 + 300 * 100), rel=0.01)
    assert found.verdict == "ok"
