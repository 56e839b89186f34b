"""Random Fourier features: a vector whose inner products are a Gaussian kernel, so that kernel means are plain means.

psi(z) = sqrt(2 / D) cos(z W / bandwidth + b) with W normal and b uniform gives psi(x) . psi(y) near
exp(-|x - y|^2 / (2 bandwidth^2)); the mean of psi tells distributions apart that share mean and spread. W and b come
from a seed alone: SHAKE-256 gives the bits and the normal quantile is rounded to a grid, so every machine and version
has the same ones and no descriptor carries them. Source: Rahimi and Recht 2007; bandwidth: median of the distances
between reference inputs (Gretton et al. 2012).
"""

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from models.columns import Floats

FEATURES = 128
NEAR = 8.0  # sd; a unit that never spoke in training may be thousands away, which the phase must not spin on
GRID = 1 << 16
MAX_CLASSES = 16  # predicted classes with means of their own
SMALLEST_REST = 0.01  # share of other classes from which their mean is what the named ones leave of the whole


class KernelReference(msgspec.Struct, frozen=True):
    """What the reference says in random features: means by predicted class, spread, and what is tolerated.

    `means` holds little-endian float64 of shape (len(labels) + 1, features); the last row is of all inputs that are in
    none of `labels`. `traces` are those of the first three powers of the covariance within classes. `tolerance` is the
    distance of kernel means that a shift of the mean embedding by the tolerated 0.2 sd makes. `support` is what the
    similarity of a reference input to its nearest class, computed without it, falls below in one of twenty cases; None
    where that is not declared.
    """

    features: int
    seed: int
    dimension: int
    bandwidth: float
    n: int
    means: bytes
    traces: tuple[float, float, float]
    tolerance: float
    support: float | None = None
    labels: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()

    @property
    def identity(self) -> str:
        """Changes with everything that the features and the differences from their means depend on."""
        facts = f"{self.features} {self.seed} {self.dimension} {self.bandwidth} {self.labels}".encode()
        return hashlib.sha256(facts + self.means).hexdigest()[:16]


def drawn(features: int, seed: int, dimension: int) -> tuple[Floats, Floats]:
    """W (dimension, features), standard normal, and b (features,), uniform in [0, 2 pi).

    >>> w, b = drawn(4, 0, 2)
    >>> w.shape, b.shape, bool(w[0, 0] == drawn(4, 0, 2)[0][0, 0])
    ((2, 4), (4,), True)
    """
    count = features * (dimension + 1)
    bits = hashlib.shake_256(f"random features {features} {seed} {dimension}".encode()).digest(4 * count)
    uniform = (np.frombuffer(bits, "<u4").astype(np.float64) + 0.5) / 2.0**32
    w = np.rint(ndtri(uniform[features:]) * GRID) / GRID
    return w.reshape(dimension, features), np.rint(uniform[:features] * 2 * np.pi * GRID) / GRID


class Projection:
    """Computes psi for one seed and bandwidth, float32 (n, features).

    The product is taken in double precision and rounded once, so that the size of a batch, which decides the order of
    sums, decides nothing about the bits.
    """

    def __init__(self, features: int, seed: int, dimension: int, bandwidth: float) -> None:
        w, self.phases = drawn(features, seed, dimension)
        self.weights = w / bandwidth
        self.scale = np.float32(np.sqrt(2.0 / features))

    def __call__(self, z: Floats) -> NDArray[np.float32]:
        phase = (np.clip(z, -NEAR, NEAR) @ self.weights + self.phases).astype(np.float32)
        found: NDArray[np.float32] = self.scale * np.cos(phase)
        return found


class Prepared:
    """The arrays of a KernelReference: projection, means (labels + 1, features), and the row of each label."""

    def __init__(self, known: KernelReference) -> None:
        self.psi = Projection(known.features, known.seed, known.dimension, known.bandwidth)
        self.means: Floats = np.frombuffer(known.means, "<f8").reshape(len(known.labels) + 1, known.features)
        self.nearest = (self.means[:-1] if known.labels else self.means).T
        self.row = {label: i for i, label in enumerate(known.labels)}

    def rows(self, values: tuple[str, ...], codes: NDArray[np.int32]) -> NDArray[np.intp]:
        """Rows of `means` for a column of labels; the last one where the label is missing or has no mean."""
        last = len(self.means) - 1
        table = np.array([*(self.row.get(value, last) for value in values), last], dtype=np.intp)
        return table[codes]  # code -1 is the last entry


@lru_cache(maxsize=16)
def prepared(known: KernelReference) -> Prepared:
    """The arrays of `known`, made once."""
    return Prepared(known)


def compiled(path: str, section: Mapping[str, Any]) -> KernelReference | None:
    """The `kernel` of a declared embedding reference at `path`, with the `kernel` of its classes; None without one.

    Raises ValueError naming the field that cannot be used.
    """
    known = section.get("kernel")
    if not known:
        return None
    mean = _vector(f"{path}.kernel.mean", known.get("mean"), int(known.get("features", FEATURES)))
    found = {
        str(label): (float(about.get("share", 0.0)), _vector(f"{path}.classes.{label}.kernel", kernel, len(mean)))
        for label, about in (section.get("classes") or {}).items()
        if (kernel := about.get("kernel"))
    }
    shares = tuple(share for share, _ in found.values())
    rest = 1.0 - sum(shares)
    others = sum((share * row for share, row in found.values()), np.zeros(len(mean)))
    last = (mean - others) / rest if rest > SMALLEST_REST else mean
    traces = [float(v) for v in known.get("traces") or ()]
    bandwidth, support = float(known.get("bandwidth", 0.0)), known.get("support")
    if len(traces) != 3 or not min(*traces, bandwidth) > 0:
        raise ValueError(f"{path}.kernel: bandwidth and three traces above zero are needed; run `bestbefore describe`")
    return KernelReference(
        features=len(mean), seed=int(known.get("seed", 0)), dimension=len(section.get("mean") or ()),
        bandwidth=bandwidth, n=int(section.get("n", 0)), traces=(traces[0], traces[1], traces[2]),
        means=np.array([*(row for _, row in found.values()), last]).astype("<f8").tobytes(),
        tolerance=float(known.get("tolerance", 0.0)), support=None if support is None else float(support),
        labels=tuple(found), shares=shares,
    )  # fmt: skip


def _vector(path: str, values: Any, features: int) -> Floats:
    if not isinstance(values, list) or len(values) != features:
        told = f"found {len(values)}" if isinstance(values, list) else "there is none"
        raise ValueError(f"{path}: a list of {features} numbers is needed, one per feature, {told}")
    return np.array(values, dtype=np.float64)
