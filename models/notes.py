"""What is told: one line of a topic and one event of the store, with an id that follows from what happened."""

import uuid
from typing import Any, Literal

import msgspec

from models.columns import Subject

NAMESPACE = uuid.UUID("5b0e6a0e-93e6-5c3e-8a36-0f1d2a7c9b11")


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """One line. `body` is what readers see; times are microseconds since the epoch, UTC."""

    id: str
    kind: Literal["status", "mismatch", "trigger", "lifecycle"]
    subject: Subject
    at_us: int
    start_us: int
    end_us: int
    body: dict[str, Any]
    check: str | None = None
    severity: str | None = None


def note_id(subject: Subject, start: int, *parts: str) -> str:
    """The id of what happened to `subject` in the window that starts at `start`; a replay makes the same."""
    return str(uuid.uuid5(NAMESPACE, "\x00".join((*subject, str(start), *parts))))


def rounded(value: float | None) -> float | None:
    """Six significant digits: what is told does not depend on the last bits of a processor."""
    return None if value is None else float(f"{value:.6g}")


def digits(value: Any) -> Any:
    """The same with every real number `rounded`."""
    if isinstance(value, dict):
        return {key: digits(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [digits(part) for part in value]
    return rounded(value) if isinstance(value, float) else value
