"""Whether a worker lives, is ready and gets on: the pages `/live`, `/ready`, `/metrics` and `/progress`; and `/`.

Threads of their own, so that they answer also while the event loop stands: one asks the store, the other has an
event loop that serves the pages and asks the broker. A third reads how the models stand. Nothing here changes anything.
"""

import asyncio
import errno
import hmac
import logging
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from infra.web.hub import Hub
from infra.web.site import Site
from infra.web.sources import coming_in
from streams.connection import client_options
from streams.errors import StoreError
from streams.overview import overview
from streams.progress import Seen, Snapshot
from streams.records import time_text
from streams.runtime import Runtime
from streams.services import Service
from streams.store_pages import PageReader
from streams.topics import PROFILES

log = logging.getLogger(__name__)
EVERY, PATIENCE = 2.0, 4.0  # seconds between questions to store and broker, and for the broker's answer
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MODELS_EVERY, MODELS_KEPT = 15.0, 120.0  # seconds between readings of how models stand; as long an old one is told
MODELS_REST = 20.0  # times as long as a reading took it rests
Page = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Health:
    """The pages of one worker, and what asks store and broker; `agents` are the names of those that it runs."""

    def __init__(self, runtime: Runtime, agents: list[str]) -> None:
        self._runtime, self._agents = runtime, agents
        self._started = time.time()
        self._socket = _listening(runtime.settings.web_host, runtime.settings.web_port)
        runtime.metrics.watch_process(lambda: not waits_for(runtime, time.monotonic()))

    def start(self) -> None:
        """Begin to ask and to answer, until the process ends."""
        work: dict[str, Callable[[], None]] = {
            "store-probe": self._ask_store, "models": self._read_models, "health": lambda: asyncio.run(self._serve()),
        }  # fmt: skip
        for name, body in work.items():
            threading.Thread(target=self._kept, args=(name, body), name=name, daemon=True).start()

    def _kept(self, name: str, body: Callable[[], None]) -> None:
        """Without answers every wedge would be excused, so what asks for them may not end."""
        try:
            body()
        except Exception as error:  # noqa: BLE001 -- a thread of its own: nobody else would see it
            self._runtime.end(f"thread {name} failed", error)

    # -- asking ------------------------------------------------------------------------------------------------

    def _ask_store(self) -> None:
        store, service = self._runtime.store, self._runtime.services.store
        while True:
            try:
                self._runtime.outbox = store.waiting()
                service.answered()
            except StoreError as error:
                log.debug("the store does not answer: %s", error)
                service.failed()
            time.sleep(EVERY)

    def _read_models(self) -> None:
        """How models stand is told by one worker of a group: the one that assesses partition 0."""
        runtime, mine = self._runtime, (self._runtime.settings.topic(PROFILES), 0)
        while True:
            began = time.monotonic()
            if any((seen.topic, seen.partition) == mine for seen in runtime.progress.snapshot.partitions):
                try:
                    runtime.models = overview(runtime.store, time.time_ns() // 1000), time.time()
                except StoreError as error:
                    log.debug("how models stand cannot be read: %s", error)
            else:
                runtime.models = None
            if runtime.models is not None and time.time() - runtime.models[1] > MODELS_KEPT:
                runtime.models = None
            # Where it takes long, because there are very many segments, it is done less often: others need the CPU.
            time.sleep(max(MODELS_EVERY if runtime.models else EVERY, MODELS_REST * (time.monotonic() - began)))

    async def _ask_broker(self) -> None:
        options = client_options(self._runtime.settings)  # once: a file that is being replaced must not end the worker
        while True:
            client = AIOKafkaClient(**options, request_timeout_ms=int(PATIENCE * 1000))
            try:
                await asyncio.wait_for(client.bootstrap(), PATIENCE)
                while True:
                    await asyncio.wait_for(client.fetch_all_metadata(), PATIENCE)
                    self._runtime.services.broker.answered()
                    await asyncio.sleep(EVERY)
            except (KafkaError, OSError, TimeoutError) as error:
                log.debug("the broker does not answer: %r", error)
                self._runtime.services.broker.failed()
            finally:
                await client.close()
            await asyncio.sleep(EVERY / 2)

    # -- answering ---------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        if self._socket is not None:
            app = web.Application()
            for path, page in self._pages().items():
                app.router.add_get(path, page)
            reader = PageReader(self._runtime.settings.store)
            hub = Hub(reader, lambda: {"worker": coming_in(self._runtime, self._agents, time.monotonic())})
            app.add_routes(Site(hub, self._runtime.settings.web_token).routes())
            runner = web.AppRunner(app, access_log=None, handle_signals=False)
            await runner.setup()
            await web.SockSite(runner, self._socket).start()
        await self._ask_broker()

    def _pages(self) -> dict[str, Page]:
        return {
            "/live": self._live, "/ready": self._ready,
            "/metrics": self._guarded(self._metrics), "/progress": self._guarded(self._progress),
        }  # fmt: skip

    def _may(self, request: web.Request) -> bool:
        token = self._runtime.settings.web_token
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        return not token or hmac.compare_digest(given, f"Bearer {token}".encode())

    def _guarded(self, page: Page) -> Page:
        async def guarded(request: web.Request) -> web.StreamResponse:
            if self._may(request):
                return await page(request)
            told = "this page needs the header `Authorization: Bearer` with the worker's web_token\n"
            return web.Response(status=401, text=told, headers={"WWW-Authenticate": "Bearer"})

        return guarded

    async def _live(self, request: web.Request) -> web.Response:
        reason = self._runtime.watchdog.verdict(time.monotonic())
        return self._said(request, reason, "live")

    async def _ready(self, request: web.Request) -> web.Response:
        return self._said(request, waits_for(self._runtime, time.monotonic()), "ready")

    def _said(self, request: web.Request, reason: str, good: str) -> web.Response:
        told = reason if reason and self._may(request) else f"not {good}" if reason else good
        return web.Response(status=503 if reason else 200, text=f"{told}\n")

    async def _metrics(self, request: web.Request) -> web.Response:  # noqa: ARG002 -- a page
        return web.Response(body=self._runtime.metrics.text(), headers={"Content-Type": METRICS_TYPE})

    async def _progress(self, request: web.Request) -> web.Response:  # noqa: ARG002 -- a page
        return web.json_response(progress(self._runtime, self._agents, self._started, time.monotonic()))


def _listening(host: str, port: int) -> socket.socket | None:
    """A socket that listens; None, and a warning, where that address is not to be had."""
    if not port:
        return None
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]  # the address stands in front of it
        todo = (
            "give each worker of a machine its own web_port, or 0"
            if error.errno == errno.EADDRINUSE
            else "web_host must be an address of this machine, and web_port one that this user may take"
        )
        log.warning(
            "no live page, /live, /ready, /metrics and /progress of this worker: %s:%s cannot be listened on (%s); %s",
            host, port, reason, todo,
        )  # fmt: skip
        return None


