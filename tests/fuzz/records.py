"""Kafka records as bytes (headers like those of a mail, an empty line, the value), and their damage."""

from random import Random
from typing import NamedTuple

from tests.fuzz.damage import MOST_BYTES, Damage, odd, of_bytes

Headers = list[tuple[str, bytes | None]]
_STRUCTURED = (b"content-type", b"application/cloudevents+json; charset=utf-8")
_NAMES = (
    b"content-type",
    b"ce_specversion",
    b"ce_id",
    b"ce_time",
    b"ce_type",
    b"ce_source",
    b"Content-Type",
    b"CE_ID",
    b"",
    b"inference_id",
    b"shape",
    b"dtype",
    b"segment",
    b"embedding",
    b"propensity",
    b"size",
    b"batch_size",
    b"dataref",
)
_VALUES = (
    b"",
    b"application/cloudevents+json",
    b"application/json",
    b"application/vnd.apache.arrow.stream",
    b"1.0",
    b"\xff\xfe",
    b"io.bestbefore.status.v1",
    b"2026-11-20T10:00:00Z",
    b"r-1",
    b"0",
    b"-1",
    b"1e999",
    b"NaN",
    b"[1, 16, 16]",
    b"[-1]",
    b"[9223372036854775807, 2]",
    b'{"site": "A"}',
    b'{"\\ud800": "\\u0000"}',
    b"[" * 500,
    b"AAAA",
    b"x" * 300,
    b"9" * 5000,
)


class Record(NamedTuple):
    """Value and headers of a record, as the consumer gives them."""

    value: bytes | None
    headers: Headers


def written(value: bytes, *headers: tuple[str, str]) -> bytes:
    """A record as bytes."""
    return b"".join(f"{name}: {text}\n".encode() for name, text in headers) + b"\n" + value


def record(content: bytes) -> Record:
    """The record in these bytes; whatever they are, it is one. No value and no header value are None."""
    head, _, value = content.partition(b"\n\n") if not content.startswith(b"\n") else (b"", b"", content[1:])
    headers: Headers = []
    for line in head.split(b"\n"):
        name, colon, text = line.partition(b": ")
        if name:
            headers.append((name.decode("utf-8", "replace"), text if colon else None))
    return Record(value or None, headers)


def of_record(of_value: Damage) -> Damage:
    """Mostly the value is damaged, as `of_value` does it; at times a header is, or one more comes."""

    def damaged(content: bytes, random: Random) -> bytes:
        head, _, value = content.partition(b"\n\n") if not content.startswith(b"\n") else (b"", b"\n", content[1:])
        kind = random.randrange(10)
        lines = [line for line in head.split(b"\n") if line]
        if kind < 2:
            lines.append(random.choice(_NAMES) + b": " + _header_value(random))
        elif kind == 2 and lines:
            at = random.randrange(len(lines))
            lines[at] = lines[at].partition(b": ")[0] + random.choice((b": " + _header_value(random), b""))
        elif kind == 3 and lines:
            lines.pop(random.randrange(len(lines)))
        elif kind == 4:
            lines = [b": ".join(_STRUCTURED)]
        elif kind == 5 and lines:
            at = random.randrange(len(lines))
            lines[at] = of_bytes(lines[at], random).replace(b"\n", b" ")
        if kind > 2 or random.random() < 0.3:
            value = of_value(value, random)
        return b"\n".join((*lines, b"", b""))[0 if lines else 1 :] + value[:MOST_BYTES]

    return damaged


def _header_value(random: Random) -> bytes:
    if random.random() < 0.6:
        return random.choice(_VALUES)
    return str(odd(random)).encode("utf-8", "surrogatepass").replace(b"\n", b" ")
