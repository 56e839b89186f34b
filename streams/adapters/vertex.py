"""Vertex AI's request-response log, as rows of BigQuery in JSON, and that of the legacy AI Platform.

Each element of `request_payload` and `response_payload` is an instance and its prediction. Endpoint and deployed
model are model and version unless the source says otherwise. `groundtruth` of the legacy log becomes a label.
"""

from typing import Any

import msgspec

from streams.adapters.contract import Adapter, Part, Record, json_of, refused
from streams.adapters.payloads import body_of, rows_of
from streams.adapters.times import moment
from streams.errors import Unadaptable

_EXPECTED = "a row of Vertex AI's request-response log"


class _Row(msgspec.Struct):
    endpoint: str = ""
    deployed_model_id: str | int = ""
    logging_time: str | int | float | None = None
    request_id: str | int | float | None = None
    request_payload: list[Any] | None = None
    response_payload: list[Any] | None = None
    model: str = ""  # legacy, from here on
    model_version: str = ""
    time: str | int | float | None = None
    raw_data: str | None = None
    raw_prediction: str | None = None
    groundtruth: str | None = None


def read(record: Record, _: Any = None) -> list[Part]:
    """One request with its response. Raises Unadaptable."""
    row: _Row = json_of(record.value, _EXPECTED, _Row)
    if row.logging_time is not None and row.endpoint and (row.request_payload or row.response_payload):
        return [_vertex(row)]
    if row.model and row.time is not None and row.raw_data is not None:
        return [_legacy(row)]
    raise refused("JSON without endpoint, logging_time and payloads", _EXPECTED)


def _vertex(row: _Row) -> Part:
    asked, answered = (_opened(payload) for payload in (row.request_payload, row.response_payload))
    envelope = {
        "endpoint": row.endpoint, "deployed_model_id": row.deployed_model_id, "request_id": _id(row.request_id),
    }  # fmt: skip
    return Part(
        side="both", id=_id(row.request_id), source=row.endpoint, time=moment(row.logging_time),
        model=row.endpoint.rsplit("/", 1)[-1], version=str(row.deployed_model_id),
        request=rows_of(asked, "request") if asked else None,
        response=rows_of(answered, "response") if answered else None,
        trees={"envelope": envelope, "request": asked, "response": answered},
    )  # fmt: skip


def _opened(payload: list[Any] | None) -> list[Any]:
    """Elements are JSON in text, or text that is no JSON."""
    found = []
    for one in payload or ():
        try:
            found.append(json_of(one, "a payload") if isinstance(one, str) else one)
        except Unadaptable:
            found.append(one)
    return found


def _legacy(row: _Row) -> Part:
    asked, request = body_of(row.raw_data, "request")
    answered, response = (None, None) if row.raw_prediction is None else body_of(row.raw_prediction, "response")
    truth = row.groundtruth
    return Part(
        side="both", time=moment(row.time), model=row.model, version=row.model_version, request=request,
        response=response, trees={"request": asked, "response": answered}, truth=[truth] if truth else None,
    )  # fmt: skip


def _id(found: str | float | None) -> str:
    """BigQuery's NUMERIC comes as text, or as a number."""
    return "" if found is None else str(int(found)) if isinstance(found, float) and found.is_integer() else str(found)


ADAPTER = Adapter("vertex", "Vertex AI request-response logs", read)
