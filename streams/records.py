"""Typed records on the topics, and their decoding from single-event JSON and CloudEvents.

Only ever add fields, with a default; never retype one. Unknown fields are ignored.
"""

import base64
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Annotated, Any

import msgspec

from streams.errors import BadInput, Invalid, Undecodable

FRAME = "application/vnd.apache.arrow.stream"
STRUCTURED = "application/cloudevents+json"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]
Time = Annotated[datetime, msgspec.Meta(tz=True)]
# A weight of 1 / probability, and its square, must stay numbers that can be added up exactly.
LEAST_SHARE = 1e-4
Share = Annotated[float, msgspec.Meta(ge=LEAST_SHARE, le=1.0)]
# Subjects and sources are keys of tables, and the index of a database takes no more than some 2700 bytes.
Short = Annotated[str, msgspec.Meta(max_length=200, pattern=r"^[^\x00]*$")]
# NUL may stand in a segment, whose JSON escapes it.
Word = Annotated[str, msgspec.Meta(max_length=200)]
Segment = Annotated[dict[Word, Word], msgspec.Meta(max_length=8)]
MAX_TEXT, MAX_SEGMENT_BYTES = 200, 400
# What is kept for late labels travels into the store, row by row; a label that is longer is no class but a document.
MAX_LABEL, MAX_CLASSES, MAX_FEATURES, MAX_EMBEDDING = 1_000, 10_000, 1_000, 100_000
MAX_CARRIED_BYTES, MAX_CARRIED_DEPTH = 16 << 10, 32  # of the reserved fields of one event, as JSON
Label = Annotated[str, msgspec.Meta(max_length=MAX_LABEL)]


class Output(msgspec.Struct):
    """What the model answered: a label and/or scores (classification), or a value (regression)."""

    label: Label | None = None
    scores: Annotated[dict[Label, float], msgspec.Meta(max_length=MAX_CLASSES)] | None = None
    value: float | None = None


class Reserved(msgspec.Struct, omit_defaults=True):
    """Optional fields that are carried along from the first version on; later versions give them meaning."""

    component: str | None = None
    system: str | None = None
    request: str | None = None
    served: str | None = None
    experiment: Any = None
    flags: Any = None
    upstream: Any = None
    shadow: Any = None
    decision: Any = None
    exploration: Any = None
    pipeline: str | None = None
    asof: str | None = None
    entity: str | None = None
    consent: str | None = None
    cost: float | None = None
    deployment: str | None = None


class InferenceEvent(Reserved, kw_only=True):
    """One inference."""

    id: Id
    time: Time
    model: Name
    version: Name
    segment: Segment | None = None
    latency_ms: float | None = None
    status: Annotated[int, msgspec.Meta(ge=-(1 << 31), lt=1 << 31)] = 200
    features: Annotated[dict[str, float | str | bool | None], msgspec.Meta(max_length=MAX_FEATURES)] = {}
    output: Output | None = None
    abstained: bool = False
    embedding: Annotated[list[float], msgspec.Meta(max_length=MAX_EMBEDDING)] | None = None
    digest: Short | None = None
    sampling: Share = 1.0


class LabelEvent(msgspec.Struct, kw_only=True):
    """Late ground truth, proxy or feedback about one inference."""

    inference_id: Id
    time: Time
    model: Short | None = None
    version: Short | None = None
    label: Label | None = None
    value: float | None = None
    correct: bool | None = None
    source: Short = "ground-truth"
    propensity: Share | None = None  # None: that of the request it answers, else 1
    loss: float | None = None
    metric: str | None = None
    severity: str | None = None
    tags: Any = None
    channel: str | None = None
    part: str | None = None
    seen_prediction: bool | None = None
    annotator: str | None = None


class InputSample(msgspec.Struct, kw_only=True):
    """The headers of a sampled input; the tensor is the record's value, or is fetched from `dataref`."""

    inference_id: Id
    model: Name
    version: Name
    time: Time
    dtype: str
    shape: list[int]
    segment: Segment | None = None
    embedding: bytes | None = None
    propensity: Share = 1.0
    dataref: str | None = None
    sha256: str | None = None
    size: int | None = None
    # What computed `embedding`: an execution provider, inputs per batch, the digest of the model file.
    provider: Short | None = None
    batch_size: Annotated[int, msgspec.Meta(ge=1)] | None = None
    digest: Short | None = None


class LifecycleEvent(msgspec.Struct, kw_only=True):
    """What happened to a model version, as CI or a person tells it. Kinds that are not known are only recorded."""

    id: Id
    time: Time
    kind: Annotated[str, msgspec.Meta(min_length=1, max_length=60, pattern=r"^[^\x00]+$")]
    model: Name
    version: Name
    previous: Short = ""
    served: Short = "live"
    message: Annotated[str, msgspec.Meta(max_length=1000, pattern=r"^[^\x00]*$")] = ""
    trigger_id: Short = ""  # the retrain trigger that it answers


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


_cloud_event = msgspec.json.Decoder(CloudEvent)


def time_us(time: datetime) -> int:
    """Microseconds since the epoch."""
    return (time - _EPOCH) // _MICROSECOND


def time_text(us: int) -> str:
    """RFC 3339 in UTC."""
    return (_EPOCH + timedelta(microseconds=us)).isoformat().replace("+00:00", "Z")


def segment_key(segment: Mapping[str, str] | None) -> str:
    """Canonical JSON of a segment; empty for all traffic."""
    return json.dumps(dict(sorted(segment.items())), separators=(",", ":"), ensure_ascii=False) if segment else ""


def bounded_segment_key(segment: Mapping[str, str] | None) -> str:
    """The canonical JSON of a segment that fits into keys and indexes. Raises Invalid for any other."""
    key = segment_key(segment)
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise Invalid(f"segment with {_names(segment)} holds half of a surrogate pair; send UTF-8 text") from None
    if size > MAX_SEGMENT_BYTES:
        raise Invalid(
            f"segment with {_names(segment)} takes {size} bytes as JSON, at most {MAX_SEGMENT_BYTES} are allowed: "
            "send few, short names and values"
        )
    for name, value in (segment or {}).items():
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
    event: InferenceEvent = _decode(_inference, value, headers, {"id": "id", "time": "time"})
    bounded_segment_key(event.segment)
    if (carried := _carried(event)) != _NOTHING:
        _bound_carried(dict(zip(RESERVED_FIELDS, carried, strict=True)))
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
    event: LabelEvent = _decode(_label, value, headers, {"time": "time"})
    _bound_carried({name: getattr(event, name) for name in CARRIED_BY_LABELS})
    if event.label is None and event.value is None and event.correct is None:
        raise Invalid(f"label of inference {event.inference_id!r} says nothing: it needs `label`, `value` or `correct`")
    return event


def decode_lifecycle(value: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> LifecycleEvent:
    """A lifecycle event from JSON, or from a binary or structured CloudEvent around it."""
    event: LifecycleEvent = _decode(_lifecycle, value, headers, {"id": "id", "time": "time"})
    return event


def _decode(
    decoder: Any, value: bytes | None, headers: Iterable[tuple[str, bytes | None]], fill: dict[str, str]
) -> Any:
    if not value:
        raise Undecodable("the record is empty; expected a JSON object")
    body, attributes = unwrap(value, headers)
    try:
        try:
            return decoder.decode(body)
        except msgspec.ValidationError:
            # Reads all of it: what is wrong may stand before what makes the rest of the bytes no JSON at all.
            return decoder.decode(_filled(body, attributes, fill))
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
    headers = headers or ()
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
        return data, {"id": event.id, "time": event.time or ""}
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
