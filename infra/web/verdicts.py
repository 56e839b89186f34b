"""One row of the live page: how a model version stands, in a word, worst first. Pure; `now_us` is handed in."""

from collections.abc import Iterable, Mapping
from typing import Any

from models.descriptors.fields import instant_us
from models.units import SECOND_US

STATES = {  # worst first
    "below": "Below its threshold",
    "past": "Past its best-before date",
    "asked": "Retraining asked for",
    "fix": "Another cure asked for",
    "due": "May be below its threshold by now",
    "silent": "No data",
    "mismatch": "Not as declared",
    "unknown": "Unknown",
    "waiting": "No window yet",
    "good": "Good",
    "replaced": "Replaced",
    "retired": "Retired",
}
RANK = {state: rank for rank, state in enumerate(STATES)}
SILENT_WINDOWS, SILENT_AT_LEAST = 3, 3600 * SECOND_US  # without news for so long a model is silent
_LATEST = "~"  # behind every date


def row(
    model: str, version: str, body: Mapping[str, Any], *, now_us: int, mismatches: Iterable[Mapping[str, Any]] = (),
    triggers: Iterable[Mapping[str, Any]] = (), segments: Mapping[str, int] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What the overview shows of a model version whose newest status is `body`.

    `mismatches` and `triggers` are the bodies of those that are open.
    """
    asked = [_asked(trigger) for trigger in triggers]
    counts = dict.fromkeys(("critical", "warning", "info"), 0)
    for mismatch in mismatches:
        severity = mismatch.get("severity")
        counts[severity if severity in counts else "warning"] += 1
    quality, forecast = body.get("quality") or {}, body.get("forecast") or {}
    silent = is_silent(body.get("window") or {}, now_us)
    state, why = _state(body, asked, counts, silent=silent, now_us=now_us)
    found = {
        "model": model, "version": version, "state": state, "word": STATES[state], "why": why, "silent": silent,
        "registered": bool(body.get("registered", True)), "window": body.get("window"), "quality": quality,
        "threshold": forecast.get("threshold"),
        "forecast": {name: forecast.get(name) for name in (
            "best_before", "low", "high", "probability_within_lead_time", "censored", "reason")},
        "retrain_by": min((a["retrain_by"] for a in asked if a["action"] == "retrain"), default=None),
        "triggers": asked, "mismatches": counts, "segments": segments or {"n": 0, "below": 0, "unknown": 0},
        "lifecycle": body.get("lifecycle") or {}, "verdicts": _counted((body.get("verdicts") or {}).values()),
    }  # fmt: skip
    return {**found, "order": order(found)}


def waiting(model: str, version: str, registered_at: str) -> dict[str, Any]:
    """The row of a model version that is registered and has no status yet."""
    why = "a status comes with its first closed window"
    found = row(model, version, {}, now_us=0) | {
        "state": "waiting", "word": STATES["waiting"], "why": why, "registered_at": registered_at,
    }  # fmt: skip
    return {**found, "order": order(found)}


def order(found: Mapping[str, Any]) -> list[Any]:
    """Worst first; within a state what ends first, then by name."""
    forecast = found["forecast"]
    ends = found["retrain_by"] or forecast["low"] or forecast["best_before"]
    critical = -found["mismatches"]["critical"]
    return [RANK[found["state"]], critical, ends or _LATEST, found["model"], found["version"]]


def is_silent(window: Mapping[str, Any], now_us: int) -> bool:
    """Whether the newest window is empty, or older than windows that should have come since."""
    start, end = _us(window.get("start")), _us(window.get("end"))
    if start is None or end is None:
        return False
    return not window.get("n") or now_us - end > max(SILENT_WINDOWS * (end - start), end - start + SILENT_AT_LEAST)


def part_state(body: Mapping[str, Any]) -> str:
    """Whether a segment is below its threshold or good, with its whole interval; unknown where that holds both."""
    quality, threshold = body.get("quality") or {}, (body.get("forecast") or {}).get("threshold")
    if quality.get("estimate") is None or quality.get("low") is None or threshold is None:
        return "unknown"
    if _under(quality.get("high"), threshold):
        return "below"
    return "unknown" if _under(quality["low"], threshold) else "good"


def _state(
    body: Mapping[str, Any], asked: list[dict[str, Any]], counts: Mapping[str, int], *, silent: bool, now_us: int
) -> tuple[str, str | None]:
    """The worst that is so, and why; None where the dates say it."""
    life, forecast, quality = (body.get(name) or {} for name in ("lifecycle", "forecast", "quality"))
    unread = quality.get("estimate") is None
    undated = not any(forecast.get(name) for name in ("best_before", "low", "censored"))
    reason = forecast.get("reason") or (unread and quality.get("reason")) or None
    empty = "no traffic in its newest window" if not (body.get("window") or {}).get("n") else None
    over = f"version {life['successor']} has taken over" if life.get("successor") else None
    known = (
        ("retired", life.get("retired"), None),
        ("replaced", life.get("serving") is False, over),
        ("below", _under(quality.get("high"), forecast.get("threshold")), None),
        ("past", _passed(forecast.get("best_before"), now_us), None),
        ("asked", any(one["action"] == "retrain" for one in asked), None),
        ("fix", any(one["action"] != "retrain" and not one["advice"] for one in asked), None),
        ("due", _passed(forecast.get("low"), now_us), None),
        ("silent", silent, empty),
        ("mismatch", counts["critical"] or counts["warning"], None),
        ("unknown", reason or unread or undated, reason or "nothing is said of it"),
    )
    return next(((state, why) for state, so, why in known if so), ("good", None))


def _asked(trigger: Mapping[str, Any]) -> dict[str, Any]:
    reason = trigger.get("reason") or {}
    fields = {name: trigger.get(name) for name in ("action", "severity", "retrain_by", "created_at")}
    return {"id": trigger.get("trigger_id"), **fields, "advice": reason.get("rule") == "schedule-not-needed"}


def _counted(verdicts: Iterable[str]) -> dict[str, int]:
    found = {"ok": 0, "mismatch": 0, "unknown": 0}
    for verdict in verdicts:
        found[verdict] = found.get(verdict, 0) + 1
    return found


def _under(value: Any, threshold: Any) -> bool:
    return isinstance(value, float | int) and isinstance(threshold, float | int) and value < threshold


def _passed(text: Any, now_us: int) -> bool:
    at = _us(text)
    return at is not None and at <= now_us


def _us(text: Any) -> int | None:
    """Microseconds of an RFC 3339 time; None for what is none."""
    try:
        return instant_us(text) if isinstance(text, str) else None
    except ValueError:
        return None
