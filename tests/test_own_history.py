"""What resolved forecasts teach the next ones: corrections, levels, and the defaults while there is too little."""

import msgspec
import numpy as np
import pytest

from benchmarks import forecast_amortised as amortised
from benchmarks.decay_worlds import HOUSE, world
from models.conformal import LARGEST, SMALLEST, Levels, adapted, fit_levels
from models.decays import HORIZON
from models.hazards import NO_CORRECTION, law, refit
from models.own_history import Calibration, Resolved, learn
from models.passage_network import shipped


def resolved(series: int, seed: int) -> list[Resolved]:
    found = world(HOUSE, series, seed)
    seen = amortised.seen_features(found)
    rows = zip(found.series.tolist(), seen.tolist(), found.truth.tolist(), strict=True)
    return [Resolved(series=s, features=tuple(f), crossing=t if t <= HORIZON else None) for s, f, t in rows]


def test_too_little_history_keeps_the_defaults_and_says_so() -> None:
    few = learn(shipped(), resolved(30, 1))
    assert few.theta == NO_CORRECTION
    assert (few.levels.interval, few.levels.bound) == (0.10, 0.10)
    assert few.word.startswith("default levels: ")
    assert "own ones need 50" in few.word
    many = learn(shipped(), resolved(120, 1))
    assert many.theta != NO_CORRECTION
    assert many.word.startswith("levels from 1")
    assert msgspec.json.decode(msgspec.json.encode(many), type=Calibration) == many
    assert many.after(0.0, 0.0).word.endswith("adapted live")


def test_censored_forecasts_teach_the_hazards_they_lived_through() -> None:
    """Following every forecast for 60 windows only leaves the near hazards as they were."""
    rows = resolved(200, 2)
    features = np.array([r.features for r in rows], dtype=np.float32)
    cumulative, times = shipped().probabilities(features), np.array([r.time for r in rows])
    seen = np.where(times > 60, HORIZON + 1, times)  # what is known of them after 60 windows
    whole, short = refit(cumulative, features, times), refit(cumulative, features, seen, np.full(len(times), 60))
    wrong = refit(cumulative, features, seen)  # as if nothing had crossed later
    near, censored, late = (law(cumulative, features, tuple(theta), live=False) for theta in (whole, short, wrong))
    assert censored[:, 40].mean() == pytest.approx(near[:, 40].mean(), abs=0.02)
    assert censored[:, 40].mean() == pytest.approx((times <= 40).mean(), abs=0.03)
    assert censored[:, 120].mean() == pytest.approx((times <= 120).mean(), abs=0.08)
    assert late[:, 120].mean() < censored[:, 120].mean() - 0.05
    cut_short = [msgspec.structs.replace(r, followed=60, crossing=r.crossing if r.time <= 60 else None) for r in rows]
    assert learn(shipped(), cut_short).levels == Levels(series=0)  # nothing was followed long enough to judge a level


def test_a_correction_stays_where_it_was_learnt() -> None:
    calibration = learn(shipped(), resolved(120, 3))
    few_labels = amortised.seen_features(world(HOUSE, 20, 4, labels=60))
    assert calibration.outside(few_labels).mean() > 0.9
    plain = Calibration().laws(shipped(), few_labels)
    outside = calibration.outside(few_labels)
    assert np.array_equal(calibration.laws(shipped(), few_labels)[outside], plain[outside])
    assert (calibration.leaves_out(few_labels)[0][outside] <= 0.10).all()


def test_levels_adapt_both_ways_and_stay_in_range() -> None:
    levels = Levels()
    assert adapted(levels, 1.0, 0.0).interval < levels.interval
    assert adapted(levels, 1.0, 0.0).bound > levels.bound
    assert adapted(levels, 0.1, 0.1).interval == pytest.approx(levels.interval)
    for _ in range(1000):
        levels = adapted(levels, 1.0, 0.0)
    assert (levels.interval, levels.bound, levels.series) == (SMALLEST, LARGEST, 1000)


def test_levels_count_series_not_forecasts() -> None:
    laws = np.tile(np.linspace(0.0, 1.0, HORIZON + 1), (400, 1))
    times = np.random.default_rng(0).integers(1, HORIZON + 1, 100).repeat(4)
    together, apart = fit_levels(laws, times, np.arange(400) // 4), fit_levels(laws, times, np.arange(400))
    assert together.bound < apart.bound < 0.10
    assert together.interval <= apart.interval
    assert fit_levels(laws[:100], times[:100], np.arange(100) // 4) == Levels(series=25)


def test_the_interval_keeps_its_promise_on_unseen_series() -> None:
    """A small version of `python -m benchmarks.forecast house draws`."""
    found = np.median(amortised.several_draws(HOUSE, range(4711, 4714)), axis=0)
    covers, width, after_onset, bound, crps = found
    assert covers >= 0.90
    assert bound >= 0.90
    assert width <= 77.7
    assert after_onset <= 75
    assert crps <= 0.285


@pytest.mark.parametrize("kind", ["sigmoid", "staircase"])
def test_levels_that_adapt_cover_what_no_calibration_foresaw(kind: str) -> None:
    calibration = amortised.own_history(world(HOUSE, 400, 12))
    cells = amortised.adaptive(kind, calibration, 13)
    assert float(cells[3].split()[0]) >= 0.88
