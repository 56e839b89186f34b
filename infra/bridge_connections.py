"""Connections of the bridge: bounded in number, and ended when they ask for nothing."""

import asyncio
from typing import Any, cast

from aiohttp import web

MOST = 1000
IDLE = 15.0  # seconds until a connection must have asked for something, and between two requests
FILES = 8192  # that may be open: those that are one too many linger
LINGER = 2.0  # seconds for a sender that is one too many to read why
_TOLD = b"the bridge has as many connections as it may have; send it again later\n"
_REFUSED = (
    b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 2\r\nConnection: close\r\nContent-Type: text/plain\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_TOLD), _TOLD)
)


def raise_limit() -> None:
    """Let the process have as many open files as all connections need, where the system lets it."""
    try:
        import resource  # noqa: PLC0415 -- there is none on Windows
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Connections:
    """Makes the protocol of each connection of a server; `asked` says of a request which connection it came on."""

    def __init__(self, runner: web.AppRunner, most: int = MOST, idle: float = IDLE) -> None:
        self._server: Any = runner.server
        self._most, self._idle = most, idle
        self._silent: dict[Any, asyncio.TimerHandle] = {}  # those that have not asked for anything yet

    def asked(self, request: web.BaseRequest) -> None:
        """A request has come, head and all."""
        timer = self._silent.pop(request.protocol, None)
        if timer is not None:
            timer.cancel()

    def made(self) -> asyncio.Protocol:
        """The protocol of a new connection."""
        if len(self._server.connections) >= self._most:
            return _Refusing()
        protocol: asyncio.Protocol = self._server()
        # aiohttp has a limit for the time between two requests, and none until the first.
        self._silent[protocol] = asyncio.get_running_loop().call_later(self._idle, self._end, protocol)
        return protocol

    def _end(self, protocol: Any) -> None:
        del self._silent[protocol]
        protocol.force_close()


class _Refusing(asyncio.Protocol):
    """Says why, reads what still comes so that the answer arrives, and ends the connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        both = cast(asyncio.Transport, transport)
        both.write(_REFUSED)
        if both.can_write_eof():
            both.write_eof()
        asyncio.get_running_loop().call_later(LINGER, both.close)
