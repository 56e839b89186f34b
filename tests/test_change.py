"""Changes under one budget: learned, found, dated, learned anew; and silent as long as promised."""

from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import lfilter

from models.change import MOST_STREAMS, Change, ChangeState, Reading
from models.change_told import status, told, verdicts
from models.joint_replay import Armed, together
from models.sequential import Plan

Floats = NDArray[np.float64]
HOUR = 3_600_000_000
PROMISED, DAILY = 4_320.0, 24  # windows: 180 days of hours


def ar1(n: int, seed: int, phi: float) -> Floats:
    noise = np.random.default_rng(seed).standard_normal(n + 200) * np.sqrt(1 - phi**2)
    return np.asarray(lfilter([1], [1, -phi], noise)[200:])


def run(change: Change, first: int, last: int, **streams: Callable[[int], float | None]) -> list[int]:
    """Feed windows `first` to `last`; names beginning with `harm_` are streams of harm. The ticks of alarms."""
    found = []
    for tick in range(first, last):
        readings = {
            name: Reading(value, harm=name.startswith("harm_"))
            for name, of in streams.items()
            if (value := of(tick)) is not None
        }
        change.update(tick, readings)
        if change.alarm:
            found.append(tick)
    return found


def made() -> Change:
    return Change(PROMISED, DAILY, HOUR)


def test_it_learns_watches_finds_a_change_and_learns_the_new_level() -> None:
    x, y = ar1(1_600, 1, 0.0), ar1(1_600, 2, 0.0)
    y[1_200:] += 1.5
    change = made()
    run(change, 0, 100, x=x.item, y=y.item)
    assert {s.status for s in change.streams.values()} == {"learning"}
    assert told(change).endswith("2 of 2 streams are learning, and nothing is replayed yet")
    assert run(change, 100, 1_200, x=x.item, y=y.item) == []
    assert {s.status for s in change.streams.values()} == {"watching"}
    assert change.achieved is not None
    assert change.achieved.low >= PROMISED / 2
    assert told(change).startswith("one false alarm in 180.0 days is promised; in 1800.0 days of replayed reference")
    (alarm,) = run(change, 1_200, 1_600, x=x.item, y=y.item)
    assert alarm < 1_220
    (suspect,) = change.last
    assert suspect.stream == "y"
    assert abs(suspect.moved.since - 1_200) <= 4
    assert 1.5 <= suspect.moved.size < 2.5, "those behind an alarm are the larger ones"
    assert change.streams["y"].status == "watching", "the new level is known"
    assert change.held == {}


def test_a_daily_cycle_is_no_change_and_a_shift_within_it_is_one() -> None:
    x = ar1(3_000, 3, 0.0) / 2 + 3 * np.sin(2 * np.pi * np.arange(3_000) / 24)
    x[2_500:] += 1.0
    change = made()
    assert run(change, 0, 2_500, x=x.item) == []
    assert change.streams["x"].status == "watching"
    (alarm, *_) = run(change, 2_500, 3_000, x=x.item)
    assert alarm < 2_520


def test_a_stream_that_cannot_keep_the_promise_stays_in_learning_with_the_reason() -> None:
    walk, still = np.cumsum(ar1(2_000, 4, 0.0)), 0.7
    change = made()
    assert run(change, 0, 2_000, walk=walk.item, still=lambda _: still) == []
    streams = status(change)["streams"]
    assert {s["state"] for s in streams.values()} == {"learning"}
    assert "too short for 40 blocks" in streams["walk"]["reason"]
    assert "never varies" in streams["still"]["reason"]
    assert status(change)["achieved"] is None


def test_a_share_that_was_always_zero_is_bounded_and_watched() -> None:
    change = made()
    assert run(change, 0, 600, harm_failures=lambda _: 0.0) == []
    assert change.streams["harm_failures"].status == "watching"
    (alarm, *_) = run(change, 600, 700, harm_failures=lambda tick: 0.1 if tick % 2 else 0.15)
    assert alarm < 640


def test_values_that_come_seldom_are_joined_until_units_are_full() -> None:
    x = ar1(4_000, 5, 0.0)
    x[3_500:] += 2.0
    change = made()
    assert len(run(change, 0, 3_500, x=lambda t: x.item(t) if t % 5 == 0 else None)) <= 1
    stream = change.streams["x"]
    assert (stream.status, stream.traffic.unit) == ("watching", 8), "eight fit a day of 24"
    assert run(change, 3_500, 4_000, x=lambda t: x.item(t) if t % 5 == 0 else None)


def test_shares_only_fall_and_streams_are_bounded() -> None:
    change = made()
    run(change, 0, 3, a=float)
    assert change.budget.state.weights == {"a": 1.0}
    run(change, 3, 5, a=float, harm_b=float)
    assert change.budget.state.weights == pytest.approx({"a": 0.3, "harm_b": 0.7})
    run(change, 5, 7, **{f"f{i}": float for i in range(300)})
    weights = change.budget.state.weights
    assert len(weights) == len(change.streams) == MOST_STREAMS
    assert sum(weights.values()) == pytest.approx(1.0)
    assert weights["harm_b"] == pytest.approx(0.7)


