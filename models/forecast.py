"""When will the quality fall below its threshold? A Kalman baseline whose interval can be believed.

Hidden are the true level, its slope per window, and the bias of the label-free reading. A window brings up to two
observations, each with its known variance: audited accuracy = level + noise, label-free = level + bias + noise. The
bias moves slowly within what induced drift showed, so labels teach it and label-free readings carry on between them.
A few process noises are tried and mixed by their marginal likelihood (Harvey 1989, Forecasting, Structural Time
Series Models and the Kalman Filter, ch. 3-4; Bayesian model averaging instead of picking one).

Time to threshold is the first passage of the simulated *true* level. A trend model alone cannot see a decay that has
not begun, so every path may also start one at a random onset. The interval is the shortest that leaves out a share
chosen conformally: the largest share whose interval still covered 90% of the truths on simulated series, which
`benchmarks/forecast.py` calibrates and then tests on others (Angelopoulos et al. 2022, arXiv:2208.02814, for choosing
such a knob; the unit that is exchangeable is the series).
"""

import itertools
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.distance import Z90
from models.quality import Estimate

MEMORY = 180  # windows
MINIMUM = 8  # assessed windows before anything is forecast
VAGUE = 0.10  # standard deviation of the level above which a forecast would be empty words

# Process noises: standard deviations of the slope's change per window (the level itself moves by its slope only, a
# "smooth trend"). The bias keeps this share of itself from window to window, so it forgets over some 200 windows.
SLOPE_NOISES = (1e-5, 1e-4, 3e-4, 1e-3, 3e-3)
# Evidence for a process noise fades by this factor per window: a long calm past must not outvote a fresh decay.
EVIDENCE_KEEPS = 0.97
BIAS_KEEPS = 0.995
FRESH_LEVEL = 0.5
FRESH_SLOPE = 1e-3

# A decay not yet begun: its hazard per window, and the log-uniform range of windows it takes to use up the gap.
ONSET_HAZARD = 1 / 60
DECAY_WINDOWS = (12.0, 250.0)

# The filter's own interval of the level is too narrow while a decay begins, which labels of days ago cannot show: over
# the days of six seeds of the demo (labels 3 to 5 days late) it held the truth on 78%, with this factor on 89%.
WIDENED = 1.4

