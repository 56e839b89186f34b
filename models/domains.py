"""Which values of a field are allowed: from the pipeline's item specification and the production schema."""

import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from models.descriptors.paths import Trees, items_at

_END = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?|[-+]?inf"
# `0..5`, `0 to 5`, `0–5`, `0;5`, each with a unit behind it where there is one.
_RANGE = re.compile(rf"\s*({_END})\s*(?:\.\.|to|–|;)\s*({_END})\s*([^\W\d_][^\s]*|[°%/]\S*)?\s*", re.IGNORECASE)
_LONGEST = 200  # characters of an expected value that are read; longer ones are prose
_INTEGER = {"integer", "int", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "long"}
_NUMBER = {"float", "double", "number", "numeric", "decimal", "real", "float16", "float32", "float64"}
_TEXT = {"string", "str", "text", "character", "category", "categorical"}


class Domain(msgspec.Struct, frozen=True):
    """Allowed values of one field: a range, a set, or lengths of a text. `paths` says where each bound stands."""

    kind: str = ""  # number, integer, text, other, or empty where nothing is said
    low: float | None = None
    high: float | None = None
    allowed: tuple[str, ...] = ()
    min_length: int | None = None
    max_length: int | None = None
    paths: tuple[str, ...] = ()
    unit: str = ""  # of the range, where it is written behind it


def kind_of_type(text: object) -> str:
    """`number`, `integer`, `text` or `other` for a type as people and TEC write it; empty for none.

    >>> kind_of_type("Float"), kind_of_type("INT64"), kind_of_type("Image")
    ('number', 'integer', 'other')
    """
    word = str(text or "").strip().casefold()
    if word in _INTEGER:
        return "integer"
    if word in _NUMBER:
        return "number"
    return "text" if word in _TEXT else ("other" if word else "")


def expected_values(text: object, kind: str = "") -> Domain:
    """A domain from prose such as `0..100`, `N,S,E,W` or `0,1`; an empty one where it is only prose.

    >>> expected_values("0..5").high, expected_values("N,S").allowed
    (5.0, ('N', 'S'))
    """
    if not isinstance(text, str) or not text.strip() or len(text) > _LONGEST:
        return Domain(kind)
    found = _RANGE.fullmatch(text)
    if found:
        try:
            low, high = (float(part) for part in found.groups()[:2])
        except ValueError:
            return Domain(kind)
        unit = found.group(3) or ""
        return Domain(kind, None if math.isinf(low) else low, None if math.isinf(high) else high, unit=unit)
    parts = [part.strip() for part in text.split(",")]
    # A sentence with commas is no set: members of one are short and without blanks.
    if len(parts) > 1 and all(parts) and all(" " not in part and len(part) <= 40 for part in parts):
        return Domain(kind, allowed=tuple(parts))
    return Domain(kind)


def domains(trees: Trees) -> dict[str, Domain]:
    """The domain of every field that the data pipeline takes or the production data has, by name."""
    found: dict[str, Domain] = {}
    for path, item in items_at(trees, "data_pipeline.input_spec"):
        found[str(item.get("item_name", ""))] = _specified(path, item)
    for path, item in items_at(trees, "production_data.schema"):
        name = str(item.get("field_name", ""))
        kind = kind_of_type(item.get("field_type"))
        found[name] = _tighter(found.get(name), expected_values(item.get("expected_values"), kind), path)
    found.pop("", None)
    return found


def domain_of(path: str, item: Mapping[str, Any]) -> Domain:
    """The domain of one item or field, from its `item_specification` and its `expected_values`."""
    kind = kind_of_type(item.get("item_type") or item.get("field_type"))
    specified = _specified(path, item) if item.get("item_specification") else None
    return _tighter(specified, expected_values(item.get("expected_values"), kind), path)


def _specified(path: str, item: Mapping[str, Any]) -> Domain:
    spec = item.get("item_specification")
    spec = spec if isinstance(spec, Mapping) else {}
    kind = kind_of_type(item.get("item_type"))
    numbers = kind in ("number", "integer")
    return Domain(
        kind=kind,
        low=_real(spec.get("min_value")) if numbers else None,
        high=_real(spec.get("max_value")) if numbers else None,
        min_length=_whole(spec.get("min_length")) if kind == "text" else None,
        max_length=_whole(spec.get("max_length")) if kind == "text" else None,
        paths=(f"{path}.item_specification",),
    )


def _tighter(known: Domain | None, other: Domain, path: str) -> Domain:
    """What both allow; where each says nothing the other counts."""
    where = f"{path}.expected_values"
    if known is None:
        return msgspec.structs.replace(other, paths=(where,))
    lows = [v for v in (known.low, other.low) if v is not None]
    highs = [v for v in (known.high, other.high) if v is not None]
    says = other.low is not None or other.high is not None or other.allowed
    return msgspec.structs.replace(
        known,
        kind=known.kind or other.kind,
        low=max(lows, default=None),
        high=min(highs, default=None),
        allowed=other.allowed,
        unit=known.unit or other.unit,
        paths=(*known.paths, where) if says else known.paths,
    )


def _real(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _whole(value: Any) -> int | None:
    number = _real(value)
    return None if number is None else int(number)
