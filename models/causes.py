"""What may lie behind a loss of quality, and the cure that follows: retraining is not the cure of every cause.

A model trained on feet where metres were meant has learnt the mistake. So the open mismatches are asked first: weights
that are not the described ones are rolled back, a broken pipeline is fixed, classes that became rarer or commoner are
recalibrated where that is enough, what nobody understands is looked at, and only what is left is trained again.
"""

import math
from collections.abc import Iterable

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.checks.verdict import Action, Severity
from models.distance import Z90, effective
from models.profile import MISSING, WEIGHT, Profile
from models.quality import Estimate
from models.reference import Reference

# What tells that something changed, not what. It explains a decision and is never a reason to withhold one.
DRIFT = frozenset(("covariate-drift", "embedding-drift"))
# What tells the loss itself again.
SYMPTOMS = frozenset(("quality-and-time-to-threshold", "cause-and-cure"))
# How fast answers come, how old a description is, what is not sent along: none of it makes an answer wrong.
UNRELATED = frozenset(("latency-rate-buffering", "completeness-and-staleness", "observability-coverage"))
NO_CAUSE = DRIFT | SYMPTOMS | UNRELATED
CHANGE = "change"  # the field of a change in time: whatever its check, it tells when, not what
FIRST: tuple[Action, ...] = ("roll-back", "fix-pipeline")  # these cures come before all others, in this order
MATERIAL = 0.05  # share of events below which a mismatch withholds nothing
WORST_CONDITION = 100.0  # a confusion matrix closer to singular says nothing about the true shares


class OpenCause(msgspec.Struct, frozen=True, kw_only=True):
    """An open mismatch as a decision sees it. `action` is the cure its check names, `id` that of the mismatch."""

    id: str
    check: str
    field: str = ""
    action: Action = "review"
    severity: Severity = "warning"
    first_seen_us: int = 0
    message: str = ""
    affected: float | None = None  # share of events that it touches; None where that cannot be counted

    def told(self) -> dict[str, str]:
        """The cause as one entry of a trigger's reason."""
        known = {"id": self.id, "check": self.check, "field": self.field, "message": self.message}
        return {key: value for key, value in known.items() if value or key != "message"}


class Cure(msgspec.Struct, frozen=True):
    """What a loss of quality calls for. `because`: open causes that retraining cannot cure, those of `action` first."""

    action: Action = "retrain"
    because: tuple[OpenCause, ...] = ()

    @property
    def causes(self) -> tuple[OpenCause, ...]:
        """The causes that `action` cures."""
        return tuple(cause for cause in self.because if cause.action == self.action)


class Recalibration(msgspec.Struct, frozen=True):
    """Accuracy under the present class shares: as the model is, and with its answers recalibrated to them."""

    now: Estimate
    after: Estimate

    def cures(self, threshold: float, estimate: Estimate) -> bool:
        """Whether the class shares alone explain `estimate`, and recalibrated answers stay above the threshold."""
        if self.after.low is None or self.now.low is None:
            return False
        explained = estimate.high is None or self.now.low <= estimate.high
        return explained and self.after.low >= threshold


def matters(cause: OpenCause) -> bool:
    """Whether the mismatch may be a cause of wrong answers. What is `info` asks nobody to act, so it withholds nothing.

    >>> matters(OpenCause(id="1", check="covariate-drift")), matters(OpenCause(id="2", check="user:age"))
    (False, True)
    """
    slow = (cause.check, cause.field) == ("runtime-fingerprint", "provider")  # the same answer from another processor
    quiet = cause.severity == "info" or cause.field == CHANGE
    return bool(cause.id) and cause.check not in NO_CAUSE and not quiet and not slow


def explains(cause: OpenCause, loss: float | None) -> bool:
    """Whether the mismatch touches enough events to lie behind a loss of quality of `loss` (a share of all events).

    One strange value in a million withholds no retraining: what touches a share v of the events costs v at most. With
    half of the loss unexplained something else must be wrong as well.
    """
    return cause.affected is None or cause.affected >= max((loss or 0.0) / 2, MATERIAL)


