"""outbox -> mismatches, retrain-triggers, status, lifecycle: CloudEvents with deterministic ids, fed from the store.

A record is sent until the broker has it, and only then leaves the outbox: a consumer may see an id twice, but never two
ids for one cause.
"""

import msgspec

from models.notes import Note
from streams.envelopes import Kind, attributes, traced
from streams.records import time_text
from streams.runtime import Runtime
from streams.settings import Settings
from streams.store_rows import OutboxMessage
from streams.topics import LIFECYCLE, MISMATCHES, STATUS, TRIGGERS

MAX_ROWS = 500
TRACED = "ce_traceparent"
_KINDS: dict[str, tuple[str, Kind]] = {
    "status": (STATUS, "status"),
    "mismatch": (MISMATCHES, "mismatch"),
    "trigger": (TRIGGERS, "retrain-trigger"),
    "lifecycle": (LIFECYCLE, "lifecycle"),
}


def outbox(note: Note, partition: int, settings: Settings) -> OutboxMessage:
    """A note as a binary CloudEvent on its topic."""
    topic, kind = _KINDS[note.kind]
    subject = note.subject
    key = "/".join(part for part in subject if part) if note.kind == "status" else subject.model
    headers = attributes(kind, note.id, group=settings.group, time=time_text(note.at_us), subject=key)
    traces = note.body.get("traces")
    if traces:
        headers |= traced(traces[0])
    return OutboxMessage(
        partition=partition, topic=topic, key=key, headers=headers, value=msgspec.json.encode(note.body)
    )


class Publisher:
    """Drains the outbox of the partitions that this worker owns."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def drain(self, partition: int) -> None:
        """Send everything that waits for a partition, in order."""
        store = self._runtime.store
        while rows := await self._runtime.stored(store.outbox, [partition], MAX_ROWS):
            traces = [row.headers[TRACED] for row in rows if TRACED in row.headers]
            with self._runtime.spans.step("publish", "outbox", traces, events=len(rows)):
                for row in rows:
                    headers = [(name, value.encode()) for name, value in row.headers.items()]
                    await self._runtime.send(row.topic, row.key.encode(), row.value, headers)
            await self._runtime.stored(store.sent, [row.seq for row in rows])
