"""When will the quality fall below its threshold? The amortised forecaster: constant work per window and forecast.

A stream of readings is kept as 65 numbers (`models.forecast_features`), four times that with a season
(`models.seasons`); a network trained on simulated decays (`models.passage_network`, `models.decays`) maps them to
P(T <= h); own history corrects its hazards and chooses its levels (`models.own_history`). It answers the same question
as `models.forecast.first_passage`, in the same words, and `python -m benchmarks.forecast` sets both side by side.

A window may bring audited and label-free quality. The bias of the label-free reading is learnt wherever both come, by
a scalar Kalman filter that forgets as in `models.forecast`. It is shared by all windows and does not average out, so it
counts as often as the level averages windows; then both readings are weighted by their precisions.

A sudden drop has no precursor. Say "for gradual decay" wherever the forecast is shown.
"""

import itertools
import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.distance import Z90
from models.forecast import BIAS_KEEPS, VAGUE, Passage, Reading, quantile, shortest_interval
from models.forecast_features import Streams
from models.own_history import Calibration
from models.passage_network import HORIZON, Network, shipped
from models.seasons import grouped, joined, seasonal_profile

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

VERSION = 1
# Assessed windows before anything is forecast: fewer were never trained on. The Kalman filter is no stand-in for them:
# its interval held the crossing in 73% of 720 forecasts after 8 to 19 windows of the demo's seeds.
MINIMUM = 20
LONGEST_SILENCE = 30  # windows without a reading, a little more than the longest outage trained on
AVERAGED = 10  # windows that the level averages over: 1 / (1 - .9)
FORGOTTEN = 400  # windows without a reading after which nothing is left to age
LATEST = 12  # windows that labels may be late; what comes without them until then waits for them
TRUSTED = 0.5  # share of the audits' error below which a label-free reading counts beside them
LEAST_ERROR = 1e-4
NOT_ALREADY = 0.005  # probability of "already below" that is not worth mentioning


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """The whole state of a forecaster, of constant size."""

    threshold: float
    season: tuple[float, ...] = ()
    window: int | None = None
    silent: int = 0
    bias: float = 0.0
    bias_variance: float = -1.0
    widest: float = -1.0  # largest bias_sd so far; -1: none so far
    unaudited: int = -1  # windows since the last audit; -1: none so far
    audit_error: float = 0.0  # standard error of the last audit
    stream: list[float] = []
    version: int = VERSION


