"""Sending to Kafka from the recorder's own thread, with everything that is on its way bounded.

kafka-python's constructor blocks and raises without a broker, and its buffer has no bound: so the producer is built
late, again and again with growing pauses, and records are handed to it only while few bytes are unacknowledged.
"""

from __future__ import annotations

import logging
import random
import socket
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from kafka import KafkaProducer
from kafka.codec import has_lz4
from kafka.errors import KafkaError, KafkaTimeoutError

from bestbefore_client.events import Message
from bestbefore_client.ledger import Ledger

log = logging.getLogger("bestbefore_client")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_EXPIRY = 120.0  # seconds a record waits for a topic that the broker does not have; kafka-python's delivery timeout
_BLOCK_MS = 2000  # longest that kafka-python may block this thread, so that close() is heard


class Delivery:
    """One producer and what waits for it; used by one thread, apart from the callbacks, which only touch the ledger."""

    def __init__(self, brokers: str, prefix: str, ledger: Ledger, window: int, options: Mapping[str, Any]) -> None:
        """`window` is how many bytes may be unacknowledged; `options` go to KafkaProducer (security, timeouts)."""
        self._ledger, self._prefix, self._window = ledger, prefix, window
        self._options = {
            "bootstrap_servers": brokers,
            "acks": "all",
            "compression_type": "lz4" if has_lz4() else None,
            "allow_auto_create_topics": False,
            "batch_size": 1 << 19,  # a few frames a request: with one each, the broker takes a third of the rate
            "bootstrap_timeout_ms": _BLOCK_MS,
            "max_block_ms": _BLOCK_MS,
            "metrics_enabled": False,
            **options,
        }
        self._producer: Any = None
        self._boxes: dict[str, _Box] = {}
        self._reconnect = _Pause()
        self._held = 0

    @property
    def connected(self) -> bool:
        """Whether there is a producer, so that it makes sense to encode."""
        return self._producer is not None

    @property
    def busy(self) -> bool:
        """Whether no more records should be encoded for now."""
        return self._held >= self._window

    def wait(self) -> float:
        """Seconds until something that failed may be tried again."""
        if not self.connected:
            return self._reconnect.left()
        return min((box.pause.left() for box in self._boxes.values() if box.waiting), default=_LONGEST_PAUSE)

    def connect(self) -> None:
        """Build the producer, unless it exists or the last failure is too fresh."""
        if self.connected or self._reconnect.left() > 0:
            return
        try:
            if "proxy_url" not in self._options:
                _knock(self._options["bootstrap_servers"])
            self._producer = KafkaProducer(**self._options)
        except Exception as error:  # noqa: BLE001 -- a wrong option or a dead broker must not end the thread
            self._ledger.note("connect", error)
            log.warning("no Kafka at %s (%s); trying again", self._options["bootstrap_servers"], error)
            self._reconnect.grow()

    def put(self, message: Message) -> None:
        """Take a record to be sent; `pump` sends it.

        When the topic takes nothing, labels and inputs are dropped before they fill the window and hold up the frames.
        """
        box = self._boxes.setdefault(message.topic, _Box())
        with self._ledger.changed:
            self._held += message.size
        if message.topic != "inference" and box.bytes + message.size > self._window // 4:
            self._landed(message, TimeoutError(f"topic {self._prefix}{message.topic} takes nothing"))
        else:
            box.waiting.append((time.monotonic(), message))
            box.bytes += message.size

    def pump(self) -> None:
        """Hand waiting records to the producer; a topic that the broker does not have holds up only itself."""
        for topic, box in self._boxes.items():
            while box.waiting and box.pause.left() <= 0:
                since, message = box.waiting[0]
                if self._send(message):
                    box.pause = _Pause()
                elif time.monotonic() - since < _EXPIRY:
                    box.pause.grow()
                    break
                else:
                    self._landed(message, TimeoutError(f"no topic {self._prefix}{topic}"))
                box.waiting.popleft()
                box.bytes -= message.size

    def close(self, timeout: float) -> None:
        """Close the producer within `timeout` seconds, sent or not."""
        if self._producer is None:
            return
        try:
            self._producer.close(timeout=max(timeout, 0.1))
        except KafkaError as error:  # its thread goes on until its own delivery timeout, then ends with the process
            self._ledger.note("close", error)
        self._producer = None

    def _send(self, message: Message) -> bool:
        """Send one record; False when it should be tried again later."""
        key = None if message.key is None else message.key.encode()
        try:
            future = self._producer.send(self._prefix + message.topic, message.value, key=key, headers=message.headers)
        except KafkaTimeoutError as error:
            self._ledger.note(f"send to {message.topic}", error)
            return False
        except (KafkaError, ValueError, TypeError, AssertionError) as error:
            self._landed(message, error)
            return True
        future.add_callback(lambda _: self._landed(message))
        future.add_errback(lambda error: self._landed(message, error))
        return True

    def _landed(self, message: Message, error: Exception | None = None) -> None:
        with self._ledger.changed:
            self._held -= message.size
            if error is not None:
                self._ledger.note(f"send to {message.topic}", error)
            self._ledger.settle(message.items, message.size, None if error is None else "delivery")


def _knock(brokers: str) -> None:
    """Raise OSError unless one of the brokers can be reached: kafka-python's failed constructor leaves sockets open."""
    error: Exception = OSError(f"no broker in {brokers!r}; give host:port,host:port")
    for broker in brokers.split(","):
        host, _, port = broker.strip().rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_BLOCK_MS / 1000).close()
            return
        except (OSError, ValueError) as caught:
            error = caught
    raise error


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
