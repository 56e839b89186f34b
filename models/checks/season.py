"""Shared by the checks of drift: the last whole season of a histogram, kept as a ring of a few parts.

A window of one hour always differs from training data of whole days where traffic has a daily cycle. So histograms
are judged over a whole season: `system_context.bestbefore.season`, or a day where windows are shorter and divide it.
The season slides by its parts. Windows that are no part of a season are judged one block at a time.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.checks.observed import Observed
from models.units import DAY_US, duration_text, duration_us

SEASON = "system_context.bestbefore.season"
MAX_PARTS = 8
MAX_BINS = 60

Array = NDArray[np.float64]


class Season(NamedTuple):
    """`parts` of `part_us` each; `part_us` 0 means: every block is judged by itself."""

    parts: int
    part_us: int

    @property
    def blockwise(self) -> bool:
        """Whether blocks are judged one by one."""
        return self.part_us == 0

    def due(self, seen: Observed) -> bool:
        """Does the window of `seen` complete a part?"""
        return self.blockwise or seen.end_us % self.part_us == 0

    def whole(self, seen: Observed) -> bool:
        """Does the window of `seen` complete a season, of those that do not overlap?"""
        return self.blockwise or seen.end_us % (self.part_us * self.parts) == 0

    def span_us(self, seen: Observed) -> int:
        """Time between two judgements."""
        return seen.end_us - seen.block_start_us if self.blockwise else self.part_us


def season_of(seen: Observed) -> Season:
    """The season of the model behind `seen`. Raises ValueError for a declared season that is no duration."""
    window, declared = seen.reference.window_us, seen.value(SEASON)
    length = DAY_US if declared is None else duration_us(declared)
    if length % window or length <= window:
        return Season(1, 0)
    windows = length // window
    parts = max(k for k in range(1, MAX_PARTS + 1) if windows % k == 0)
    return Season(parts, length // parts)


class Sum(NamedTuple):
    """A histogram over a season: weights per bin, effective number of observations, parts that took part."""

    counts: Array
    n: float
    complete: bool
    part: Array  # weights of the newest part alone
    part_n: float


def over_season(seen: Observed, season: Season, key: str, counts: Array, n: float) -> Sum:
    """Add a window's histogram to the ring under `key`; the sum of the season that ends with the window."""
    if season.blockwise:
        return Sum(counts, n, True, counts, n)
    index = seen.start_us // season.part_us
    slot = f"{key}/{index % season.parts}"
    kept = seen.memory.get(slot)
    old = kept[2:] if kept and kept[0] == index and len(kept) == len(counts) + 2 else [0.0] * len(counts)
    part = np.array(old) + counts
    part_n = n + (kept[1] if kept and kept[0] == index else 0.0)
    seen.memory[slot] = [float(index), part_n, *part.tolist()]
    since = seen.memory.setdefault(f"{key}/since", [float(index)])[0]
    rings = (seen.memory.get(f"{key}/{i}") for i in range(season.parts))
    valid = [r for r in rings if r and index - season.parts < r[0] <= index and len(r) == len(counts) + 2]
    total = np.sum([r[2:] for r in valid], axis=0)
    return Sum(total, sum(r[1] for r in valid), index - since >= season.parts - 1, part, part_n)


def filling(season: Season) -> str:
    """Why there is no whole season yet."""
    return f"the first season of {duration_text(season.part_us * season.parts)} is not complete"


def coarse(counts: Array, shares: Array) -> tuple[Array, Array]:
    """Both histograms with neighbouring bins joined until there are at most MAX_BINS."""
    if len(counts) <= MAX_BINS:
        return counts, shares
    ends = np.unique(np.linspace(0, len(counts), MAX_BINS + 1).astype(int))[:-1]
    return np.add.reduceat(counts, ends), np.add.reduceat(shares, ends)
