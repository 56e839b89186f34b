"""Kinds of traffic without change, and how figures are told; shared by the benchmarks of run lengths."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.stats import binom, binomtest

from models.run_length import RunLength

Floats = NDArray[np.float64]


def autoregressive(n: int, rng: np.random.Generator, phi: float = 0.9) -> Floats:
    """AR(1) of unit variance."""
    noise = rng.standard_normal(n + 500) * np.sqrt(1 - phi**2)
    return np.asarray(lfilter([1], [1, -phi], noise)[500:])


def daily(n: int, rng: np.random.Generator, per_day: int) -> Floats:
    """A daily cycle, and AR(1) .5 noise."""
    return np.asarray(np.sqrt(2) * np.sin(2 * np.pi * np.arange(n) / per_day) + autoregressive(n, rng, 0.5))


def bursts(n: int, rng: np.random.Generator) -> Floats:
    """Noise, and 5% of the time bursts of 3 sd that last 20 ticks on average."""
    ends = np.cumsum(rng.geometric([1 / 380, 1 / 20], (n // 200 + 50, 2)).ravel())
    inside = np.searchsorted(ends, np.arange(n), side="right") % 2
    return np.asarray((rng.standard_normal(n) + 3 * inside) / 1.2)


class Kind(NamedTuple):
    """A kind of traffic without change: `draw(n, rng, ticks per day)`, whether it has a daily cycle, and its sd."""

    draw: Callable[[int, np.random.Generator, int], Floats]
    cyclic: bool
    sd: float


TRAFFIC = {
    "iid": Kind(lambda n, rng, _: rng.standard_normal(n), False, 1.0),
    "AR(1) .9": Kind(lambda n, rng, _: autoregressive(n, rng), False, 1.0),
    "daily cycle": Kind(daily, True, 1.4),
    "bursts": Kind(lambda n, rng, _: bursts(n, rng), False, 1.0),
}


def interval(values: list[float]) -> tuple[float, float, float]:
    """The median with its 95% interval by order statistics; of few values that is their range."""
    ordered, n = sorted(values), len(values)
    low = max(int(binom.ppf(0.025, n, 0.5)) - 1, 0)
    return float(np.median(ordered)), ordered[low], ordered[n - 1 - low]


def median(values: list[float]) -> str:
    """`interval` in words."""
    told = [f"{v:.0f}" if np.isfinite(v) else "never" for v in interval(values)]
    return f"{told[0]} ({told[1]}-{told[2]})"


def outcome(ours: list[float], theirs: list[float]) -> str:
    """On how many of the same streams ours was sooner and later; a tie where a sign test at 5% sees no difference."""
    sooner = sum(a < b for a, b in zip(ours, theirs, strict=True))
    later = sum(a > b for a, b in zip(ours, theirs, strict=True))
    clear = sooner + later > 0 and binomtest(sooner, sooner + later).pvalue < 0.05
    return f"{'tie' if not clear else 'won' if sooner > later else 'lost'} {sooner}:{later}"


def rate(found: RunLength) -> str:
    """Alarms per promised run length, with their interval."""
    low = 0.0 if found.high is None else found.promised / found.high
    return f"{found.alarms / found.ticks * found.promised:.2f} ({low:.2f}-{found.promised / found.low:.2f})"
