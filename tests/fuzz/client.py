"""Targets of the client: whatever a server hands to the recorder, it raises nothing, and what it frames is read."""

from collections import UserDict
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

import numpy as np
from bestbefore_client import Recorder, Repeated, encode_frame
from bestbefore_client.columns import Strings

from streams.errors import Invalid
from streams.frames import decode_frame
from tests.fuzz.damage import ODD, of_bytes
from tests.fuzz.target import Target


class Rude:
    """An object whose every answer is an exception."""

    def __init__(self, error: type[Exception]) -> None:
        self._error = error

    def __str__(self) -> str:
        raise self._error("no text")

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        raise self._error("no text")

    def __len__(self) -> int:
        raise self._error("no length")

    def __iter__(self) -> Any:
        raise self._error("no members")

    def __getattr__(self, name: str) -> Any:
        raise self._error(name)

    def __eq__(self, other: object) -> bool:
        raise self._error("not comparable")

    def __hash__(self) -> int:
        raise self._error("no hash")


_RUDE: tuple[Callable[[Random], Any], ...] = (
    lambda _: Rude(ValueError),
    lambda _: Rude(RuntimeError),
    lambda _: Rude(RecursionError),
    lambda _: object(),
    lambda _: print,
    lambda r: np.array(r.choice(ODD[:30]), dtype=object),
    lambda _: np.array([[1, 2], [3, 4]]),
    lambda _: np.float32("nan"),
    lambda _: np.datetime64("now"),
    lambda _: np.ma.masked_array([1, 2], [True, False]),
    lambda _: (i for i in range(3)),
    lambda _: UserDict(a=1),
    lambda _: {1: 2},
    lambda _: {"a": [1]},
    lambda _: b"bytes",
    lambda _: memoryview(b"abcd")[::2],
    lambda _: np.zeros((0, 3)),
    lambda _: np.zeros(5)[::-2],
    lambda _: np.str_("text"),
    lambda _: {b"x"},
    lambda _: 10**400,
    lambda _: "\ud800",
    lambda _: 1j,
    lambda _: np.zeros(3, [("a", "i4")]),
    lambda _: {"a": float("inf")},
)
_SOUND: dict[str, Any] = {
    "time_us": 5,
    "features": {"age": 41.0, "country": "DE", "none": None},
    "scores": {"0": 0.1, "7": 0.9},
    "label": "7",
    "value": 0.5,
    "latency_ms": 3.2,
    "status": 200,
    "segment": {"site": "A"},
    "abstained": False,
    "input": np.zeros((1, 2, 2), np.float32),
    "embedding": [0.1, 0.2],
    "batch_size": 8,
    "version": "2",
    "sampling": 0.5,
    "flags": {"a": "b"},
    "cost": 1.0,
    "served": "live",
}
_MANY: dict[str, Any] = {
    "times_us": [1, 2, 3],
    "features": {"age": [1.0, None, 2.0], "c": ["a", "b", None]},
    "scores": np.full((3, 2), 0.5),
    "label": ["a", "b", "c"],
    "value": [1.0, 2.0, 3.0],
    "latency_ms": np.ones(3),
    "status": [200, 500, 200],
    "segment": {"site": "A"},
    "abstained": [True, False, True],
    "inputs": np.zeros((3, 2)),
    "embedding": np.ones((3, 2)),
    "version": "2",
    "sampling": 0.5,
    "flags": "x",
    "batch_size": 8,
}
_COLUMNS: dict[str, Any] = {
    "id": ["a", "b", "c"],
    "time": np.arange(3),
    "model": Repeated("m"),
    "version": Repeated("1"),
    "features.age": [1.0, None, 2.0],
    "features.c": ["a", "b", None],
    "scores": np.full((3, 2), 0.5),
    "label": ["a", "b", None],
    "status": [200, 500, 200],
    "segment.site": Repeated("A"),
    "abstained": [True, False, True],
    "embedding": np.ones((3, 2)),
    "sampling": np.full(3, 0.5),
    "flags": ['{"a": 1}', None, None],
    "value": [1.0, 2.0, 3.0],
    "digest": Strings.of(["x", "y", "z"]),
}
_LABEL: dict[str, Any] = {
    "time_us": 5,
    "label": "7",
    "value": 0.5,
    "correct": True,
    "source": "proxy:a",
    "propensity": 0.5,
    "loss": 0.1,
    "tags": ["a"],
}


def recorder(content: bytes) -> None:
    """Calls with arguments of any kind, drawn from these bytes. Nothing listens at the address: all of it waits."""
    random = Random(content)
    classes = random.choice((None, ["0", "7"]))
    made = Recorder("127.0.0.1:1", model="m", version="1", input_rate=1.0, frame_seconds=1e6, classes=classes)
    calls = ((made.record, "r-1", _SOUND), (made.record_many, ["a", "b", "c"], _MANY), (made.label, "r-1", _LABEL))
    try:
        for _ in range(random.randint(1, 4)):
            call, name, sound = random.choice(calls)
            assert call(_either(name, random, 0.9), **_arguments(sound, random)) is None
        assert all(count > 0 for count in made.dropped.values())
        assert made.last_error is None or isinstance(made.last_error, str)
    finally:
        made.close(0.0)


def encoded(content: bytes) -> None:
    """Columns of any kind as a frame: one that a worker reads, be it with an objection to what it says."""
    random = Random(content)
    columns = {name: _either(column, random, 0.9) for name, column in _COLUMNS.items() if random.random() < 0.9}
    classes = _either(["0", "7"], random, 0.8) if random.random() < 0.5 else None
    try:
        value = encode_frame(columns, classes=classes)
    except Exception:  # noqa: BLE001 -- objects of a server may raise anything; whoever calls takes it
        return
    # A worker is stricter about what a server says; only bytes that cannot be read must never come.
    with suppress(Invalid):
        decode_frame(value, 0)


def _arguments(sound: dict[str, Any], random: Random) -> dict[str, Any]:
    chosen = {name: value for name, value in sound.items() if random.random() < 0.6}
    return {name: _either(value, random, 0.75) for name, value in chosen.items()}


def _either(value: Any, random: Random, sound: float) -> Any:
    """The value, one like it with a part that is not, or anything else."""
    if random.random() < sound:
        return value
    strange = random.choice(_RUDE)(random) if random.random() < 0.6 else random.choice(ODD)
    if isinstance(value, dict) and random.random() < 0.6:
        return {**value, random.choice((*value, "x")): strange}
    if isinstance(value, list) and random.random() < 0.6:
        return [*value[:-1], strange]
    return strange


def seeds() -> list[bytes]:
    """Any bytes will do."""
    return [str(i).encode() for i in range(50)]


TARGETS = (
    Target("recorder", recorder, seeds, of_bytes, (), 100),
    Target("encode-frame", encoded, seeds, of_bytes, (), 300),
)