def test_values_that_are_no_numbers_and_windows_out_of_order_change_nothing() -> None:
    x = ar1(300, 6, 0.0)
    clean, dirty = made(), made()
    for tick in range(300):
        clean.update(tick, {"x": Reading(x.item(tick))})
        dirty.update(tick, {"x": Reading(x.item(tick))})
        dirty.update(tick - 5, {"x": Reading(99.0)})
    assert dirty.state == clean.state
    for tick in range(300, 320):
        dirty.update(tick, {"x": Reading(float("nan"))})
    assert dirty.streams["x"].detector is not None
    assert dirty.streams["x"].detector.evidence == clean.streams["x"].detector.evidence  # type: ignore[union-attr]


def test_a_restart_in_every_phase_goes_on_bit_for_bit() -> None:
    x = ar1(900, 7, 0.0)
    x[500:] += 2.0
    lived, restarted = made(), made()
    for tick in range(900):
        for change in (lived, restarted):
            change.update(tick, {"x": Reading(x.item(tick)), "harm": Reading(0.0, harm=True)}, seed=tick)
        if tick % 23 == 0 or lived.alarm:
            body = msgspec.msgpack.encode(restarted.state)
            restarted = Change.from_state(msgspec.msgpack.decode(body, type=ChangeState))
        assert restarted.state == lived.state
    assert lived.budget.alarms > 0
    with pytest.raises(ValueError, match="version 2"):
        Change.from_state(msgspec.structs.replace(lived.state, version=2))


def test_harm_without_a_change_of_data_speaks_of_the_meaning_of_labels() -> None:
    rng = np.random.default_rng(8)
    errors = rng.binomial(200, 0.1, 900) / 200
    errors[600:] = rng.binomial(200, 0.2, 300) / 200
    x = ar1(900, 9, 0.0)

    def told_by(data: Floats) -> list[tuple[str, str]]:
        change = Change(PROMISED, DAILY, HOUR)
        for tick in range(640):
            change.update(tick, {"errors": Reading(errors.item(tick), harm=True), "inputs/x": Reading(data.item(tick))})
        return [(v.check, v.severity) for v in verdicts(change)]

    assert told_by(x) == [("calibration-and-concept", "warning")]
    moved = x.copy()
    moved[595:] += 5.0
    assert told_by(moved) == [("covariate-drift", "info"), ("quality-and-time-to-threshold", "warning")]


def test_the_joint_replay_keeps_what_moves_together_and_blames_who_breaks_the_promise() -> None:
    calm, wild = ar1(480, 10, 0.0), ar1(480, 11, 0.9)
    plan = Plan(kind="normal", run_length=1e15, memory=1_000, learn=100)
    fine = together({"a": Armed(plan, 1, 1, 0.5, calm), "b": Armed(plan, 1, 1, 0.5, calm)}, 1_000, season=1, seed=1)
    assert fine.run_length.low > 1_000 / 2
    broken = together({"a": Armed(plan, 1, 1, 0.5, calm), "b": Armed(plan, 1, 1, 0.5, wild)}, 1_000, season=1, seed=1)
    assert broken.run_length.high is not None
    assert broken.run_length.high < 200
    assert broken.blamed["b"] > 0.95
    again = together({"a": Armed(plan, 1, 1, 0.5, calm), "b": Armed(plan, 1, 1, 0.5, wild)}, 1_000, season=1, seed=1)
    assert again == broken


@pytest.mark.parametrize("phi", [0.0, 0.6])
def test_years_without_change_see_no_more_alarms_than_promised(phi: float) -> None:
    """Three streams; a short promise, so that a broken one shows."""
    alarms, watched = 0, 0
    for seed in range(2):
        data = np.stack([ar1(1_500, 100 * seed + i, phi) for i in range(2)])
        change = Change(300.0, 1, HOUR)
        for tick in range(1_500):
            change.update(tick, {f"x{i}": Reading(v) for i, v in enumerate(data[:, tick].tolist())}, seed=seed)
            alarms += change.alarm
            watched += any(s.status == "watching" for s in change.streams.values())
    assert watched > 700
    assert alarms <= 3_000 / 300


def test_a_stream_younger_than_a_unit_of_a_rarer_one_is_replayed_too() -> None:
    """Labels that come rarely have long units; what watches already may be known for less than one of them."""
    noise, plan = ar1(4_000, 5, 0.0), Plan(kind="normal", run_length=100.0, centre=0.0, scale=1.0)
    rare, young = Armed(plan, 12, 1, 0.5, noise[:40]), Armed(plan, 1, 1, 0.5, noise[:2])
    joint = together({"rare": rare, "young": young}, 100.0, season=1, seed=1)
    assert joint.run_length.ticks > 0
    assert set(joint.blamed) == {"rare", "young"}
