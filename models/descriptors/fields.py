"""Whether the facts of a descriptor have the types they should have, and the descriptor as a typed object.

TEC's own attributes are read as tolerantly as its forms write them: empty text stands for nothing said, a number may
stand where text is expected. What stands under `bestbefore` is ours and has its exact type.
"""

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple

from msgspec import inspect

from models.descriptors.own import Own
from models.descriptors.paths import join
from models.descriptors.types import TYPES, Typed
from models.units import duration_us

_SECOND_US = 1_000_000
_LARGEST = 10**18  # below 2**63, so that it fits every store


class Finding(NamedTuple):
    """A fact of the wrong type, or (`note`) one that was read but is worth a look."""

    path: str
    message: str
    note: bool = False


@cache
def _info(kind: str) -> inspect.Type:
    return inspect.type_info(TYPES[kind])


def findings(kind: str, tree: Mapping[str, Any]) -> Iterator[Finding]:
    """Everything about the types in a 1.2 tree, in the order of the attributes. Unknown keys are no finding.

    >>> [f.message for f in findings("trained_model", {"bestbefore": {"minimum_n": "few"}})]
    ["expected a whole number, found 'few'"]
    """
    return _findings(kind, _info(kind), tree, strict=False)


def typed(kind: str, tree: Mapping[str, Any]) -> Typed:
    """The tree as the type of its kind; what is absent, empty or unknown is None. For trees without findings."""
    built: Typed = _typed(_info(kind), tree, strict=False)
    return built


