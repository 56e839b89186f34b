"""The body of a request: unpacked, bounded, its bytes reserved in the buffer while it is read and held."""

import asyncio
import zlib
from collections.abc import Iterator
from typing import Any

from aiohttp import web

from streams.bridge.buffer import Buffer
from streams.errors import Refusal

PATIENCE = 20.0  # seconds for a whole body
PIECE = 64 << 10
WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}  # of zlib


async def body_of(request: web.Request, buffer: Buffer, most: int) -> bytes:
    """At most `most` bytes, unpacked too; they are reserved, and the caller releases them.

    Raises Refusal: 400, 408, 413, 415, and 429 where the buffer has no room.
    """
    encoding = request.headers.get("Content-Encoding", "identity").lower().strip()
    if encoding != "identity" and encoding not in WINDOW_BITS:
        told = f"a body packed with {encoding[:40]!r} is not read; send gzip, deflate or none"
        raise Refusal(415, "media_type", told)
    if (request.content_length or 0) > most:
        raise _too_large(most)
    parts: list[bytes] = []
    held = 0
    try:
        async with asyncio.timeout(PATIENCE):
            unpack = zlib.decompressobj(WINDOW_BITS[encoding]) if encoding in WINDOW_BITS else None
            async for piece in request.content.iter_chunked(PIECE):
                for part in _unpacked(unpack, piece):
                    if held + len(part) > most:
                        raise _too_large(most)
                    buffer.reserve(len(part))
                    held += len(part)
                    parts.append(part)
        if unpack is not None and not unpack.eof:
            raise Refusal(400, "unreadable", "the packed body ends too early")
    except TimeoutError:
        buffer.release(held)
        raise Refusal(408, "slow", f"the body did not come within {PATIENCE:g} s") from None
    except (OSError, web.RequestPayloadError):
        buffer.release(held)
        raise Refusal(400, "went_away", "the body ended before all of it had come") from None
    except BaseException:
        buffer.release(held)
        raise
    return b"".join(parts)


def _too_large(most: int) -> Refusal:
    told = f"a body has at most {most} bytes, unpacked too (bridge_max_body_bytes); send fewer events at once"
    return Refusal(413, "too_large", told)


def _unpacked(unpack: Any, piece: bytes) -> Iterator[bytes]:
    """The piece in parts of bounded size, whatever it becomes. Raises Refusal."""
    if unpack is None:
        yield piece
        return
    while piece:
        if unpack.eof:  # what is behind it would be left out, and be told as taken
            raise Refusal(400, "unreadable", "the packed body goes on behind its end; pack all of it at once")
        try:
            part = unpack.decompress(piece, PIECE)
        except zlib.error as error:
            told = f"the body is not packed as its Content-Encoding says: {error}"
            raise Refusal(400, "unreadable", told) from None
        piece = unpack.unconsumed_tail or unpack.unused_data
        if part:
            yield part
