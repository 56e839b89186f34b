"""Fetches sampled inputs that were too large for a record and stand in an object store instead.

The claim check of Hohpe and Woolf, "Enterprise Integration Patterns" (2003). Whoever can write a record chooses the
address, so an address is data of a stranger: only what lies under an allowed prefix is opened, redirects are not
followed, no more is read than allowed, and what was read must hash to what the record says.
"""

import hashlib
import os
import posixpath
import re
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

import fsspec
from aiohttp import ClientError, ClientResponse, ClientTimeout

from streams.errors import BadInput

CHUNK = 1 << 20
LONGEST, LONGEST_TOLD = 4096, 300  # characters of an address; signed ones have about a thousand
WEB = ("http", "https")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")


class Address(NamedTuple):
    """A URI taken apart, with its path decoded once and free of `.` and `..`."""

    scheme: str
    host: str
    path: str
    query: str

    def under(self, prefix: "Address") -> bool:
        """Whether this is `prefix` or lies below it; `/data` is no prefix of `/database`."""
        if (self.scheme, self.host) != (prefix.scheme, prefix.host):
            return False
        mine, base = (_resolved(a.path) if a.scheme == "file" else a.path for a in (self, prefix))
        return mine == base or mine.startswith(base.rstrip("/") + "/")

    def uri(self) -> str:
        """What is opened: made from the very parts that were compared."""
        path = quote(self.path, safe="/~!$&'()*+,;=:@") if self.scheme in WEB else self.path
        return f"{self.scheme}://{self.host}{path}" + (f"?{self.query}" if self.query else "")


def fetch(
    dataref: str,
    *,
    sha256: str | None,
    size: int | None,
    allowed: Sequence[str],
    max_bytes: int,
    timeout_s: float = 30.0,
) -> bytes:
    """The bytes at `dataref` (any URI that fsspec opens), at most `max_bytes`.

    `allowed` are URI prefixes such as `s3://samples/digits`; without any, everything is refused. `sha256` (with or
    without `sha256:`) and `size` are what the record promises; None skips the comparison. `timeout_s` holds for HTTP.
    Raises BadInput, which says why: refused, missing, too large, or other bytes than promised.
    """
    address = _allowed(dataref, allowed)
    dataref = _shown(dataref)
    if size is not None and size > max_bytes:
        raise BadInput(
            f"dataref {dataref!r} is declared as {size} bytes, {max_bytes} are allowed: send a smaller sample"
        )
    content = _read(address, dataref, max_bytes, timeout_s)
    if size is not None and len(content) != size:
        raise BadInput(f"dataref {dataref!r} has {len(content)} bytes, the record promises {size}: was it overwritten?")
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256.lower().removeprefix("sha256:"):
        raise BadInput(
            f"dataref {dataref!r} hashes to sha256 {found}, the record promises {sha256[:80]!a}: was it overwritten?"
        )
    return content


def _shown(uri: str) -> str:
    """The address as it may be told: a query may be a signature, what stands before `@` a password."""
    plain = re.sub(r"//[^/?#]*@", "//…@", uri.partition("?")[0])
    return (plain if len(plain) <= LONGEST_TOLD else plain[:LONGEST_TOLD] + "…") + ("?…" if "?" in uri else "")


def _allowed(dataref: str, allowed: Sequence[str]) -> Address:
    address = _parse(dataref)
    dataref = _shown(dataref)
    if address.query and address.scheme not in WEB:
        raise BadInput(f"dataref {dataref!r} has a query, which only http and https know: percent-encode the `?`")
    if not any(address.under(_parse(prefix)) for prefix in allowed):
        listed = ", ".join(allowed) or "none"
        raise BadInput(f"dataref {dataref!r} is refused: it lies under no allowed prefix (allowed: {listed})")
    return address


def _parse(uri: str) -> Address:
    """Takes a URI apart; refuses every spelling that two readers could understand differently."""
    if len(uri) > LONGEST:
        raise BadInput(f"address {_shown(uri)!r} is refused: it has {len(uri)} characters, {LONGEST} are allowed")
    if "::" in unquote(uri):
        raise BadInput(f"address {_shown(uri)!r} is refused: chained protocols (`::`) are not allowed")
    if "\\" in unquote(uri) or any(not c.isprintable() or c == " " for c in uri) or not unquote(uri).isprintable():
        raise BadInput(
            f"address {_shown(uri)!r} is refused: percent-encode spaces, leave out backslashes and control characters"
        )
    scheme, separator, _ = uri.partition("://")
    if not separator or not _SCHEME.fullmatch(scheme.lower()):
        raise BadInput(
            f"address {_shown(uri)!r} is refused: give a whole URI, such as s3://bucket/key or file:///folder/name"
        )
    try:
        parts = urlsplit(uri)
    except ValueError:
        raise BadInput(f"address {_shown(uri)!r} is refused: it is no URI") from None
    path = unquote(parts.path)
    if _ESCAPE.search(path) or parts.fragment:
        raise BadInput(f"address {_shown(uri)!r} is refused: encode the path once, `#` included")
    if parts.scheme == "file" and parts.netloc:
        raise BadInput(f"address {_shown(uri)!r} is refused: a file needs three slashes, as in file:///folder/name")
    normal = posixpath.normpath("/" + path.lstrip("/")) if path else "/"
    # Host names have no case, but bucket names of some stores do.
    host = parts.netloc.lower() if parts.scheme in WEB else parts.netloc
    return Address(parts.scheme, host, normal, parts.query)


def _resolved(path: str) -> str:
    """A symbolic link must not lead out of an allowed folder."""
    return os.path.realpath(path)


def _read(address: Address, dataref: str, max_bytes: int, timeout_s: float) -> bytes:
    try:
        filesystem = fsspec.filesystem(address.scheme, **_options(address, timeout_s))
        with filesystem.open(address.uri(), "rb") as source:
            return _capped(source, dataref, max_bytes)
    except FileNotFoundError:
        raise BadInput(f"dataref {dataref!r} is not there (or redirects): was it deleted before it was read?") from None
    except (OSError, ClientError) as error:
        told = _without(str(error), address)
        raise BadInput(f"dataref {dataref!r} cannot be read ({told}): check access rights and network") from None
    except (ImportError, ValueError) as error:
        told = _without(str(error), address)
        raise BadInput(f"dataref {dataref!r} cannot be opened ({told}): install the fsspec driver it needs") from None


def _without(text: str, address: Address) -> str:
    """What a library says, without the parts of the address that may be secret."""
    for secret in (address.query, address.host.rpartition("@")[0]):
        text = text.replace(secret, "…") if secret else text
    return text[:300]


def _capped(source: Any, dataref: str, max_bytes: int) -> bytes:
    content = bytearray()
    while chunk := source.read(min(CHUNK, max_bytes + 1 - len(content))):
        content += chunk
        if len(content) > max_bytes:
            raise BadInput(f"dataref {dataref!r} is larger than the {max_bytes} bytes allowed: send a smaller sample")
    return bytes(content)


def _options(address: Address, timeout_s: float) -> dict[str, Any]:
    if address.scheme not in WEB:
        return {}
    client = {"timeout": ClientTimeout(total=timeout_s), "raise_for_status": _no_redirect}
    # Block size 0 streams: what a server says about its sizes and ranges is not relied upon.
    return {"block_size": 0, "encoded": True, "allow_redirects": False, "client_kwargs": client}


async def _no_redirect(response: ClientResponse) -> None:
    if 300 <= response.status < 400:
        raise OSError(f"the server redirects ({response.status}), which could lead out of the allowed prefixes")
