"""Confidence, label-free and audited quality: the numbers, their intervals, and when there is none."""

import math

import numpy as np
import pytest

from models.quality import Calibration, Estimate, audited, label_free, top_confidence, wilson

CALIBRATION = Calibration(
    temperature=1.4, atc_threshold=0.7, accuracy=0.92, n=2_000, residual_low=-1.0, residual_high=0.5
)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_top_confidence_is_the_tempered_softmax(dtype: type, temperature: float) -> None:
    logits = np.random.default_rng(0).normal(0, 3, (500, 7))
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    tempered = np.exp(logits / temperature)
    expected = (tempered / tempered.sum(axis=1, keepdims=True)).max(axis=1)
    before = scores.astype(dtype)
    kept = before.copy()
    assert top_confidence(before, temperature) == pytest.approx(expected, rel=1e-5)
    assert (before == kept).all()


@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_rows_that_are_no_probabilities_give_nan_and_harm_no_others(temperature: float) -> None:
    good = [0.1, 0.7, 0.2]
    bad = [[math.nan, 0.5, 0.5], [math.inf, 0.1, 0.1], [-0.1, 0.6, 0.5], [0.0, 0.0, 0.0], [-math.inf, 0.5, 0.5]]
    found = top_confidence(np.array([good, *bad, good]), temperature)
    alone = top_confidence(np.array([good]), temperature)[0]
    assert found[[0, -1]] == pytest.approx([alone, alone])
    assert np.isnan(found[1:-1]).all()


def test_certain_rows_empty_blocks_and_scores_that_need_normalising() -> None:
    assert top_confidence(np.array([[0.0, 1.0], [2.0, 6.0]]), 2.0) == pytest.approx(
        [1.0, math.sqrt(3) / (1 + math.sqrt(3))]
    )
    assert top_confidence(np.zeros((0, 3))).shape == (0,)
    assert np.isnan(top_confidence(np.zeros((2, 0)))).all()
    with pytest.raises(ValueError, match="one row per event"):
        top_confidence(np.zeros(3))


def test_calibration_reads_its_place_in_the_descriptor() -> None:
    written = {
        "temperature": 1.4,
        "atc_threshold": 0.7,
        "accuracy": 0.92,
        "n": 2000,
        "residuals": {"low": -1.0, "high": 0.5, "families": ["blur", "noise"], "level": 0.9},
        "note": "unknown keys stay out of the way",
    }
    read = Calibration.from_descriptor(written)
    assert (read.temperature, read.residual_low, read.families, read.level) == (1.4, -1.0, ("blur", "noise"), 0.9)
    assert Calibration.from_descriptor({}) == Calibration()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"temperature": "hot"}, r"\$.temperature"),
        ({"temperature": 0.0}, "must be positive"),
        ({"residuals": {"low": 1.0, "high": 0.5}}, "low 1.0 is above high 0.5"),
    ],
)
def test_a_calibration_that_cannot_be_used_is_refused(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Calibration.from_descriptor(wrong)


def test_label_free_is_the_mean_of_both_readings_with_the_induced_interval() -> None:
    found = label_free(1e9, 0.9e9, 0.8e9, 0, CALIBRATION)
    s = 0.02 + 0.07 + 0.5 * 0.85 * 0.15
    assert found.estimate == pytest.approx(0.85)
    assert found.low == pytest.approx(0.85 - s, abs=1e-3)
    assert found.high == pytest.approx(0.85 + s / 2, abs=1e-3)
    assert found.basis == "label-free"


def test_failures_count_as_wrong() -> None:
    whole = label_free(1_000, 900, 800, 0, CALIBRATION)
    with_failures = label_free(2_000, 900, 800, 1_000, CALIBRATION)
    assert whole.estimate is not None
    assert with_failures.estimate == pytest.approx(whole.estimate / 2)
    nothing = label_free(50, 0, 0, 50, None)
    assert (nothing.estimate, nothing.low) == (0.0, 0.0)
    assert nothing.high is not None
    assert 0 < nothing.high < 0.1


def test_few_events_widen_the_interval() -> None:
    few, many = label_free(20, 18, 16, 0, CALIBRATION), label_free(20_000, 18_000, 16_000, 0, CALIBRATION)
    assert few.low is not None
    assert few.high is not None
    assert many.low is not None
    assert many.high is not None
    assert few.low < many.low < many.high < few.high


def test_a_known_optimism_moves_the_estimate_into_its_interval() -> None:
    optimistic = Calibration(accuracy=0.92, atc_threshold=0.7, residual_low=-3.0, residual_high=-1.0)
    found = label_free(1e6, 0.8e6, 0.8e6, 0, optimistic)
    assert found.low is not None
    assert found.low < 0.8
    assert found.estimate == found.high
    assert found.high is not None
    assert found.high < 0.8


@pytest.mark.parametrize(
    ("n", "calibration", "reason"),
    [
        (0, CALIBRATION, "no predictions"),
        (100, None, "no calibration registered"),
        (100, Calibration(accuracy=0.9), "no residuals of induced drift"),
    ],
)
def test_without_an_honest_interval_there_is_no_number(n: int, calibration: Calibration | None, reason: str) -> None:
    found = label_free(n, 90.0, 90.0, 0, calibration)
    assert (found.estimate, found.low, found.high, found.basis) == (None, None, None, "none")
    assert reason in str(found.reason)


def test_audited_is_unbiased_under_unequal_sampling_and_covers() -> None:
    rng = np.random.default_rng(1)
    estimates, held = [], []
    for _ in range(1_500):
        hard = rng.uniform(size=2_000) < 0.3
        correct = rng.uniform(size=2_000) < np.where(hard, 0.6, 0.95)
        propensity = np.where(hard, 0.3, 0.05)
        kept = rng.uniform(size=2_000) < propensity
        w = 1 / propensity[kept]
        found = audited(w.sum(), (w * correct[kept]).sum(), (w**2).sum(), int(kept.sum()))
        assert found.low is not None
        assert found.high is not None
        estimates.append(found.estimate)
        held.append(found.low <= 0.845 <= found.high)
    assert np.mean([e for e in estimates if e is not None]) == pytest.approx(0.845, abs=0.004)
    assert np.mean(held) >= 0.88


def test_audited_with_equal_weights_is_wilson_and_without_labels_nothing() -> None:
    found = audited(40 * 20.0, 36 * 20.0, 40 * 400.0, 40)
    assert (found.low, found.high) == pytest.approx(wilson(0.9, 40))
    assert found.basis == "labels"
    assert wilson(0.9, 40) == pytest.approx((0.7950, 0.9543), abs=1e-4)
    assert audited(0.0, 0.0, 0.0, 0) == Estimate(n=0, reason="no audited labels in this window")
