"""`observed`: a predict function, plain or async, is recorded each time it is called."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Callable, TypeVar, cast

from bestbefore_client.noting import Noting

if TYPE_CHECKING:
    from bestbefore_client.recorder import Recorder

F = TypeVar("F", bound=Callable[..., Any])
Read = Callable[[Mapping[str, Any], Any], Mapping[str, Any]]


def observed(recorder: Recorder, *, id: str | None = None, read: Read | None = None) -> Callable[[F], F]:
    """Decorate a function that makes one inference: each call is recorded with its latency, or as failed.

    What is recorded beside that is what the function has said through `note`, and what `read(arguments, answer)`
    returns: fields of `Recorder.record`, from the arguments by name and the answer. Without `read`, an argument called
    `features` (or the only one) that is a mapping is taken for the features, and an answer for what it looks like: a
    mapping to numbers for scores, a float for a value, text, a bool or an integer for a label.
    `id` names the argument that holds the id of the inference; by default it is the request's, or a new one.

    The function's answer and its exceptions are handed on unchanged, whatever becomes of the recording.

    >>> from bestbefore_client import Recorder
    >>> recorder = Recorder("localhost:9092", model="loan", version="1")
    >>> @observed(recorder)
    ... def predict(features):
    ...     return {"no": 0.2, "yes": 0.8}
    >>> predict({"age": 41.0})["yes"]
    0.8
    >>> _ = recorder.close(0.1)
    """

    def decorate(function: F) -> F:
        signature = inspect.signature(function)

        def call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Call:
            return _Call(recorder, _arguments(signature, args, kwargs), id, read or _plain)

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def in_turn(*args: Any, **kwargs: Any) -> Any:
                with call(args, kwargs) as made:
                    made.answer = await function(*args, **kwargs)
                return made.answer

            return cast("F", in_turn)

        @functools.wraps(function)
        def at_once(*args: Any, **kwargs: Any) -> Any:
            with call(args, kwargs) as made:
                made.answer = function(*args, **kwargs)
            return made.answer

        return cast("F", at_once)

    return decorate


class _Call:
    """One call of a decorated function, while it is entered; leaving it records the call."""

    __slots__ = ("_arguments", "_began", "_noting", "_read", "_recorder", "answer")

    def __init__(self, recorder: Recorder, arguments: dict[str, Any], id: str | None, read: Read) -> None:
        self._recorder, self._arguments, self._read = recorder, arguments, read
        given = arguments.get(id) if id else None
        self._noting = Noting(None if given is None else _text(given))
        self.answer: Any = None

    def __enter__(self) -> _Call:
        self._began = time.perf_counter()
        self._noting.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._noting.__exit__()
        if kind is None:
            self._record(200)
        elif issubclass(kind, Exception):  # whoever cancels or ends the process has not seen the model fail
            self._record(500)

    def _record(self, status: int) -> None:
        latency = 1e3 * (time.perf_counter() - self._began)
        try:
            read = self._read(self._arguments, self.answer) if status == 200 else {}
            fields = {"id": self._noting.id, "latency_ms": latency, "status": status, **read, **self._noting.fields}
            self._recorder.record(**fields)
        except Exception as error:  # noqa: BLE001 -- telemetry must never fail the request it is about
            self._recorder.invalid(error)  # also for names that are none of an argument


def _arguments(signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    try:
        return dict(signature.bind(*args, **kwargs).arguments)
    except TypeError:  # the function itself will say so
        return {}


def _text(value: Any) -> str | None:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 -- an id that cannot be read is one that was not given
        return None


def _plain(arguments: Mapping[str, Any], answer: Any) -> dict[str, Any]:
    """Read features and output by what they look like; raises TypeError where that is not clear."""
    fields: dict[str, Any] = {}
    given = [value for name, value in arguments.items() if name != "self"]
    features = arguments.get("features", given[0] if len(given) == 1 else None)
    if isinstance(features, Mapping):
        fields["features"] = features
    if isinstance(answer, Mapping) and answer:
        fields["scores"] = answer
    elif isinstance(answer, (str, bool, int)):
        fields["label"] = answer
    elif isinstance(answer, float):
        fields["value"] = answer
    elif answer is not None:
        raise TypeError(
            f"an answer of type {type(answer).__name__} says nothing by itself; give `read`, or call `note`"
        )
    return fields
