"""The recorder: what a model server calls after each prediction."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np

from bestbefore_client.batches import blocks, ids_of, prefixed, reserved_columns, whole_block
from bestbefore_client.columns import Column, Repeated
from bestbefore_client.delivery import Delivery
from bestbefore_client.ledger import Ledger
from bestbefore_client.messages import input_message, label_message, rfc3339
from bestbefore_client.pipeline import Pipeline
from bestbefore_client.rows import Scores, Shapes, checked_id, checked_reserved, checked_segment, make_row
from bestbefore_client.sampling import sampled, sampled_many

# Inputs are large and a sample anyway: they must not push out the events.
_INPUT_SHARE = 0.5


def now_us() -> int:
    """Give the wall clock in microseconds since the epoch, UTC."""
    return time.time_ns() // 1000


def _count(ids: Any) -> int:
    """Count ids for the books of what is dropped; what cannot be counted, whatever it raises, is one."""
    try:
        return max(len(ids), 1)
    except Exception:  # noqa: BLE001 -- an object of the server's may raise anything
        return 1


class Recorder:
    """Records a model's inferences, sampled inputs and labels, and streams them to Kafka from a thread of its own.

    `record`, `record_many` and `label` do no I/O, never raise and never wait. What cannot be kept is dropped and
    counted in `dropped`: "full" (the newest, beyond `max_events` or `max_bytes`), "invalid", "too-large", "delivery"
    (the broker did not take it in time), "closed". With a dead broker everything waits, within those bounds.

    >>> recorder = Recorder("localhost:9092", model="digits", version="3")
    >>> recorder.close()
    True
    """

    def __init__(
        self,
        brokers: str,
        *,
        model: str,
        version: str,
        topic_prefix: str = "bestbefore.",
        frame_rows: int = 1000,
        frame_seconds: float = 1.0,
        input_rate: float = 0.0,
        max_events: int = 100_000,
        max_bytes: int = 64 << 20,
        digest: str | None = None,
        provider: str | None = None,
        segment: Mapping[str, str] | None = None,
        classes: Sequence[str] | None = None,
        key: str | None = "{model}",
        clock: Callable[[], int] = now_us,
        producer_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Configure; nothing is connected or started before the first record.

        `brokers` is "host:port,host:port". A frame is sent after `frame_rows` events or `frame_seconds`. `input_rate`
        is the share of inputs to keep, by a hash of the id. `digest` ("sha256:…") is of the model file that serves,
        `provider` the execution provider it runs on; both are beside embeddings that are sent with inputs.
        `segment` and `classes` (of scores given without names) hold for all events. `key` is the record key of frames;
        one key is one partition, and None spreads frames over all of them. `clock` gives microseconds since the epoch,
        `producer_options` go to `kafka.KafkaProducer`.
        Raises ValueError when a number is out of range or `key` has an unknown placeholder.
        """
        if not 0.0 <= input_rate <= 1.0 or frame_rows < 1 or frame_seconds <= 0 or min(max_events, max_bytes) < 1:
            raise ValueError("input_rate must lie in [0, 1]; frame_rows, frame_seconds, max_events, max_bytes above 0")
        self.model, self.version, self.input_rate = model, version, input_rate
        self._digest, self._classes, self._clock, self._key = digest, tuple(classes or ()), clock, key
        self._provider = provider
        self._segment, self._shapes = checked_segment(segment), Shapes()
        self._key_of(version)
        self._frame_rows = frame_rows
        self._ledger = Ledger(max_events, max_bytes)
        # A quarter on its way keeps the pipe full; the rest waits as rows, which survive a long outage.
        delivery = Delivery(brokers, topic_prefix, self._ledger, max_bytes // 4, producer_options or {})
        self._pipeline = Pipeline(
            self._ledger,
            delivery,
            frame_rows=frame_rows,
            frame_seconds=frame_seconds,
            shared=self._shared,
            key=self._key_of,
        )

    @property
    def dropped(self) -> dict[str, int]:
        """Count what was dropped, by reason: events, labels and inputs, one each."""
        with self._ledger.changed:
            return dict(self._ledger.dropped)

    @property
    def delivered(self) -> int:
        """Count what the broker has acknowledged: events, labels and inputs, one each."""
        return self._ledger.delivered

    @property
    def pending(self) -> int:
        """Count what is accepted and neither acknowledged nor dropped."""
        return self._ledger.items

    @property
    def last_error(self) -> str | None:
        """Give the last thing that went wrong, in words; None if nothing did."""
        return self._ledger.last_error

    def record(
        self,
        id: str,
        *,
        time_us: int | None = None,
        features: Mapping[str, Any] | None = None,
        scores: Scores | None = None,
        label: Any = None,
        value: float | None = None,
        latency_ms: float | None = None,
        status: int = 200,
        segment: Mapping[str, str] | None = None,
        abstained: bool = False,
        input: Any = None,
        embedding: Any = None,
        batch_size: int | None = None,
        version: str | None = None,
        sampling: float = 1.0,
        **reserved: Any,
    ) -> None:
        """Record one inference; see `Recorder` for what happens when it cannot be kept.

        `features` are numbers, text, bools or None; `scores` a mapping from class to score, or k numbers. `label` is
        the predicted class, `value` the predicted number. `input` (bytes or an array) is kept at `input_rate`.
        `embedding` has shape (d,), `batch_size` is that of the batch it was computed in. `sampling` is the probability
        with which the caller kept this event. `version` replaces the recorder's. `reserved` are the fields of
        `frame.RESERVED`.
        """
        try:
            at = self._clock() if time_us is None else time_us
            where = {**self._segment, **checked_segment(segment)} if segment else self._segment
            extra = {
                "label": None if label is None else str(label),
                "value": value,
                "latency_ms": latency_ms,
                "status": status,
                "abstained": abstained,
                "sampling": sampling,
                **(checked_reserved(reserved) if reserved else reserved),
            }
            served = version or self.version
            row = make_row(
                id,
                version=served,
                time_us=at,
                features=features,
                segment=where,
                scores=scores,
                classes=self._classes,
                embedding=embedding,
                shapes=self._shapes,
                extra=extra,
            )
            self._pipeline.offer(row, 1, row.size)
            if input is not None and sampled(row.id, self.input_rate):
                vector = row.embedding if row.shape.embedding else None
                self._offer_input(row.id, input, served, row.time_us, where, vector, batch_size)
        except Exception as error:  # noqa: BLE001 -- telemetry must never fail the request it is about
            self._ledger.drop("invalid", 1, error)

    def record_many(
        self,
        ids: Sequence[str],
        *,
        times_us: Any = None,
        features: Mapping[str, Any] | None = None,
        scores: Any = None,
        label: Any = None,
        value: Any = None,
        latency_ms: Any = None,
        status: Any = None,
        segment: Mapping[str, Any] | None = None,
        abstained: Any = None,
        inputs: Any = None,
        embedding: Any = None,
        batch_size: int | None = None,
        version: str | None = None,
        sampling: float = 1.0,
        **reserved: Any,
    ) -> None:
        """Record n inferences as columns: arrays or lists with n values each, `scores` (n, k), `embedding` (n, d).

        A segment or reserved field may be one text for all rows. `inputs` has n entries; `input_rate` of them are kept.
        """
        try:
            texts, column = ids_of(ids)
            n = len(texts)
            served = version or self.version
            times = np.full(n, self._clock()) if times_us is None else np.asarray(times_us)
            segments = {**self._segment, **(segment or {})}
            fields = {
                "id": column,
                "time": times,
                **self._shared(served),
                **prefixed("features", features),
                **prefixed("segment", segments),
                **{"scores": scores, "label": label, "value": value, "latency_ms": latency_ms, "status": status},
                **{"abstained": abstained, "embedding": embedding},
                "sampling": None if sampling == 1.0 else np.full(n, sampling),
                **reserved_columns(reserved),
            }
            whole = whole_block(fields, self._classes or None, n)
            for block in blocks(whole, self._frame_rows):
                self._pipeline.offer(block, block.n, block.size)
            if inputs is not None and self.input_rate > 0:
                for i in np.flatnonzero(sampled_many(column.data, column.offsets, self.input_rate)).tolist():
                    where = {name: str(v if isinstance(v, str) else v[i]) for name, v in segments.items()}
                    vector = None if embedding is None else embedding[i]
                    at = int(times[i])
                    self._offer_input(texts[i], inputs[i], served, at, where, vector, batch_size)
        except Exception as error:  # noqa: BLE001 -- telemetry must never fail the request it is about
            self._ledger.drop("invalid", _count(ids), error)

    def label(
        self,
        inference_id: str,
        *,
        time_us: int | None = None,
        label: Any = None,
        value: float | None = None,
        correct: bool | None = None,
        source: str = "ground-truth",
        propensity: float = 1.0,
        version: str | None = None,
        **reserved: Any,
    ) -> None:
        """Record what was true of an earlier inference: its class, its value, or only whether it was correct.

        `source` is "ground-truth", "feedback" or "proxy:<name>"; `propensity` the probability with which this inference
        was chosen for labelling; `reserved` are further fields of a label event, for instance `loss` with `metric`.
        """
        try:
            truth = {"label": None if label is None else str(label), "value": value, "correct": correct}
            given = {name: v for name, v in truth.items() if v is not None}
            if not given:
                raise ValueError(f"the label of {inference_id!r} says nothing; give label, value or correct")
            at = self._clock() if time_us is None else time_us
            body = {
                "inference_id": checked_id(inference_id),
                "model": self.model,
                "version": version or self.version,
                "time": rfc3339(at),
                **given,
                "source": source,
                "propensity": propensity,
                **reserved,
            }
            message = label_message(body)
            self._pipeline.offer(message, 1, message.size)
        except Exception as error:  # noqa: BLE001 -- telemetry must never fail the request it is about
            self._ledger.drop("invalid", 1, error)

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until everything recorded is sent and acknowledged; True if it was, False if late or partly lost."""
        return self._pipeline.flush(timeout)

    def close(self, timeout: float = 5.0) -> bool:
        """Send what waits and stop, within about `timeout` seconds; what is left is dropped and counted as "closed".

        True if all that was ever accepted has been acknowledged. Closing twice is harmless.
        """
        return self._pipeline.close(timeout)

    def __enter__(self) -> Recorder:
        """Give the recorder; leaving the block closes it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _offer_input(
        self,
        id: str,
        data: Any,
        version: str,
        time_us: int,
        segment: Mapping[str, str],
        embedding: Any,
        batch_size: int | None,
    ) -> None:
        digest = self._digest if version == self.version else None
        served = {"provider": self._provider, "batch_size": batch_size, "digest": digest}
        message = input_message(
            id,
            data,
            model=self.model,
            version=version,
            time_us=time_us,
            segment=segment,
            propensity=self.input_rate,
            embedding=embedding,
            origin=None if embedding is None else served,
        )
        self._pipeline.offer(message, 1, message.size, _INPUT_SHARE)

    def _shared(self, version: str) -> dict[str, Column]:
        """Give the columns that all events of a version share; the digest is of the configured version only."""
        shared: dict[str, Column] = {"model": Repeated(self.model), "version": Repeated(version)}
        if self._digest is not None and version == self.version:
            shared["digest"] = Repeated(self._digest)
        return shared

    def _key_of(self, version: str) -> str | None:
        try:
            return None if self._key is None else self._key.format(model=self.model, version=version)
        except (KeyError, IndexError) as error:
            raise ValueError(f"key {self._key!r} has the placeholder {error}; only model and version exist") from error
