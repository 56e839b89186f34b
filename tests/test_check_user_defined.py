"""Checks that users write: read strictly, judged with noise, in the units of both sides."""

from typing import Any

import numpy as np
import pytest

from models.checks import user_defined
from models.checks.observed import Memory
from models.checks.user_entries import predicates
from models.checks.verdict import Verdict
from models.checks.workplace import Workplace
from models.evidence import Evidence, remember
from models.profile import Profile
from models.reference import Reference
from tests.observing import (
    HOUR,
    START,
    labelled,
    normal_feature,
    observed,
    opening,
    profile_of,
    small_reference,
)

TREES: dict[str, Any] = {
    "production_environment": {
        "required_inference_time": {"time": 50, "unit": "ms"},
        "bestbefore": {"latency": "50 ms"},
    },
    "training_data": {"bestbefore": {"features": {"income": {"unit": "EUR"}, "height": {"unit": "cm", "mean": 1.7}}}},
    "trained_model": {"frameworks": ["onnx", "numpy"], "bestbefore": {"gpu_memory": "4 GB"}},
    "production_data": {"bestbefore": {"rate": {"mean": 100, "unit": "1/minute"}}},
}
SLOW = {"id": "in-time", "left": "telemetry.latency.p99", "operator": "<=", "right": "50 ms"}


def trees_with(*checks: dict[str, Any]) -> dict[str, Any]:
    return {**TREES, "system_context": {"bestbefore": {"checks": list(checks)}}}


def reference_with(*checks: dict[str, Any], **facts: Any) -> Reference:
    return small_reference(descriptors=trees_with(*checks), **facts)


def at_design(*checks: dict[str, Any]) -> list[Verdict]:
    return list(user_defined.design(Workplace(trees_with(*checks))))


def of_window(profile: Profile, *checks: dict[str, Any], **facts: Any) -> Verdict:
    (verdict,) = user_defined.live(observed(profile, reference_with(*checks), **facts))
    return verdict


def latencies(low: float, high: float, n: int) -> Profile:
    return profile_of(small_reference(), latency_ms=np.linspace(low, high, n))


# -- reading entries -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"operater": "<="}, "unknown field `operater`"),
        ({"operator": "=<"}, "Invalid enum value '=<'"),
        ({"severity": "bad"}, "Invalid enum value 'bad'"),
        ({"tolerance": "much"}, "Expected `float`, got `str` - at `$.tolerance`"),
        ({"minimum_n": 1.5}, "Expected `int`, got `float` - at `$.minimum_n`"),
        ({"left": 5}, "Expected `str`, got `int` - at `$.left`"),
        ({"left": "latency"}, "left: 'latency' is no path; write one such as telemetry.latency.p99"),
        ({"left": "telemetry.latency.p0"}, "telemetry.latency.p0: '0' must be a number between 0 and 100"),
        (
            {"left": "telemetry.latency.mean"},
            "mean is no statistic; after `telemetry.` there are: n, rate",
        ),
        ({"left": "telemetry.features.a.b.mean"}, 'quote names with dots: features["a.b"]'),
        ({"left": "telemetry.features.income.quantile.2"}, "'2' must be a number between 0 and 1"),
        ({"left": "telemetri.latency.p99"}, "begins with no descriptor"),
        ({"right": "telemetri.latency.p50"}, "did you mean telemetry?"),
        ({"right": "production_enviroment.bestbefore.latency"}, "did you mean production_environment?"),
        ({"right": "50 kg"}, "telemetry.latency.p99 is in 'ms', 50 kg in 'kg': they measure different things"),
        ({"right": "trained_model.bestbefore.gpu_memory"}, "'ms', trained_model.bestbefore.gpu_memory in 'GB'"),
        (
            {"right": "production_data.bestbefore.rate.mean"},
            "is in 'ms', production_data.bestbefore.rate.mean in '1/minute'",
        ),
        ({"right": "fast"}, "'fast' is no number, but telemetry.latency.p99 is measured as one"),
        ({"operator": "in", "right": [1, 2]}, "telemetry is a number, which in says nothing about; use within"),
        ({"window": "soon"}, "'soon' is not a duration"),
        ({"window": "2 hours"}, "2 hours is 2 windows; give 3 to 64 of them"),
        ({"window": "9 days"}, "9 days is 216 windows"),
        ({"window": "1 day", "left": "telemetry.quality.accuracy", "right": 0.9}, "a running estimate already"),
        ({"window": "1 day", "left": "trained_model.bestbefore.gpu_memory", "right": "8 GB"}, "nothing to average"),
        ({"id": " "}, "id is empty"),
    ],
)
def test_what_is_unclear_is_an_error_that_names_the_entry(change: dict[str, Any], told: str) -> None:
    trees = trees_with(
        {"id": "first", "left": "trained_model.frameworks", "operator": "contains", "right": "onnx"}, SLOW | change
    )
    name = (SLOW | change)["id"]
    with pytest.raises(ValueError, match=r"^system_context\.bestbefore\.checks\[1\] \(") as found:
        predicates(trees)
    assert told in str(found.value)
    fine, wrong = user_defined.design(Workplace(trees))
    assert (fine.check, fine.verdict) == ("user:first", "ok"), "the others are judged all the same"
    assert (wrong.check, wrong.verdict, wrong.field) == (
        f"user:{name}",
        "mismatch",
        "system_context.bestbefore.checks[1]",
    )
    assert told in wrong.message
    reference = small_reference(descriptors=trees)
    (live,) = user_defined.live(observed(latencies(1, 2, 100), reference))
    assert (live.check, live.verdict) == (f"user:{name}", "unknown")
    assert told in live.reason


