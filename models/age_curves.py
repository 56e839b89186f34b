"""A world from nothing but the quality of past versions: how good would a retrained model have been?

Where retraining cannot be run again it has to be modelled, and the model is said with the result: a retrained version
starts as good as the versions of the history did and decays with its age as they did, whatever the date. Of several
versions each new model takes after one at random; beyond the age it reached it goes on as the mean of those that grew
older, and beyond all of them it stays as it is. Labels are drawn anew, as many per window as there were.

The history comes first, as the third to tune on, and two more of its length follow, in which the policies compete.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.backtest import Bits, World, near

Floats = NDArray[np.float64]
LENGTHS = 3  # the history to tune on, and twice its length to compete on
MOST_LABELS = 500  # per window: more change nothing but the time it takes


class Reading(NamedTuple):
    """Quality of one version in one of its windows, `age` windows after its first one, seen on `n` labels."""

    age: int
    quality: float
    n: float


def age_world(versions: Mapping[str, Sequence[Reading]], *, seed: int = 0) -> World:
    """A world of versions that age like these. Raises ValueError where there is nothing to age like."""
    curves = [curve for _, readings in sorted(versions.items()) if len(curve := _curve(readings))]
    if not curves:
        raise ValueError("no window with labels: without quality there is nothing to compare")
    longest = max(map(len, curves))
    mean = np.array([np.mean([c[age] for c in curves if len(c) > age]) for age in range(longest)])
    labels = [min(max(round(r.n), 1), MOST_LABELS) for readings in versions.values() for r in readings]
    count = int(np.median(labels))
    windows = LENGTHS * max(sum(map(len, curves)), 3)

    def expected(trained: int) -> Floats:
        own = curves[int(np.random.default_rng((seed, trained)).integers(len(curves)))]
        ages = np.arange(windows - trained)
        beyond = own[-1] + mean[np.minimum(ages, longest - 1)] - mean[len(own) - 1]
        return np.clip(np.where(ages < len(own), own[np.minimum(ages, len(own) - 1)], beyond), 0, 1)

    def answers(trained: int) -> list[Bits]:
        rng = np.random.default_rng((seed, trained, 1))
        return list(rng.random((windows - trained, count)) >= expected(trained)[:, None])

    kept: dict[int, Floats] = {}

    def truth(trained: int, window: int) -> float:
        if trained not in kept:
            kept[trained] = expected(trained)
        return float(kept[trained][window - trained])

    return World(windows, answers, first=0, truth=truth)


def _curve(readings: Sequence[Reading]) -> Floats:
    """Quality by age, averaged over five windows; ages without labels lie on the line between their neighbours."""
    known = [r for r in readings if r.n > 0]
    if not known:
        return np.array([])
    right, count = np.zeros((2, max(r.age for r in known) + 1))
    for r in known:
        right[r.age] += r.n * r.quality
        count[r.age] += r.n
    right, count, ages = near(right), near(count), np.arange(len(right))
    seen = count > 0
    return np.interp(ages, ages[seen], right[seen] / count[seen])
