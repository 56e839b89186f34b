"""What is on its way to Kafka: bounded, tried again, and accounted for; any library does the sending.

Records are handed over only while few bytes are unacknowledged, because kafka-python's own buffer has no bound.
"""

from __future__ import annotations

import logging
import random
import time
from collections import deque

from bestbefore_client.backends import EXPIRY, Backend
from bestbefore_client.events import NEVER, Message
from bestbefore_client.ledger import Ledger

log = logging.getLogger("bestbefore_client")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0


class Delivery:
    """One producer and what waits for it; used by one thread, apart from the callbacks, which only touch the ledger."""

    def __init__(self, backend: Backend, brokers: str, prefix: str, ledger: Ledger, window: int) -> None:
        """`window` is how many bytes may be unacknowledged; topics begin with `prefix`."""
        self._backend, self._brokers, self._prefix = backend, brokers, prefix
        self._ledger, self._window = ledger, window
        self.connected = False
        self._boxes: dict[str, _Box] = {}
        self._reconnect = _Pause()
        self._held = 0
        self._lows: dict[Message, int] = {}

    @property
    def busy(self) -> bool:
        """Whether no more records should be encoded for now."""
        return self._held >= self._window

    def low(self) -> int:
        """Give the time of the oldest event that is not acknowledged yet; with the ledger's lock held."""
        return min(self._lows.values(), default=NEVER)

    def wait(self) -> float:
        """Seconds until something that failed may be tried again, or callbacks should be let run."""
        if not self.connected:
            return self._reconnect.left()
        pause = min((box.pause.left() for box in self._boxes.values() if box.waiting), default=_LONGEST_PAUSE)
        return min(pause, self._backend.pace) if self._held else pause

    def connect(self) -> None:
        """Reach a broker, unless the last failure is too fresh."""
        if self._reconnect.left() > 0:
            return
        try:
            self._backend.connect(f"{self._prefix}inference")
            self.connected = True
        except Exception as error:  # noqa: BLE001 -- a wrong option or a dead broker must not end the thread
            self._ledger.note("connect", error)
            log.warning("no Kafka at %s (%s); trying again", self._brokers, error)
            self._reconnect.grow()

    def partitions(self, topic: str) -> list[int]:
        """Give the partitions of a topic, as far as known."""
        return self._backend.partitions(self._prefix + topic)

    def put(self, message: Message) -> None:
        """Take a record to be sent; `pump` sends it.

        When the topic takes nothing, labels and inputs are dropped before they fill the window and hold up the frames.
        """
        box = self._boxes.setdefault(message.topic, _Box())
        with self._ledger.lock:
            self._held += message.size
            if message.low != NEVER:
                self._lows[message] = message.low
        if message.topic != "inference" and box.bytes + message.size > self._window // 4:
            self._landed(message, TimeoutError(f"topic {self._prefix}{message.topic} takes nothing"))
        else:
            box.waiting.append((time.monotonic(), message))
            box.bytes += message.size

    def pump(self) -> None:
        """Hand waiting records to the producer; a topic that the broker does not have holds up only itself."""
        if self.connected:
            self._backend.poll()
        for topic, box in self._boxes.items():
            while box.waiting and box.pause.left() <= 0:
                since, message = box.waiting[0]
                if self._send(message):
                    box.pause = _Pause()
                elif time.monotonic() - since < EXPIRY:
                    box.pause.grow()
                    break
                else:
                    self._landed(message, TimeoutError(f"no topic {self._prefix}{topic}"))
                box.waiting.popleft()
                box.bytes -= message.size

    def close(self, timeout: float) -> None:
        """Close the producer within `timeout` seconds, sent or not."""
        try:
            self._backend.close(max(timeout, 0.0))
        except Exception as error:  # noqa: BLE001 -- each library has its own; the process ends anyway
            self._ledger.note("close", error)
        self.connected = False

    def abandon(self) -> None:
        """In a forked child: let go of the parent's producer without touching it."""
        self._backend.abandon()

    def _send(self, message: Message) -> bool:
        """Send one record; False when it should be tried again later."""

        def landed(error: BaseException | None) -> None:
            self._landed(message, error)

        try:
            sent = self._backend.send(self._prefix + message.topic, message, landed)
        except Exception as error:  # noqa: BLE001 -- each library has its own; the record is refused
            landed(error)
            return True
        if not sent:
            missing = TimeoutError(f"{self._prefix}{message.topic} takes nothing; does the topic exist?")
            self._ledger.note(f"send to {message.topic}", missing)
        return sent

    def _landed(self, message: Message, error: BaseException | None = None) -> None:
        with self._ledger.lock:
            self._held -= message.size
            self._lows.pop(message, None)
            if error is not None:
                self._ledger.note(f"send to {message.topic}", error)
            if message.landed is None:
                self._ledger.settle(message.items, message.size, None if error is None else "delivery")
            else:
                message.landed(error)
                self._ledger.changed.notify_all()


class _Pause:
    """Growing pauses with jitter, so that a fleet does not come back at once."""

    def __init__(self) -> None:
        self._until, self._length = 0.0, _FIRST_PAUSE

    def left(self) -> float:
        return max(0.0, self._until - time.monotonic())

    def grow(self) -> None:
        self._until = time.monotonic() + self._length * random.uniform(0.5, 1.0)  # noqa: S311 -- not a secret
        self._length = min(2 * self._length, _LONGEST_PAUSE)


class _Box:
    """What waits for one topic, oldest first, since when."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[float, Message]] = deque()
        self.bytes = 0
        self.pause = _Pause()
