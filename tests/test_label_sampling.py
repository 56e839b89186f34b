"""Which labels are asked for: exact propensities, the same everywhere, within the budget."""

import msgspec
import numpy as np
import pytest

from models.label_sampling import STEP, LabelSampler, Plan, SamplerState

RATE = 0.02


def proxies(n: int, seed: int = 0) -> np.ndarray:
    return np.clip(np.random.default_rng(seed).beta(4, 0.5, n), 0.01, 1.0)


def test_propensities_are_the_probabilities_with_which_labels_are_asked_for() -> None:
    sampler = LabelSampler(RATE)
    sampler.update(proxies(2000, 1))
    proxy = np.repeat([0.999, 0.9, 0.6, 0.1], 100_000)
    propensity = sampler.plan.propensities(proxy)
    hashes = np.random.default_rng(2).integers(0, 2**64, len(proxy), dtype=np.uint64)
    asked = sampler.plan.chosen(hashes, propensity).reshape(4, -1).mean(axis=1)
    wanted = propensity.reshape(4, -1)[:, 0]
    assert np.abs(asked - wanted).max() < 4 * np.sqrt(0.05 / 100_000)
    assert (np.diff(wanted) >= 0).all()
    assert (propensity / STEP == np.rint(propensity / STEP)).all()


def test_the_budget_is_kept_and_no_label_weighs_more_than_the_uniform_part_allows() -> None:
    sampler = LabelSampler(RATE, uniform=0.5)
    for window in range(5):
        sampler.update(proxies(2000, window))
    propensity = sampler.plan.propensities(proxies(50_000, 9))
    assert propensity.mean() == pytest.approx(RATE, rel=0.05)
    assert propensity.min() >= 0.5 * RATE


def test_small_segments_are_asked_more_often() -> None:
    sampler = LabelSampler(RATE)
    sampler.update(proxies(1000), {"big": 9900, "small": 100})
    proxy, codes = np.full(10_000, 0.9), (np.arange(10_000) < 100).astype(np.int64)
    propensity = sampler.plan.propensities(proxy, ("big", "small"), codes)
    flat = sampler.plan.propensities(proxy)
    assert propensity[0] > 3 * flat[0]
    assert propensity[-1] >= 0.5 * RATE
    assert propensity.mean() == pytest.approx(flat.mean(), rel=0.02)
    unseen = sampler.plan.propensities(proxy[:1], ("new",), np.zeros(1, dtype=np.int64))
    assert unseen[0] == flat[0]


def test_unknown_proxies_get_the_mean_rate_and_the_ceiling_holds() -> None:
    plan = Plan(rate=0.5, ceiling=0.25)
    found = plan.propensities(np.array([np.nan, 0.5]))
    assert found.max() <= 0.25
    assert Plan(rate=RATE).propensities(np.array([np.nan]))[0] == pytest.approx(RATE, abs=STEP)


def test_a_sample_by_plan_lies_within_what_is_kept_at_the_ceiling() -> None:
    plan = Plan(rate=0.1, ceiling=0.1)
    hashes = np.random.default_rng(1).integers(0, 2**64, 20_000, dtype=np.uint64)
    asked = plan.chosen(hashes, plan.propensities(proxies(20_000)))
    assert asked.any()
    assert (hashes[asked] < np.uint64(int(0.1 * 2**64))).all()


def test_state_and_plan_survive_and_stay_bounded() -> None:
    one, other = LabelSampler(RATE), LabelSampler(RATE)
    for window in range(40):
        counts = {f"s{window * 20 + i}": 100 + i for i in range(20)} | {"always": 5000}
        for sampler in (one, other):
            sampler.update(proxies(200, window), counts)
        packed = msgspec.msgpack.encode(one.state)
        one = LabelSampler.from_state(msgspec.msgpack.decode(packed, type=SamplerState))
    assert one.plan == other.plan
    assert len(one.state.segments) <= 256
    assert "always" in one.state.segments
    assert msgspec.json.decode(msgspec.json.encode(one.plan), type=Plan) == one.plan
    one.update(np.array([np.nan, np.nan]))
    assert one.plan == other.plan
    with pytest.raises(ValueError, match="has version 4"):
        LabelSampler.from_state(msgspec.structs.replace(one.state, version=4))
    with pytest.raises(ValueError, match="must lie in"):
        LabelSampler(0.0)
