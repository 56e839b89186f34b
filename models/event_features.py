"""Eight features of one answer of a classifier that tell how likely it is to be right, against a frozen reference.

With scores z, embedding e, temperature T, p = softmax(z / T) and k the class named:

| feature | formula |
|---|---|
| x1 | p_k |
| x2 | sum p ln p (negative entropy) |
| x3 | ln sum exp z (energy, Liu et al. 2020, arXiv:2010.03759) |
| x4 | ln(1 + distance of e to the mean of class k), whitened within classes (Lee et al. 2018, arXiv:1807.03888) |
| x5 | distance to the nearest other class mean less the distance to that of k |
| x6 | ln(1e-4 + 1 - mean cosine to the five nearest training embeddings) (Sun et al. 2022, arXiv:2204.06507) |
| x7 | share of those five whose label is k |
| x8 | norm of e |

Features are rounded to whole units of 2^-16, so that the last bits of a matrix product, which depend on where a row
lies in its batch, do not show in anything that is computed from them.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from models.columns import Floats, Ints
from models.fixed_point import CLIP, UNIT

FEATURES = 8
NEIGHBOURS = 5
BLOCK = 256  # rows at a time, so that what is compared stays in the cache
CORE = 600  # training embeddings that are kept, at most
DIRECTIONS = 64  # of the residual of an embedding, at most
SHRINKAGE = 0.1  # of the within-class covariance, towards its mean variance
TINY = 1e-12


class Answers(NamedTuple):
    """Answers to n labelled inputs.

    `scores` (n, classes): logits or probabilities, always the same of the two. `embedding` (n, d): what the model made
    of the input; for tables the standardised features do. `labels` (n,): true class codes, 0 to classes - 1.
    """

    scores: NDArray[np.floating[Any]]
    embedding: NDArray[np.floating[Any]]
    labels: Ints


class Observed(NamedTuple):
    """The usable ones of n answers, which `usable` (n,) marks: features (m, 8), calibrated p (m, classes).

    `residual` (m, s) is the whitened embedding less the mean of the class named, in up to 64 directions.
    """

    usable: NDArray[np.bool_]
    features: Floats
    probability: Floats
    residual: Floats


class EventReference(NamedTuple):
    """What registration froze: temperature, class means (classes, d) and whitening (d, d), training embeddings.

    `directions` (d, 64) are random ones, orthonormal; none where d is at most 64.
    """

    temperature: float
    probabilities: bool
    means: Floats
    whitening: Floats
    core: NDArray[np.float32]
    core_labels: Ints
    directions: Floats

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.means)

    def logits(self, scores: NDArray[np.floating[Any]]) -> Floats:
        """Scores in double precision; logarithms where the model gives probabilities."""
        z = scores.astype(np.float64)
        if not self.probabilities:
            return z
        unusable = ~(z.min(axis=1) >= 0) | ~(z.sum(axis=1) > 0)
        z = np.log(np.maximum(z, TINY))
        z[unusable] = np.nan
        return z

    def features(self, scores: NDArray[np.floating[Any]], embedding: NDArray[np.floating[Any]]) -> Floats:
        """x1 to x8, shape (n, 8); NaN throughout for a row with a score or an embedding that is not finite."""
        observed = self.observe(scores, embedding)
        found = np.full((len(scores), FEATURES), np.nan)
        found[observed.usable] = observed.features
        return found

    def observe(self, scores: NDArray[np.floating[Any]], embedding: NDArray[np.floating[Any]]) -> Observed:
        """Everything a window adds up. A row with a score or an embedding that is not finite is not usable.

        Raises ValueError for another number of classes or another length of the embedding than was registered.
        """
        self._check(scores, embedding)
        z = self.logits(scores)
        usable = np.isfinite(z).all(axis=1) & np.isfinite(embedding).all(axis=1)
        z, e = z[usable], embedding[usable].astype(np.float64)
        p = softmax(z / self.temperature)
        named = p.argmax(axis=1)
        white = e @ self.whitening
        found = self._features(z, e, p, named, distances(white, self.means))
        residual = white - self.means[named]
        if self.directions.size:
            residual = residual @ self.directions
        features = np.rint(np.clip(found, -CLIP, CLIP) * UNIT) / UNIT
        return Observed(usable, np.asarray(features), p, np.clip(residual, -CLIP, CLIP))

    def _check(self, scores: NDArray[Any], embedding: NDArray[Any]) -> None:
        wanted = (self.classes, self.whitening.shape[0])
        if scores.ndim != 2 or embedding.ndim != 2 or (scores.shape[1], embedding.shape[1]) != wanted:
            raise ValueError(
                f"scores {scores.shape} and embeddings {embedding.shape} do not fit the registered estimator of "
                f"quality, which knows {wanted[0]} classes and embeddings of length {wanted[1]}; "
                "register it for this model"
            )

    def _features(self, z: Floats, e: Floats, p: Floats, named: Ints, distance: Floats) -> Floats:
        rows = np.arange(len(z))
        own = distance[rows, named]
        distance[rows, named] = np.inf
        norm = np.sqrt((e * e).sum(axis=1))
        closeness, agreement = self._neighbours(e / (norm[:, None] + 1e-6), named)
        top = z.max(axis=1)
        features = (
            p[rows, named],
            (p * np.log(p + TINY)).sum(axis=1),
            top + np.log(np.exp(z - top[:, None]).sum(axis=1)),
            np.log1p(own),
            distance.min(axis=1) - own,
            np.log(1e-4 + np.maximum(1 - closeness, 0)),
            agreement,
            norm,
        )
        return np.stack(features, axis=1)

    def _neighbours(self, direction: Floats, named: Ints) -> tuple[Floats, Floats]:
        """Mean cosine of the nearest training embeddings, and the share of them whose label is the class named."""
        core = np.ascontiguousarray(self.core.T, dtype=np.float64)
        closeness, agreement = np.empty(len(named)), np.empty(len(named))
        for start in range(0, len(named), BLOCK):
            part = slice(start, start + BLOCK)
            cosine = direction[part] @ core
            rows, total, same = np.arange(len(cosine)), np.zeros(len(cosine)), np.zeros(len(cosine))
            for _ in range(NEIGHBOURS):  # five times the best is a tenth of the work of sorting out the best five
                best = cosine.argmax(axis=1)
                total += cosine[rows, best]
                same += self.core_labels[best] == named[part]
                cosine[rows, best] = -np.inf
            closeness[part], agreement[part] = total / NEIGHBOURS, same / NEIGHBOURS
        return closeness, agreement


def freeze(train: Answers, held_out: Answers, rng: np.random.Generator) -> EventReference:
    """The reference of a model: class means and neighbours from `train`, the temperature from `held_out`.

    Raises ValueError where a class has fewer than two training answers, or something is not finite.
    """
    classes = train.scores.shape[1]
    counts = np.bincount(train.labels, minlength=classes)
    if len(counts) > classes or counts.min() < 2:
        raise ValueError(
            f"training answers have {counts.tolist()} labels per class, for {classes} scores: two of each are needed"
        )
    for name, part in (("training", train), ("held-out", held_out)):
        if not (np.isfinite(part.scores).all() and np.isfinite(part.embedding).all()):
            raise ValueError(f"a {name} answer has a score or an embedding that is not finite; leave such rows out")
    e = train.embedding.astype(np.float64)
    means = np.stack([e[train.labels == k].mean(axis=0) for k in range(classes)])
    residual = e - means[train.labels]
    spread = residual.T @ residual / len(e)
    spread = (1 - SHRINKAGE) * spread + SHRINKAGE * max(np.trace(spread) / len(spread), TINY) * np.eye(len(spread))
    whitening = np.linalg.cholesky(np.linalg.inv(spread))
    kept = np.sort(rng.permutation(len(e))[:CORE])
    core = e[kept] / (np.sqrt((e[kept] ** 2).sum(axis=1))[:, None] + 1e-6)
    frozen = EventReference(
        temperature=1.0,
        directions=_directions(len(spread), rng),
        probabilities=_are_probabilities(train.scores),
        means=means @ whitening,
        whitening=whitening,
        core=core.astype(np.float32),
        core_labels=train.labels[kept].astype(np.int64),
    )
    return frozen._replace(temperature=_temperature(frozen.logits(held_out.scores), held_out.labels))


def softmax(z: Floats) -> Floats:
    """Probabilities of each row."""
    if not len(z):
        return z
    mass = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(mass / mass.sum(axis=1, keepdims=True))


def distances(a: Floats, b: Floats) -> Floats:
    """Euclidean distances of the rows of `a` (n, d) from those of `b` (m, d)."""
    squares = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * a @ b.T
    return np.asarray(np.sqrt(np.maximum(squares, 0)))


def _directions(length: int, rng: np.random.Generator) -> Floats:
    if length <= DIRECTIONS:
        return np.zeros((0, 0))
    return np.asarray(np.linalg.qr(rng.normal(size=(length, DIRECTIONS)))[0], dtype=np.float64)


def _are_probabilities(scores: NDArray[Any]) -> bool:
    return bool(scores.min() >= 0 and np.allclose(scores.sum(axis=1), 1, atol=1e-3))


def _temperature(z: Floats, labels: Ints) -> float:
    """The temperature of the least log loss (Guo et al. 2017, arXiv:1706.04599)."""
    rows = np.arange(len(labels))

    def loss(t: float) -> float:
        return -float(np.log(softmax(z / t)[rows, labels] + TINY).mean())

    return float(minimize_scalar(loss, bounds=(0.3, 5), method="bounded").x)
