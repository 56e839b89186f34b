"""The frame format: many inference events in one Kafka record, as columns.

A frame is an Arrow IPC stream (https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format) with one record
batch. A column that is absent has its field's default in every row; readers skip columns that they do not know.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import nanoarrow as na
from nanoarrow.ipc import StreamWriter

from bestbefore_client.columns import (
    BOOL,
    FLOAT32,
    FLOAT64,
    INT32,
    STRING,
    TIME,
    VECTOR,
    Built,
    Column,
    Repeated,
    arrow_type,
    build,
)

CONTENT_TYPE = "application/vnd.apache.arrow.stream"

# Later work gives these their meaning; text, objects as JSON.
RESERVED = (
    "component",
    "system",
    "request",
    "served",
    "experiment",
    "flags",
    "upstream",
    "shadow",
    "decision",
    "exploration",
    "pipeline",
    "asof",
    "entity",
    "consent",
    "cost",
    "deployment",
    "traceparent",
    "tracestate",
)
REQUIRED = ("id", "time", "model", "version")
KINDS = {
    "id": STRING,
    "time": TIME,
    "model": STRING,
    "version": STRING,
    "scores": VECTOR,
    "label": STRING,
    "value": FLOAT64,
    "latency_ms": FLOAT32,
    "status": INT32,
    "abstained": BOOL,
    "sampling": FLOAT64,
    "embedding": VECTOR,
    "digest": STRING,
    **dict.fromkeys(RESERVED, STRING),
}


def encode_frame(columns: Mapping[str, Column], *, classes: Sequence[str] | None = None) -> bytes:
    """Encode n inference events as one frame.

    `columns` maps names to n values each: the names of `KINDS`, `features.<name>` (numbers, text or bool; None is null)
    and `segment.<name>` (text). `time` is int64 microseconds since the epoch, UTC; `scores` and `embedding` have shape
    (n, k). `classes` names the k scores, in order; by default they are called "0" to "k-1".
    Raises ValueError when a column is unknown, missing, or does not fit, TypeError for values of a wrong type.

    >>> frame = encode_frame({"id": ["r-1"], "time": [0], "model": Repeated("m"), "version": Repeated("1")})
    >>> na.ArrayStream.from_readable(frame).read_all().schema.n_fields
    4
    """
    return encoded(columns, classes, lambda: None)


def encoded(columns: Mapping[str, Column], classes: Sequence[str] | None, between: Callable[[], object]) -> bytes:
    """Encode as `encode_frame` does, calling `between` after each column, so that a thread can make way for others."""
    missing = [name for name in REQUIRED if name not in columns]
    if missing or isinstance(columns["id"], Repeated):
        raise ValueError(f"a frame needs the columns {', '.join(REQUIRED)} and one id per row; missing: {missing}")
    n = len(columns["id"])
    built = {}
    for name, column in columns.items():
        built[name] = _build(name, column, n)
        between()
    fields = tuple((name, b.kind, b.size) for name, b in built.items())
    schema = _schema(fields, _class_names(classes, built.get("scores")))
    children = [b.array for b in built.values()]
    batch = na.c_array_from_buffers(schema, n, [None], null_count=0, children=children, validation_level="none")
    between()
    out = io.BytesIO()
    StreamWriter.from_writable(out).serialize_stream(batch)
    return out.getvalue()


def _build(name: str, column: Column, n: int) -> Built:
    try:
        return build(column, _kind(name), n)
    except (ValueError, TypeError, OverflowError) as error:
        raise type(error)(*_explained(name, error)) from error


def _explained(name: str, error: Exception) -> tuple[Any, ...]:
    if isinstance(error, UnicodeEncodeError):
        return (error.encoding, error.object, error.start, error.end, f"in column {name!r}: {error.reason}")
    return (f"column {name!r}: {error}",)


def _kind(name: str) -> str | None:
    if name.startswith("features."):
        return None
    if name.startswith("segment."):
        return STRING
    if name in KINDS:
        return KINDS[name]
    raise ValueError("is not a field of an inference event; see bestbefore_client.frame.KINDS")


def _class_names(classes: Sequence[str] | None, scores: Built | None) -> str | None:
    if scores is None:
        return None
    names = [str(name) for name in (range(scores.size) if classes is None else classes)]
    if len(names) != scores.size:
        raise ValueError(f"{len(names)} class names for {scores.size} scores; name each score once")
    return json.dumps(names)


@lru_cache(maxsize=64)
def _schema(fields: tuple[tuple[str, str, int], ...], classes: str | None) -> Any:
    schema = na.c_schema(na.struct({name: arrow_type(kind, size) for name, kind, size in fields}))
    return schema if classes is None else schema.modify(metadata={"classes": classes})
