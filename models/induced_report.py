"""How good an estimator of quality is on drift that it was not shown: each family left out in turn."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models import family_interval, kernel_ridge
from models.columns import Floats
from models.family_interval import Reading
from models.induced_quality import InducedQuality
from models.induction import Induced, Windows, error_tables, window_inputs

SIZE = 500  # events of the windows whose interval is reported


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


def left_out(induced: list[Induced], windows: Windows) -> list[LeftOut]:
    """One line per family. The interval of each comes from the errors on all others."""
    families = sorted(frozenset().union(*(one.families for one in induced)))
    read = {family: _without(family, induced, windows) for family in families}
    found = []
    for family, (reading, truth) in read.items():
        others = [(code, other) for code, name in enumerate(families) if name != family for other in [read[name]]]
        joined = Reading(*(np.concatenate(parts) for parts in zip(*(o.reading for _, o in others), strict=True)))
        codes = np.concatenate([np.full(len(o.truth), code) for code, o in others])
        interval = family_interval.fit(joined, np.concatenate([o.truth for _, o in others]), codes)
        half = interval.half_width(reading)
        low, high = np.maximum(reading.share - half, 0), np.minimum(reading.share + half, 1)
        error = float(np.abs(reading.share - truth).mean())
        if not interval.finite:
            found.append(LeftOut(family, error, np.nan, np.nan))
            continue
        inside = (low <= truth) & (truth <= high)
        found.append(LeftOut(family, error, float(inside.mean()), float((high - low)[reading.n == SIZE].mean())))
    return found


def _without(family: str, induced: list[Induced], windows: Windows) -> _Read:
    """The windows that hold the family, read by a regression that has not seen it."""
    inputs, uneven = window_inputs(induced, windows, error_tables(induced, frozenset({family})))
    held = np.array([family in induced[c].families for c in windows.condition])
    share, distance = kernel_ridge.fit(inputs[~held], windows.truth[~held])(inputs[held])
    return _Read(Reading(share, distance, windows.n[held], uneven[held]), windows.truth[held])


def unknown_share(
    quality: InducedQuality, scores: NDArray[Any], embedding: NDArray[Any], rng: np.random.Generator
) -> float:
    """The share of twenty windows of SIZE of these events (n, …) that are told to be unlike all induced drift."""
    told = 0
    for _ in range(20):
        rows = rng.choice(len(scores), SIZE, replace=len(scores) < SIZE)
        told += quality.read(quality.sums(scores[rows], embedding[rows]), SIZE).estimate is None
    return told / 20
