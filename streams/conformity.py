"""Whether a record is what its topic promises: read as workers read it, or as readers of our outputs will.

For `bestbefore topics verify`; the workers themselves put what they cannot read among the dead letters.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec

from models.profile import Profile
from streams.contract import BY_NAME, MESSAGES, Message
from streams.envelopes import JSON, event_type
from streams.errors import BadRecord, Invalid, TooNew
from streams.events import Time
from streams.frames import decode_frame
from streams.heartbeats import HEARTBEAT, decode_heartbeat
from streams.lane import decode_profile_record
from streams.lines import RetrainTrigger
from streams.records import (
    FRAME,
    STRUCTURED,
    UNREADABLE,
    decode_inference,
    decode_input,
    decode_label,
    decode_lifecycle,
    header,
)
from streams.topics import INFERENCE, LABELS, LIFECYCLE, STATUS

Headers = Iterable[tuple[str, bytes | None]]
REQUIRED = ("id", "source", "type", "time", "subject")


class Found(NamedTuple):
    """Which message a record is, and what is wrong with it; empty where nothing is."""

    message: str
    problem: str = ""


def examine(topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> Found:
    """Judge one record of the topic with this short name."""
    headers = list(headers or ())
    message = message_of(topic, headers)
    try:
        read: _Reader = _READERS.get(message.name, _told)
        read(message, key, value, headers)
    except BadRecord as error:
        return Found(message.name, str(error))
    except (*UNREADABLE, ValueError, TooNew) as error:
        return Found(message.name, f"{type(error).__name__}: {error}")
    return Found(message.name)


def message_of(topic: str, headers: Headers) -> Message:
    """The message that a record is meant to be, by its content type and the type of its CloudEvent."""
    content = header(headers, "content-type").lower()
    if topic == INFERENCE and content.startswith(HEARTBEAT):
        return BY_NAME["heartbeat"]
    if topic == INFERENCE and content.startswith(FRAME):
        return BY_NAME["inference-frame"]
    some = [message for message in MESSAGES if message.topic == topic]
    if topic == LIFECYCLE and header(headers, "ce_type").startswith("io.bestbefore."):
        return BY_NAME["lifecycle"]
    if topic in (INFERENCE, LABELS, LIFECYCLE) and content.startswith(STRUCTURED):
        return next(message for message in some if message.content_type == STRUCTURED)
    return some[0]


def _told(message: Message, key: bytes | None, value: bytes | None, headers: Headers) -> None:
    """One of our own CloudEvents. Raises Invalid and what msgspec raises."""
    if not value:
        if message.topic == STATUS:
            return  # takes a subject off the topic
        raise Invalid("the record is empty; expected a JSON object")
    if not header(headers, "ce_specversion"):
        raise Invalid("no CloudEvent in binary mode: header ce_specversion is missing")
    attributes = {name: header(headers, f"ce_{name}") for name in REQUIRED}
    if lacking := [f"ce_{name}" for name, text in attributes.items() if not text]:
        raise Invalid(f"headers {', '.join(lacking)} are missing or empty")
    msgspec.convert(attributes["time"], Time)
    assert message.kind is not None  # noqa: S101 -- only such messages come here
    wanted = {"ce_specversion": "1.0", "ce_type": event_type(message.kind), "content-type": JSON}
    for name, text in wanted.items():
        if header(headers, name) != text:
            raise Invalid(f"header {name} is {header(headers, name)!r}, expected {text!r}")
    body = msgspec.json.decode(value, type=message.payload)
    own = body.trigger_id if isinstance(body, RetrainTrigger) else getattr(body, "id", attributes["id"])
    if own != attributes["id"]:
        raise Invalid(f"ce_id is {attributes['id']!r}, the line's own id {own!r}")
    if key is None:
        raise Invalid("the record has no key")


def _profile(message: Message, key: bytes | None, value: bytes | None, headers: Headers) -> None:  # noqa: ARG001
    record = decode_profile_record(value or b"")
    if record.profile is not None:
        Profile.unpack(record.profile)


def _lifecycle(message: Message, key: bytes | None, value: bytes | None, headers: Headers) -> None:  # noqa: ARG001
    decode_lifecycle(value, headers)
    if not key:
        raise Invalid("the record has no key; a compacted topic keeps the latest of each")


def _dead(message: Message, key: bytes | None, value: bytes | None, headers: Headers) -> None:  # noqa: ARG001
    names = message.headers.__struct_encode_fields__
    found = {name: text for name in names if (text := header(headers, name))}
    msgspec.convert(found, message.headers, strict=False)


_Reader = Callable[[Message, bytes | None, bytes | None, Headers], Any]
_READERS: dict[str, _Reader] = {
    "inference-event": lambda _message, _key, value, headers: decode_inference(value, headers),
    "inference-cloud-event": lambda _message, _key, value, headers: decode_inference(value, headers),
    "inference-frame": lambda _message, _key, value, _headers: decode_frame(value or b"", 0),
    "heartbeat": lambda _message, _key, value, _headers: decode_heartbeat(value),
    "sampled-input": lambda _message, _key, _value, headers: decode_input(headers),
    "label-event": lambda _message, _key, value, headers: decode_label(value, headers),
    "label-cloud-event": lambda _message, _key, value, headers: decode_label(value, headers),
    "lifecycle-event": _lifecycle,
    "lifecycle-cloud-event": _lifecycle,
    "profile": _profile,
    "dead-letter": _dead,
}
