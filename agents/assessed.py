"""What was assessed as rows of the event store."""

from models.notes import Note
from models.profile import WEIGHT, Profile
from streams.lane import ProfileRecord
from streams.store_rows import Event, WindowCounts


def counts_of(record: ProfileRecord, profile: Profile) -> WindowCounts:
    """What a profile adds to the counts of its window."""
    counts = profile.counts
    failed = counts.get("failed", 0) + counts.get("abstained", 0)
    return WindowCounts(
        model=record.model,
        version=record.version,
        segment=record.segment,
        window_start_us=record.start,
        window_end_us=record.start + record.length,
        n=profile.n,
        n_late=counts.get("late", 0),
        n_capped=counts.get("capped", 0),
        n_failed=failed,
        n_input=counts.get("n_input", 0),
        n_labelled=counts.get("audit.n", 0),
        n_correct=counts.get("audit.n_correct", 0),
        weight=counts.get("weight", 0) / WEIGHT,
    )


def event_of(note: Note) -> Event:
    """A note as an event of the store."""
    return Event(
        event_id=note.id,
        kind=note.kind,
        model=note.subject.model,
        version=note.subject.version,
        segment=note.subject.segment,
        check=note.check,
        severity=note.severity,
        occurred_at_us=note.at_us,
        window_start_us=note.start_us,
        window_end_us=note.end_us,
        body=note.body,
    )
