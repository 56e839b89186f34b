"""Databricks inference tables, as rows in JSON: those of AI Gateway and the legacy ones before.

The legacy table names the model; that of AI Gateway has `served_entity_id` only: say `model:` and `version:`, or use
`envelope.served_entity_id`. Rows are delivered at least once; the client's request id, or else Databricks' own, is
the id.
"""

from typing import Any

import msgspec

from streams.adapters.contract import Adapter, Part, Record, Row, json_of, refused
from streams.adapters.payloads import Half, body_of
from streams.adapters.times import moment

_EXPECTED = "a row of a Databricks inference table"
_FAILED = 400


class _Row(msgspec.Struct):
    databricks_request_id: str
    status_code: int
    request: str | None = None
    response: str | None = None
    client_request_id: str | None = None
    sampling_fraction: float | None = None
    request_time: str | int | float | None = None  # AI Gateway
    execution_duration_ms: float | None = None
    served_entity_id: str | None = None
    requester: str | None = None
    timestamp_ms: int | None = None  # legacy
    execution_time_ms: float | None = None
    request_metadata: dict[str, str | None] | None = None


def read(record: Record, _: Any = None) -> list[Part]:
    """One request with its response. Raises Unadaptable."""
    row: _Row = json_of(record.value, _EXPECTED, _Row)
    at = row.request_time if row.request_time is not None else row.timestamp_ms
    if at is None:
        raise refused("a row without request_time and timestamp_ms", _EXPECTED)
    about = row.request_metadata or {}
    asked, request = _body(row.request, "request", row.status_code)
    answered, response = _body(row.response, "response", row.status_code)
    took = row.execution_duration_ms if row.execution_duration_ms is not None else row.execution_time_ms
    envelope = {
        **about, "served_entity_id": row.served_entity_id, "requester": row.requester,
        "databricks_request_id": row.databricks_request_id, "client_request_id": row.client_request_id,
    }  # fmt: skip
    return [
        Part(
            side="both", id=row.client_request_id or row.databricks_request_id, time=moment(at),
            model=about.get("model_name") or "", version=about.get("model_version") or "",
            request=request, response=response, trees={"envelope": envelope, "request": asked, "response": answered},
            status=row.status_code, latency_ms=took,
            sampling=1.0 if row.sampling_fraction is None else row.sampling_fraction,
        )
    ]  # fmt: skip


def _body(text: str | None, side: Half, status: int) -> tuple[Any, list[Row] | None]:
    """A request that failed may be anything, and has no answer but an error."""
    if text is None or status >= _FAILED:
        return None, None
    return body_of(text, side)


ADAPTER = Adapter("databricks", "Databricks inference tables, both generations", read)
