"""The target of the client: whatever a server hands to the recorder, it raises nothing, and what it frames is read."""

from collections import UserDict
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
from bestbefore_client import Recorder
from bestbefore_client.events import Block, Message, Row, frames_of_block, frames_of_rows, rows_by_shape
from bestbefore_client.ledger import Ledger

from streams.errors import Invalid
from streams.frames import decode_frame
from streams.records import decode_input, decode_label
from tests.fuzz.damage import ODD, of_bytes
from tests.fuzz.target import Target


class Rude:
    """An object whose every answer is an exception."""

    def __init__(self, error: type[Exception]) -> None:
        self._error = error

    def __str__(self) -> str:
        raise self._error("no text")

    __repr__ = __format__ = __str__

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


class Kept:
    """In place of the pipeline: keeps what is offered."""

    def __init__(self) -> None:
        self.things: list[Any] = []

    def offer(self, thing: Any, items: int, size: int, share: float = 1.0) -> None:
        """Keep it."""
        assert items >= 1
        assert size >= 0
        assert 0 < share <= 1
        self.things.append(thing)


_RUDE: tuple[Callable[[Random], Any], ...] = (
    lambda _: Rude(ValueError), lambda _: Rude(RuntimeError), lambda _: Rude(RecursionError), lambda _: object(), lambda _: print,
    lambda r: np.array(r.choice(ODD[:30]), dtype=object), lambda _: np.array([[1, 2], [3, 4]]), lambda _: np.float32("nan"),
    lambda _: np.datetime64("now"), lambda _: np.ma.masked_array([1, 2], [True, False]), lambda _: (i for i in range(3)),
    lambda _: UserDict(a=1), lambda _: {1: 2}, lambda _: {"a": [1]}, lambda _: b"bytes", lambda _: memoryview(b"abcd")[::2],
    lambda _: np.zeros((0, 3)), lambda _: np.zeros(5)[::-2], lambda _: np.str_("text"), lambda _: {b"x"}, lambda _: 10**400,
    lambda _: "\ud800", lambda _: 1j, lambda _: np.zeros(3, [("a", "i4")]), lambda _: {"a": float("inf")},
)  # fmt: skip
_SOUND: dict[str, Any] = {
    "time_us": 5, "features": {"age": 41.0, "country": "DE", "none": None}, "scores": {"0": 0.1, "7": 0.9}, "label": "7", "value": 0.5,
    "latency_ms": 3.2, "status": 200, "segment": {"site": "A"}, "abstained": False, "input": np.zeros((1, 2, 2), np.float32),
    "embedding": [0.1, 0.2], "batch_size": 8, "version": "2", "sampling": 0.5, "flags": {"a": "b"}, "cost": 1.0, "served": "live",
}  # fmt: skip
_MANY: dict[str, Any] = {
    "times_us": [1, 2, 3], "features": {"age": [1.0, None, 2.0], "c": ["a", "b", None]}, "scores": np.full((3, 2), 0.5),
    "label": ["a", "b", "c"], "value": [1.0, 2.0, 3.0], "latency_ms": np.ones(3), "status": [200, 500, 200], "segment": {"site": "A"},
    "abstained": [True, False, True], "inputs": np.zeros((3, 2)), "embedding": np.ones((3, 2)), "version": "2", "sampling": 0.5,
    "flags": "x", "batch_size": 8,
}  # fmt: skip
_LABEL: dict[str, Any] = {"time_us": 5, "label": "7", "value": 0.5, "correct": True, "source": "proxy:a", "propensity": 0.5, "loss": 0.1,
                          "tags": ["a"]}  # fmt: skip


def recorder(content: bytes) -> None:
    """Calls with arguments of any kind, drawn from these bytes; then all that was taken is framed and read."""
    random = Random(content)
    made = Recorder("nowhere:1", model="m", version="1", input_rate=1.0, classes=random.choice((None, ["a", "b"])))
    kept = Kept()
    made._pipeline = kept  # type: ignore[assignment]
    calls = ((made.record, "r-1", _SOUND), (made.record_many, ["a", "b", "c"], _MANY), (made.label, "r-1", _LABEL))
    for _ in range(random.randint(1, 4)):
        call, name, sound = random.choice(calls)
        call(_either(name, random, 0.9), **_arguments(sound, random))
    made.dropped  # noqa: B018 -- that it can be read
    assert made.last_error is None or isinstance(made.last_error, str)
    framed(kept.things, made)


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


def framed(things: list[Any], made: Recorder) -> None:
    """What the delivery thread does with what was taken, and what a worker does with what it sends."""
    lost: list[str] = []

    def framer(value: bytes, version: str, items: int, size: int) -> Message:
        return Message("inference", None, value, [], items, size)

    def note(reason: str, items: int, size: int, error: BaseException) -> None:
        Ledger(10, 10).note(reason, error)
        lost.append(reason)

    sent = [thing for thing in things if isinstance(thing, Message)]
    for shape, rows in rows_by_shape(thing for thing in things if isinstance(thing, Row)).items():
        sent += frames_of_rows(rows, made._shared(shape.version), framer, note)
    for block in things:
        if isinstance(block, Block):
            sent += frames_of_block(block, framer, note)
    for message in sent:
        _read(message)


def _read(message: Message) -> None:
    try:
        if message.topic == "inference":
            decode_frame(message.value, 0)
        elif message.topic == "labels":
            decode_label(message.value, message.headers)
        else:
            decode_input(message.headers)
    except Invalid:
        pass  # the worker is stricter about what a server says; it must not be bytes that cannot be read


def seeds() -> list[bytes]:
    """Any bytes will do."""
    return [str(i).encode() for i in range(50)]


TARGETS = (Target("recorder", recorder, seeds, of_bytes, (), 400),)
