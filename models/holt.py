"""Holt's linear trend with bootstrapped residuals: the simplest forecaster of the time to threshold, as a baseline.

The smoothed level is taken for the truth (Holt 1957, reprinted doi:10.1016/j.ijforecast.2003.09.015). It knows neither
onset nor sampling error, so its raw interval holds far too seldom. It is stretched on the scale of log T by what 400
simulated series ask for (conformalised quantile regression: Romano et al. 2019, arXiv:1905.03222);
`python -m benchmarks.forecast house` prints both settings.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.forecast import Passage, Reading, passage_law, quantile
from models.passage_network import HORIZON

Floats = NDArray[np.float64]

LEVEL, SLOPE = 0.2, 0.05  # smoothing
PATHS, RESIDUALS = 1000, 60
MINIMUM = 20  # assessed windows
STRETCH, BOUND_STRETCH = 0.89, 0.89  # of log T, for 90% plus one standard error on the house series


def holt_times(values: Floats, threshold: float, seed: int) -> NDArray[np.int64]:
    """Times to threshold of simulated paths after `values`, one per window, all of them numbers."""
    rng = np.random.default_rng(seed)
    level, slope = float(values[0]), 0.0
    residuals = []
    for value in values[1:]:
        residuals.append(value - level - slope)
        smoothed = LEVEL * value + (1 - LEVEL) * (level + slope)
        level, slope = smoothed, SLOPE * (smoothed - level) + (1 - SLOPE) * slope
    steps = slope + LEVEL * rng.choice(residuals[-RESIDUALS:], (PATHS, HORIZON))
    below = level + np.cumsum(steps, axis=1) < threshold
    return np.where(below.any(axis=1), below.argmax(axis=1) + 1, HORIZON + 1)


def stretched(law: Floats, by: float) -> tuple[Floats, Floats, Floats]:
    """Two-sided interval and one-sided bound of laws P(T <= h), moved outwards on the log scale by `by`."""
    low, bound, high = (np.maximum(quantile(law, share), 1.0) for share in (0.05, 0.10, 0.95))
    shrink = np.exp(-by)
    return np.floor(low * shrink), np.minimum(np.ceil(high / shrink), HORIZON + 1), np.floor(bound * shrink)


def holt_passage(readings: Sequence[Reading], threshold: float, *, lead: float = 0.0, seed: int = 0) -> Passage:
    """The forecast after these readings, oldest first: audits where there are any, else label-free values."""
    values = [r.audit if r.audit is not None else r.label_free for r in readings]
    known = np.array([value for value in values if value is not None])
    if len(known) < MINIMUM:
        reason = f"needs {MINIMUM} assessed windows, has {len(known)}"
        return Passage(threshold=threshold, horizon=HORIZON, lead=lead, reason=reason)
    law = passage_law(holt_times(known, threshold, seed), HORIZON)
    low, high, _ = stretched(law, STRETCH)
    bound = stretched(law, BOUND_STRETCH)[2]
    within = min(max(lead, 0.0), float(HORIZON))
    return Passage(
        threshold=threshold,
        horizon=HORIZON,
        low=_within(float(low)),
        median=_within(float(quantile(law, 0.5))),
        high=_within(float(high)),
        good_for=_within(float(bound)),
        lead=lead,
        probability_within_lead=float(np.interp(within, np.arange(HORIZON + 1), law)),
        censored=float(1 - law[-1]),
    )


def _within(time: float) -> float | None:
    return time if time <= HORIZON else None
