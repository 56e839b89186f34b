"""Decoding of the typed records on the topics from single-event JSON and CloudEvents; their types are in `events`."""

import base64
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from typing import Any

import msgspec

from streams.errors import BadInput, Invalid, Undecodable
from streams.events import (
    LEAST_SHARE,
    MAX_CLASSES,
    MAX_EMBEDDING,
    MAX_FEATURES,
    MAX_LABEL,
    MAX_SEGMENT_BYTES,
    MAX_TEXT,
    Id,
    InferenceEvent,
    InputSample,
    Label,
    LabelEvent,
    LifecycleEvent,
    Name,
    Output,
    Reserved,
    Segment,
    Share,
    Short,
    Time,
    Word,
)
from streams.trace_context import PARENT, STATE, bounded, context_of, may_be_traced

__all__ = [  # noqa: RUF022 -- sorted as strings sort
    "CARRIED_BY_LABELS", "CloudEvent", "FRAME", "Id", "InferenceEvent", "InputSample", "LEAST_SHARE", "Label",
    "LabelEvent", "LifecycleEvent", "MAX_CARRIED_BYTES", "MAX_CARRIED_DEPTH", "MAX_CLASSES", "MAX_EMBEDDING",
    "MAX_FEATURES", "MAX_LABEL", "MAX_SEGMENT_BYTES", "MAX_TEXT", "Name", "Output", "RESERVED_FIELDS", "Reserved",
    "STRUCTURED", "Segment", "Share", "Short", "Time", "UNREADABLE", "Word", "bounded_segment_key",
    "decode_inference", "decode_input", "decode_label", "decode_lifecycle", "header", "segment_key", "time_text",
    "time_us", "unwrap",
]  # fmt: skip

FRAME = "application/vnd.apache.arrow.stream"
STRUCTURED = "application/cloudevents+json"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

MAX_CARRIED_BYTES, MAX_CARRIED_DEPTH = 16 << 10, 32  # of the reserved fields of one event, as JSON
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
CARRIED_BY_LABELS = ("metric", "severity", "tags", "channel", "part", "annotator")
RESERVED_FIELDS = Reserved.__struct_fields__
_carried, _NOTHING = attrgetter(*RESERVED_FIELDS), (None,) * len(RESERVED_FIELDS)
_inference = msgspec.json.Decoder(InferenceEvent)
_label = msgspec.json.Decoder(LabelEvent)
_lifecycle = msgspec.json.Decoder(LifecycleEvent)


class CloudEvent(msgspec.Struct):
    """A structured CloudEvent, version 1.0."""

    specversion: str
    id: str
    source: str
    type: str
    time: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")
    data_base64: str | None = None
    traceparent: Any = None
    tracestate: Any = None


_cloud_event = msgspec.json.Decoder(CloudEvent)


def time_us(time: datetime) -> int:
    """Microseconds since the epoch."""
    since = time - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def time_text(us: int) -> str:
    """RFC 3339 in UTC."""
    return (_EPOCH + timedelta(microseconds=us)).isoformat().replace("+00:00", "Z")


def segment_key(segment: Mapping[str, str] | None) -> str:
    """Canonical JSON of a segment; empty for all traffic."""
    return _segment_key((*segment.items(),)) if segment else ""


@lru_cache(maxsize=4096)  # the same few come again and again
def _segment_key(items: tuple[tuple[str, str], ...]) -> str:
    return json.dumps(dict(sorted(items)), separators=(",", ":"), ensure_ascii=False)


def bounded_segment_key(segment: Mapping[str, str] | None) -> str:
    """The canonical JSON of a segment that fits into keys and indexes. Raises Invalid for any other."""
    return _bounded_key((*segment.items(),)) if segment else ""


@lru_cache(maxsize=4096)
def _bounded_key(items: tuple[tuple[str, str], ...]) -> str:
    key, segment = _segment_key(items), dict(items)
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise Invalid(f"segment with {_names(segment)} holds half of a surrogate pair; send UTF-8 text") from None
    if size > MAX_SEGMENT_BYTES:
        raise Invalid(
            f"segment with {_names(segment)} takes {size} bytes as JSON, at most {MAX_SEGMENT_BYTES} are allowed: "
            "send few, short names and values"
        )
    for name, value in items:
        if max(len(name), len(value)) > MAX_TEXT:
            raise Invalid(
                f"segment {name[:60]!r}: a name or value of more than {MAX_TEXT} characters; send shorter ones"
            )
    return key


def _names(segment: Mapping[str, str] | None) -> str:
    """The names in a segment, for messages: its values may be of persons."""
    return ", ".join(ascii(name[:20]) for name in list(segment or {})[:8])


def header(headers: Iterable[tuple[str, bytes | None]], name: str) -> str:
    """The first header of that name, in any case; empty when absent or not UTF-8."""
    for key, value in headers or ():
        if key.lower() == name:
            return (value or b"").decode("utf-8", "replace")
    return ""


