"""Who may see the page: the worker's web_token, as a header or, for browsers, as a cookie that a form gives.

The cookie is no copy of the token: it says until when it is good, signed with the token. So every worker with the same
token knows it, nothing has to be kept, and a new token ends all of them.
"""

import hmac
import ipaddress
import time
from collections import deque

from aiohttp import web

COOKIE, GOOD_FOR = "bestbefore_page", 12 * 3600  # seconds
TRIES, WITHIN = 10, 60.0  # wrong tokens, and seconds in which no more are taken


class Gate:
    """Lets in who knows the token; where there is none, whoever asks this machine by a name of its own."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._wrong: deque[float] = deque(maxlen=TRIES)

    @property
    def asks(self) -> bool:
        """Whether there is a token."""
        return bool(self._token)

    def lets(self, request: web.Request) -> bool:
        """Whether this request may see what the store knows."""
        if not self._token:
            return of_this_machine(request.host)
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        return hmac.compare_digest(given, f"Bearer {self._token}".encode()) or self._known(
            request.cookies.get(COOKIE, "")
        )

    @property
    def closed(self) -> bool:
        """Whether too many wrong tokens came of late."""
        return len(self._wrong) == TRIES and time.monotonic() - self._wrong[0] < WITHIN

    def admit(self, given: str) -> bool:
        """Whether this is the token."""
        said = given.encode("utf-8", "surrogateescape")
        right = bool(self._token) and hmac.compare_digest(said, self._token.encode())
        if not right:
            self._wrong.append(time.monotonic())
        return right

    def give(self, request: web.Request, response: web.StreamResponse) -> None:
        """Set the cookie; scripts cannot read it, and other sites cannot use it."""
        until = str(int(time.time()) + GOOD_FOR)
        secure = request.secure or request.headers.get("X-Forwarded-Proto") == "https"
        response.set_cookie(
            COOKIE, f"{until}.{self._signed(until)}", max_age=GOOD_FOR, httponly=True, samesite="Strict", secure=secure
        )

    def take(self, response: web.StreamResponse) -> None:
        """Take the cookie away."""
        response.del_cookie(COOKIE, httponly=True, samesite="Strict")

    def _known(self, cookie: str) -> bool:
        until, _, signature = cookie.partition(".")
        if not (until.isascii() and until.isdecimal() and len(until) < 12) or int(until) < time.time():
            return False
        return hmac.compare_digest(signature.encode("utf-8", "surrogateescape"), self._signed(until).encode())

    def _signed(self, until: str) -> str:
        return hmac.new(self._token.encode(), f"page until {until}".encode(), "sha256").hexdigest()


def of_this_machine(host: str) -> bool:
    """Whether a request names this machine: another name may be a foreign site's that resolves to it (rebinding).

    >>> of_this_machine("localhost:6066"), of_this_machine("127.0.0.1"), of_this_machine("[::1]:80")
    (True, True, True)
    >>> of_this_machine("evil.example:6066")
    False
    """
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() and not host.endswith("]") else host
    name = name.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
