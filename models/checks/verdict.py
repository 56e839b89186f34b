"""What a check says: its two sides, the outcome, and what to do about it."""

from typing import Any, Literal

import msgspec

Outcome = Literal["ok", "mismatch", "unknown"]
Severity = Literal["info", "warning", "critical"]
Action = Literal["retrain", "recalibrate", "fix-pipeline", "roll-back", "review"]
RANK: dict[Outcome, int] = {"ok": 0, "unknown": 1, "mismatch": 2}


class Side(msgspec.Struct, frozen=True, omit_defaults=True):
    """One side of a comparison: where the fact stands, and the fact.

    `path` is a descriptor path (`trained_model.inference_time`) or `telemetry.<statistic>` for what was measured. A
    measured value has its 90% interval `low` to `high` and the number `n` of observations behind it.
    """

    path: str
    """Where the fact stands."""
    value: Any = None
    """The fact."""
    unit: str = ""
    """Its unit; left out where it has none."""
    low: float | None = None
    """Lower end of the interval of a measured value."""
    high: float | None = None
    """Upper end of the interval."""
    n: float | None = None
    """Observations behind it."""
    place: str = ""
    """File and line, where it came from a file."""


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """How large a difference is: a named statistic with its 90% interval, and the value from which it matters."""

    statistic: str
    """Its name."""
    estimate: float
    """Its value."""
    low: float | None = None
    """Lower end of the interval."""
    high: float | None = None
    """Upper end of the interval."""
    threshold: float | None = None
    """The value from which it matters."""
    n: float | None = None
    """Observations behind it."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What one check says about one fact. `reason` says why a verdict is unknown, `message` what a mismatch is.

    `field` tells verdicts of one check apart: the feature, item or metric. `evidence` are ids of events to look at.
    """

    check: str
    verdict: Outcome
    field: str = ""
    reason: str = ""
    severity: Severity = "warning"
    left: Side | None = None
    right: Side | None = None
    effect: Effect | None = None
    message: str = ""
    aliases: tuple[str, ...] = ()
    owner: str = ""
    action: Action = "review"
    remedy: str = ""
    evidence: tuple[str, ...] = ()