class Forecaster:
    """Feed it readings in order of their windows, read `passage` at any time."""

    def __init__(self, threshold: float, *, season: tuple[float, ...] = (), registered: float | None = None) -> None:
        """Forecast when the true level passes `threshold`.

        `season` holds the known deviation per phase (window modulo its length), `registered` the quality at
        registration, to which losses are compared; else the first thirty windows are the reference.
        """
        self._kept = Memory(threshold=threshold, season=season)
        self._deviations, self._group = grouped(season)
        self._streams = Streams(threshold - self._deviations, registered=registered)

    @property
    def state(self) -> Memory:
        """Everything that is remembered; `from_state` goes on bit for bit."""
        return msgspec.structs.replace(self._kept, stream=self._streams.state)

    @classmethod
    def from_state(cls, state: Memory) -> "Forecaster":
        """The forecaster that was written as `state`. Raises ValueError for another version or a broken state."""
        if state.version != VERSION:
            raise ValueError(
                f"forecaster state has version {state.version}, this code reads {VERSION}; replay the readings instead"
            )
        found = cls(state.threshold, season=state.season)
        found._kept = msgspec.structs.replace(state, stream=[])
        found._streams = Streams.from_state(found._streams.thresholds, state.stream)
        return found

    @property
    def window(self) -> int | None:
        """Number of the last window that was taken in."""
        return self._kept.window

    @property
    def features(self) -> tuple[float, ...]:
        """The features of a forecast made now, at the low of the season, for `models.own_history.Resolved`."""
        return tuple(self._streams.features[0].tolist())

    def update(self, reading: Reading) -> None:
        """Add one window; windows that were left out only let time pass. Raises ValueError if it does not ascend."""
        kept = self._kept
        passed = 1 if kept.window is None else reading.window - kept.window
        if passed < 1:
            raise ValueError(f"window {reading.window} comes after window {kept.window}; readings must be ordered")
        for _ in range(min(passed - 1, FORGOTTEN)):
            self._streams.update(math.nan)
        bias, variance = _aged_bias(kept.bias, kept.bias_variance, passed, reading)
        widest = kept.widest
        if _finite(reading.label_free) is not None:
            variance, widest = _widened(variance, widest, reading.bias_sd)
        audit, audit_error = self._audit(reading)
        free, free_error = _finite(reading.label_free), max(reading.label_free_se, LEAST_ERROR)
        if audit is not None and free is not None:
            gain = variance / (variance + audit_error**2 + free_error**2)
            bias, variance = bias + gain * (free - audit - bias), variance * (1 - gain)
        free_error = math.hypot(free_error, math.sqrt(AVERAGED * max(variance, 0.0)))
        unaudited = 0 if audit is not None else kept.unaudited + passed if kept.unaudited >= 0 else -1
        labelled = audit_error if audit is not None else kept.audit_error
        if 0 <= unaudited <= LATEST and free_error > TRUSTED * labelled:
            free = None
        value, error = _weighted((audit, audit_error), (None if free is None else free - bias, free_error))
        season = kept.season[reading.window % len(kept.season)] if kept.season else 0.0
        self._streams.update(value - season, errors=error)
        silent = 0 if math.isfinite(value) else kept.silent + passed
        self._kept = msgspec.structs.replace(
            kept, window=reading.window, silent=silent, bias=bias, bias_variance=variance, widest=widest,
            unaudited=unaudited, audit_error=labelled,
        )  # fmt: skip

    def passage(
        self,
        *,
        horizon: int = HORIZON,
        lead: float = 0.0,
        calibration: Calibration | None = None,
        network: Network | None = None,
    ) -> Passage:
        """The forecast now; `lead` is the time a retrained model needs, in windows, fractions allowed.

        Raises ValueError for a horizon beyond the 120 windows the network was trained for.
        """
        threshold = self._kept.threshold
        if not 1 <= horizon <= HORIZON:
            raise ValueError(f"the horizon is 1 to {HORIZON} windows, not {horizon}; choose longer windows instead")
        reason = self._why_not()
        if reason:
            return Passage(threshold=threshold, horizon=horizon, lead=lead, reason=reason)
        calibration, network = calibration or Calibration(), network or shipped()
        features = self._streams.features
        law = joined(calibration.laws(network, features), self._group, self._kept.window or 0)[None]
        low, high, bound = cut(law, *calibration.leaves_out(features[:1]))
        ahead, within = law[0, : horizon + 1], min(max(lead, 0.0), float(horizon))
        return Passage(
            threshold=threshold,
            horizon=horizon,
            low=_within(low[0], horizon),
            median=_within(quantile(law, 0.5)[0], horizon),
            high=_within(high[0], horizon),
            good_for=_within(bound[0], horizon),
            lead=lead,
            probability_within_lead=float(np.interp(within, np.arange(horizon + 1), ahead)),
            censored=float(1 - ahead[-1]),
        )

    def _audit(self, reading: Reading) -> tuple[float | None, float]:
        audit = _finite(reading.audit)
        if audit is None or reading.audit_n <= 0:
            return audit, max(reading.audit_se, LEAST_ERROR)
        return audit, float(self._streams.binomial(audit, reading.audit_n)[0])

    def _why_not(self) -> str | None:
        """Why no forecast can be honest, or None."""
        seen, spread = int(self._streams.seen[0]), float(self._streams.level_error[0])
        if seen < MINIMUM:
            return f"needs {MINIMUM} assessed windows, has {seen}"
        if self._kept.silent > LONGEST_SILENCE:
            return f"nothing was assessed for {self._kept.silent} windows; at most {LONGEST_SILENCE} can be bridged"
        if spread > VAGUE:
            return f"the level is known to +-{Z90 * spread:.2f} only; more labels or better calibration are needed"
        return None