@pytest.mark.parametrize(
    ("checks", "told"),
    [
        ({"in-time": SLOW}, "expected a list of checks, found dict"),
        (["telemetry.n > 5"], "Expected `object`, got `str`"),
        ([{"left": "a.b"}], "missing required field `id`"),
        ([SLOW, SLOW], "another check has this id"),
    ],
)
def test_a_list_of_another_shape_is_an_error(checks: Any, told: str) -> None:
    trees = {"system_context": {"bestbefore": {"checks": checks}}}
    with pytest.raises(ValueError, match=r"system_context\.bestbefore\.checks") as found:
        predicates(trees)
    assert told in str(found.value)
    assert list(user_defined.design(Workplace(trees)))[-1].verdict == "mismatch"


def test_without_entries_it_says_nothing() -> None:
    assert predicates(TREES) == ()
    assert list(user_defined.design(Workplace(TREES))) == []
    assert list(user_defined.live(observed(Profile(), small_reference(descriptors=TREES)))) == []


# -- two declared facts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "operator", "right", "outcome"),
    [
        ("production_environment.bestbefore.latency", "<=", "0.05 s", "ok"),
        ("production_environment.bestbefore.latency", "<", "0.05 s", "mismatch"),
        ("trained_model.bestbefore.gpu_memory", ">=", "3000 MB", "ok"),
        ("trained_model.bestbefore.gpu_memory", "within", ["1 GB", "2 GB"], "mismatch"),
        ("trained_model.frameworks", "contains", "onnx", "ok"),
        ("trained_model.frameworks", "subset", ["onnx"], "mismatch"),
        ("trained_model.bestbefore.gpu", "==", 1, "unknown"),
        ("trained_model.bestbefore.gpu_memory", "<=", "production_environment.bestbefore.gpu_memory", "unknown"),
        ("training_data.bestbefore.features.height.unit", "==", "cm", "ok"),
        ("training_data.bestbefore.features.height.mean", "within", [1.5, 1.8], "ok"),
        ("training_data.bestbefore.features.height.mean", "<", "1 m", "ok"),
        ("production_data.bestbefore.rate.mean", ">=", "2/s", "mismatch"),
    ],
)
def test_declared_facts_are_compared_at_design_time(left: str, operator: str, right: Any, outcome: str) -> None:
    check = {"id": "own", "left": left, "operator": operator, "right": right}
    (verdict,) = at_design(check)
    assert (verdict.check, verdict.verdict, verdict.field) == ("user:own", outcome, left)
    assert verdict.reason if outcome == "unknown" else verdict.left is not None
    reference = reference_with(check)
    assert list(user_defined.live(observed(latencies(1, 2, 100), reference))) == []


