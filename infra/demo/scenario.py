"""What happens in the demo: a scanner's lens slowly loses its clarity, and a digit reader serves on, unaware.

Everything is a function of the seed: which held-out images come on which day, how clear they are, which inferences an
auditor looks at, and how many days later. Event time starts on a fixed date, so ids and dates repeat from run to run.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from bestbefore_client.sampling import sampled
from numpy.typing import NDArray

from infra.demo.images import Digits, corrupt, image_features, load
from models.embedder import Embedder
from models.units import DAY_US

DESCRIPTORS = Path(__file__).parents[2] / "examples" / "digits" / "descriptors"
START_US = int(datetime(2026, 1, 5, tzinfo=UTC).timestamp()) * 1_000_000
PER_DAY = 2_000
AUDIT_RATE = INPUT_RATE = 0.05
ONSET, WORST = 12.0, 0.6  # day on which the decay starts, severity on day 60
LABEL_DELAY_DAYS = (3.0, 5.0)


class Label(NamedTuple):
    """What an auditor will say, and when."""

    time_us: int
    inference_id: str
    label: str


@dataclass
class Day:
    """One day of production."""

    number: int
    ids: list[str]
    times_us: NDArray[np.int64]
    images: NDArray[np.float32]
    truth: NDArray[np.int64]
    scores: NDArray[np.float32]
    features: dict[str, NDArray[np.float64]]
    latency_ms: NDArray[np.float32]
    labels: list[Label]  # due at any time from here on

    @property
    def accuracy(self) -> float:
        """The share of right answers, which only the demo knows."""
        return float((self.scores.argmax(axis=1) == self.truth).mean())


class Scenario:
    """The days of the demo, made one after the other."""

    def __init__(self, seed: int, days: int) -> None:
        self.seed, self.days = seed, days
        self._digits: Digits = load()
        content = (DESCRIPTORS.parent / "digits.onnx").read_bytes()
        self.digest = "sha256:" + hashlib.sha256(content).hexdigest()
        self._model = Embedder.load(content, sha256=None, embedding="embedding", scores="scores")

    def severity(self, day: float) -> float:
        """How clouded the lens is: clean until ONSET, then such that accuracy falls by about as much every day."""
        return float(WORST * (max(day - ONSET, 0.0) / (60.0 - ONSET)) ** 0.5)

    def _images(self, index: NDArray[np.int64], severity: float, rng: np.random.Generator) -> NDArray[np.float32]:
        images = self._digits.held_out.images[index]
        if severity > 0:
            images = corrupt(images, "blur", severity, rng)
            images = corrupt(images, "gauss", 0.5 * severity, rng)
        return images

    def expected_accuracy(self, day: float, repeats: int = 4) -> float:
        """Accuracy over all held-out images at a day's severity: the truth without the luck of the day."""
        held_out = self._digits.held_out
        index = np.tile(np.arange(len(held_out.labels)), repeats)
        images = self._images(index, self.severity(day), np.random.default_rng(self.seed + 1))
        scores, _ = self._model.outputs(images[:, None])
        assert scores is not None  # noqa: S101 -- named above
        return float((scores.argmax(axis=1) == held_out.labels[index]).mean())

    def crossing(self, threshold: float) -> float | None:
        """The first day on whose end the expected accuracy is below the threshold."""
        for day in range(self.days):
            if self.expected_accuracy(day + 0.5) < threshold:
                return float(day)
        return None

    def __iter__(self) -> Iterator[Day]:
        rng = np.random.default_rng(self.seed)
        for number in range(self.days):
            yield self._day(number, rng)

    def _day(self, number: int, rng: np.random.Generator) -> Day:
        index = rng.integers(0, len(self._digits.held_out.labels), PER_DAY)
        images = self._images(index, self.severity(number + 0.5), rng)
        truth = self._digits.held_out.labels[index]
        scores, _ = self._model.outputs(images[:, None])
        assert scores is not None  # noqa: S101 -- named above
        ids = [f"scan-{self.seed}-{number:03d}-{i:04d}" for i in range(PER_DAY)]
        times = START_US + number * DAY_US + np.sort(rng.integers(0, DAY_US, PER_DAY))
        delay = (rng.uniform(*LABEL_DELAY_DAYS, PER_DAY) * DAY_US).astype(np.int64)
        labels = [
            Label(int(times[i] + delay[i]), ids[i], str(truth[i]))
            for i in range(PER_DAY)
            if sampled(ids[i], AUDIT_RATE)
        ]
        latency = rng.gamma(9.0, 0.4, PER_DAY).astype(np.float32)
        return Day(number, ids, times, images[:, None], truth, scores, image_features(images), latency, labels)
