"""Logs of OpenTelemetry over HTTP (OTLP 1.x), protobuf and JSON, as plain log records.

Source: opentelemetry-proto, logs/v1 and common/v1. Fields that are not named are skipped. In JSON 64-bit numbers are
text or numbers, ids are hexadecimal, bytes base64.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from streams.adapters.messages import messages, parsed
from streams.errors import Refusal, Unadaptable
from streams.records import UNREADABLE

PROTOBUF, JSON = "application/x-protobuf", "application/json"
MOST_LOGS, MOST_DEPTH = 10_000, 32
_KIND = "an ExportLogsServiceRequest of OTLP"
_TYPES = messages(
    "bestbefore.otlp",
    {
        "Export": "repeated ResourceLogs resource_logs = 1",
        "ResourceLogs": "Resource resource = 1; repeated ScopeLogs scope_logs = 2",
        "Resource": "repeated KeyValue attributes = 1",
        "ScopeLogs": "repeated LogRecord log_records = 2",
        "LogRecord": "fixed64 time_unix_nano = 1; AnyValue body = 5; repeated KeyValue attributes = 6; "
        "bytes trace_id = 9; bytes span_id = 10; fixed64 observed_time_unix_nano = 11; string event_name = 12",
        "KeyValue": "string key = 1; AnyValue value = 2",
        "AnyValue": "string string_value = 1; bool bool_value = 2; int64 int_value = 3; double double_value = 4; "
        "ArrayValue array_value = 5; KeyValueList kvlist_value = 6; bytes bytes_value = 7",
        "ArrayValue": "repeated AnyValue values = 1",
        "KeyValueList": "repeated KeyValue values = 1",
        "Answer": "Partial partial_success = 1",
        "Partial": "int64 rejected_log_records = 1; string error_message = 2",
    },
    presence=True,
)


class Log(NamedTuple):
    """One log record; times are in microseconds, ids in hexadecimal."""

    name: str
    time: int | None
    body: Any
    attributes: dict[str, Any]
    resource: dict[str, Any]
    trace: str
    span: str


def decode_logs(body: bytes, content_type: str) -> list[Log]:
    """The log records of a request. Raises Refusal (400, 413, 415)."""
    kind = content_type.lower().partition(";")[0].strip()
    if kind not in (PROTOBUF, JSON):
        raise Refusal(415, "media_type", f"logs in {kind[:80] or 'no content-type'} are not read; "
                                         f"OTLP over HTTP is {PROTOBUF} or {JSON}")  # fmt: skip
    try:
        found = _of_protobuf(body) if kind == PROTOBUF else _of_json(body)
        logs: list[Log] = []
        for one in found:
            if len(logs) >= MOST_LOGS:
                told = f"more than {MOST_LOGS} log records in one request; send smaller batches"
                raise Refusal(413, "too_many", told)
            logs.append(one)
    except (Unadaptable, *UNREADABLE) as error:
        raise Refusal(400, "unreadable", f"not {_KIND}: {str(error)[:300]}") from None
    return logs


def encode_answer(content_type: str, rejected: int, message: str) -> bytes:
    """The ExportLogsServiceResponse, in the form of the request; `message` alone is a warning."""
    if content_type.lower().startswith(JSON):
        said = {"partialSuccess": {"rejectedLogRecords": str(rejected), "errorMessage": message}}
        return msgspec.json.encode(said if message else {})
    answer = _TYPES["Answer"]()
    if message:
        answer.partial_success.rejected_log_records = rejected
        answer.partial_success.error_message = message
    return bytes(answer.SerializeToString())


# -- protobuf ------------------------------------------------------------------------------------------------


def _of_protobuf(body: bytes) -> Iterator[Log]:
    for group in parsed(_TYPES["Export"], body, _KIND).resource_logs:
        resource = _map(group.resource.attributes, 0)
        for scope in group.scope_logs:
            for log in scope.log_records:
                at = log.time_unix_nano or log.observed_time_unix_nano
                yield Log(
                    _utf8(log, "event_name"), at // 1000 if at else None, _value(log.body, 0),
                    _map(log.attributes, 0), resource, log.trace_id.hex(), log.span_id.hex(),
                )  # fmt: skip


def _map(pairs: Iterable[Any], depth: int) -> dict[str, Any]:
    return {_utf8(pair, "key"): _value(pair.value, depth) for pair in pairs}


def _value(any_value: Any, depth: int) -> Any:
    if depth > MOST_DEPTH:
        raise Unadaptable(f"a value is nested deeper than {MOST_DEPTH} levels")
    if any_value.HasField("string_value"):
        return _utf8(any_value, "string_value")
    for name in ("int_value", "double_value", "bool_value", "bytes_value"):
        if any_value.HasField(name):
            return getattr(any_value, name)
    if any_value.HasField("kvlist_value"):
        return _map(any_value.kvlist_value.values, depth + 1)
    if any_value.HasField("array_value"):
        return [_value(one, depth + 1) for one in any_value.array_value.values]
    return None


def _utf8(message: Any, name: str) -> str:
    try:
        return str(getattr(message, name))
    except UnicodeDecodeError:
        raise Unadaptable(f"`{name}` is no UTF-8") from None


# -- JSON ----------------------------------------------------------------------------------------------------


class _Json(msgspec.Struct, rename="camel"):
    """Base of the messages in JSON."""


class _Value(_Json):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: int | str | None = None
    double_value: float | str | None = None
    bytes_value: str | None = None
    array_value: "_Array | None" = None
    kvlist_value: "_Map | None" = None


class _Pair(_Json):
    key: str
    value: _Value | None = None


class _Array(_Json):
    values: list[_Value] = []


class _Map(_Json):
    values: list[_Pair] = []


class _Record(_Json):
    time_unix_nano: int | str = 0
    observed_time_unix_nano: int | str = 0
    body: _Value | None = None
    attributes: list[_Pair] = []
    trace_id: str = ""
    span_id: str = ""
    event_name: str = ""


class _Scope(_Json):
    log_records: list[_Record] = []


class _Resource(_Json):
    attributes: list[_Pair] = []


class _Group(_Json):
    resource: _Resource | None = None
    scope_logs: list[_Scope] = []


class _Export(_Json):
    resource_logs: list[_Group]


_export = msgspec.json.Decoder(_Export)


def _of_json(body: bytes) -> Iterator[Log]:
    for group in _export.decode(body).resource_logs:
        resource = _pairs(group.resource.attributes if group.resource else [], 0)
        for scope in group.scope_logs:
            for log in scope.log_records:
                at = _number(log.time_unix_nano, int) or _number(log.observed_time_unix_nano, int)
                yield Log(
                    log.event_name, at // 1000 if at else None, _plain(log.body, 0), _pairs(log.attributes, 0),
                    resource, log.trace_id, log.span_id,
                )  # fmt: skip


def _pairs(found: list[_Pair], depth: int) -> dict[str, Any]:
    return {pair.key: _plain(pair.value, depth) for pair in found}


def _plain(value: _Value | None, depth: int) -> Any:
    if depth > MOST_DEPTH:
        raise Unadaptable(f"a value is nested deeper than {MOST_DEPTH} levels")
    if value is None:
        return None
    if value.kvlist_value is not None:
        return _pairs(value.kvlist_value.values, depth + 1)
    if value.array_value is not None:
        return [_plain(one, depth + 1) for one in value.array_value.values]
    if value.int_value is not None:
        return _number(value.int_value, int)
    if value.double_value is not None:
        return _number(value.double_value, float)
    return next((one for one in (value.string_value, value.bool_value, value.bytes_value) if one is not None), None)


def _number(found: float | str, kind: type[int] | type[float]) -> Any:
    try:
        return kind(found)
    except (ValueError, OverflowError):
        raise Unadaptable(f"{str(found)[:40]!a} is no number") from None
