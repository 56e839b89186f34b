"""Shared by the checks of distributions: observed categories and histograms beside the declared ones, effect and n.

Two things must hold for a mismatch: the distance is above what sampling noise reaches (significance), and the lower
end of its interval is above a tolerance (effect). No evidence is `unknown` with the reason, never `ok`; nor is `ok`
what a check says that could not have fired.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.checks.verdict import Effect
from models.distance import Distance, effective
from models.profile import MISSING, OTHER, WEIGHT, Profile

TOLERANCE = 0.02  # nats of Jensen-Shannon divergence; a shift of a normal by 0.4 sd
Array = NDArray[np.float64]
LARGEST = math.log(2)  # nats; no two distributions are further apart


def observed_n(profile: Profile, seen: float, *, of: str = "n", weight: str = "weight") -> float:
    """Effective number of observations behind a histogram whose weights add up to `seen`, in fixed point."""
    total = profile.counts.get(weight, 0)
    n = effective(profile.counts.get(of, 0), total, profile.counts.get(f"{weight}_squared", 0), WEIGHT)
    return n * (seen / WEIGHT) / max(total / WEIGHT, 1e-9)


def effect_of(distance: Distance, tolerance: float = TOLERANCE) -> Effect:
    """The distance as an effect; its threshold is what both noise and tolerance ask for."""
    return Effect(
        statistic=distance.statistic, estimate=distance.estimate, low=distance.low, high=distance.high,
        threshold=max(distance.threshold, tolerance), n=distance.n,
    )  # fmt: skip


def too_little(distance: Distance, m: int, factor: float = 1.0) -> str:
    """Why `m` reference values and the observed ones, each worth 1 / `factor`, say nothing; empty where they do."""
    if distance.threshold <= LARGEST:
        return ""
    n, m = distance.n * factor, max(m, 1)
    # The noise level goes with 1/n + 1/m, so this is the harmonic half size at which a total change would show.
    least = distance.threshold / LARGEST * n * m / (n + m)
    told = f"{n:.4g} observed values against {m} of the reference show no shift above their noise"
    if m <= least:
        return f"{told}; a reference n above {math.ceil(least)} is needed"
    return f"{told}; {math.ceil(least * m / (m - least))} observed values are needed"


def aligned(table: dict[str, int], shares: dict[str, float]) -> tuple[list[str], NDArray[Any], NDArray[Any]]:
    """Names, observed weights and declared shares of categories over the union of both; missing values are left out."""
    present = {name: count for name, count in table.items() if name != MISSING}
    names = sorted({*present, *shares})
    counts = np.array([present.get(name, 0) for name in names], dtype=np.float64)
    return names, counts, np.array([shares.get(name, 0.0) for name in names])


MOST = 58  # categories that are told apart over a season


def grouped(table: Mapping[str, int], shares: Mapping[str, float]) -> tuple[list[str], Array, Array]:
    """`aligned`, with the same names for every window: the MOST declared categories of the largest shares, and OTHER."""
    kept = sorted(shares, key=lambda k: (-shares[k], k))[:MOST]
    joined: dict[str, int] = {OTHER: 0}
    for value, weight in table.items():
        if value != MISSING:
            group = value if value in kept else OTHER
            joined[group] = joined.get(group, 0) + weight
    rest = 1.0 - sum(shares[k] for k in kept)
    return aligned(joined, {k: shares[k] for k in kept} | {OTHER: rest if rest > 1e-9 else 0.0})


def top_scores(names: list[str], shares: Array) -> Array:
    """A score per category with mean 0 and variance 1 under `shares`: is it the most frequent one?"""
    top = int(np.argmax(shares))
    spread = max(float(shares[top] * (1 - shares[top])), 1e-4) ** 0.5
    scores: Array = ((np.arange(len(names)) == top) - shares[top]) / spread
    return scores


def most_moved(now: dict[str, float], declared: dict[str, float]) -> str:
    """The category whose share moved most, in words."""
    moved = max(now, key=lambda k: abs(now[k] - declared.get(k, 0.0)))
    return f"most of it in {moved!r}: share {now[moved]:.3g}, declared {declared.get(moved, 0.0):.3g}"
