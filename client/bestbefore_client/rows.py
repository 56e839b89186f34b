"""One call of `record` becomes one row: checked, and copied from what the server may change afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from sys import getsizeof
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray

from bestbefore_client.arrays import as_array
from bestbefore_client.events import DEFAULTED, Shape
from bestbefore_client.frame import RESERVED

Scores = Union[Mapping[str, float], Sequence[float], "NDArray[Any]", Any]  # tensors of libraries that are not imported
Segment = tuple[tuple[str, ...], tuple[str, ...]]

MAX_ID = 200
MAX_SEGMENT_KEYS = 8

_MOST_KNOWN = 1000
_SLOT_BYTES = 9  # a place in a list that grows by an eighth
_TIME_BYTES = 32
_ID_BYTES = 49 + MAX_ID // 2  # text that is not ASCII takes more; few ids are that long
_NUMBER_BYTES = 24

_FIRST_US, _LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999

_PLAIN = frozenset((float, int, str, bool, type(None)))
_NUMBERS = frozenset((float, int))


class Rows:
    """Makes rows, and remembers shapes and segments, so that waiting rows share their names."""

    def __init__(self, classes: tuple[str, ...], segment: Mapping[str, Any] | None) -> None:
        """`classes` name scores given without names, `segment` holds for every row; raises as `checked_segment`."""
        self._classes = classes
        self.segment = checked_segment(segment)
        self._own: Segment = (tuple(self.segment), tuple(self.segment.values()))
        self._shapes: dict[Any, Shape] = {}
        self._segments: dict[Any, Segment] = {}
        # By the types of a row's values: where those are that may be long; measuring all of them costs ten times more.
        self._long: dict[Any, tuple[int, ...]] = {}

    def make(
        self,
        id: str,
        time_us: int,
        version: str,
        facts: tuple[Any, ...],
        features: Mapping[str, Any] | None,
        segment: Mapping[str, Any] | None,
        scores: Scores | None,
        embedding: Any,
        reserved: Mapping[str, str] | None,
    ) -> tuple[Shape, tuple[Any, ...], int]:
        """Give a row, its shape and the bytes it takes; `facts` are the values of `events.DEFAULTED`, in that order.

        Raises ValueError or TypeError when something is malformed.
        """
        names, plain = (tuple(features), (*facts, *features.values())) if features else ((), facts)
        types = tuple(map(type, plain))
        long = self._long.get(types)
        if long is None:
            plain, long = self._measured(plain)
        keys, places = self._own if segment is None else self._placed(segment)
        classes: Any = ()
        points: tuple[Any, ...] = ()
        k = 0
        if scores is not None:
            if type(scores) is dict and _NUMBERS.issuperset(map(type, scores.values())):
                classes, points, k = tuple(scores), tuple(scores.values()), len(scores)
            else:
                classes, points, k = self._scored(scores)
        if embedding is None and reserved is None:
            key: Any = (version, names, keys, classes, k)
            row = (id, time_us, *plain, *places, *points)
        else:
            vector, kept = () if embedding is None else (vector_of(embedding),), reserved or {}
            key = (version, names, keys, classes, k, len(vector[0]) if vector else 0, tuple(kept))
            row = (id, time_us, *plain, *places, *points, *vector, *kept.values())
        shape = self._shapes.get(key) or self._new(*key)
        if len(row) != shape.width:
            raise ValueError("its features changed while they were recorded; give each call a dictionary of its own")
        size = shape.base
        for at in long:
            size += getsizeof(plain[at])
        if shape.measured:
            size += sum(map(getsizeof, row[-shape.measured :]))
        return shape, row, size

    def placed(self, segment: Mapping[str, Any] | None) -> dict[str, str]:
        """Give the segment of a row: the recorder's own, and what the call says."""
        return self.segment if segment is None else dict(zip(*self._placed(segment)))

    def _measured(self, values: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[int, ...]]:
        """Give the values, reduced to plain ones, and the places of those that may be long; raises as `scalar`."""
        plain = tuple(map(scalar, values))
        types = tuple(map(type, plain))
        long = tuple(at for at, kind in enumerate(types) if kind is str or kind is int)
        _room(self._long)[types] = long
        return plain, long

    def _placed(self, segment: Mapping[str, Any]) -> Segment:
        items = tuple(segment.items())
        try:
            known = self._segments.get(items)
        except TypeError:  # a value that cannot be a key, whatever its text is
            items, known = (), None
        if known is None:
            whole = {**self.segment, **checked_segment(segment)}
            known = (tuple(whole), tuple(whole.values()))
            if items:
                _room(self._segments)[items] = known
        return known

    def _scored(self, scores: Scores) -> tuple[tuple[str, ...], tuple[Any, ...], int]:
        """Give class names, what goes into the row, and how many places that is; -k for k scores as one array."""
        if isinstance(scores, Mapping):
            points: tuple[Any, ...] = tuple(scores.values())
            if not _NUMBERS.issuperset(map(type, points)):
                points = tuple(map(float, points))
            return tuple(scores), points, len(points)
        array = vector_of(scores)
        names = self._classes or tuple(map(str, range(len(array))))
        if len(names) != len(array):
            raise ValueError(f"{len(array)} scores for {len(names)} classes")
        return names, (array,), -len(array)

    def _new(
        self, version: str, names: Any, keys: Any, classes: Any, k: int, d: int = 0, kept: tuple[str, ...] = ()
    ) -> Shape:
        arrays = int(k < 0) + int(d > 0)
        width = 2 + len(DEFAULTED) + len(names) + len(keys) + max(k, 0) + arrays + len(kept)
        # Texts of a segment are shared by all rows that have it.
        base = (_SLOT_BYTES + _NUMBER_BYTES) * width + _TIME_BYTES + _ID_BYTES
        shape = Shape(version, names, keys, tuple(map(str, classes)), k, d, kept, width, base, arrays + len(kept))
        key = (version, names, keys, classes, k, d, kept) if d or kept else (version, names, keys, classes, k)
        _room(self._shapes)[key] = shape
        return shape


