"""The contract of the sequential detectors, under every kind of plan, and the promised run length by simulation."""

import math
from collections.abc import Iterable

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from models.run_length import counted
from models.sequential import Evidence, Plan, SequentialDetector, SequentialState, upper_mean

Floats = NDArray[np.float64]
PLANS = {
    "bounded-known": Plan(kind="bounded", run_length=2000, centre=0.1, side="up"),
    "bounded-both": Plan(kind="bounded", run_length=2000, centre=0.1),
    "bounded-learned": Plan(kind="bounded", run_length=2000, learn=400),
    "normal-known": Plan(kind="normal", run_length=2000, centre=0.0, scale=1.0, tolerance=0.1),
    "normal-learned": Plan(kind="normal", run_length=2000, learn=60),
    "normal-season": Plan(kind="normal", run_length=2000, learn=60, positions=4),
    "mean-learned": Plan(kind="mean", run_length=2000, learn=60, farthest=5.0),
}
LEVELS = (0.0, 4.0, -2.0, 1.0)  # of the season
every = pytest.mark.parametrize("name", PLANS)


def stream(name: str, seed: int, n: int, shift: float = 0.0, start: int = 0) -> list[tuple[float, int]]:
    """Values with their positions: 0/1 errors of rate .1 (+ shift / 5), or normal ones (+ shift), as the plan needs."""
    rng = np.random.default_rng(seed)
    plan = PLANS[name]
    if plan.kind == "bounded":
        return [(float(v), 0) for v in rng.random(n) < 0.1 + shift / 5]
    values = rng.normal(shift, 1.0, n).tolist()
    if plan.positions == 1:
        return [(v, 0) for v in values]
    return [(v + LEVELS[(start + i) % 4], (start + i) % 4) for i, v in enumerate(values)]


def quiet(name: str, seed: int = 1) -> list[tuple[float, int]]:
    """Enough to learn from, and some more."""
    return stream(name, seed, PLANS[name].learn + 100 - PLANS[name].learn % 4)


def fired(detector: SequentialDetector, values: Iterable[tuple[float, int]]) -> list[int]:
    """At which updates it raised an alarm."""
    found = []
    for number, (value, position) in enumerate(values):
        detector.update(value, position)
        if detector.alarm:
            found.append(number)
    return found


def through_wire(detector: SequentialDetector) -> SequentialDetector:
    """Stored as bytes and read again, as after a restart."""
    as_json = msgspec.json.decode(msgspec.json.encode(detector.state), type=SequentialState)
    as_msgpack = msgspec.msgpack.decode(msgspec.msgpack.encode(detector.state), type=SequentialState)
    assert as_json == as_msgpack == detector.state
    return SequentialDetector.from_state(as_json)


@every
def test_a_restored_detector_goes_on_exactly_as_the_one_that_lived(name: str) -> None:
    lived = SequentialDetector(PLANS[name])
    restored = lived
    before = quiet(name)
    for number, (value, position) in enumerate(before + stream(name, 2, 300, shift=2.0, start=len(before))):
        if number % 37 in {0, 5} or lived.alarm:
            restored = through_wire(lived)
        lived.update(value, position)
        if restored is not lived:
            restored.update(value, position)
        assert restored.state == lived.state
    assert lived.alarms > 0


def test_a_state_written_by_the_first_version_is_read() -> None:
    """As bytes in a store, with what is needed; the other fields have defaults."""
    first = (
        '{"plan":{"kind":"normal","run_length":100.0,"learn":4},"version":1,"evidence":[1.0,0.5,0.25,0.0,1.0,0.5,0.25,'
        '0.0],"ages":[3.0,1.0,0.5,0.0,3.0,1.0,0.5,0.0],"counts":[9],"means":[5.0],"squares":8.0}'
    )
    detector = SequentialDetector.from_state(msgspec.json.decode(first, type=SequentialState))
    assert detector.status == "watching"
    assert 0 < detector.evidence < 1
    assert fired(detector, [(5.0 + 2 * i, 0) for i in range(6)])


