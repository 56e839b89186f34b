"""Does what you yourselves declared must hold, hold?

| | |
|---|---|
| left | `left` of an entry of `system_context.bestbefore.checks`: a path of a descriptor, or `telemetry.<statistic>` |
| right | `right` of the entry: another path, or a plain value with or without a unit |
| statistic | the one named, with its 90% interval |
| mismatch | what the operator says holds for no value of the interval; an entry that cannot be understood (at design time) |
| ok | it holds for the whole interval |
| unknown | a side is not declared or not observed, the interval includes the limit, fewer than `minimum_n` observations |

    checks:
      - id: answers-in-time
        left: telemetry.latency.p99
        operator: "<="
        right: 50 ms
        minimum_n: 300
        severity: critical
        owner: serving@example.org
        remedy: add a replica

Operators are `==  !=  <  <=  >  >=  in  contains  subset  within`. Units are converted; `tolerance` is absolute,
`relative_tolerance` a share of the right side. A number that has a `unit` beside it (`rate.mean`, `rate.unit`) is in
that unit. `window` averages over a duration of at least three windows; the interval then comes from their spread. Two declared facts are compared at design time, telemetry at run time. Verdicts have the check id
`user:<id>`. One that is open when a retraining is due asks for a review first, unless its severity is `info`.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
from scipy.special import stdtrit

from models.checks.check import Check
from models.checks.observed import Observed
from models.checks.predicate import Judgement, Predicate, judge, unit_of_side
from models.checks.readings import Reading, audited_reading
from models.checks.telemetry import asked, is_telemetry, measured, side
from models.checks.user_entries import FEWEST, entries, is_path, unit_beside, windows_of
from models.checks.verdict import RANK, Effect, Side, Verdict
from models.checks.workplace import Workplace
from models.descriptors.paths import Trees, value_at
from models.evidence import Evidence
from models.quantities import converted, number_of
from models.units import duration_us

_NOTHING = -1.0  # remembered in the place of n where a window had nothing to measure


def design(workplace: Workplace) -> Iterator[Verdict]:
    """One verdict per pair of declared facts, and one per entry that cannot be understood or lacks its facts."""
    for entry in entries(workplace.trees):
        predicate = entry.predicate
        if predicate is None:
            yield _named(entry.id, CHECK.mismatch(entry.error, field=entry.path, left=workplace.side(entry.path)))
            continue
        live_sides = [is_telemetry(predicate.left), is_telemetry(predicate.right)]
        facts = [
            None if live else _declared(entry.path, name, value, workplace.trees, workplace)
            for live, name, value in zip(live_sides, ("left", "right"), (predicate.left, predicate.right), strict=True)
        ]
        left, right = facts
        if left is not None and right is not None:
            yield _verdict(predicate, left, right, predicate.left, minimum_n=0)
            continue
        for fact in facts:
            if fact is not None and fact.value is None:
                yield _said(
                    predicate, CHECK.unknown(f"{fact.path} is not declared", field=_about(predicate), left=fact)
                )


def live(seen: Observed) -> Iterator[Verdict]:
    """One verdict per entry that is about telemetry."""
    for entry in entries(seen.reference.descriptors):
        predicate = entry.predicate
        if predicate is None:
            yield _named(entry.id, CHECK.unknown(entry.error, field=entry.path))
        elif is_telemetry(predicate.left) or is_telemetry(predicate.right):
            yield _observed(seen, entry.path, predicate)


def _observed(seen: Observed, path: str, predicate: Predicate) -> Verdict:
    sides = []
    for name, value in (("left", predicate.left), ("right", predicate.right)):
        if not is_telemetry(value):
            sides.append(_declared(path, name, value, seen.reference.descriptors))
            continue
        side, reason = _telemetry(seen, predicate, name, value)
        if reason:
            return _said(predicate, CHECK.unknown(reason, field=_about(predicate), left=side))
        sides.append(side)
    return _verdict(predicate, sides[0], sides[1], _about(predicate), minimum_n=predicate.minimum_n, seen=seen)


def _about(predicate: Predicate) -> str:
    """What the verdict is about: the statistic, where there is one."""
    return predicate.left if is_telemetry(predicate.left) or not is_telemetry(predicate.right) else str(predicate.right)


def _telemetry(seen: Observed, predicate: Predicate, name: str, path: str) -> tuple[Side, str]:
    """A measured side, and why there is none."""
    count = windows_of(duration_us(predicate.window), seen.reference.window_us) if predicate.window else 0
    statistic = asked(path).statistic
    if not count:
        found = measured(seen, path)
        waiting = statistic.joined == "block" and seen.block is None
    elif count == 1:
        found, waiting = measured(dataclasses.replace(seen, block=seen.window), path), False
    elif statistic.pattern == "audited.accuracy":
        # Labels come late and belong to the window of their event, so windows are added up rather than averaged.
        since = seen.end_us - count * seen.reference.window_us
        recent = [window for window in seen.ring if since <= window.start < seen.end_us]
        found, waiting = side(path, audited_reading(_joined(recent))), False
    else:
        return _averaged(seen, predicate, name, path, count)
    if waiting:
        return found, seen.filling
    return found, f"{path} was not observed" if found.value is None else ""


def _joined(windows: list[Evidence]) -> Evidence | None:
    joined: Evidence | None = None
    for window in windows:
        joined = window if joined is None else joined.join(window)
    return joined


def _averaged(seen: Observed, predicate: Predicate, name: str, path: str, count: int) -> tuple[Side, str]:
    """The mean over the last `count` windows, its interval from their spread."""
    now = measured(dataclasses.replace(seen, block=seen.window), path)
    key = f"user:{predicate.id}/{name}"
    values = seen.remember(key, 0.0 if now.value is None else float(now.value), count)
    sizes = seen.remember(f"{key}.n", _NOTHING if now.value is None else float(now.n or 0.0), count)
    kept = np.array([value for value, n in zip(values, sizes, strict=True) if n != _NOTHING])
    if len(kept) < FEWEST:
        reason = f"{path} was observed in {len(kept)} of the last {count} windows, {FEWEST} are needed"
        return Side(path, unit=now.unit), reason
    mean = float(kept.mean())
    reach = float(stdtrit(len(kept) - 1, 0.95)) * float(kept.std(ddof=1)) / math.sqrt(len(kept))
    total = sum(n for n in sizes if n != _NOTHING)
    return side(path, Reading(mean, mean - reach, mean + reach, total), now.unit), ""


def _declared(path: str, name: str, value: Any, trees: Trees, workplace: Workplace | None = None) -> Side:
    """A side that stands in a descriptor: at its own path, or in the entry itself."""
    where = str(value) if is_path(value) else f"{path}.{name}"
    fact, unit = value_at(trees, where), unit_beside(trees, where) if is_path(value) else ""
    return workplace.side(where, fact, unit) if workplace else Side(where, fact, unit)


def _verdict(
    predicate: Predicate, left: Side, right: Side, about: str, *, minimum_n: int, seen: Observed | None = None
) -> Verdict:
    found = _judged(predicate, left, right, minimum_n)
    sides = {"field": about, "left": left, "right": right, "effect": _effect(left, right)}
    if found.outcome == "ok":
        return _said(predicate, CHECK.ok(**sides))
    if found.outcome == "unknown":
        return _said(predicate, CHECK.unknown(found.reason, **sides))
    evidence = seen.block.evidence() if seen is not None and seen.block is not None else ()
    return _said(predicate, CHECK.mismatch(_told(predicate, left, right, found), evidence=evidence, **sides))


def _judged(predicate: Predicate, left: Side, right: Side, minimum_n: int) -> Judgement:
    tolerances = {"tolerance": predicate.tolerance, "relative_tolerance": predicate.relative_tolerance}
    if predicate.operator != "within" or left.low is None or not isinstance(right.value, list) or len(right.value) != 2:
        return judge(left, predicate.operator, right, minimum_n=minimum_n, **tolerances)
    # What is measured lies within a range only if its whole interval does.
    ends = [msgspec.structs.replace(right, value=end) for end in right.value]
    both = [judge(left, op, end, minimum_n=minimum_n, **tolerances) for op, end in zip((">=", "<="), ends, strict=True)]
    return max(both, key=lambda judgement: RANK[judgement.outcome])


def _effect(left: Side, right: Side) -> Effect | None:
    """The measured side beside the limit, where both are numbers."""
    here, there = (left, right) if is_telemetry(left.path) else (right, left)
    value, limit = number_of(here.value), number_of(there.value)
    if not is_telemetry(here.path) or value is None:
        return None
    threshold = None if limit is None else converted(limit[0], unit_of_side(there), here.unit)
    return Effect(statistic=here.path, estimate=value[0], low=here.low, high=here.high, threshold=threshold, n=here.n)


def _told(predicate: Predicate, left: Side, right: Side, found: Judgement) -> str:
    own = f"{predicate.message.rstrip('.')}: " if predicate.message else ""
    more = f" ({found.reason})" if found.reason else ""
    return f"{own}{_fact(left)} must be {predicate.operator} {_fact(right)}, and is not{more}"


def _fact(side: Side) -> str:
    text = f"{side.value} {side.unit}".strip() if not isinstance(side.value, dict) else _plain(side.value)
    if not is_telemetry(side.path):
        return f"{text} ({side.path})"
    interval = "" if side.low is None else f"90% interval {side.low:.4g} to {side.high:.4g}, "
    return f"{side.path}, observed {text} ({interval}n {side.n:.6g}),"


def _plain(value: Mapping[str, Any]) -> str:
    number = number_of(dict(value))
    return f"{number[0]:g} {number[1]}".strip() if number else str(dict(value))


def _said(predicate: Predicate, verdict: Verdict) -> Verdict:
    """The verdict with the words of the entry."""
    own = {"severity": predicate.severity, "owner": predicate.owner, "remedy": predicate.remedy}
    return _named(predicate.id, msgspec.structs.replace(verdict, **{k: v for k, v in own.items() if v}))


def _named(name: str, verdict: Verdict) -> Verdict:
    return msgspec.structs.replace(verdict, check=f"user:{name}") if name else verdict


CHECK = Check(
    id="user-defined",
    title="What you declared yourselves",
    owner="system owner",
    remedy="see who wrote the check",
    action="review",
    design=design,
    live=live,
)
