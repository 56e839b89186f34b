"""Windows of a digits' network under drift, with their true accuracy, for `benchmarks.label_free`.

Twelve families are induced on the reference images; the same families (`dev`), six others (`held`), pairs of both,
clean images and nine alien contents are tested on other images, with an even and an uneven mix of classes.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.digit_model import CLASSES, HELD, INDUCED, Images, Network, Split, corrupted, digits
from models.alien_images import ALIENS
from models.event_features import Answers

Ints = NDArray[np.int64]
Rng = np.random.Generator
Steps = tuple[tuple[str, int], ...]
SIZES = (50, 200, 500, 1000)


class Condition(NamedTuple):
    """Answers to the test images under one condition, and the families that make it."""

    families: frozenset[str]
    answers: Answers


class Window(NamedTuple):
    """Rows of the answers under a condition of `worlds[world]`."""

    world: str
    condition: int
    rows: Ints


class Tested(NamedTuple):
    """A network, its conditions by world, and windows by the name of the row of the table they belong to."""

    network: Network
    split: Split
    worlds: dict[str, list[Condition]]
    windows: dict[str, list[Window]]


def tested(seed: int) -> Tested:
    """Train the network of this seed and answer under every test condition."""
    rng = np.random.default_rng(1000 + seed)
    split = digits(rng)
    network = Network(split.train, split.train_labels, seed)
    worlds: dict[str, list[Condition]] = {}
    for world, conditions in _conditions(rng).items():
        worlds[world] = [Condition(frozenset(f for f, _ in c), _answers(network, split, c, rng)) for c in conditions]
    return Tested(network, split, worlds, _windows(worlds, rng))


def reference(found: Tested) -> tuple[Answers, Answers]:
    """Answers to the training and to the reference images."""
    split = found.split
    train = Answers(*found.network(split.train), split.train_labels)
    return train, Answers(*found.network(split.reference), split.reference_labels)


def _answers(network: Network, split: Split, steps: Steps, rng: Rng) -> Answers:
    images: Images = split.test
    for family, severity in steps:
        if family in ALIENS:
            images = np.asarray(ALIENS[family](images, rng), dtype="f4")
        else:
            images = corrupted(images, family, severity, rng)
    return Answers(*network(images), split.test_labels)


def _conditions(rng: Rng) -> Mapping[str, list[Steps]]:
    def pair(one: tuple[str, ...], other: tuple[str, ...]) -> Steps:
        while True:
            steps = tuple((str(rng.choice(names)), int(rng.integers(4))) for names in (one, other))
            if steps[0][0] != steps[1][0]:
                return steps if rng.random() < 0.5 else steps[::-1]

    def single(names: tuple[str, ...]) -> list[Steps]:
        return [((name, s),) for name in names for s in range(5)]

    return {
        "clean": [()] * 3,
        "alien": [((name, 0),) for name in ALIENS],
        "dev": single(INDUCED),
        "devpair": [pair(INDUCED, INDUCED) for _ in range(24)],
        "held": single(HELD),
        "heldpair": [pair(INDUCED, HELD) for _ in range(24)],
    }


def _uneven(rng: Rng) -> NDArray[np.float64]:
    """A mix that is never induced: three classes, or one, fifty times as frequent as the others."""
    weight = np.full(CLASSES, 0.02)
    weight[rng.choice(CLASSES, 3, replace=False) if rng.random() < 0.5 else rng.integers(CLASSES)] = 1
    return weight


def _windows(worlds: Mapping[str, list[Condition]], rng: Rng) -> dict[str, list[Window]]:
    plans: list[tuple[str, str, int, Callable[[Rng], NDArray[np.float64]] | None]] = []
    plans += [(f"{world} {n}", world, n, None) for world in ("dev", "held", "clean") for n in SIZES]
    plans += [(f"{world} mix", world, 500, _uneven) for world in ("dev", "held", "clean")]
    plans += [(world, world, 500, None) for world in ("devpair", "heldpair", "alien")]
    found: dict[str, list[Window]] = {}
    for name, world, n, mix in plans:
        found[name] = []
        for c, condition in enumerate(worlds[world]):
            labels = condition.answers.labels
            for _ in range(2):
                weight = None if mix is None else mix(rng)[labels]
                p = None if weight is None else weight / weight.sum()
                rows = rng.choice(len(labels), n, replace=n > len(labels) or p is not None, p=p)
                found[name].append(Window(world, c, rows))
    return found
