"""What is told of changes: verdicts for the watch, and the `change` object of a status line.

Drift without harm explains and is `info`. Harm is a `warning`; where no stream of data changed with it, errors say that
P(y given x) is not what it was. None of them withholds a retraining or asks for one: quality decides.
"""

from typing import Any

from models.causes import CHANGE
from models.change import Change, Suspected
from models.change_readings import EMBEDDING, ERRORS, INPUTS, OUTPUTS
from models.checks.promise import FALSE_ALARMS
from models.checks.verdict import Effect, Severity, Side, Verdict
from models.notes import rounded
from models.policy import rfc3339
from models.run_length import RunLength
from models.units import duration_text

OWNER, REMEDY = "data scientist", "look at what changed at that time; quality decides about retraining"
CHECKS = {INPUTS: "covariate-drift", OUTPUTS: "label-and-prediction-shift", EMBEDDING: "embedding-drift"}
SHOWN = 5  # streams that a message names


def verdicts(change: Change) -> list[Verdict]:
    """One mismatch per check that a recent change concerns; ok where it is over."""
    open_: dict[str, list[Suspected]] = {}
    for suspected in change.held.values():
        open_.setdefault(_check(suspected), []).append(suspected)
    over = {_check_of(name) for name in change.ended} | {_check(s) for s in change.last if s.stream in change.ended}
    found = [_mismatch(change, check, suspects) for check, suspects in sorted(open_.items())]
    return found + [
        Verdict(
            check=check, verdict="ok", field=CHANGE, severity="info", owner=OWNER, remedy=REMEDY,
            message="what had changed is steady at its new level, which is the one watched from now on",
        )
        for check in sorted(over - open_.keys())
    ]  # fmt: skip


def status(change: Change) -> dict[str, Any]:
    """Promise, what is achieved in replay, evidence, and the state of every stream."""
    promised = change.run_length
    return {
        "promised": {"windows": rounded(promised), "time": _time(change, promised)},
        "achieved": _achieved(change, change.achieved),
        "told": told(change),
        "evidence": rounded(change.budget.evidence / promised),
        "alarms": change.budget.alarms,
        "streams": {
            name: {
                "state": stream.status, "reason": stream.reason or None, "block": _time(change, stream.ticks),
                "achieved": _achieved(change, stream.achieved),
            }
            for name, stream in sorted(change.streams.items())
        },
        "last_alarm": [_suspect(change, suspected) for suspected in change.last] or None,
    }  # fmt: skip


def told(change: Change) -> str:
    """Promise and achievement in one sentence."""
    promised, found = f"one false alarm in {_time(change, change.run_length)} is promised", change.achieved
    if found is None:
        learning = sum(stream.status == "learning" for stream in change.streams.values())
        return f"{promised}; {learning} of {len(change.streams)} streams are learning, and nothing is replayed yet"
    once = "none came" if found.achieved is None else f"one came every {_time(change, found.achieved)}"
    low, high = _time(change, found.low), "more" if found.high is None else _time(change, found.high)
    replayed = f"in {_time(change, found.ticks)} of replayed reference traffic {once}"
    return f"{promised}; {replayed} (90% interval {low} to {high})"


def _mismatch(change: Change, check: str, suspects: list[Suspected]) -> Verdict:
    ordered = sorted(suspects, key=lambda s: (-s.part, s.stream))
    first = ordered[0]
    harm = any(s.harm and s.moved.size > 0 for s in suspects)
    severity: Severity = "warning" if harm else "info"
    named = "; ".join(_one(change, s) for s in ordered[:SHOWN])
    more = f"; and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else ""
    alone = ", while no stream of data did: what the labels mean may have changed" if _concept(first) else ""
    moved, path = first.moved, f"telemetry.streams.{first.stream}"
    return Verdict(
        check=check, verdict="mismatch", field=CHANGE, severity=severity, owner=OWNER, action="review", remedy=REMEDY,
        left=Side(FALSE_ALARMS, f"once in {_time(change, change.run_length)}"),
        right=Side(path, _six(moved.level + moved.size), low=_six(moved.level + moved.low),
                   high=_six(moved.level + moved.high), n=moved.blocks),
        effect=Effect(statistic="change of the mean", estimate=_six(moved.size), low=_six(moved.low),
                      high=_six(moved.high), threshold=0.0, n=moved.blocks),
        message=f"{named}{more}{alone}; {told(change)}",
    )  # fmt: skip


def _one(change: Change, suspected: Suspected) -> str:
    moved = suspected.moved
    return (
        f"{suspected.stream} {'rose' if moved.size > 0 else 'fell'} by {abs(moved.size):.3g} (90% interval "
        f"{moved.low:.3g} to {moved.high:.3g}) from {moved.level:.3g} since about "
        f"{rfc3339(moved.since * change.window_us)}"
    )


def _suspect(change: Change, suspected: Suspected) -> dict[str, Any]:
    moved = suspected.moved
    return {
        "stream": suspected.stream, "part": rounded(suspected.part), "since": rfc3339(moved.since * change.window_us),
        "raised": rfc3339((suspected.tick + 1) * change.window_us), "harm": suspected.harm,
        "from": rounded(moved.level), "change": rounded(moved.size), "low": rounded(moved.low),
        "high": rounded(moved.high), "n": moved.blocks,
    }  # fmt: skip


def _concept(suspected: Suspected) -> bool:
    return suspected.stream == ERRORS and suspected.alone and suspected.moved.size > 0


def _check(suspected: Suspected) -> str:
    return "calibration-and-concept" if _concept(suspected) else _check_of(suspected.stream)


def _check_of(stream: str) -> str:
    kind = stream.partition("/")[0]
    return CHECKS.get(kind, "quality-and-time-to-threshold")


def _achieved(change: Change, found: RunLength | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "windows": rounded(found.achieved), "low": rounded(found.low), "high": rounded(found.high), "n": found.alarms,
        "replayed": _time(change, found.ticks), "promised": rounded(found.promised),
    }  # fmt: skip


def _time(change: Change, windows: float) -> str:
    return duration_text(windows * change.window_us)


def _six(value: float) -> float:
    return float(f"{value:.6g}")
