"""How good an estimator of quality is on what it was not shown: each family, each alien content, left out in turn."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models import family_interval, window_sums
from models.columns import Floats
from models.family_interval import Reading
from models.induced_quality import InducedQuality
from models.registrar import Registrar

SIZE = 500  # events of the windows whose interval is reported
WINDOWS = 20  # of each alien content


class LeftOut(NamedTuple):
    """Windows of one family, read without it: mean absolute error, share of intervals that held, their mean width.

    `width` is that of windows of SIZE events. All are shares of one; NaN where there are too few families.
    """

    family: str
    error: float
    coverage: float
    width: float


class _Read(NamedTuple):
    reading: Reading
    truth: Floats


def left_out(registrar: Registrar) -> list[LeftOut]:
    """One line per family. The interval of each comes from the errors on all others."""
    families = registrar.windows.families
    read = {family: _without(family, registrar) for family in families}
    found = []
    for family, (reading, truth) in read.items():
        others = [(code, read[name]) for code, name in enumerate(families) if name != family]
        joined = Reading(*(np.concatenate(parts) for parts in zip(*(o.reading for _, o in others), strict=True)))
        codes = np.concatenate([np.full(len(o.truth), code) for code, o in others])
        interval = family_interval.fit(joined, np.concatenate([o.truth for _, o in others]), codes)
        error = float(np.abs(reading.share - truth).mean())
        if not interval.finite:
            found.append(LeftOut(family, error, np.nan, np.nan))
            continue
        half = interval.half_width(reading)
        low, high = np.maximum(reading.share - half, 0), np.minimum(reading.share + half, 1)
        inside = (low <= truth) & (truth <= high)
        found.append(LeftOut(family, error, float(inside.mean()), float((high - low)[reading.n == SIZE].mean())))
    return found


def _without(family: str, registrar: Registrar) -> _Read:
    """The windows that hold the family, read by a regression that has not seen it."""
    windows, held = registrar.windows, registrar.windows.holding(frozenset({family}))
    drift = registrar.drift(frozenset({family}))
    share, distance = drift.ridge(drift.inputs[held])
    return _Read(
        Reading(share, distance, windows.n[held], window_sums.unevenness(drift.means)[held]), windows.truth[held]
    )


def unknown_share(
    quality: InducedQuality, scores: NDArray[Any], embedding: NDArray[Any], rng: np.random.Generator
) -> float:
    """The share of WINDOWS windows of SIZE of these events (n, …) that are told to be unlike all induced drift."""
    told = 0
    for _ in range(WINDOWS):
        rows = rng.choice(len(scores), SIZE, replace=len(scores) < SIZE)
        told += quality.read(quality.sums(scores[rows], embedding[rows]), SIZE).estimate is None
    return told / WINDOWS
