"""How good are the predictions: from confidences without labels, and from audited labels.

Label-free readings are averages over calibrated confidences. They are optimistic exactly when it matters, so they
carry an interval only if drift was induced on the model before deployment and the residuals were registered with it;
otherwise there is no honest number and the reason says so. A change of P(y | x) is invisible to all of them.
"""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.distance import Z90

READ = 4_096  # windows whose reading is remembered
Basis = Literal["labels", "label-free", "both", "none"]


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """What registration measured on held-out data and under induced drift.

    `residual_low` and `residual_high` bound (true accuracy - estimate) / s at `level`, see `label_free`.
    """

    temperature: float = 1.0
    atc_threshold: float | None = None
    accuracy: float | None = None
    n: int = 0
    residual_low: float | None = None
    residual_high: float | None = None
    families: tuple[str, ...] = ()
    level: float = 0.9

    @classmethod
    def from_descriptor(cls, mapping: Mapping[str, Any]) -> "Calibration":
        """Read `training_data.bestbefore.calibration`; ValueError names the key that cannot be used."""
        residuals = mapping.get("residuals") or {}
        if not isinstance(residuals, Mapping):
            raise ValueError(
                "training_data.bestbefore.calibration.residuals: give keys and values, such as low and high"
            )
        flat = {key: mapping[key] for key in ("temperature", "atc_threshold", "accuracy", "n") if key in mapping}
        flat |= {f"residual_{side}": residuals[side] for side in ("low", "high") if side in residuals}
        flat |= {key: residuals[key] for key in ("families", "level") if key in residuals}
        try:
            found = msgspec.convert(flat, cls)
        except msgspec.ValidationError as error:
            raise ValueError(f"training_data.bestbefore.calibration: {error}; correct the descriptor") from error
        if not 0 < found.temperature < math.inf:
            raise ValueError(
                f"training_data.bestbefore.calibration.temperature is {found.temperature}; it must be positive"
            )
        if found.residual_low is not None and found.residual_high is not None:
            _ascending(found.residual_low, found.residual_high)
        return found


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """One reading of a quality metric with its 90% interval; without a number, `reason` says why.

    `n` counts events or labels; `n_effective` is what unequal weights leave of them, where that is known.
    """

    metric: str = "accuracy"
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    n: float = 0
    basis: Basis = "none"
    reason: str | None = None
    n_effective: float | None = None


def top_confidence(scores: NDArray[np.floating[Any]], temperature: float = 1.0) -> NDArray[np.float64]:
    """Calibrated confidence of the best class per row, from probabilities of shape (n, k).

    p_i is proportional to scores_i^(1 / temperature) (Guo et al. 2017, arXiv:1706.04599, with probabilities in place
    of logits). A row with a negative or non-finite score, or without any mass, gives NaN.

    >>> top_confidence(np.array([[0.1, 0.9], [0.0, 0.0]])).round(2)
    array([0.9, nan])
    """
    if scores.ndim != 2:
        raise ValueError(f"scores of shape {scores.shape}; one row per event and one column per class is needed")
    if scores.size == 0:
        return np.full(len(scores), np.nan)
    if len(scores) == 1:  # numpy adds up a single column in another order, and a row's bits must not depend on others
        return top_confidence(np.repeat(scores, 2, axis=0), temperature)[:1]
    # Classes first: reductions then run over whole vectors. A copy in any case: the caller's scores stay as they are.
    # In double precision: the last bits of a vectorised logarithm depend on where a row lies in its block; in single
    # precision they would show in the fixed-point sums of a profile.
    columns = np.array(scores.T, dtype=np.float64, order="C")
    best = columns.max(axis=0)
    # Row masks cost more than the rest, so they are built only if the whole block shows that something is wrong.
    clean = bool(columns.min() >= 0 and best.min() > 0 and best.max() < np.inf)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        columns /= best
        if temperature != 1.0:
            np.log(columns, out=columns)
            columns *= 1 / temperature
            np.exp(columns, out=columns)
        top = 1 / columns.sum(axis=0)
    if not clean:
        top[~(np.isfinite(scores).all(axis=1) & (scores >= 0).all(axis=1) & (best > 0))] = np.nan
    return np.asarray(top)


