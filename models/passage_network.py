"""From the 42 features of a stream to the law of the time to threshold: a small softmax network.

The windows ahead are cut into 39 classes, fine near and coarse far: already below, (EDGES[i - 1], EDGES[i]], beyond the
horizon. Trained with the log score on simulated decays it returns the posterior of the time under that prior
(amortised inference: Papamakarios & Murray 2016, arXiv:1605.06376; classes instead of a density as in discrete-time
survival analysis: Lee et al. 2018, DeepHit). `python -m benchmarks.train_forecaster` makes the weights.
"""

import hashlib
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

HORIZON = 120
EDGES = np.r_[0:8, 8:20:2, 20:32:3, 32:60:4, 60:121:5]
CLASSES = len(EDGES) + 1
WEIGHTS = Path(__file__).parent / "data" / "forecaster.npz"
DIGEST = "d9b2aced59af8c209ea524b83914a1013ca97375d7cc717fcfe7d0b30e24a6da"


class Network(msgspec.Struct, frozen=True):
    """Standardisation of the features (`mean`, `scale`), and per layer a matrix and a bias."""

    mean: Singles
    scale: Singles
    matrices: tuple[Singles, ...]
    biases: tuple[Singles, ...]

    def probabilities(self, features: Singles) -> Floats:
        """P(T <= EDGES[i]) per row of features; the first column is P(already below)."""
        activation = np.clip((features - self.mean) / self.scale, -5, 5)
        for matrix, bias in zip(self.matrices[:-1], self.biases[:-1], strict=True):
            activation = np.maximum(activation @ matrix + bias, 0)
        logits = (activation @ self.matrices[-1] + self.biases[-1]).astype(np.float64)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        cumulative = np.cumsum(odds / odds.sum(axis=1, keepdims=True), axis=1)
        return np.asarray(cumulative[:, :-1])


@cache
def shipped() -> Network:
    """The network of the repository. Raises ValueError where its file is not the one this code was tested with."""
    return read(WEIGHTS.read_bytes(), DIGEST)


def read(content: bytes, digest: str) -> Network:
    """A network from the bytes of its file. Raises ValueError if their SHA-256 is not `digest`."""
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise ValueError(
            f"forecaster weights have SHA-256 {found[:12]}..., expected {digest[:12]}...; restore models/data or, after"
            " training anew, put the printed digest into models/passage_network.py"
        )
    with np.load(BytesIO(content), allow_pickle=False) as arrays:
        layers = sum(name.startswith("matrix") for name in arrays.files)
        return Network(
            arrays["mean"],
            arrays["scale"],
            tuple(arrays[f"matrix{layer}"] for layer in range(layers)),
            tuple(arrays[f"bias{layer}"] for layer in range(layers)),
        )


def write(network: Network) -> bytes:
    """The file of a network; the same weights give the same bytes."""
    content = BytesIO()
    arrays: dict[str, Any] = {"mean": network.mean, "scale": network.scale}
    arrays |= {f"matrix{i}": m for i, m in enumerate(network.matrices)}
    arrays |= {f"bias{i}": b for i, b in enumerate(network.biases)}
    np.savez(content, **arrays)
    return content.getvalue()


def classes(times: NDArray[np.int64]) -> NDArray[np.int64]:
    """Class of every time to threshold: 0 already below, the last one beyond the horizon."""
    return np.where(times > HORIZON, CLASSES - 1, np.searchsorted(EDGES, times))


def every_window(at_edges: Floats) -> Floats:
    """P(T <= h) for h = 0 .. HORIZON from the same at EDGES, linear inside a class."""
    h = np.arange(HORIZON + 1)
    right = np.maximum(np.searchsorted(EDGES, h), 1)
    part = (h - EDGES[right - 1]) / (EDGES[right] - EDGES[right - 1])
    return np.asarray(at_edges[:, right - 1] * (1 - part) + at_edges[:, right] * part)
