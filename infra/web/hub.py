"""One reader of the store for all who look: it asks while somebody does, and hands what changed to every listener.

Everything that touches the store happens in one thread of its own. Listeners wait for a number to grow; who is too
slow, or was away for long, gets everything again instead of a queue that grows.
"""

import asyncio
import logging
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import msgspec

from infra.web.details import details
from infra.web.overview import MOST_MODELS, Overview, differing, news
from streams.errors import StoreError
from streams.records import time_text
from streams.store_pages import PageReader

log = logging.getLogger(__name__)
EVERY, FRESH, IDLE_AFTER, BEAT = 1.0, 1.0, 60.0, 5.0  # seconds
MOST_LISTENERS, MOST_WAITING, MOST_DETAILS, KEPT = 100, 20, 64, 64


class Busy(Exception):
    """More ask than are served; they may ask again."""


class Message(NamedTuple):
    """One server-sent event; `number` None: nothing that a listener must have seen."""

    event: str
    data: bytes
    number: int | None = None


class Hub:
    """Lives in one event loop; `health` tells of what this process knows beside the store."""

    def __init__(self, reader: PageReader, health: Callable[[], dict[str, Any]]) -> None:
        self._reader, self._health = reader, health
        self._overview = Overview(reader, _now_us)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="page")
        self._boot = secrets.token_hex(4)  # numbers of another process, or of one before, mean nothing here
        self._number = 0
        self._kept: deque[Message] = deque(maxlen=KEPT)
        self._grown = asyncio.Condition()
        self._asking: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._details: OrderedDict[tuple[Any, ...], bytes | None] = OrderedDict()
        self._wanted, self._read = time.monotonic(), 0.0
        self._failed_since: float | None = None
        self.listeners = self._waiting = 0
        self.trouble = ""  # why the store does not answer; empty while it does

    # -- asking the store ------------------------------------------------------------------------------------------

    async def fresh(self) -> None:
        """Return once what is known is at most a second old, or the store has failed to answer."""
        self._wanted = time.monotonic()
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        if self._read and time.monotonic() - self._read < EVERY + FRESH:
            return
        await self._once()

    async def _ask(self) -> None:
        """Look every second, until nobody has asked for a while."""
        while self.listeners or time.monotonic() - self._wanted < IDLE_AFTER:
            await asyncio.sleep(EVERY)
            await self._once()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._reader.close)

    async def _once(self) -> None:
        """Look now; whoever comes while somebody looks waits for the same answer."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        await asyncio.shield(self._looking)

    async def _look(self) -> None:
        old, first = self._overview.rows, not self._read
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._overview.refresh)
            self.trouble, self._failed_since, self._read = "", None, time.monotonic()
        except StoreError as error:
            log.debug("the store does not answer the page: %s", error)
            self._failed_since = time.time() if self._failed_since is None else self._failed_since
            self.trouble = str(error)
        rows, gone = differing(old, self._overview.rows)
        if rows or gone:
            self._number += 1
            self._kept.append(self._message("changed", news(rows, gone)))
        if rows or gone or first:
            async with self._grown:
                self._grown.notify_all()

    @property
    def known(self) -> bool:
        """Whether the store has ever answered."""
        return bool(self._read)

    # -- what is told ----------------------------------------------------------------------------------------------

    def document(self) -> dict[str, Any]:
        """Every model version, worst first."""
        limits = {"most": MOST_MODELS, "models": self._overview.total, "more": self._overview.cut}
        return {**self._head(), "limits": limits, "models": list(self._overview.rows.values())}

    def beat(self) -> dict[str, Any]:
        """Whether data are coming, as this process sees it."""
        store = {"answers": not self.trouble, "why": self.trouble or None, "since": _seconds(self._failed_since)}
        return {**self._head(), "store": store, **self._health()}

    async def detail(self, model: str, version: str, segment: str, windows: int) -> bytes | None:
        """One model version in detail, as JSON; None where there is none. Raises Busy and StoreError."""
        if self._waiting >= MOST_WAITING:
            raise Busy
        self._waiting += 1
        try:
            await self.fresh()
            asked = (model, version, segment, windows)
            make = partial(self._made, asked, (*asked, *self._state_of(model, version)))
            return await asyncio.get_running_loop().run_in_executor(self._thread, make)
        finally:
            self._waiting -= 1

    def _state_of(self, model: str, version: str) -> tuple[Any, ...]:
        """What changes with what is known of a version; its verdict may also turn because a date has passed."""
        known, row = self._overview, self._overview.rows.get((model, version), {})
        events = (known.changes.get((model, name)) for name in (version, ""))  # '': of all versions side by side
        return *events, row.get("state"), row.get("why"), row.get("silent")

    def _made(self, asked: tuple[str, str, str, int], key: tuple[Any, ...]) -> bytes | None:
        """In the page's thread: whoever waits behind another for the same finds it here."""
        if key not in self._details:
            found = details(self._overview, self._reader, *asked)
            self._details[key] = None if found is None else msgspec.json.encode({**found, "now": time_text(_now_us())})
            while len(self._details) > MOST_DETAILS:
                self._details.popitem(last=False)
        self._details.move_to_end(key)
        return self._details[key]

    async def stream(self, last_id: str = "") -> AsyncGenerator[Message, None]:
        """What changes from now on, or since the message `last_id`; a beat where nothing does. Raises Busy."""
        if self.listeners >= MOST_LISTENERS:
            raise Busy
        self.listeners += 1
        try:
            await self.fresh()
            seen = self._seen(last_id)
            beaten = 0.0
            while True:
                for message in self._since(seen):
                    yield message
                seen = self._number if self._read else -1
                if time.monotonic() - beaten >= BEAT:
                    beaten = time.monotonic()
                    yield Message("beat", msgspec.json.encode(self.beat()))
                await self._more(seen, BEAT)
        finally:
            self.listeners -= 1
            self._wanted = time.monotonic()

    async def _more(self, seen: int, patience: float) -> None:
        """Wait until there is more than `seen`, or until it is time for a beat."""
        try:
            async with asyncio.timeout(patience), self._grown:
                await self._grown.wait_for(lambda: bool(self._read) and self._number > seen)
        except TimeoutError:
            pass

    def _seen(self, last_id: str) -> int:
        boot, _, number = last_id.partition("-")
        ours = boot == self._boot and len(number) < 12 and number.isascii() and number.isdecimal()
        return int(number) if ours else -1

    def _since(self, seen: int) -> list[Message]:
        """The messages after `seen`; everything at once where they are not kept any more, or never were seen."""
        if seen == self._number or not self._read:
            return []
        missed = [message for message in self._kept if message.number is not None and message.number > seen]
        if 0 <= seen < self._number and len(missed) == self._number - seen:
            return missed
        return [self._message("overview", self.document())]

    def _head(self) -> dict[str, Any]:
        return {"now": time_text(_now_us()), "id": f"{self._boot}-{self._number}"}

    def _message(self, event: str, body: dict[str, Any]) -> Message:
        return Message(event, msgspec.json.encode({**self._head(), **body}), self._number)

    def written(self, message: Message) -> bytes:
        """A message as it goes over the wire; with its id a listener that was cut off goes on."""
        number = b"" if message.number is None else f"id: {self._boot}-{message.number}\n".encode()
        return b"%sevent: %s\ndata: %s\n\n" % (number, message.event.encode(), message.data)


def _now_us() -> int:
    return time.time_ns() // 1000


def _seconds(at: float | None) -> str | None:
    return None if at is None else time_text(int(at * 1e6))