@every
def test_its_state_stays_bounded(name: str) -> None:
    detector = SequentialDetector(PLANS[name])
    values = quiet(name)
    fired(detector, values)
    size = len(msgspec.msgpack.encode(detector.state))
    fired(detector, stream(name, 3, 4_000, start=len(values)) + stream(name, 4, 1_000, shift=3.0))
    assert len(msgspec.msgpack.encode(detector.state)) <= size + 100
    assert all(math.isfinite(v) for v in (*detector.state.evidence, *detector.state.ages, detector.state.squares))


@every
@pytest.mark.parametrize("value", [0.0, 0.1, -1e140, 1e140])
def test_it_is_silent_on_a_learned_constant(name: str, value: float) -> None:
    plan = PLANS[name]
    if plan.centre is not None:
        value = plan.centre
    assert fired(SequentialDetector(plan), [(value, i % plan.positions) for i in range(1_000)]) == []


@every
@pytest.mark.parametrize("shift", [2.5, -2.5])
def test_it_fires_on_a_change_and_says_when_and_which_way(name: str, shift: float) -> None:
    if PLANS[name].kind == "bounded" and shift < 0:
        return  # errors of 10% cannot fall by 50 points; see the test of the sides
    errors = []
    for seed in range(5):
        detector = SequentialDetector(PLANS[name])
        before = quiet(name, seed)
        assert fired(detector, before) == []
        after = fired(detector, stream(name, seed + 50, 60, shift=shift, start=len(before))[:60])
        assert after, f"seed {seed}"
        again = SequentialDetector(PLANS[name])
        fired(again, before)
        fired(again, stream(name, seed + 50, 60, shift=shift, start=len(before))[: after[0] + 1])
        assert again.alarm
        assert again.since is not None
        errors.append(abs(again.since - after[0] - 1))
        assert again.shift is not None
        assert again.shift * shift > 0
    assert PLANS[name].kind == "mean" or np.median(errors) <= 5  # the small bets of `mean` tell the time badly


@every
def test_values_that_are_not_finite_are_counted_and_change_nothing(name: str) -> None:
    clean, dirty = SequentialDetector(PLANS[name]), SequentialDetector(PLANS[name])
    values = quiet(name) + stream(name, 6, 40, shift=2.5)
    alarms = fired(clean, values)
    for number, (value, position) in enumerate(values):
        dirty.update((math.nan, math.inf, -math.inf, 1e200)[number % 4], position)
        assert not dirty.alarm
        dirty.update(value, position)
        assert dirty.alarm == (number in alarms)
    assert alarms
    assert dirty.skipped == len(values)
    assert dirty.state == msgspec.structs.replace(clean.state, skipped=len(values))


@every
def test_replaying_gives_the_same_state(name: str) -> None:
    one, two = SequentialDetector(PLANS[name]), SequentialDetector(PLANS[name])
    values = quiet(name) + stream(name, 7, 60, shift=2.0)
    assert fired(one, values) == fired(two, values)
    assert one.state == two.state


@pytest.mark.parametrize("name", ["normal-learned", "normal-season", "mean-learned"])
def test_the_learned_baseline_makes_units_irrelevant_and_one_absurd_value_does_not_deafen(name: str) -> None:
    values = quiet(name) + stream(name, 8, 40, shift=2.5)
    plain = fired(SequentialDetector(PLANS[name]), values)
    assert plain == fired(SequentialDetector(PLANS[name]), [(1024 + v / 4, p) for v, p in values])
    deafened = SequentialDetector(PLANS[name])
    fired(deafened, [*quiet(name), (1e100, 0)])
    assert fired(deafened, stream(name, 9, 60, shift=2.5))


