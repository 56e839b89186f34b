"""Contents that are no corruption of the images a model knows: mirrored, blended, inverted, noise, nothing at all.

They mark the territory in which an estimate without labels has to say "unknown": at registration, windows of them are
held against windows of induced drift. Images are floats of shape (n, h, w) or (n, c, h, w) in [0, 1].
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.columns import Ints
from models.induction import Labelled, Shift

Images = NDArray[Any]
Alien = Callable[[Images, np.random.Generator], Images]


def shifts(low: float = 0.0, high: float = 1.0, names: Iterable[str] | None = None) -> dict[str, Shift]:
    """The contents as shifts for `models.induction`, whatever the severity, of images between `low` and `high`."""
    return {name: partial(_shift, name, low, high) for name in (ALIENS if names is None else names)}


def _shift(name: str, low: float, high: float, x: Images, labels: Ints, _: int, rng: np.random.Generator) -> Labelled:
    found = ALIENS[name]((x - low) / (high - low), rng)
    return np.asarray(low + found * (high - low), dtype=np.float32), labels


def _permuted(x: Images, rng: np.random.Generator) -> Images:
    """All images with their pixels in one other order."""
    height, width = x.shape[-2:]
    order = rng.permutation(height * width)
    return np.asarray(x.reshape(*x.shape[:-2], -1)[..., order].reshape(x.shape))


def _blended(x: Images, rng: np.random.Generator) -> Images:
    return np.asarray((x + x[rng.permutation(len(x))]) / 2)


def _turned(x: Images, _: np.random.Generator) -> Images:
    """A quarter turn; images that are not square are cut to their smaller side first."""
    side = min(x.shape[-2:])
    turned = np.zeros_like(x)
    turned[..., :side, :side] = np.swapaxes(x[..., :side, :side], -1, -2)[..., ::-1, :]
    return turned


def _tiled(x: Images, _: np.random.Generator) -> Images:
    """The image twice by twice, at half the size."""
    small = x[..., ::2, ::2]
    rows = np.concatenate([small, small], axis=-2)[..., : x.shape[-2], :]
    return np.concatenate([rows, rows], axis=-1)[..., : x.shape[-1]]


ALIENS: Mapping[str, Alien] = MappingProxyType(
    {
        "invert": lambda x, _: 1 - x,
        "permute": _permuted,
        "noise": lambda x, rng: rng.random(x.shape),
        "black": lambda x, _: np.zeros_like(x),
        "mixup": _blended,
        "fliplr": lambda x, _: x[..., ::-1],
        "flipud": lambda x, _: x[..., ::-1, :],
        "quarter": _turned,
        "tile": _tiled,
    }
)