def instant_us(text: object) -> int:
    """Microseconds since 1970 of an RFC 3339 time or a date; without a zone it is UTC. Raises ValueError.

    >>> instant_us("1970-01-02")
    86400000000
    """
    try:
        found = datetime.fromisoformat(text if isinstance(text, str) else "")
        zoned = found if found.tzinfo else found.replace(tzinfo=UTC)
        return round((zoned - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * _SECOND_US)
    except (ValueError, OverflowError):
        raise ValueError(f"{repr(text)[:100]} is not a time; write 2026-11-20 or 2026-11-20T10:00:00Z") from None


def _findings(path: str, info: Any, value: Any, *, strict: bool) -> Iterator[Finding]:
    if value is None or (value == "" and not strict):
        return
    inner, hints = _bare(info)
    if isinstance(inner, inspect.UnionType):
        inner, hints = _chosen(inner, value, strict=strict)
    if isinstance(inner, inspect.StructType):
        yield from _of_object(path, inner, value, strict=strict)
    elif isinstance(inner, inspect.DictType):
        if not isinstance(value, Mapping):
            yield _expected(path, "keys and values", value)
            return
        for key, one in value.items():
            yield from _findings(join(path, str(key)), inner.value_type, one, strict=strict)
    elif isinstance(inner, inspect.ListType):
        yield from _of_list(path, inner, value, strict=strict)
    else:
        yield from _of_leaf(path, inner, hints, value, strict=strict)


def _bare(info: Any) -> tuple[Any, Mapping[str, Any]]:
    """The type without `| None`, and what its annotation says beside the type (title, examples)."""
    hints: Mapping[str, Any] = {}
    while True:
        if isinstance(info, inspect.Metadata):
            hints = info.extra_json_schema or {}
            info = info.type
        elif isinstance(info, inspect.UnionType):
            rest = [one for one in info.types if not isinstance(one, inspect.NoneType)]
            if len(rest) > 1:
                return inspect.UnionType(tuple(rest)), hints
            info = rest[0]
        else:
            return info, hints


def _chosen(union: inspect.UnionType, value: Any, *, strict: bool) -> tuple[Any, Mapping[str, Any]]:
    """The alternative that fits, else the one of the same shape, else the first."""
    options = [_bare(one) for one in union.types]
    for option, hints in options:
        if not any(not f.note for f in _findings("", option, value, strict=strict)):
            return option, hints
    shape = (inspect.StructType, inspect.DictType) if isinstance(value, Mapping) else inspect.ListType
    return next((one for one in options if isinstance(one[0], shape)), options[0])


def _of_object(path: str, info: inspect.StructType, value: Any, *, strict: bool) -> Iterator[Finding]:
    if not isinstance(value, Mapping):
        yield _expected(path, "keys and values", value)
        return
    strict = strict or issubclass(info.cls, Own)
    for field in info.fields:
        yield from _findings(join(path, field.name), field.type, value.get(field.name), strict=strict)


def _of_list(path: str, info: inspect.ListType, value: Any, *, strict: bool) -> Iterator[Finding]:
    if not isinstance(value, list):
        yield _expected(path, "a list", value)
        return
    if (info.min_length and len(value) < info.min_length) or (info.max_length and len(value) > info.max_length):
        yield Finding(path, f"expected {info.min_length} values, found {len(value)}")
    for i, one in enumerate(value):
        yield from _findings(f"{path}[{i}]", info.item_type, one, strict=strict)


def _of_leaf(path: str, info: Any, hints: Mapping[str, Any], value: Any, *, strict: bool) -> Iterator[Finding]:
    if isinstance(info, inspect.StrType):
        yield from _of_text(path, hints, value, strict=strict)
    elif isinstance(info, inspect.BoolType):
        if not isinstance(value, bool):
            yield _expected(path, "true or false", value)
    elif isinstance(info, inspect.IntType):
        if isinstance(value, bool) or not isinstance(value, int):
            yield _expected(path, "a whole number", value)
        elif not -_LARGEST <= value <= _LARGEST:
            yield Finding(path, "is too large; write a whole number of at most 18 digits")
        else:
            yield from _of_number(path, info, value)
    elif isinstance(info, inspect.FloatType):
        if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
            yield _expected(path, "a number", value)
        else:
            yield from _of_number(path, info, value)


def _of_text(path: str, hints: Mapping[str, Any], value: Any, *, strict: bool) -> Iterator[Finding]:
    if not isinstance(value, str):
        if strict or isinstance(value, list | Mapping):
            reader = _TEXTS.get(str(hints.get("title")))
            message = _refusal(reader, value) if reader and not isinstance(value, list | Mapping) else ""
            yield Finding(path, message) if message else _expected(path, "text", value)
        elif isinstance(value, float):
            yield Finding(path, f"is the number {value}; put it in quotes, or 1.10 becomes 1.1", note=True)
        return
    known = hints.get("examples")
    if known and value not in known:
        yield Finding(path, f"{value[:80]!r} is not one of {', '.join(known)}; it is kept as written", note=True)
    reader = _TEXTS.get(str(hints.get("title")))
    message = _refusal(reader, value) if reader else ""
    if message:
        yield Finding(path, message)


_TEXTS: dict[str, Any] = {"duration": duration_us, "instant": instant_us}


def _refusal(reader: Any, value: object) -> str:
    try:
        reader(value)
    except (ValueError, TypeError) as error:
        return str(error)
    return ""


def _of_number(path: str, info: Any, value: float) -> Iterator[Finding]:
    for bound, holds, words in (
        (info.ge, info.ge is None or value >= info.ge, "at least"),
        (info.gt, info.gt is None or value > info.gt, "more than"),
        (info.le, info.le is None or value <= info.le, "at most"),
    ):
        if not holds:
            yield Finding(path, f"must be {words} {bound}, is {value}")


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def _expected(path: str, what: str, value: Any) -> Finding:
    plain = isinstance(value, list | Mapping)
    found = type(value).__name__ if plain or what in ("keys and values", "a list") else repr(value)[:80]
    return Finding(path, f"expected {what}, found {' '.join(found.split())}")


def _typed(info: Any, value: Any, *, strict: bool) -> Any:
    if value is None or (value == "" and not strict):
        return None
    inner, _ = _bare(info)
    if isinstance(inner, inspect.UnionType):
        inner, _ = _chosen(inner, value, strict=strict)
    if isinstance(inner, inspect.StructType):
        strict = strict or issubclass(inner.cls, Own)
        return inner.cls(**{f.name: _typed(f.type, value.get(f.name), strict=strict) for f in inner.fields})
    if isinstance(inner, inspect.DictType):
        return {key: _typed(inner.value_type, one, strict=strict) for key, one in value.items()}
    if isinstance(inner, inspect.ListType):
        return [_typed(inner.item_type, one, strict=strict) for one in value]
    return str(value) if isinstance(inner, inspect.StrType) else value
