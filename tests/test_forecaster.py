"""The amortised forecaster: its state, what it says, when it is silent, what own history teaches, what it is worth."""

import math
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np
import pytest

from benchmarks import forecast_amortised as amortised
from benchmarks.decay_worlds import world
from benchmarks.train_forecaster import log_score, simulated_features, train
from models.decays import HORIZON, LENGTH, PAST, simulate
from models.forecast import Passage, Reading
from models.forecast_features import FEATURES, SCALARS, Streams
from models.forecaster import FORGOTTEN, LONGEST_SILENCE, MINIMUM, Forecaster, Memory, forecast
from models.own_history import Calibration
from models.passage_network import CLASSES, DIGEST, EDGES, WEIGHTS, classes, every_window, read, shipped, write
from models.seasons import GROUPS, grouped, joined, seasonal_profile


def audits(levels: list[float], *, seed: int = 0, labels: int = 500, start: int = 0) -> list[Reading]:
    rng = np.random.default_rng(seed)
    seen = rng.binomial(labels, levels) / labels
    return [Reading(window=start + i, audit=float(v), audit_n=labels) for i, v in enumerate(seen)]


def decline(windows: int, per_window: float, safe: int = 0) -> list[float]:
    return [0.92 - per_window * max(i - safe, 0) for i in range(windows)]


def fed(readings: list[Reading], threshold: float = 0.85) -> Forecaster:
    found = Forecaster(threshold)
    for each in readings:
        found.update(each)
    return found


def test_the_weights_are_those_the_code_was_tested_with(tmp_path: Path) -> None:
    content = WEIGHTS.read_bytes()
    assert sha256(content).hexdigest() == DIGEST
    assert len(content) < 120_000
    # The archive's bytes are those of the zip library that wrote them; what it holds must be the same.
    again = tmp_path / "again.npz"
    again.write_bytes(write(shipped()))
    with np.load(WEIGHTS, allow_pickle=False) as known, np.load(again, allow_pickle=False) as written:
        assert known.files == written.files
        assert all((known[name] == written[name]).all() for name in known.files)
    assert all(m.dtype == np.float32 for m in shipped().matrices)
    with pytest.raises(ValueError, match="restore models/data"):
        read(content[:-1] + b"x", DIGEST)


def test_classes_cut_the_windows_ahead() -> None:
    times = np.array([0, 1, 7, 8, 9, 10, 119, 120, 121])
    found = classes(times)
    assert found[0] == 0
    assert found[-1] == CLASSES - 1
    assert (EDGES[found[:-1]] >= times[:-1]).all()
    law_at_edges = np.linspace(0, 1, len(EDGES))[None]
    expanded = every_window(law_at_edges)
    assert expanded.shape == (1, HORIZON + 1)
    assert np.allclose(expanded[:, EDGES], law_at_edges)
    assert (np.diff(expanded) >= 0).all()


def test_a_steady_decline_is_followed_and_its_end_forecast() -> None:
    # From .92 by .001 a window: after 40 windows .881, so .85 is passed 31 windows later.
    found = [forecast(audits(decline(40, 0.001), seed=s), 0.85) for s in range(20)]
    assert 22 <= np.median([f.median or 121 for f in found]) <= 42
    assert sum((f.low or 0) <= 31 <= (f.high or 121) for f in found) >= 17
    assert sum((f.good_for or 121) <= 31 for f in found) >= 17


def test_a_fresh_model_is_good_for_a_while_and_its_end_is_unknown() -> None:
    found = forecast(audits([0.92] * 60), 0.85, lead=5)
    assert found.reason is None
    assert found.high is None
    assert (found.good_for or 0) >= 10
    assert found.probability_within_lead is not None
    assert found.probability_within_lead < 0.03


def test_below_already_is_said_so() -> None:
    found = forecast(audits(decline(60, 0.002)), 0.85, lead=1)
    assert (found.low, found.median, found.good_for) == (0, 0, 0)
    assert (found.probability_within_lead or 0) > 0.9


def test_parts_of_a_forecast_agree_with_each_other() -> None:
    for per_window in (0.0, 0.0005, 0.001, 0.0017, 0.003):
        state = fed(audits(decline(40, per_window)))
        found = state.passage(lead=7.5)
        low, median, high, bound = (
            HORIZON + 1 if end is None else end for end in (found.low, found.median, found.high, found.good_for)
        )
        assert low <= median <= high
        assert bound <= median
        leads = [state.passage(lead=lead).probability_within_lead or 0.0 for lead in (7, 7.5, 8, 500)]
        assert leads == sorted(leads)
        assert leads[-1] == pytest.approx(1 - (found.censored or 0.0))
        shorter = state.passage(horizon=60)
        assert (shorter.horizon, shorter.censored or 0) >= (60, found.censored or 0)
        assert shorter.median in (found.median, None)


