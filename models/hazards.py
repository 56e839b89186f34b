"""What one's own history says about the forecasts: the hazards of the network, refitted by six numbers.

A forecast is a hazard per class of windows ahead: the chance to cross the threshold there, given that the level held
so long. Own history corrects its logit by a line in the forecast itself, in the distance ahead and in the evidence of
change. The fit is a logistic regression over every class that a forecast has lived through, with a ridge towards no
correction (Cox 1958 for the recalibrating line; discrete-time survival with exact censoring: Singer & Willett 1993,
doi:10.3102/10769986018002155). A forecast that was followed for 40 windows only teaches 40 windows of hazard.
"""

import numpy as np
from numpy.typing import NDArray

from models.forecast_features import CHANGE
from models.passage_network import EDGES, HORIZON, every_window

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NO_CORRECTION = (-3.0, 1.0, 0.0, 0.0, 0.0, 0.0)
RIDGE = 20.0
LIMIT = 40.0  # of logits: beyond it a hazard is 0 or 1 in double precision
STEPS = 12  # of Newton's method; it has converged long before


def design(cumulative: Floats, features: NDArray[np.float32]) -> Floats:
    """Covariates of every hazard, shape (forecasts, classes ahead, 6), from P(T <= EDGES) and the features."""
    survival = 1 - (cumulative - cumulative[:, :1]) / np.maximum(1 - cumulative[:, :1], 1e-9)
    hazard = np.clip(1 - survival[:, 1:] / np.maximum(survival[:, :-1], 1e-9), 1e-5, 0.999)
    logit = np.log(hazard / (1 - hazard)) + 3
    far = np.broadcast_to(np.log(EDGES[1:]) - 3, logit.shape)
    change = np.broadcast_to((np.minimum(features[:, CHANGE], 3) / 1.5 - 1)[:, None], logit.shape)
    return np.stack([np.ones_like(logit), logit, far, change, change * far, change * logit], axis=2)


def refit(cumulative: Floats, features: NDArray[np.float32], times: Ints, followed: Ints | None = None) -> Floats:
    """The six numbers. `times` counts windows to the crossing (above the follow-up: not seen), all of them > 0.

    `followed` is the number of windows watched after each forecast, HORIZON where none is given; a class that was not
    watched to its end teaches nothing, unless the crossing was seen in it.
    """
    covariates = design(cumulative, features)
    watched = np.full(len(times), HORIZON) if followed is None else np.minimum(followed, HORIZON)
    crossed = times <= watched
    last = np.where(crossed, np.searchsorted(EDGES, times) - 1, np.searchsorted(EDGES, watched, side="right") - 2)
    ahead = np.arange(len(EDGES) - 1)
    at_risk = ahead <= last[:, None]
    event = (crossed[:, None] & (ahead == last[:, None]))[at_risk].astype(np.float64)
    rows, start = covariates[at_risk], np.array(NO_CORRECTION)
    theta = start.copy()
    for _ in range(STEPS):
        mean = 1 / (1 + np.exp(-np.clip(rows @ theta, -LIMIT, LIMIT)))
        curvature = (rows.T * (mean * (1 - mean))) @ rows + RIDGE * np.eye(len(theta))
        theta = theta + np.linalg.solve(curvature, rows.T @ (event - mean) - RIDGE * (theta - start))
    return theta


def law(
    cumulative: Floats, features: NDArray[np.float32], theta: tuple[float, ...] = NO_CORRECTION, *, live: bool = True
) -> Floats:
    """P(T <= h), h = 0 .. HORIZON, with corrected hazards; one row per forecast.

    Live laws keep the chance that the level is below already. Without `live` they are given that it still holds.
    """
    logit = np.clip(design(cumulative, features) @ np.asarray(theta), -LIMIT, LIMIT)
    hazard = 1 / (1 + np.exp(-logit))
    survival = np.cumprod(np.concatenate([np.ones((len(hazard), 1)), 1 - hazard], axis=1), axis=1)
    ahead = every_window(1 - survival)
    already = cumulative[:, :1]
    return already + (1 - already) * ahead if live else ahead
