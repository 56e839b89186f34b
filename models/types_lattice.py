"""Which types hold every value of which other: numpy, ONNX and Open Inference Protocol names, and TEC's item types.

A conversion is allowed where no value is lost: an integer needs no more bits than a float's significand has. `Integer`
or `Float` without a width says only its family; whether it fits a type with a width is then a question of its range.
"""

import re
from typing import NamedTuple

from models.checks.predicate import Judgement

OK = Judgement("ok")
_SIGNIFICAND = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}
_WIDTH = {"float16": 16, "bfloat16": 16, "float32": 32, "float64": 64}
_NAMES = {
    **dict.fromkeys(("bool", "boolean"), "bool"),
    **dict.fromkeys(("integer", "int", "whole number"), "integer"),
    **dict.fromkeys(("float", "number", "numeric", "decimal", "real"), "float"),
    **dict.fromkeys(("string", "str", "text", "category", "categorical", "bytes", "object"), "text"),
    **dict.fromkeys(("character", "char"), "character"),
    "timestamp": "datetime",
    **dict.fromkeys(("double", "fp64"), "float64"),
    "fp32": "float32", "single": "float32", "fp16": "float16", "half": "float16", "bf16": "bfloat16",
    "long": "int64", "image": "image",
}  # fmt: skip
_INT = re.compile(r"(u?)int(8|16|32|64)")
_TENSOR = re.compile(r"(?:tensor|seq)\((.*)\)")


class Type(NamedTuple):
    """A family (bool, integer, float, text, character, time, image, other) and, where it has one, its width in bits."""

    family: str
    name: str
    bits: int = 0
    signed: bool = True


def type_of(text: object) -> Type | None:
    """The type that a name means, in any of the notations; None where nothing is said.

    ONNX writes 32 bits as `tensor(float)`, where TEC's `Float` has no width.

    >>> type_of("INT64"), type_of("tensor(float)").name, type_of("Float").bits
    (Type(family='integer', name='int64', bits=64, signed=True), 'float32', 0)
    """
    word = str(text or "").strip().casefold()
    if not word:
        return None
    tensor = _TENSOR.fullmatch(word)
    if tensor:
        word = "float32" if tensor.group(1) == "float" else tensor.group(1)
    name = _NAMES.get(word, word)
    whole = _INT.fullmatch(name)
    if whole:
        return Type("integer", name, int(whole.group(2)), not whole.group(1))
    if name in _WIDTH:
        return Type("float", name, _WIDTH[name])
    if name in ("date", "time", "datetime"):
        return Type("time", name)
    families = ("bool", "integer", "float", "text", "character", "image")
    return Type(name if name in families else "other", name)


def limits(kind: Type) -> tuple[float, float] | None:
    """The smallest and largest integer up to which all of them are exact; None for a type without a width.

    >>> limits(type_of("uint8")), limits(type_of("float16"))
    ((0.0, 255.0), (-2048.0, 2048.0))
    """
    if kind.family == "float" and kind.bits:
        return -(2.0 ** _SIGNIFICAND[kind.name]), 2.0 ** _SIGNIFICAND[kind.name]
    if kind.family == "integer" and kind.bits:
        half = 2.0 ** (kind.bits - 1)
        return (-half, half - 1) if kind.signed else (0.0, 2 * half - 1)
    return None


def type_fits(producer: Type, consumer: Type, low: float | None = None, high: float | None = None) -> Judgement:
    """Does `consumer` hold every value of `producer`? `low` and `high` bound those values where that is declared."""
    if producer.name == consumer.name and producer.family != "other":
        return OK
    pair = (producer.family, consumer.family)
    if "other" in pair:
        same = producer.name == consumer.name
        return OK if same else Judgement("unknown", f"{_said(producer)} beside {_said(consumer)}: no known types")
    if pair in (("integer", "integer"), ("integer", "float")):
        return _integer(producer, consumer, low, high)
    if pair == ("float", "float"):
        return _float(producer, consumer)
    if (producer.name, consumer.name) == ("date", "datetime"):
        return OK
    allowed = {("bool", "integer"), ("bool", "float"), ("text", "text"), ("character", "text")}
    return OK if pair in allowed else _lost(producer, consumer)


def _integer(producer: Type, consumer: Type, low: float | None, high: float | None) -> Judgement:
    room = limits(consumer)
    if room is None:
        return OK
    own = limits(producer)
    if own is not None:
        return OK if room[0] <= own[0] and own[1] <= room[1] else _lost(producer, consumer)
    if low is None or high is None:
        return Judgement("unknown", f"an {producer.name} without width or range may not fit {consumer.name}")
    return OK if room[0] <= low and high <= room[1] else _lost(producer, consumer)


def _float(producer: Type, consumer: Type) -> Judgement:
    if not consumer.bits or consumer.name == "float64":
        return OK
    if not producer.bits:
        return Judgement("unknown", f"a {producer.name} without width may not fit {consumer.name}")
    # float16 and bfloat16 hold each other's values in neither direction; float32 holds both.
    return OK if producer.bits < consumer.bits else _lost(producer, consumer)


def _said(kind: Type) -> str:
    return repr(kind.name)


def _lost(producer: Type, consumer: Type) -> Judgement:
    return Judgement("mismatch", f"{producer.name} does not fit {consumer.name}")