def test_no_evidence_gives_reasons_and_no_numbers() -> None:
    few = forecast(audits([0.92] * 3), 0.85)
    assert few == Passage(threshold=0.85, reason=f"needs {MINIMUM} assessed windows, has 3")
    assert forecast([], 0.85).reason == f"needs {MINIMUM} assessed windows, has 0"
    assert forecast(audits([0.92] * MINIMUM), 0.85).reason is None
    vague = forecast([Reading(window=i, audit=0.9, audit_se=0.9) for i in range(30)], 0.85)
    assert "more labels" in str(vague.reason)
    silent = forecast([*audits([0.92] * 40), Reading(window=40 + LONGEST_SILENCE)], 0.85)
    assert "nothing was assessed for 31 windows" in str(silent.reason)
    with pytest.raises(ValueError, match="horizon"):
        fed(audits([0.92] * 40)).passage(horizon=121)


def test_windows_out_of_order_are_refused() -> None:
    twice = [Reading(window=2, audit=0.9, audit_n=500), Reading(window=2, audit=0.9, audit_n=500)]
    with pytest.raises(ValueError, match="ordered by window"):
        forecast(twice, 0.85)
    with pytest.raises(ValueError, match="ordered"):
        fed(twice)


def test_the_state_survives_a_restart_bit_for_bit() -> None:
    readings = audits(decline(90, 0.001, safe=30))
    readings = [r for r in readings if r.window not in range(50, 62)]
    straight = fed(readings)
    packed = msgspec.json.encode(fed(readings[:45]).state)
    resumed = Forecaster.from_state(msgspec.json.decode(packed, type=Memory))
    for each in readings[45:]:
        resumed.update(each)
    assert resumed.state == straight.state
    assert resumed.passage() == straight.passage()
    again = Forecaster.from_state(straight.state)
    assert again.features == straight.features
    assert len(straight.state.stream) == 50 + SCALARS


def test_a_state_of_another_version_is_refused() -> None:
    state = fed(audits([0.92] * 5)).state
    with pytest.raises(ValueError, match="version 0, this code reads 1"):
        Forecaster.from_state(msgspec.structs.replace(state, version=0))
    with pytest.raises(ValueError, match="remembers 65 numbers"):
        Forecaster.from_state(msgspec.structs.replace(state, stream=[0.0]))


def test_nothing_but_time_passes_without_a_number() -> None:
    readings = audits([0.92] * 40)
    holes = [
        msgspec.structs.replace(r, audit=v)
        for r, v in zip(readings[20:30], [math.nan, math.inf, -math.inf, None] * 3, strict=False)
    ]
    kept = [*readings[:20], *readings[30:]]
    assert fed([*readings[:20], *holes, *readings[30:]]).state == fed(kept).state
    assert fed(kept).state.stream != fed(readings).state.stream


def test_the_state_is_bounded_after_many_windows_and_long_outages() -> None:
    streams, rng = Streams([0.85]), np.random.default_rng(5)
    values = rng.binomial(500, 0.9, 5_000) / 500
    for value in values:
        streams.update(value, labels=500)
    found = streams.features
    assert found.shape == (1, FEATURES)
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= 8
    assert len(streams.state) == 65
    for _ in range(FORGOTTEN):
        streams.update(math.nan)
    assert np.isfinite(streams.state).all()
    assert np.isfinite(streams.features).all()


def test_features_have_no_scale() -> None:
    """Twice the gap with a quarter of the labels at the same share of noise looks the same."""
    levels = np.array(decline(60, 0.001, safe=20))
    noise = np.random.default_rng(6).normal(size=60)
    one, other = Streams([0.85]), Streams([0.35])
    for level, z in zip(levels, noise, strict=True):
        one.update(level + 0.01 * z, errors=0.01)
        other.update(0.35 + 3 * (level - 0.85) + 0.03 * z, errors=0.03)
    assert np.allclose(one.features, other.features, atol=1e-4)


def test_labels_teach_the_bias_and_label_free_readings_carry_on() -> None:
    rng = np.random.default_rng(7)

    def both(i: int) -> Reading:
        return Reading(
            window=i,
            audit=float(0.90 + rng.normal(0, 0.013)) if i < 60 else None,
            audit_n=500,
            label_free=float(0.95 + rng.normal(0, 0.004)),
            label_free_se=0.004,
            bias_sd=0.05,
        )

    readings = [both(i) for i in range(70)]
    found = fed(readings)
    assert found.state.bias == pytest.approx(0.05, abs=0.01)
    assert found.passage(lead=5).reason is None
    blind = forecast([msgspec.structs.replace(r, audit=None) for r in readings], 0.85)
    assert blind.reason is None or "more labels" in blind.reason
    certain = forecast(audits([0.95] * 70), 0.85)
    assert (blind.good_for or 0) < (certain.good_for or 121)  # a bias that no label has ruled out costs certainty


