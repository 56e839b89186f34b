"""One call of `record` becomes one row: checked, and copied from what the server may change afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray

from bestbefore_client.events import DEFAULTS, Row, Shape
from bestbefore_client.frame import RESERVED

Scores = Union[Mapping[str, float], Sequence[float], "NDArray[Any]"]

MAX_ID = 200
MAX_SEGMENT_KEYS = 8

_MAX_SHAPES = 1000
_ROW_BYTES = 600  # what CPython takes for a row without its values, about

_PLAIN = frozenset((float, int, str, bool, type(None)))
_NONE: tuple[float, ...] = ()


class Shapes:
    """Remembers shapes, so that thousands of waiting rows share one instead of keeping their own names."""

    def __init__(self) -> None:
        self._known: dict[Shape, Shape] = {}

    def same(self, shape: Shape) -> Shape:
        """Give the shape first seen that equals this one."""
        if len(self._known) > _MAX_SHAPES:
            self._known = {}
        return self._known.setdefault(shape, shape)


def make_row(
    id: Any,
    *,
    version: str,
    time_us: int,
    features: Mapping[str, Any] | None,
    segment: Mapping[str, str],
    scores: Scores | None,
    classes: tuple[str, ...],
    embedding: Any,
    shapes: Shapes,
    extra: Mapping[str, Any],
) -> Row:
    """Make a row; raises ValueError or TypeError when something is malformed."""
    names, values = _features(features) if features else ((), ())
    classes, points = _scores(scores, classes)
    vector = _NONE if embedding is None else np.array(embedding, dtype=np.float32).reshape(-1)
    kept = {name: v for name, v in extra.items() if v is not None and v != DEFAULTS.get(name)}
    shape = Shape(version, names, tuple(segment), classes, len(vector))
    size = _ROW_BYTES + 40 * (len(values) + len(points)) + 4 * len(vector) + 40 * len(segment) + size_of(kept.values())
    size += sum(map(len, filter(_is_text, values)))
    return Row(
        shapes.same(shape), checked_id(id), int(time_us), values, tuple(segment.values()), points, vector, kept, size
    )


def checked_segment(segment: Mapping[str, Any] | None) -> dict[str, str]:
    """Give a segment as text to text, its keys sorted; raises ValueError for more than 8 keys."""
    if segment and len(segment) > MAX_SEGMENT_KEYS:
        raise ValueError(f"a segment has {len(segment)} keys, at most {MAX_SEGMENT_KEYS} are allowed")
    return {str(name): str(segment[name]) for name in sorted(segment)} if segment else {}


def checked_reserved(reserved: Mapping[str, Any]) -> dict[str, str]:
    """Give the reserved fields as text; raises TypeError for a name that is none of them."""
    unknown = [name for name in reserved if name not in RESERVED]
    if unknown:
        raise TypeError(
            f"unknown field {unknown[0]!r}; features go into `features`, reserved are {', '.join(RESERVED)}"
        )
    return {name: as_text(value) for name, value in reserved.items() if value is not None}


def _features(features: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    values = tuple(features.values())
    if not _PLAIN.issuperset(map(type, values)):
        values = tuple(map(scalar, values))
    return tuple(features), values


def _scores(scores: Scores | None, classes: tuple[str, ...]) -> tuple[tuple[str, ...], Any]:
    if scores is None:
        return (), _NONE
    if isinstance(scores, Mapping):
        return tuple(map(str, scores)), tuple(scores.values())
    points = np.array(scores, dtype=np.float32).reshape(-1)
    names = classes or tuple(map(str, range(len(points))))
    if len(names) != len(points):
        raise ValueError(f"{len(points)} scores for {len(names)} classes")
    return names, points


def _is_text(value: Any) -> bool:
    return type(value) is str


def scalar(value: Any) -> Any:
    """Reduce a feature's value to a Python number, text, bool or None; raises TypeError for anything else."""
    plain = value.item() if isinstance(value, np.generic) else value
    if plain is None or isinstance(plain, (str, bool, int, float)):
        return plain
    raise TypeError(f"a feature is {type(value).__name__}; give a number, text, bool or None")


def as_text(value: Any) -> str:
    """Give a reserved field as text, objects as JSON; raises TypeError or ValueError when it cannot be JSON."""
    return value if isinstance(value, str) else json.dumps(value, allow_nan=False)


def checked_id(value: Any) -> str:
    """Give an id as text; raises ValueError when it is missing or longer than 200 characters."""
    text = "" if value is None else str(value)
    if not 0 < len(text) <= MAX_ID:
        raise ValueError(f"an id must have 1 to {MAX_ID} characters, this one has {len(text)}")
    return text


def size_of(values: Iterable[Any]) -> int:
    """Estimate the bytes that some values take."""
    return sum(len(v) + 50 if isinstance(v, str) else getattr(v, "nbytes", 32) for v in values)
