"""Is a window like drift that was induced, or is it content that no estimate without labels may judge?

Two scores beside the distance in the regression. The first asks where embeddings lie: the window's mean of whitened
residuals from the mean of the class named, as a shrunk Mahalanobis distance among induced windows (Lee et al. 2018,
arXiv:1807.03888, for windows in place of events). The second is outlier exposure (Hendrycks et al. 2019,
arXiv:1812.04606): a kernel classifier tells windows of contents that are no drift at all (mirrored, blended, noise)
from induced ones, and finds others of their kind. Both limits are set on families left out in turn, each with the same
weight, so a new family of drift is called unknown at a known rate.
"""

from typing import NamedTuple

import numpy as np

from models.columns import Floats
from models.family_interval import weighted_quantile

ODD, ALIEN = 0.99, 0.975  # share of windows of a family left out that each limit passes
SHRINKAGE = 0.1
LENGTH = np.sqrt(12.0)  # of the kernel over the twelve regressors, in standard deviations
NOISE = 0.3


class Unlike(NamedTuple):
    """Both scores and their limits; `seen` (rows, 12) holds windows, `dual` their weights (none: no second score)."""

    centre: Floats
    axes: Floats
    mean: Floats
    sd: Floats
    seen: Floats
    dual: Floats
    odd_limit: float = np.inf
    alien_limit: float = np.inf

    def odd(self, residual: Floats) -> Floats:
        """How far mean residuals (w, s) lie from induced ones, 1 being usual."""
        return np.asarray(np.sqrt((((residual - self.centre) @ self.axes) ** 2).mean(axis=1)))

    def alien(self, inputs: Floats) -> Floats:
        """How much regressors (w, 12) are those of content that is no drift: about -1 for induced, 1 for alien."""
        if not len(self.dual):
            return np.full(len(inputs), -np.inf)
        return np.asarray(_kernel((inputs - self.mean) / self.sd, self.seen) @ self.dual)

    def limited(self, odd: Floats, alien: Floats, weight: Floats) -> "Unlike":
        """The same with limits from scores of windows of families left out; `weight` makes families equal."""
        limit = weighted_quantile(alien, weight, ALIEN) if len(self.dual) else np.inf
        return self._replace(odd_limit=weighted_quantile(odd, weight, ODD), alien_limit=limit)


def fit(inputs: Floats, residual: Floats, alien_inputs: Floats) -> Unlike:
    """Scores from induced windows: regressors (w, 12), mean residuals (w, s); regressors (v, 12) of alien windows."""
    sd = residual.std(axis=0)
    sd = sd + 0.05 * sd.mean() + 1e-9
    z = (residual - residual.mean(axis=0)) / sd
    values, vectors = np.linalg.eigh(z.T @ z / len(z))
    axes = vectors / np.sqrt(np.maximum(values, 0) + SHRINKAGE) / sd[:, None]
    both = np.concatenate([inputs, alien_inputs])
    mean, scale = both.mean(axis=0), both.std(axis=0)
    scale = np.where(scale > 1e-6 * (1 + np.abs(mean)), scale + 0.05 * scale.mean(), 1e6)
    seen, dual = np.zeros((0, inputs.shape[1])), np.zeros(0)
    if len(alien_inputs):
        seen = (both - mean) / scale
        target = np.repeat([-1.0, 1.0], [len(inputs), len(alien_inputs)])
        # Alien windows are few; together they weigh as much as the induced.
        noise = NOISE * np.repeat([1.0, len(alien_inputs) / len(inputs)], [len(inputs), len(alien_inputs)])
        dual = np.asarray(np.linalg.solve(_kernel(seen, seen) + np.diag(noise), target), dtype=np.float64)
    return Unlike(residual.mean(axis=0), axes, mean, scale, seen, dual)


def _kernel(a: Floats, b: Floats) -> Floats:
    squares = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * a @ b.T
    return np.asarray(np.exp(-np.maximum(squares, 0) / (2 * LENGTH**2)))
