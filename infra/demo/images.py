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


def _gauss(x: Images, severity: float, rng: np.random.Generator) -> Pixels:
    return x + 0.7 * severity * rng.standard_normal(x.shape)


def _impulse(x: Images, severity: float, rng: np.random.Generator) -> Pixels:
    struck = rng.random(x.shape) < 0.4 * severity
    return np.where(struck, rng.integers(0, 2, x.shape), x)


def _blur(x: Images, severity: float, _rng: np.random.Generator) -> Pixels:
    sigma = 2.8 * severity
    return np.asarray(ndimage.gaussian_filter(x, (0, sigma, sigma)))


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


def _brightness(x: Images, severity: float, _rng: np.random.Generator) -> Pixels:
    return x + 0.6 * severity


def _darkness(x: Images, severity: float, _rng: np.random.Generator) -> Pixels:
    return x - 0.75 * severity


def _gamma(x: Images, severity: float, _rng: np.random.Generator) -> Pixels:
    return np.power(x, np.float32(7**severity))


def _rotate(x: Images, severity: float, rng: np.random.Generator) -> Pixels:
    angle = np.deg2rad(35) * severity * _signs(len(x), rng)
    return _affine(x, np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle))


def _shear(x: Images, severity: float, rng: np.random.Generator) -> Pixels:
    one, slope = np.ones(len(x)), 0.6 * severity * _signs(len(x), rng)
    return _affine(x, one, 0 * one, slope, one)


def _shift(x: Images, severity: float, rng: np.random.Generator) -> Pixels:
    angle = rng.uniform(0, 2 * np.pi, (len(x), 1, 1))
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return _sample(x, rows + 2.8 * severity * np.sin(angle), columns + 2.8 * severity * np.cos(angle))


def _occlude(x: Images, severity: float, rng: np.random.Generator) -> Pixels:
    half = 4.5 * severity
    middle = rng.uniform(0, SIDE - 1, (2, len(x), 1))
    # The share of every pixel that the square covers: its edge moves continuously through a pixel.
    rows, columns = (np.clip(half + 0.5 - np.abs(np.arange(SIDE) - m), 0, min(1, 2 * half)) for m in middle)
    kept: Pixels = 1 - rows[:, :, None] * columns[:, None, :]
    return x * kept


def _signs(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    return np.where(rng.random(n) < 0.5, -1.0, 1.0)


def _affine(
    x: Images, yy: NDArray[np.float64], yx: NDArray[np.float64], xy: NDArray[np.float64], xx: NDArray[np.float64]
) -> Pixels:
    rows, columns = np.mgrid[:SIDE, :SIDE] - CENTRE
    a, b, c, d = (v[:, None, None] for v in (yy, yx, xy, xx))
    return _sample(x, CENTRE + a * rows + b * columns, CENTRE + c * rows + d * columns)


def _sample(x: Images, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> Pixels:
    """Bilinear reading of `x` at (n, 16, 16) positions; outside of the image there is no ink."""
    padded = np.pad(x, ((0, 0), (1, 2), (1, 2)))
    rows, columns = np.clip(rows, -1, SIDE) + 1, np.clip(columns, -1, SIDE) + 1
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    down, right = rows - top, columns - left
    image = np.arange(len(x))[:, None, None]
    upper = (1 - right) * padded[image, top, left] + right * padded[image, top, left + 1]
    lower = (1 - right) * padded[image, top + 1, left] + right * padded[image, top + 1, left + 1]
    blend: Pixels = (1 - down) * upper + down * lower
    return blend


CORRUPTIONS: Mapping[str, Corruption] = MappingProxyType(
    {
        "gauss": _gauss,
        "impulse": _impulse,
        "blur": _blur,
        "pixelate": _pixelate,
        "contrast": _contrast,
        "brightness": _brightness,
        "darkness": _darkness,
        "gamma": _gamma,
        "rotate": _rotate,
        "shear": _shear,
        "shift": _shift,
        "occlude": _occlude,
    }
)
