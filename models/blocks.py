"""Block means on a clock, and how long a block has to be: values that depend on each other become nearly independent.

A tick is the number of a window since the epoch. A block is `length` ticks, and starts where the tick is a multiple
of it. Its position in the season is a number from 0 on: blocks at the same position see the same part of the daily
cycle, so each position can have its own level (`models.sequential`, plan with `positions`).
"""

import math
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
COMPLETE = 0.8  # of a block's ticks must have a value


class Block(NamedTuple):
    """The mean over a block that is over, and where in the season it lies."""

    mean: float
    position: int
    n: int


class BlockState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything `BlockMeans` is."""

    length: int
    season: int
    version: int = 1
    tick: int = -1
    n: int = 0
    mean: float = 0.0
    skipped: int = 0
    incomplete: int = 0


class BlockMeans:
    """Joins the values of `length` ticks; `season` (in ticks) must be a multiple of the length, or divide it.

    >>> blocks = BlockMeans(2, season=4)
    >>> for tick, value in enumerate([1.0, 3.0, 5.0, 7.0]):
    ...     blocks.update(tick, value)
    ...     print(blocks.closed)
    ()
    (Block(mean=2.0, position=0, n=2),)
    ()
    (Block(mean=6.0, position=1, n=2),)
    """

    def __init__(self, length: int, season: int = 1) -> None:
        if length < 1 or season < 1 or (season % length and length % season):
            raise ValueError(f"blocks of {length} ticks do not fit a season of {season}; one must divide the other")
        self.length, self.season = length, season
        self._tick, self._n, self._mean = -1, 0, 0.0
        self._skipped = self._incomplete = 0
        self._closed: tuple[Block, ...] = ()

    @property
    def positions(self) -> int:
        """Blocks per season, at least one."""
        return max(self.season // self.length, 1)

    @property
    def closed(self) -> tuple[Block, ...]:
        """Blocks that the last update completed: after a gap it can be two."""
        return self._closed

    @property
    def skipped(self) -> int:
        """Values that were not finite, or whose tick was not after the last."""
        return self._skipped

    @property
    def incomplete(self) -> int:
        """Blocks left out because too many of their ticks had no value."""
        return self._incomplete

    def update(self, tick: int, value: float) -> None:
        """Take the value of a tick; ticks ascend, gaps are allowed."""
        self._closed = ()
        if tick <= self._tick or not math.isfinite(value):
            self._skipped += 1
            return
        if self._n and tick // self.length != self._tick // self.length:
            self._close()
        self._tick = tick
        self._n += 1
        self._mean += value / self._n - self._mean / self._n
        if tick % self.length == self.length - 1:
            self._close()

    @property
    def state(self) -> BlockState:
        """What `from_state` needs; `closed` is not part of it, read it first."""
        return BlockState(
            length=self.length,
            season=self.season,
            tick=self._tick,
            n=self._n,
            mean=self._mean,
            skipped=self._skipped,
            incomplete=self._incomplete,
        )

    @classmethod
    def from_state(cls, state: BlockState) -> "BlockMeans":
        """The block means whose state this was; ValueError for a version this code does not know."""
        if state.version != 1:
            raise ValueError(f"block state has version {state.version}, known is 1; start the blocks afresh")
        blocks = cls(state.length, state.season)
        blocks._tick, blocks._n, blocks._mean = state.tick, state.n, state.mean
        blocks._skipped, blocks._incomplete = state.skipped, state.incomplete
        return blocks

    def _close(self) -> None:
        if self._n >= COMPLETE * self.length:
            position = self._tick // self.length % self.positions
            self._closed += (Block(self._mean, position, self._n),)
        else:
            self._incomplete += 1
        self._n, self._mean = 0, 0.0


def deseasonalised(values: Floats, season: int, first: int = 0) -> Floats:
    """`values` without the mean of their position in the season; the first is at tick `first`. NaN stays NaN."""
    position = (first + np.arange(len(values))) % season
    known = np.isfinite(values)
    n = np.bincount(position[known], minlength=season)
    sums = np.bincount(position[known], values[known], minlength=season)
    return np.asarray(values - (sums / np.maximum(n, 1))[position])


def autocorrelation_time(residuals: Floats) -> float:
    """How many values are worth one independent value: 1 + 2 sum of autocorrelations, at least 1.

    Summed up to the first lag that is 5 times the sum so far (Sokal 1997, Monte Carlo methods, section 3). NaN counts
    as the mean.

    >>> autocorrelation_time(np.tile([1.0, -1.0], 50))
    1.0
    """
    x = np.where(np.isfinite(residuals), residuals - np.nanmean(residuals), 0.0)
    spread = float(x @ x)
    if len(x) < 3 or spread <= 0:
        return 1.0
    spectrum: Any = np.fft.rfft(x, 2 * len(x))
    correlations = np.fft.irfft(np.abs(spectrum) ** 2)[: len(x) // 2] / spread
    times = 2 * np.cumsum(correlations) - 1
    lags = np.arange(len(times))
    enough = np.flatnonzero(lags >= 5 * times)
    return max(float(times[enough[0] if len(enough) else -1]), 1.0)


def lengths(season: int, at_least: float, most: int) -> list[int]:
    """Block lengths that fit a season, ascending from `at_least` to `most`, each at least twice the one before.

    >>> lengths(24, 5, 100)
    [6, 12, 24, 48, 96]
    """
    fitting = [k for k in range(1, season) if season % k == 0]
    fitting += [season * k for k in range(1, max(most // season, 0) + 1)]
    found: list[int] = []
    for k in fitting:
        if at_least <= k <= most and (not found or k >= 2 * found[-1]):
            found.append(k)
    return found