@lru_cache(maxsize=READ, typed=True)
def label_free(
    n: float, sum_confidence: float, n_above: float, n_failed: float, calibration: Calibration | None
) -> Estimate:
    """Accuracy from confidences alone: the mean of average confidence and of ATC, with the induced-drift interval.

    `n` counts all events, `n_failed` of them without a usable answer (abstained, error, no output), which count as
    wrong; `sum_confidence` and `n_above` (confidence above the ATC threshold, Garg et al. 2022, arXiv:2201.04234) are
    over the others. With e the estimate on answered events and A0 the registered accuracy, residuals scale with
    s(e) = 0.02 + max(A0 - e, 0) + e (1 - e) / 2; sampling noise is added in quadrature.

    Pure, and remembered: windows of the past are read again with every new one.
    """
    if n <= 0:
        return Estimate(n=0, reason="no predictions in this window")
    answered = n - n_failed
    if answered <= 0:  # nothing was answered, so everything is wrong: that needs no calibration
        return Estimate(estimate=0.0, low=0.0, high=min(_noise(0.0, n), 1.0), n=n, basis="label-free")
    if calibration is None:
        return Estimate(
            n=n, reason="no calibration registered to read confidences by, and no labels: describe days with labels"
        )
    if calibration.residual_low is None or calibration.residual_high is None:
        return Estimate(n=n, reason="no residuals of induced drift registered: no interval would be honest")
    readings = [sum_confidence / answered]
    if calibration.atc_threshold is not None:
        readings.append(n_above / answered)
    e = min(max(sum(readings) / len(readings), 0.0), 1.0)
    fresh = calibration.accuracy if calibration.accuracy is not None else e
    s = 0.02 + max(fresh - e, 0.0) + e * (1 - e) / 2
    share = answered / n
    value, noise = e * share, _noise(e * share, n)
    low = _widened(value, calibration.residual_low * s * share, -noise)
    high = _widened(value, calibration.residual_high * s * share, noise)
    low, high = min(max(low, 0.0), 1.0), min(max(high, 0.0), 1.0)
    # Residuals that exclude zero mean a known bias: the estimate then moves to the nearer end of the interval.
    return Estimate(estimate=min(max(value, low), high), low=low, high=high, n=n, basis="label-free")


def audited(sum_weight: float, sum_weight_correct: float, sum_weight_squared: float, n: int) -> Estimate:
    """Accuracy from `n` labels that weigh 1 / propensity: Hajek's share with Wilson's 90% interval.

    The interval uses Kish's effective size, (sum w)^2 / sum w^2. Sources: Hajek 1971 (comment on Basu); Wilson 1927,
    doi:10.2307/2276774.
    """
    if n <= 0 or not 0 < sum_weight < math.inf or sum_weight_squared <= 0:
        return Estimate(n=0, reason="no audited labels in this window")
    share = min(max(sum_weight_correct / sum_weight, 0.0), 1.0)
    effective = sum_weight**2 / sum_weight_squared
    low, high = wilson(share, effective)
    return Estimate(estimate=share, low=low, high=high, n=n, basis="labels", n_effective=effective)


def wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's 90% interval of a share seen in `n` observations; `n` may be a fraction."""
    z2 = Z90**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    reach = Z90 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, centre - reach), min(1.0, centre + reach)


def _noise(share: float, n: float) -> float:
    """Half-width of 90% sampling noise, never below that of half a success."""
    return Z90 * math.sqrt(max(share * (1 - share), 0.5 / n) / n)


def _widened(value: float, residual: float, noise: float) -> float:
    """`value` + `residual`, moved outwards (the sign of `noise`): in quadrature where the two point the same way."""
    if residual * noise >= 0:
        return value + math.copysign(math.hypot(residual, noise), noise)
    return value + residual + noise


def _ascending(low: float, high: float) -> None:
    if not low <= high:
        raise ValueError(f"training_data.bestbefore.calibration.residuals: low {low} is above high {high}")
