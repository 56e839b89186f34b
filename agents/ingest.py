"""inference -> profiles: decode frames and single events, profile them per window, keep predictions for late labels."""

from typing import Any

import numpy as np

from streams.asking import ask, ask_of_events, ask_of_frame
from streams.batches import Stamped, event_batch, frame_batch, kept_of_events, kept_of_frame
from streams.errors import Invalid
from streams.frames import Decoded, decode_frame, frame_bytes, without
from streams.intake import Intake
from streams.lane import Lane
from streams.records import FRAME, InferenceEvent, decode_inference, header
from streams.topics import INFERENCE

MAX_WAITING = 512  # single events that are turned into columns together


class Ingest(Intake):
    """Reads the inference topic."""

    name, topic = "ingest", INFERENCE

    def decode(self, message: Any) -> Decoded | InferenceEvent:
        """A frame or a single event, told apart by the content type, of a model that is watched."""
        if header(message.headers, "content-type").lower().startswith(FRAME):
            most = self.runtime.settings.max_frame_bytes
            return self._admitted(decode_frame(message.value or b"", message.offset, most), message.offset)
        event = decode_inference(message.value, message.headers)
        self.runtime.registry.admit(event.model, event.version)
        return event

    def _admitted(self, frame: Decoded, offset: int) -> Decoded:
        """The frame without rows of models that are one too many. Raises Invalid where none is left."""
        refused: list[Any] = []
        error = None
        subjects = [(subject, where) for subject, where in frame.subjects if not subject.segment]
        for subject, where in subjects:
            try:
                self.runtime.registry.admit(subject.model, subject.version)
            except Invalid as found:
                refused.append(np.arange(len(frame.rows))[where])
                error = found
        if error is None:
            return frame
        if len(refused) == len(subjects):
            raise error
        return without(frame, np.concatenate(refused), str(error), offset)

    async def digest(self, lane: Lane, message: Any, record: Decoded | InferenceEvent) -> None:
        """Frames go straight into the book, single events together with others."""
        received = int(message.timestamp * 1e6)
        if isinstance(record, InferenceEvent):
            lane.queued(Stamped(message.offset, received, record))
            if len(lane.queue) >= MAX_WAITING:
                await self._add(lane)
            return
        await self._add(lane)
        if record.rejected is not None:
            self._bury_rows(lane, message, record)
        rate, registry = self.runtime.settings.keep_rate, self.runtime.registry
        ask_of_frame(record, rate, registry.get)
        kept = ask(kept_of_frame(record, rate, registry.temperature), rate, registry.get)
        batch = frame_batch(record, message.offset, received, self.runtime.registry.describes)
        await lane.add(batch, kept)

    async def flush(self) -> None:
        """Add the single events that wait."""
        for lane in list(self.lanes.values()):
            await self._add(lane)

    async def _add(self, lane: Lane) -> None:
        waiting = lane.unqueue()
        if waiting:
            rate, registry = self.runtime.settings.keep_rate, self.runtime.registry
            asked = ask_of_events([s.event for s in waiting], rate, registry.get)
            batch = event_batch(waiting, registry.describes, asked)
            kept = ask(kept_of_events(waiting, rate, registry.temperature), rate, registry.get)
            await lane.add(batch, kept)

    def _bury_rows(self, lane: Lane, message: Any, record: Decoded) -> None:
        """Rows that are not counted become a frame of their own among the dead letters."""
        rejected = record.rejected
        assert rejected is not None  # noqa: S101 -- for the type checker
        message.value = frame_bytes(rejected)
        error = Invalid(f"{record.why}; this frame holds just them")
        lane.bury(message, error, self.name)
