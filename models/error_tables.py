"""P(this answer is right), r(x): an additive logistic model over bins of the features of an event.

r(x) = sigmoid(base + sum over features j of table_j[bin of x_j]). Fitted by iteratively reweighted least squares; the
penalty shrinks the entries and their second differences along a feature, as in P-splines (Eilers and Marx 1996,
doi:10.1214/ss/1038425655).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.columns import Floats, Ints

BINS = 16
STEPS = 7
RIDGE, SMOOTHNESS = 2.0, 10.0


class ErrorTables(NamedTuple):
    """r(x): `edges` (bins - 1, features) between the bins, `table` (features * bins,), `base` the log odds."""

    edges: Floats
    table: Floats
    base: float

    def __call__(self, features: Floats) -> Floats:
        """P(right) of each row of features; NaN where a feature is."""
        found = self._probability(self.cells(features))
        found[np.isnan(features).any(axis=1)] = np.nan
        return found

    def cells(self, features: Floats) -> Ints:
        """The entry of the table for each row and feature."""
        bins = len(self.edges) + 1
        columns = [np.searchsorted(self.edges[:, j], x) + bins * j for j, x in enumerate(features.T)]
        return np.stack(columns, axis=1).astype(np.int64)

    def _probability(self, cells: Ints) -> Floats:
        return np.asarray(1 / (1 + np.exp(-(self.base + self.table[cells].sum(axis=1)))))


def fit(features: Floats, right: NDArray[np.bool_]) -> ErrorTables:
    """r(x) from events whose correctness is known: features (n, j), right (n,)."""
    count = features.shape[1]
    edges = np.quantile(features, np.linspace(0, 1, BINS + 1)[1:-1], axis=0)
    share = float(np.clip(right.mean(), 1e-3, 1 - 1e-3))
    model = ErrorTables(edges=edges, table=np.zeros(count * BINS), base=float(np.log(share / (1 - share))))
    cells = model.cells(features)
    second = np.diff(np.eye(BINS), 2, axis=0)
    penalty = np.kron(np.eye(count), SMOOTHNESS * second.T @ second + RIDGE * np.eye(BINS))
    for _ in range(STEPS):
        p = model._probability(cells)
        v = np.maximum(p * (1 - p), 1e-3)
        model = model._replace(base=model.base + float((right - p).sum() / v.sum()))
        p = model._probability(cells)
        slope = np.bincount(cells.ravel(), np.repeat(right - p, count), count * BINS) - penalty @ model.table
        curvature = _curvature(cells, v, count) + penalty
        model = model._replace(table=model.table + np.linalg.solve(curvature, slope))
    return model


def _curvature(cells: Ints, weight: Floats, count: int) -> Floats:
    """Weights added up by pairs of entries, (count * bins, count * bins): what a design of indicators would give."""
    found = np.zeros((count * BINS, count * BINS))
    for i in range(count):
        for j in range(i, count):
            pair = (cells[:, i] - BINS * i) * BINS + cells[:, j] - BINS * j
            block = np.bincount(pair, weight, BINS * BINS).reshape(BINS, BINS)
            found[BINS * i : BINS * (i + 1), BINS * j : BINS * (j + 1)] = block
            found[BINS * j : BINS * (j + 1), BINS * i : BINS * (i + 1)] = block.T
    return found
