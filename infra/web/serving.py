"""`bestbefore page`: the live page from the store alone, without a broker or a worker."""

import asyncio
import signal
from collections.abc import Callable

import msgspec
from aiohttp import web

from infra.store_file import require_file
from infra.web.hub import Hub
from infra.web.site import Site
from streams.errors import ServiceError, SettingsError
from streams.event_store import EventStore
from streams.settings import Settings
from streams.store_pages import PageReader


def serve(settings: Settings, port: int, ready: Callable[[str], None]) -> None:
    """Serve the page on `web_host` until a signal ends it; `ready` is told the address once it is reached.

    Raises StoreUnreachable and StoreOutdated where there is nothing to show, ServiceError where the port is taken.
    """
    try:
        msgspec.structs.replace(settings, web_port=port or 1)  # an address that others see needs a token here too
    except ValueError as error:
        raise SettingsError(str(error)) from None
    require_file(settings.store)
    store = EventStore(settings.store)
    store.check()
    store.close()
    asyncio.run(_serve(settings, port, ready))


async def _live(_: web.Request) -> web.Response:
    """For whoever starts this process again when it hangs; the page itself says whether the store answers."""
    return web.Response(text="live\n")


async def _serve(settings: Settings, port: int, ready: Callable[[str], None]) -> None:
    reader = PageReader(settings.store)
    app = web.Application()
    app.add_routes(Site(Hub(reader, lambda: {"worker": None}), settings.web_token).routes())
    app.router.add_get("/live", _live)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.web_host, port)
        await site.start()
    except OSError as error:
        await runner.cleanup()
        where = f"{settings.web_host}:{port}"
        raise ServiceError(f"{where} cannot be listened on ({error.strerror}); choose another --port") from None
    host = f"[{settings.web_host}]" if ":" in settings.web_host else settings.web_host
    ready(f"http://{host}:{runner.addresses[0][1]}/")
    ended = asyncio.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sign, ended.set)
    await ended.wait()
    await runner.cleanup()
    reader.close()
