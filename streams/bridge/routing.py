"""Where a record goes, whether its reader would take it, and under which key."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec

from streams.adapters.config import Sources
from streams.adapters.contract import Record, header_of
from streams.adapters.source import Source
from streams.bridge.message import Headers, Message, Outgoing
from streams.errors import BadRecord, Refusal
from streams.records import FRAME, STRUCTURED, decode_inference, decode_label, decode_lifecycle
from streams.settings import Settings
from streams.topics import INFERENCE, LABELS, LIFECYCLE, TOPICS

CHECKED_BYTES = 64 << 10  # of records of other servers: reading more would hold up other senders
_OTHERS = "org.kubeflow.serving", "io.seldon.serving", "azureml.inference"
_FORMS = "application/x-www-form-urlencoded", "multipart/form-data"


class Target(NamedTuple):
    """A topic; `source` is what reads it, None for the topics of this project."""

    topic: str
    name: str
    source: Source | None = None


class Router:
    """Knows the topics that may be sent to: three of this project, and those of `sources`."""

    def __init__(self, settings: Settings, sources: Sources | None = None) -> None:
        self._settings, self._sources = settings, sources
        self._ours = {settings.topic(topic.name) for topic in TOPICS}

    def target(self, name: str) -> Target:
        """The topic of that name, with or without the project's prefix. Raises Refusal (404)."""
        short = name.removeprefix(self._settings.topic_prefix)
        if short in _OWN:
            return Target(self._settings.topic(short), short)
        # As for workers: no pattern, however wide, makes what we write ourselves or the broker's own a source.
        written = name in self._ours or name.startswith("__")
        found = self._sources.of(name) if self._sources is not None and not written else None
        if found is not None:
            return Target(name, name, found[0])
        known = ", ".join((*_OWN, *self._patterns()))
        raise Refusal(
            404, "no_topic",
            f"no topic {name[:100]!r} to send to; there are {known}. Topics of other servers are those of "
            "sources.yaml, which the setting `sources` names",
        )  # fmt: skip

    def _patterns(self) -> Iterable[str]:
        entries = self._sources.entries if self._sources is not None else []
        return (pattern.text for entry in entries for pattern in entry.patterns)

    def outgoing(self, target: Target, messages: list[Message], first: int | None = None) -> list[Outgoing]:
        """The records for the broker; `first` is the number of the first of them within a request that has several.

        Raises Refusal (400, 413, 415) for the first that is not taken: then none is.
        """
        return [
            self._one(target, one, "" if first is None else f"record {first + i}: ") for i, one in enumerate(messages)
        ]

    def _one(self, target: Target, message: Message, place: str) -> Outgoing:
        kind = _header(message.headers, "content-type").lower()
        if kind.startswith(_FORMS):
            told = f"a body of {kind[:60]} is not read; say what it is: curl -H 'content-type: application/json'"
            raise Refusal(415, "media_type", told)
        try:
            key = self._own(target, message, kind) if target.source is None else _foreign(target, message)
        except BadRecord as error:
            hint = _hint(message) if target.source is None else ""
            raise Refusal(400, "bad_record", f"{place}{error}; nothing of this request was taken{hint}") from None
        made = Outgoing(target.topic, key, message.value, message.headers)
        if made.size > self._settings.max_record_bytes:
            most = self._settings.max_record_bytes
            told = f"{made.size} bytes; a record has at most {most} (max_record_bytes). Send large inputs by reference"
            raise Refusal(413, "too_large", place + told)
        return made

    def _own(self, target: Target, message: Message, kind: str) -> bytes | None:
        if kind.startswith(FRAME):
            raise Refusal(415, "media_type", "frames go to the broker itself; bestbefore-client sends them")
        if len(message.value) > self._settings.max_record_bytes:
            return None  # refused for it
        event = _OWN[target.name].decode(message.value, message.headers)
        given = _header(message.headers, "ce_partitionkey") if target.name == INFERENCE else ""
        return (given or _OWN[target.name].key(event)).encode("utf-8", "surrogatepass")


def _hint(message: Message) -> str:
    """What to do with the event of another server that was sent to a topic of this project."""
    kind = _header(message.headers, "ce_type") or message.value[:2000].decode("utf-8", "replace")
    server = next((name for name in _OTHERS if name in kind), "")
    return f". It is an event of {server}: send it to /topics/NAME, a topic of sources.yaml" if server else ""


class _Own(NamedTuple):
    decode: Callable[[bytes | None, Iterable[tuple[str, bytes | None]]], Any]
    key: Callable[[Any], str]


_OWN = {
    INFERENCE: _Own(decode_inference, lambda event: f"{event.model}/{event.version}"),
    LABELS: _Own(decode_label, lambda event: str(event.inference_id)),
    LIFECYCLE: _Own(decode_lifecycle, lambda event: str(event.model)),
}


def _foreign(target: Target, message: Message) -> bytes | None:
    """The key of a record of another server: request and response have the same."""
    if not message.value:
        raise Refusal(400, "empty", "the body is empty; send the record as the server writes it")
    if target.source is not None and len(message.value) <= CHECKED_BYTES:
        target.source.try_read(Record(target.topic, message.value, None, message.headers))
    return pair_key(message)


class _Named(msgspec.Struct):
    """The parts of a body by which halves are paired; the rest is skipped without being made into objects."""

    id: str | int | None = None
    correlationid: str | None = None
    partitionkey: str | None = None
    request_id: str | None = None


def pair_key(message: Message) -> bytes | None:
    """What request and response of one inference have in common; None where nothing tells.

    In this order: the extension `partitionkey`, Azure's `correlationid`, the id of the CloudEvent, the header
    `x-request-id` or `requestid`, `id` or `request_id` of a JSON object.
    """
    structured = _header(message.headers, "content-type").lower().startswith(STRUCTURED)
    if not structured:
        record = Record("", None, None, message.headers)
        names = (("ce_partitionkey",), ("ce_correlationid",), ("ce_id",), ("x-request-id", "requestid"))
        found = next((text for name in names if (text := header_of(record, *name))), "")
        if found:
            return found.encode()
    if message.value[:1] != b"{":
        return None
    try:
        body = msgspec.json.decode(message.value, type=_Named, strict=False)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError):
        return None
    key = next((str(one) for one in (body.partitionkey, body.correlationid, body.id, body.request_id) if one), "")
    return key.encode("utf-8", "surrogatepass") or None


def _header(headers: Headers, name: str) -> str:
    return next((text.decode("utf-8", "replace") for key, text in headers if key == name), "")
