"""The bridge: an HTTP server that takes events and log records, answers at once, and produces them to Kafka.

A process of its own beside the workers. What it has taken waits in bounded memory until the broker has acknowledged it.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import click
from aiohttp import web

from infra.bridge_connections import IDLE, Connections, raise_limit
from infra.bridge_pages import Pages
from streams.adapters.config import Sources, read_sources
from streams.bridge.buffer import Buffer
from streams.bridge.metrics import BridgeMetrics
from streams.bridge.routing import Router
from streams.bridge.sender import Sender
from streams.errors import Refusal, ServiceError, SettingsError
from streams.log_thinning import Thinned, thin_out
from streams.services import Service
from streams.settings import Settings

log = logging.getLogger(__name__)
# Seconds: what is due within ten of a signal is delivered in the first of them.
FLUSH, STOP = 6.0, 8.5
EXIT_LOST = 1


class Bridge:
    """One bridge: buffer, sender, pages. `run` until a signal."""

    def __init__(self, settings: Settings, sources: Sources | None = None) -> None:
        self._settings = settings
        self._broker = Service("broker")
        router = Router(settings, sources)
        try:
            router.target(settings.bridge_topic)
        except Refusal as refusal:
            raise SettingsError(f"bridge_topic: {refusal}") from None
        self._buffer = Buffer(settings.bridge_queue_records, settings.bridge_queue_bytes)
        self._metrics = BridgeMetrics(self._buffer, self._broker, lambda name: name.removeprefix(settings.topic_prefix))
        self._sender = Sender(settings, self._buffer, self._broker)
        self._pages = Pages(settings, router, self._buffer, self._broker, self._metrics, lambda: self._sender.topics)

    @property
    def waiting(self) -> int:
        """Records that were taken and are not delivered."""
        return self._buffer.records

    async def run(self, listening: socket.socket, stop: asyncio.Event, told: Callable[[str], None]) -> int:
        """Serve until `stop`; the number of records that were taken and not delivered."""
        tasks = [
            asyncio.create_task(self._sender.deliver(self._metrics)), asyncio.create_task(self._sender.look())
        ]  # fmt: skip
        runner = web.AppRunner(
            self._pages.app(), access_log=None, handle_signals=False, keepalive_timeout=IDLE, auto_decompress=False,
            shutdown_timeout=1.0,
        )  # fmt: skip
        await runner.setup()
        connections = Connections(runner)
        self._pages.seen = connections.asked
        server = await asyncio.get_running_loop().create_server(connections.made, sock=listening, backlog=512)
        told(_address(listening))
        ending = asyncio.create_task(stop.wait())
        await asyncio.wait([ending, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()  # neither ends but by a defect: the process must not go on without it
        server.close()
        self._pages.stopping = True
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH):  # no task of its own: nothing may come in before the line below
                await self._buffer.emptied()
        left = self._buffer.close()  # who is still sending must not be told that it was taken
        await self._end(runner, tasks)
        return left

    async def _end(self, runner: web.AppRunner, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await asyncio.gather(*tasks, return_exceptions=True)
                await runner.cleanup()
                await self._sender.close()


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises ServiceError."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]
        raise ServiceError(
            f"the bridge cannot listen on {host}:{port} ({reason}); set bridge_host to an address of this machine and "
            "bridge_port to a free port, or to 0 for any"
        ) from None


def run_bridge(settings: Settings, loglevel: str) -> int:
    """Run until SIGTERM or SIGINT; the exit status. Raises SettingsError and ServiceError at the start."""
    logging.basicConfig(level=loglevel.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    thin_out()
    for name in ("aiohttp.server", "infra.bridge_pages", "streams.bridge.sender"):  # each may say the same for ever
        logging.getLogger(name).addFilter(Thinned())
    raise_limit()
    sources = read_sources(Path(settings.sources)) if settings.sources else None
    bridge = Bridge(settings, sources)
    listening = listen(settings.bridge_host, settings.bridge_port)
    return asyncio.run(_until_signal(bridge, listening))


async def _until_signal(bridge: Bridge, listening: socket.socket) -> int:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def asked() -> None:
        stop.set()
        # Whoever asked may kill after ten seconds; a connection that hangs must not keep the process.
        timer = threading.Timer(STOP, lambda: os._exit(_ended(bridge.waiting)))
        timer.daemon = True
        timer.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked)
    return _ended(await bridge.run(listening, stop, _told))


def _told(address: str) -> None:
    click.echo(f"bridge  {address}  takes CloudEvents at / and /topics/NAME, OTLP logs at /v1/logs")


def _ended(left: int) -> int:
    """Say how many records are lost; the exit status."""
    if left:
        sys.stderr.write(
            f"bestbefore: {left} records that were taken were not delivered: no broker took them within "
            f"{FLUSH:g} s of the signal; they are lost\n"
        )
        sys.stderr.flush()
    return EXIT_LOST if left else 0
