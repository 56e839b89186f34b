"""Drift induced on purpose at registration: known accuracy under many conditions, from labelled held-out inputs.

A condition is a sequence of (family, severity 0 to 4); the empty one is clean. Windows of several sizes are drawn from
the answers under each, half of them with a mix of classes from a Dirichlet law, so that the regression learns to tell
a changed mix from harm.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models import window_sums
from models.columns import Floats, Ints
from models.error_tables import ErrorTables
from models.event_features import Answers, EventReference
from models.window_sums import Means

SEVERITIES = 5
CLEAN = 8  # clean conditions: windows without any harm must not be outnumbered
PAIRS = 100
ALIEN_DRAWS = 3  # windows of each size from every alien content
SIZES = (50, 100, 200, 500)

Condition = tuple[tuple[str, int], ...]
Induce = Callable[[Condition, int], Answers]  # condition and seed to the answers under it
Labelled = tuple[NDArray[Any], Ints]
Shift = Callable[[NDArray[Any], Ints, int, np.random.Generator], Labelled]  # inputs, labels, severity to the same


class Induced(NamedTuple):
    """The events under one condition: what is observed of them (see `Observed`), and their truth."""

    families: frozenset[str]
    features: Floats
    probability: Floats
    residual: Floats
    right: NDArray[np.bool_]
    labels: Ints

    def columns(self, right: Floats) -> Floats:
        """What each event adds to a window, with r(x) in `right`."""
        return window_sums.columns(self.features, right, self.probability, self.residual)


class Windows(NamedTuple):
    """Windows drawn from induced conditions: which of `induced`, rows of it, accuracy, size; `means` without r(x)."""

    induced: list[Induced]
    condition: Ints
    rows: list[Ints]
    truth: Floats
    n: Floats
    means: Floats

    @property
    def families(self) -> tuple[str, ...]:
        """All families that were induced, sorted."""
        return tuple(sorted(frozenset().union(*(one.families for one in self.induced))))

    def holding(self, families: frozenset[str]) -> NDArray[np.bool_]:
        """Which windows lie in a condition made by one of these families."""
        return np.array([bool(self.induced[c].families & families) for c in self.condition])


def inducer(
    shifts: Mapping[str, Shift],
    inputs: NDArray[Any],
    labels: Ints,
    model: Callable[[NDArray[Any]], tuple[NDArray[Any], NDArray[Any]]],
) -> Induce:
    """A function from conditions to answers, for a `model` that gives scores and embeddings of inputs."""

    def induce(condition: Condition, seed: int) -> Answers:
        rng = np.random.default_rng(seed)
        shifted, truth = inputs, labels
        for family, severity in condition:
            shifted, truth = shifts[family](shifted, truth, severity, rng)
        return Answers(*model(shifted), truth)

    return induce


def conditions(families: Iterable[str], rng: np.random.Generator, pairs: int = PAIRS) -> list[Condition]:
    """Clean ones, every family at every severity, and random pairs of families at the four milder severities."""
    names = tuple(families)
    found: list[Condition] = [()] * CLEAN + [((name, s),) for name in names for s in range(SEVERITIES)]
    for _ in range(pairs if len(names) > 1 else 0):
        first, second = rng.choice(len(names), 2, replace=False)
        mild = rng.integers(SEVERITIES - 1, size=2)
        found.append(((names[first], int(mild[0])), (names[second], int(mild[1]))))
    return found


def run(
    reference: EventReference, induce: Induce, found: Iterable[Condition], rng: np.random.Generator
) -> list[Induced]:
    """Answers under every condition; rows with a score that is not finite are left out."""
    induced = []
    for condition in found:
        answers = induce(condition, int(rng.integers(2**31)))
        induced.append(observe(reference, answers, frozenset(family for family, _ in condition)))
    return induced


def observe(reference: EventReference, answers: Answers, families: frozenset[str] = frozenset()) -> Induced:
    """What the estimator sees of answers whose truth is known."""
    usable, features, probability, residual = reference.observe(answers.scores, answers.embedding)
    labels = answers.labels[usable]
    return Induced(families, features, probability, residual, probability.argmax(axis=1) == labels, labels)


def draw(induced: list[Induced], rng: np.random.Generator, times: int = 1) -> Windows:
    """Windows of every size from every condition; half of them with an uneven mix of the true classes."""
    condition, rows, truth, n, means = [], [], [], [], []
    for c, one in enumerate(induced):
        columns = one.columns(np.zeros(len(one.features)))
        for size in SIZES * times:
            picked = _pick(one.labels, one.probability.shape[1], size, rng)
            condition.append(c)
            rows.append(picked)
            truth.append(one.right[picked].mean())
            n.append(size)
            means.append(columns[picked].mean(axis=0))
    return Windows(induced, np.array(condition), rows, np.array(truth), np.array(n, dtype=float), np.stack(means))


def _pick(labels: Ints, classes: int, size: int, rng: np.random.Generator) -> Ints:
    if rng.random() < 0.5:
        return rng.choice(len(labels), size, replace=size > len(labels))
    share = rng.dirichlet(np.full(classes, rng.choice([0.3, 1.0])))
    weight = share[labels]
    if not weight.sum() > 0:
        return rng.choice(len(labels), size)
    return rng.choice(len(labels), size, p=weight / weight.sum())


def window_inputs(windows: Windows, tables: ErrorTables) -> tuple[Floats, Means]:
    """Regressors (w, 12) of the windows with this r(x), and the means they are from."""
    right = [tables(one.features) for one in windows.induced]
    means = window_sums.split(windows.means, windows.induced[0].probability.shape[1])
    found = [right[c][rows].mean() for c, rows in zip(windows.condition, windows.rows, strict=True)]
    means = means._replace(right=np.array(found))
    return window_sums.regressors(means, windows.n), means
