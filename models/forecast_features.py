"""What a forecaster remembers of a stream of quality readings, and the 42 scale-free numbers it makes of it.

A stream keeps 65 numbers, whatever its length: discounted sums at five memories, from which level, slope and their
errors follow by weighted least squares; two CUSUMs of the loss since the reference (Page 1954); the misfit and its
autocorrelation; the lowest and highest level so far, and how often it recovered. Every feature is a ratio to the gap
between reference and threshold or to a standard error, so any level, threshold and number of labels looks alike. The
age of the model is left out on purpose: it would only teach when the simulated decays began.

`Streams` holds many streams side by side, which training needs; a deployed one is `Streams` of one.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

MEMORIES = np.array([0.6, 0.8, 0.9, 0.95, 0.98])
REFERENCE = 30  # windows that make the reference where none is registered
SLACK = np.array([0.25, 0.75])  # of the CUSUMs, in standard errors
LEAST_VARIANCE = 0.02  # of one label: a share near 1 is not known as exactly as its own variance says
PRIOR = 4.0  # pseudo-windows with unit misfit
SUMS = 10  # S0 S1 S2 Y0 Y1 of the weights w = 1/se^2, Q0 Q1 Q2 of w at squared memory, YY, C: see `Streams.update`
SCALARS = 15  # reference sum and count, CUSUMs, their ages, misfit, extremes, recoveries, windows seen, last error
FEATURES = 42
GAP_OVER_ERROR, MISFIT, CHANGE, AUTOCORRELATION, EXTREMES = 0, 2, 4, 7, (8, 9, 10, 11)  # places of features


class Streams:
    """State of S streams: `update` once per window, in order, then read `features`.

    Values are qualities (shares), standard errors likewise; a missing window is NaN and only lets time pass.
    """

    def __init__(self, thresholds: ArrayLike, *, registered: ArrayLike | None = None) -> None:
        """Begin with nothing seen. `registered` is the quality at registration; else the first windows tell it."""
        self.thresholds = np.atleast_1d(np.asarray(thresholds, dtype=np.float64))
        streams = len(self.thresholds)
        self._sums = np.zeros((streams, len(MEMORIES), SUMS))
        self._scalars = np.zeros((streams, SCALARS))
        self._scalars[:, 14] = 0.1
        if registered is not None:
            self._scalars[:, 0] = REFERENCE * (np.asarray(registered) - self.thresholds)
            self._scalars[:, 1] = REFERENCE

    # Named parts of the scalars, so that the state is two arrays and nothing else.
    @property
    def _reference(self) -> Floats:
        """Mean gap to the threshold over the reference windows."""
        return self._scalars[:, 0] / np.maximum(self._scalars[:, 1], 1)

    @property
    def seen(self) -> Floats:
        """Windows with a reading, per stream."""
        return self._scalars[:, 13]

    @property
    def error(self) -> Floats:
        """Standard error of the last reading, per stream."""
        return self._scalars[:, 14]

    @property
    def level(self) -> Floats:
        """Quality now, at memory .9; NaN before the first reading."""
        weight = self._sums[:, 2, 0]
        return np.where(weight > 0, self.thresholds + self._sums[:, 2, 3] / np.maximum(weight, 1e-100), np.nan)

    @property
    def level_error(self) -> Floats:
        """Standard error of `level`; infinite before the first reading."""
        weight = self._sums[:, 2, 0]
        return np.where(weight > 0, np.sqrt(self._sums[:, 2, 5]) / np.maximum(weight, 1e-100), np.inf)

    @property
    def state(self) -> list[float]:
        """Everything that is remembered beside the thresholds, as plain numbers, 65 per stream."""
        return [*self._sums.ravel().tolist(), *self._scalars.ravel().tolist()]

    @classmethod
    def from_state(cls, thresholds: ArrayLike, state: list[float]) -> "Streams":
        """The streams that were written as `state`; they go on bit for bit. Raises ValueError for another length."""
        streams = cls(thresholds)
        sums, scalars = streams._sums, streams._scalars
        expected = sums.size + scalars.size
        if len(state) != expected:
            raise ValueError(f"a forecaster remembers {expected} numbers, this state has {len(state)}; start afresh")
        sums[:] = np.reshape(state[: sums.size], sums.shape)
        scalars[:] = np.reshape(state[sums.size :], scalars.shape)
        return streams

    def take(self, rows: NDArray[np.int64]) -> "Streams":
        """A copy of some streams, in this order."""
        taken = Streams(self.thresholds[rows])
        taken._sums[:], taken._scalars[:] = self._sums[rows], self._scalars[rows]
        return taken

    def update(self, values: ArrayLike, *, labels: ArrayLike = 0.0, errors: ArrayLike = np.nan) -> None:
        """Add one window to every stream: qualities, and either labels per window or standard errors.

        A binomial error is taken from the level so far, not from the window's own share, which is small by luck where
        the share is high by luck.
        """
        values = np.broadcast_to(np.asarray(values, dtype=np.float64), self.seen.shape)
        labels = np.broadcast_to(np.asarray(labels, dtype=np.float64), self.seen.shape)
        given = np.broadcast_to(np.asarray(errors, dtype=np.float64), self.seen.shape)
        ok = np.isfinite(values) & ((labels > 0) | (given > 0))
        gap = np.where(ok, values - self.thresholds, 0.0)
        sums = self._sums
        weight = np.maximum(sums[:, 2, 0], 1e-12)
        level = sums[:, 2, 3] / weight
        error = np.where(given > 0, given, 1.0)
        if (labels > 0).any():
            error = np.where(labels > 0, self.binomial(values, labels), error)
        self._misfit(gap - level, np.sqrt(error**2 + sums[:, 2, 5] / weight**2), ok)
        self._scalars[:, 14] = np.where(ok, error, self.error)
        self._age_sums()
        precision = ok / error**2
        for place, addition in (
            (0, precision),
            (3, precision * gap),
            (5, precision),
            (8, precision * gap**2),
            (9, ok),
        ):
            sums[:, :, place] += addition[:, None]
        self._change(gap, ok)

    def binomial(self, values: ArrayLike, labels: ArrayLike) -> Floats:
        """Standard error of a share of so many labels, at the level so far; before there is one at `values`."""
        share = np.where(self.seen > 0, self.level, np.nan_to_num(values))
        return np.asarray(np.sqrt(np.maximum(share * (1 - share), LEAST_VARIANCE) / np.maximum(labels, 1)))

    def _age_sums(self) -> None:
        """One window passes: S0 = sum w, S1 = sum w age, S2 = sum w age^2, all discounted; Y with the values."""
        s0, s1, s2, y0, y1, q0, q1, q2, yy, c = np.moveaxis(self._sums, 2, 0)
        m, squared = MEMORIES, MEMORIES**2
        self._sums[:] = np.stack(
            [
                *(m * s0, m * (s1 + s0), m * (s2 + 2 * s1 + s0), m * y0, m * (y1 + y0)),
                *(squared * q0, squared * (q1 + q0), squared * (q2 + 2 * q1 + q0), m * yy, m * c),
            ],
            axis=2,
        )

    def _misfit(self, residual: Floats, spread: Floats, ok: NDArray[np.bool_]) -> None:
        """Discounted squares and lagged products of what the level at memory .9 did not foresee."""
        counts = ok & (self.seen > 3)
        e = np.clip(residual / spread * counts, -6, 6)
        old = self._scalars[:, 6:10]
        new = np.stack([0.95 * old[:, 0] + e * e, 0.95 * old[:, 1] + 1, 0.95 * old[:, 2] + e * old[:, 3], e], axis=1)
        self._scalars[:, 6:10] = np.where(counts[:, None], new, old)

    def _change(self, gap: Floats, ok: NDArray[np.bool_]) -> None:
        """Reference, CUSUMs with their ages, recoveries, and the extremes of the level at memory .8."""
        kept = self._scalars
        kept[:, 0:2] += np.stack([gap, ok], axis=1) * (ok & (kept[:, 1] < REFERENCE))[:, None]
        reference = self._reference
        loss = np.clip((reference - gap) / self.error, -4, 4)[:, None]
        cusum = np.where(ok[:, None], np.maximum(0, kept[:, 2:4] + loss - SLACK), kept[:, 2:4])
        kept[:, 12] += (kept[:, 2] > 6) & (cusum[:, 0] == 0)
        kept[:, 2:4] = cusum
        kept[:, 4:6] = (kept[:, 4:6] + 1) * (cusum > 0)
        kept[:, 13] += ok
        short = self._sums[:, 1, 3] / np.maximum(self._sums[:, 1, 0], 1e-12) - reference
        extremes = np.stack([np.minimum(kept[:, 10], short), np.maximum(kept[:, 11], short)], axis=1)
        kept[:, 10:12] = np.where((self.seen > 4)[:, None], extremes, kept[:, 10:12])

    @property
    def features(self) -> NDArray[np.float32]:
        """The 42 features per stream, clipped to +-8; before the first reading they mean nothing."""
        with np.errstate(all="ignore"):  # before the first reading
            return self._features()

    def _features(self) -> NDArray[np.float32]:
        kept, error, reference = self._scalars, self.error, self._reference
        gap = np.maximum(reference, 0.3 * error)
        short = self._sums[:, 1, 3] / np.maximum(self._sums[:, 1, 0], 1e-100) - reference
        found = [
            np.log(gap / error),
            np.log1p(np.minimum(self.seen, 60)),
            np.log((kept[:, 6] + PRIOR) / (kept[:, 7] + PRIOR)),
            *np.log1p(kept[:, 2:6]).T,
            kept[:, 8] / (kept[:, 6] + PRIOR),
            -kept[:, 10] / gap,
            np.arcsinh((short - kept[:, 10]) / error),
            np.arcsinh(kept[:, 11] / error),
            np.log1p(kept[:, 12]),
        ]
        for memory in range(len(MEMORIES)):
            found += self._trend(memory, gap, reference)
        stacked = np.nan_to_num(np.clip(np.stack(found, axis=1), -8, 8))
        return np.asarray(stacked, dtype=np.float32)

    def _trend(self, memory: int, gap: Floats, reference: Floats) -> list[Floats]:
        """Features of one memory: level, slope (loss per window is positive), time to threshold, misfit of the line."""
        s0, s1, s2, y0, y1, q0, q1, q2, yy, c = self._sums[:, memory].T
        s0 = np.maximum(s0, 1e-100)
        error = self.error
        det = np.maximum(s0 * s2 - s1 * s1, 1e-6 * s0 * s0)
        mean, loss = y0 / s0, (s0 * y1 - s1 * y0) / det
        level = (y0 - loss * s1) / s0
        loss_variance = np.maximum((s0**2 * q2 - 2 * s0 * s1 * q1 + s1**2 * q0) / det**2, 1e-16)
        spread = np.sqrt(q0 / s0**2 + error**2 / np.maximum(self._scalars[:, 1], 1))
        found = [mean / gap, np.arcsinh((reference - mean) / spread), np.arcsinh(-loss / np.sqrt(loss_variance))]
        if memory > 0:  # the shortest memory is too short for a line
            naive = np.maximum(level, 0.05 * error + 0.02 * gap) / np.maximum(loss, gap / 1000)
            found += [np.arcsinh(-60 * loss / gap), level / gap, np.log(naive)]
        if memory > 1:
            squares = np.maximum(yy - level * y0 - loss * y1, 0)
            found.append(np.log((squares + PRIOR) / (c + PRIOR)))
        return found
