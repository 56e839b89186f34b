"""The reference grids of several numeric features at once: bins and moments of a whole block in a few passes."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.columns import Floats, Ints
from models.reference import NumericFeature

FEW_EDGES = 32  # up to here comparing with every edge beats a binary search
CLIP = 1e3  # a standardised value beyond this says no more than this
_UNDESCRIBED = NumericFeature()


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

    def standardised(self, values: Floats) -> Floats:
        """Values in units of the reference's spread, clipped; absent ones must be the mean already."""
        z: Floats = (values - self.mean) / self.scale
        return np.clip(z, -CLIP, CLIP, out=z)
