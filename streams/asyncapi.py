"""The AsyncAPI 3.0 document of a deployment: its topics, what is on them, how they are kept, how one connects.

https://www.asyncapi.com/docs/reference/specification/v3.0.0, Kafka bindings 0.5.0. Seen from the workers, as the
specification wants it: they receive inferences and send triggers.
"""

from typing import Any

from bestbefore_client.frame import KINDS, REQUIRED

from streams.contract import BY_NAME, MESSAGES, Message
from streams.envelopes import event_type, schema_id, source_of
from streams.records import FRAME, STRUCTURED
from streams.schemas import as_text, components, examples
from streams.security import brokers, uses_sasl, uses_tls
from streams.settings import Settings
from streams.topics import TOPICS, Topic

Part = dict[str, Any]
ARROW = {
    "bool": "bool", "f4": "float32", "f8": "float64", "i4": "int32", "string": "utf8",
    "time": "timestamp[us, UTC]", "vector": "fixed_size_list<float32>",
}  # fmt: skip
BINDING = {"bindingVersion": "0.5.0"}
ABOUT = (
    "Model servers send telemetry; workers say when the quality of a model will fall below its threshold, and what to "
    "do about it. Inputs are counted once; outputs come at least once, with ids that follow from their cause, so "
    "whoever sees an id twice drops it. Fields are only ever added; readers ignore what they do not know. A breaking "
    "change gives an event a new type (`….v2`), beside which the old one stays for a release."
)
KEYS = {topic.name: topic.key for topic in TOPICS}
SCHEMES = {
    "plain": ("PLAIN", {"type": "plain", "description": "SASL/PLAIN: user and password; over TLS only."}),
    "scramSha256": ("SCRAM-SHA-256", {"type": "scramSha256", "description": "SASL/SCRAM-SHA-256: user and password."}),
    "scramSha512": ("SCRAM-SHA-512", {"type": "scramSha512", "description": "SASL/SCRAM-SHA-512: user and password."}),
    "clientCertificate": ("", {"type": "X509", "description": "TLS with a certificate of the client."}),
}  # fmt: skip


def document(settings: Settings, version: str) -> Part:
    """The document, for the brokers, prefix, group and sizes of `settings`; `version` is the application's."""
    servers = _servers(settings)
    return {
        "asyncapi": "3.0.0",
        "id": "urn:bestbefore",
        "info": {
            "title": "bestbefore", "version": version, "description": ABOUT,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0.html"},
            "tags": [{"name": "in"}, {"name": "out"}, {"name": "internal"}],
        },
        "defaultContentType": "application/json",
        "servers": servers,
        "channels": {topic.name: _channel(topic, settings, list(servers)) for topic in TOPICS},
        "operations": dict(_operations(settings)),
        "components": {
            "messages": {message.name: _message(message) for message in MESSAGES},
            "messageTraits": {"cloudEvent": _trait()},
            "schemas": _schemas(),
            "securitySchemes": {name: scheme for name, (_, scheme) in SCHEMES.items()},
        },
    }  # fmt: skip


