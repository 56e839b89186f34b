"""One language of comparisons: units, intervals, tolerances, sets; never ok without a fact on both sides."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.checks.predicate import judge, plain
from models.checks.verdict import Side

OPPOSITE = {"<": ">=", "<=": ">", "==": "!="}


@pytest.mark.parametrize(
    ("left", "operator", "right", "expected"),
    [
        ("50 ms", "<=", "0.05 s", "ok"), ("51 ms", "<=", "0.05 s", "mismatch"), (5, "==", "5.0", "ok"),
        (0.1 + 0.2, "<", 0.3, "mismatch"), (0.1 + 0.2, "<=", 0.3, "ok"), ("50 ms", "<", "5 m", "mismatch"),
        ("Accuracy", "==", "accuracy ", "ok"), ("a", "<", "b", "unknown"), (None, "==", 3, "unknown"),
        (3, "==", None, "unknown"), ("33.3%", "==", 0.333, "ok"), ([1, 2], "subset", [1, 2, 3], "ok"),
        (["1.0"], "in", [1], "ok"), ([4], "in", [1, 2], "mismatch"), ([1, 2], "contains", 2, "ok"),
        ([1, 2], "within", [0, 2], "ok"), ([1, 3], "within", [0, 2], "mismatch"), ([1], "within", [0], "unknown"),
        ("2026-09-01", "==", "2026-09-01", "ok"), ("2026-09-01", "<", "2026-10-01", "unknown"),
        (True, "==", 1, "mismatch"),
    ],
)  # fmt: skip
def test_declared_facts(left: Any, operator: str, right: Any, expected: str) -> None:
    assert judge(Side("a", left), operator, Side("b", right)).outcome == expected


@pytest.mark.parametrize(("low", "high", "expected"), [(1, 2, "ok"), (2.5, 4, "unknown"), (3.5, 4, "mismatch")])
@pytest.mark.parametrize("value", [None, "middle"])
def test_an_interval_must_hold_as_a_whole(low: float, high: float, expected: str, value: str | None) -> None:
    measured = Side("telemetry.x", None if value is None else (low + high) / 2, low=low, high=high, n=100)
    assert judge(measured, "<=", Side("limit", 3)).outcome == expected


def test_too_few_observations_are_unknown() -> None:
    found = judge(Side("telemetry.x", 1, n=9), "<", Side("limit", 3), minimum_n=10)
    assert found.reason == "telemetry.x rests on 9 observations, 10 are needed"
    assert judge(Side("telemetry.x"), "<", Side("limit", 3)).reason == "telemetry.x is not observed"


def test_intervals_are_converted_with_their_unit() -> None:
    measured = Side("telemetry.latency", 40, "ms", 30, 60, 100)
    assert judge(measured, "<=", Side("limit", 0.06, "s")).outcome == "ok"
    assert judge(measured, "<=", Side("limit", 50, "ms")).outcome == "unknown"


def test_tolerances() -> None:
    assert judge(Side("a", 10.4), "==", Side("b", 10), tolerance=0.5).outcome == "ok"
    assert judge(Side("a", 10.4), "==", Side("b", 10), relative_tolerance=0.05).outcome == "ok"
    assert judge(Side("a", 10.6), "==", Side("b", 10), tolerance=0.5).outcome == "mismatch"


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.sampled_from(sorted(OPPOSITE)))
def test_of_an_operator_and_its_opposite_exactly_one_holds(a: float, b: float, operator: str) -> None:
    one, other = (judge(Side("a", a), op, Side("b", b)).outcome for op in (operator, OPPOSITE[operator]))
    assert {one, other} == {"ok", "mismatch"}


def test_plain_spelling() -> None:
    assert plain("1.0") == plain(1) == "1"
    assert plain(" F1 Score") == "f1 score"
