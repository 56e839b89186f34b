"""The Kalman forecast: what it learns from labels and confidences, when it is silent, what its interval is worth."""

import math

import msgspec
import numpy as np
import pytest

from benchmarks import forecast as house
from models.forecast import (
    MEMORY,
    MINIMUM,
    Filtered,
    Reading,
    current_quality,
    filter_quality,
    first_passage,
    passage_law,
    quantile,
    reading,
    shortest_interval,
    simulate,
)
from models.quality import Estimate, audited

SE = math.sqrt(0.92 * 0.08 / 500)


def audits(levels: list[float], *, seed: int = 0, start: int = 0) -> list[Reading]:
    noise = np.random.default_rng(seed).normal(0, SE, len(levels))
    return [
        Reading(window=start + i, audit=float(level + e), audit_se=SE)
        for i, (level, e) in enumerate(zip(levels, noise, strict=True))
    ]


def decline(windows: int, per_window: float) -> list[float]:
    return [0.92 - per_window * i for i in range(windows)]


def test_a_stable_level_is_found_within_its_interval() -> None:
    held = 0
    for seed in range(100):
        found = current_quality(filter_quality(audits([0.92] * 60, seed=seed)))
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.92 <= found.high
        assert found.high - found.low < 2 * 1.645 * SE
    assert held >= 85


def test_a_steady_decline_is_followed_and_its_end_forecast() -> None:
    # From .92 by .001 a window: after 40 windows .881, so .85 is passed 31 windows later.
    forecasts = [first_passage(filter_quality(audits(decline(40, 0.001), seed=s)), 0.85) for s in range(20)]
    assert 22 <= np.median([f.median or 121 for f in forecasts]) <= 40
    assert sum((f.low or 0) <= 31 <= (f.high or 121) for f in forecasts) >= 17
    filtered = filter_quality(audits(decline(40, 0.001)))
    assert filtered.slope == pytest.approx(-0.001, abs=3 * math.sqrt(filtered.covariance[1][1]))


def test_labels_teach_the_bias_and_label_free_readings_carry_on() -> None:
    rng = np.random.default_rng(3)
    biased = [
        Reading(
            window=i,
            audit=float(0.85 + rng.normal(0, 0.02)) if i < 40 else None,
            audit_se=0.02,
            label_free=float(0.90 + rng.normal(0, 0.005)),
            label_free_se=0.005,
            bias_sd=0.05,
        )
        for i in range(50)
    ]
    both = current_quality(filter_quality(biased))
    blind = current_quality(filter_quality([msgspec.structs.replace(r, audit=None) for r in biased]))
    assert both.basis == "both"
    assert both.estimate == pytest.approx(0.85, abs=0.02)
    assert blind.basis == "label-free"
    assert blind.estimate == pytest.approx(0.90, abs=0.01)
    assert blind.low is not None
    assert blind.low < 0.85  # without labels the interval owns up to the bias that induced drift showed
    assert both.low is not None
    assert both.low > blind.low


def test_the_interval_of_the_quality_covers_with_few_labels_and_a_moving_bias() -> None:
    rng = np.random.default_rng(9)
    held, widths = [], []
    for _ in range(150):
        bias, readings = rng.normal(0, 0.03), []
        level = 0.85
        for window in range(60):
            bias = 0.995 * bias + rng.normal(0, 0.03 * math.sqrt(1 - 0.995**2))
            level -= 0.001 if window > 30 else 0.0
            labels = rng.binomial(25, level)
            readings.append(
                reading(window, audited(25, labels, 25, 25), confident(level + bias + rng.normal(0, 0.008), 0.03))
            )
        found = current_quality(filter_quality(readings))
        assert found.low is not None
        assert found.high is not None
        held.append(found.low <= level <= found.high)
        widths.append(found.high - found.low)
    assert np.mean(held) >= 0.83
    assert np.mean(widths) < 0.10  # a window of 25 labels alone is .18 wide


def confident(value: float, bias_sd: float) -> Estimate:
    """A label-free estimate from 1000 events."""
    reach = 1.645 * math.hypot(bias_sd, math.sqrt(value * (1 - value) / 1_000))
    return Estimate(estimate=value, low=value - reach, high=value + reach, n=1_000, basis="label-free")


def test_a_reading_splits_sampling_from_systematic_error() -> None:
    found = reading(3, audited(20, 20, 20, 20), confident(0.9, 0.05))
    assert found.audit == 1.0
    assert found.audit_n == 20
    assert found.audit_se > 0.03  # twenty right answers out of twenty are no certainty
    assert found.label_free_se == pytest.approx(math.sqrt(0.9 * 0.1 / 1_000), rel=1e-3)
    assert found.bias_sd == pytest.approx(0.05, rel=1e-2)
    nothing = reading(3, Estimate(reason="none"), Estimate(reason="none"))
    assert (nothing.audit, nothing.label_free) == (None, None)


def test_missing_windows_only_add_uncertainty() -> None:
    readings = audits([0.92] * 30)
    now = filter_quality(readings)
    later = filter_quality([*readings, Reading(window=49)])
    assert later.n_windows == now.n_windows
    assert later.covariance[0][0] > now.covariance[0][0]
    assert later.level == pytest.approx(now.level + 20 * now.slope, abs=2e-3)