def forecast(
    readings: Sequence[Reading],
    threshold: float,
    *,
    horizon: int = HORIZON,
    lead: float = 0.0,
    period: int | None = None,
    registered: float | None = None,
    calibration: Calibration | None = None,
) -> Passage:
    """The forecast after these readings, oldest first. A season of known `period` is learnt from them and removed.

    Raises ValueError if the windows do not ascend.
    """
    if any(later.window <= earlier.window for earlier, later in itertools.pairwise(readings)):
        raise ValueError("readings must be ordered by window, one per window; merge the revisions of a window first")
    season = learnt_season(readings, period) if period is not None else None
    found = Forecaster(threshold, season=season or (), registered=registered)
    for reading in readings:
        found.update(reading)
    return found.passage(horizon=horizon, lead=lead, calibration=calibration)


def cut(law: Floats, interval: Floats, bound: Floats) -> tuple[Ints, Ints, Ints]:
    """Ends of the interval and the one-sided bound, in windows, that leave out these shares; all one per row."""
    worth = law.copy()
    worth[:, 0] = np.where(law[:, 0] < NOT_ALREADY, 0.0, law[:, 0])
    low, high, least = np.zeros((3, len(law)), dtype=np.int64)
    for level in np.unique(interval):
        rows = interval == level
        low[rows], high[rows] = shortest_interval(worth[rows], float(level))
    for level in np.unique(bound):
        rows = bound == level
        least[rows] = quantile(law[rows], float(level))
    return low, high, least


def learnt_season(readings: Sequence[Reading], period: int) -> tuple[float, ...] | None:
    """The profile of the season in audits where there are any, else in label-free readings."""
    audits = [r for r in readings if _finite(r.audit) is not None]
    if len(audits) >= len(readings) / 2:
        values = [r.audit or 0.0 for r in audits]
        mean = math.fsum(values) / len(values) if values else 0.5
        errors = [math.sqrt(mean * (1 - mean) / r.audit_n) if r.audit_n > 0 else r.audit_se for r in audits]
        return seasonal_profile([r.window for r in audits], values, errors, period)
    free = [r for r in readings if _finite(r.label_free) is not None]
    return seasonal_profile(
        [r.window for r in free], [r.label_free or 0.0 for r in free], [r.label_free_se for r in free], period
    )


def _aged_bias(bias: float, variance: float, passed: int, reading: Reading) -> tuple[float, float]:
    """Bias of label-free readings after some windows; its first variance is what induced drift showed."""
    if _finite(reading.label_free) is None and variance < 0:
        return 0.0, -1.0
    if variance < 0:
        return 0.0, reading.bias_sd**2
    keeps = BIAS_KEEPS**passed
    return keeps * bias, keeps**2 * variance + (1 - keeps**2) * reading.bias_sd**2


def _widened(variance: float, widest: float, bias_sd: float) -> tuple[float, float]:
    """Stronger drift than ever brings a bias of its own, of which labels have taught nothing yet.

    `widest` -1: the bias is new, or known from a state that did not keep it; nothing to compare with.
    """
    if widest < 0:
        return variance, bias_sd
    return variance + max(bias_sd**2 - widest**2, 0.0), max(widest, bias_sd)


def _weighted(first: tuple[float | None, float], second: tuple[float | None, float]) -> tuple[float, float]:
    """Mean weighted by precision, and its standard error; NaN without a value."""
    parts = [(value, error**-2) for value, error in (first, second) if value is not None]
    if not parts:
        return math.nan, math.nan
    total = math.fsum(weight for _, weight in parts)
    return math.fsum(value * weight for value, weight in parts) / total, total**-0.5


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _within(time: np.int64, horizon: int) -> float | None:
    """Plain number of windows; None beyond the horizon."""
    return float(time) if time <= horizon else None
