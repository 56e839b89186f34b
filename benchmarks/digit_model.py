"""A small convolutional network on scikit-learn's digits, trained here in a second or two, and ways to spoil its input.

Images are float32 of shape (n, 16, 16) in [0, 1]. Used by the benchmarks that need a real model under real drift.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.datasets import load_digits

from models.induction_images import CORRUPTIONS, corrupt

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
    return corrupt(images, family, CORRUPTIONS[family].amounts[severity], rng)


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
