"""Registered models on digits, and streams of their answers, for `benchmarks.audits`."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.digit_errors import Answers, ErrorModel, Interval, Observer, error_model, induce
from benchmarks.digit_model import HELD, Network, corrupted, digits

Floats = NDArray[np.float64]
EVENTS = 20_000


class Deployed(NamedTuple):
    """A registered model and its answers to the test images: clean, in light fog, under each held condition."""

    model: ErrorModel
    interval: Interval
    clean: Answers
    fog: Answers
    drifted: list[Answers]


class Stream(NamedTuple):
    """Correctness and r(x) of every inference, in order."""

    correct: Floats
    proxy: Floats


def deployed(seed: int) -> Deployed:
    """Train, register by drift induction, and answer."""
    rng = np.random.default_rng(1000 + seed)
    split = digits(rng)
    observer = Observer(Network(split.train, split.train_labels, seed), split)
    induced = induce(observer, split, rng, pairs=100)
    model = error_model(induced)
    interval = Interval(induced, model, rng)
    drifted = [observer(corrupted(split.test, family, s, rng), split.test_labels) for family in HELD for s in range(5)]
    return Deployed(model, interval, observer(split.test, split.test_labels), drifted[HELD.index("fog") * 5], drifted)


def stream(found: Deployed, kind: str, rng: np.random.Generator) -> Stream:
    """EVENTS inferences: clean; half of them under held drift, mixed; or clean first, then under held drift."""
    n = len(found.clean.truth)
    clean_r = found.model(found.clean.features)
    correct = np.stack([found.clean.correct, *(a.correct for a in found.drifted)]).astype(float)
    proxy = np.stack([clean_r, *(found.model(a.features) for a in found.drifted)])
    spoilt = {
        "clean": np.zeros(EVENTS, bool),
        "mixed": rng.random(EVENTS) < 0.5,
        "later": np.arange(EVENTS) >= EVENTS / 2,
    }
    which = np.where(spoilt[kind], rng.integers(1, len(correct), EVENTS), 0)
    rows = rng.integers(n, size=EVENTS)
    return Stream(correct[which, rows], proxy[which, rows])
