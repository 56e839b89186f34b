"""One row of the live page: the worst that is so is told, and an unknown is never good."""

import copy
from typing import Any

import pytest

from infra.web.verdicts import RANK, SILENT_WINDOWS, STATES, order, part_state, row, waiting
from models.policy import DAY_US, rfc3339

NOW_US = 1_795_000_000_000_000 // DAY_US * DAY_US


def at(days: float) -> str:
    """So many days from now."""
    return rfc3339(NOW_US + round(days * DAY_US))


GOOD: dict[str, Any] = {
    "registered": True,
    "window": {"start": at(-1), "end": at(0), "n": 400},
    "quality": {"metric": "accuracy", "estimate": 0.95, "low": 0.93, "high": 0.97, "basis": "both", "n": 400},
    "forecast": {"threshold": 0.85, "best_before": at(30), "low": at(20), "high": at(50), "censored": False},
    "verdicts": {"covariate-drift": "ok", "model-identity": "unknown"},
    "lifecycle": {"serving": True, "retired": False},
}
RETRAIN = {"trigger_id": "t1", "action": "retrain", "retrain_by": at(3), "severity": "warning", "created_at": at(-1)}
FIX = {**RETRAIN, "trigger_id": "t2", "action": "fix-pipeline"}
ADVICE = {**RETRAIN, "trigger_id": "t3", "action": "review", "reason": {"rule": "schedule-not-needed"}}


def changed(**parts: dict[str, Any]) -> dict[str, Any]:
    """GOOD with other fields in its parts."""
    body = copy.deepcopy(GOOD)
    for name, fields in parts.items():
        body[name] = {**body[name], **fields}
    return body


WORSE: list[tuple[str, dict[str, Any]]] = [  # each worse than the next: what is so, and what it is called
    ("below", {"quality": {"estimate": 0.7, "low": 0.6, "high": 0.8}}),
    ("past", {"forecast": {"best_before": at(-1), "low": at(-5)}}),
    ("due", {"forecast": {"low": at(0)}}),
    ("silent", {"window": {"start": at(-SILENT_WINDOWS - 2), "end": at(-SILENT_WINDOWS - 1)}}),
    ("unknown", {"forecast": {"best_before": None, "low": None, "high": None, "reason": "needs 20 windows"}}),
]


@pytest.mark.parametrize(("state", "parts"), WORSE)
def test_what_is_so_is_told(state: str, parts: dict[str, Any]) -> None:
    found = row("m", "1", changed(**parts), now_us=NOW_US)
    assert (found["state"], found["word"]) == (state, STATES[state])


def test_the_worst_hides_what_is_less_bad() -> None:
    for i, (state, parts) in enumerate(WORSE):
        both = changed(**{name: fields for _, more in reversed(WORSE[i:]) for name, fields in more.items()} | parts)
        assert RANK[row("m", "1", both, now_us=NOW_US)["state"]] <= RANK[state]


def test_good_is_only_what_is_known_to_be() -> None:
    assert row("m", "1", GOOD, now_us=NOW_US)["state"] == "good"
    assert row("m", "1", {}, now_us=NOW_US)["state"] == "unknown"
    assert row("m", "1", {"quality": None, "forecast": None, "window": None}, now_us=NOW_US)["state"] == "unknown"
    nothing = changed(quality={"estimate": None, "low": None, "high": None, "reason": "no labels"})
    assert row("m", "1", nothing, now_us=NOW_US)["why"] == "no labels"


def test_a_window_without_traffic_is_silence_however_young() -> None:
    found = row("m", "1", changed(window={"n": 0}), now_us=NOW_US)
    assert (found["state"], found["why"]) == ("silent", "no traffic in its newest window")


def test_what_is_asked_for_comes_before_what_is_open() -> None:
    def state(**told: Any) -> str:
        return str(row("m", "1", GOOD, now_us=NOW_US, **told)["state"])

    assert state(triggers=[RETRAIN]) == "asked"
    assert state(triggers=[FIX]) == "fix"
    assert state(triggers=[ADVICE]) == "good"
    assert state(mismatches=[{"severity": "warning"}]) == "mismatch"
    assert state(mismatches=[{"severity": "info"}]) == "good"
    assert state(mismatches=[{"severity": "critical"}], triggers=[FIX]) == "fix"
    assert row("m", "1", GOOD, now_us=NOW_US, triggers=[RETRAIN, FIX])["retrain_by"] == at(3)


def test_who_does_not_serve_is_out_of_the_way() -> None:
    below = WORSE[0][1]
    assert row("m", "1", changed(**below, lifecycle={"retired": True}), now_us=NOW_US)["state"] == "retired"
    replaced = row("m", "1", changed(**below, lifecycle={"serving": False, "successor": "2"}), now_us=NOW_US)
    assert (replaced["state"], replaced["why"]) == ("replaced", "version 2 has taken over")


def test_the_order_is_worst_first_then_what_ends_first() -> None:
    soon = row("b", "1", changed(forecast={"low": at(2)}), now_us=NOW_US)
    late = row("a", "1", GOOD, now_us=NOW_US)
    bad = row("z", "1", changed(**WORSE[0][1]), now_us=NOW_US)
    new = waiting("y", "1", at(-1))
    assert sorted([late, soon, new, bad], key=order) == [bad, new, soon, late]


@pytest.mark.parametrize(
    ("low", "high", "threshold", "state"),
    [
        (0.7, 0.8, 0.85, "below"), (0.86, 0.9, 0.85, "good"), (0.7, 0.9, 0.85, "unknown"),
        (None, None, 0.85, "unknown"), (0.7, 0.8, None, "unknown"),
    ],
)  # fmt: skip
def test_a_segment_is_below_or_good_only_with_its_whole_interval(
    low: float | None, high: float | None, threshold: float | None, state: str
) -> None:
    quality = {"estimate": 0.8, "low": low, "high": high}
    assert part_state({"quality": quality, "forecast": {"threshold": threshold}}) == state
    assert part_state({"quality": {"estimate": None}, "forecast": {"threshold": threshold}}) == "unknown"


@pytest.mark.parametrize("strange", ["", "soon", 7, None, "9999-99-99T00:00:00Z", "0001-01-01T00:00:00+23:00"])
def test_a_time_that_is_none_is_no_date(strange: Any) -> None:
    """Whatever stands in an older event, a row comes of it."""
    found = row(
        "m", "1", changed(forecast={"best_before": strange, "low": strange}, window={"end": strange}), now_us=NOW_US
    )
    assert found["state"] in STATES
