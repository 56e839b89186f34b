"""Avro as Confluent's serialisers frame it: a zero byte, the id of the schema in four, the record.

Schemas come from a file (`registry:` in sources.yaml), so no registry is asked: `{"42": {schema}, …}`, or the list of
`{"id", "schema"}` that a registry's `GET /schemas` gives. Needs the extra `avro`.
"""

import io
import struct
from typing import Any

import msgspec

from streams.adapters.contract import Adapter, Part, Record, refused
from streams.errors import SettingsError, Unadaptable
from streams.records import UNREADABLE

_EXPECTED = "Avro in Confluent's framing"
# What fastavro raises for bytes that are not of the schema.
_UNREADABLE = (EOFError, IndexError, KeyError, OverflowError, TypeError, ValueError, struct.error, RecursionError)
Schemas = dict[int, Any]


def load(content: bytes) -> Schemas:
    """The schemas of a registry file by id. Raises SettingsError."""
    try:
        from fastavro import parse_schema  # noqa: PLC0415 -- the extra `avro` may not be installed
        from fastavro.schema import SchemaParseException, UnknownType  # noqa: PLC0415 -- as above
    except ImportError:
        raise SettingsError("Avro needs an extra package: pip install 'bestbefore[avro]'") from None
    try:
        tree = msgspec.json.decode(content)
        if isinstance(tree, list):
            tree = {str(one["id"]): one["schema"] for one in tree}
        return {int(name): parse_schema(_opened(schema)) for name, schema in tree.items()}
    except (*UNREADABLE, AttributeError, KeyError, TypeError, ValueError, SchemaParseException, UnknownType) as error:
        raise SettingsError(
            f'the file is no registry of Avro schemas, {{"42": {{schema}}, …}}: {type(error).__name__} {error}'
        ) from None


def _opened(schema: Any) -> Any:
    return msgspec.json.decode(schema) if isinstance(schema, str) and schema.lstrip()[:1] in ("{", "[", '"') else schema


def read(record: Record, schemas: Schemas | None) -> list[Part]:
    """One record, whose fields are both question and answer. Raises Unadaptable."""
    from fastavro import schemaless_reader  # noqa: PLC0415 -- as above

    value = record.value or b""
    if len(value) < 5 or value[0] != 0:
        raise refused("a record that does not begin with a zero byte and the id of a schema", _EXPECTED)
    (number,) = struct.unpack_from(">I", value, 1)
    schema = (schemas or {}).get(number)
    if schema is None:
        known = ", ".join(map(str, sorted(schemas or {})[:8]))
        raise Unadaptable(f"schema {number} is not in the registry file, which has {known}; add it there")
    stream = io.BytesIO(value[5:])
    try:
        row = schemaless_reader(stream, schema, None)
    except _UNREADABLE as error:
        raise Unadaptable(f"not of schema {number}: {type(error).__name__}") from None
    if stream.read(1):
        raise Unadaptable(f"not of schema {number}: bytes are left after the record")
    if not isinstance(row, dict):
        raise Unadaptable(f"schema {number} is of no record with fields, but of {type(row).__name__}")
    return [Part(side="both", request=[row], response=[row], trees={"request": row, "response": row})]


ADAPTER = Adapter(
    "confluent-avro", "Avro in Confluent's framing, with a registry file", read, option="registry", load=load,
    needs_option=True, whole=True,
)  # fmt: skip