def test_only_the_last_windows_are_remembered() -> None:
    long = audits([0.5] * 100 + [0.92] * MEMORY)
    assert filter_quality(long) == filter_quality(long[-MEMORY:])
    assert filter_quality(long).n_windows == MEMORY


def test_no_evidence_gives_reasons_and_no_numbers() -> None:
    nothing = filter_quality([Reading(window=4)])
    assert nothing == filter_quality([]) == Filtered()
    assert current_quality(nothing).estimate is None
    assert "no window with labels" in str(current_quality(nothing).reason)
    assert first_passage(nothing, 0.85).reason == f"needs {MINIMUM} assessed windows, has 0"
    few = first_passage(filter_quality(audits([0.92] * 3)), 0.85)
    assert few.reason == "needs 8 assessed windows, has 3"
    assert (few.low, few.median, few.high, few.good_for, few.probability_within_lead, few.censored) == (None,) * 6
    vague = filter_quality([Reading(window=i, audit=0.9, audit_se=0.5) for i in range(8)])
    assert "more labels" in str(first_passage(vague, 0.85).reason)
    assert first_passage(filter_quality(audits([0.92] * MINIMUM)), 0.85).reason is None


def test_windows_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="ordered by window"):
        filter_quality([Reading(window=2, audit=0.9), Reading(window=2, audit=0.9)])


def test_the_same_seed_gives_the_same_forecast_and_others_nearly() -> None:
    filtered = filter_quality(audits(decline(40, 0.001)))
    first = first_passage(filtered, 0.85, lead=20, seed=1)
    assert first == first_passage(filtered, 0.85, lead=20, seed=1)
    other = first_passage(filtered, 0.85, lead=20, seed=2)
    assert other.probability_within_lead == pytest.approx(first.probability_within_lead, abs=0.06)


def test_parts_of_a_forecast_agree_with_each_other() -> None:
    for per_window in (0.0, 0.0005, 0.001, 0.0017):
        filtered = filter_quality(audits(decline(40, per_window)))
        found = first_passage(filtered, 0.85, lead=7.5)
        beyond = found.horizon + 1
        assert (found.low or 0) <= (found.median or beyond) <= (found.high or beyond)
        assert (found.good_for or 0) <= (found.median or beyond)
        leads = [first_passage(filtered, 0.85, lead=lead).probability_within_lead or 0.0 for lead in (7, 7.5, 8, 500)]
        assert leads == sorted(leads)
        assert leads[-1] == pytest.approx(1 - (found.censored or 0.0))
        assert leads[1] == pytest.approx((leads[0] + leads[2]) / 2)


def test_below_already_is_said_so() -> None:
    found = first_passage(filter_quality(audits([0.80] * 30)), 0.85, lead=1)
    assert (found.low, found.median, found.good_for) == (0, 0, 0)
    assert found.probability_within_lead == pytest.approx(1.0, abs=0.01)


def test_far_above_without_noise_only_a_fresh_decay_can_end_it() -> None:
    found = first_passage(filter_quality(audits([0.92] * 120)), 0.85, lead=10)
    assert found.probability_within_lead is not None
    assert found.probability_within_lead < 0.02
    assert found.high is None
    never = simulate(filter_quality(audits([0.92] * 120)), 0.3, horizon=120, seed=0, paths=400, hazard=0.0)
    assert (never == 121).mean() > 0.99


def test_the_shortest_interval_leaves_out_what_it_may() -> None:
    law = passage_law(np.repeat(np.arange(1, 101), 10), 120)
    low, high = shortest_interval(law, 0.1)
    assert law[high] - (law[low - 1] if low else 0) >= 0.9 - 1e-9
    assert high - low <= 90
    late = passage_law(np.r_[np.repeat(np.arange(60, 70), 2), np.full(80, 121)], 120)
    low, high = shortest_interval(late, 0.1)
    assert (int(low), int(high)) in {(64, 121), (65, 121)}
    assert quantile(late, 0.5) == 121


def test_the_interval_keeps_its_promise_on_unseen_series() -> None:
    """A small version of benchmarks/forecast.py, with the shares that are shipped."""
    todo = list(house.cases(60, seed=4711))
    found = house.law("ours", house.ours, todo)
    inside, bound = house.covers(found, todo, house.LEVEL, house.LEVEL.start)
    assert inside.mean() >= 0.85
    assert bound.mean() >= 0.85
    trend_only = house.law("no onset", house.no_onset, todo)
    assert house.covers(trend_only, todo, house.STRETCH, 0.0)[0].mean() < inside.mean()


def test_stronger_drift_than_ever_brings_a_bias_that_labels_have_not_taught() -> None:
    calm = [
        Reading(window=w, audit=0.95, audit_n=200, label_free=0.95, label_free_se=0.01, bias_sd=0.02) for w in range(30)
    ]

    def level(bias_sd: float) -> float:
        """After three windows without labels in which the reading has fallen by seven points."""
        fallen = [Reading(window=w, label_free=0.88, label_free_se=0.01, bias_sd=bias_sd) for w in range(30, 33)]
        return filter_quality([*calm, *fallen]).level

    assert level(0.02) < 0.9
    assert level(0.08) > 0.94
