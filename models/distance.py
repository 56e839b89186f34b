"""How far apart are two histograms, and is that more than chance?

Effect and significance are two answers. `estimate` says how large the difference is, `low` and `high` bound the true
one with 90% confidence, and `threshold` is what sampling noise alone exceeds with probability `alpha`. A constant
limit such as "PSI above 0.1" ignores n: ten bins and 100 events reach 0.09 without any drift.

`p` is the current histogram, `q` the reference, over the same bins; weights may be fractions. `n` and `m` are the
effective numbers of observations behind them; without them the sums of the weights are used, which is right for
plain counts only. Dependent observations need fewer than counted: n (1 - rho) / (1 + rho) for autocorrelation rho.
"""

import math
from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtri, gammaincinv

Array = NDArray[np.float64]
Z90 = 1.6448536269514722  # normal quantile of a central 90% interval


class Distance(msgspec.Struct, frozen=True):
    """One distance with its 90% interval and its noise level; `n` counts the current observations behind it."""

    statistic: str
    estimate: float
    low: float
    high: float
    threshold: float
    n: float

    @property
    def significant(self) -> bool:
        """Is the estimate above what sampling noise alone reaches?"""
        return self.estimate > self.threshold


def effective(n: int, weight: int, squared: int, unit: int) -> float:
    """What unequal weights leave of `n` observations: Kish's (sum w)^2 / sum w^2, both sums in units of 1 / `unit`.

    Equal weights leave all of them, and so does an unknown sum of squares. Source: Kish 1965, Survey Sampling, 8.2.
    """
    return min(n, weight * weight / (squared * unit)) if squared else n


def js_threshold(n: float, m: float, bins: int, alpha: float = 0.05) -> float:
    """Plug-in Jensen-Shannon divergence (nats) that two samples of one law exceed with probability `alpha`.

    With equal weights 1/2, JSD = sum (p - q)^2 / (8 p) + o(...), hence 8 n m / (n + m) JSD -> chi2(bins - 1). (The
    often quoted factor 2 (n + m) belongs to the divergence weighted by sample size, Grosse et al. 2002,
    doi:10.1103/PhysRevE.65.041905.) Definition: Lin 1991, doi:10.1109/18.61115; limits of such divergences: Pardo,
    Statistical Inference Based on Divergence Measures, 2006.
    """
    return _chi2_quantile(bins - 1, alpha) * (n + m) / (8 * n * m)


def jensen_shannon(
    p: ArrayLike, q: ArrayLike, *, n: float | None = None, m: float | None = None, alpha: float = 0.05
) -> Distance:
    """Jensen-Shannon divergence in nats, 0 to ln 2, less its bias under no change; empty bins need no smoothing."""
    a, b, n, m = _pair(p, q, n, m)
    middle = (a + b) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        # d JSD / d p_i is half of each log ratio, so the same two arrays give the value and its variance.
        da = np.where(a > 0, np.log(a / middle), 0.0) / 2
        db = np.where(b > 0, np.log(b / middle), 0.0) / 2
    raw = float(a @ da + b @ db)
    variance = _variance(a, da) / n + _variance(b, db) / m
    found = _chi2_like("jensen-shannon", raw, variance, bins=a.size, n=n, scale=8 * n * m / (n + m), alpha=alpha)
    return msgspec.structs.replace(found, high=min(found.high, math.log(2)))


def psi(p: ArrayLike, q: ArrayLike, *, n: float | None = None, m: float | None = None, alpha: float = 0.05) -> Distance:
    """Population stability index (nats), sum (p - q) ln(p / q), less its bias under no change.

    Half an observation is added to every bin, so that an empty one costs a finite amount. Without change
    n m / (n + m) PSI -> chi2(bins - 1); see Yurdakul and Naranjo 2020, doi:10.21314/JRMV.2020.227.
    """
    a, b, n, m = _pair(p, q, n, m)
    a, b = (a * n + 0.5) / (n + a.size / 2), (b * m + 0.5) / (m + b.size / 2)
    ratio = np.log(a / b)
    variance = _variance(a, ratio - b / a) / n + _variance(b, -ratio - a / b) / m
    raw = float((a - b) @ ratio)
    return _chi2_like("psi", raw, variance, bins=a.size, n=n, scale=n * m / (n + m), alpha=alpha)


def ks(p: ArrayLike, q: ArrayLike, *, n: float | None = None, m: float | None = None, alpha: float = 0.05) -> Distance:
    """Kolmogorov-Smirnov distance on ordered bins: the largest gap between the two cumulative shares, 0 to 1.

    Noise level and interval are the Smirnov limit sqrt(ln(2 / alpha) / 2 (1 / n + 1 / m)): conservative on bins, since
    the gap is only looked at on their edges, and the interval also because it holds uniformly.
    """
    a, b, n, m = _pair(p, q, n, m, drop_empty=False)
    gap = float(np.abs(np.cumsum(a - b)).max())
    unit = math.sqrt((1 / n + 1 / m) / 2)
    reach = unit * math.sqrt(math.log(2 / 0.1))
    noise = unit * math.sqrt(math.log(2 / alpha))
    return Distance("ks", gap, max(0.0, gap - reach), min(1.0, gap + reach), noise, n)


