"""Reference traffic: on the clock, bounded, joined so that units are full and fit the season."""

import math

import msgspec
import numpy as np
import pytest

from models.reference_traffic import MOST, ReferenceTraffic


def fed(traffic: ReferenceTraffic, first: int, last: int, every: int = 1) -> ReferenceTraffic:
    for tick in range(first, last, every):
        traffic.update(tick, float(tick))
    return traffic


def test_values_start_where_the_season_does() -> None:
    traffic = fed(ReferenceTraffic(24), 30, 130)
    assert (traffic.start, traffic.values[0], traffic.ticks) == (48, 48.0, 100)


def test_a_long_time_is_kept_in_longer_units_that_fit_the_season() -> None:
    traffic = fed(ReferenceTraffic(24), 7, 7 + 20 * MOST)
    assert traffic.unit == 24
    assert len(traffic.values) <= MOST
    assert traffic.values[0] == np.mean(np.arange(traffic.start, traffic.start + 24))
    assert fed(ReferenceTraffic(1), 0, 3 * MOST).unit == 4


def test_what_is_sparse_is_joined_and_gaps_are_no_values() -> None:
    assert fed(ReferenceTraffic(1), 0, 2_000, every=3).unit == 4
    traffic = fed(fed(ReferenceTraffic(1), 0, 50), 53, 56)
    assert np.flatnonzero(np.isnan(traffic.values)).tolist() == [50, 51, 52]
    assert fed(traffic, 60 + MOST, 61 + MOST).values.tolist() == [float(60 + MOST)], "another time"
    traffic.update(61 + MOST, math.nan)
    assert traffic.closed == ()


def test_while_a_detector_counts_on_the_unit_none_are_joined() -> None:
    traffic = fed(ReferenceTraffic(24), 0, 100)
    traffic.fixed = True
    fed(traffic, 100, 3 * MOST)
    assert (traffic.unit, traffic.frozen, len(traffic.values)) == (1, True, MOST)
    assert traffic.closed[0].number == 3 * MOST - 1


def test_a_state_of_another_version_is_refused() -> None:
    state = fed(ReferenceTraffic(1), 0, 3).state
    assert ReferenceTraffic.from_state(state).state == state
    with pytest.raises(ValueError, match="version 3"):
        ReferenceTraffic.from_state(msgspec.structs.replace(state, version=3))
