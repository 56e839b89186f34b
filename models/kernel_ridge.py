"""Kernel ridge regression with a radial kernel, and how far an input lies from those it was fitted on.

The mean of a Gaussian process (Rasmussen and Williams 2006, chapter 2) whose noise is that of a share near y.
"""

from typing import NamedTuple

import numpy as np

from models.columns import Floats

NEAREST = 5
LENGTH = 5.0  # of the kernel, in standard deviations of the inputs
NOISE = 0.3  # variance at y = 1/2, in units of the variance of the targets


class KernelRidge(NamedTuple):
    """`seen` (rows, j) standardised inputs, `dual` (rows,), scales of inputs and targets."""

    seen: Floats
    dual: Floats
    mean: Floats
    sd: Floats
    centre: float
    unit: float

    def __call__(self, inputs: Floats) -> tuple[Floats, Floats]:
        """Share in [0, 1] of each row of inputs, and its root mean squared distance from the five nearest rows seen."""
        squares = self._squares((inputs - self.mean) / self.sd)
        found = self.centre + self.unit * np.exp(-squares / (2 * LENGTH**2)) @ self.dual
        near = np.partition(squares, NEAREST - 1, axis=1)[:, :NEAREST]
        return np.clip(found, 0, 1), np.sqrt(near.mean(axis=1))

    def _squares(self, z: Floats) -> Floats:
        squares = (z * z).sum(axis=1)[:, None] + (self.seen**2).sum(axis=1) - 2 * z @ self.seen.T
        return np.asarray(np.maximum(squares, 0))


def fit(inputs: Floats, targets: Floats) -> KernelRidge:
    """Regression of shares (rows,) on inputs (rows, j); at least five rows."""
    # An input that never moves must not become a detector of its own rounding.
    sd = inputs.std(axis=0)
    sd = np.where(sd > 1e-6 * (1 + np.abs(inputs.mean(axis=0))), sd, 1e6)
    unit = max(float(targets.std()), 1e-6)
    model = KernelRidge(
        (inputs - inputs.mean(axis=0)) / sd, targets, inputs.mean(axis=0), sd, float(targets.mean()), unit
    )
    noise = np.diag(NOISE * 4 * np.maximum(targets * (1 - targets), 0.05))
    kernel = np.exp(-model._squares(model.seen) / (2 * LENGTH**2))
    return model._replace(
        dual=np.asarray(np.linalg.solve(kernel + noise, (targets - model.centre) / unit), dtype=np.float64)
    )
