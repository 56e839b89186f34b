"""Real images that decay on purpose: the handwritten digits of scikit-learn, and twelve ways to corrupt them.

The corruptions follow the idea of Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations" (ICLR 2019), scaled to 16 x 16 pixels. Severity is a real number instead of five steps,
so that a demo can let quality decline as slowly as it does in production.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.datasets import load_digits

from models import induction_images

Images = NDArray[np.float32]
Pixels = NDArray[np.floating]
Labels = NDArray[np.int64]
Corruption = Callable[[Images, float, np.random.Generator], Pixels]

SIDE = 16
CENTRE = (SIDE - 1) / 2
MID_GREY = 0.3  # mean of the inked area: contrast is lost towards it


class Split(NamedTuple):
    """Images (n, 16, 16) in [0, 1], where 1 is ink, with their labels 0..9."""

    images: Images
    labels: Labels


class Digits(NamedTuple):
    """Three disjoint parts: what the model learns from, what describes it, and what plays production."""

    train: Split
    reference: Split
    held_out: Split


def load(seed: int = 20) -> Digits:
    """The 1,797 digits as 600 / 500 / 697 images; the same seed always gives the same parts."""
    raw, labels = load_digits(return_X_y=True)
    images = ndimage.zoom(raw.reshape(-1, 8, 8) / 16, (1, 2, 2), order=1, grid_mode=True, mode="nearest")
    images = np.clip(images, 0, 1).astype(np.float32)
    order = np.random.default_rng(seed).permutation(len(labels))
    parts = (order[:600], order[600:1100], order[1100:])
    return Digits(*(Split(images[part], labels[part].astype(np.int64)) for part in parts))


def corrupt(images: Images, family: str, severity: float, rng: np.random.Generator) -> Images:
    """Corrupts `images` (n, 16, 16) by one family of `CORRUPTIONS`.

    `severity` 0 gives the images back unchanged and 1 the worst of the family; in between the change is continuous, and
    with equally seeded generators also nested: a pixel struck at severity 0.2 is struck at 0.3.
    Raises ValueError for an unknown family or a severity outside [0, 1].
    """
    if family not in CORRUPTIONS:
        raise ValueError(f"unknown corruption {family!r}: choose one of {', '.join(sorted(CORRUPTIONS))}")
    if not 0 <= severity <= 1:
        raise ValueError(f"severity of {family} is {severity!r}: give a number from 0 to 1")
    if severity == 0:
        return images.copy()
    return np.clip(CORRUPTIONS[family](images, float(severity), rng), 0, 1).astype(np.float32)


def image_features(images: Images) -> dict[str, NDArray[np.float64]]:
    """The scalars a model server would log of each image (n, 16, 16), as columns of length n.

    `brightness` is the mean and `contrast` the standard deviation of the pixels; `ink` is the share of pixels lighter
    than the middle of the image's own range; `centre_y` and `centre_x` are the centre of mass, in pixels from the top
    left.
    """
    x = images.astype(np.float64)
    low, high = x.min((1, 2)), x.max((1, 2))
    mass = x.sum((1, 2)) + 1e-9
    centred = np.arange(SIDE) - CENTRE
    return {
        "brightness": x.mean((1, 2)),
        "contrast": x.std((1, 2)),
        "ink": (x > ((low + high) / 2)[:, None, None]).mean((1, 2)),
        "centre_y": CENTRE + x.sum(2) @ centred / mass,
        "centre_x": CENTRE + x.sum(1) @ centred / mass,
    }


def _pixelate(x: Images, severity: float, _rng: np.random.Generator) -> Pixels:
    step, share = divmod(2 * severity, 1)
    fine, coarse = 2 ** int(step), 2 ** (int(step) + 1)
    return (1 - share) * _blocks(x, fine) + share * _blocks(x, min(coarse, 4))


def _blocks(x: Images, size: int) -> Pixels:
    cells = SIDE // size
    means: Pixels = x.reshape(len(x), cells, size, cells, size).mean((2, 4))
    return means.repeat(size, 1).repeat(size, 2)


def _contrast(x: Images, severity: float, _rng: np.random.Generator) -> Pixels:
    return MID_GREY + (1 - 0.85 * severity) * (x - MID_GREY)


def _occlude(x: Images, severity: float, rng: np.random.Generator) -> Pixels:
    half = 4.5 * severity
    middle = rng.uniform(0, SIDE - 1, (2, len(x), 1))
    # The share of every pixel that the square covers: its edge moves continuously through a pixel.
    rows, columns = (np.clip(half + 0.5 - np.abs(np.arange(SIDE) - m), 0, min(1, 2 * half)) for m in middle)
    kept: Pixels = 1 - rows[:, :, None] * columns[:, None, :]
    return x * kept


def _of(family: str, worst: float) -> Corruption:
    """A family of the product's own catalogue, whose amount grows evenly to `worst` at severity 1."""
    return lambda x, severity, rng: induction_images.corrupt(x, family, worst * severity, rng)


CORRUPTIONS: Mapping[str, Corruption] = MappingProxyType(
    {
        "gauss": _of("gauss", 0.7),
        "impulse": _of("impulse", 0.4),
        "blur": _of("blur", 2.8),
        "pixelate": _pixelate,
        "contrast": _contrast,
        "brightness": _of("bright", 0.6),
        "darkness": _of("dark", 0.75),
        "gamma": lambda x, severity, rng: induction_images.corrupt(x, "gamma", 7**severity, rng),
        "rotate": _of("rotate", 35),
        "shear": _of("shear", 0.6),
        "shift": _of("shift", 2.8),
        "occlude": _occlude,
    }
)