def _servers(settings: Settings) -> dict[str, Part]:
    """One entry for each broker, with the security that this deployment uses."""
    wanted = [name for name, (mechanism, _) in SCHEMES.items() if mechanism and mechanism == _mechanism(settings)]
    wanted += ["clientCertificate"] if uses_tls(settings) and settings.broker_certificate else []
    security = {"security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in wanted]} if wanted else {}
    protocol = "kafka-secure" if uses_tls(settings) else "kafka"
    return {
        f"kafka{i or ''}": {"host": host, "protocol": protocol, "description": "A broker.", **security}
        for i, host in enumerate(brokers(settings))
    }


def _mechanism(settings: Settings) -> str:
    return settings.broker_sasl_mechanism if uses_sasl(settings) else ""


def _channel(topic: Topic, settings: Settings, servers: list[str]) -> Part:
    """One topic: how it is kept, and what is on it."""
    config: Part = {}
    for name, value in topic.config(settings.max_record_bytes).items():
        config[name] = value.split(",") if name == "cleanup.policy" else int(value) if value.isdecimal() else value
    of_topic = [message for message in MESSAGES if message.topic == topic.name]
    return {
        "address": settings.topic(topic.name),
        "title": topic.name,
        "description": " ".join(message.summary for message in of_topic),
        "messages": {message.name: {"$ref": f"#/components/messages/{message.name}"} for message in of_topic},
        "servers": [{"$ref": f"#/servers/{name}"} for name in servers],
        "tags": [{"name": word} for word in topic.direction.split(" and ")],
        "bindings": {
            "kafka": {
                "topic": settings.topic(topic.name), "partitions": settings.partitions,
                "replicas": settings.replication, "topicConfiguration": config, **BINDING,
            }
        },
    }  # fmt: skip


def _operations(settings: Settings) -> list[tuple[str, Part]]:
    """What the workers do with each topic: internal ones they both write and read."""
    found: list[tuple[str, Part]] = []
    for topic in TOPICS:
        of_topic = [message for message in MESSAGES if message.topic == topic.name]
        for action in ("receive", "send"):
            some = [message for message in of_topic if action in _actions(topic, message)]
            if not some:
                continue
            name = action + "".join(word.capitalize() for word in topic.name.split("-"))
            group = {"groupId": {"type": "string", "enum": [settings.group]}} if action == "receive" else {}
            operation = {
                "action": action,
                "channel": {"$ref": f"#/channels/{topic.name}"},
                "messages": [{"$ref": f"#/channels/{topic.name}/messages/{message.name}"} for message in some],
                "bindings": {"kafka": {**group, **BINDING}},
            }
            found.append((name, operation))
    return found


def _actions(topic: Topic, message: Message) -> tuple[str, ...]:
    if topic.direction == "internal":
        return ("receive", "send")
    out = message.kind is not None or topic.direction == "out"
    return ("send",) if out else ("receive",)


def _message(message: Message) -> Part:
    """One message: payload, headers, key, examples."""
    found: Part = {
        "name": message.name,
        "title": message.title,
        "summary": message.summary,
        "contentType": message.content_type,
        "payload": _payload(message),
    }
    headers = _headers(message)
    if headers is not None:
        found["headers"] = headers
    if message.kind is not None:
        found["traits"] = [{"$ref": "#/components/messageTraits/cloudEvent"}]
    key: Part = {"type": "string", "description": KEYS[message.topic]}
    found["bindings"] = {"kafka": {"key": key, **BINDING}}
    shown = [_example(message, one) for one in examples().get(message.schema or "", ())]
    return {**found, "examples": shown} if shown else found


def _payload(message: Message) -> Part:
    if message.payload is None or message.schema == "profile":
        told = "May be empty." if message.name in ("sampled-input", "dead-letter") else "Never empty."
        columns = {"x-arrow-columns": _columns()} if message.content_type == FRAME else {}
        return {"type": "string", "format": "binary", "description": f"Bytes. {told}", **columns}
    kinds = getattr(message.payload, "__args__", (message.payload,))
    parts = [{"$ref": f"#/components/schemas/{kind.__name__}"} for kind in kinds]
    body = parts[0] if len(parts) == 1 else {"oneOf": parts}
    if message.content_type != STRUCTURED:
        return body
    text = {"type": "string", "minLength": 1}
    attributes = {"specversion": {"const": "1.0"}, **dict.fromkeys(("id", "source", "type"), text)}
    optional = {"time": {"type": "string", "format": "date-time"}, "data": body}
    optional["data_base64"] = {"type": "string", "contentEncoding": "base64"}
    return {"type": "object", "properties": {**attributes, **optional}, "required": list(attributes)}


def _columns() -> Part:
    """Columns of a frame: their types in Arrow; those that are required must have no null."""
    required = {name: {"required": True} for name in REQUIRED}
    found: Part = {name: {"type": ARROW[kind], **required.get(name, {})} for name, kind in KINDS.items()}
    return {
        **found,
        "features.<name>": {"type": "float64, float32, int, bool or utf8"},
        "segment.<name>": {"type": "utf8"},
    }


def _headers(message: Message) -> Part | None:
    """What headers carry. Content types are compared without their parameters and their case."""
    kind = {"content-type": {"type": "string", "description": f"`{message.content_type}`."}}
    if message.headers is not None:
        (_, parts) = components([message.headers], "#/{name}")
        return as_text(parts[message.headers.__name__])
    if message.kind is not None:
        return {
            "type": "object",
            "properties": {
                "ce_type": {"const": event_type(message.kind)},
                "ce_dataschema": {"const": schema_id(message.kind)},
                "content-type": {"const": message.content_type},
            },
        }
    if message.schema == "profile":
        return None
    return {"type": "object", "properties": kind} | (
        {"required": ["content-type"]} if message.content_type != "application/json" else {}
    )


def _example(message: Message, value: Any) -> Part:
    if message.headers is not None:
        return {"headers": value}
    if message.content_type == STRUCTURED:
        around = {"specversion": "1.0", "id": value.get("id", "e-1"), "source": "/server-1", "type": "of.yours.v1"}
        return {"headers": {"content-type": STRUCTURED}, "payload": {**around, "data": value}}
    if message.kind is None:
        return {"headers": {"content-type": message.content_type}, "payload": value}
    return {"payload": value}


def _trait() -> Part:
    """The attributes of every CloudEvent that goes out, in binary mode."""
    text = {"type": "string", "minLength": 1}
    return {
        "headers": {
            "type": "object",
            "properties": {
                "ce_specversion": {"const": "1.0"},
                "ce_id": {**text, "description": "Follows from the cause: the same under replay. Drop what was seen."},
                "ce_source": {**text, "format": "uri-reference", "description": "The deployment.",
                              "examples": [source_of("bestbefore")]},
                "ce_type": {**text, "description": "Kind and major version of the event."},
                "ce_time": {"type": "string", "format": "date-time", "description": "Event time, UTC."},
                "ce_subject": {**text, "description": "As the record's key. Control characters are percent-encoded."},
                "ce_dataschema": {**text, "format": "uri", "description": "`$id` of the published schema."},
                "ce_traceparent": {**text, "description": "W3C trace context of a request that led to the event; "
                                   "`traces` in the payload has more. Left out where none came."},
                "ce_tracestate": {**text, "description": "W3C trace state beside it; of requests for labels only."},
                "content-type": {"const": "application/json"},
            },
            "required": ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_subject", "content-type"],
        }
    }  # fmt: skip


def _schemas() -> dict[str, Part]:
    """All types of payloads, with the types within them."""
    kinds: list[Any] = []
    for message in BY_NAME.values():
        if message.payload is not None and message.schema != "profile":
            kinds += getattr(message.payload, "__args__", (message.payload,))
    _, parts = components(list(dict.fromkeys(kinds)), "#/components/schemas/{name}")
    return parts
