"""Sending with confluent-kafka (librdkafka): its threads are not Python's, so they never hold up the server."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from bestbefore_client.backends import BACKOFF, BATCH, EXPIRY, PATIENCE, Landed
from bestbefore_client.events import Message
from bestbefore_client.security import Security

_FRESH = 60.0  # seconds that a topic's partitions are believed
_QUIET = 60.0  # seconds between two complaints

log = logging.getLogger("bestbefore_client")


class Confluent:
    """A producer whose own queue is bounded, as far as librdkafka goes, by the recorder's window."""

    pace = 0.02

    def __init__(self, brokers: str, window: int, security: Security | None, options: Mapping[str, Any]) -> None:
        """`window` is how many bytes may be unacknowledged; `options` are librdkafka's configuration."""
        self._options = {
            "bootstrap.servers": brokers,
            "acks": "all",
            "enable.idempotence": True,
            "compression.type": "lz4" if find_spec("lz4") else "none",  # as kafka-python: not every reader can
            "allow.auto.create.topics": False,
            "partitioner": "murmur2_random",  # as kafka-python and Java: the same key, the same partition
            "batch.size": BATCH,
            "linger.ms": 5,
            "message.max.bytes": 1_048_588,
            "message.timeout.ms": int(EXPIRY * 1000),
            "queue.buffering.max.kbytes": max(window // 1024, 2048) + 1024,
            "reconnect.backoff.max.ms": int(BACKOFF * 1000),
            "log.connection.close": False,
            "log_level": 2,  # a lost broker is said by `_said`, not with every attempt
            "error_cb": self._said,
            **(security.confluent() if security else {}),
            **options,
        }
        self._producer: Any = None
        self._complained = -_QUIET
        self._topics: dict[str, tuple[float, list[int]]] = {}

    def connect(self, topic: str) -> None:
        """Build the producer, which needs no broker for it, and ask for the topic, which does."""
        if self._producer is None:
            self._producer = Producer(self._options, logger=log)
        self._producer.list_topics(topic, timeout=PATIENCE)

    def send(self, topic: str, message: Message, landed: Landed) -> bool:
        """Send one record; False while the broker does not have the topic, or the queue is full."""
        if topic not in self._topics and not self.partitions(topic):
            return False
        where = {} if message.partition is None else {"partition": message.partition}
        try:
            self._producer.produce(
                topic, message.value, key=message.key, headers=message.headers, **where,
                on_delivery=lambda error, _: landed(_exception(error)),
            )  # fmt: skip
        except BufferError:
            return False
        return True

    def partitions(self, topic: str) -> list[int]:
        """Give the partitions, asked for once a minute; blocks while they are not known."""
        asked, known = self._topics.get(topic, (0.0, []))
        if known and time.monotonic() - asked < _FRESH:
            return known
        try:
            found = self._producer.list_topics(topic, timeout=PATIENCE).topics[topic]
        except KafkaException:
            return known
        if found.error is None and found.partitions:
            known = sorted(found.partitions)
            self._topics[topic] = (time.monotonic(), known)
        return known

    def _said(self, error: KafkaError) -> None:
        if time.monotonic() - self._complained >= _QUIET:
            self._complained = time.monotonic()
            log.warning("Kafka: %s", error)

    def poll(self) -> None:
        """Let callbacks run."""
        self._producer.poll(0)

    def close(self, timeout: float) -> None:
        """Wait for acknowledgements, and throw away what is left, so that nothing holds up the end of the process."""
        if self._producer is not None:
            if self._producer.flush(timeout):
                self._producer.purge()
                self._producer.poll(0)
            self._producer = None

    def abandon(self) -> None:
        """Do nothing: the copy in this process has no threads, and whoever holds it must keep it."""


def _exception(error: KafkaError | None) -> BaseException | None:
    return None if error is None else KafkaException(error)
