"""inference -> profiles: decode frames and single events, profile them per window, keep predictions for late labels."""

from typing import Any

import msgspec
import numpy as np
from faust.types import TP

from models.window_book import Clock
from streams.adapters.contract import Thing
from streams.asking import ask, ask_of_events, ask_of_frame
from streams.batches import Stamped, event_batch, frame_batch, kept_of_events, kept_of_frame
from streams.errors import BadRecord, Invalid, LoneHalf
from streams.frames import Decoded, decode_frame, frame_bytes, without
from streams.heartbeats import Heartbeat, Recorders, decode_heartbeat, heartbeat_batch, is_heartbeat
from streams.intake import Intake
from streams.lane import Lane
from streams.records import FRAME, InferenceEvent, LabelEvent, bounded_segment_key, decode_inference, header
from streams.runtime import Runtime
from streams.sourced import Sourced
from streams.topics import INFERENCE, LABELS
from streams.traces import of_record

Own = Decoded | InferenceEvent | Heartbeat
Record = Own | list[Thing | BadRecord]
MAX_WAITING = 512  # single events that are turned into columns together


class Ingest(Intake):
    """Reads the inference topic."""

    name, topic = "ingest", INFERENCE

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._recorders: dict[TP, Recorders] = {}

    def reads(self, topic: str) -> bool:
        """The inference topic, and those that sources.yaml maps to an adapter."""
        return self.runtime.carries_inferences(topic)

    def lane(self, tp: TP, generation: int, start: int, clock: Clock) -> Lane:
        """A lane with the source of its topic, where that is of another server."""
        found = self.runtime.source_of(tp.topic)
        sourced = Sourced(*found, self._admit, start, clock) if found is not None else None
        return Lane(self.runtime, tp, generation, start, clock, sourced)

    def _admit(self, event: InferenceEvent) -> None:
        """Raises Invalid for an event of another server that single events would not be taken with."""
        self.runtime.registry.admit(event.model, event.version)
        bounded_segment_key(event.segment)

    def read(self, lane: Lane, message: Any) -> Record:
        """Our own record as a value; of another server's, all that its source makes of it."""
        if lane.sourced is not None:
            return lane.sourced.adapt(message, lane.claim(message.offset))
        return self.decode(message)

    def decode(self, message: Any) -> Own:
        """A frame, a heartbeat or a single event, told apart by the content type, of a model that is watched."""
        if is_heartbeat(message.headers):
            beat = decode_heartbeat(message.value)
            self.runtime.registry.admit(beat.model, beat.version)
            return beat
        if header(message.headers, "content-type").lower().startswith(FRAME):
            most = self.runtime.settings.max_frame_bytes
            frame = decode_frame(message.value or b"", message.offset, most)
            if frame.rows.traces is None:
                frame.rows.traces = of_record(message.headers, len(frame.rows))
            return self._admitted(frame, message.offset)
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

    async def digest(self, lane: Lane, message: Any, record: Record) -> None:
        """Frames and heartbeats go straight into the book, single events together with others."""
        received = message.timestamp * 1000
        if isinstance(record, InferenceEvent | list):
            if isinstance(record, InferenceEvent):
                lane.queued(Stamped(message.offset, received, record))
            else:
                self._sort(lane, message, record)
            if len(lane.queue) >= MAX_WAITING:
                await self._add(lane)
            return
        await self._add(lane)
        if isinstance(record, Heartbeat):
            self._hear(lane, record)
            await lane.add(heartbeat_batch(record, message.offset, received))
            return
        if record.rejected is not None:
            self._bury_rows(lane, message, record)
        rate, registry = self.runtime.settings.keep_rate, self.runtime.registry
        ask_of_frame(record, rate, registry.get)
        kept = ask(kept_of_frame(record, rate, registry.temperature), rate, registry.get)
        batch = frame_batch(record, message.offset, received, self.runtime.registry.describes)
        await lane.add(batch, kept)

    def _sort(self, lane: Lane, message: Any, things: list[Thing | BadRecord]) -> None:
        """Events into the queue, labels to their topic, the rest to the dead letters, none beyond the frontier."""
        for thing in things:
            if isinstance(thing, InferenceEvent):
                lane.queued(Stamped(message.offset, message.timestamp * 1000, thing))
            elif isinstance(thing, LabelEvent):
                key, value = thing.inference_id.encode(), msgspec.json.encode(thing)
                lane.owe(self.runtime.send(LABELS, key, value), lane.claim(message.offset))
            elif isinstance(thing, BadRecord):
                lane.bury(message, thing, self.name)
            else:
                self.runtime.metrics.unpaired(message.topic, thing.side)
                lost = thing.record or message
                lane.bury(lost, LoneHalf(f"{thing.side} {thing.id!r}: {thing.reason}"), self.name, lost.mark)
        lane.passed(message.offset)

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

    def _hear(self, lane: Lane, record: Heartbeat) -> None:
        known = self._recorders.get(lane.tp)
        if known is None:
            partitions = self.runtime.app.consumer.topic_partitions(lane.tp.topic) or self.runtime.settings.partitions
            known = self._recorders[lane.tp] = Recorders(partitions)
        missing = known.missing(record)
        self.runtime.metrics.heartbeat(record.model, record.recorded, record.sampled_out, record.dropped, missing)

    def revoked(self, tps: set[TP]) -> None:
        """Forget partitions that belong to others now."""
        super().revoked(tps)
        for tp in tps:
            self._recorders.pop(tp, None)

    def _bury_rows(self, lane: Lane, message: Any, record: Decoded) -> None:
        """Rows that are not counted become a frame of their own among the dead letters."""
        rejected = record.rejected
        assert rejected is not None  # noqa: S101 -- for the type checker
        message.value = frame_bytes(rejected)
        error = Invalid(f"{record.why}; this frame holds just them")
        lane.bury(message, error, self.name)
