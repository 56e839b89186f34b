"""CloudEvents over HTTP (binary, structured, batch) and plain bodies, as records of Kafka.

Sources: CloudEvents 1.0, HTTP and Kafka protocol bindings. What is an attribute here is a header there, `ce-id` becomes
`ce_id`; values are percent-encoded over HTTP and UTF-8 in Kafka. Data stay as they are, byte by byte.
"""

import re
from collections.abc import Collection, Iterable
from urllib.parse import unquote_to_bytes

import msgspec

from streams.bridge.message import Headers, Message
from streams.errors import Refusal
from streams.records import STRUCTURED, UNREADABLE

BATCH, LINES = "application/cloudevents-batch", ("application/x-ndjson", "application/jsonl", "application/json-lines")
VERSIONS = ("1.0", "0.3")
MOST_EVENTS = 10_000  # of one request: they are checked while others wait
# Headers by which adapters tell records apart, of KServe, Seldon, Triton and the W3C's trace context.
KEPT = frozenset({
    "content-type", "traceparent", "tracestate", "x-request-id", "requestid", "modelid", "type", "protocol", "endpoint",
    "namespace", "inferenceservicename", "seldon-infer-type", "inference-header-content-length", "mlserver-model",
    "mlserver-version",
})  # fmt: skip
_NAME = re.compile(r"[a-z0-9_-]{1,60}")
_REQUIRED = ("id", "source", "type")
_QUOTED = re.compile(r"\\(.)")


class _Attributes(msgspec.Struct):
    """What every structured event must have."""

    specversion: str
    id: str
    source: str
    type: str


def decode_request(
    content_type: str, headers: Iterable[tuple[str, str]], body: bytes, kept: Collection[str] = KEPT
) -> list[Message]:
    """The records in a request. Raises Refusal (400, 413, 415) that says what to send instead."""
    given = [(name.lower(), text) for name, text in headers]
    kind = content_type.lower().partition(";")[0].strip()
    around = _carried(given, kept)
    if kind.startswith("application/cloudevents"):
        return _cloud_events(kind, around, body)
    if any(name == "ce-specversion" for name, _ in given):
        return [Message(body, around + _attributes(given))]
    if kind in LINES:
        return [Message(line, _typed(around, "application/json")) for line in _bounded(_lines(body))]
    if not body:
        told = "the body is empty; send an event, as in: curl -H 'content-type: application/json' -d @event.json"
        raise Refusal(400, "empty", told)
    return [Message(body, around)]


def _cloud_events(kind: str, around: Headers, body: bytes) -> list[Message]:
    if not kind.endswith("+json"):
        raise Refusal(
            415, "media_type", f"events in {kind[:80]} are not read; send application/cloudevents+json, "
            "application/cloudevents-batch+json, or binary mode (ce-id … in headers)",
        )  # fmt: skip
    typed = _typed(around, STRUCTURED)
    if not kind.startswith(BATCH):
        _complete(body, "the structured CloudEvent")
        return [Message(body, typed)]
    try:
        events = msgspec.json.decode(body, type=list[msgspec.Raw])
    except (*UNREADABLE, msgspec.ValidationError) as error:
        raise Refusal(400, "unreadable", f"a batch is a JSON array of CloudEvents; this is none: {error}") from None
    for number, event in enumerate(_bounded(events)):
        _complete(bytes(event), f"event {number} of the batch")
    return [Message(bytes(event), typed) for event in events]


def _complete(event: bytes, what: str) -> None:
    try:
        found = msgspec.json.decode(event, type=_Attributes)
    except (*UNREADABLE, msgspec.ValidationError) as error:
        raise Refusal(
            400, "unreadable", f"{what} cannot be read: {str(error)[:300]}; it is a JSON object with specversion, id, "
            "source, type and data",
        ) from None  # fmt: skip
    _known(found.specversion, what)
    for name in _REQUIRED:
        if not getattr(found, name):
            raise Refusal(400, "unreadable", f"{what} has an empty `{name}`; CloudEvents need one")


def _attributes(given: list[tuple[str, str]]) -> Headers:
    """The attributes of binary mode, as headers of Kafka."""
    found: dict[str, bytes] = {}
    for name, text in given:
        if name.startswith("ce-") and _NAME.fullmatch(name[3:]):
            found.setdefault(name[3:], _decoded(text))
    for name in _REQUIRED:
        if not found.get(name):
            raise Refusal(
                400, "unreadable", f"the header ce-{name} is missing or empty; a CloudEvent in binary mode needs "
                "ce-specversion, ce-id, ce-source and ce-type",
            )  # fmt: skip
    _known(found["specversion"].decode("utf-8", "replace"), "the CloudEvent")
    return [(f"ce_{name}", text) for name, text in found.items()]


def _decoded(text: str) -> bytes:
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = _QUOTED.sub(r"\1", text[1:-1])
    return unquote_to_bytes(text.encode("utf-8", "surrogateescape"))


def _known(version: str, what: str) -> None:
    if version not in VERSIONS:
        told = f"{what} is of specversion {version[:20]!r}; {' and '.join(VERSIONS)} are read"
        raise Refusal(400, "unreadable", told)


def _carried(given: list[tuple[str, str]], kept: Collection[str]) -> Headers:
    """Headers that say what the record is; no credentials, cookies, addresses."""
    return [(name, text.encode("utf-8", "surrogateescape")) for name, text in given if name in kept]


def _typed(around: Headers, content_type: str) -> Headers:
    return [("content-type", content_type.encode()), *(one for one in around if one[0] != "content-type")]


def _lines(body: bytes) -> list[bytes]:
    return [line for line in body.splitlines() if line.strip()]


def _bounded(events: list[msgspec.Raw] | list[bytes]) -> list[bytes]:
    if len(events) > MOST_EVENTS:
        raise Refusal(413, "too_many", f"{len(events)} events in one request; send at most {MOST_EVENTS}")
    return [bytes(event) for event in events]
