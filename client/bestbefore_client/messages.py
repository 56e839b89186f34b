"""Labels and sampled inputs as Kafka records."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bestbefore_client.arrays import as_array
from bestbefore_client.events import OVERHEAD, Message

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def rfc3339(time_us: int) -> str:
    """Write microseconds since the epoch as RFC 3339, UTC, without rounding.

    Raises OverflowError outside of the years 1 to 9999.

    >>> rfc3339(1_795_168_800_123_000)
    '2026-11-20T10:00:00.123000Z'
    """
    return (_EPOCH + timedelta(microseconds=time_us)).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def label_message(body: Mapping[str, Any]) -> Message:
    """Write a label event as JSON, keyed by its inference; raises ValueError for NaN, TypeError for objects."""
    value = json.dumps(body, allow_nan=False, ensure_ascii=False).encode()
    return Message(
        "labels", body["inference_id"], value, [("content-type", b"application/json")], 1, len(value) + OVERHEAD
    )


def tensor_of(data: Any) -> tuple[bytes, str, list[int]]:
    """Copy an input: its bytes in C order, its dtype and its shape; raises TypeError for an array of Python objects."""
    if isinstance(data, (bytes, bytearray, memoryview)):
        raw = bytes(data)
        return raw, "uint8", [len(raw)]
    array, _ = as_array(data)
    if array.dtype.hasobject or array.dtype.kind not in "biufc":
        raise TypeError(f"an input has dtype {array.dtype}; give bytes or an array of numbers")
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return little.tobytes(), array.dtype.name, list(array.shape)


def input_message(
    id: str,
    data: Any,
    *,
    model: str,
    version: str,
    time_us: int,
    segment: Mapping[str, str],
    propensity: float,
    embedding: NDArray[np.float32] | None,
    origin: Mapping[str, Any] | None = None,
) -> Message:
    """Write a sampled input: the raw tensor, what it is in the headers; raises what `tensor_of` and `rfc3339` raise.

    `origin` tells what computed `embedding`: `provider`, `batch_size`, `digest`; what is None is left out.
    """
    value, dtype, shape = tensor_of(data)
    fields = {
        "inference_id": id,
        "model": model,
        "version": version,
        "time": rfc3339(time_us),
        "dtype": dtype,
        "shape": json.dumps(shape),
        "propensity": repr(propensity),
    }
    if segment:
        fields["segment"] = json.dumps(dict(segment))
    fields.update({name: str(fact) for name, fact in (origin or {}).items() if fact is not None})
    headers = [(name, text.encode()) for name, text in fields.items()]
    if embedding is not None:
        headers.append(("embedding", base64.b64encode(np.ascontiguousarray(embedding, dtype="<f4").tobytes())))
    size = len(value) + sum(len(v) for _, v in headers) + OVERHEAD
    return Message("inputs", id, value, headers, 1, size)
