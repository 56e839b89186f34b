"""Concept drift: flagged soon when labels contradict the label-free interval, rarely when they do not."""

import math

import msgspec
import numpy as np
import pytest

from models.concept import BETS, ConceptState, ConceptWatch


def flags(share: float, low: float, labels: int, seed: int, weights: bool = False) -> tuple[int, int | None]:
    """Alarms within so many labels, and the label of the first."""
    rng = np.random.default_rng(seed)
    watch, first = ConceptWatch(1000), None
    for n in range(labels):
        if weights:  # half of the labels are drawn a third as often, and are about the answers that are right
            likely = rng.random() < 0.75
            watch.update(bool(rng.random() < (2 * share - 1 if likely else 1.0)), low, 2 / 3 if likely else 2.0, 2.0)
        else:
            watch.update(bool(rng.random() < share), low)
        if watch.flagged and first is None:
            first = n + 1
    return watch.alarms, first


@pytest.mark.parametrize("weights", [False, True])
def test_the_run_length_is_kept_at_the_edge_of_the_promise(weights: bool) -> None:
    alarms = sum(flags(0.9, 0.9, 2000, seed, weights)[0] for seed in range(30))
    assert alarms <= 60 + 3 * math.sqrt(60)  # 60 promised at most


def test_a_swapped_pair_of_classes_is_flagged_soon() -> None:
    needed = [flags(0.77, 0.92, 400, seed)[1] or 400 for seed in range(50)]
    assert np.median(needed) < 60
    assert max(needed) < 400


def test_an_estimate_that_cannot_say_is_never_contradicted() -> None:
    watch = ConceptWatch(10)
    for low in (None, 0.0, math.nan, 1.0):
        for _ in range(50):
            watch.update(False, low)
    watch.update(False, 0.9, math.nan)
    watch.update(False, 0.9, 3.0, 2.0)
    assert (watch.alarms, watch.n, watch.skipped, watch.evidence) == (0, 0, 202, 0.0)


def test_state_goes_on_bit_for_bit_is_bounded_and_versioned() -> None:
    rng = np.random.default_rng(1)
    one, other = ConceptWatch(), ConceptWatch()
    for label in (rng.random(5000) < 0.85).tolist():
        one.update(label, 0.9)
        other.update(label, 0.9)
        one = ConceptWatch.from_state(msgspec.json.decode(msgspec.json.encode(one.state), type=ConceptState))
    assert one.state == other.state
    assert len(one.state.sums) == len(BETS)
    assert one.alarms > 0
    with pytest.raises(ValueError, match="version 7"):
        ConceptWatch.from_state(msgspec.structs.replace(one.state, version=7))
    with pytest.raises(ValueError, match="number of labels"):
        ConceptWatch(1.0)
