"""Shared by the checks of shares: is a share of events larger, or smaller, than it may be?

The interval is Wilson's, 90%. A mismatch asks for more: under the limit, as large a count must come in fewer than one
window of a thousand (exact binomial tail), so that a hundred facts watched every hour do not cry wolf.
"""

from typing import Any

from scipy.special import bdtr, bdtrc

from models.checks.check import Check
from models.checks.verdict import Effect, Side, Verdict
from models.quality import wilson

ALPHA = 0.001


def share_side(path: str, share: float, n: float) -> Side:
    """A measured share with its 90% interval."""
    low, high = wilson(share, n)
    return Side(path, _six(share), low=_six(low), high=_six(high), n=_six(n))


def above(share: float, n: float, limit: float) -> bool:
    """Whether `share` of `n` events is more than chance makes of `limit`."""
    k = round(share * n)
    return share > limit and k > 0 and (limit <= 0 or float(bdtrc(k - 1, max(round(n), k), limit)) < ALPHA)


def below(share: float, n: float, limit: float) -> bool:
    """Whether `share` of `n` events is less than chance makes of `limit`."""
    k = round(share * n)
    return share < limit and (limit >= 1 or float(bdtr(k, max(round(n), k), limit)) < ALPHA)


def at_most(
    check: Check, field: str, left: Side, path: str, share: float, n: float, limit: float, message: str, *,
    enough: float, **extra: Any,
) -> Verdict:  # fmt: skip
    """The verdict on `share <= limit`; `message` says what it means when it is not so."""
    return _judged(check, field, left, path, share, n, limit, message, above(share, n, limit), enough, extra)


def at_least(
    check: Check, field: str, left: Side, path: str, share: float, n: float, limit: float, message: str, *,
    enough: float, **extra: Any,
) -> Verdict:  # fmt: skip
    """The verdict on `share >= limit`."""
    return _judged(check, field, left, path, share, n, limit, message, below(share, n, limit), enough, extra)


def _judged(
    check: Check, field: str, left: Side, path: str, share: float, n: float, limit: float, message: str, broken: bool,
    enough: float, extra: dict[str, Any],
) -> Verdict:  # fmt: skip
    if n <= 0:
        return check.unknown(f"{path}: nothing was observed", field=field, left=left)
    right = share_side(path, share, n)
    effect = Effect(
        statistic="share", estimate=_six(share), low=right.low, high=right.high, threshold=_six(limit), n=_six(n)
    )
    sides = {"field": field, "left": left, "right": right, "effect": effect}
    if broken:
        told = (
            f"{message} ({percent(share)} of {n:.6g}, 90% interval {percent(right.low)} to {percent(right.high)}, "
            f"allowed {percent(limit)})"
        )
        return check.mismatch(told, **(sides | extra))
    if round(n) < enough:
        return check.unknown(f"{n:.6g} observations, {enough:.6g} are needed", **sides)
    return check.ok(**sides)


def percent(share: float | None) -> str:
    """A share as people read it."""
    return f"{100 * (share or 0.0):.3g}%"


def _six(value: float) -> float:
    return float(f"{value:.6g}")
