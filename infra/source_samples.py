"""Recorded samples of other servers' topics, for `bestbefore sources test`, and logs of one's own.

A file holds one record, or one in each line where its first line is a JSON object by itself. Lines of `kcat -C -J` keep
topic, key, headers and time; `payload_base64` may stand for a `payload` that is not text.
"""

import base64
import binascii
from pathlib import Path
from typing import Any

import msgspec

from streams.adapters.contract import Record
from streams.errors import SettingsError


def records_of(path: Path, topic: str | None, default: str | None = None) -> list[tuple[int, Record]]:
    """The records of a file, each with the line it begins in. `topic` wins over what lines say, they over `default`.

    Raises SettingsError for a file that cannot be read, is empty, or does not tell the topic.
    """
    try:
        content, modified = path.read_bytes(), path.stat().st_mtime_ns // 1000
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror or error}") from None
    lines = [(i, line) for i, line in enumerate(content.split(b"\n"), 1) if line.strip()]
    if not lines:
        raise SettingsError(
            f"{path} is empty; record some of the topic, as in: kcat -C -J -c 10 -t TOPIC > {path.name}"
        )
    if _object(lines[0][1]) is None:
        return [(1, Record(_required(path, topic or default), content, timestamp=modified))]
    return [(number, record_of(path, number, line, topic, modified, default)) for number, line in lines]


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        found = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _required(path: Path, topic: str | None) -> str:
    if topic is None:
        raise SettingsError(
            f"{path} does not say of which topic it is, and no source is for {path.stem!r}, the name of the file; "
            "say it with --topic"
        )
    return topic


def record_of(
    path: Path, number: int, line: bytes, topic: str | None, modified: int, default: str | None = None
) -> Record:
    """One line as a record; `default` is its topic where neither `topic` nor the line says one.

    Raises SettingsError where nothing tells the topic, or `kcat -C -J` wrote no such line.
    """
    fields = _object(line)
    if fields is None or "topic" not in fields or not fields.keys() & {"payload", "payload_base64"}:
        return Record(topic or default or _required(path, None), line.strip(), timestamp=modified)
    try:
        value = _value(fields)
        pairs = fields.get("headers") or []
        headers = [
            (str(k), None if v is None else str(v).encode()) for k, v in zip(pairs[::2], pairs[1::2], strict=True)
        ]
        at = int(fields["ts"]) * 1000 if isinstance(fields.get("ts"), int) else modified
    except (TypeError, ValueError, binascii.Error) as error:
        raise SettingsError(f"{path}:{number}: not a line of `kcat -C -J`: {error}") from None
    key = fields.get("key")
    return Record(topic or str(fields["topic"]), value, None if key is None else str(key).encode(), headers, at)


def _value(fields: dict[str, Any]) -> bytes | None:
    if fields.get("payload_base64") is not None:
        return base64.b64decode(fields["payload_base64"], validate=True)
    payload = fields.get("payload")
    if payload is None or isinstance(payload, str):
        return None if payload is None else payload.encode()
    return msgspec.json.encode(payload)
