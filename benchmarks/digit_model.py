"""A small convolutional network on scikit-learn's digits, trained here in a second or two, and ways to spoil its input.

Images are float32 of shape (n, 16, 16) in [0, 1]. Used by the benchmarks that need a real model under real drift.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.datasets import load_digits

Images = NDArray[np.float32]
Floats = NDArray[np.float64]
SIDE, CLASSES = 16, 10
INDUCED = (
    "gauss", "impulse", "blur", "pixelate", "contrast", "bright",
    "dark", "gamma", "rotate", "shift", "shear", "occlude",
)  # fmt: skip
HELD = ("speckle", "motion", "elastic", "fog", "zoom", "lines")  # never induced, only tested on


class Split(NamedTuple):
    """Digits for training, for the reference at registration, and for the deployment."""

    train: Images
    train_labels: NDArray[np.int64]
    reference: Images
    reference_labels: NDArray[np.int64]
    test: Images
    test_labels: NDArray[np.int64]


def digits(rng: np.random.Generator) -> Split:
    """The 1,797 digits doubled in size and split 600, 500, 697."""
    images, labels = load_digits(return_X_y=True)
    big = ndimage.zoom(images.reshape(-1, 8, 8) / 16, (1, 2, 2), order=1, grid_mode=True, mode="nearest")
    order = rng.permutation(len(labels))
    pieces: list[Any] = []
    for part in np.split(order, (600, 1100)):
        pieces += [np.clip(big[part], 0, 1).astype("f4"), labels[part]]
    return Split(*pieces)


class Network:
    """3x3x16, pool, 3x3x32, pool, dense 64 (the embedding), 10 scores; Adam with a cosine rate, plain numpy."""

    def __init__(self, images: Images, labels: NDArray[np.int64], seed: int, epochs: int = 30) -> None:
        rng = np.random.default_rng(seed)
        shapes = ((9, 16), (144, 32), (512, 64), (64, CLASSES))
        self.weights = [rng.normal(0, np.sqrt(2 / a), (a, b)).astype("f4") for a, b in shapes]
        self.biases = [np.zeros(b, "f4") for _, b in shapes]
        self.weights[-1] *= 0.5
        moments = [[np.zeros_like(p), np.zeros_like(p)] for p in (*self.weights, *self.biases)]
        batches = len(images) // 64
        for step in range(epochs * batches):
            if step % batches == 0:
                order = rng.permutation(len(images))
            rows = order[(step % batches) * 64 :][:64]
            rate = 1e-3 * (1 + np.cos(np.pi * step / (epochs * batches)))
            self._descend(self._gradients(images[rows], labels[rows]), moments, step + 1, rate)

    def __call__(self, images: Images) -> tuple[Images, Images]:
        """Scores before the softmax, shape (n, 10), and embeddings, shape (n, 64)."""
        embedding, *_ = self._forward(images)
        return embedding @ self.weights[3] + self.biases[3], embedding

    def _forward(self, images: Images) -> tuple[Any, ...]:
        first = _patches(images[..., None])
        hidden = np.maximum(first @ self.weights[0] + self.biases[0], 0)
        pooled, kept = _pool(hidden)
        second = _patches(pooled)
        deeper = np.maximum(second @ self.weights[1] + self.biases[1], 0)
        small, chosen = _pool(deeper)
        flat = small.reshape(len(images), -1)
        return np.maximum(flat @ self.weights[2] + self.biases[2], 0), flat, deeper, chosen, second, hidden, kept, first

    def _gradients(self, images: Images, labels: NDArray[np.int64]) -> list[Images]:
        embedding, flat, deeper, chosen, second, hidden, kept, first = self._forward(images)
        error = softmax(embedding @ self.weights[3] + self.biases[3])
        error[np.arange(len(labels)), labels] -= 1
        error /= len(labels)
        at_embedding = (error @ self.weights[3].T) * (embedding > 0)
        at_second = _unpool((at_embedding @ self.weights[2].T).reshape(-1, 4, 4, 32), chosen) * (deeper > 0)
        spread = (at_second @ self.weights[1].T).reshape(-1, 8, 8, 3, 3, 16)
        padded = np.zeros((len(images), 10, 10, 16), "f4")
        for i in range(3):
            for j in range(3):
                padded[:, i : i + 8, j : j + 8] += spread[:, :, :, i, j]
        at_first = _unpool(padded[:, 1:9, 1:9], kept) * (hidden > 0)
        inputs = (first.reshape(-1, 9), second.reshape(-1, 144), flat, embedding)
        errors = (at_first.reshape(-1, 16), at_second.reshape(-1, 32), at_embedding, error)
        return [a.T @ e for a, e in zip(inputs, errors, strict=True)] + [e.sum(axis=0) for e in errors]

    def _descend(self, gradients: list[Images], moments: list[Any], step: int, rate: float) -> None:
        parameters = (*self.weights, *self.biases)
        for parameter, g, m in zip(parameters, gradients, moments, strict=True):
            m[0] = 0.9 * m[0] + 0.1 * g
            m[1] = 0.99 * m[1] + 0.01 * g**2
            scaled = m[0] / (1 - 0.9**step) / (np.sqrt(m[1] / (1 - 0.99**step)) + 1e-7)
            parameter[...] -= rate * (scaled + 1e-4 * parameter)


def softmax(scores: NDArray[Any]) -> NDArray[Any]:
    """Probabilities of each row of scores."""
    mass = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(mass / mass.sum(axis=1, keepdims=True))


def corrupted(images: Images, family: str, severity: int, rng: np.random.Generator) -> Images:
    """The images spoilt by one of `INDUCED` or `HELD`, severity 0 to 4."""
    return np.asarray(SPOIL[family](images, severity, rng), dtype="f4")


def _patches(x: Images) -> Images:
    view = sliding_window_view(np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), (3, 3), axis=(1, 2))
    return view.transpose(0, 1, 2, 4, 5, 3).reshape(*x.shape[:3], -1)


def _pool(x: Images) -> tuple[Images, NDArray[np.bool_]]:
    blocks = x.reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2, -1)
    top = blocks.max(axis=(2, 4))
    return top, blocks == top[:, :, None, :, None]


def _unpool(gradient: Images, chosen: NDArray[np.bool_]) -> Images:
    ties = chosen.sum(axis=(2, 4), keepdims=True)
    spread = chosen * gradient[:, :, None, :, None] / ties
    return np.asarray(spread.reshape(len(gradient), 2 * gradient.shape[1], -1, gradient.shape[3]), dtype="f4")


# -- corruptions ---------------------------------------------------------------------------------------------

_ROWS, _COLUMNS = np.mgrid[:SIDE, :SIDE].astype("f4")
_CENTRE = (SIDE - 1) / 2


def _signs(n: int, rng: np.random.Generator) -> Floats:
    return np.where(rng.random(n) < 0.5, -1.0, 1.0)[:, None, None]


def _moved(x: Images, rows: NDArray[Any], columns: NDArray[Any]) -> Images:
    """Each image read at other places, bilinearly, zero outside."""
    padded = np.pad(x, ((0, 0), (1, 2), (1, 2)))
    rows, columns = (np.clip(np.broadcast_to(c, x.shape), -1, SIDE) + 1 for c in (rows, columns))
    top, left, which = rows.astype(int), columns.astype(int), np.arange(len(x))[:, None, None]
    down, right = rows - top, columns - left
    upper = (1 - right) * padded[which, top, left] + right * padded[which, top, left + 1]
    lower = (1 - right) * padded[which, top + 1, left] + right * padded[which, top + 1, left + 1]
    return np.asarray((1 - down) * upper + down * lower)


def _linear(x: Images, a: Any, b: Any, c: Any, d: Any) -> Images:
    rows, columns = _ROWS - _CENTRE, _COLUMNS - _CENTRE
    return _moved(x, _CENTRE + a * rows + b * columns, _CENTRE + c * rows + d * columns)


def _pixelated(x: Images, s: int, _: np.random.Generator) -> Images:
    cells = (10, 8, 6, 5, 4)[s]
    owner = np.arange(SIDE) * cells // SIDE
    middle = np.array([round(float(np.flatnonzero(owner == c).mean())) for c in range(cells)])[owner]
    return np.asarray(ndimage.uniform_filter(x, (0, SIDE // cells, SIDE // cells))[:, middle][:, :, middle])


def _rotated(x: Images, s: int, rng: np.random.Generator) -> Images:
    angle = np.deg2rad((8, 16, 26, 38, 52)[s]) * _signs(len(x), rng)
    return _linear(x, np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle))


def _shifted(x: Images, s: int, rng: np.random.Generator) -> Images:
    angle, reach = rng.uniform(0, 2 * np.pi, (len(x), 1, 1)), (0.8, 1.5, 2.3, 3.2, 4.2)[s]
    return _moved(x, _ROWS + reach * np.sin(angle), _COLUMNS + reach * np.cos(angle))


def _occluded(x: Images, s: int, rng: np.random.Generator) -> Images:
    side = (3, 5, 6, 8, 9)[s]
    top, left = rng.integers(0, SIDE - side + 1, (2, len(x), 1, 1))
    hidden = (top <= _ROWS) & (top + side > _ROWS) & (left <= _COLUMNS) & (left + side > _COLUMNS)
    return np.where(hidden, 0, x)


def _in_motion(x: Images, s: int, rng: np.random.Generator) -> Images:
    along = [ndimage.uniform_filter1d(x, (3, 5, 7, 9, 11)[s], axis=a, mode="constant") for a in (1, 2)]
    return np.asarray(np.where(_signs(len(x), rng) > 0, *along))


def _elastic(x: Images, s: int, rng: np.random.Generator) -> Images:
    field = ndimage.gaussian_filter(rng.normal(size=(2, *x.shape)), (0, 0, 2, 2))
    field *= (0.6, 1.0, 1.5, 2.1, 2.8)[s] / field.std(axis=(2, 3), keepdims=True)
    return _moved(x, _ROWS + field[0], _COLUMNS + field[1])


def _foggy(x: Images, s: int, rng: np.random.Generator) -> Images:
    fog = ndimage.gaussian_filter(rng.normal(size=x.shape), (0, 3, 3))
    fog -= fog.min(axis=(1, 2), keepdims=True)
    fog /= fog.max(axis=(1, 2), keepdims=True)
    amount = (0.25, 0.45, 0.65, 0.85, 1.1)[s]
    return np.asarray(np.clip((x + amount * fog) / (1 + amount / 2), 0, 1))


def _zoomed(x: Images, s: int, rng: np.random.Generator) -> Images:
    factor = (1.15, 1.3, 1.5, 1.75, 2.1)[s] ** _signs(len(x), rng)
    return _linear(x, factor, 0.0, 0.0, factor)


def _lined(x: Images, s: int, rng: np.random.Generator) -> Images:
    gone = rng.random((len(x), SIDE)) < (0.1, 0.2, 0.3, 0.42, 0.55)[s]
    return np.where(np.where(_signs(len(x), rng) > 0, gone[:, :, None], gone[:, None]), 0, x)


def _noisy(x: Images, sd: float, rng: np.random.Generator) -> Images:
    return np.clip(x + rng.normal(0, sd, x.shape), 0, 1)


SPOIL: dict[str, Callable[[Images, int, np.random.Generator], Any]] = {
    "gauss": lambda x, s, rng: _noisy(x, (0.1, 0.2, 0.35, 0.5, 0.7)[s], rng),
    "impulse": lambda x, s, rng: np.where(
        rng.random(x.shape) < (0.04, 0.1, 0.18, 0.28, 0.4)[s], rng.integers(0, 2, x.shape), x
    ),
    "blur": lambda x, s, _: ndimage.gaussian_filter(x, (0, *((0.8, 1.2, 1.7, 2.2, 2.8)[s],) * 2)),
    "pixelate": _pixelated,
    "contrast": lambda x, s, _: 0.3 + (0.7, 0.5, 0.35, 0.25, 0.15)[s] * (x - 0.3),
    "bright": lambda x, s, _: np.clip(x + (0.1, 0.2, 0.3, 0.45, 0.6)[s], 0, 1),
    "dark": lambda x, s, _: np.clip(x - (0.15, 0.3, 0.45, 0.6, 0.75)[s], 0, 1),
    "gamma": lambda x, s, _: x ** (1.5, 2.2, 3.2, 4.5, 7.0)[s],
    "rotate": _rotated,
    "shift": _shifted,
    "shear": lambda x, s, rng: _linear(x, 1.0, 0.0, (0.15, 0.3, 0.5, 0.75, 1.0)[s] * _signs(len(x), rng), 1.0),
    "occlude": _occluded,
    "speckle": lambda x, s, rng: np.clip(x * (1 + rng.normal(0, (0.3, 0.5, 0.8, 1.2, 1.8)[s], x.shape)), 0, 1),
    "motion": _in_motion,
    "elastic": _elastic,
    "fog": _foggy,
    "zoom": _zoomed,
    "lines": _lined,
}