# Shares left out by the two-sided interval and by the one-sided bound. For 90% coverage plus one standard error
# `python -m benchmarks.forecast kalman` allows .144 and .146 (seed 52001, 400 series of five kinds of decay, 500 labels
# a window). They stay at .12, because far fewer labels than there leave the coverage a little short.
LEAVES_OUT = 0.12
BOUND_LEAVES_OUT = 0.12


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What one window says. Standard errors (`_se`) are of sampling alone, `bias_sd` is of the systematic part.

    `window` counts windows. `audit_n`, the effective number of labels, is used instead of `audit_se` if given: an
    error taken from the window's own share is small where the share is high by luck, and would weigh luck more. Without
    a reading of its own a window only says that time has passed.
    """

    window: int
    audit: float | None = None
    audit_se: float = 0.0
    audit_n: float = 0.0
    label_free: float | None = None
    label_free_se: float = 0.0
    bias_sd: float = 0.05


class Component(msgspec.Struct, frozen=True):
    """One process noise: its posterior weight, and mean and covariance of (level, slope)."""

    weight: float
    slope_noise: float
    level: float
    slope: float
    variance: float
    covariance: float
    slope_variance: float


class Filtered(msgspec.Struct, frozen=True, kw_only=True):
    """The state after the last window. `level`, `slope` and `covariance` (2 x 2) are moments of the mixture."""

    level: float = math.nan
    slope: float = math.nan
    covariance: tuple[tuple[float, float], tuple[float, float]] = ((math.inf, 0.0), (0.0, math.inf))
    n_windows: int = 0
    basis: Literal["labels", "label-free", "both", "none"] = "none"
    components: tuple[Component, ...] = ()


class Passage(msgspec.Struct, frozen=True, kw_only=True):
    """Windows until the true level is below `threshold`.

    None means beyond `horizon`, or that there is no forecast if `reason` is set.
    `low` and `high` hold the time with 90% confidence, `good_for` alone is the one-sided 90% bound ("good for at
    least"); 0 means that it may be below already. `censored` is the share of paths beyond the horizon.
    """

    threshold: float
    horizon: int = 120
    low: float | None = None
    median: float | None = None
    high: float | None = None
    good_for: float | None = None
    lead: float = 0.0
    probability_within_lead: float | None = None
    censored: float | None = None
    reason: str | None = None


def reading(window: int, audit: Estimate, label_free: Estimate) -> Reading:
    """What the two estimates of one window say to the filter; an estimate without a number is left out.

    Half the width of a 90% interval stands for `Z90` standard errors. What a label-free interval holds beyond sampling
    noise is systematic.
    """
    spread = _standard_error(label_free)
    e, n = label_free.estimate, label_free.n
    sampling = math.sqrt(max(e * (1 - e), 0.5 / n) / n) if e is not None and n > 0 else 0.0
    return Reading(
        window=window,
        audit=audit.estimate,
        audit_se=_standard_error(audit),
        audit_n=audit.n_effective or 0.0,
        label_free=e,
        label_free_se=min(sampling, spread),
        bias_sd=math.sqrt(max(spread**2 - sampling**2, 0.0)),
    )


def filter_quality(readings: Sequence[Reading]) -> Filtered:
    """Filter the last `MEMORY` windows, oldest first; windows without a reading only predict.

    Raises ValueError if the windows do not ascend.
    """
    if any(later.window <= earlier.window for earlier, later in itertools.pairwise(readings)):
        raise ValueError("readings must be ordered by window, one per window; merge the revisions of a window first")
    if readings:
        readings = [r for r in readings if r.window > readings[-1].window - MEMORY]
    used = [r for r in readings if r.audit is not None or r.label_free is not None]
    if not used:
        return Filtered()
    ahead = readings[-1].window - used[-1].window
    used = _with_pooled_errors(used)
    seen = _seen(used)
    runs = [_kalman(used, seen, slope_noise, ahead) for slope_noise in SLOPE_NOISES]
    best = max(likelihood for likelihood, _ in runs)
    total = math.fsum(math.exp(likelihood - best) for likelihood, _ in runs)
    parts = tuple(
        Component(math.exp(likelihood - best) / total, noise, *moments)
        for (likelihood, moments), noise in zip(runs, SLOPE_NOISES, strict=True)
    )
    labels, confidences = any(r.audit is not None for r in used), any(r.label_free is not None for r in used)
    basis: Literal["labels", "label-free", "both"] = (
        "both" if labels and confidences else "labels" if labels else "label-free"
    )
    return _moments(parts, len(used), basis)


def current_quality(filtered: Filtered, metric: str = "accuracy") -> Estimate:
    """The level now with its 90% interval; `n` counts assessed windows. No evidence gives the reason instead."""
    if filtered.n_windows == 0:
        return Estimate(metric=metric, reason="no window with labels or a calibrated label-free reading yet")
    reach = WIDENED * Z90 * math.sqrt(filtered.covariance[0][0])
    low, value, high = (min(max(filtered.level + d, 0.0), 1.0) for d in (-reach, 0.0, reach))
    return Estimate(metric=metric, estimate=value, low=low, high=high, n=filtered.n_windows, basis=filtered.basis)


def first_passage(
    filtered: Filtered,
    threshold: float,
    *,
    horizon: int = 120,
    lead: float = 0.0,
    seed: int = 0,
    paths: int = 1000,
) -> Passage:
    """Forecast the first window whose true level is below `threshold`; the same seed gives the same forecast.

    `lead` is the time a retrained model needs, in windows, fractions allowed.
    """
    reason = _why_not(filtered)
    if reason:
        return Passage(threshold=threshold, horizon=horizon, lead=lead, reason=reason)
    times = simulate(filtered, threshold, horizon=horizon, seed=seed, paths=paths)
    law = passage_law(times, horizon)
    low, high = shortest_interval(law, LEAVES_OUT)
    within = min(max(lead, 0.0), float(horizon))
    return Passage(
        threshold=threshold,
        horizon=horizon,
        low=_within(low, horizon),
        median=_within(quantile(law, 0.5), horizon),
        high=_within(high, horizon),
        good_for=_within(quantile(law, BOUND_LEAVES_OUT), horizon),
        lead=lead,
        probability_within_lead=float(np.interp(within, np.arange(horizon + 1), law)),
        censored=float(1 - law[-1]),
    )


def passage_law(times: NDArray[np.int64], horizon: int) -> NDArray[np.float64]:
    """P(T <= h) for h = 0 .. horizon, from simulated first-passage times."""
    return np.asarray(np.searchsorted(np.sort(times), np.arange(horizon + 1), side="right") / len(times))


def quantile(law: NDArray[np.float64], share: float) -> NDArray[np.int64]:
    """Smallest h with P(T <= h) >= share, horizon + 1 if there is none; laws run along the last axis."""
    reached = law >= share - 1e-12
    return np.asarray(np.where(reached.any(axis=-1), reached.argmax(axis=-1), law.shape[-1]))


def shortest_interval(law: NDArray[np.float64], leaves_out: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The shortest of eleven intervals that leave out a share, split differently between their two ends."""
    beyond = law.shape[-1]
    low = np.where(law[..., 0] > 0, 0, 1)
    high = quantile(law, 1 - leaves_out)
    for part in np.linspace(0, 1, 11)[1:]:
        other_low = quantile(law, leaves_out * part)
        other_high = quantile(law, 1 - leaves_out * (1 - part)) if part < 1 else np.full_like(high, beyond)
        shorter = other_high - other_low < high - low
        low, high = np.where(shorter, other_low, low), np.where(shorter, other_high, high)
    return low, high


def simulate(
    filtered: Filtered, threshold: float, *, horizon: int, seed: int, paths: int, hazard: float = ONSET_HAZARD
) -> NDArray[np.int64]:
    """First-passage times of simulated true levels, in windows: 0 below already, horizon + 1 not within it."""
    rng = np.random.default_rng(seed)
    # Systematic shares of the components: no sampling noise from drawing them.
    weights = np.cumsum([c.weight for c in filtered.components])
    which = np.minimum(np.searchsorted(weights, (np.arange(paths) + 0.5) / paths), len(weights) - 1)
    mean, slope, variance, covariance, slope_variance, noise = np.array(
        [[c.level, c.slope, c.variance, c.covariance, c.slope_variance, c.slope_noise] for c in filtered.components]
    )[which].T
    z = rng.standard_normal((2, paths))
    level = mean + np.sqrt(variance) * z[0]
    rest = np.sqrt(np.maximum(slope_variance - covariance**2 / variance, 0.0))
    slope = slope + covariance / np.sqrt(variance) * z[0] + rest * z[1]
    # Windows first: the running sums below then work on whole vectors of paths. Single precision is plenty here.
    slopes = rng.standard_normal((horizon, paths), dtype=np.float32)
    slopes *= noise.astype(np.float32)
    slopes[0] += slope.astype(np.float32)
    np.cumsum(slopes, axis=0, out=slopes)
    levels = np.cumsum(slopes, axis=0, out=slopes)
    gap = level - threshold
    if hazard > 0:
        levels -= _onsets(rng, np.maximum(gap, 0.0), horizon, hazard)
    below = levels < -gap.astype(np.float32)
    first = np.where(below.any(axis=0), below.argmax(axis=0) + 1, horizon + 1)
    return np.asarray(np.where(gap < 0, 0, first), dtype=np.int64)


def _onsets(rng: np.random.Generator, gap: NDArray[np.float64], horizon: int, hazard: float) -> NDArray[np.float32]:
    """Loss by decays yet to begin, shape (horizon, paths)."""
    onset = rng.exponential(1 / hazard, gap.shape).astype(np.float32)
    lasts = np.exp(rng.uniform(math.log(DECAY_WINDOWS[0]), math.log(DECAY_WINDOWS[1]), gap.shape))
    age = np.arange(1, horizon + 1, dtype=np.float32)[:, None] - onset
    np.maximum(age, 0.0, out=age)
    age *= (gap / lasts).astype(np.float32)
    return age


def _with_pooled_errors(used: Sequence[Reading]) -> list[Reading]:
    """Standard errors of audits from the accuracy over all windows, which no single lucky window can shrink."""
    total = math.fsum(r.audit_n for r in used if r.audit is not None)
    right = math.fsum(r.audit_n * r.audit for r in used if r.audit is not None)
    share = min(max((right + 0.5) / (total + 1), 0.0), 1.0)
    return [
        msgspec.structs.replace(r, audit_se=math.sqrt(share * (1 - share) / r.audit_n)) if r.audit_n > 0 else r
        for r in used
    ]


class _Seen(NamedTuple):
    """A reading as the filter steps over it, the same for every process noise."""

    passed: int  # windows since the one before
    fades: float  # what that leaves of the evidence for a process noise
    moved: float  # variance that the bias gains per window
    audit: float | None
    audit_noise: float
    free: float | None
    free_noise: float
    brings: float  # variance of the bias that comes with stronger drift than ever


def _seen(used: Sequence[Reading]) -> list[_Seen]:
    found, window = [], used[0].window
    widest = next((r.bias_sd for r in used if r.label_free is not None), 0.0)
    for one in used:
        passed, brings = one.window - window, 0.0
        if one.label_free is not None:
            # Stronger drift than ever brings a bias of its own, of which labels have taught nothing yet.
            brings, widest = max(one.bias_sd**2 - widest**2, 0.0), max(widest, one.bias_sd)
        found.append(
            _Seen(
                passed, EVIDENCE_KEEPS**passed, (1 - BIAS_KEEPS * BIAS_KEEPS) * one.bias_sd**2,
                one.audit, max(one.audit_se, 1e-4) ** 2, one.label_free, max(one.label_free_se, 1e-4) ** 2, brings,
            )
        )  # fmt: skip
        window = one.window
    return found


def _kalman(
    used: Sequence[Reading], seen: Sequence[_Seen], slope_noise: float, ahead: int
) -> tuple[float, tuple[float, ...]]:
    """Log marginal likelihood, and (level, slope, variance, covariance, slope variance) after the last window.

    Written out in scalars: for three states that is ten times faster than small matrices.
    """
    first = used[0]
    start = first.audit if first.audit is not None else first.label_free
    level, slope, bias = start if start is not None else 0.0, 0.0, 0.0
    fresh_bias = next((r.bias_sd for r in used if r.label_free is not None), 0.0)
    vl, vls, vlb, vs, vsb, vb = FRESH_LEVEL**2, 0.0, 0.0, FRESH_SLOPE**2, 0.0, fresh_bias**2
    qs, keep, likelihood = slope_noise**2, BIAS_KEEPS, 0.0
    for passed, fades, moved, audit, audit_noise, free, free_noise, brings in seen:
        for _ in range(passed):
            level, bias = level + slope, keep * bias
            vl, vls, vlb = vl + 2 * vls + vs, vls + vs, keep * (vlb + vsb)
            vs, vsb, vb = vs + qs, keep * vsb, keep * keep * vb + moved
        likelihood *= fades
        if audit is not None:
            total, error = vl + audit_noise, audit - level
            kl, ks, kb = vl / total, vls / total, vlb / total
            likelihood -= 0.5 * (math.log(total) + error * error / total)
            level, slope, bias = level + kl * error, slope + ks * error, bias + kb * error
            vs, vsb, vb = vs - ks * vls, vsb - ks * vlb, vb - kb * vlb
            vl, vls, vlb = vl - kl * vl, vls - kl * vls, vlb - kl * vlb
        if free is not None:
            vb += brings
            hl, hs, hb = vl + vlb, vls + vsb, vlb + vb
            total, error = hl + hb + free_noise, free - level - bias
            kl, ks, kb = hl / total, hs / total, hb / total
            likelihood -= 0.5 * (math.log(total) + error * error / total)
            level, slope, bias = level + kl * error, slope + ks * error, bias + kb * error
            vl, vls, vlb = vl - kl * hl, vls - kl * hs, vlb - kl * hb
            vs, vsb, vb = vs - ks * hs, vsb - ks * hb, vb - kb * hb
    for _ in range(ahead):
        level, vl, vls, vs = level + slope, vl + 2 * vls + vs, vls + vs, vs + qs
    return likelihood, (level, slope, max(vl, 1e-12), vls, max(vs, 1e-14))


def _moments(parts: tuple[Component, ...], n_windows: int, basis: Literal["labels", "label-free", "both"]) -> Filtered:
    """Mean and covariance of the mixture."""
    level = math.fsum(c.weight * c.level for c in parts)
    slope = math.fsum(c.weight * c.slope for c in parts)
    vl = math.fsum(c.weight * (c.variance + (c.level - level) ** 2) for c in parts)
    vls = math.fsum(c.weight * (c.covariance + (c.level - level) * (c.slope - slope)) for c in parts)
    vs = math.fsum(c.weight * (c.slope_variance + (c.slope - slope) ** 2) for c in parts)
    return Filtered(
        level=level, slope=slope, covariance=((vl, vls), (vls, vs)), n_windows=n_windows, basis=basis, components=parts
    )


def _standard_error(estimate: Estimate) -> float:
    if estimate.low is None or estimate.high is None:
        return 0.0
    return (estimate.high - estimate.low) / (2 * Z90)


def _why_not(filtered: Filtered) -> str | None:
    """Why no forecast can be honest, or None."""
    if filtered.n_windows < MINIMUM:
        return f"needs {MINIMUM} assessed windows, has {filtered.n_windows}"
    spread = math.sqrt(filtered.covariance[0][0])
    if spread > VAGUE:
        return f"the level is known to +-{Z90 * spread:.2f} only; more labels or better calibration are needed"
    return None


def _within(time: NDArray[np.int64], horizon: int) -> float | None:
    """Plain number of windows; None beyond the horizon."""
    return float(time) if time <= horizon else None