def wasserstein(
    p: ArrayLike,
    q: ArrayLike,
    edges: ArrayLike,
    *,
    n: float | None = None,
    m: float | None = None,
    alpha: float = 0.05,
) -> Distance:
    """First Wasserstein distance in units of the feature, with the mass of a bin at its middle.

    `edges` has one entry more than there are bins; an infinite outer edge puts that bin's mass on its finite edge.
    Without change the cumulative gaps are a Brownian bridge, whose weighted absolute sum has a known mean and
    variance; a gamma law with these gives its quantiles. By the triangle inequality the 90% quantile of the
    noise is also a (conservative) half-width of the interval.
    """
    a, b, n, m = _pair(p, q, n, m, drop_empty=False)
    steps = np.diff(_middles(np.asarray(edges, dtype=np.float64), a.size))
    gap = float(np.abs(np.cumsum(a - b)[:-1]) @ steps)
    quantile = _bridge_quantile((n * a + m * b) / (n + m), steps)
    unit = math.sqrt(1 / n + 1 / m)
    reach = unit * quantile(0.1)
    return Distance("wasserstein", gap, max(0.0, gap - reach), gap + reach, unit * quantile(alpha), n)


def _pair(
    p: ArrayLike, q: ArrayLike, n: float | None, m: float | None, *, drop_empty: bool = True
) -> tuple[Array, Array, float, float]:
    """Both histograms as shares, and their effective sizes; bins empty in both carry nothing and are dropped."""
    a, b = np.asarray(p, dtype=np.float64), np.asarray(q, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"histograms of shapes {a.shape} and {b.shape} differ; count both on the same bins")
    totals = float(a.sum()), float(b.sum())
    if not (min(totals) > 0 and math.isfinite(sum(totals)) and a.min() >= 0 and b.min() >= 0):
        raise ValueError(
            f"histograms with totals {totals} cannot be compared; both need finite weights >= 0, not all 0"
        )
    sizes = totals[0] if n is None else n, totals[1] if m is None else m
    if min(sizes) <= 0:
        raise ValueError(f"effective sizes {sizes} must be positive; leave n and m out to use the sums of the weights")
    if drop_empty:
        seen = (a + b) > 0
        a, b = a[seen], b[seen]
    return a / totals[0], b / totals[1], *sizes


def _variance(share: Array, influence: Array) -> float:
    """Variance of a function of one observation, given the share of every bin."""
    mean = float(share @ influence)
    return max(float(share @ influence**2) - mean * mean, 0.0)


def _chi2_quantile(freedom: int, alpha: float) -> float:
    return float(chdtri(freedom, alpha)) if freedom > 0 else 0.0


def _chi2_like(
    statistic: str, raw: float, variance: float, *, bins: int, n: float, scale: float, alpha: float
) -> Distance:
    """Debiased estimate, noise level and interval of a divergence with scale x divergence -> chi2(bins - 1).

    Variance of the interval: the delta method, plus the chi2 part that remains where the delta method vanishes. For
    nearby laws this is the variance of the noncentral chi2.
    """
    freedom = bins - 1
    bias = freedom / scale
    reach = Z90 * math.sqrt(variance + 2 * freedom / scale**2)
    centre = raw - bias
    return Distance(
        statistic=statistic,
        estimate=max(0.0, centre),
        low=max(0.0, centre - reach),
        high=max(0.0, centre + reach),
        threshold=_chi2_quantile(freedom, alpha) / scale - bias,
        n=n,
    )


def _middles(edges: Array, bins: int) -> Array:
    if edges.shape != (bins + 1,):
        raise ValueError(f"{bins} bins need {bins + 1} edges, got an array of shape {edges.shape}")
    left, right = edges[:-1], edges[1:]
    if not (left <= right).all() or not np.isfinite(edges[1:-1]).all():
        raise ValueError("edges must ascend and be finite, apart from the outer two")
    left, right = np.where(np.isfinite(left), left, right), np.where(np.isfinite(right), right, left)
    return np.asarray((left + right) / 2)


def _bridge_quantile(share: Array, steps: Array) -> Callable[[float], float]:
    """Upper quantiles of sum_i steps_i |B(t_i)|, B a Brownian bridge at the cumulative shares t_i."""
    t = np.clip(np.cumsum(share)[:-1], 0.0, 1.0)
    sd = np.sqrt(t * (1 - t))
    covariance = np.minimum.outer(t, t) - np.outer(t, t)
    scale = np.outer(sd, sd)
    rho = np.clip(np.divide(covariance, scale, out=np.zeros_like(scale), where=scale > 1e-12), -1.0, 1.0)
    # Absolute values of two normals: Nabeya 1951, Annals of the Institute of Statistical Mathematics 3.
    absolute = 2 / math.pi * (np.sqrt(1 - rho**2) + rho * np.arcsin(rho) - 1) * scale
    mean = math.sqrt(2 / math.pi) * float(sd @ steps)
    variance = float(steps @ absolute @ steps)
    if mean <= 0 or variance <= 0:
        mean, variance = 0.0, 1.0  # one bin, or no width: every quantile is 0
    shape = max(mean * mean / variance, 1e-9)
    return lambda alpha: float(gammaincinv(shape, 1 - alpha)) * mean / shape
