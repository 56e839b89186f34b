"""Sending with kafka-python, whose constructor blocks and raises without a broker, and whose buffer has no bound."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

from kafka import KafkaProducer
from kafka.codec import has_lz4
from kafka.errors import KafkaError, KafkaTimeoutError

from bestbefore_client.backends import BACKOFF, BATCH, PATIENCE, Landed
from bestbefore_client.events import Message
from bestbefore_client.security import Security

_BLOCK_MS = int(PATIENCE * 1000)
_BACKOFF_MS = int(BACKOFF * 1000)


class KafkaPython:
    """A producer that is built when a broker has answered."""

    pace = float("inf")  # it has a thread of its own for callbacks

    def __init__(self, brokers: str, security: Security | None, options: Mapping[str, Any]) -> None:
        """`options` go to KafkaProducer."""
        self._options = {
            "bootstrap_servers": brokers,
            "acks": "all",
            "compression_type": "lz4" if has_lz4() else None,
            "allow_auto_create_topics": False,
            "batch_size": BATCH,
            "bootstrap_timeout_ms": _BLOCK_MS,
            "max_block_ms": _BLOCK_MS,
            "metrics_enabled": False,
            "reconnect_backoff_max_ms": _BACKOFF_MS,
            **(security.kafka_python() if security else {}),
            **options,
        }
        self._producer: Any = None

    def connect(self, topic: str) -> None:  # noqa: ARG002 -- as the backend says
        """Build the producer."""
        if "proxy_url" not in self._options:
            _knock(self._options["bootstrap_servers"])
        self._producer = KafkaProducer(**self._options)
        # It would hold up the end of the process for a second of its own, after ours.
        self._producer._unregister_cleanup()

    def send(self, topic: str, message: Message, landed: Landed) -> bool:
        """Send one record; False while the topic's metadata are missing."""
        key = None if message.key is None else message.key.encode()
        try:
            future = self._producer.send(
                topic, message.value, key=key, headers=message.headers, partition=message.partition
            )
        except KafkaTimeoutError:
            return False
        future.add_callback(lambda _: landed(None))
        future.add_errback(landed)
        return True

    def partitions(self, topic: str) -> list[int]:
        """Give the partitions; blocks while they are not known."""
        try:
            return sorted(self._producer.partitions_for(topic) or ())
        except KafkaError:
            return []

    def poll(self) -> None:
        """Do nothing: callbacks run by themselves."""

    def close(self, timeout: float) -> None:
        """Close; its thread may go on until its own delivery timeout, and ends with the process."""
        if self._producer is not None:
            self._producer.close(timeout=timeout)
            self._producer = None

    def abandon(self) -> None:
        """Tell the copy in this process that it is closed: it would wait for a thread that only the parent has."""
        if self._producer is not None:
            self._producer._closed = True


def _knock(brokers: str) -> None:
    """Raise OSError unless one of the brokers can be reached: kafka-python's failed constructor leaves sockets open."""
    error: Exception = OSError(f"no broker in {brokers!r}; give host:port,host:port")
    for broker in brokers.split(","):
        host, _, port = broker.strip().rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()
            return
        except (OSError, ValueError) as caught:
            error = caught
    raise error
