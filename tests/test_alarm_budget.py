"""One budget for a deployment: what it promises, whom it suspects, and how it is shared."""

import math

import msgspec
import numpy as np
import pytest

from models.alarm_budget import AlarmBudget, BudgetState, Rate, parse_rate, shares
from models.run_length import counted
from models.sequential import Evidence, Plan, SequentialDetector
from models.units import DAY_US

HOUR_US = DAY_US // 24


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("1 per 90 days", Rate(1, 90 * DAY_US)),
        ("2/week", Rate(2, 7 * DAY_US)),
        (" .5 in 30 days ", Rate(0.5, 30 * DAY_US)),
        ("3 per .5 days", Rate(3, DAY_US // 2)),
    ],
)
def test_rates_are_read_as_people_write_them(text: str, rate: Rate) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "never", "0 per day", "1 per", "1 per 0 days", "-1 per day", "1 per 3 parsecs"])
def test_what_is_no_rate_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"1 per 90 days|is not a duration"):
        parse_rate(text)


def test_a_rate_is_a_run_length_on_every_clock() -> None:
    assert parse_rate("1 per 90 days").ticks(HOUR_US) == 2160
    assert parse_rate("3 per 90 days").ticks(DAY_US) == 30
    with pytest.raises(ValueError, match="more than one per tick"):
        parse_rate("2 per hour").ticks(HOUR_US)


def test_harm_gets_most_of_the_budget() -> None:
    found = shares({"errors/a": 3, "errors/b": 1}, {"x": 5, "y": 5})
    assert found == pytest.approx({"errors/a": 0.525, "errors/b": 0.175, "x": 0.15, "y": 0.15})
    assert shares({}, {"x": 2.0}) == {"x": 1.0}
    with pytest.raises(ValueError, match="not zero altogether"):
        shares({"a": 0.0}, {})


def fleet(budget: AlarmBudget, names: str) -> dict[str, SequentialDetector]:
    return {
        name: SequentialDetector(
            Plan(
                kind="normal",
                run_length=budget.run_length_of(name),
                memory=budget.memory_of(name),
                centre=0.0,
                scale=1.0,
            )
        )
        for name in names
    }


def test_it_names_the_stream_that_changed_and_restarts_all() -> None:
    budget = AlarmBudget(1000, dict.fromkeys("abcdefghij", 0.1), {"c": 4})
    streams = fleet(budget, "abcdefghij")
    rng = np.random.default_rng(1)
    for tick in range(400):
        for name, detector in streams.items():
            if name != "c" or tick % 4 == 3:
                detector.update(rng.normal(3.0 if name == "c" and tick >= 50 else 0.0))
        budget.update(streams)
        if budget.alarm:
            break
    assert 50 < tick < 80
    assert budget.suspects[0].stream == "c"
    assert budget.suspects[0].part > 0.8
    assert all(detector.evidence == 0 for detector in streams.values())
    budget.update(streams)
    assert not budget.alarm
    assert budget.alarms == 1


@pytest.mark.parametrize("common", [0.0, 0.5, 1.0])
def test_the_run_length_holds_however_the_streams_move_together(common: float) -> None:
    rng, run_length, rows, streams = np.random.default_rng(2), 200.0, 20, 15
    core = Evidence(Plan(kind="normal", run_length=run_length, centre=0.0, scale=1.0), rows * streams)
    ticks, alarms = 4_000, 0
    for _ in range(ticks):
        z = np.sqrt(common) * rng.standard_normal((rows, 1)) + np.sqrt(1 - common) * rng.standard_normal(
            (rows, streams)
        )
        core.step(z.ravel())
        over = core.mean().reshape(rows, streams).mean(axis=1) >= run_length
        alarms += int(over.sum())
        core.restart(np.repeat(over, streams))
    assert counted(alarms, float(ticks * rows), run_length).low >= run_length


def test_the_budget_of_one_stream_is_its_own_alarm() -> None:
    budget = AlarmBudget(500, {"a": 1.0}, {"a": 5})
    assert budget.run_length_of("a") == 100
    streams = fleet(budget, "a")
    for value in np.random.default_rng(3).normal(1.0, 1.0, 60).tolist():
        streams["a"].update(value)
        alarm = streams["a"].alarm
        budget.update(streams)
        assert budget.alarm == alarm
    assert budget.alarms > 0


def test_a_new_stream_gets_a_part_of_its_parents_share() -> None:
    budget = AlarmBudget(100, {"a": 0.6, "b": 0.4}, {"a": 2})
    budget.split("a", "a/north", 0.25)
    assert budget.state.weights == pytest.approx({"a": 0.45, "b": 0.4, "a/north": 0.15})
    assert budget.state.moves["a/north"] == 2
    with pytest.raises(ValueError, match="has a share already"):
        budget.split("a", "b", 0.5)
    with pytest.raises(KeyError, match="no share of the budget"):
        budget.update({"z": SequentialDetector(Plan(kind="normal", run_length=10, centre=0.0, scale=1.0))})


def test_learning_streams_count_for_nothing() -> None:
    budget = AlarmBudget(10, {"a": 1.0})
    streams = {"a": SequentialDetector(Plan(kind="normal", run_length=10, learn=50))}
    for value in np.random.default_rng(4).normal(0, 1, 49).tolist():
        streams["a"].update(value)
        budget.update(streams)
        assert budget.evidence == 0
    assert streams["a"].status == "learning"


def test_it_is_restored_exactly() -> None:
    budget = AlarmBudget(50, {"a": 0.5, "b": 0.5})
    streams = fleet(budget, "ab")
    rng = np.random.default_rng(5)
    restored = budget
    for tick in range(80):
        copies = {name: SequentialDetector.from_state(detector.state) for name, detector in streams.items()}
        restored = AlarmBudget.from_state(msgspec.json.decode(msgspec.json.encode(budget.state), type=BudgetState))
        for name in "ab":
            value = float(rng.normal(2.0 if tick > 20 else 0.0))
            streams[name].update(value)
            copies[name].update(value)
        budget.update(streams)
        restored.update(copies)
        assert restored.state == budget.state
    assert budget.alarms > 0
    with pytest.raises(ValueError, match="version 7"):
        AlarmBudget.from_state(msgspec.structs.replace(budget.state, version=7))


@pytest.mark.parametrize("weights", [{"a": 0.7, "b": 0.7}, {"a": -0.1}, {"a": math.nan}])
def test_weights_beyond_the_budget_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="at most 1"):
        AlarmBudget(100, weights)


def test_lengths_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one tick"):
        AlarmBudget(0.0, {})
    with pytest.raises(ValueError, match="after one tick or more"):
        AlarmBudget(10, {"a": 1.0}, {"a": 0})
