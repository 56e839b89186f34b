"""Reals as integers: sums in fixed point are associative, so batches and replays arrive at the same bits."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.columns import Floats, Ints

WEIGHT = 1 << 16  # fixed point of weights: an event sampled with probability 1 adds WEIGHT
UNIT = 1 << 16  # fixed point of standardised values and confidences
FINE = 1 << 24  # fixed point of standardised values up to NEAR
NEAR = 16.0  # beyond it the finest scale adds nothing
CLIP = 1e3  # larger values are added up on a coarser scale, so that sums of squares stay exact
COARSER = 1024.0  # by which the next scale is coarser; a power of two loses no bits


def weights(weight: Floats | None) -> Ints | None:
    """Weights of rows, shape (n,), in units of WEIGHT; None where every row counts once."""
    return None if weight is None else np.rint(weight * WEIGHT).astype(np.int64)


def total(weight: Ints | None, rows: int) -> int:
    """Sum of the weights of `rows` rows."""
    return rows * WEIGHT if weight is None else int(weight.sum())


def of(weight: Ints | None, rows: NDArray[Any]) -> int:
    """Sum of the weights of the chosen `rows`, given as row numbers."""
    return len(rows) * WEIGHT if weight is None else int(weight[rows].sum())


def some(weight: Ints | None, rows: NDArray[Any]) -> Ints | None:
    """The weights of the chosen `rows`."""
    return None if weight is None else weight[rows]


def squares(weight: Floats | None, rows: int) -> int:
    """Sum of squared weights in units of WEIGHT, added as integers; weights up to 1e4 leave room for a million rows."""
    return rows * WEIGHT if weight is None else int(np.rint(weight**2 * WEIGHT).astype(np.int64).sum())


def fixed(values: NDArray[Any], weight: Ints | None, unit: int = UNIT) -> Any:
    """Fixed-point sum over the last axis; each row is rounded by itself, so the sum has one value only.

    Without weights the sum is taken in float64, where integers are exact below 2^53, which CLIP (NEAR, for FINE) and
    the bound on rows of a frame keep them.
    """
    if weight is None:
        scaled = values * unit
        return np.rint(scaled, out=scaled).sum(axis=-1).astype(np.int64)
    return np.rint(values * (weight * (unit / WEIGHT))).astype(np.int64).sum(axis=-1)
