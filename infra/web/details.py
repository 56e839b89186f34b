"""One model version, or a segment of it, in detail: what the page shows when somebody opens it."""

from typing import Any

from infra.web.overview import Overview
from infra.web.verdicts import part_state
from models.checks.catalogue import BY_ID
from models.columns import Subject
from models.lifecycle import resolution_id
from streams.store_pages import PageReader
from streams.store_rows import StoredEvent

WINDOWS, MOST_WINDOWS, TRIGGERS, HISTORY, MISMATCHES, SEGMENTS = 400, 2000, 50, 50, 100, 200
_ADVICE = "schedule-not-needed"


def details(
    overview: Overview, reader: PageReader, model: str, version: str, segment: str = "", windows: int = WINDOWS
) -> dict[str, Any] | None:
    """Everything about a model version that is public; None where the store knows none of that name."""
    row = overview.rows.get((model, version))
    status = reader.status_of(model, version, segment)
    if (row is None and status is None) or (segment and status is None):
        return None
    series = reader.series(model, version, segment, windows + 1)
    triggers = reader.history("trigger", model, version, TRIGGERS + 1)
    life = reader.history("lifecycle", model, version, HISTORY + 1)
    parts = overview.segments_of(model, version)
    found = [m for m in overview.mismatches_of(model, version) if (m.get("segment") or "") == segment or not segment]
    return {
        "model": model, "version": version, "segment": segment or None, "row": row, "status": status,
        "checks": checks_of(status or {}),
        "series": series[-windows:],
        "mismatches": found[:MISMATCHES],
        "triggers": _told(reader, triggers[:TRIGGERS]),
        "lifecycle": [event.body for event in life[:HISTORY]],
        "segments": sorted((_part(*part) for part in parts.items()), key=_worst)[:SEGMENTS],
        "limits": {
            "windows": [windows, len(series) > windows], "mismatches": [MISMATCHES, len(found) > MISMATCHES],
            "triggers": [TRIGGERS, len(triggers) > TRIGGERS], "lifecycle": [HISTORY, len(life) > HISTORY],
            "segments": [SEGMENTS, len(parts) > SEGMENTS],
        },
    }  # fmt: skip


def checks_of(status: dict[str, Any]) -> list[dict[str, str]]:
    """What each check says, what it asks, and whose it is; what is wrong comes first."""
    rank = {"mismatch": 0, "unknown": 1, "ok": 2}
    verdicts = sorted((status.get("verdicts") or {}).items(), key=lambda pair: (rank.get(pair[1], 1), pair[0]))
    return [{"check": name, "verdict": verdict, **_about(name)} for name, verdict in verdicts]


def _about(name: str) -> dict[str, str]:
    check = BY_ID.get(name)
    return {} if check is None else {"asks": check.page.splitlines()[0], "owner": check.owner}


def _part(name: str, body: dict[str, Any]) -> dict[str, Any]:
    window, quality, forecast = (body.get(part) or {} for part in ("window", "quality", "forecast"))
    return {
        "segment": name, "state": part_state(body), "n": window.get("n"), "end": window.get("end"),
        **{key: quality.get(key) for key in ("metric", "estimate", "low", "high", "basis")},
        "threshold": forecast.get("threshold"),
    }  # fmt: skip


def _worst(part: dict[str, Any]) -> tuple[int, str]:
    return ("below", "unknown", "good").index(part["state"]), part["segment"]


def _told(reader: PageReader, triggers: list[StoredEvent]) -> list[dict[str, Any]]:
    """Triggers, newest first, each with what became of it."""
    ends = {resolution_id(Subject(t.model, t.version), t.event_id): t.event_id for t in triggers}
    ended = {ends[name]: event.body for name, event in reader.by_id(list(ends)).items()}
    found = []
    for trigger in triggers:
        end = ended.get(trigger.event_id)
        advice = (trigger.body.get("reason") or {}).get("rule") == _ADVICE
        found.append({**trigger.body, "state": "resolved" if end else "advice" if advice else "open", "resolved": end})
    return found
