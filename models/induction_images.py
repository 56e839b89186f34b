"""Eighteen families of corruption for images, five severities each, and contents that are no corruption at all.

After Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations" (ICLR
2019). Images are floats of shape (n, h, w) or (n, c, h, w) in [0, 1]. Amounts are for a side of 16 pixels; lengths
grow with the square root of the side. Every group (noise, blur, light, geometry, occlusion) has at least two families:
one that is met only in production can then be judged by its relatives.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.columns import Floats, Ints
from models.induction import Labelled, Shift

Images = NDArray[Any]
Rng = np.random.Generator
SIDE = 16  # pixels, for which the amounts are given


class Corruption(NamedTuple):
    """`apply` spoils images (n, c, h, w) by an amount; `amounts` are those of the five severities."""

    apply: Callable[[Images, float, Rng], Images]
    amounts: tuple[float, float, float, float, float]


def corrupt(images: Images, family: str, amount: float, rng: Rng) -> Images:
    """Images (n, h, w) or (n, c, h, w) in [0, 1], spoilt by any `amount` of one of CORRUPTIONS; float32 in [0, 1].

    >>> corrupt(np.full((1, 2, 2), 0.5), "bright", 0.25, np.random.default_rng(0)).tolist()
    [[[0.75, 0.75], [0.75, 0.75]]]
    """
    if family not in CORRUPTIONS:
        raise ValueError(f"unknown corruption {family!r}: choose one of {', '.join(sorted(CORRUPTIONS))}")
    return _on_channels(CORRUPTIONS[family].apply, images, amount, rng)


def shifts(low: float = 0.0, high: float = 1.0, families: Iterable[str] | None = None) -> dict[str, Shift]:
    """The corruptions as shifts for `models.induction`, of images with values between `low` and `high`."""
    names = CORRUPTIONS if families is None else families
    return {name: partial(_shift, name, low, high) for name in names}


def _shift(family: str, low: float, high: float, images: Images, labels: Ints, severity: int, rng: Rng) -> Labelled:
    amount = CORRUPTIONS[family].amounts[severity]
    spoilt = corrupt((images - low) / (high - low), family, amount, rng)
    return (low + spoilt * (high - low)).astype(np.float32), labels


def _on_channels(apply: Callable[[Images, float, Rng], Images], images: Images, amount: float, rng: Rng) -> Images:
    x = images[:, None] if images.ndim == 3 else images
    return np.asarray(np.clip(apply(x, amount, rng), 0, 1).reshape(images.shape), dtype=np.float32)


def _length(x: Images) -> float:
    """What a length of one pixel at SIDE is here."""
    return float(np.sqrt(min(x.shape[2:]) / SIDE))


def _signs(n: int, rng: Rng) -> Floats:
    return np.where(rng.random(n) < 0.5, -1.0, 1.0)[:, None, None]


# -- noise ---------------------------------------------------------------------------------------------------


def _gauss(x: Images, sd: float, rng: Rng) -> Images:
    return x + rng.normal(0, sd, x.shape)


def _impulse(x: Images, share: float, rng: Rng) -> Images:
    return np.where(rng.random(x.shape) < share, rng.integers(0, 2, x.shape), x)


def _speckle(x: Images, sd: float, rng: Rng) -> Images:
    return x * (1 + rng.normal(0, sd, x.shape))


# -- blur ----------------------------------------------------------------------------------------------------


def _blur(x: Images, sigma: float, _: Rng) -> Images:
    return np.asarray(ndimage.gaussian_filter(x, (0, 0, *((sigma * _length(x),) * 2))))


def _motion(x: Images, size: float, rng: Rng) -> Images:
    pixels = max(round(size * _length(x)), 1)
    across, down = (ndimage.uniform_filter1d(x, pixels, axis=a, mode="constant") for a in (3, 2))
    return np.asarray(np.where(_signs(len(x), rng)[..., None] > 0, down, across))


def _pixelate(x: Images, cells: float, _: Rng) -> Images:
    for axis in (2, 3):
        side = x.shape[axis]
        count = max(round(cells * side / SIDE / _length(x)), 1)
        owner = np.arange(side) * count // side
        middle = np.array([round(float(np.flatnonzero(owner == c).mean())) for c in range(count)])[owner]
        x = ndimage.uniform_filter1d(x, max(side // count, 1), axis=axis).take(middle, axis=axis)
    return x


# -- light ---------------------------------------------------------------------------------------------------


def _contrast(x: Images, gain: float, _: Rng) -> Images:
    middle = x.mean()
    return np.asarray(middle + gain * (x - middle))


def _bright(x: Images, amount: float, _: Rng) -> Images:
    return np.asarray(x + amount)


def _dark(x: Images, amount: float, _: Rng) -> Images:
    return np.asarray(x - amount)


def _gamma(x: Images, power: float, _: Rng) -> Images:
    return np.asarray(np.clip(x, 0, 1) ** power)


def _fog(x: Images, amount: float, rng: Rng) -> Images:
    n, _, height, width = x.shape
    fog = ndimage.gaussian_filter(rng.normal(size=(n, height, width)), (0, 3 * _length(x), 3 * _length(x)))
    fog -= fog.min(axis=(1, 2), keepdims=True)
    fog /= np.maximum(fog.max(axis=(1, 2), keepdims=True), 1e-9)
    return np.asarray((x + amount * fog[:, None]) / (1 + amount / 2))


# -- geometry ------------------------------------------------------------------------------------------------


def _rotate(x: Images, degrees: float, rng: Rng) -> Images:
    angle = np.deg2rad(degrees) * _signs(len(x), rng)
    return _linear(x, np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle))


def _shear(x: Images, slope: float, rng: Rng) -> Images:
    return _linear(x, 1.0, 0.0, slope * _signs(len(x), rng), 1.0)


def _zoom(x: Images, factor: float, rng: Rng) -> Images:
    scale = factor ** _signs(len(x), rng)
    return _linear(x, scale, 0.0, 0.0, scale)


def _moved_away(x: Images, reach: float, rng: Rng) -> Images:
    angle = rng.uniform(0, 2 * np.pi, (len(x), 1, 1))
    rows, columns = _grid(x)
    return sample(x, rows + reach * _length(x) * np.sin(angle), columns + reach * _length(x) * np.cos(angle))


def _elastic(x: Images, reach: float, rng: Rng) -> Images:
    n, _, height, width = x.shape
    sigma = 2 * _length(x)
    field = ndimage.gaussian_filter(rng.normal(size=(2, n, height, width)), (0, 0, sigma, sigma))
    field *= reach * _length(x) / field.std(axis=(2, 3), keepdims=True)
    rows, columns = _grid(x)
    return sample(x, rows + field[0], columns + field[1])


def _linear(x: Images, a: Any, b: Any, c: Any, d: Any) -> Images:
    (rows, columns), (height, width) = _grid(x), x.shape[2:]
    middle, centre = (height - 1) / 2, (width - 1) / 2
    rows, columns = rows - middle, columns - centre
    return sample(x, middle + a * rows + b * columns, centre + c * rows + d * columns)


def _grid(x: Images) -> Floats:
    return np.mgrid[: x.shape[2], : x.shape[3]].astype(np.float64)


def sample(x: Images, rows: Floats, columns: Floats) -> Images:
    """Each image (n, c, h, w) read bilinearly at other places (n, h, w), in pixels; zero outside of the image."""
    n, _, height, width = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 2), (1, 2))).transpose(0, 2, 3, 1)
    rows, columns = (np.broadcast_to(c, (n, height, width)) for c in (rows, columns))
    rows, columns = np.clip(rows, -1, height) + 1, np.clip(columns, -1, width) + 1
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    which = np.arange(n)[:, None, None]
    upper = (1 - right) * padded[which, top, left] + right * padded[which, top, left + 1]
    lower = (1 - right) * padded[which, top + 1, left] + right * padded[which, top + 1, left + 1]
    return np.asarray(((1 - down) * upper + down * lower).transpose(0, 3, 1, 2))


# -- occlusion -----------------------------------------------------------------------------------------------


def _occlude(x: Images, size: float, rng: Rng) -> Images:
    n, _, height, width = x.shape
    side = min(max(round(size * min(height, width) / SIDE), 1), height, width)  # a square hides a share of the image
    top, left = (rng.integers(0, length - side + 1, (n, 1, 1)) for length in (height, width))
    rows, columns = _grid(x)
    hidden = (top <= rows) & (top + side > rows) & (left <= columns) & (left + side > columns)
    return np.where(hidden[:, None], 0, x)


def _lines(x: Images, share: float, rng: Rng) -> Images:
    n, _, height, width = x.shape
    rows = np.broadcast_to((rng.random((n, height)) < share)[:, :, None], (n, height, width))
    columns = np.broadcast_to((rng.random((n, width)) < share)[:, None], (n, height, width))
    return np.where(np.where(_signs(n, rng) > 0, rows, columns)[:, None], 0, x)


CORRUPTIONS: Mapping[str, Corruption] = MappingProxyType(
    {
        "gauss": Corruption(_gauss, (0.1, 0.2, 0.35, 0.5, 0.7)),
        "impulse": Corruption(_impulse, (0.04, 0.1, 0.18, 0.28, 0.4)),
        "blur": Corruption(_blur, (0.8, 1.2, 1.7, 2.2, 2.8)),
        "pixelate": Corruption(_pixelate, (10, 8, 6, 5, 4)),
        "contrast": Corruption(_contrast, (0.7, 0.5, 0.35, 0.25, 0.15)),
        "bright": Corruption(_bright, (0.1, 0.2, 0.3, 0.45, 0.6)),
        "dark": Corruption(_dark, (0.15, 0.3, 0.45, 0.6, 0.75)),
        "gamma": Corruption(_gamma, (1.5, 2.2, 3.2, 4.5, 7.0)),
        "rotate": Corruption(_rotate, (8, 16, 26, 38, 52)),
        "shift": Corruption(_moved_away, (0.8, 1.5, 2.3, 3.2, 4.2)),
        "shear": Corruption(_shear, (0.15, 0.3, 0.5, 0.75, 1.0)),
        "occlude": Corruption(_occlude, (3, 5, 6, 8, 9)),
        "speckle": Corruption(_speckle, (0.3, 0.5, 0.8, 1.2, 1.8)),
        "motion": Corruption(_motion, (3, 5, 7, 9, 11)),
        "elastic": Corruption(_elastic, (0.6, 1.0, 1.5, 2.1, 2.8)),
        "fog": Corruption(_fog, (0.25, 0.45, 0.65, 0.85, 1.1)),
        "zoom": Corruption(_zoom, (1.15, 1.3, 1.5, 1.75, 2.1)),
        "lines": Corruption(_lines, (0.1, 0.2, 0.3, 0.42, 0.55)),
    }
)