def test_the_words_of_the_entry_are_the_words_of_the_verdict() -> None:
    check = {
        "id": "memory", "left": "trained_model.bestbefore.gpu_memory", "operator": "<=", "right": "2 GB",
        "severity": "critical", "owner": "gpu@example.org", "remedy": "quantise", "message": "The card is small.",
    }  # fmt: skip
    (verdict,) = at_design(check)
    assert (verdict.severity, verdict.owner, verdict.remedy) == ("critical", "gpu@example.org", "quantise")
    assert verdict.message == (
        "The card is small: 4 GB (trained_model.bestbefore.gpu_memory) must be <= 2 GB "
        "(system_context.bestbefore.checks[0].right), and is not"
    )


def test_a_check_of_telemetry_is_silent_at_design_time_unless_its_limit_is_absent() -> None:
    assert at_design(SLOW) == []
    (verdict,) = at_design(SLOW | {"right": "production_environment.bestbefore.latencies"})
    assert (verdict.verdict, verdict.reason) == (
        "unknown",
        "production_environment.bestbefore.latencies is not declared",
    )


# -- telemetry beside a limit --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("high", "outcome"), [(30.0, "ok"), (50.0, "unknown"), (200.0, "mismatch")]
)  # fmt: skip
@pytest.mark.parametrize("right", ["50 ms", "0.05 s", "production_environment.bestbefore.latency", 50])
def test_latency_beside_a_limit_in_any_unit(high: float, outcome: str, right: Any) -> None:
    verdict = of_window(latencies(1, high, 2000), SLOW | {"right": right})
    assert (verdict.check, verdict.verdict, verdict.field) == ("user:in-time", outcome, "telemetry.latency.p99")
    assert verdict.left is not None
    assert verdict.left.low is not None
    assert verdict.left.high is not None
    assert verdict.left.low <= 0.99 * high <= verdict.left.high
    assert verdict.effect is not None
    assert verdict.effect.threshold == 50
    if outcome == "mismatch":
        assert "telemetry.latency.p99, observed" in verdict.message
        assert "n 2000" in verdict.message


@pytest.mark.parametrize(
    ("bounds", "outcome"),
    [
        ([-0.5, 0.5], "ok"),
        ([0.0, 1.0], "unknown"),
        ([-1.0, -0.5], "mismatch"),
        ([0.5, 1.0], "mismatch"),
        ([0.5], "unknown"),
    ],
)
def test_a_measured_value_lies_within_a_range_only_with_its_whole_interval(bounds: list[float], outcome: str) -> None:
    values = np.linspace(-2.0, 2.0, 401)
    verdict = of_window(
        profile_of(small_reference(), numeric={"x": values}),
        {"id": "range", "left": "telemetry.features.x.mean", "operator": "within", "right": bounds},
    )
    assert verdict.verdict == outcome


def test_telemetry_may_stand_on_the_right_or_on_both_sides() -> None:
    declared = "production_environment.bestbefore.latency"
    limit = {"id": "l", "left": declared, "operator": ">=", "right": "telemetry.latency.p99"}
    found = of_window(latencies(1, 30, 2000), limit)
    assert (found.verdict, found.field) == ("ok", "telemetry.latency.p99")
    tail = {"id": "t", "left": "telemetry.latency.p99", "operator": "<=", "right": "telemetry.latency.p50"}
    assert of_window(latencies(1, 30, 2000), tail).verdict == "mismatch"
    assert of_window(latencies(1, 30, 2000), tail, block=None).verdict == "unknown"


def test_few_observations_bound_no_far_percentile() -> None:
    """Of 100 answers the largest need not reach the 99th percentile (0.99^100 = 0.37): no upper bound."""
    assert of_window(latencies(1, 5, 100), SLOW).verdict == "unknown"
    assert of_window(latencies(1, 5, 100), SLOW | {"left": "telemetry.latency.p50"}).verdict == "ok"


