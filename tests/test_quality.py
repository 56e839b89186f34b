"""Quality and verdicts: the numbers, their intervals, and when there is none."""

import math
import re
from typing import Any

import msgspec
import numpy as np
import pytest

from models.checks import covariate_drift, embedding_drift, label_and_prediction_shift, quality_and_time_to_threshold
from models.checks.verdict import Verdict
from models.columns import Categories, Embedded, Inferences
from models.distance import effective
from models.evidence import Evidence
from models.profile import WEIGHT, Profile
from models.quality import Calibration, Estimate, audited, label_free, top_confidence, wilson
from models.reference import CategoricalFeature, EmbeddingReference, NumericFeature, Reference
from tests.observing import declared, observed

CALIBRATION = Calibration(
    temperature=1.4, atc_threshold=0.7, accuracy=0.92, n=2_000, residual_low=-1.0, residual_high=0.5
)
QUARTERS = (-0.6745, 0.0, 0.6745)
REFERENCE = Reference(
    "loan", "7", threshold=0.85, minimum_n=50, n=5000, classes={"yes": 0.5, "no": 0.5},
    numeric={"income": NumericFeature(edges=QUARTERS, shares=(0.25,) * 4, n=5000)},
    calibration=Calibration(accuracy=0.95, n=5000, residual_low=-0.5, residual_high=0.5),
)  # fmt: skip


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


# -- no evidence is never ok ---------------------------------------------------------------------------------------


def distribution_verdicts(profile: Profile, reference: Reference) -> list[Verdict]:
    """What the three checks of distributions say of one window."""
    seen = observed(profile, reference)
    return [v for check in (covariate_drift, label_and_prediction_shift, embedding_drift) for v in check.live(seen)]


def told(columns: Inferences | Embedded, check: str, **changes: Any) -> Verdict:
    """The verdict of one check on these rows."""
    reference = declared(msgspec.structs.replace(REFERENCE, **changes), system_context={"season": "1 hour"})
    made = Profile()
    made.add(columns, reference)
    return next(v for v in distribution_verdicts(made, reference) if v.check == check)


def rows_of(n: int, **columns: Any) -> Inferences:
    return Inferences(offset=np.arange(n), time=np.arange(n), **columns)


def test_what_is_missing_everywhere_is_unknown() -> None:
    absent = Categories(np.full(200, -1, np.int32), ("N", "S"))
    region = CategoricalFeature(shares={"N": 0.5, "S": 0.5}, n=5000)
    category = told(
        rows_of(200, categorical={"region": absent}), "covariate-drift", numeric={}, categorical={"region": region}
    )
    label = told(rows_of(200, label=absent), "label-and-prediction-shift")
    number = told(rows_of(200, numeric={"income": np.full(200, np.nan)}), "covariate-drift")
    for verdict in (category, label, number):
        assert (verdict.verdict, verdict.reason) == ("unknown", "it is missing in every event")
        assert verdict.effect is None


@pytest.mark.parametrize(("present", "outcome"), [(1, "unknown"), (49, "unknown"), (50, "ok"), (200, "ok")])
def test_few_values_of_a_feature_are_unknown(present: int, outcome: str) -> None:
    values = np.full(200, np.nan)
    values[:present] = np.random.default_rng(0).normal(0, 1, present)
    verdict = told(rows_of(200, numeric={"income": values}), "covariate-drift")
    assert verdict.verdict == outcome
    assert verdict.reason == (f"{present} observed values in effect, 50 are needed" if outcome == "unknown" else "")


@pytest.mark.parametrize(
    ("n", "of", "needed"),
    [(200, 1, "200 observed values against 1 of the reference .* a reference n above 4 is needed"),
     (2, 5000, "2 observed values against 5000 of the reference .*; 4 observed values are needed")],
)  # fmt: skip
def test_a_noise_level_that_nothing_exceeds_is_unknown(n: int, of: int, needed: str) -> None:
    feature = NumericFeature(edges=QUARTERS, shares=(0.25,) * 4, n=of)
    far = rows_of(n, numeric={"income": np.full(n, 9.0)})
    verdict = told(far, "covariate-drift", numeric={"income": feature}, minimum_n=1)
    assert verdict.verdict == "unknown"
    assert re.search(needed, verdict.reason)


