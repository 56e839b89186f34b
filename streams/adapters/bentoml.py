"""BentoML's monitor: one JSON line for each `log` of a monitored service, and a schema that tells what the columns are.

The schema stands in a file of its own (`schema:` in sources.yaml, the file `schema.*.log` that BentoML writes) or,
from the OpenTelemetry exporter, in `bento_meta` of each line. Times have no zone; they are read as UTC, so let
servers run in UTC. Lines that one request logs in a batch share their `request_id`.

Tried with BentoML 1.4.40: file lines have the time as text and a schema with a list of columns, OTLP records have a
number and columns by name; outside of a served Bento the name is empty and the version `not available`.
"""

from typing import Any

import msgspec

from streams.adapters.contract import Adapter, Part, Record, Row, json_of, refused
from streams.adapters.times import moment
from streams.errors import SettingsError, Unadaptable
from streams.records import UNREADABLE

_EXPECTED = "a line of BentoML's monitor"
_OWN = ("timestamp", "request_id", "trace_id", "bento_meta")


class _Column(msgspec.Struct):
    name: str
    role: str
    type: str = ""


class _MetaData(msgspec.Struct):
    bento_name: str | None = None
    bento_version: str | None = None


class Schema(msgspec.Struct):
    """What BentoML writes once for each worker."""

    columns: list[_Column]
    meta_data: _MetaData = msgspec.field(default_factory=_MetaData)


class _BentoMeta(msgspec.Struct):
    schema: dict[str, _Column] | list[_Column]
    bento_name: str | None = None
    bento_version: str | None = None


def load(content: bytes) -> Schema:
    """The newest schema of a schema file. Raises SettingsError."""
    lines = content.strip().splitlines()
    try:
        return msgspec.json.decode(lines[-1] if lines else b"", type=Schema)
    except UNREADABLE as error:
        raise SettingsError(f"the file is no schema of BentoML's monitor (meta_data, columns): {error}") from None


def read(record: Record, schema: Schema | None) -> list[Part]:
    """One inference. Raises Unadaptable."""
    line: Row = json_of(record.value, _EXPECTED, dict[str, Any])
    if any(name not in line for name in ("timestamp", "request_id", "trace_id")):
        raise refused("JSON without timestamp, request_id and trace_id", _EXPECTED)
    known = _of_line(line) or schema
    if known is None:
        raise Unadaptable(
            "nothing tells which columns are features and predictions: name the schema file with `schema:`"
        )
    columns = {role: _columns(line, known, role) for role in ("feature", "prediction", "target")}
    if not columns["feature"] and not columns["prediction"]:
        raise Unadaptable("the line has none of the columns of its schema; is it of another monitor?")
    target = next(iter(columns["target"].values()), None)
    name = line["request_id"]
    return [
        Part(
            side="both", id=str(name) if name not in (None, "", "None", 0) else "",
            time=moment(line["timestamp"], naive=True),
            model=known.meta_data.bento_name or "", version=_version(known.meta_data.bento_version),
            request=[columns["feature"]] if columns["feature"] else None,
            response=[columns["prediction"]] if columns["prediction"] else None,
            trees={"envelope": line}, truth=[target] if target is not None else None,
        )
    ]  # fmt: skip


def _of_line(line: Row) -> Schema | None:
    if "bento_meta" not in line:
        return None
    try:
        meta = msgspec.convert(line["bento_meta"], _BentoMeta)
    except msgspec.ValidationError as error:
        raise Unadaptable(f"bento_meta: {error}") from None
    columns = list(meta.schema.values()) if isinstance(meta.schema, dict) else meta.schema
    return Schema(columns, _MetaData(meta.bento_name, meta.bento_version))


def _version(found: str | None) -> str:
    return "" if found is None or found == "not available" else found


def _columns(line: Row, schema: Schema, role: str) -> Row:
    return {c.name: line[c.name] for c in schema.columns if c.role == role and c.name in line and c.name not in _OWN}


ADAPTER = Adapter("bentoml", "BentoML monitor lines", read, option="schema", load=load)