def test_sides_see_their_own_direction_only() -> None:
    for side, rate in (("up", 0.9), ("down", 0.1)):
        seen = {
            other: SequentialDetector(Plan(kind="bounded", run_length=1000, centre=0.5, side=other))
            for other in ("up", "down", "both")
        }
        errors = [(float(v), 0) for v in np.random.default_rng(1).random(60) < rate]
        found = {other for other, detector in seen.items() if fired(detector, errors)}
        assert found == {side, "both"}


@pytest.mark.parametrize("plan", PLANS.values())
def test_evidence_does_not_add_up_to_an_alarm_by_age(plan: Plan) -> None:
    """Values that say nothing at all leave every factor at 1; the sum would reach any limit in time."""
    detector = SequentialDetector(msgspec.structs.replace(plan, run_length=50.0))
    value = 0.1 if plan.kind == "bounded" else 0.0
    assert fired(detector, [(value, i % plan.positions) for i in range(2_000)]) == []


def test_a_mean_of_zero_or_one_is_a_baseline_too() -> None:
    never = SequentialDetector(Plan(kind="bounded", run_length=1000, centre=0.0))
    assert fired(never, [(0.0, 0)] * 2000) == []
    assert fired(never, [(1.0, 0)] * 3)
    always = SequentialDetector(Plan(kind="bounded", run_length=1000, learn=500, low=-1.0, high=1.0))
    assert fired(always, [(1.0, 0)] * 2000) == []
    assert fired(always, [(-1.0, 0)] * 10)


# ------------------------------------------------------------------------------------------------ the theorem


def achieved(
    plan: Plan, draw: str, *, rows: int = 100, lengths: int = 10, seed: int = 11
) -> tuple[float, float, float]:
    """Mean run length with its 90% interval, each row with a baseline of its own."""
    rng = np.random.default_rng(seed)
    core, alarms = Evidence(plan, rows), 0
    levels, spreads = rng.normal(0, 3, (rows, plan.positions)), rng.uniform(0.1, 10, rows)
    steps = int(lengths * plan.run_length)
    for step in range(plan.learn + steps):
        position = step % plan.positions
        if draw == "errors":
            values = (rng.random(rows) < 0.1).astype(np.float64)
        elif draw == "beta":
            values = rng.beta(0.5, 4.5, rows)
        elif draw == "skewed":
            values = levels[:, position] + spreads * rng.exponential(1.0, rows)
        else:
            values = rng.standard_normal(rows)
            values = values if plan.centre is not None else levels[:, position] + spreads * values
        core.step(values, position)
        over = core.mean() >= plan.limit
        alarms += int(over.sum())
        core.restart(over)
    found = counted(alarms, float(rows * steps), plan.run_length)
    return found.achieved or math.inf, found.low, found.high or math.inf


@pytest.mark.parametrize(
    ("plan", "draw", "most"),
    [
        (Plan(kind="bounded", run_length=300, memory=1e9, centre=0.1), "errors", 1.7),
        (Plan(kind="bounded", run_length=300, memory=1e9, centre=0.1, side="up"), "beta", 9.0),  # bets are made for 0/1
        (Plan(kind="bounded", run_length=300, memory=1e9, learn=500), "errors", 20.0),
        (Plan(kind="normal", run_length=300, memory=1e9, centre=0.0, scale=1.0), "normal", 1.7),
        (Plan(kind="normal", run_length=300, learn=20), "normal", 2.0),
        (Plan(kind="normal", run_length=300, memory=1e9, learn=20), "normal", 1.7),
        (Plan(kind="normal", run_length=300, memory=1e9, learn=28, positions=7), "normal", 1.7),
        (Plan(kind="mean", run_length=300, memory=1e9, learn=60, farthest=9.0), "skewed", 1.7),
        (Plan(kind="mean", run_length=300, memory=1e9, learn=500, smallest=0.15, side="up"), "errors", 1.7),
    ],
)
def test_the_run_length_is_as_promised_and_not_much_more(plan: Plan, draw: str, most: float) -> None:
    _, low, high = achieved(plan, draw)
    # Kind `mean` pays for its baseline to first order only.
    assert high >= low >= plan.run_length * (0.95 if plan.kind == "mean" else 1.0)
    assert low <= most * plan.run_length


