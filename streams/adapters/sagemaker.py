"""SageMaker's data capture: a JSON line for each request, with the bodies as CSV, JSON or base64.

Endpoint and variant stand in the path of the file only: let the shipper put them into the topic
(`sagemaker.{endpoint}`) or say `model: {fixed: …}`. The percentage of capture is not in the line: say `sampling:
{fixed: 0.2}`.
"""

import base64
import binascii
from typing import Any

import msgspec

from streams.adapters.contract import Adapter, Part, Record, Row, json_of
from streams.adapters.payloads import Half, body_of, csv_rows
from streams.adapters.times import moment
from streams.errors import Unadaptable

_EXPECTED = "a line of SageMaker's data capture"


class _Body(msgspec.Struct, rename="camel"):
    data: str
    encoding: str
    observed_content_type: str | None = None


class _Captured(msgspec.Struct, rename="camel"):
    endpoint_input: _Body | None = None
    endpoint_output: _Body | None = None


class _Metadata(msgspec.Struct, rename="camel"):
    event_id: str
    inference_time: str
    inference_id: str | None = None
    custom_attributes: Any = None


class _Line(msgspec.Struct, rename="camel"):
    capture_data: _Captured
    event_metadata: _Metadata


def read(record: Record, _: Any = None) -> list[Part]:
    """One request with what was captured of it. Raises Unadaptable."""
    line: _Line = json_of(record.value, _EXPECTED, _Line)
    captured, about = line.capture_data, line.event_metadata
    if captured.endpoint_input is None and captured.endpoint_output is None:
        raise Unadaptable("neither input nor output was captured")
    asked, request = _read(captured.endpoint_input, "request")
    answered, response = _read(captured.endpoint_output, "response")
    envelope = {
        "eventId": about.event_id, "inferenceId": about.inference_id, "customAttributes": about.custom_attributes,
    }  # fmt: skip
    return [
        Part(
            side="both", id=about.inference_id or about.event_id, time=moment(about.inference_time),
            request=request, response=response, trees={"envelope": envelope, "request": asked, "response": answered},
        )
    ]  # fmt: skip


def _read(body: _Body | None, side: Half) -> tuple[Any, list[Row] | None]:
    if body is None:
        return None, None
    data, encoding = body.data, body.encoding.upper()
    kind = (body.observed_content_type or "").lower()
    if encoding == "BASE64":
        try:
            data = base64.b64decode(data, validate=True).decode("utf-8")
        except (binascii.Error, ValueError):
            raise Unadaptable(f"the {side} is binary; CSV and JSON are read") from None
        encoding = "JSON" if "json" in kind else "CSV"
    if encoding == "JSON":
        return body_of(data, side)
    if encoding == "CSV":
        return None, csv_rows(data, side)
    raise Unadaptable(f"the {side} is in none of CSV, JSON and BASE64")


ADAPTER = Adapter("sagemaker", "SageMaker data capture", read)