def cure_of(causes: Iterable[OpenCause], *, recalibration: bool = False, loss: float | None = None) -> Cure:
    """The cure of the open causes, by precedence; `recalibration` True: recalibrating alone would be enough.

    `loss` is what the accuracy has lost since the model was accepted, None where that is not known.
    """
    found = sorted(
        (c for c in causes if matters(c) and explains(c, loss)), key=lambda c: (c.first_seen_us, c.check, c.field, c.id)
    )
    # Class shares are all there is to mend only if nothing else is open: other causes move them as well.
    actions = {cause.action for cause in found}
    order: tuple[Action, ...] = (*FIRST, *(("recalibrate",) if actions == {"recalibrate"} and recalibration else ()))
    order = (*order, "review")
    action: Action = next((a for a in order if a in actions), "retrain")
    if action == "retrain":
        return Cure()
    withholding = [c for c in found if c.action in order]
    return Cure(action, tuple(sorted(withholding, key=lambda c: c.action != action)))


def recalibrated(block: Profile | None, reference: Reference) -> Recalibration | None:
    """What recalibrating to the present class shares would give; None where that cannot be told.

    The true shares come from the predicted ones and the confusion matrix (Lipton et al. 2018, arXiv:1802.03916). Each
    predicted label is then read as the truth that is most likely behind it: a lower bound, since scores tell more than
    labels. Intervals are 90%, by the delta method, with the noise of both the window and the confusion matrix. It
    holds as long as P(x | y) is unchanged, which `Recalibration.cures` checks against the quality estimated now.
    """
    table = {} if block is None else block.categories.get("label") or {}
    names = sorted(reference.confusion)
    rows = [reference.confusion[truth] for truth in names]
    sizes = np.array([sum(row.get(p, 0.0) for p in names) for row in rows])
    seen = np.array([float(table.get(name, 0)) for name in names])
    strange = sum(w for name, w in table.items() if name not in reference.confusion and name != MISSING)
    if block is None or len(names) < 2 or not sizes.all() or not seen.sum() or strange:
        return None
    matrix = np.array([[row.get(p, 0.0) for row in rows] for p in names]) / sizes  # P(predicted | truth)
    if np.linalg.cond(matrix) > WORST_CONDITION:
        return None
    shares = seen / seen.sum()
    truth = np.clip(np.linalg.solve(matrix, shares), 0.0, None)
    truth /= truth.sum()
    n = effective(block.n, block.counts.get("weight", 0), block.counts.get("weight_squared", 0), WEIGHT)
    joint = matrix * truth
    as_is, best = np.eye(len(names)), np.eye(len(names))[joint.argmax(axis=1)]
    now, after = (_accuracy(chosen, matrix, truth, shares, n, sizes) for chosen in (as_is, best))
    return Recalibration(now, after)


def _accuracy(
    chosen: NDArray[np.float64], matrix: NDArray[np.float64], truth: NDArray[np.float64], shares: NDArray[np.float64],
    n: float, sizes: NDArray[np.float64],
) -> Estimate:  # fmt: skip
    """Accuracy where `chosen[p, t]` is 1 for the truth t that label p is read as."""
    value = float((chosen * matrix * truth).sum())
    # d value / d shares, and d value / d matrix, which moves the true shares as well.
    influence = np.linalg.solve(matrix.T, (chosen * matrix).sum(axis=0))
    window = (influence**2 @ shares - (influence @ shares) ** 2) / max(n, 1.0)
    moved = (chosen - influence[:, None]) * truth
    spread = (moved**2 * matrix).sum(axis=0) - (moved * matrix).sum(axis=0) ** 2
    reach = Z90 * math.sqrt(max(float(window + (spread / sizes).sum()), 0.0))
    return Estimate(
        estimate=value, low=max(value - reach, 0.0), high=min(value + reach, 1.0), n=float(f"{n:.6g}"),
        basis="label-free",
    )  # fmt: skip
