"""What a handler says about the inference it has just made, carried to whoever records it."""

from __future__ import annotations

import uuid
from contextvars import ContextVar
from typing import Any

# The dictionary is shared, not the variable: a handler in a thread pool has a copy of the context, of the same object.
_NOTE: ContextVar[dict[str, Any] | None] = ContextVar("bestbefore_note", default=None)
_REQUEST: ContextVar[str | None] = ContextVar("bestbefore_request", default=None)


def note(**fields: Any) -> None:
    """Say what was inferred, as `Recorder.record` takes it; the surrounding middleware or decorator records it.

    Later calls add to earlier ones. Outside of both nothing happens, so that a handler can be called on its own.

    >>> note(features={"age": 41.0}, scores={"no": 0.2, "yes": 0.8})
    """
    noted = _NOTE.get()
    if noted is not None:
        noted.update(fields)


def inference_id() -> str:
    """Give the id under which the present request is recorded, for the answer: labels will come with it.

    Outside of a request a new one each time.
    """
    noted = _NOTE.get()
    known = None if noted is None else noted.get("id")
    return str(known) if known else (_REQUEST.get() or str(uuid.uuid4()))


class Noting:
    """While it is entered, `note` writes into `fields`; `id` names the request for whoever asks or records inside."""

    __slots__ = ("_note", "_request", "fields", "id")

    def __init__(self, id: str | None = None) -> None:
        self.id = id or _REQUEST.get() or str(uuid.uuid4())
        self.fields: dict[str, Any] = {}

    def __enter__(self) -> Noting:
        self._note, self._request = _NOTE.set(self.fields), _REQUEST.set(self.id)
        return self

    def __exit__(self, *_: object) -> None:
        _NOTE.reset(self._note)
        _REQUEST.reset(self._request)