def waits_for(runtime: Runtime, now: float) -> str:
    """For whom or what a worker waits; empty when it is ready. Registrations are loaded before it starts."""
    if not runtime.watchdog.turns(now):
        return "the event loop does not turn"
    waiting = runtime.services.waiting(now)
    if waiting:
        return f"waiting for {waiting}"
    return "" if runtime.progress.snapshot.assigned else "waiting for partitions"


def progress(runtime: Runtime, agents: list[str], started: float, now: float) -> dict[str, Any]:
    """The page `/progress`."""
    snapshot: Snapshot = runtime.progress.snapshot
    return {
        "group": runtime.settings.group,
        "agents": agents,
        "started": _text(started * 1e6),
        "seen": _text((time.time() - (now - snapshot.at)) * 1e6),
        "live": runtime.watchdog.verdict(now) or True,
        "ready": waits_for(runtime, now) or True,
        "assigned": snapshot.assigned,
        "store": _service(runtime.services.store, now) | {"outbox": runtime.outbox},
        "broker": _service(runtime.services.broker, now),
        "partitions": [_partition(seen, runtime, now) for seen in snapshot.partitions],
    }


def _service(service: Service, now: float) -> dict[str, Any]:
    reachable = service.reachable(now)
    return {
        "reachable": reachable, "since": _text(service.since * 1e6), "waits": service.waits,
        "waited_seconds": round(service.waited(now), 3),
    }  # fmt: skip


def _partition(seen: Seen, runtime: Runtime, now: float) -> dict[str, Any]:
    wall_us = time.time_ns() // 1000
    return {
        "topic": runtime.metrics.topic(seen.topic),
        "partition": seen.partition,
        "lag": seen.lag,
        "wanted": seen.wanted,
        "end": seen.end,
        "committed": seen.committed,
        "commit_age_seconds": 0.0 if seen.uncommitted_since is None else round(now - seen.uncommitted_since, 3),
        "last_event": _text(seen.event_us),
        "last_event_age_seconds": _age(wall_us, seen.event_us),
        "last_record_received": _text(seen.received_us),
        "last_record_age_seconds": _age(wall_us, seen.received_us),
        "watermark": _text(seen.watermark_us),
        "open_windows": seen.windows,
    }


def _text(us: float | None) -> str | None:
    return None if us is None else time_text(int(us))


def _age(wall_us: int, us: int | None) -> float | None:
    return None if us is None else round((wall_us - us) / 1e6, 3)