def _room(known: dict[Any, Any]) -> dict[Any, Any]:
    """Forget everything when too much is known; what waits keeps its own."""
    if len(known) >= _MOST_KNOWN:
        known.clear()
    return known


def vector_in(shape: Shape, row: tuple[Any, ...]) -> NDArray[np.float32] | None:
    """Give the embedding of a row."""
    vector: NDArray[np.float32] | None = row[-1 - len(shape.reserved)] if shape.embedding else None
    return vector


def vector_of(values: Any) -> NDArray[np.float32]:
    """Copy numbers, once, into a flat array; raises TypeError or ValueError for what holds no numbers."""
    array, fresh = as_array(values)
    flat: NDArray[np.float32] = np.array(array, dtype=np.float32, copy=not fresh or None).reshape(-1)
    if not len(flat):
        raise ValueError("an array of scores or an embedding is empty; leave it out instead")
    return flat


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


def scalar(value: Any) -> Any:
    """Reduce a value to a Python number, text, bool or None; raises TypeError for anything else."""
    plain = value
    if isinstance(value, np.generic) or (getattr(value, "ndim", None) == 0 and hasattr(value, "item")):
        plain = value.item()
    if type(plain) in _PLAIN:
        return plain
    for kind in (bool, int, float, str):  # an enumeration's member, for instance: its plain value is kept
        if isinstance(plain, kind):
            return kind(plain)
    raise TypeError(f"a value is {type(value).__name__}; give a number, text, bool or None")


def as_text(value: Any) -> str:
    """Give a reserved field as text, objects as JSON; raises TypeError or ValueError when it cannot be JSON."""
    return value if isinstance(value, str) else json.dumps(value, allow_nan=False)


def checked_id(value: Any) -> str:
    """Give an id as text; raises ValueError when it is missing or longer than 200 characters."""
    text = value if type(value) is str else "" if value is None else str(value)
    if not 0 < len(text) <= MAX_ID:
        raise ValueError(f"an id must have 1 to {MAX_ID} characters, this one has {len(text)}")
    return text


def checked_time(time_us: Any) -> int:
    """Give a time as whole microseconds since the epoch; raises ValueError outside of the years 1 to 9999."""
    whole = int(time_us)
    if not _FIRST_US <= whole <= _LAST_US:
        raise ValueError("a time lies outside of the years 1 to 9999; give microseconds since 1970, UTC")
    return whole


def size_of(values: Iterable[Any]) -> int:
    """Estimate the bytes that some values take."""
    return sum(map(getsizeof, values))
