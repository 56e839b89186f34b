"""CloudEvents 1.0 (and 0.3) around the records of other servers: binary and structured, headers in any case.

Source: CloudEvents Kafka protocol binding 1.0. Headers that came over HTTP (`ce-id`) are read as those of Kafka
(`ce_id`).
"""

import base64
import binascii
from typing import Any, NamedTuple

import msgspec

from streams.adapters.contract import Record, header_of, json_of
from streams.errors import Unadaptable
from streams.records import STRUCTURED

_WHAT = "a structured CloudEvent"


class Event(NamedTuple):
    """Attributes by their names in lower case, and the data as it stands."""

    attributes: dict[str, str]
    data: bytes


def cloud_event(record: Record, *, lines: bool = False) -> Event | None:
    """The CloudEvent of a record, or None where it is none.

    `lines`: a JSON object with `specversion` is one although no header says so. Raises Unadaptable for a broken one.
    """
    value = record.value or b""
    if header_of(record, "content-type").lower().startswith(STRUCTURED):
        return _structured(value)
    if header_of(record, "ce_specversion"):
        return Event(_binary(record), value)
    if lines and b'"specversion"' in value:
        return _structured(value)
    return None


def _binary(record: Record) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, raw in record.headers:
        name = key.lower()
        if name.startswith(("ce_", "ce-")):
            found.setdefault(name[3:], (raw or b"").decode("utf-8", "replace"))
    return found


def _structured(value: bytes) -> Event:
    fields: dict[str, msgspec.Raw] = json_of(value, _WHAT, dict[str, msgspec.Raw])
    data = bytes(fields.pop("data", b""))
    encoded = fields.pop("data_base64", None)
    attributes = {name.lower(): _text(json_of(bytes(raw), _WHAT)) for name, raw in fields.items()}
    if encoded is not None:
        try:
            data = base64.b64decode(json_of(bytes(encoded), _WHAT, str), validate=True)
        except binascii.Error as error:
            raise Unadaptable(f"data_base64 of a structured CloudEvent: {error}") from None
    elif data.startswith(b'"'):
        # A body that the sender took for text.
        data = json_of(data, _WHAT, str).encode("utf-8", "surrogatepass")
    return Event(attributes, data)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else msgspec.json.encode(value).decode()
