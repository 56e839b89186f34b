"""The one language of all checks: `left operator right`, with a tolerance, for declared facts and measured ones alike.

A declared fact is a number, text or list. A measured one has an interval: what must hold is ok where it holds for the
whole interval, a mismatch where it holds for none of it, and unknown between. Units are converted before comparing.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import msgspec

from models.checks.verdict import Outcome, Side
from models.quantities import converted, number_of

Operator = Literal["==", "!=", "<", "<=", ">", ">=", "in", "contains", "subset", "within"]


class Judgement(NamedTuple):
    """An outcome, and why it is unknown or, for a mismatch, what does not hold."""

    outcome: Outcome
    reason: str = ""


class Predicate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A check as users write it under `system_context.bestbefore.checks`.

    `left` and `right` are paths of descriptors or `telemetry.<statistic>`; `right` may also be a plain value.
    `tolerance` is absolute, `relative_tolerance` a share of the right side. `minimum_n` applies to what is measured.
    """

    id: str
    left: str
    operator: Operator
    right: Any
    tolerance: float = 0.0
    relative_tolerance: float = 0.0
    minimum_n: int = 0
    window: str = ""  # duration over which telemetry is joined; at least one window
    severity: Literal["info", "warning", "critical"] = "warning"
    message: str = ""
    owner: str = ""
    remedy: str = ""


def judge(
    left: Side, operator: str, right: Side, *, tolerance: float = 0.0, relative_tolerance: float = 0.0,
    minimum_n: int = 0,
) -> Judgement:  # fmt: skip
    """Does `left operator right` hold? Never ok without a fact on both sides."""
    for side in (left, right):
        if side.value is None and side.low is None:
            return Judgement("unknown", f"{side.path} is not {_verb(side)}")
        if side.n is not None and side.n < minimum_n:
            return Judgement("unknown", f"{side.path} rests on {side.n:.6g} observations, {minimum_n} are needed")
    if operator in _SETS:
        return _SETS[operator](left, right)
    if interval(left) is None or interval(right) is None:
        return _texts(left, operator, right)
    return _numbers(left, operator, right, tolerance, relative_tolerance)


def _verb(side: Side) -> str:
    return "observed" if side.path.startswith("telemetry.") else "declared"


def interval(side: Side, unit: str = "") -> tuple[float, float] | None:
    """The side's value, or its interval, in `unit`; None where that is not possible."""
    number = number_of(side.value)
    if number is None and (side.value is not None or side.low is None or side.high is None):
        return None
    value, own = (0.0, "") if number is None else number
    ends = (value if side.low is None else side.low, value if side.high is None else side.high)
    low, high = (converted(end, side.unit or own, unit) for end in ends)
    return None if low is None or high is None else (min(low, high), max(low, high))


def unit_of_side(side: Side) -> str:
    """The unit that a side states, beside its value or in it."""
    number = number_of(side.value)
    return side.unit or (number[1] if number else "")


def _numbers(left: Side, operator: str, right: Side, tolerance: float, relative: float) -> Judgement:
    unit = unit_of_side(right) or unit_of_side(left)
    a, b = interval(left, unit), interval(right, unit)
    if a is None or b is None:
        return Judgement("mismatch", f"{unit_of_side(left)!r} and {unit_of_side(right)!r} measure different things")
    slack = tolerance + relative * max(abs(b[0]), abs(b[1]))
    # What remains for rounding: 0.1 + 0.2 is 0.3 here, and so not below it.
    noise = 1e-9 * max(abs(a[0]), abs(a[1]), abs(b[0]), abs(b[1]))
    low, high = a[0] - b[1], a[1] - b[0]  # of the difference left - right
    return _COMPARE[operator](low, high, slack, noise)


def _verdict(always: bool, never: bool) -> Judgement:
    if always:
        return Judgement("ok")
    return Judgement("mismatch", "") if never else Judgement("unknown", "the interval includes the limit")


_COMPARE: dict[str, Callable[[float, float, float, float], Judgement]] = {
    "==": lambda low, high, s, e: _verdict(-s - e <= low and high <= s + e, high < -s - e or low > s + e),
    "!=": lambda low, high, s, e: _verdict(high < -s - e or low > s + e, -s - e <= low and high <= s + e),
    "<": lambda low, high, s, e: _verdict(high < s - e, low >= s - e),
    "<=": lambda low, high, s, e: _verdict(high <= s + e, low > s + e),
    ">": lambda low, high, s, e: _verdict(low > -s + e, high <= -s + e),
    ">=": lambda low, high, s, e: _verdict(low >= -s - e, high < -s - e),
}


def _texts(left: Side, operator: str, right: Side) -> Judgement:
    same = plain(left.value) == plain(right.value)
    if operator not in ("==", "!="):
        return Judgement("unknown", f"{left.path} or {right.path} is no number, so {operator} says nothing about them")
    return Judgement("ok" if same == (operator == "==") else "mismatch")


def plain(value: Any) -> str:
    """Text without case and outer blanks, numbers without their spelling: `1.0` is `1`."""
    number = number_of(value)
    return f"{number[0]:.12g} {number[1]}".strip() if number else str(value).strip().casefold()


def _many(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value)
    return list(value) if isinstance(value, list | tuple | set | frozenset) else [value]


def _among(left: Side, right: Side) -> Judgement:
    known = {plain(v) for v in _many(right.value)}
    lost = [str(v) for v in _many(left.value) if plain(v) not in known]
    return Judgement("mismatch", f"{', '.join(lost)} not in {right.path}") if lost else Judgement("ok")


def _within(left: Side, right: Side) -> Judgement:
    inner, outer = _many(left.value), _many(right.value)
    if len(outer) != 2 or not inner:
        return Judgement("unknown", f"{right.path} is no range of two numbers")
    low = judge(Side(left.path, inner[0], left.unit), ">=", Side(right.path, outer[0], right.unit))
    high = judge(Side(left.path, inner[-1], left.unit), "<=", Side(right.path, outer[1], right.unit))
    return next((j for j in (low, high) if j.outcome == "mismatch"), low if low.outcome != "ok" else high)


_SETS: dict[str, Callable[[Side, Side], Judgement]] = {
    "in": _among,
    "subset": _among,
    "contains": lambda left, right: _among(right, left),
    "within": _within,
}