def test_a_known_season_is_taken_out() -> None:
    windows, rng = list(range(90)), np.random.default_rng(8)
    swing = 0.02 * np.sin(2 * np.pi * np.arange(90) / 7)
    levels = 0.93 - 0.0004 * np.maximum(np.arange(90) - 40, 0)
    seen = rng.binomial(2000, levels + swing) / 2000
    profile = seasonal_profile(windows, seen, np.full(90, 0.006), 7)
    assert profile is not None
    assert np.allclose(profile, 0.02 * np.sin(2 * np.pi * np.arange(7) / 7), atol=0.006)
    flat = seasonal_profile(windows, rng.normal(0.9, 0.006, 90), np.full(90, 0.006), 7)
    assert flat is not None
    assert max(map(abs, flat)) < 0.004
    assert seasonal_profile(windows[:20], seen[:20], np.full(20, 0.006), 7) is None
    with pytest.raises(ValueError, match="at least 2 windows"):
        seasonal_profile(windows, seen, np.full(90, 0.006), 1)
    readings = [Reading(window=w, audit=float(v), audit_n=2000) for w, v in zip(windows, seen, strict=True)]
    found = forecast(readings, 0.88, period=7)
    # The low of the season is .02 below the level, which is .91 now: the threshold is passed in 25 windows.
    assert found.low is not None
    assert found.low <= 25 <= (found.high or 121)


def test_knowing_the_season_helps() -> None:
    drawn = world(("season",), 100, 14)
    without = amortised.summary(drawn, amortised.forecasts(amortised.seen_features(drawn), Calibration()))
    known = amortised.summary(drawn, amortised.seasonal(drawn, Calibration()))
    assert known[4] < without[4]  # CRPS
    assert known[2] < without[2]  # width after onset
    assert min(known[0], known[3]) >= 0.9


def test_a_season_puts_its_phases_into_groups() -> None:
    season = tuple(np.sin(2 * np.pi * np.arange(12) / 12).tolist())
    deviations, group = grouped(season)
    assert list(np.bincount(group)) == [12 // GROUPS] * GROUPS
    assert list(deviations) == sorted(deviations)
    assert group[9] == 0  # the low of the sine
    nothing, alone = grouped(())
    assert (list(nothing), list(alone)) == ([0.0], [0])
    # Two groups: one has passed after two windows, the other never; even windows belong to the first.
    laws = np.array([[0.0, 0.0, 1.0, 1.0, 1.0], [0.0] * 5])
    assert list(joined(laws, np.array([0, 1]), 10)) == [0, 0, 1, 1, 1]
    assert list(joined(laws, np.array([0, 1]), 11)) == [0, 0, 0, 1, 1]


def test_the_state_with_a_season_survives_a_restart() -> None:
    found = Forecaster(0.85, season=(0.01, 0.0, -0.01), registered=0.92)
    for each in audits([0.92] * 40):
        found.update(each)
    resumed = Forecaster.from_state(msgspec.json.decode(msgspec.json.encode(found.state), type=Memory))
    for each in audits([0.92] * 10, start=40, seed=1):
        found.update(each)
        resumed.update(each)
    assert resumed.state == found.state
    assert resumed.passage() == found.passage()
    assert len(found.state.stream) == 3 * 65


def test_the_prior_draws_what_it_says() -> None:
    drawn = simulate(300, np.random.default_rng(1), forecasts=3)
    assert drawn.values.shape == (300, LENGTH)
    assert np.nanmin(drawn.values) >= 0
    assert np.nanmax(drawn.values) <= 1
    assert 0.2 < (drawn.truth > HORIZON).mean() < 0.7
    assert 0 < (drawn.truth == 0).mean() < 0.2
    assert drawn.origin.max() <= LENGTH + PAST
    again = simulate(300, np.random.default_rng(1), forecasts=3)
    assert np.array_equal(drawn.values, again.values, equal_nan=True)


def test_training_learns_and_repeats_itself() -> None:
    inputs, times = simulated_features(3, 1)
    few = (inputs[:8_000], times[:8_000])
    network, again = train(*few, epochs=2), train(*few, epochs=2)
    assert write(network) == write(again)
    held = (inputs[20_000:], times[20_000:])
    frequencies = np.bincount(classes(few[1]), minlength=CLASSES) + 1
    constant = -np.log(frequencies / frequencies.sum())[classes(held[1])].mean()
    assert log_score(network, *held) < constant
    assert log_score(shipped(), *held) < log_score(network, *held)


def test_stronger_drift_than_ever_brings_a_bias_that_labels_have_not_taught() -> None:
    known = [
        Reading(window=w, audit=0.95, audit_n=200, label_free=0.95, label_free_se=0.01, bias_sd=0.02) for w in range(30)
    ]

    def variance(bias_sd: float) -> float:
        found = Forecaster(0.85)
        for reading in [*known, Reading(window=30, label_free=0.88, label_free_se=0.01, bias_sd=bias_sd)]:
            found = Forecaster.from_state(found.state)
            found.update(reading)
        return found.state.bias_variance

    usual = variance(0.02)
    assert variance(0.06) - usual >= 0.06**2 - 0.02**2  # what labels taught says nothing of the stronger drift
    assert variance(0.01) <= usual  # and weaker drift teaches nothing


def test_a_state_from_before_the_widest_bias_was_kept_goes_on() -> None:
    found = Forecaster.from_state(Memory(threshold=0.85, bias_variance=0.0004, stream=Forecaster(0.85).state.stream))
    found.update(Reading(window=0, label_free=0.9, label_free_se=0.01, bias_sd=0.06))
    assert found.state.widest == 0.06
    assert found.state.bias_variance < 0.001  # nothing older to compare with
