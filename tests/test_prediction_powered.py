"""Audited accuracy with a proxy: unbiased whatever the proxy is worth, sharper where it is good."""

import msgspec
import numpy as np
import pytest

from models.label_sampling import LabelSampler
from models.prediction_powered import AuditedAccuracy, AuditedState, Traffic, with_feedback

RATE = 0.05


def cohort(seed: int, useless: bool = False, n: int = 4000, uniform: bool = False) -> tuple[AuditedAccuracy, float]:
    """Audits of one cohort and its true accuracy; a useless proxy is that of other inferences, and too low."""
    rng = np.random.default_rng(seed)
    proxy = np.clip(rng.beta(2.0, 0.4, n), 0.02, 0.99)
    correct = rng.random(n) < proxy
    if useless:
        proxy = np.clip(rng.permutation(proxy) - 0.1, 0.01, 0.99)
    sampler = LabelSampler(RATE, uniform=1.0 if uniform else 0.5)
    sampler.update(proxy)
    plan = sampler.plan
    propensity = plan.propensities(proxy)
    chosen = rng.permutation(np.flatnonzero(plan.chosen(rng.integers(0, 2**64, n, dtype=np.uint64), propensity)))
    traffic, audited = Traffic(), AuditedAccuracy(cells=200)
    traffic.update(proxy, propensity)
    audited.update(traffic, correct[chosen].astype(float), proxy[chosen], propensity[chosen])
    return audited, float(correct.mean())


@pytest.mark.parametrize("useless", [False, True])
def test_one_look_covers_and_has_no_bias(useless: bool) -> None:
    errors, hits, sequence_hits, power = [], 0, 0, []
    for seed in range(150):
        audited, truth = cohort(seed, useless)
        found, both = audited.estimate, audited.interval()
        assert found.estimate is not None
        assert found.low is not None
        assert found.high is not None
        errors.append(found.estimate - truth)
        hits += found.low <= truth <= found.high
        sequence_hits += both[0] <= truth <= both[1]
        power.append(audited.power)
    assert abs(np.mean(errors)) < 3 * np.std(errors) / np.sqrt(len(errors))
    assert hits >= 125  # 135 expected; 125 is 2.7 standard errors below
    assert sequence_hits >= 142
    assert bool(np.mean(power) > 0.85) is not useless


def test_a_good_proxy_and_a_sampler_that_asks_in_doubt_narrow_the_interval() -> None:
    def width(**kind: bool) -> float:
        found = [cohort(seed, **kind)[0].interval() for seed in range(30)]
        return float(np.median([high - low for low, high in found]))

    assert width() < width(uniform=True) < width(uniform=True, useless=True)


def test_missing_labels_count_both_ways() -> None:
    rng = np.random.default_rng(2)
    proxy, propensity = np.full(4000, 0.9), np.full(4000, RATE)
    traffic = Traffic()
    traffic.update(proxy, propensity)
    correct = (rng.random(200) < 0.9).astype(float)
    whole, holed = AuditedAccuracy(), AuditedAccuracy()
    whole.update(traffic, correct, proxy[:200], propensity[:200])
    holed.update(traffic, np.where(np.arange(200) < 20, np.nan, correct), proxy[:200], propensity[:200])
    sure, wide = whole.interval(), holed.interval()
    assert wide[0] < sure[0]
    assert wide[1] >= sure[1]
    assert whole.estimate.low is not None
    assert holed.estimate.low is not None
    assert holed.estimate.low < whole.estimate.low - 0.05


def test_where_labels_and_proxy_part_within_the_span_the_interval_gets_wider_not_wrong() -> None:
    rng = np.random.default_rng(8)
    audited, truth = AuditedAccuracy(cells=200), []
    for accuracy in [0.95] * 10 + [0.5] * 10:
        traffic = Traffic()
        traffic.update(np.full(2000, 0.95), np.full(2000, RATE))
        correct = (rng.random(100) < accuracy).astype(float)
        audited.update(traffic, correct, np.full(100, 0.95), np.full(100, RATE))
        truth.append(accuracy)
        low, high = audited.interval(steady=False)
        assert low <= np.mean(truth) <= high
    assert audited.interval() == audited.interval(steady=False)


def test_traffic_merges_exactly_in_any_order() -> None:
    rng = np.random.default_rng(4)
    parts = [(rng.random(n), rng.uniform(0.01, 1, n)) for n in (3, 500, 0, 17)]
    totals = []
    for order in ((0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)):
        total = Traffic()
        for i in order:
            one = Traffic()
            one.update(*parts[i])
            total.merge(one)
        totals.append(total)
    assert totals[0] == totals[1] == totals[2]
    assert totals[0].mean_proxy == pytest.approx(np.concatenate([p for p, _ in parts]).mean())


def test_state_goes_on_bit_for_bit() -> None:
    rng = np.random.default_rng(6)
    one, other = AuditedAccuracy(cells=50), AuditedAccuracy(cells=50)
    for _ in range(5):
        proxy, propensity = rng.random(300), np.full(300, 0.1)
        traffic = Traffic()
        traffic.update(proxy, propensity)
        correct = (rng.random(30) < proxy[:30]).astype(float)
        for audited in (one, other):
            audited.update(traffic, correct, proxy[:30], propensity[:30])
        packed = msgspec.msgpack.encode(one.state)
        one = AuditedAccuracy.from_state(msgspec.msgpack.decode(packed, type=AuditedState))
    assert one.state == other.state
    assert one.estimate == other.estimate
    with pytest.raises(ValueError, match="has version 2"):
        AuditedAccuracy.from_state(msgspec.structs.replace(one.state, version=2))


def test_what_cannot_be_is_refused_and_nothing_is_no_estimate() -> None:
    empty = AuditedAccuracy(cells=10)
    assert empty.interval() == (0.0, 1.0)
    assert empty.estimate.estimate is None
    assert empty.estimate.reason
    ones = np.ones(2)
    for proxy, propensity, why in (
        (2 * ones, ones, "probability"),
        (ones, 0 * ones, "propensity"),
        (ones, ones[:1], "1 p"),
    ):
        with pytest.raises(ValueError, match=why):
            Traffic().update(proxy, propensity)
    with pytest.raises(ValueError, match="2 audits in a cohort of 0"):
        empty.update(Traffic(), ones, ones, ones)


def test_feedback_moves_the_proxy_by_bayes_rule() -> None:
    # 90% right; users complain about 2% of right and 40% of wrong answers.
    said, quiet = with_feedback(np.array([0.9, 0.9]), np.array([True, False]), 0.02, 0.4)
    assert said == pytest.approx(0.9 * 0.02 / (0.9 * 0.02 + 0.1 * 0.4))
    assert quiet == pytest.approx(0.9 * 0.98 / (0.9 * 0.98 + 0.1 * 0.6))
    with pytest.raises(ValueError, match="smooth the counts"):
        with_feedback(np.array([0.9]), np.array([True]), 0.0, 0.4)
