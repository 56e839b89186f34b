"""What is achieved beside what is promised, on reference traffic that depends on itself."""

import math
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import lfilter

from models.blocks import BlockMeans
from models.run_length import Preparation, Resampled, counted, filled, prepare, replayed, started
from models.sequential import Plan

Floats = NDArray[np.float64]
PROMISED = 2_160.0  # hours in 90 days


def ar1(n: int, seed: int, phi: float = 0.9) -> Floats:
    noise = np.random.default_rng(seed).standard_normal(n + 300) * np.sqrt(1 - phi**2)
    return np.asarray(lfilter([1], [1, -phi], noise)[300:])


def daily(n: int, seed: int) -> Floats:
    return np.asarray(ar1(n, seed, 0.3) + 2 * np.sin(2 * np.pi * np.arange(n) / 24))


def bursts(n: int, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    ends = np.cumsum(rng.geometric([1 / 95, 1 / 5], (n // 50 + 50, 2)).ravel())
    return np.asarray(rng.standard_normal(n) + 4 * (np.searchsorted(ends, np.arange(n), side="right") % 2))


def iid(n: int, seed: int) -> Floats:
    return ar1(n, seed, 0.0)


Traffic = tuple[Callable[[int, int], Floats], int]
TRAFFIC: dict[str, Traffic] = {"iid": (iid, 1), "ar1": (ar1, 1), "daily": (daily, 24), "bursts": (bursts, 1)}


def ticks_of_alarms(prepared: Preparation, reference: Floats, season: int, values: Floats) -> list[int]:
    """When a detector prepared and started from the reference alarms on what comes after it."""
    detector, blocks = started(prepared, reference), BlockMeans(prepared.length or 1, season)
    assert detector.status == "watching"
    found: list[int] = []
    for tick, value in enumerate(values.tolist()):
        blocks.update(tick, value)
        for block in blocks.closed:
            detector.update(block.mean, block.position)
            if detector.alarm:
                found.append(tick)
    return found


@pytest.mark.parametrize("name", TRAFFIC)
def test_fresh_traffic_keeps_the_promise_and_a_shift_is_found(name: str) -> None:
    draw, season = TRAFFIC[name]
    quiet, false, delays = 21_600, 0, []
    for seed in range(3):
        reference = draw(2_400 if name == "iid" else 9_600, seed)
        prepared = prepare(reference, PROMISED, season=season)
        assert prepared.status == "watching", prepared.reason
        assert prepared.run_length is not None
        assert prepared.run_length.kept
        values = draw(quiet + 2_400, seed + 100)
        values[quiet:] += 2 * values.std()
        alarms = ticks_of_alarms(prepared, reference, season, values)
        false += sum(tick < quiet for tick in alarms)
        delays.append(min(tick - quiet for tick in alarms if tick >= quiet))
    high = counted(false, 3 * quiet, PROMISED).high
    assert high is None or high >= PROMISED
    assert max(delays) < 1_500


def test_a_plan_that_ignores_dependence_is_seen_to_break_its_promise() -> None:
    plan = Plan(kind="normal", run_length=PROMISED, learn=400)
    found = replayed(plan, ar1(4_000, 1), chunk=200)
    assert found.high is not None
    assert found.high < 0.1 * PROMISED
    assert not found.kept
    fine = replayed(plan, ar1(4_000, 1, 0.0), chunk=5)
    assert fine.kept
    assert fine.low > 0.75 * PROMISED


@pytest.mark.parametrize(
    ("reference", "season", "told"),
    [
        (np.zeros(5_000), 1, "never varies"),
        (np.zeros(30), 24, "no two whole seasons"),
        (np.full(5_000, np.nan), 1, "no two whole seasons"),
        (ar1(600, 2), 1, "too short for 40 blocks"),
        (np.cumsum(np.random.default_rng(3).standard_normal(3_000)), 1, "too short"),
    ],
)
def test_a_stream_that_cannot_keep_the_promise_stays_in_learning(reference: Floats, season: int, told: str) -> None:
    found = prepare(reference, PROMISED, season=season)
    assert found.status == "learning"
    assert found.reason is not None
    assert told in found.reason
    with pytest.raises(ValueError, match="no plan was prepared"):
        started(found, reference)


def test_what_was_achieved_is_told_beside_the_promise() -> None:
    assert counted(4, 1_000.0, 500.0).told() == (
        "false alarms in replay: one every 250 ticks (90% interval 109.2 to 731.9), promised one every 500"
    )
    assert counted(0, 1_000.0, 500.0).told() == (
        "false alarms in replay: none in 1000 ticks (90% interval 333.8 or more), promised one every 500"
    )


def test_preparing_is_replay_identical_and_survives_the_wire() -> None:
    reference = daily(4_800, 6)
    reference[::17] = np.nan
    one, two = prepare(reference, PROMISED, season=24), prepare(reference, PROMISED, season=24)
    assert one == two
    assert msgspec.json.decode(msgspec.json.encode(one), type=Preparation) == one
    assert one.plan is not None
    assert started(one, reference).state == started(two, reference).state


def test_resampled_traffic_keeps_the_place_in_the_season_and_the_chunks() -> None:
    reference = np.arange(480.0)
    traffic = Resampled(reference, 24, 30, seed=1, rows=50)
    rows = np.array([traffic.step() for _ in range(2_000)])
    assert (rows % 24 == (np.arange(2_000) % 24)[:, None]).all()
    runs = np.mean(np.diff(rows, axis=0) % 480 == 1)
    # A jump may land where it came from.
    assert runs == pytest.approx(1 - 1 / 30 * 19 / 20, abs=0.003)
    assert abs(np.mean(rows) - reference.mean()) < 5


def test_missing_values_are_taken_from_another_season() -> None:
    values = np.array([1.0, 2.0, np.nan, 20.0, 3.0, np.nan, 99.0])
    assert filled(values, 2).tolist() == [1.0, 2.0, 1.0, 20.0, 3.0, 2.0]
    assert len(filled(np.array([1.0, np.nan, 2.0, np.nan]), 2)) == 0


def test_the_interval_of_a_run_length_covers_the_truth() -> None:
    rng = np.random.default_rng(7)
    found = [counted(int(k), 1_000.0, 100.0) for k in rng.poisson(10.0, 2_000)]
    covered = np.mean([f.low <= 100.0 <= (f.high or math.inf) for f in found])
    assert 0.89 <= covered <= 0.97
    assert counted(0, 100.0, 10.0).achieved is None
    assert counted(0, 100.0, 10.0).kept
