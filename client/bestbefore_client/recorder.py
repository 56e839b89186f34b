"""The recorder: what a model server calls after each prediction."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bestbefore_client import processes
from bestbefore_client.backends import backend_of
from bestbefore_client.batches import Columns, count_of, ids_of, prefixed, reserved_columns, times_of
from bestbefore_client.columns import Column, Repeated, Strings
from bestbefore_client.delivery import Delivery
from bestbefore_client.heartbeat import Heart
from bestbefore_client.intake import Intake
from bestbefore_client.ledger import Ledger, Stats
from bestbefore_client.messages import input_message, label_message, rfc3339
from bestbefore_client.pipeline import Pipeline
from bestbefore_client.privacy import Privacy
from bestbefore_client.rows import Rows, Scores, checked_id, checked_reserved, checked_time, vector_in
from bestbefore_client.sampling import sampled, sampled_many, u64
from bestbefore_client.security import Security

# Inputs are large and a sample anyway: they must not push out the events.
_INPUT_SHARE = 0.5


def now_us() -> int:
    """Give the wall clock in microseconds since the epoch, UTC."""
    return time.time_ns() // 1000


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
        sampling_rate: float = 1.0,
        input_rate: float = 0.0,
        heartbeat_seconds: float = 5.0,
        max_events: int = 100_000,
        max_bytes: int = 64 << 20,
        digest: str | None = None,
        provider: str | None = None,
        segment: Mapping[str, str] | None = None,
        classes: Sequence[str] | None = None,
        key: str | None = "{model}",
        clock: Callable[[], int] = now_us,
        redact: Iterable[str] = (),
        hashed: Iterable[str] = (),
        secret: bytes | str | None = None,
        backend: str = "auto",
        security: Security | None = None,
        producer_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Configure; nothing is connected or started before the first record.

        `brokers` is "host:port,host:port". A frame is sent after `frame_rows` events or `frame_seconds`.
        `sampling_rate` is the share of events to send and `input_rate` that of inputs to keep, both by a hash of the
        id. `heartbeat_seconds` lie between heartbeats; 0 sends none. `digest` ("sha256:…") is of the model file that
        serves, `provider` the execution provider it runs on; both are beside embeddings that are sent with inputs.
        `segment` and `classes` (of scores given without names) hold for all events. `key` is the record key of frames;
        one key is one partition, and None spreads frames over all of them. `clock` gives microseconds since the epoch.
        Of the features, segments and reserved fields named in `redact` no value leaves the process, of those in
        `hashed` only a keyed hash under `secret`, see `privacy`. `backend` is "kafka-python", "confluent" (an extra)
        or "auto": confluent where it is installed; `producer_options` go to its producer.
        Raises ValueError when a number is out of range, `key` has an unknown placeholder, or names to be replaced do
        not fit; ImportError when the backend is missing.
        """
        if not (0.0 <= input_rate <= 1.0 and 0.0 <= sampling_rate <= 1.0 and heartbeat_seconds >= 0):
            raise ValueError("input_rate and sampling_rate must lie in [0, 1], heartbeat_seconds must not be negative")
        if frame_rows < 1 or frame_seconds <= 0 or min(max_events, max_bytes) < 1:
            raise ValueError("frame_rows, frame_seconds, max_events and max_bytes must be above 0")
        self.model, self.version, self.sampling_rate = model, version, sampling_rate
        # What is not sent cannot have its input kept.
        self.input_rate = min(input_rate, sampling_rate)
        self._cut = None if sampling_rate == 1.0 else math.ceil(sampling_rate * 2.0**64)
        self._digest, self._classes, self._clock, self._key = digest, tuple(classes or ()), clock, key
        self._provider, self._heartbeat_seconds = provider, heartbeat_seconds
        self._privacy = Privacy(redact, hashed, secret)
        self._rows = Rows(self._classes, self._privacy.segment(segment or {}))
        self._key_of(version)
        self._frame_rows, self._frame_seconds, self._bounds = frame_rows, frame_seconds, (max_events, max_bytes)
        self._brokers, self._prefix = brokers, topic_prefix
        # A quarter on its way keeps the pipe full; the rest waits as rows, which survive a long outage.
        self._window = max_bytes // 4
        self._backend = backend_of(backend, brokers, self._window, security, producer_options or {})
        self._begin()
        processes.watch(self)

    @property
    def dropped(self) -> dict[str, int]:
        """Count what was dropped, by reason: events, labels and inputs, one each."""
        with self._ledger.lock:
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

    def stats(self) -> Stats:
        """Give all figures of one moment, for the server's own metrics; they are this process's, also after a fork."""
        return self._ledger.stats(self.id, self._heart.acknowledged, self._delivery.connected)

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
            if self._ledger.full:
                self._pipeline.left_out(1, "full")
                return
            at = self._clock() if time_us is None else checked_time(time_us)
            text = checked_id(id)
            if self._cut is not None:
                if u64(text) >= self._cut:
                    self._pipeline.left_out(1)
                    return
                sampling *= self.sampling_rate
            if self._privacy:
                features = features and self._privacy.features(features)
                segment = segment and self._privacy.segment(segment)
                reserved = self._privacy.fields(reserved)
            served = version or self.version
            said = label if label is None or type(label) is str else str(label)
            facts = (said, value, latency_ms, status, abstained, sampling)
            kept = checked_reserved(reserved) if reserved else None
            shape, row, size = self._rows.make(text, at, served, facts, features, segment, scores, embedding, kept)
            self._pipeline.row(shape, row, size, at)
        except Exception as error:  # noqa: BLE001 -- telemetry must never fail the request it is about
            self._pipeline.left_out(1, "invalid", error)
            return
        if input is not None:
            try:
                if sampled(text, self.input_rate):
                    where, vector = self._rows.placed(segment), vector_in(shape, row)
                    self._offer_input(text, input, served, at, where, vector, batch_size)
            except Exception as error:  # noqa: BLE001 -- as above
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
        n = count_of(ids)
        try:
            texts, column = ids_of(ids)
            n = len(texts)
            served = version or self.version
            rows = None
            if self._cut is not None:
                rows = np.flatnonzero(sampled_many(column.data, column.offsets, self.sampling_rate))
                self._pipeline.left_out(n - len(rows))
                texts = [texts[i] for i in rows.tolist()]
                column, sampling = Strings.of(texts), sampling * self.sampling_rate
            times = times_of(times_us, self._clock(), n)
            where = {**self._rows.segment, **self._privacy.segment_columns(segment or {}, n)}
            fields = {
                "time": times,
                **prefixed("features", features if features is None else self._privacy.feature_columns(features, n)),
                **prefixed("segment", where),
                **{"scores": scores, "label": label, "value": value, "latency_ms": latency_ms, "status": status},
                **{"abstained": abstained, "embedding": embedding},
                "sampling": None if sampling == 1.0 else np.full(n, sampling),
                **reserved_columns(self._privacy.field_columns(reserved)),
            }
            given = Columns(fields, n, rows)
            given.columns.update({"id": column, **self._shared(served)})
            n = given.n
            for block in given.blocks(self._classes or None, self._frame_rows):
                self._pipeline.thing(block, block.size, block.n, high=block.high)
        except Exception as error:  # noqa: BLE001 -- telemetry must never fail the request it is about
            self._pipeline.left_out(n, "invalid", error)
            return
        if inputs is not None and self.input_rate > 0:
            self._offer_inputs(texts, column, inputs, rows, given, served, batch_size)

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
            further = {name: v for name, v in self._privacy.fields(reserved).items() if v is not None}
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
                **further,
            }
            message = label_message(body)
            self._pipeline.thing(message, message.size, 0)
        except Exception as error:  # noqa: BLE001 -- telemetry must never fail the request it is about
            self._ledger.drop("invalid", 1, error)

    def invalid(self, error: BaseException) -> None:
        """Count an inference that could not be read, with what went wrong: for whoever records on behalf of others."""
        self._pipeline.left_out(1, "invalid", error)

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until everything recorded is sent and acknowledged; True if it was, False if late or partly lost."""
        return self._pipeline.flush(timeout)

    def close(self, timeout: float = 5.0) -> bool:
        """Send what waits and stop, within about `timeout` seconds; what is left is dropped and counted as "closed".

        True if all that was ever accepted has been acknowledged. Closing twice is harmless.
        """
        processes.forget(self)
        return self._pipeline.close(timeout)

    def begin_close(self, deadline: float) -> None:
        """Begin what `close` does, without waiting; until `deadline`, of `time.monotonic()`."""
        self._pipeline.begin_close(deadline)

    def start_afresh(self) -> Any:
        """In a forked child: begin empty, and give what belongs to the parent and must be kept as it is."""
        of_parent = self._pipeline
        of_parent.abandon()
        self._begin()
        return of_parent

    def __enter__(self) -> Recorder:
        """Give the recorder; leaving the block closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _begin(self) -> None:
        """Make everything that one process has for itself; the thread starts with the first record."""
        self.id = uuid.uuid4().hex[:16]
        self._ledger = Ledger(*self._bounds)
        self._delivery = Delivery(self._backend(), self._brokers, self._prefix, self._ledger, self._window)
        self._heart = Heart(
            self._ledger,
            self._heartbeat_seconds,
            self._clock,
            recorder=self.id,
            model=self.model,
            version=self.version,
            sampling=self.sampling_rate,
        )
        intake = Intake(self._frame_rows, self._frame_seconds)
        self._pipeline = Pipeline(
            self._ledger, self._delivery, intake, self._heart, shared=self._shared, key=self._key_of
        )

    def _offer_inputs(
        self, texts: list[str], column: Strings, inputs: Any, rows: Any, given: Columns, served: str,
        batch_size: int | None,
    ) -> None:  # fmt: skip
        for i in np.flatnonzero(sampled_many(column.data, column.offsets, self.input_rate)).tolist():
            try:
                where = given.segment(i)
                vector: Any = given.columns.get("embedding")
                times: Any = given.columns["time"]
                data = inputs[i if rows is None else int(rows[i])]
                self._offer_input(
                    texts[i], data, served, int(times[i]), where, None if vector is None else vector[i], batch_size
                )
            except Exception as error:  # noqa: BLE001, PERF203 -- the other inputs are kept
                self._ledger.drop("invalid", 1, error)

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
        self._pipeline.thing(message, message.size, 0, _INPUT_SHARE)

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
