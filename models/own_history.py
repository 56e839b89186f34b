"""What resolved forecasts teach the next ones: corrected hazards and levels, or the defaults and a word that says so.

A forecast is resolved when the threshold was passed or the whole horizon was watched. Ten forecasts of one model are
one observation, so everything counts series. Below fifty of them nothing is refitted. A correction is only used inside
the range of the forecasts it was learnt from: with a hundredth of the labels, or a level that jumps about, the
uncorrected law is the better covered.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.conformal import ENOUGH, Levels, adapted, fit_levels
from models.forecast_features import AUTOCORRELATION, EXTREMES, GAP_OVER_ERROR, MISFIT
from models.hazards import NO_CORRECTION, law, refit
from models.passage_network import HORIZON, Network

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

GUARDED = (GAP_OVER_ERROR, MISFIT, AUTOCORRELATION, *EXTREMES)  # features outside whose range nothing was learnt
GUARD = (0.5, 99.5)  # percentiles of the history that bound the range


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """One forecast of the past and what became of it.

    `features` are those the forecast was made of. `crossing` is the window ahead in which the true level was first
    below the threshold, None if it was not seen so within the `followed` windows. Features and answers of one `series`
    (one version of a model) belong together.
    """

    series: int
    features: tuple[float, ...]
    crossing: int | None
    followed: int = HORIZON

    @property
    def time(self) -> int:
        """Windows to the crossing; beyond the horizon where it was not seen."""
        return HORIZON + 1 if self.crossing is None else min(self.crossing, HORIZON + 1)


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """How the network's law is corrected and cut. Without own history: not at all, and at the default levels."""

    theta: tuple[float, ...] = NO_CORRECTION
    least: tuple[float, ...] = ()
    most: tuple[float, ...] = ()
    levels: Levels = Levels()
    source: Literal["default", "own history", "adapted"] = "default"

    @property
    def word(self) -> str:
        """One sentence on what the levels rest on, for whoever reads the forecast."""
        if self.source == "default":
            return f"default levels: {self.levels.series} resolved series, own ones need {ENOUGH}"
        return f"levels from {self.levels.series} resolved series" + (", adapted live" * (self.source == "adapted"))

    def outside(self, features: Singles) -> NDArray[np.bool_]:
        """Which rows lie outside the range of the history, where no correction applies."""
        if not self.least:
            return np.zeros(len(features), dtype=bool)
        guarded = features[:, GUARDED]
        return np.asarray(((guarded < np.array(self.least)) | (guarded > np.array(self.most))).any(axis=1))

    def laws(self, network: Network, features: Singles, *, live: bool = True) -> Floats:
        """P(T <= h), h = 0 .. HORIZON, one row per forecast; see `models.hazards.law` for `live`."""
        cumulative = network.probabilities(features)
        plain = law(cumulative, features, live=live)
        if self.theta == NO_CORRECTION:
            return plain
        corrected = law(cumulative, features, self.theta, live=live)
        return np.where(self.outside(features)[:, None], plain, corrected)

    def leaves_out(self, features: Singles) -> tuple[Floats, Floats]:
        """Shares that interval and bound leave out, one per row; outside the range never more than by default."""
        default, outside = Levels(), self.outside(features)
        return (
            np.where(outside, min(self.levels.interval, default.interval), self.levels.interval),
            np.where(outside, min(self.levels.bound, default.bound), self.levels.bound),
        )

    def after(self, missed: float, bound_missed: float) -> "Calibration":
        """Levels moved by one more resolved series: shares of its intervals, and of its bounds, that did not hold."""
        return msgspec.structs.replace(self, levels=adapted(self.levels, missed, bound_missed), source="adapted")


def learn(network: Network, history: Sequence[Resolved]) -> Calibration:
    """Correction and levels from forecasts of the past; the default with a count where they are too few.

    Everything that was followed teaches hazards. Levels are chosen on forecasts that could be followed for the whole
    horizon, whether or not they crossed early: leaving out only those that did not would favour short times. Forecasts
    that were made below the threshold already teach neither.
    """
    told = [r for r in history if r.time > 0]
    full = [r for r in told if r.followed >= HORIZON]
    resolved = len({r.series for r in full})
    if resolved < ENOUGH:
        return Calibration(levels=Levels(series=resolved))
    features = np.array([r.features for r in told], dtype=np.float32)
    times = np.array([r.time for r in told])
    theta = refit(network.probabilities(features), features, times, np.array([r.followed for r in told]))
    least, most = np.percentile(features[:, GUARDED], GUARD, axis=0)
    found = Calibration(
        theta=tuple(theta.tolist()), least=tuple(least.tolist()), most=tuple(most.tolist()), source="own history"
    )
    rows = np.array([r.followed >= HORIZON for r in told])
    laws = found.laws(network, features[rows], live=False)
    levels = fit_levels(laws, times[rows], np.array([r.series for r in full]))
    return msgspec.structs.replace(found, levels=levels)
