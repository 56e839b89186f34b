"""JSON Schemas (2020-12) of what is on the topics, made from the records: types, bounds, texts beneath fields."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import Any

import msgspec

from streams.contract import OF_HEADERS, SCHEMAS
from streams.envelopes import schema_id

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]
# What a type cannot say: one of these must be there, and not null.
ONE_OF: dict[str, tuple[str, ...]] = {"LabelEvent": ("label", "value", "correct")}


@cache
def examples() -> dict[str, list[Any]]:
    """Examples of every published schema, by its name; those of headers are as the headers' texts."""
    found: dict[str, list[Any]] = msgspec.json.decode(files("streams").joinpath("examples.json").read_bytes())
    return found


def published() -> dict[str, Schema]:
    """Every schema by its name, each complete in itself."""
    return {name: _published(name, kind) for name, kind in SCHEMAS.items()}


def _published(name: str, kind: Any) -> Schema:
    (body,), parts = components([kind], "#/$defs/{name}")
    top = body.pop("$ref", None)
    if top is not None:  # the type itself stands at the top, not among the parts
        body = parts.pop(top.rpartition("/")[2])
    if name in OF_HEADERS:
        body = as_text(body)
    found = {"$schema": DIALECT, "$id": schema_id(name), **body}
    found |= {"examples": examples()[name]} if name in examples() else {}
    return {**found, "$defs": parts} if parts else found


def components(kinds: list[Any], template: str) -> tuple[list[Schema], dict[str, Schema]]:
    """The schemas of types, and of the types within them by name, with references as `template` says."""
    found, parts = msgspec.json.schema_components(kinds, ref_template=template)
    classes = {kind.__name__: kind for top in kinds for kind in _structs(msgspec.inspect.type_info(top), set())}
    for name, part in parts.items():
        _describe(part, classes[name])
    for top in found:
        top.pop("discriminator", None)  # a word of OpenAPI, which means something else elsewhere
    return list(found), dict(parts)


def _structs(kind: Any, seen: set[type]) -> Iterator[type]:
    """Every Struct within a type."""
    own = getattr(kind, "cls", None)
    if own is not None:
        if own in seen:
            return
        seen.add(own)
        yield own
    parts = [field.type for field in getattr(kind, "fields", ())]
    names = ("types", "type", "item_type", "key_type", "value_type", "item_types")
    for part in (getattr(kind, name, None) for name in names):
        parts += part if isinstance(part, tuple) else [part]
    for part in parts:
        if isinstance(part, msgspec.inspect.Type):
            yield from _structs(part, seen)


def _describe(schema: Schema, kind: type) -> None:
    """Add what is written beneath the fields of a Struct."""
    texts = texts_of(kind)
    schema["description"] = inspect.cleandoc(schema.get("description", ""))
    for name, sent in zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True):  # type: ignore[attr-defined]
        part = schema.get("properties", {}).get(sent)
        if part is None or name not in texts:
            continue
        if "$ref" in part:  # beside a reference older readers see nothing else
            part = {"allOf": [part]}
        schema["properties"][sent] = {**part, "description": texts[name]}
    if kind.__name__ in ONE_OF:
        given = ONE_OF[kind.__name__]
        schema["anyOf"] = [{"required": [n], "properties": {n: {"not": {"type": "null"}}}} for n in given]


@cache
def texts_of(kind: type) -> dict[str, str]:
    """The text beneath each field of a Struct, its bases' included."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not issubclass(base, msgspec.Struct) or base is msgspec.Struct:
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        found |= {
            field.target.id: " ".join(str(text.value.value).split())
            for field, text in pairwise(getattr(body, "body", ()))
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
            if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
        }
    return found


def as_text(schema: Schema) -> Schema:
    """The schema of headers, whose values are texts: what is no text is its JSON."""
    properties = {name: _text(part) for name, part in schema["properties"].items()}
    return {**schema, "properties": properties}


def _text(part: Schema) -> Schema:
    kinds = [one for one in part.get("anyOf", [part]) if one.get("type") != "null"]
    about = {"description": part["description"]} if "description" in part else {}
    if len(kinds) == 1 and kinds[0].get("type") == "string":
        return {**{k: v for k, v in kinds[0].items() if k != "default"}, **about}
    meant = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    meant = {k: v for k, v in meant.items() if k not in ("default", "description")}
    return {"type": "string", "contentMediaType": "application/json", "contentSchema": meant, **about}
