"""What is on each topic: the messages, their types, how each is told from the others on its topic.

From this and the records themselves come the JSON Schemas (`streams.schemas`), the AsyncAPI document
(`streams.asyncapi`) and `bestbefore topics verify`.
"""

from typing import Any, NamedTuple

import msgspec

from streams.asking import Request
from streams.envelopes import JSON, Kind
from streams.events import InferenceEvent, InputSample, LabelEvent, LifecycleEvent
from streams.heartbeats import HEARTBEAT, Heartbeat
from streams.lane import ProfileRecord
from streams.lines import ForecastOutcome, Mismatch, RetrainTrigger, TriggerResolved
from streams.records import FRAME, STRUCTURED
from streams.status_line import Status
from streams.topics import (
    DEAD_LETTERS,
    INFERENCE,
    INPUTS,
    LABEL_REQUESTS,
    LABELS,
    LIFECYCLE,
    MISMATCHES,
    PROFILES,
    STATUS,
    TRIGGERS,
)

BYTES, MESSAGE_PACK = "application/octet-stream", "application/msgpack"


class DeadLetterHeaders(
    msgspec.Struct, kw_only=True, rename=lambda name: "__connect.errors." + name.replace("_", ".")
):  # fmt: skip
    """Why a record lies among the dead letters, as Kafka Connect says it; beside the headers that the record had."""

    topic: str
    """Topic that the record was read from."""
    partition: int
    """Its partition."""
    offset: int
    """Its offset."""
    connector_name: str
    """`bestbefore`."""
    task_id: str
    """The agent that read it."""
    stage: str
    """Where it failed: `DECODE`, `ADAPT`, `VALIDATE`, `JOIN`, `EMBED`, `PAIR` or `UNEXPECTED`."""
    class_name: str
    """The agent that read it."""
    exception_class_name: str
    """Class of the error."""
    exception_message: str
    """What is wrong, and what to do about it; never a value of the record."""
    exception_stacktrace: str
    """Where it was raised; at most 4096 characters."""


class Message(NamedTuple):
    """One kind of record on a topic. `payload` None: bytes. `headers` holds what headers carry as text."""

    name: str  # of its published schema, too, unless it shares that of another
    topic: str
    title: str
    content_type: str
    payload: Any = None
    headers: Any = None
    kind: Kind | None = None  # of the CloudEvents that go out
    schema: str | None = None  # published schema of the payload, or of the headers where it is bytes
    summary: str = ""


MESSAGES = (
    Message(
        "inference-event", INFERENCE, "An inference", JSON, InferenceEvent, schema="inference-event",
        summary="One inference as plain JSON, or as a CloudEvent in binary mode, whose `ce_id` and `ce_time` stand in "
        "for an `id` and a `time` that the JSON lacks.",
    ),
    Message(
        "inference-cloud-event", INFERENCE, "An inference in an envelope", STRUCTURED, InferenceEvent,
        schema="inference-event", summary="One inference as the `data` of a CloudEvent in structured mode.",
    ),
    Message(
        "inference-frame", INFERENCE, "Many inferences", FRAME, None,
        summary="Thousands of inferences as columns: an Arrow IPC stream with one record batch. The columns are the "
        "fields of an inference event: `features.<name>`, `segment.<name>`, `label`, `value`, `scores` as a list of "
        "fixed size whose class names are in the schema's metadata under `classes`, `time` as a timestamp with zone.",
    ),
    Message("heartbeat", INFERENCE, "A client's heartbeat", HEARTBEAT, Heartbeat, schema="heartbeat",
            summary="How far a recorder has come, and what it dropped. It is no inference."),
    Message("sampled-input", INPUTS, "A sampled input", BYTES, None, InputSample, schema="sampled-input-headers",
            summary="The raw tensor, little-endian, in C order; empty where `dataref` says where it lies."),
    Message("label-event", LABELS, "A label", JSON, LabelEvent, schema="label-event",
            summary="One label as plain JSON, or as a CloudEvent in binary mode."),
    Message("label-cloud-event", LABELS, "A label in an envelope", STRUCTURED, LabelEvent, schema="label-event",
            summary="One label as the `data` of a CloudEvent in structured mode."),
    Message("profile", PROFILES, "Statistics of a window", MESSAGE_PACK, ProfileRecord, schema="profile",
            summary="Internal: between workers of one deployment, and subject to change with any version."),
    Message("mismatch", MISMATCHES, "A mismatch", JSON, Mismatch, kind="mismatch", schema="mismatch",
            summary="Two sides do not fit, or, with `verdict` ok, do again."),
    Message("retrain-trigger", TRIGGERS, "A trigger", JSON, RetrainTrigger, kind="retrain-trigger",
            schema="retrain-trigger", summary="What to do about a model version; act once per `trigger_id`."),
    Message("label-request", LABEL_REQUESTS, "A request for a label", JSON, Request, kind="label-request",
            schema="label-request", summary="Somebody should say whether this answer was right."),
    Message("status", STATUS, "Status of a subject", JSON, Status, kind="status", schema="status",
            summary="The latest of each subject is kept; an empty value takes a subject off the topic."),
    Message("lifecycle-event", LIFECYCLE, "A change of a model version", JSON, LifecycleEvent,
            schema="lifecycle-event", summary="As plain JSON, or as a CloudEvent in binary mode."),
    Message("lifecycle-cloud-event", LIFECYCLE, "A change in an envelope", STRUCTURED, LifecycleEvent,
            schema="lifecycle-event", summary="As the `data` of a CloudEvent in structured mode."),
    Message("lifecycle", LIFECYCLE, "What became of a trigger", JSON, TriggerResolved | ForecastOutcome,
            kind="lifecycle", schema="lifecycle", summary="A trigger ended, or what its forecast was worth."),
    Message("dead-letter", DEAD_LETTERS, "A record that could not be used", BYTES, None, DeadLetterHeaders,
            schema="dead-letter-headers", summary="Key, value and headers as they came, and the reason in headers."),
)  # fmt: skip
BY_NAME = {message.name: message for message in MESSAGES}
SCHEMAS = {  # name of every published schema -> its type
    message.schema: message.payload if message.payload is not None else message.headers
    for message in MESSAGES
    if message.schema is not None
}
OF_HEADERS = {message.schema for message in MESSAGES if message.headers is not None}
