"""Confidence sequences: what they promise at all times at once, by simulation with a margin for its own chance."""

import math

import msgspec
import numpy as np
import pytest

from models.confidence_sequence import ConfidenceSequence, MovingMean, MovingMeanState, SequenceState


@pytest.mark.parametrize("share", [0.5, 0.84, 0.97])
def test_the_mean_is_inside_at_every_moment(share: float) -> None:
    rng = np.random.default_rng(int(100 * share))
    lost = 0
    for _ in range(100):
        sequence = ConfidenceSequence(cells=200)
        inside = True
        for label in rng.random(400) < share:
            sequence.update(float(label))
            found = sequence.interval()
            inside &= found is not None and found[0] <= share <= found[1]
        lost += not inside
    assert lost <= 10  # 5 expected at most; 10 has a chance of 1% there


def test_it_narrows_and_the_bounds_of_observations_may_be_wider_than_those_of_the_mean() -> None:
    rng = np.random.default_rng(3)
    sequence = ConfidenceSequence(-1.0, 1.0)
    widths: list[float] = []
    for _ in range(4):
        for _ in range(200):
            weighted = float(rng.choice([-2.0, 0.0, 0.5], p=[0.02, 0.9, 0.08]))
            sequence.update(weighted, -2.0, 0.7)
        found = sequence.interval()
        assert found is not None
        assert found[0] <= 0.0 <= found[1]
        widths.append(found[1] - found[0])
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.2


def test_a_stricter_level_is_wider() -> None:
    sequence = ConfidenceSequence()
    for label in [1, 1, 0, 1, 1] * 40:
        sequence.update(label)
    strict, loose = sequence.interval(0.05), sequence.interval(0.10)
    assert strict is not None
    assert loose is not None
    assert strict[0] < loose[0] < loose[1] < strict[1]


def test_a_span_with_two_means_ends_in_no_interval_rather_than_a_wrong_one() -> None:
    sequence = ConfidenceSequence()
    for label in [1] * 2000 + [0] * 2000:
        sequence.update(label)
    assert sequence.interval() is None


def test_an_unknown_observation_counts_against_both_sides() -> None:
    known, unknown = ConfidenceSequence(), ConfidenceSequence()
    for n in range(400):
        known.update(1.0 if n % 10 else 0.0)
        if n % 10 == 5:
            unknown.update(0.0, most=1.0)
        else:
            unknown.update(1.0 if n % 10 else 0.0)
    sure, wide = known.interval(), unknown.interval()
    assert sure is not None
    assert wide is not None
    assert wide[0] < sure[0] - 0.04
    assert wide[1] >= sure[1]


def test_observations_outside_of_their_bounds_are_refused_and_nan_is_counted() -> None:
    sequence, mean = ConfidenceSequence(), MovingMean()
    with pytest.raises(ValueError, match=r"outside of its bounds 0\.0 \.\. 1\.0"):
        sequence.update(1.5)
    with pytest.raises(ValueError, match="outside of"):
        mean.update(-1)
    for x in (math.nan, math.inf):
        sequence.update(x)
        mean.update(x)
    assert (sequence.n, sequence.skipped, mean.n) == (0, 2, 0)
    assert sequence.interval() == (0.0, 1.0) == mean.interval()


def test_state_goes_on_bit_for_bit_and_does_not_grow() -> None:
    rng = np.random.default_rng(5)
    one, moving = ConfidenceSequence(cells=100), MovingMean()
    sizes = set()
    for n, x in enumerate(rng.random(3000).tolist()):
        if n % 300 == 7:
            packed = msgspec.msgpack.encode(one.state)
            sizes.add(len(one.state.above) + len(one.state.below))
            one = ConfidenceSequence.from_state(msgspec.msgpack.decode(packed, type=SequenceState))
            again = msgspec.json.decode(msgspec.json.encode(moving.state), type=MovingMeanState)
            moving = MovingMean.from_state(again)
        one.update(x)
        moving.update(x)
    rng = np.random.default_rng(5)
    other, straight = ConfidenceSequence(cells=100), MovingMean()
    for x in rng.random(3000).tolist():
        other.update(x)
        straight.update(x)
    assert one.state == other.state
    assert moving.state == straight.state
    assert sizes == {202}


def test_states_of_other_versions_are_refused() -> None:
    with pytest.raises(ValueError, match="has version 9"):
        ConfidenceSequence.from_state(msgspec.structs.replace(ConfidenceSequence().state, version=9))
    with pytest.raises(ValueError, match="has version 9"):
        MovingMean.from_state(msgspec.structs.replace(MovingMean().state, version=9))


def test_the_moving_mean_covers_a_mean_that_changes() -> None:
    lost = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        bound = MovingMean()
        shares = np.where(np.arange(600) < 300, 0.95, 0.6)
        inside, total = True, 0.0
        for n, share in enumerate(shares, start=1):
            bound.update(float(rng.random() < share))
            total += share
            if n % 10 == 0:
                low, high = bound.interval()
                inside &= low <= total / n <= high
        lost += not inside
    assert lost <= 10
