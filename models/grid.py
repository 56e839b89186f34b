"""The reference grids of several numeric features at once: bins, moments and domains of a block in a few passes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.columns import Floats, Ints
from models.fixed_point import CLIP, NEAR
from models.reference import NumericFeature

FEW_EDGES = 32  # up to here comparing with every edge beats a binary search
SPECIALS = (-9999.0, -999.0, -99.0, -9.0, -1.0, 0.0, 99.0, 999.0, 9999.0, 99999.0)  # usual stand-ins for a null
_UNDESCRIBED = NumericFeature()


class Block(NamedTuple):
    """Values of all features of a grid, shape (features, n), with the mean where there is none.

    `finite` marks the true ones, None where all are. `low` and `high` bound each feature, shape (features,).
    """

    values: Floats
    finite: NDArray[np.bool_] | None
    low: Floats
    high: Floats

    def rows(self, feature: int, mask: NDArray[np.bool_]) -> NDArray[np.intp]:
        """Numbers of the rows in `mask` that hold a true value of a feature."""
        return (mask if self.finite is None else mask & self.finite[feature]).nonzero()[0]


class Grid:
    """Grids of `names`, in this order. A feature has its edges' bins and two more: null, and not finite."""

    def __init__(self, names: Sequence[str], described: Mapping[str, NumericFeature]) -> None:
        features = [described.get(name, _UNDESCRIBED) for name in names]
        self.names = tuple(names)
        self.edges = [np.array(feature.edges) for feature in features]
        self.sizes = np.array([len(edges) + 3 for edges in self.edges])
        self.starts = np.concatenate(([0], np.cumsum(self.sizes)))
        self.mean = np.array([[feature.mean] for feature in features])
        self.scale = np.array([[feature.sd or 1.0] for feature in features])
        widest = max((len(edges) for edges in self.edges), default=0)
        self._table = np.full((len(features), widest), np.inf)
        for row, edges in enumerate(self.edges):
            self._table[row, : len(edges)] = edges
        self._lowest = np.array([-np.inf if f.low is None else f.low for f in features])
        self._highest = np.array([np.inf if f.high is None else f.high for f in features])
        self._integers = np.array([f.integer for f in features])
        self._specials = [_specials(feature) for feature in features]
        # Where a declared stand-in is no integer, looking for integers does not find it.
        self._broken = np.array([any(v != round(v) for v, _ in known) for known in self._specials])

    def block(self, values: Floats) -> Block:
        """The values with what later steps ask about more than once."""
        finite = np.isfinite(values)
        if finite.all():
            return Block(values, None, values.min(axis=1), values.max(axis=1))
        values = np.where(finite, values, self.mean)
        return Block(values, finite, values.min(axis=1), values.max(axis=1))

    def bins(self, values: Floats) -> NDArray[np.intp]:
        """Bin of every value, shape (features, n): the number of edges below it. Not finite values get any bin."""
        if self._table.shape[1] > FEW_EDGES:
            return np.stack([np.searchsorted(edges, row) for edges, row in zip(self.edges, values, strict=True)])
        found = np.zeros(values.shape, np.uint8)
        above = np.empty(values.shape, np.bool_)
        for column in self._table.T:
            np.greater(values, column[:, None], out=above)
            found += above.view(np.uint8)
        return found.astype(np.intp)

    def count(self, bins: NDArray[np.intp], weight: Ints | None) -> Ints:
        """Histograms of all features in one array; feature i has `starts[i]` to `starts[i + 1]`."""
        flat = (bins + self.starts[:-1, None]).ravel()
        total = int(self.starts[-1])
        if weight is None:
            return np.bincount(flat, minlength=total).astype(np.int64)
        # Sums of integers below 2^53 are exact in the float64 that bincount uses for weights.
        spread = np.broadcast_to(weight.astype(np.float64), bins.shape).ravel()
        return np.bincount(flat, weights=spread, minlength=total).astype(np.int64)

    def standardised(self, block: Block) -> tuple[Floats, list[int], list[int]]:
        """Values in units of the reference's spread, and the features that have some beyond NEAR, and beyond CLIP."""
        with np.errstate(over="ignore"):
            z: Floats = (block.values - self.mean) / self.scale
            # The very operations of a row, which keep order: what holds for the bounds holds for all between them.
            ends = (np.stack((block.low, block.high), axis=1) - self.mean) / self.scale
        reach = np.abs(ends).max(axis=1)
        return z, (reach > NEAR).nonzero()[0].tolist(), (reach > CLIP).nonzero()[0].tolist()

    def violations(self, block: Block) -> Iterator[tuple[int, str, NDArray[np.intp]]]:
        """Feature, kind and rows of values outside of the declared range, or no integers where integers are due."""
        outside = (block.low < self._lowest) | (block.high > self._highest)
        for i in outside.nonzero()[0].tolist():
            row = block.values[i]
            found = block.rows(i, (row < self._lowest[i]) | (row > self._highest[i]))
            if len(found):
                yield i, "range", found
        for i in self._integers.nonzero()[0].tolist():
            row = block.values[i]
            found = block.rows(i, np.rint(row) != row)
            if len(found):
                yield i, "type", found

    def specials(self, block: Block) -> Iterator[tuple[int, str, NDArray[np.intp]]]:
        """Feature, value as text and rows of exact matches with the usual stand-ins and the declared ones."""
        # Most features hold no integer at all, and then no stand-in.
        whole = (np.rint(block.values) == block.values).any(axis=1) | self._broken
        for i in whole.nonzero()[0].tolist():
            low, high = block.low[i], block.high[i]
            for value, text in self._specials[i]:
                if low <= value <= high:
                    found = block.rows(i, block.values[i] == value)
                    if len(found):
                        yield i, text, found


def _specials(feature: NumericFeature) -> list[tuple[float, str]]:
    """Stand-ins of a feature with the text they are counted under: as declared, else the shortest."""
    known = {value: f"{value:g}" for value in SPECIALS}
    for text in feature.special:
        try:
            value = float(text)
        except ValueError:
            continue  # a text that stands for a null is met in a text column
        if np.isfinite(value):
            known[value] = text
    return sorted(known.items())
