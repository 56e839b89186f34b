"""KServe's inference logger: CloudEvents of type `org.kubeflow.serving.inference.request` and `.response`.

Request and response share the id. No event says the version, unless the body does. Of the headers in `metadata`, the
one that tells where JSON ends and tensors begin is used. Responses are logged for HTTP 200 only.
"""

from typing import Any

from streams.adapters.cloud_events import Event, cloud_event
from streams.adapters.contract import Adapter, Part, Record, header_of, json_of, refused
from streams.adapters.payloads import Half, body_of
from streams.adapters.times import moment
from streams.errors import Unadaptable

_TYPE = "org.kubeflow.serving.inference."
_EXPECTED = "a CloudEvent of KServe's inference logger"


def read(record: Record, _: Any = None) -> list[Part]:
    """One request or one response. Raises Unadaptable."""
    event = cloud_event(record, lines=True)
    if event is None:
        raise refused("a record that is no CloudEvent", _EXPECTED)
    kind = event.attributes.get("type", "")
    side: Half
    if kind == f"{_TYPE}request":
        side = "request"
    elif kind == f"{_TYPE}response":
        side = "response"
    else:
        raise refused(f"a CloudEvent of type {kind[:80]!r}", _EXPECTED)
    if not event.attributes.get("id"):
        raise Unadaptable("the CloudEvent has no id, so request and response cannot be paired")
    return [_part(side, event, record)]


def _part(side: Half, event: Event, record: Record) -> Part:
    tree, rows = body_of(event.data, side, _header_length(event, record))
    named = tree if isinstance(tree, dict) else {}
    at = event.attributes.get("time")
    return Part(
        side=side, id=event.attributes["id"], source=event.attributes.get("source", ""),
        time=moment(at) if at else None,
        model=_text(named.get("model_name")) or event.attributes.get("inferenceservicename", ""),
        version=_text(named.get("model_version")),
        request=rows if side == "request" else None, response=rows if side == "response" else None,
        trees={"envelope": _envelope(event), side: tree},
    )  # fmt: skip


def _text(value: Any) -> str:
    return str(value) if isinstance(value, str | int) else ""


def _envelope(event: Event) -> dict[str, Any]:
    """The attributes, with the two that hold JSON opened where they can be."""
    found: dict[str, Any] = dict(event.attributes)
    for name in ("metadata", "annotations"):
        try:
            tree = json_of(found.get(name, ""), name)
        except Unadaptable:
            continue  # as a path leads into it, it is then not there
        if isinstance(tree, dict):
            found[name] = {key.lower(): _first(value) for key, value in tree.items()}
    return found


def _first(value: Any) -> Any:
    """HTTP headers have a list of values each."""
    return value[0] if isinstance(value, list) and value else value


def _header_length(event: Event, record: Record) -> int | None:
    name = "inference-header-content-length"
    metadata = _envelope(event).get("metadata")
    text = header_of(record, name) or (metadata.get(name, "") if isinstance(metadata, dict) else "")
    return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 10 else None


ADAPTER = Adapter("kserve", "KServe inference logger (CloudEvents)", read, pairs=True)
