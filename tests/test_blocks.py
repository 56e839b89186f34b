"""Block means on a clock, and the length blocks need."""

import math

import msgspec
import numpy as np
import pytest
from scipy.signal import lfilter

from models.blocks import Block, BlockMeans, BlockState, autocorrelation_time, deseasonalised, lengths


def closed(blocks: BlockMeans, values: list[tuple[int, float]]) -> list[Block]:
    found: list[Block] = []
    for tick, value in values:
        blocks.update(tick, value)
        found += blocks.closed
    return found


def test_blocks_lie_on_the_clock_and_know_their_place_in_the_season() -> None:
    found = closed(BlockMeans(6, season=24), [(tick, float(tick)) for tick in range(12, 48)])
    assert [block.mean for block in found] == [14.5, 20.5, 26.5, 32.5, 38.5, 44.5]
    assert [block.position for block in found] == [2, 3, 0, 1, 2, 3]
    assert {block.n for block in found} == {6}
    assert {b.position for b in closed(BlockMeans(48, season=24), [(t, 0.0) for t in range(96)])} == {0}


def test_a_block_may_lack_a_fifth_of_its_values_but_not_more() -> None:
    blocks = BlockMeans(10)
    ticks = [t for t in range(40) if t not in {3, 9, 10, 11, 12, 29, 30}]
    assert [b.n for b in closed(blocks, [(t, 1.0) for t in ticks])] == [8, 9, 9]
    assert blocks.incomplete == 1


def test_after_a_gap_one_update_may_close_two_blocks() -> None:
    blocks = BlockMeans(5)
    closed(blocks, [(t, 1.0) for t in range(4)])
    assert closed(blocks, [(9, 3.0)]) == [Block(1.0, 0, 4)]
    assert blocks.incomplete == 1
    single = BlockMeans(1, season=3)
    assert closed(single, [(7, 2.0)]) == [Block(2.0, 1, 1)]


def test_values_that_are_not_finite_or_come_late_are_counted_and_change_nothing() -> None:
    clean, dirty = BlockMeans(4), BlockMeans(4)
    values = [(t, float(t % 3)) for t in range(40)]
    again = [v for t, x in values for v in ((t, math.nan), (t, math.inf), (t, x), (t, 99.0), (t - 1, 99.0))]
    assert closed(clean, values) == closed(dirty, again)
    assert dirty.skipped == 160
    assert dirty.state == msgspec.structs.replace(clean.state, skipped=160)


def test_a_restored_one_goes_on_exactly_as_the_one_that_lived() -> None:
    rng = np.random.default_rng(1)
    lived = restored = BlockMeans(6, season=24)
    for tick in range(200):
        if tick % 7 == 0:
            restored = BlockMeans.from_state(
                msgspec.msgpack.decode(msgspec.msgpack.encode(lived.state), type=BlockState)
            )
        if rng.random() < 0.1:
            continue
        value = float(rng.standard_normal())
        lived.update(tick, value)
        restored.update(tick, value)
        assert restored.closed == lived.closed
        assert restored.state == lived.state


@pytest.mark.parametrize(("phi", "time"), [(0.0, 1.0), (0.5, 3.0), (0.9, 19.0)])
def test_the_autocorrelation_time_of_ar1_is_found(phi: float, time: float) -> None:
    rng = np.random.default_rng(2)
    found = [
        autocorrelation_time(np.asarray(lfilter([1], [1, -phi], rng.standard_normal(12_000))[2_000:]))
        for _ in range(10)
    ]
    assert np.mean(found) == pytest.approx(time, rel=0.15)


def test_a_daily_cycle_is_no_dependence_once_it_is_taken_off() -> None:
    rng = np.random.default_rng(3)
    values = np.sin(2 * np.pi * np.arange(2_400) / 24) + 0.3 * rng.standard_normal(2_400)
    values[5] = np.nan
    residuals = deseasonalised(values, 24)
    assert math.isnan(residuals[5])
    assert np.nanmean(residuals) == pytest.approx(0, abs=1e-12)
    assert autocorrelation_time(residuals) < 1.5
    assert np.allclose(deseasonalised(np.roll(values, -1), 24, first=1)[:4], residuals[1:5])


def test_degenerate_series_count_as_independent() -> None:
    assert autocorrelation_time(np.zeros(100)) == 1.0
    assert autocorrelation_time(np.array([1.0])) == 1.0


def test_lengths_fit_the_season() -> None:
    assert lengths(1, 3, 20) == [3, 6, 12]
    assert lengths(168, 1, 400) == [1, 2, 4, 8, 21, 42, 84, 168, 336]
    assert lengths(24, 100, 50) == []
    with pytest.raises(ValueError, match="must divide the other"):
        BlockMeans(5, season=24)
    with pytest.raises(ValueError, match="version 3"):
        BlockMeans.from_state(BlockState(length=1, season=1, version=3))
