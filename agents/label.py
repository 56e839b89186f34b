"""labels -> profiles: join late labels with the predictions they are about, and profile the outcomes."""

import asyncio
import math
import time
from collections.abc import Iterable
from typing import Any

from bestbefore_client.sampling import u64

from models.columns import Subject
from streams.batches import Labelled, Stamped, outcome_batch, threshold
from streams.errors import BadRecord
from streams.intake import Intake
from streams.lane import Lane
from streams.records import LabelEvent, decode_label, time_us
from streams.store_rows import LabelRow, Prediction
from streams.topics import LABELS

MAX_WAITING = 500
VALUE_TOLERANCE = 1e-9


class Unmatched(BadRecord):
    """No prediction was kept for this label, although its id says one should have been."""

    stage = "join"


class Label(Intake):
    """Reads the labels topic."""

    name, topic = "label", LABELS

    def decode(self, message: Any) -> LabelEvent:
        """A label event from JSON or a CloudEvent."""
        return decode_label(message.value, message.headers)

    async def digest(self, lane: Lane, message: Any, record: LabelEvent) -> None:
        """Labels wait shortly for others, so that the store is asked for many at once."""
        lane.queued(Stamped(message.offset, int(message.timestamp * 1e6), (record, message)))
        if len(lane.queue) >= MAX_WAITING:
            await self._join(lane)

    async def flush(self) -> None:
        """Join the labels that wait."""
        for lane in list(self.lanes.values()):
            if lane.queue:
                await self._join(lane)

    async def _join(self, lane: Lane) -> None:
        async with lane.joining:
            waiting = lane.unqueue()
            if not waiting:
                return
            fresh = await self.runtime.stored(self.runtime.store.add_labels, [_row(s) for s in waiting])
            found = await self._predictions([s.event[0] for s, new in zip(waiting, fresh, strict=True) if new])
            joined: list[Labelled] = []
            for stamped, new in zip(waiting, fresh, strict=True):
                label, message = stamped.event
                matches = [p for p in found.get(label.inference_id, []) if about(label, p)] if new else []
                joined += [labelled(stamped, p) for p in matches]
                if new and not matches and self._expected(label):
                    lane.bury(message, Unmatched(_why(label)), self.name)
            last = waiting[-1].offset
            await lane.add(outcome_batch(joined, last))

    async def _predictions(self, labels: Iterable[LabelEvent]) -> dict[str, list[Prediction]]:
        """The kept predictions; those that must come but have not yet are waited for, up to `label_patience`."""
        wanted = {label.inference_id for label in labels}
        expected = {name for name in wanted if self._sampled(name)}
        deadline = time.monotonic() + self.runtime.settings.seconds("label_patience")
        found: dict[str, list[Prediction]] = {}
        pause = 0.05
        while wanted:
            found |= await self.runtime.stored(self.runtime.store.find_predictions, sorted(wanted - found.keys()))
            if not expected - found.keys() or time.monotonic() > deadline:
                break
            self.runtime.watchdog.progress()
            await asyncio.sleep(pause)
            pause = min(2 * pause, 1.0)
        return found

    def _sampled(self, inference_id: str) -> bool:
        rate = self.runtime.settings.keep_rate
        return rate > 0 and u64(inference_id) <= int(threshold(rate))

    def _expected(self, label: LabelEvent) -> bool:
        return self._sampled(label.inference_id)


def _row(stamped: Stamped) -> LabelRow:
    label, message = stamped.event
    return LabelRow(
        inference_id=label.inference_id,
        source=label.source,
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        time_us=time_us(label.time),
        label=label.label,
        value=label.value,
        correct=label.correct,
        propensity=label.propensity,
        model=label.model,
        version=label.version,
    )


def about(label: LabelEvent, prediction: Prediction) -> bool:
    """A label without model or version is about every version that answered under its id."""
    return label.model in (None, prediction.model) and label.version in (None, prediction.version)


def labelled(stamped: Stamped, prediction: Prediction) -> Labelled:
    """A label joined with one prediction."""
    label, _ = stamped.event
    when = time_us(label.time)
    confidence = prediction.confidence
    return Labelled(
        subject=Subject(prediction.model, prediction.version, prediction.segment),
        offset=stamped.offset,
        time=when,
        # A prediction cannot be younger than its label; a sender's absurd clock ends here.
        event_time=min(prediction.time_us, when),
        received=stamped.received,
        correct=_correct(label, prediction),
        truth=label.label,
        confidence=math.nan if confidence is None else confidence,
        propensity=label.propensity,
        feedback=label.source != "ground-truth",
    )


def _correct(label: LabelEvent, prediction: Prediction) -> bool:
    if label.correct is not None:
        return label.correct
    if label.label is not None:
        return prediction.label == label.label
    if prediction.value is None or label.value is None:
        return False
    return abs(prediction.value - label.value) <= VALUE_TOLERANCE * max(1.0, abs(label.value))


def _why(label: LabelEvent) -> str:
    return (
        f"no prediction with id {label.inference_id!r} was kept"
        + (f" for {label.model} {label.version or ''}" if label.model else "")
        + "; either its inference event never came, or labels come later than keep_days"
    )
