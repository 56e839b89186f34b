"""Parts for tests of the client: topics of their own, what arrived in them, a door to the broker that can be shut."""

import json
import socket
import socketserver
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pyarrow as pa
from bestbefore_client import CONTENT_TYPE
from bestbefore_client.heartbeat import HEARTBEAT
from kafka import KafkaAdminClient, KafkaConsumer
from kafka.admin import NewTopic

NOWHERE = "127.0.0.1:1"
TOPICS = ("inference", "inputs", "labels")
BACKENDS = ("kafka-python", "confluent")


def fresh_prefix(broker: str, *topics: str) -> str:
    """Topics of two partitions each, of a test's own."""
    name = f"client-{uuid.uuid4().hex[:8]}."
    create(broker, name, *(topics or TOPICS))
    return name


def create(broker: str, prefix: str, *topics: str) -> None:
    """Make topics of two partitions."""
    admin = KafkaAdminClient(bootstrap_servers=broker)
    admin.create_topics([NewTopic(prefix + topic, num_partitions=2, replication_factor=1) for topic in topics])
    admin.close()


def consumed(broker: str, topic: str, count: int, counts: Callable[[Any], bool] | None = None) -> list[Any]:
    """Read `count` records (that are no heartbeats, or as `counts` says), and those that lie behind them."""
    counted = counts or (lambda record: not is_heartbeat(record))
    consumer = KafkaConsumer(topic, bootstrap_servers=broker, auto_offset_reset="earliest", enable_auto_commit=False)
    found: list[Any] = []
    deadline = time.monotonic() + 60
    while sum(map(counted, found)) < count and time.monotonic() < deadline:
        found += [r for records in consumer.poll(timeout_ms=500).values() for r in records]
    found += [r for records in consumer.poll(timeout_ms=200).values() for r in records]
    consumer.close()
    return found


def rows(records: list[Any]) -> dict[str, dict[str, Any]]:
    """The rows of frames, by id."""
    records = [r for r in records if not is_heartbeat(r)]
    assert all(("content-type", CONTENT_TYPE.encode()) in r.headers for r in records)
    return {row["id"]: row for r in records for row in pa.ipc.open_stream(r.value).read_all().to_pylist()}


def is_heartbeat(record: Any) -> bool:
    """Whether a record is a recorder's heartbeat."""
    return ("content-type", HEARTBEAT.encode()) in record.headers


def heartbeats(records: list[Any]) -> list[dict[str, Any]]:
    """The heartbeats among records, in the order they were sent."""
    return sorted((json.loads(r.value) for r in records if is_heartbeat(r)), key=lambda beat: int(beat["seq"]))


def until(true: Callable[[], bool], patience_s: float = 60) -> None:
    """Wait for something to come true; the test fails when it does not."""
    ends = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < ends, "what was waited for did not come"
        time.sleep(0.02)


class Forward(socketserver.BaseRequestHandler):
    """Passes bytes on to the broker and back."""

    broker: tuple[str, int]

    def handle(self) -> None:
        with socket.create_connection(self.broker) as upstream:
            back = threading.Thread(target=self.pump, args=(upstream, self.request))
            back.start()
            self.pump(self.request, upstream)
            back.join()

    @staticmethod
    def pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):  # either side may hang up
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


@contextmanager
def closed_gate(broker: str) -> Iterator[socketserver.ThreadingTCPServer]:
    """A door to the broker that refuses connections until it is activated and serves."""
    host, port = broker.split(":")
    handler = type("To", (Forward,), {"broker": (host, int(port))})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler, bind_and_activate=False) as server:
        server.daemon_threads = True
        server.server_bind()
        yield server
