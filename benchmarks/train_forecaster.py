"""Train the network that forecasts the time to threshold, on decays simulated by models/decays.py.

    python -m benchmarks.train_forecaster            writes models/data/forecaster.npz and prints its digest

One core, numpy only, about six minutes and 2 GB; the same seed gives the same weights on the same machine and BLAS.
The digest goes into models/passage_network.py. Adam on the log score with a cosine rate; what is kept is the running
average of the weights (Polyak & Juditsky 1992).
"""

import itertools
import sys
import time
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.decays import Forecasts, simulate
from models.forecast_features import FEATURES, Streams
from models.passage_network import CLASSES, WEIGHTS, Network, classes, write

Singles = NDArray[np.float32]
Ints = NDArray[np.int64]

SEED = 101
BATCHES, SERIES, FORECASTS = 80, 5000, 8  # simulated in batches of so many series with so many forecasts each
HIDDEN, EPOCHS, MINIBATCH, RATE, SHRINK, KEEPS = (96, 96), 24, 512, 2e-3, 1e-5, 0.999


def features(simulated: Forecasts) -> Singles:
    """Features of every forecast, in the order of the forecasts."""
    streams, late = Streams(simulated.thresholds), simulated.late[simulated.series]
    found = np.zeros((len(simulated.truth), FEATURES), dtype=np.float32)
    for window in range(simulated.values.shape[1]):
        streams.update(simulated.values[:, window], labels=simulated.labels)
        due = np.flatnonzero(simulated.origin - late == window + 1)
        if len(due):
            found[due] = _waiting(streams, simulated.series[due], late[due])
    return found


def _waiting(streams: Streams, series: Ints, late: Ints) -> Singles:
    """Features of these series so many windows later, while nothing more was seen."""
    found = np.zeros((len(series), FEATURES), dtype=np.float32)
    waiting = streams.take(series)
    for passed in range(int(late.max()) + 1):
        now = late == passed
        if now.any():
            found[now] = waiting.features[now]
        waiting.update(np.nan)
    return found


def simulated_features(seed: int, batches: int) -> tuple[Singles, Ints]:
    """Features and times to threshold of so many batches."""
    rng = np.random.default_rng(seed)
    inputs, times = [], []
    for _ in range(batches):
        drawn = simulate(SERIES, rng, forecasts=FORECASTS)
        inputs.append(features(drawn))
        times.append(drawn.truth)
    return np.concatenate(inputs), np.concatenate(times)


class Training:
    """Weights, their Adam moments and their running average; `step` takes one minibatch of standardised features."""

    def __init__(self, steps: int, rng: np.random.Generator) -> None:
        """Small random weights, smallest in the last layer, so that training begins near the plain frequencies."""
        sizes = (FEATURES, *HIDDEN, CLASSES)
        pairs = list(itertools.pairwise(sizes))
        self.layers, self.steps, self.done = len(pairs), steps, 0
        draws = [rng.normal(size=p) * np.sqrt(2 / p[0]) * (0.1 if p[1] == CLASSES else 1) for p in pairs]
        self.weights: list[Singles] = [d.astype(np.float32) for d in draws]
        self.weights += [np.zeros(size, dtype=np.float32) for size in sizes[1:]]
        self.average = [w.copy() for w in self.weights]
        self.mean, self.square = [0 * w for w in self.weights], [0 * w for w in self.weights]

    def step(self, inputs: Singles, targets: Ints) -> None:
        """One step of Adam on the mean log score."""
        gradients = self._gradients(inputs, targets)
        self.done += 1
        rate = RATE * 0.5 * (1 + np.cos(np.pi * self.done / self.steps))
        keeps = min(KEEPS, self.done / (self.done + 10))
        for place, gradient in enumerate(gradients):
            mean, square = self.mean[place], self.square[place]
            mean += np.float32(0.1) * (gradient - mean)
            square += np.float32(0.001) * (gradient * gradient - square)
            unbiased = np.float32(1 / (1 - 0.999**self.done))
            self.weights[place] -= np.float32(rate / (1 - 0.9**self.done)) * mean / (np.sqrt(square * unbiased) + 1e-8)
            self.average[place] += np.float32(1 - keeps) * (self.weights[place] - self.average[place])

    def _gradients(self, inputs: Singles, targets: Ints) -> list[Singles]:
        activations = [inputs]
        for layer in range(self.layers):
            linear = activations[-1] @ self.weights[layer] + self.weights[self.layers + layer]
            activations.append(np.maximum(linear, 0) if layer < self.layers - 1 else linear)
        error = np.exp(activations[-1] - activations[-1].max(axis=1, keepdims=True))
        error /= error.sum(axis=1, keepdims=True)
        error[np.arange(len(targets)), targets] -= 1
        error /= len(targets)
        gradients: list[Singles] = [inputs] * (2 * self.layers)
        for layer in range(self.layers - 1, -1, -1):
            gradients[layer] = activations[layer].T @ error + np.float32(SHRINK) * self.weights[layer]
            gradients[self.layers + layer] = error.sum(axis=0)
            if layer:
                error = (error @ self.weights[layer].T) * (activations[layer] > 0)
        return gradients


def train(inputs: Singles, times: Ints, *, epochs: int = EPOCHS, seed: int = 0) -> Network:
    """The averaged network after so many passes over the simulated forecasts."""
    rng = np.random.default_rng(seed)
    mean, scale = inputs.mean(axis=0), inputs.std(axis=0) + np.float32(1e-6)
    standard, targets = np.clip((inputs - mean) / scale, -5, 5), classes(times)
    batches = len(inputs) // MINIBATCH
    training = Training(epochs * batches, rng)
    for _ in range(epochs):
        order = rng.permutation(len(inputs))[: batches * MINIBATCH]
        for part in order.reshape(batches, MINIBATCH):
            training.step(standard[part], targets[part])
    layers = training.layers
    return Network(mean, scale, tuple(training.average[:layers]), tuple(training.average[layers:]))


def log_score(network: Network, inputs: Singles, times: Ints) -> float:
    """Mean negative log probability of the class that came true."""
    cumulative = network.probabilities(inputs)
    chances = np.diff(np.concatenate([np.zeros((len(times), 1)), cumulative, np.ones((len(times), 1))], axis=1), axis=1)
    return float(-np.log(np.maximum(chances[np.arange(len(times)), classes(times)], 1e-12)).mean())


def main() -> None:
    """Simulate, train, test on fresh draws of the prior, write the weights, print their digest."""
    started = time.perf_counter()
    inputs, times = simulated_features(SEED, BATCHES)
    print(f"{len(times)} forecasts on {BATCHES * SERIES} series simulated, {time.perf_counter() - started:.0f} s")
    network = train(inputs, times)
    fresh = simulated_features(SEED + 1, 2)
    print(f"trained, {time.perf_counter() - started:.0f} s; log score on fresh draws {log_score(network, *fresh):.4f}")
    target, content = Path(sys.argv[1]) if len(sys.argv) > 1 else WEIGHTS, write(network)
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(content)
    print(f'{target.name}: {len(content)} bytes, DIGEST = "{sha256(content).hexdigest()}"')


if __name__ == "__main__":
    main()