@pytest.mark.parametrize(("n", "outcome"), [(1, "unknown"), (19, "unknown"), (20, "mismatch")])
def test_few_inputs_far_away_are_unknown(n: int, outcome: str) -> None:
    known = EmbeddingReference((0.0, 0.0), (1.0, 1.0), 5000, (0.5, 1.0, 2.0), (0.25, 0.25, 0.49, 0.01))
    far = Embedded(offset=np.arange(n), time=np.arange(n), embedding=np.full((n, 2), 9.0, np.float32))
    verdict = told(far, "embedding-drift", embedding=known)
    assert verdict.verdict == outcome
    assert verdict.reason == ("" if outcome == "mismatch" else f"{n} observed values in effect, 20 are needed")


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [(0.85, 0.95, "ok"), (0.849, 0.95, "unknown"), (0.7, 0.85, "unknown"), (0.7, 0.849, "mismatch")],
)
def test_only_an_interval_on_one_side_of_the_threshold_decides(low: float, high: float, outcome: str) -> None:
    estimate = Estimate(estimate=0.84, low=low, high=high, basis="labels")
    (verdict,) = quality_and_time_to_threshold.live(observed(failing(1), REFERENCE, estimate=estimate))
    assert verdict.verdict == outcome
    told_why = f"the 90% interval {low:.3f} to {high:.3f} includes the threshold 0.85"
    assert verdict.reason == (told_why if outcome == "unknown" else "")


# -- failures and weights --------------------------------------------------------------------------------------------


def failing(n: int, good: int = 0) -> Profile:
    made = Profile()
    scores = np.full((n, 2), np.nan, np.float32)
    scores[:good] = (0.9, 0.1)
    made.add(rows_of(n, failed=np.arange(n) >= good, scores=scores), REFERENCE)
    return made


def evidence(*profiles: Profile) -> Evidence:
    made = Evidence(0)
    for profile in profiles:
        made.add(profile)
    return made


def test_a_total_outage_is_a_quality_of_zero() -> None:
    total, nearly = (evidence(failing(200, good)).label_free(REFERENCE) for good in (0, 1))
    assert (total.estimate, total.low, total.n) == (0.0, 0.0, 200)
    assert total.high is not None
    assert total.high < 0.02
    assert nearly.estimate is not None
    assert 0 < nearly.estimate < 0.01


def test_events_that_abstain_count_and_events_without_scores_do_not() -> None:
    abstained, silent = Profile(), Profile()
    abstained.add(rows_of(50, abstained=np.ones(50, np.bool_)), REFERENCE)
    silent.add(rows_of(50), REFERENCE)
    assert evidence(failing(50), abstained).label_free(REFERENCE).estimate == 0.0
    assert evidence(failing(50), silent).label_free(REFERENCE).reason == "the events carry no usable scores"


def weighted(weight: np.ndarray | None, scores: np.ndarray) -> Profile:
    made = Profile()
    values = np.random.default_rng(0).normal(0, 1, len(scores))
    made.add(rows_of(len(scores), weight=weight, scores=scores, numeric={"income": values}), REFERENCE)
    return made


def test_unequal_weights_widen_the_noise_and_equal_ones_change_nothing() -> None:
    scores = np.tile(np.array([[0.9, 0.1]], np.float32), (1000, 1))
    unequal = np.where(np.arange(1000) < 990, 1.0, 1000.0)
    kish = unequal.sum() ** 2 / (unequal**2).sum()
    plain, ones, few = (weighted(w, scores) for w in (None, np.ones(1000), unequal))
    assert evidence(plain) == evidence(ones)
    assert evidence(plain).label_free(REFERENCE) == evidence(ones).label_free(REFERENCE)
    free = evidence(few).label_free(REFERENCE)
    assert free.n == 1000
    assert free.n_effective == pytest.approx(kish)
    by_count = evidence(plain).label_free(REFERENCE)
    assert None not in (free.high, free.low, by_count.high, by_count.low)
    assert free.high - free.low > 2 * (by_count.high - by_count.low)  # type: ignore[operator]
    hourly = declared(REFERENCE, system_context={"season": "1 hour"})
    drift = [next(iter(distribution_verdicts(p, hourly))) for p in (plain, ones, few)]
    assert drift[0] == drift[1]
    assert drift[0].effect is not None
    assert drift[0].effect.n == 1000
    assert drift[2].reason == f"{kish:.4g} observed values in effect, 50 are needed"
    assert effective(1000, 5, 0, WEIGHT) == 1000


def test_the_interval_covers_under_unequal_sampling() -> None:
    rng = np.random.default_rng(14)
    exact = msgspec.structs.replace(
        REFERENCE, calibration=Calibration(accuracy=0.75, residual_low=0.0, residual_high=0.0)
    )
    weight = np.where(np.arange(1000) < 950, 1.0, 100.0)
    held = 0
    for _ in range(300):
        top = np.where(rng.random(1000) < 0.5, 1.0, 0.5)
        made = Profile()
        made.add(rows_of(1000, weight=weight, scores=np.stack((top, 1 - top), 1)), exact)
        found = evidence(made).label_free(exact)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.75 <= found.high
    assert held / 300 >= 0.88
