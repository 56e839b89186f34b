"""A middleware for FastAPI, Starlette and any other ASGI server: every request that made an inference is recorded."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Iterable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Callable, Optional

from bestbefore_client.noting import Noting

if TYPE_CHECKING:
    from bestbefore_client.recorder import Recorder

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
ReadJson = Callable[[Any, Any], Optional[Mapping[str, Any]]]

_MAX_ID, _TRACEPARENT = 200, 55
_GONE = 499  # the caller hung up before there was an answer; the number that proxies log


class RecorderMiddleware:
    """Records latency and status of each request whose handler called `note`, under the request's id.

    With `read`, handlers need not know of it: for the `paths` it is called with the bodies of request and answer
    parsed as JSON (None where one is missing, no JSON, not read by the handler, or beyond `max_body` bytes), and gives
    the fields of `Recorder.record`, or None for a request that is no inference. A request to one of the `paths` that
    fails is recorded with its status, also without a note. The id is that of the header `id_header`, else a new one;
    the answer carries it in the same header, for labels to name it. Where the request has a `traceparent`, it goes
    along, so that a mismatch can name example requests. Bodies are handed on as they come.

    When the server shuts down, what waits is sent for at most `close_timeout` seconds.

    >>> from bestbefore_client import Recorder
    >>> async def app(scope, receive, send): ...
    >>> recorder = Recorder("localhost:9092", model="loan", version="1")
    >>> wrapped = RecorderMiddleware(app, recorder, paths=["/predict"])
    """

    def __init__(
        self,
        app: App,
        recorder: Recorder,
        *,
        paths: Iterable[str] = (),
        read: ReadJson | None = None,
        max_body: int = 64 << 10,
        id_header: str = "x-request-id",
        close_timeout: float = 1.0,
    ) -> None:
        """Wrap `app`; raises ValueError for `read` without `paths`, which would keep the bodies of every request."""
        if read is not None and not (paths := tuple(paths)):
            raise ValueError("`read` needs `paths`: name those whose requests are inferences, such as ['/predict']")
        self.app, self._recorder, self._read = app, recorder, read
        self._paths, self._max_body = frozenset(paths), max_body
        self._id_header, self._close_timeout = id_header.lower().encode("latin-1"), close_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, self._closing(send))
        elif scope["type"] == "http":
            await self._request(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        named = scope.get("path") in self._paths
        limit = self._max_body if named and self._read is not None else 0
        asked, answered = _Body(limit), _Body(limit)
        noting, status, began = Noting(self._id_of(scope)), 500, time.perf_counter()
        latency: float | None = None
        left = False  # the caller has, which a server may tell as an error of sending

        async def receiving() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                asked.add(message)
            return message

        async def sending(message: Message) -> None:
            nonlocal status, latency, left
            if message["type"] == "http.response.start":
                status = int(message["status"])
                message = {**message, "headers": self._with_id(message.get("headers") or (), noting.id)}
            elif message["type"] == "http.response.body":
                answered.add(message)
            try:
                await send(message)
            except OSError:
                left = True
                raise
            if message["type"] == "http.response.body" and not message.get("more_body"):
                latency = 1e3 * (time.perf_counter() - began)

        try:
            with noting:
                await self.app(scope, receiving if limit else receive, sending)
        except asyncio.CancelledError:
            status = status if latency is not None else _GONE
            raise
        except Exception:
            if latency is None:  # the answer was cut short
                status = _GONE if left else max(status, 500)
            raise
        finally:
            took = 1e3 * (time.perf_counter() - began) if latency is None else latency
            if named or noting.fields:
                self._record(noting, took, status, asked, answered, _trace_of(scope))

    def _record(
        self, noting: Noting, latency: float, status: int, asked: _Body, answered: _Body, trace: Mapping[str, str]
    ) -> None:
        try:
            read: Mapping[str, Any] | None = {}
            if self._read is not None and answered.limit and status < 400:
                read = self._read(asked.json(), answered.json())
            if read is None or (not read and not noting.fields and status < 400):
                return
            own: dict[str, Any] = {"id": noting.id, "latency_ms": latency, "status": status, **trace}
            self._recorder.record(**{**own, **read, **noting.fields})
        except Exception as error:  # noqa: BLE001 -- telemetry must never fail the request it is about
            self._recorder.invalid(error)  # also for names that are none of an argument

    def _closing(self, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown"):
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(None, self._recorder.close, self._close_timeout)
            await send(message)

        return sending

    def _id_of(self, scope: Scope) -> str | None:
        for name, value in scope.get("headers") or ():
            if name.lower() == self._id_header:
                return str(value[:_MAX_ID].decode("latin-1")) or None
        return None

    def _with_id(self, headers: Iterable[tuple[bytes, bytes]], id: str) -> list[tuple[bytes, bytes]]:
        listed = list(headers)
        if any(name.lower() == self._id_header for name, _ in listed):
            return listed
        return [*listed, (self._id_header, id.encode("latin-1", "replace"))]


def _trace_of(scope: Scope) -> dict[str, str]:
    """Find the trace context of a request, https://www.w3.org/TR/trace-context/."""
    for name, value in scope.get("headers") or ():
        if name.lower() == b"traceparent" and len(value) == _TRACEPARENT:
            return {"traceparent": value.decode("latin-1")}
    return {}


class _Body:
    """A body as it passes, up to `limit` bytes; beyond it nothing is kept."""

    __slots__ = ("_parts", "_size", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, message: Message) -> None:
        part = message.get("body") or b""
        self._size += len(part)
        if self._size <= self.limit:
            self._parts.append(part)
        else:
            self._parts.clear()

    def json(self) -> Any:
        if not 0 < self._size <= self.limit:
            return None
        try:
            return json.loads(b"".join(self._parts))
        except ValueError:
            return None
