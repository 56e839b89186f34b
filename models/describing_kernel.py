"""The reference of random features: means by predicted class, spread within classes, what is tolerated, what is known.

Bandwidth by the median heuristic, then frozen. The limit of support is conformal: the similarity of an input to its
nearest class is taken without it (cross-fitted), as inputs that made the means look better supported than new ones.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.distance import pdist

from models.columns import Categories, Floats
from models.describing_features import rounded
from models.random_features import FEATURES, MAX_CLASSES, NEAR, Projection, drawn

SEED = 0
MOST_PAIRED = 500  # inputs, or up to twice as many, whose distances make the bandwidth
LEAST_OF_CLASS = 5
TOLERATED = 0.2  # sd: the shift of the mean that the check of embeddings tolerates
PATTERNS = 8  # directions of that shift
FOLDS = 5
OUTSIDE = 0.05  # share of reference inputs beyond the support
DECIMALS = 6


class KernelProfile(NamedTuple):
    """`embedding.kernel`, and `embedding.classes.<class>.kernel` by class."""

    kernel: dict[str, Any]
    classes: dict[str, list[float]]


def kernel_profile(z: Floats, predicted: Categories, weight: Floats | None) -> KernelProfile | None:
    """Of standardised embeddings `z` (n, d); None where the median distance of two inputs is zero."""
    total = np.ones(len(z)) if weight is None else weight
    near = np.clip(z, -NEAR, NEAR)
    bandwidth = rounded(np.median(pdist(near[:: max(1, len(z) // MOST_PAIRED)])))
    if not bandwidth > 0:
        return None
    projection = Projection(FEATURES, SEED, z.shape[1], bandwidth)
    psi = projection(near).astype(np.float64)
    labels = _labels(predicted)
    codes = np.array([labels.index(c) if c in labels else len(labels) for c in predicted.codes.tolist()])
    means = _means(psi, codes, total, len(labels))
    difference = psi - means[codes]
    freedom = max(1.0 - (len(labels) + 1) * float(total @ total) / float(total.sum()) ** 2, 0.1)
    spread = (difference * total[:, None]).T @ difference / total.sum() / freedom
    kernel = {
        "features": FEATURES, "seed": SEED, "bandwidth": bandwidth,
        "mean": _listed(np.average(psi, axis=0, weights=total)),
        "traces": [rounded(np.trace(power)) for power in (spread, spread @ spread, spread @ spread @ spread)],
        "tolerance": rounded(_tolerance(projection, near, psi, total)),
        "support": rounded(_support(psi, codes, total, len(labels))),
    }  # fmt: skip
    return KernelProfile(kernel, {predicted.values[c]: _listed(means[i]) for i, c in enumerate(labels)})


def _labels(predicted: Categories) -> list[int]:
    """Codes of the most frequent classes."""
    codes, counts = np.unique(predicted.codes[predicted.codes >= 0], return_counts=True)
    common = sorted((-count, code) for code, count in zip(codes.tolist(), counts.tolist(), strict=True))
    return sorted(code for count, code in common[:MAX_CLASSES] if -count >= LEAST_OF_CLASS)


def _means(psi: Floats, codes: Any, total: Floats, labels: int) -> Floats:
    """Weighted means (labels + 1, features); the last row is of the others, of all where there are none."""
    everything = np.average(psi, axis=0, weights=total)
    return np.array([
        np.average(psi[mine], axis=0, weights=total[mine]) if (mine := codes == code).any() else everything
        for code in range(labels + 1)
    ])  # fmt: skip


def _tolerance(projection: Projection, z: Floats, psi: Floats, total: Floats) -> float:
    """Distance of kernel means (root mean square over directions) when all embeddings move by TOLERATED."""
    signs = np.sign(drawn(PATTERNS, SEED + 1, z.shape[1])[0].T)
    moved = [np.average(projection(z + TOLERATED * one) - psi, axis=0, weights=total) for one in signs]
    return float(np.sqrt(np.mean([one @ one for one in moved])))


def _support(psi: Floats, codes: Any, total: Floats, labels: int) -> float:
    score = np.concatenate([part for _, part in _held_out(psi, codes, total, labels)])
    order = np.argsort(score)
    beyond = np.cumsum(total[_order(len(psi))][order]) <= OUTSIDE * (total.sum() + total.max())
    return float(score[order][max(int(beyond.sum()) - 1, 0)])


def _order(n: int) -> Any:
    return np.concatenate([np.arange(fold, n, FOLDS) for fold in range(FOLDS)])


def _held_out(psi: Floats, codes: Any, total: Floats, labels: int) -> Iterator[tuple[int, Floats]]:
    """Fold and its similarities to the nearest class, whose means were made from the other folds."""
    folds = np.arange(len(psi)) % FOLDS
    for fold in range(FOLDS):
        rest = folds != fold
        means = _means(psi[rest], codes[rest], total[rest], labels)
        yield fold, (psi[~rest] @ (means[:-1] if labels else means).T).max(axis=1)


def _listed(values: Floats) -> list[float]:
    return [round(float(v), DECIMALS) for v in values]