def test_minimum_n_and_a_block_that_fills() -> None:
    few = of_window(latencies(1, 5, 600), SLOW | {"minimum_n": 1000})
    assert few.reason == "telemetry.latency.p99 rests on 600 observations, 1000 are needed"
    assert of_window(latencies(1, 5, 1000), SLOW | {"minimum_n": 1000}).verdict == "ok"
    assert of_window(latencies(1, 5, 10), SLOW, block=None).reason == "fewer than 50 events so far"
    assert of_window(Profile(), SLOW).reason == "telemetry.latency.p99 was not observed"


def test_a_range_of_a_rate_is_read_per_window_even_in_silence() -> None:
    check = {"id": "busy", "left": "telemetry.rate", "operator": ">=", "right": "production_data.bestbefore.rate.mean"}
    per_minute = {"id": "busy", "left": "telemetry.rate", "operator": ">=", "right": "100/minute"}
    hour = profile_of(small_reference(), latency_ms=np.ones(7000))
    assert of_window(hour, per_minute).verdict == "ok"
    assert of_window(hour, check).verdict == "ok", "the unit of the mean stands beside it"
    silence = of_window(Profile(), per_minute, block=None)
    assert silence.verdict == "mismatch"
    assert silence.right is not None
    assert silence.right.place == ""


def test_a_violated_check_opens_after_two_windows_and_stays_silent_else() -> None:
    reference = reference_with(
        {"id": "rich", "left": "telemetry.features.income.mean", "operator": ">=", "right": -0.3},
        numeric={"income": normal_feature(unit="EUR")},
    )
    rng = np.random.default_rng(2)

    def windows(mean: float, count: int) -> list[dict[str, Verdict]]:
        found = []
        for _ in range(count):
            profile = profile_of(reference, numeric={"income": rng.normal(mean, 1, 300)})
            found.append({v.field: v for v in user_defined.live(observed(profile, reference))})
        return found

    assert opening(windows(0.0, 500)) is None
    assert opening(windows(-1.0, 5)) == 2


# -- windows joined ------------------------------------------------------------------------------------------


def over(check: dict[str, Any], profiles: list[Profile]) -> list[Verdict]:
    reference, memory, ring = reference_with(check), Memory(), list[Evidence]()
    found = []
    for index, profile in enumerate(profiles):
        remember(ring, START + index * HOUR, profile)
        seen = observed(profile, reference, index=index, memory=memory, ring=ring)
        found += list(user_defined.live(seen))
    assert all(len(values) <= 64 for values in memory.values())
    return found


def test_a_window_averages_with_the_interval_of_its_spread() -> None:
    check = SLOW | {"left": "telemetry.latency.p50", "right": "20 ms", "window": "6 hours"}
    rng = np.random.default_rng(3)
    quiet = [profile_of(small_reference(), latency_ms=rng.normal(10, 1, 200)) for _ in range(8)]
    found = over(check, [*quiet, Profile(), *[latencies(35, 45, 200)] * 8])
    assert [v.verdict for v in found[:4]] == ["unknown", "unknown", "ok", "ok"]
    assert found[1].reason == "telemetry.latency.p50 was observed in 2 of the last 6 windows, 3 are needed"
    assert found[8].verdict == "ok", "a window without events is left out"
    assert found[8].left is not None
    assert found[8].left.n == 1000
    assert found[10].verdict == "unknown", "the spread is large while it changes"
    assert found[-1].verdict == "mismatch"


def test_a_window_of_one_window_needs_no_block() -> None:
    check = SLOW | {"left": "telemetry.latency.p50", "window": "1 hour"}
    assert of_window(latencies(1, 5, 30), check, block=None).verdict == "ok"


def test_labels_of_a_window_are_added_up() -> None:
    check = {"id": "right", "left": "telemetry.audited.accuracy", "operator": ">=", "right": 0.8, "window": "3 hours"}
    reference = reference_with(check)
    bad, good = (labelled(reference, ["yes"] * 40, np.arange(40) < k) for k in (10, 40))
    found = over(check, [bad, good, good, good, Profile(), Profile(), Profile()])
    assert [v.verdict for v in found] == ["mismatch", "mismatch", "unknown", "ok", "ok", "ok", "unknown"]
    assert found[3].left is not None
    assert found[3].left.n == 120
