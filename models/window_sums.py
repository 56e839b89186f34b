"""The state of a window that is read without labels: sums only, so that windows merge exactly and in any order.

| sums | number |
|---|---|
| weight of the usable events, in units of WEIGHT | 1 |
| features x1 to x8 | 8 |
| r(x) | 1 |
| p, calibrated probabilities | K |
| p p', upper triangle | K (K + 1) / 2 |
| events by class named | K |
| residuals of embeddings (`models.event_features.Observed`) | up to 64 |

All but the first in units of UNIT; weights are 1 / sampling. The regressors that a window is read from are robust to
its mix of classes: the Gram matrix of p is divided by how often each class is expected, before its nuclear norm
(Deng et al. 2023, arXiv:2302.01094) is taken.
"""

from typing import NamedTuple

import numpy as np

from models.columns import Floats, Ints
from models.event_features import FEATURES
from models.fixed_point import UNIT, fixed, total

REGRESSORS = FEATURES + 4
MAX_CLASSES = 64  # a bound on the state: 2,282 sums


class Means(NamedTuple):
    """Weighted means over a window, or over each of w windows: leading axes are free."""

    features: Floats
    right: Floats
    probability: Floats
    gram: Floats
    named: Floats
    residual: Floats


def size(classes: int, directions: int) -> int:
    """How many sums a window has, for so many classes and directions of the residual."""
    return 1 + FEATURES + 1 + 2 * classes + classes * (classes + 1) // 2 + directions


def columns(features: Floats, right: Floats, probability: Floats, residual: Floats) -> Floats:
    """What each event adds, shape (n, size - 1)."""
    classes = probability.shape[1]
    upper = np.triu_indices(classes)
    named = np.zeros_like(probability)
    named[np.arange(len(named)), probability.argmax(axis=1)] = 1
    gram = probability[:, upper[0]] * probability[:, upper[1]]
    return np.concatenate([features, right[:, None], probability, gram, named, residual], axis=1)


def add_up(rows: Floats, weight: Ints | None) -> Ints:
    """Sums, int64 of shape (size,), over rows of `columns` that weigh `weight` in units of WEIGHT (None: 1 each)."""
    found = np.zeros(rows.shape[1] + 1, dtype=np.int64)
    if len(rows):
        found[0] = total(weight, len(rows))
        found[1:] = fixed(np.ascontiguousarray(rows.T), weight, UNIT)
    return found


def split(means: Floats, classes: int) -> Means:
    """Means by what they are of, from the last axis of `means` (size - 1)."""
    upper = classes * (classes + 1) // 2
    ends = np.cumsum([FEATURES, 1, classes, upper, classes])
    features, right, probability, gram, named, residual = np.split(means, ends, axis=-1)
    return Means(features, right[..., 0], probability, gram, named, residual)


def regressors(means: Means, n_effective: Floats) -> Floats:
    """Twelve inputs of the regression, shape (w, 12), for w windows of `n_effective` events each."""
    p = means.probability
    classes = p.shape[1]
    gram = np.zeros((len(p), classes, classes))
    upper = np.triu_indices(classes)
    gram[:, upper[0], upper[1]] = means.gram
    gram[:, upper[1], upper[0]] = means.gram
    scale = 1 / np.sqrt(p + 1e-3)
    balanced = gram * scale[:, :, None] * scale[:, None, :]
    nuclear = np.sqrt(np.maximum(np.linalg.eigvalsh(balanced), 0)).sum(axis=1) / classes
    expected = p > 0.2 / classes
    confidence = np.einsum("wkk->wk", gram) / (p + 1e-9)
    even = (confidence * expected).sum(axis=1) / np.maximum(expected.sum(axis=1), 1)
    return np.column_stack([means.features, even, nuclear, 1 / np.sqrt(n_effective), means.right])


def unevenness(means: Means) -> Floats:
    """How far the classes named are from even, in nats, shape (w,): ln K less their entropy."""
    c = means.named
    return np.asarray(np.log(c.shape[1]) + (c * np.log(c + 1e-9)).sum(axis=1))
