"""What a forecast was worth: error, coverage, warning and cost, from a promise and what came."""

import msgspec
import pytest

from models.forecast import Passage
from models.outcome_of_forecast import CROSSED, ENDED, Promise, outcome, promised
from models.policy import Terms, Trigger, rfc3339

HOUR, DAY = 3_600_000_000, 86_400_000_000
NOW = 20_000 * DAY
TERMS = Terms(
    threshold=0.85, lead_time_us=7 * DAY, window_us=DAY, cost_retrain=10.0, cost_degraded_per_day=4.0,
    retrain_every_us=50 * DAY,
)  # fmt: skip
TRIGGER = Trigger(
    trigger_id="t-1", action="retrain", model_name="m", model_version="1", severity="warning", retrain_by="",
    reason={}, forecast={}, dedupe_key="", cooldown_until="", created_at="",
)  # fmt: skip
AHEAD = Passage(threshold=0.85, low=5.0, median=10.0, high=30.0, lead=7.0, probability_within_lead=0.4)
PROMISE = promised(TRIGGER, TERMS, AHEAD, NOW)


def test_a_promise_is_the_forecast_as_times() -> None:
    assert Promise(
        trigger_id="t-1", at_us=NOW, forecast=True, best_before_us=NOW + 10 * DAY, low_us=NOW + 5 * DAY,
        high_us=NOW + 30 * DAY, probability_within_lead=0.4,
    ) == PROMISE  # fmt: skip
    assert promised(TRIGGER, TERMS, None, NOW) == Promise(trigger_id="t-1", at_us=NOW)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(PROMISE), type=Promise) == PROMISE


@pytest.mark.parametrize(
    ("crossed", "until", "within", "error", "warned"),
    [
        (8, 9, True, -2.0, True),
        (30, 31, True, 20.0, True),
        (4, 9, False, -6.0, False),
        (31, 32, False, 21.0, True),
        (-1, 9, False, -11.0, False),  # below before it was asked for
        (None, 20, None, None, None),  # replaced inside the interval: nobody can tell
        (None, 31, False, None, None),  # it outlived the interval
    ],
)
def test_coverage_error_and_warning(
    crossed: int | None, until: int, within: bool | None, error: float | None, warned: bool | None
) -> None:
    at = None if crossed is None else NOW + crossed * DAY
    found = outcome(PROMISE, TERMS, crossed_us=at, until_us=NOW + until * DAY, scheduled_us=None, stage=CROSSED)
    assert (found["within_interval"], found["error_windows"], found["warned_in_time"]) == (within, error, warned)
    assert found["warning_windows"] == crossed
    assert found["observed"]["censored"] is (crossed is None)
    assert found["lead_windows"] == 7.0
    assert found["cost"] is None


def test_without_a_forecast_there_is_nothing_to_cover() -> None:
    bare = promised(TRIGGER, TERMS, Passage(threshold=0.85, reason="too few windows"), NOW)
    found = outcome(bare, TERMS, crossed_us=NOW - DAY, until_us=NOW, scheduled_us=None, stage=ENDED)
    assert (found["within_interval"], found["error_windows"], found["forecast"]["best_before"]) == (None, None, None)
    assert found["warned_in_time"] is False


def test_cost_beside_the_calendar() -> None:
    scheduled = NOW + 20 * DAY  # a new version would serve a lead time later, on day 27
    found = outcome(
        PROMISE, TERMS, crossed_us=NOW + 8 * DAY, until_us=NOW + 9 * DAY, scheduled_us=scheduled, stage=ENDED
    )
    assert found["cost"] == {
        "scheduled_at": rfc3339(scheduled), "basis": "observed",
        "degraded_days": 1.0, "degraded_days_by_schedule": 19.0,
        "retraining_brought_forward": pytest.approx(18 / 50 * 10.0),
        "saved": pytest.approx(18 * 4.0 - 3.6),
    }  # fmt: skip


def test_a_trigger_that_came_to_nothing_costs_what_it_brought_forward() -> None:
    scheduled = NOW + 1 * DAY
    found = outcome(PROMISE, TERMS, crossed_us=None, until_us=NOW + 2 * DAY, scheduled_us=scheduled, stage=ENDED)
    cost = found["cost"]
    assert cost["basis"] == "forecast"
    assert cost["degraded_days"] == cost["degraded_days_by_schedule"] == 0.0
    assert cost["saved"] == pytest.approx(-6 / 50 * 10.0)
