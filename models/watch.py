"""Mismatches over time: opened when windows agree that there is one, resolved when they agree that it is gone."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from models.causes import OpenCause
from models.checks.owners import addressed
from models.checks.verdict import Action, Effect, Severity, Verdict
from models.columns import Subject
from models.notes import Note, digits, note_id
from models.policy import rfc3339
from models.reference import Reference

SHARES = ("share", "share of one value")  # statistics that count the events a mismatch touches
RATES = ("null rate",)  # and those that are compared with a declared one
CONFIRM = 2  # windows that must agree before a mismatch opens, and before it is resolved
MOST = 1000  # mismatches under watch at a time: clients choose names of versions and providers


TracesOf = Callable[[tuple[str, ...]], list[str]]


def untraced(evidence: tuple[str, ...]) -> list[str]:  # noqa: ARG001 -- one of `TracesOf`
    """No traces: nobody sent any."""
    return []


class Open(msgspec.Struct):
    """A mismatch under watch: `bad` and `good` count windows in a row; `id` is set while it is open."""

    bad: int = 0
    good: int = 0
    id: str = ""
    first_seen_us: int = 0
    action: Action = "review"
    severity: Severity = "warning"
    message: str = ""
    affected: float | None = None  # share of events that it touches, where the check counts them


def causes_of(opened: dict[str, Open]) -> tuple[OpenCause, ...]:
    """The open mismatches as a decision sees them."""
    return tuple(
        OpenCause(
            id=watched.id, check=key.partition("/")[0], field=key.partition("/")[2], action=watched.action,
            severity=watched.severity, first_seen_us=watched.first_seen_us, message=watched.message,
            affected=watched.affected,
        )
        for key, watched in sorted(opened.items())
        if watched.id
    )  # fmt: skip


def watch(
    opened: dict[str, Open], subject: Subject, reference: Reference, start: int, verdicts: list[Verdict],
    traces: TracesOf = untraced, *, heard: bool = True,
) -> list[Note]:  # fmt: skip
    """Open a mismatch after CONFIRM windows that show it, resolve it after CONFIRM windows that do not.

    What is unknown does neither: an open mismatch stays until there is evidence that it is gone. That a check finds
    other facts in order and says nothing more of this one, or is no longer declared, is such evidence, unless the
    window had no event (`heard`). `traces` gives example requests of what a verdict has as evidence.
    """
    notes = []
    for verdict in [*verdicts, *(_gone(opened, verdicts) if heard else ())]:
        if verdict.verdict == "unknown":
            continue
        key = f"{verdict.check}/{verdict.field}"
        shown = verdict.verdict == "mismatch"
        watched = opened.get(key)
        if watched is None:
            if not shown or len(opened) >= MOST:
                continue  # most facts are fine most of the time: nothing to remember
            watched = opened[key] = Open()
        watched.bad, watched.good = (watched.bad + 1, 0) if shown else (0, watched.good + 1)
        if shown:
            watched.action, watched.severity, watched.message = verdict.action, verdict.severity, verdict.message
            effect = verdict.effect
            watched.affected = None if effect is None else _affected(effect)
            if watched.bad == 1 and not watched.id:
                watched.first_seen_us = start
        if watched.bad >= CONFIRM and not watched.id:
            watched.id = note_id(subject, watched.first_seen_us, verdict.check, verdict.field)
            notes.append(_mismatch(subject, reference, start, verdict, watched, watched.id, traces(verdict.evidence)))
        elif watched.good >= CONFIRM:
            if watched.id:
                resolved = note_id(subject, start, verdict.check, verdict.field, "resolved")
                notes.append(_mismatch(subject, reference, start, verdict, watched, resolved))
            del opened[key]
    return notes


def _gone(opened: dict[str, Open], verdicts: list[Verdict]) -> list[Verdict]:
    """An ok for everything under watch that its check had nothing more to say about, though it could have."""
    said = {f"{v.check}/{v.field}" for v in verdicts}
    spoke, judged = {v.check for v in verdicts}, {v.check for v in verdicts if v.verdict == "ok"}
    if not judged:
        return []
    found = []
    for key, watched in opened.items():
        check, _, field = key.partition("/")
        if key not in said and (check in judged or check not in spoke):
            found.append(
                Verdict(check=check, verdict="ok", field=field, severity=watched.severity, action=watched.action)
            )
    return found


def _affected(effect: Effect) -> float | None:
    """Share of the events that a mismatch touches, where its statistic counts them."""
    if effect.statistic in RATES and effect.threshold is not None:
        return abs(effect.estimate - effect.threshold)
    return effect.estimate if effect.statistic in SHARES else None


def _mismatch(
    subject: Subject, reference: Reference, start: int, verdict: Verdict, watched: Open, note: str,
    traces: Sequence[str] = (),
) -> Note:  # fmt: skip
    end = start + reference.window_us
    body: dict[str, Any] = {
        "id": note,
        "check": verdict.check,
        "verdict": verdict.verdict,
        "severity": verdict.severity,
        "model": subject.model,
        "version": subject.version or None,
        "segment": subject.segment or None,
        "field": verdict.field,
        "left": _plain(verdict.left),
        "right": _plain(verdict.right),
        "effect": _plain(verdict.effect),
        "window": {"start": rfc3339(start), "end": rfc3339(end)},
        "first_seen": rfc3339(watched.first_seen_us),
        "message": verdict.message or f"{verdict.field or verdict.check} looks as declared again",
        "owner": addressed(verdict, reference.descriptors, reference.owner).owner,
        "action": verdict.action,
        "remedy": verdict.remedy,
        "aliases": list(verdict.aliases),
        "descriptors": reference.digest,
        "evidence": list(verdict.evidence),
        "incident": watched.id,
        **({"traces": list(traces)} if traces else {}),
    }
    return Note(
        id=note, kind="mismatch", subject=subject, at_us=end, start_us=start, end_us=end, body=body,
        check=verdict.check, severity=verdict.severity,
    )  # fmt: skip


def _plain(part: Any) -> Any:
    return None if part is None else digits(msgspec.to_builtins(part))
