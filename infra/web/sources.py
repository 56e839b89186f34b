"""Whether data are coming, as one worker sees it: its topics, the dead letters it wrote, broker and store."""

from collections.abc import Iterable
from typing import Any

from streams.progress import Seen
from streams.records import time_text
from streams.runtime import Runtime
from streams.services import Service


def coming_in(runtime: Runtime, agents: Iterable[str], now: float) -> dict[str, Any]:
    """What the page tells under "Is data coming?"; `now` is monotonic."""
    by_topic: dict[str, list[Seen]] = {}
    for seen in runtime.progress.snapshot.partitions:
        by_topic.setdefault(runtime.metrics.topic(seen.topic), []).append(seen)
    services = {"broker": runtime.services.broker, "store": runtime.services.store}
    return {
        "group": runtime.settings.group,
        "agents": list(agents),
        "topics": [_topic(name, parts) for name, parts in sorted(by_topic.items())],
        "dead_letters": [
            {"topic": topic, "stage": stage, "n": n} for topic, stage, n in sorted(runtime.metrics.dead_letters()) if n
        ],
        "services": [_service(name, service, now) for name, service in services.items()],
    }


def _topic(name: str, parts: list[Seen]) -> dict[str, Any]:
    return {
        "topic": name,
        "partitions": len(parts),
        "lag": sum(seen.lag for seen in parts),
        "open_windows": sum(seen.windows for seen in parts),
        "last_event": _newest(seen.event_us for seen in parts),
        "last_record": _newest(seen.received_us for seen in parts),
    }


def _service(name: str, service: Service, now: float) -> dict[str, Any]:
    return {"service": name, "answers": service.reachable(now), "since": time_text(int(service.since * 1e6))}


def _newest(times: Iterable[int | None]) -> str | None:
    found = max((at for at in times if at is not None), default=None)
    return None if found is None else time_text(found)
