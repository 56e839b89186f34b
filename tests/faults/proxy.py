"""A TCP proxy to put in front of a broker or a store, and to make the network bad with.

It runs an event loop in a thread of its own; the methods may be called from any other.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any

HOST = "127.0.0.1"
CHUNK = 1 << 16
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: closing sends RST, not FIN


class _Link:
    """One connection of a client and the one made for it. A dead one stays open, and passes nothing on any more."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter | None = None) -> None:
        self.ends = [near] if far is None else [near, far]
        self.dead = far is None

    def reset(self) -> None:
        """RST to both sides."""
        for end in self.ends:
            with contextlib.suppress(OSError):
                end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.transport.abort()


class Proxy:
    """Listens on `port` and passes on to `target`, both of 127.0.0.1.

    `slow`, `half_open` and `refuse` last until `heal`; `reset` happens once.
    """

    def __init__(self, port: int, target: int) -> None:
        self.port, self.target = port, target
        self._latency, self._rate = 0.0, 0.0  # seconds, bytes a second; 0 is no limit
        self._silent = False
        self._links: set[_Link] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{port}", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()
        self._call(self._listen())

    def stop(self) -> None:
        """Stop listening and drop every connection."""
        self._call(self._refuse())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def slow(self, latency_s: float, bytes_per_s: float) -> None:
        """Delay every piece of up to 64 kB, in both directions, and limit the rate of each connection."""
        self._latency, self._rate = latency_s, bytes_per_s

    def half_open(self) -> None:
        """Open connections are dead from now on, and new ones are accepted and never answered: nobody is told.

        As when a firewall forgets a connection, or a host loses its power. After `heal` new connections work, but those
        that were open stay dead: only a deadline of the client's own ends them.
        """
        self._silent = True
        self._loop.call_soon_threadsafe(self._deaden)

    def refuse(self) -> None:
        """Close the port and every connection."""
        self._call(self._refuse())

    def reset(self) -> None:
        """Reset every connection, once."""
        self._call(self._reset())

    def heal(self) -> None:
        """A good network again."""
        self._latency = self._rate = 0.0
        self._silent = False
        self._call(self._listen())

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _deaden(self) -> None:
        for link in self._links:
            link.dead = True

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, HOST, self.port)

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._reset()

    async def _reset(self) -> None:
        for link in list(self._links):
            link.reset()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._silent:
            link = _Link(writer)
            self._links.add(link)
            with contextlib.suppress(OSError):
                while await reader.read(CHUNK):
                    pass
        else:
            try:
                far_reader, far_writer = await asyncio.open_connection(HOST, self.target)
            except OSError:
                writer.transport.abort()
                return
            link = _Link(writer, far_writer)
            self._links.add(link)
            await asyncio.gather(self._pump(link, reader, far_writer), self._pump(link, far_reader, writer))
        self._links.discard(link)
        link.reset()

    async def _pump(self, link: _Link, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Pass on until one side ends; the other is told, unless the connection is dead."""
        with contextlib.suppress(OSError):
            while piece := await source.read(CHUNK):
                if self._latency or self._rate:
                    await asyncio.sleep(self._latency + (len(piece) / self._rate if self._rate else 0.0))
                if not link.dead:
                    sink.write(piece)
                    await sink.drain()
        if not link.dead:
            sink.close()
