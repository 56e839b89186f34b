"""Makes a folder of descriptors the reference of its model version, unless something speaks against it."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from infra.check_formats import printable, sides
from infra.check_text import counted
from infra.checking import check
from infra.show import lacking
from models.checks.verdict import Verdict
from models.reference import Reference
from streams.errors import DescriptorError
from streams.event_store import EventStore
from streams.inspecting import encode_inspection
from streams.registry import decode_reference, encode_reference
from streams.settings import Settings
from streams.topics import DAY_MS, INFERENCE, TOPICS

HOUR_US = 3_600_000_000


class Done(NamedTuple):
    """Whether it is registered now, and what to tell."""

    registered: bool
    lines: list[str]


def register(
    folder: Path, settings: Settings, open_store: Callable[[], EventStore], *, accept_mismatches: bool = False
) -> Done:
    """Check, then register. With critical mismatches the store is not even opened. Raises DescriptorError."""
    report = check(folder, settings)
    reference = report.reference
    critical = report.failing("critical")
    found = [line for verdict in report.mismatches for line in _mismatch(verdict)]
    if critical and not accept_mismatches:
        told = f"{reference.model} {reference.version} is not registered: {counted(len(critical), 'critical mismatch')}"
        cure = f"Mend what is critical (bestbefore check {folder} shows all), or register with --accept-mismatches."
        return _done(False, [told, *found, cure])
    store = open_store()
    require_same_windows(store, reference)
    changed = store.register(reference.model, reference.version, reference.digest, encode_reference(reference))
    if report.inspection is not None:
        store.save_inspection(reference.model, reference.version, encode_inspection(report.inspection))
    state = "registered" if changed else "was registered already"
    despite = f", despite {counted(len(critical), 'critical mismatch')}" if critical else ""
    first = f"{reference.model} {reference.version} {state} (digest {reference.digest[:12]}){despite}"
    return _done(True, [first, *found, *(f"  note: {line}" for line in [*lacking(reference), *outlasting(reference)])])


def _done(registered: bool, lines: list[str]) -> Done:
    return Done(registered, [printable(line) for line in lines])


def _mismatch(verdict: Verdict) -> list[str]:
    """What is wrong, and below it where that stands and who can mend it how."""
    places = " and ".join(dict.fromkeys(side.place for _, side in sides(verdict) if side.place))
    cure = f"{verdict.owner}: {verdict.remedy}" + (f" ({places})" if places else "")
    return [f"  {verdict.severity}: {verdict.check}: {verdict.message}", f"    {cure}"]


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
