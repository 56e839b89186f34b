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
        reader = read or _plain
        name = id

        def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Noting, dict[str, Any], float]:
            arguments = _arguments(signature, args, kwargs)
            given = arguments.get(name) if name else None
            return Noting(None if given is None else _text(given)), arguments, time.perf_counter()

        def end(call: tuple[Noting, dict[str, Any], float], answer: Any, status: int) -> None:
            noting, arguments, began = call
            latency = 1e3 * (time.perf_counter() - began)
            _record(recorder, noting, latency, status, lambda: reader(arguments, answer) if status == 200 else {})

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def in_turn(*args: Any, **kwargs: Any) -> Any:
                call = begin(args, kwargs)
                try:
                    with call[0]:
                        answer = await function(*args, **kwargs)
                except Exception:
                    end(call, None, 500)
                    raise
                end(call, answer, 200)
                return answer

            return cast("F", in_turn)

        @functools.wraps(function)
        def at_once(*args: Any, **kwargs: Any) -> Any:
            call = begin(args, kwargs)
            try:
                with call[0]:
                    answer = function(*args, **kwargs)
            except Exception:
                end(call, None, 500)
                raise
            end(call, answer, 200)
            return answer

        return cast("F", at_once)

    return decorate


def _record(
    recorder: Recorder, noting: Noting, latency: float, status: int, read: Callable[[], Mapping[str, Any]]
) -> None:
    try:
        fields: dict[str, Any] = {"id": noting.id, "latency_ms": latency, "status": status, **read(), **noting.fields}
    except Exception as error:  # noqa: BLE001 -- telemetry must never fail the request it is about
        recorder.invalid(error)
    else:
        recorder.record(**fields)


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
