"""How every model stands now, as the store tells it: what Prometheus and Alertmanager are told, and nothing else.

A version counts while it is registered, nothing has replaced it, and its newest window is younger than `KEEP_DAYS`, or
than three windows.
"""

from datetime import datetime
from typing import Any

import msgspec

from models.columns import Subject
from models.lifecycle import resolution_id
from streams.store_readers import StoreReader
from streams.store_rows import StoredEvent

DAY_US = 86_400_000_000
KEEP_DAYS = 30  # a version silent for longer, which nobody retired, is left out
MOST = 1000  # model versions, those with the newest windows first


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """One model version over all segments. Times are seconds since the epoch; None: nothing honest is known."""

    model: str
    version: str
    metric: str
    window_start: float
    window_end: float
    n: int
    estimate: float | None
    low: float | None
    high: float | None
    threshold: float | None
    good_until: float | None
    best_before: float | None
    probability: float | None


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """All versions that count, the newest verdict of each of their open mismatches, and their open triggers."""

    models: tuple[Standing, ...] = ()
    mismatches: tuple[StoredEvent, ...] = ()
    triggers: tuple[StoredEvent, ...] = ()


def overview(store: StoreReader, now_us: int) -> Overview:
    """Read the store; `now_us` is the wall clock. Raises StoreUnreachable and StoreOutdated."""
    found = store.latest_status()
    whole = [event for event in found if not event.segment and _counts(event, now_us)]
    whole = sorted(whole, key=lambda event: (-(event.window_end_us or 0), event.model, event.version))[:MOST]
    versions = {(event.model, event.version) for event in whole}
    # Only who says in its status that something is open can have something open, and looking it up is the long part.
    wrong = {
        (event.model, event.version, event.segment)
        for event in found
        if (event.model, event.version) in versions and event.body.get("open_mismatches")
    }
    mismatches = [
        event
        for event in store.open_verdicts(sorted({model for model, _, _ in wrong}))
        if (event.model, event.version, event.segment) in wrong
    ]
    return Overview(
        models=tuple(_standing(event) for event in whole),
        mismatches=tuple(mismatches),
        triggers=tuple(_open_triggers(store, whole)),
    )


def _counts(event: StoredEvent, now_us: int) -> bool:
    life = event.body.get("lifecycle") or {}
    serves = life.get("serving", True) and not life.get("retired")
    start, end = event.window_start_us or 0, event.window_end_us or 0
    kept_us = max(KEEP_DAYS * DAY_US, 3 * (end - start))  # long windows come seldom
    return bool(event.body.get("registered") and serves and end > now_us - kept_us)


def _open_triggers(store: StoreReader, statuses: list[StoredEvent]) -> list[StoredEvent]:
    """Those that a status names, and that nobody has answered and no later line has resolved.

    A version may end between two windows. An answer that resolves nothing, such as a refusal, is one all the same:
    nobody is to be called who has said no.
    """
    names = {name for event in statuses for name in (event.body.get("open_triggers") or {}).values()}
    found = store.by_id(sorted(names))
    ends = {resolution_id(Subject(event.model, event.version), name): name for name, event in found.items()}
    ended = {ends[name] for name in store.by_id(sorted(ends))}
    left = {name: event for name, event in found.items() if name not in ended}
    unanswered = {event.event_id for event in store.open_triggers()} if left else set()
    return [event for name, event in sorted(left.items()) if name in unanswered]


def _standing(event: StoredEvent) -> Standing:
    quality, forecast, window = (event.body.get(name) or {} for name in ("quality", "forecast", "window"))
    return Standing(
        model=event.model, version=event.version, metric=quality.get("metric") or "",
        window_start=(event.window_start_us or 0) / 1e6, window_end=(event.window_end_us or 0) / 1e6,
        n=window.get("n") or 0, estimate=quality.get("estimate"), low=quality.get("low"),
        high=quality.get("high"), threshold=forecast.get("threshold"), good_until=seconds(forecast.get("low")),
        best_before=seconds(forecast.get("best_before")), probability=forecast.get("probability_within_lead_time"),
    )  # fmt: skip


def seconds(told: Any) -> float | None:
    """A time of an event's body, RFC 3339, as seconds since the epoch; None where there is none."""
    try:
        return datetime.fromisoformat(told).timestamp() if isinstance(told, str) else None
    except ValueError:
        return None
