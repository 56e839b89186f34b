"""What a status line says of labels: how many came, up to when windows are closed, and what all audits say together."""

from collections.abc import Sequence
from typing import Any

from models.audited_quality import AuditedQuality
from models.closed_windows import Delays, closed
from models.evidence import Evidence
from models.notes import rounded
from models.policy import rfc3339
from models.reference import Reference


def label_fields(ring: Sequence[Evidence], reference: Reference) -> dict[str, Any]:
    """`labels` of the status line, over the windows in memory.

    `expected` counts the labels that were asked for, null where none are; `missing` those of closed windows that never
    came. `delay` is counted from the end of the inference's window, in seconds.
    """
    length, now = reference.window_us, ring[-1].start if ring else 0
    asking = any(e.asked for e in ring)
    fields: dict[str, Any] = {
        "expected": sum(e.asked for e in ring) if asking else None,
        "arrived": sum(e.audit_asked if asking else e.audits for e in ring),
        "missing": None,
        "closed_until": None,
        "delay": {"p50": None, "p95": None},
    }
    if not asking and not fields["arrived"]:
        return fields
    delays, declared = Delays(ring, now, length), reference.labels.delay_us
    is_closed = [closed(e, delays, now, length, declared) for e in ring]
    if asking:
        fields["missing"] = sum(max(e.asked - e.audit_asked, 0) for e, so in zip(ring, is_closed, strict=True) if so)
    front = next((e.start for e, so in zip(ring, is_closed, strict=True) if not so), now + length)
    if front > ring[0].start:
        fields["closed_until"] = rfc3339(front)
    ages = {name: delays.quantile(share) for name, share in (("p50", 0.5), ("p95", 0.95))}
    fields["delay"] = {name: None if age is None else age * length / 1e6 for name, age in ages.items()}
    return fields


def audited_fields(audited: AuditedQuality) -> dict[str, Any]:
    """`quality_audited` of the status line: a 95% interval that holds at every moment since the registration.

    `low` to `high` hold whatever the accuracy did in that time, on average over it; `steady` is narrower and supposes
    that labels and proxy kept their distance. `n` counts labels, `missing` those that were asked for and never came,
    which count both ways.
    """
    found = audited.interval()
    if found is None:
        reason = (
            "no closed window has audits" if not audited.left_out else "how likely labels were asked for is unknown"
        )
        empty = {"low": None, "high": None}
        return {**empty, "steady": dict(empty), "n": 0, "missing": 0, "since": None, "until": None, "reason": reason}
    low, high, steady_low, steady_high, n = found
    return {
        "low": rounded(low),
        "high": rounded(high),
        "steady": {"low": rounded(steady_low), "high": rounded(steady_high)},
        "n": n - audited.missing,
        "missing": audited.missing,
        "since": None if audited.since is None else rfc3339(audited.since),
        "until": None if audited.until is None else rfc3339(audited.until),
        "reason": None,
    }
