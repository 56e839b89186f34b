"""labels -> profiles: join late labels with the predictions they are about, and profile the outcomes."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from bestbefore_client.sampling import u64

from models.columns import Subject
from streams.asking import asked_with
from streams.batches import Labelled, Stamped, outcome_batch, threshold
from streams.errors import BadRecord
from streams.intake import Intake
from streams.lane import Lane
from streams.records import LabelEvent, decode_label, time_us
from streams.store_rows import LabelRow, Prediction
from streams.topics import LABELS

MAX_WAITING = 500
VALUE_TOLERANCE = 1e-9
ROUNDED = 0.01  # relative: how much a labeller may round the probability of a request that it repeats
GROUND_TRUTH = "ground-truth"
STORED_AFTER = 2.0  # seconds within which predictions that were read are in the store: lanes settle once a second
SKEW_US, AGE_US = 300_000_000, 400 * 86_400_000_000  # credible times around the broker's stamp, unless settings say so


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
        lane.queued(Stamped(message.offset, message.timestamp * 1000, (record, message)))
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
            firsts = [s for s, new in zip(waiting, fresh, strict=True) if new]
            found = await self._predictions(lane, firsts)
            joined: list[Labelled] = []
            unmatched: list[Stamped] = []
            skew, age = (self.runtime.settings.us(name) for name in ("clock_skew", "oldest_event"))
            for stamped in firsts:
                label = stamped.event[0]
                matches = [p for p in found.get(label.inference_id, []) if about(label, p)]
                joined += [labelled(stamped, p, skew, age, asking=self._asks(p)) for p in matches]
                if not matches and self._sampled(label.inference_id):
                    unmatched.append(stamped)
            answered = sum(s.event[0].inference_id in found for s in firsts)
            self.runtime.metrics.labels(
                joined=answered, unmatched=len(unmatched), repeated=len(waiting) - len(firsts),
                unsampled=len(firsts) - answered - len(unmatched),
            )  # fmt: skip
            await self._bury(lane, unmatched)
            await lane.add(outcome_batch(joined, waiting[-1].offset))

    async def _bury(self, lane: Lane, unmatched: list[Stamped]) -> None:
        """To the dead letters. The labels give their places back first, or none that is replayed would ever count."""
        if unmatched:
            await self.runtime.stored(self.runtime.store.release_labels, [_row(s) for s in unmatched])
        for stamped in unmatched:
            label, message = stamped.event
            lane.bury(message, Unmatched(_why(label)), self.name)

    async def _predictions(self, lane: Lane, waiting: Sequence[Stamped]) -> dict[str, list[Prediction]]:
        """The kept predictions. One that must come but has not yet is waited for in two cases, and no longer:

        - for `label_patience` since the broker received the label, or since this worker began with the partition:
          what is older had its time, so a backlog of labels flows although some of them never find theirs;
        - until this worker has read the inferences that lay at the broker when it first looked, and stored them, but
          at most for `label_patience`: after a pause labels may be read before their predictions.
        """
        wanted = {s.event[0].inference_id for s in waiting}
        patience = self._patience(lane, [s for s in waiting if self._sampled(s.event[0].inference_id)])
        catching_up = self._catching_up()
        found: dict[str, list[Prediction]] = {}
        pause = 0.05
        while wanted:
            still = catching_up()  # before looking: what comes in between is seen the next time
            found |= await self.runtime.stored(self.runtime.store.find_predictions, sorted(wanted - found.keys()))
            missing = patience.keys() - found.keys()
            if not missing or (not still and time.monotonic() > max(patience[name] for name in missing)):
                break
            self.runtime.progress.alive(lane.tp.topic, self.name)
            await asyncio.sleep(pause)
            pause = min(2 * pause, 1.0)
        return found

    def _patience(self, lane: Lane, expected: Sequence[Stamped]) -> dict[str, float]:
        """Until when each id is waited for because its label is new, on the monotonic clock."""
        patience, now = self.runtime.settings.seconds("label_patience"), time.monotonic()
        now_us = self.runtime.clock.now_us()
        until: dict[str, float] = {}
        for stamped in expected:
            name, age = stamped.event[0].inference_id, max(now_us - stamped.received, 0) / 1e6
            until[name] = max(until.get(name, 0.0), max(now - age, lane.opened) + patience)
        return until

    def _catching_up(self) -> Callable[[], bool]:
        """Whether inferences that are at the broker now may still be on their way into the store."""
        runtime = self.runtime
        read = [tp for tp in runtime.progress.wanted if runtime.carries_inferences(tp.topic)]
        ends = {tp: runtime.app.consumer.highwater(tp) for tp in read}
        limit = time.monotonic() + runtime.settings.seconds("label_patience")
        stored_by = 0.0

        def still() -> bool:
            nonlocal stored_by
            now = time.monotonic()
            # A partition that was lost in the meantime is no longer waited for.
            if any(runtime.progress.wanted.get(tp, end) < end for tp, end in ends.items()):
                stored_by = now + STORED_AFTER
            return now < min(stored_by, limit)

        return still

    def _asks(self, prediction: Prediction) -> bool:
        reference = self.runtime.registry.get(prediction.model, prediction.version)
        return reference.labels.plan is not None

    def _sampled(self, inference_id: str) -> bool:
        rate = self.runtime.settings.keep_rate
        return rate > 0 and u64(inference_id) <= int(threshold(rate))


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


def labelled(
    stamped: Stamped, prediction: Prediction, skew_us: int = SKEW_US, age_us: int = AGE_US, *, asking: bool = False
) -> Labelled:
    """A label joined with one prediction, in whose window it counts, whatever the labeller's clock says.

    Its propensity is its own, else that of the request it answers. Where labels are asked for (`asking`), one without
    either was given for a reason nobody knows: it is evidence, as feedback is, and never averaged with audits.

    A prediction's time is absurd when it lies more than `skew_us` ahead of the broker's stamp of the label, or more
    than `age_us` before it; the stamp stands in for it then.
    """
    label, _ = stamped.event
    credible = -age_us <= prediction.time_us - stamped.received <= skew_us
    confidence = prediction.confidence
    asked = asked_with(prediction) if label.source == GROUND_TRUTH else None
    own = label.propensity
    if asked is not None and own is not None and abs(own - asked) <= ROUNDED * asked:
        own = None  # repeated from the request
    unknown = asking and asked is None and own is None
    return Labelled(
        subject=Subject(prediction.model, prediction.version, prediction.segment),
        offset=stamped.offset,
        time=time_us(label.time),
        event_time=prediction.time_us if credible else stamped.received,
        received=stamped.received,
        correct=_correct(label, prediction),
        truth=label.label,
        confidence=math.nan if confidence is None else confidence,
        propensity=own or asked or 1.0,
        feedback=label.source != GROUND_TRUTH or unknown,
        predicted=prediction.label,
        # What labels are asked for is kept for certain; the request has the probability of both.
        kept=1.0 if asked is not None else prediction.propensity or 1.0,
        # With another probability it is an audit by itself: its cell is none of those that labels are missing in.
        asked=asked is not None and own is None,
    )


def _correct(label: LabelEvent, prediction: Prediction) -> bool:
    if prediction.extra and prediction.extra.get("failed"):
        return False  # no answer is no right answer, whatever the label says
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
