"""What is served: the page, its files, `/models.json`, `/model.json`, `/stream`, and the form that asks for the token.

The page loads nothing from anywhere else, and no text in it can become code: the policy below forbids both.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from infra.web.details import MOST_WINDOWS, WINDOWS
from infra.web.hub import Busy, Hub
from infra.web.login import Gate
from streams.errors import StoreError

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
GUARDS = {
    "Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=()",
}  # fmt: skip
KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
FILES = (
    "page.css", "page.js", "list.js", "model.js", "parts.js", "sources.js", "chart.js", "plot.js", "words.js",
    "make.js", "login.js", "icon.svg",
)  # fmt: skip
LONGEST_NAME, LONGEST_FORM, SLOWEST = 4096, 8192, 30.0  # characters, bytes, seconds for a listener to take a message
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class File(NamedTuple):
    """One file of the page, as it is sent."""

    body: bytes
    kind: str
    tag: str


def read_file(name: str) -> File:
    """A file of this folder."""
    body = (files(__package__ or "infra.web") / name).read_bytes()
    return File(body, KINDS[name.rpartition(".")[2]], f'"{hashlib.sha256(body).hexdigest()[:16]}"')


class Site:
    """The routes; `hub` must be used in the event loop that serves them."""

    def __init__(self, hub: Hub, token: str) -> None:
        self._hub, self._gate = hub, Gate(token)
        self._files = {name: read_file(name) for name in (*FILES, "page.html", "login.html")}
        if token:  # whoever is signed in may sign out
            page = self._files["page.html"]
            self._files["page.html"] = page._replace(body=page.body.replace(b'id="out" hidden', b'id="out"'))

    def routes(self) -> list[web.AbstractRouteDef]:
        """All of them; the files hold no data, so anybody may have them."""
        open_to_all = [web.get(f"/{name}", self._plain(name)) for name in FILES]
        return [
            web.get("/", self._page), web.post("/login", self._login), web.post("/logout", self._logout), *open_to_all,
            *(web.get(path, self._guarded(answer)) for path, answer in (
                ("/models.json", self._models), ("/model.json", self._model), ("/stream", self._stream))),
        ]  # fmt: skip

    # -- the page --------------------------------------------------------------------------------------------------

    async def _page(self, request: web.Request) -> web.StreamResponse:
        if self._gate.lets(request):
            return self._sent(request, "page.html")
        return self._refused(request)

    def _refused(self, request: web.Request, status: int = 401) -> web.Response:
        """To people the form, to programs what to send."""
        challenge = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
        if not self._gate.asks:
            told = "this page has no web_token, so it answers on this machine only, by the name localhost\n"
            return _said(403, told)
        if "text/html" in request.headers.get("Accept", ""):
            form = self._files["login.html"]
            return web.Response(
                status=status, body=form.body, content_type=form.kind, charset="utf-8",
                headers={**GUARDS, **challenge, "Cache-Control": "no-store"},
            )  # fmt: skip
        told = "this page needs the header `Authorization: Bearer` with the worker's web_token\n"
        return _said(status, told, challenge)

    async def _login(self, request: web.Request) -> web.StreamResponse:
        if self._gate.closed:
            return _said(429, "too many wrong tokens; try again in a minute\n", {"Retry-After": "60"})
        if (request.content_length or 0) > LONGEST_FORM:
            return _said(413, "a token is shorter than that\n")
        given = (await request.post()).get("token", "")
        if not isinstance(given, str) or not self._gate.admit(given.strip()):
            return web.Response(status=303, headers={**GUARDS, "Location": "./?refused", "Cache-Control": "no-store"})
        answer = web.Response(status=303, headers={**GUARDS, "Location": "./", "Cache-Control": "no-store"})
        self._gate.give(request, answer)
        return answer

    async def _logout(self, request: web.Request) -> web.StreamResponse:  # noqa: ARG002 -- a page
        answer = web.Response(status=303, headers={**GUARDS, "Location": "./", "Cache-Control": "no-store"})
        self._gate.take(answer)
        return answer

    def _plain(self, name: str) -> Answer:
        async def plain(request: web.Request) -> web.StreamResponse:
            return self._sent(request, name)

        return plain

    def _sent(self, request: web.Request, name: str) -> web.Response:
        file = self._files[name]
        headers = {**GUARDS, "ETag": file.tag, "Cache-Control": "no-cache"}
        if request.headers.get("If-None-Match") == file.tag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=file.body, content_type=file.kind, charset="utf-8", headers=headers)

    # -- data ------------------------------------------------------------------------------------------------------

    def _guarded(self, answer: Answer) -> Answer:
        async def guarded(request: web.Request) -> web.StreamResponse:
            if not self._gate.lets(request):
                return self._refused(request)
            try:
                return await answer(request)
            except Busy:
                return _said(503, "too many are looking at this worker; ask another, or again later\n", _LATER)
            except StoreError as error:
                return _said(503, f"{error}\n", _LATER)

        return guarded

    async def _models(self, request: web.Request) -> web.StreamResponse:  # noqa: ARG002 -- a page
        await self._hub.fresh()
        if not self._hub.known:
            return _said(503, f"{self._hub.trouble}\n", _LATER)
        return _json({**self._hub.document(), **self._hub.beat()})

    async def _model(self, request: web.Request) -> web.StreamResponse:
        asked = request.query
        model, version, segment = (asked.get(name, "") for name in ("model", "version", "segment"))
        if not model or not version or max(map(len, (model, version, segment))) > LONGEST_NAME:
            return _said(400, "name a model and a version: /model.json?model=digits&version=1\n")
        number = asked.get("windows", str(WINDOWS))
        if not (number.isascii() and number.isdecimal() and 1 <= int(number[:9]) <= MOST_WINDOWS):
            return _said(400, f"windows must lie in 1 to {MOST_WINDOWS}\n")
        found = await self._hub.detail(model, version, segment, int(number))
        if found is None:
            return _said(404, "the store knows no model version of that name; /models.json lists those it knows\n")
        return _json(found)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        messages = self._hub.stream(request.headers.get("Last-Event-ID", "")[:40])
        first = await anext(messages)  # before anything is sent: whoever is refused gets a status
        response = web.StreamResponse(
            headers={**GUARDS, "Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store",
                     "X-Accel-Buffering": "no"}
        )  # fmt: skip
        await response.prepare(request)
        try:
            await _write(response, b"retry: 3000\n\n" + self._hub.written(first))
            async for message in messages:
                await _write(response, self._hub.written(message))
        except (ConnectionError, TimeoutError):
            pass  # gone, or too slow: it may come again and is told what it missed
        finally:
            await messages.aclose()
        return response


_LATER = {"Retry-After": "5"}


async def _write(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(SLOWEST):
        await response.write(data)


def _said(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=text, headers={**GUARDS, "Cache-Control": "no-store", **(headers or {})})


def _json(body: dict[str, Any] | bytes) -> web.Response:
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return web.Response(
        body=content, content_type="application/json", charset="utf-8", headers={**GUARDS, "Cache-Control": "no-store"}
    )
