"""What speaks against registering descriptors although they are sound by themselves."""

from models.reference import Reference
from streams.errors import DescriptorError
from streams.event_store import EventStore
from streams.registry import decode_reference
from streams.topics import DAY_MS, INFERENCE, TOPICS

HOUR_US = 3_600_000_000


def require_same_windows(store: EventStore, reference: Reference) -> None:
    """Raises DescriptorError when this model version is registered with another window or lateness."""
    for row in store.registrations():
        if (row.model, row.version) != (reference.model, reference.version):
            continue
        known = decode_reference(row.body)
        if (known.window_us, known.lateness_us) != (reference.window_us, reference.lateness_us):
            raise DescriptorError(
                f"{row.model} {row.version} is registered with window {_hours(known.window_us)} and lateness "
                f"{_hours(known.lateness_us)}, these descriptors say {_hours(reference.window_us)} and "
                f"{_hours(reference.lateness_us)}: counted windows would overlap; register it under a new version"
            )


def outlasting(reference: Reference) -> list[str]:
    """A note when windows stay open so long that records may be deleted before they need not be read again."""
    days = next(topic.days for topic in TOPICS if topic.name == INFERENCE)
    open_us, limit_us = reference.window_us + reference.lateness_us, days * DAY_MS * 1000 // 2
    if open_us <= limit_us:
        return []
    return [
        f"window and lateness together are {_hours(open_us)}, more than half of the {days} days for which topic "
        f"{INFERENCE} keeps records by default: after an outage rows may be gone before their window is complete; "
        "unless you have raised the topic's retention, raise it or choose a shorter window"
    ]


def _hours(us: int) -> str:
    return f"{us / HOUR_US:g} h"