def test_without_paying_for_what_was_learned_the_promise_would_be_broken() -> None:
    """Twenty values tell the baseline badly: a detector that takes them for the truth alarms too often."""
    rng = np.random.default_rng(12)
    plan = Plan(kind="normal", run_length=300, centre=0.0, scale=1.0)
    core, alarms = Evidence(plan, 100), 0
    learned = rng.standard_normal((100, 20))
    for _ in range(3_000):
        core.step((rng.standard_normal(100) - learned.mean(axis=1)) / learned.std(axis=1, ddof=1))
        over = core.mean() >= plan.limit
        alarms += int(over.sum())
        core.restart(over)
    found = counted(alarms, 300_000.0, 300.0)
    assert found.high is not None
    assert found.high < 300


def test_the_upper_bound_of_a_mean_holds_as_often_as_promised() -> None:
    means = np.random.default_rng(13).binomial(200, 0.1, 2_000) / 200
    missed = np.mean([upper_mean(float(m), 200, 0.1) < 0.1 for m in means])
    assert missed <= 0.1
    assert upper_mean(0.0, 100, 0.1) == pytest.approx(1 - 0.1 ** (1 / 100))
    assert upper_mean(1.0, 100, 0.1) == 1.0


def test_five_points_more_errors_are_found_within_425_labels() -> None:
    """At a run length of 100 000, with the error rate of 10% known, after 3 000 labels without change."""
    plan = Plan(kind="bounded", run_length=100_000, centre=0.1, side="up")
    rng = np.random.default_rng(14)
    core, first = Evidence(plan, 2_000), np.full(2_000, np.inf)
    for step in range(5_000):
        core.step((rng.random(2_000) < (0.10 if step < 3_000 else 0.15)).astype(np.float64))
        over = core.mean() >= plan.limit
        if step < 3_000:
            core.restart(over)
        else:
            first = np.where(over & np.isinf(first), step - 2_999, first)
    assert np.median(first) <= 425


# ------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"run_length": 0.5}, "at least one update"),
        ({"run_length": math.nan}, "at least one update"),
        ({}, "either `centre` or how many"),
        ({"centre": 0.1, "learn": 10}, "either `centre` or how many"),
        ({"centre": 2.0}, "outside of"),
        ({"centre": math.nan}, "must be finite"),
        ({"centre": 0.1, "low": 1.0}, "low must be below high"),
        ({"centre": 0.1, "risk": 0.0}, "risk lies between"),
        ({"centre": 0.1, "smallest": 0.0}, "must be positive"),
        ({"centre": 0.1, "farthest": 0.0}, "farthest"),
        ({"centre": 0.1, "positions": 2}, "needs block means"),
        ({"kind": "normal", "centre": 0.1}, "positive `scale`"),
        ({"kind": "mean", "centre": 0.1}, "learns its baseline"),
        ({"kind": "normal", "learn": 3, "positions": 2}, "two values beyond"),
        ({"kind": "normal", "learn": 30, "tolerance": 0.1}, "no tolerance"),
    ],
)
def test_plans_that_cannot_work_are_refused(facts: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        msgspec.convert({"kind": "bounded", "run_length": 100.0, **facts}, Plan)


def test_states_and_positions_that_do_not_fit_are_refused() -> None:
    detector = SequentialDetector(PLANS["normal-season"])
    with pytest.raises(ValueError, match="position 4"):
        detector.update(0.0, 4)
    with pytest.raises(ValueError, match="version 2"):
        SequentialDetector.from_state(msgspec.structs.replace(detector.state, version=2))
    with pytest.raises(ValueError, match="does not fit"):
        SequentialDetector.from_state(msgspec.structs.replace(detector.state, evidence=(0.0,)))
