"""What a model answered, from one row of its response.

Without a word in sources.yaml: text or a boolean is a label, a list of numbers is scores, a number is a value, or a
label where there are scores as well. What could be two things is refused, and the message says what to write.
"""

import math
from typing import Any

import msgspec

from models.descriptors.paths import value_at
from streams.adapters.contract import Row
from streams.adapters.plan import OutputPlan
from streams.errors import Unadaptable
from streams.records import MAX_CLASSES, Output


def output_of(row: Row, plan: OutputPlan, where: str = "") -> Output | None:
    """The output of one row; None where it says nothing. Raises Unadaptable."""
    label, scores, value = _named(row, plan, where) if plan.said else _guessed(row, where)
    told = _scores(scores, plan.classes)
    said = _label(label, plan.classes)
    number = _value(value)
    if told is None and said is None and number is None:
        return None
    try:
        return msgspec.convert({"label": said, "scores": told, "value": number}, Output)
    except msgspec.ValidationError as error:
        raise Unadaptable(f"the answer is beyond its limits: {error}") from None


def _named(row: Row, plan: OutputPlan, where: str) -> tuple[Any, Any, Any]:
    found = tuple(value_at(row, path) if path else None for path in (plan.label, plan.scores, plan.value))
    if all(one is None for one in found):
        asked = ", ".join(path for path in (plan.label, plan.scores, plan.value) if path)
        raise Unadaptable(f"the answer has no {asked}, but {_columns(row)}; see `output:` in {where}")
    return found[0], found[1], found[2]


def _guessed(row: Row, where: str) -> tuple[Any, Any, Any]:
    columns = {name: _unboxed(one) for name, one in row.items() if one is not None}
    texts = [v for v in columns.values() if isinstance(v, str | bool)]
    vectors = [v for v in columns.values() if _is_vector(v)]
    numbers = [v for v in columns.values() if isinstance(v, int | float) and not isinstance(v, bool)]
    others = [v for v in columns.values() if isinstance(v, dict | list | bytes) and not _is_vector(v)]
    if max(len(texts), len(vectors), len(numbers)) > 1 or (texts and numbers) or (others and len(columns) > 1):
        raise Unadaptable(
            f"the answer has {_columns(row)}: say which is the label, the scores or the value with `output:` in {where}"
        )
    label = texts[0] if texts else numbers[0] if numbers and vectors else None
    return label, vectors[0] if vectors else None, numbers[0] if numbers and not vectors else None


def _unboxed(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 and not isinstance(value[0], list | dict) else value


def _is_vector(value: Any) -> bool:
    """Numbers by position, or by the names of classes."""
    numbers = value.values() if isinstance(value, dict) else value
    return isinstance(value, list | dict) and len(value) > 1 and all(type(one) in (int, float) for one in numbers)


def _columns(row: Row) -> str:
    return f"the columns {', '.join(sorted(map(str, row))[:8])}" if row else "no columns"


def _scores(found: Any, classes: tuple[str, ...]) -> dict[str, float] | None:
    if found is None:
        return None
    if isinstance(found, dict):
        pairs = list(found.items())
    elif isinstance(found, list):
        if classes and len(classes) != len(found):
            raise Unadaptable(f"{len(found)} scores, and `output.classes` names {len(classes)}")
        pairs = list(zip(classes or map(str, range(len(found))), found, strict=True))
    elif len(classes) == 2 and type(found) in (int, float) and 0 <= found <= 1:
        pairs = [(classes[0], 1.0 - found), (classes[1], found)]  # one probability, that of the second class
    else:
        raise Unadaptable(
            f"scores are a {type(found).__name__}; expected a list of numbers, or class: number; for the probability "
            "of one class out of two say `classes: [the other, that one]`"
        )
    if len(pairs) > MAX_CLASSES:
        raise Unadaptable(f"{len(pairs)} scores in one answer; at most {MAX_CLASSES} are read")
    return {str(name): _number(one, "score") for name, one in pairs}


def _label(found: Any, classes: tuple[str, ...]) -> str | None:
    found = _unboxed(found)
    if found is None:
        return None
    if not isinstance(found, str | int | float):
        raise Unadaptable(f"the label is a {type(found).__name__}; expected text or a number")
    text = label_text(found)
    by_position = classes and text not in classes and text.isascii() and text.isdigit() and len(text) < 7
    return classes[int(text)] if by_position and int(text) < len(classes) else text


def label_text(found: str | float) -> str:
    """A label as text: 7.0 is `7`, true is `true`. Raises Unadaptable for a number that is not finite."""
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, str):
        return found
    try:
        return str(int(found)) if isinstance(found, int) or found.is_integer() else repr(found)
    except ValueError:
        raise Unadaptable("a number of so many digits is no label") from None


def _value(found: Any) -> float | None:
    found = _unboxed(found)
    if found is None:
        return None
    number = _number(found, "value")
    return number if math.isfinite(number) else None


def _number(found: Any, what: str) -> float:
    if isinstance(found, int | float) and not isinstance(found, bool):
        try:
            return float(found)
        except OverflowError:
            pass
    known = "an integer beyond 1e308" if type(found) is int else f"a {type(found).__name__}"
    raise Unadaptable(f"the {what} is {known}; expected a number")
