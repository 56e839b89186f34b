"""How far is the embedding that a server computed from the one recomputed from the same input?"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_LAYOUT = np.dtype("<f4")
_TINY = 1e-12  # stands in for the length of an embedding that is zero


class Skew(NamedTuple):
    """Relative error |served - recomputed| / |recomputed| and cosine; NaN where there was nothing to compare.

    `misfit`: the two have another length, so another model is served or another layer is taken.
    """

    error: float = np.nan
    cosine: float = np.nan
    misfit: bool = False


def compared(served: bytes | None, recomputed: NDArray[np.float32]) -> Skew:
    """Compare little-endian float32 bytes with an embedding of shape (d,).

    >>> compared(np.ones(2, "<f4").tobytes(), np.array([1, 1], np.float32)).error
    0.0
    """
    if served is None or not recomputed.size:
        return Skew()
    if len(served) != recomputed.size * _LAYOUT.itemsize:
        return Skew(misfit=True)
    a, b = np.frombuffer(served, _LAYOUT).astype(np.float64), recomputed.astype(np.float64)
    if not np.isfinite(a).all():
        return Skew(np.inf, 0.0)
    away, length, other = (float(np.sqrt(np.sum(v * v))) for v in (a - b, b, a))
    return Skew(away / max(length, _TINY), float(np.sum(a * b)) / max(length * other, _TINY))
