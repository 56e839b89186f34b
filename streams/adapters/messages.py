"""Protobuf messages from a few lines of their schema, without generated code.

Field numbers and types are all that the wire knows; fields that are not named are skipped, as protobuf does. A map is
on the wire a repeated message of `key` and `value`, and is written as that. Each schema has a pool of its own, so
none meets the generated one of another library.
"""

import re
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from streams.errors import Unadaptable

_SCALARS = {
    "double": 1, "float": 2, "int64": 3, "uint64": 4, "int32": 5, "fixed64": 6, "fixed32": 7, "bool": 8, "string": 9,
    "bytes": 12, "uint32": 13,
}  # fmt: skip
_MESSAGE, _OPTIONAL, _REPEATED = 11, 1, 3
_FIELD = re.compile(r"(repeated )?(\w+) (\w+) = (\d+)")


def messages(package: str, schema: dict[str, str], *, presence: bool = False) -> dict[str, Any]:
    """Classes of messages by name, from `repeated int64 shape = 3; Contents contents = 5` for each.

    `presence`: `HasField` tells a zero from what is not there, and text may be no UTF-8 (it is proto2 then).
    """
    syntax = "proto2" if presence else "proto3"
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax=syntax)
    for name, fields in schema.items():
        message = file.message_type.add(name=name)
        for repeated, kind, field, number in _FIELD.findall(fields):
            one = message.field.add(name=field, number=int(number), label=_REPEATED if repeated else _OPTIONAL)
            one.type = _SCALARS.get(kind, _MESSAGE)
            if kind not in _SCALARS:
                one.type_name = f".{package}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in schema}


def parsed(kind: Any, value: bytes, what: str) -> Any:
    """The bytes as a message. Raises Unadaptable."""
    found = kind()
    try:
        found.ParseFromString(value)
    except DecodeError as error:
        raise Unadaptable(f"not {what}: {error}") from None
    return found
