"""The estimators that `benchmarks.label_free` is held against, registered on the same windows as ours."""

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor

from models import window_sums
from models.induction import Windows

Floats = NDArray[np.float64]


class Peers:
    """ATC, DoC, a forest on nuclear norm and class entropy, and the reference accuracy whatever comes."""

    def __init__(self, windows: Windows, without: frozenset[str]) -> None:
        clean = next(one for one in windows.induced if not one.families)
        confidence = clean.probability.max(axis=1)
        self.accuracy, self.confidence = float(clean.right.mean()), float(confidence.mean())
        self.threshold = float(np.quantile(confidence, 1 - self.accuracy))
        seen = ~windows.holding(without)
        means = window_sums.split(windows.means[seen], clean.probability.shape[1])
        forest = RandomForestRegressor(100, min_samples_leaf=4, random_state=0)
        self.forest = forest.fit(_plain(means), windows.truth[seen])

    def above(self, probability: Floats) -> float:
        """Share of answers, with probabilities (n, classes), whose confidence is above ATC's threshold."""
        return float((probability.max(axis=1) > self.threshold).mean())

    def __call__(self, means: window_sums.Means, above: Floats) -> dict[str, Floats]:
        """The accuracy of each window by every peer."""
        return {
            "forest": np.asarray(self.forest.predict(_plain(means))),
            "atc": above,
            "doc": self.accuracy + means.features[:, 0] - self.confidence,
            "constant": np.full(len(above), self.accuracy),
        }


def _plain(means: window_sums.Means) -> Floats:
    """Nuclear norm of the probabilities and entropy of the classes named, shape (w, 2)."""
    classes = means.named.shape[1]
    gram = np.zeros((len(means.named), classes, classes))
    upper = np.triu_indices(classes)
    gram[:, upper[0], upper[1]] = gram[:, upper[1], upper[0]] = means.gram
    nuclear = np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0)).sum(axis=1) / np.sqrt(classes)
    return np.column_stack([nuclear, np.log(classes) - window_sums.unevenness(means)])
