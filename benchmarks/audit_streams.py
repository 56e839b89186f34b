"""Registered models on digits, and streams of their answers, for `benchmarks.audits`."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.digit_model import HELD, INDUCED, Network, corrupted, digits
from models import induction_images
from models.induced_quality import Answers, InducedQuality, fit, inducer
from models.induction import Induced, observe
from models.window_sums import add_up

Floats = NDArray[np.float64]
EVENTS = 20_000


class Deployed(NamedTuple):
    """A registered model and its answers to the test images: clean, in light fog, under each held condition."""

    quality: InducedQuality
    clean: Induced
    fog: Induced
    drifted: list[Induced]

    def proxy(self, answers: Induced) -> Floats:
        """r(x) of each answer."""
        return self.quality.correct_probability(answers.features)

    def lows(self, answers: Induced, windows: list[NDArray[np.int64]]) -> list[float]:
        """Lower ends of the label-free interval of windows of these rows; 0 where it is unknown."""
        columns = answers.columns(self.proxy(answers))
        readings = [self.quality.read(add_up(columns[rows], None), n=len(rows)) for rows in windows]
        return [reading.low or 0.0 for reading in readings]


class Stream(NamedTuple):
    """Correctness and r(x) of every inference, in order."""

    correct: Floats
    proxy: Floats


def deployed(seed: int) -> Deployed:
    """Train, register by drift induction, and answer."""
    rng = np.random.default_rng(1000 + seed)
    split = digits(rng)
    network = Network(split.train, split.train_labels, seed)
    reference, labels = split.reference, split.reference_labels
    induce = inducer(induction_images.shifts(families=INDUCED), reference, labels, network)
    train, held_out = Answers(*network(split.train), split.train_labels), Answers(*network(reference), labels)
    quality = fit(train, held_out, induce, INDUCED, seed=seed)

    def answers(images: NDArray[np.float32]) -> Induced:
        return observe(quality.reference, Answers(*network(images), split.test_labels))

    drifted = [answers(corrupted(split.test, family, s, rng)) for family in HELD for s in range(5)]
    return Deployed(quality, answers(split.test), drifted[HELD.index("fog") * 5], drifted)


def stream(found: Deployed, kind: str, rng: np.random.Generator) -> Stream:
    """EVENTS inferences: clean; half of them under held drift, mixed; or clean first, then under held drift."""
    n = len(found.clean.labels)
    correct = np.stack([found.clean.right, *(a.right for a in found.drifted)]).astype(float)
    proxy = np.stack([found.proxy(found.clean), *(found.proxy(a) for a in found.drifted)])
    spoilt = {
        "clean": np.zeros(EVENTS, bool),
        "mixed": rng.random(EVENTS) < 0.5,
        "later": np.arange(EVENTS) >= EVENTS / 2,
    }
    which = np.where(spoilt[kind], rng.integers(1, len(correct), EVENTS), 0)
    rows = rng.integers(n, size=EVENTS)
    return Stream(correct[which, rows], proxy[which, rows])