def decode_inference(value: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> InferenceEvent:
    """A single inference event from JSON, or from a binary or structured CloudEvent around it."""
    event: InferenceEvent
    event, attributes = _decode(_inference, value, headers, {"id": "id", "time": "time"})
    bounded_segment_key(event.segment)
    if (carried := _carried(event)) != _NOTHING:
        _bound_carried(dict(zip(RESERVED_FIELDS, carried, strict=True)))
    if headers and event.traceparent is None and (attributes or may_be_traced(headers)):
        for name, text in (bounded(attributes) or context_of(headers)).items():
            setattr(event, name, text)
    return event


def _bound_carried(fields: dict[str, Any]) -> None:
    """What is carried along without a meaning may be anything, so it is bounded. Raises Invalid."""
    given = {name: value for name, value in fields.items() if value is not None}
    deep = next((name for name, value in given.items() if _deeper(value, MAX_CARRIED_DEPTH)), None)
    if deep is not None:
        raise Invalid(f"field {deep!r} is nested deeper than {MAX_CARRIED_DEPTH} levels; flatten it")
    sizes = {name: len(msgspec.json.encode(value)) for name, value in given.items()}
    if sum(sizes.values()) > MAX_CARRIED_BYTES:
        raise Invalid(
            f"reserved fields take {sum(sizes.values())} bytes as JSON, at most {MAX_CARRIED_BYTES} are carried along: "
            f"send less in {max(sizes, key=lambda name: sizes[name])!r}"
        )


def _deeper(value: Any, most: int) -> bool:
    """Whether lists and objects lie within each other in more than `most` levels; a loop, so depth costs no stack."""
    level = [value]
    for _ in range(most):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return False
    return any(isinstance(one, dict | list) for one in level)


def decode_label(value: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> LabelEvent:
    """A label event from JSON, or from a binary or structured CloudEvent around it."""
    event: LabelEvent = _decode(_label, value, headers, {"time": "time"})[0]
    _bound_carried({name: getattr(event, name) for name in CARRIED_BY_LABELS})
    if event.label is None and event.value is None and event.correct is None:
        raise Invalid(f"label of inference {event.inference_id!r} says nothing: it needs `label`, `value` or `correct`")
    return event


def decode_lifecycle(value: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> LifecycleEvent:
    """A lifecycle event from JSON, or from a binary or structured CloudEvent around it."""
    event: LifecycleEvent = _decode(_lifecycle, value, headers, {"id": "id", "time": "time"})[0]
    return event


def _decode(
    decoder: Any, value: bytes | None, headers: Iterable[tuple[str, bytes | None]], fill: dict[str, str]
) -> tuple[Any, dict[str, str]]:
    """The event, and the attributes of the CloudEvent around it."""
    if not value:
        raise Undecodable("the record is empty; expected a JSON object")
    body, attributes = unwrap(value, headers)
    try:
        try:
            return decoder.decode(body), attributes
        except msgspec.ValidationError:
            # Reads all of it: what is wrong may stand before what makes the rest of the bytes no JSON at all.
            return decoder.decode(_filled(body, attributes, fill)), attributes
    except msgspec.ValidationError as error:
        raise Invalid(str(error)) from None
    except UNREADABLE as error:
        hint = "; NaN and Infinity are not JSON, send null" if b"NaN" in body or b"Infinity" in body else ""
        raise Undecodable(f"not a JSON object: {error}{hint}") from None


def _filled(body: bytes, attributes: dict[str, str], fill: dict[str, str]) -> bytes:
    """The body with fields it lacks taken from the CloudEvent around it."""
    fields = msgspec.json.decode(body)
    if not isinstance(fields, dict):
        return body
    lacking = {k: attributes[a] for k, a in fill.items() if k not in fields and attributes.get(a)}
    return msgspec.json.encode({**fields, **lacking})


def unwrap(value: bytes, headers: Iterable[tuple[str, bytes | None]]) -> tuple[bytes, dict[str, str]]:
    """The data of a CloudEvent and its attributes; any other record is its own data."""
    if not headers:
        return value, {}
    if header(headers, "content-type").lower().startswith(STRUCTURED):
        try:
            event = _cloud_event.decode(value)
            data = (
                base64.b64decode(event.data_base64, validate=True)
                if event.data_base64 is not None
                else bytes(event.data)
            )
        except (*UNREADABLE, ValueError) as error:  # of base64: other characters than its own, a wrong length
            raise Undecodable(f"not a structured CloudEvent 1.0: {error}") from None
        traced = {name: text for name in (PARENT, STATE) if isinstance(text := getattr(event, name), str)}
        return data, {"id": event.id, "time": event.time or "", **traced}
    if header(headers, "ce_specversion"):
        return value, {"id": header(headers, "ce_id"), "time": header(headers, "ce_time")}
    return value, {}


def decode_input(headers: Iterable[tuple[str, bytes | None]]) -> InputSample:
    """The metadata of a sampled input from its record headers."""
    fields: dict[str, Any] = {}
    for key, raw in headers or ():
        name = key.lower()
        if name not in InputSample.__struct_fields__ or raw is None or name in fields:
            continue  # of headers that come twice the first counts
        try:
            text = raw.decode("utf-8")
            fields[name] = json.loads(text) if name in ("shape", "segment") else text
        except (ValueError, RecursionError) as error:
            raise BadInput(f"header {name} of a sampled input cannot be read: {error}") from None
    try:
        sample = msgspec.convert(fields, InputSample, strict=False)
    except msgspec.ValidationError as error:
        raise Invalid(f"headers of a sampled input: {error}") from None
    bounded_segment_key(sample.segment)
    return sample
