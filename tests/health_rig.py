"""What tests of a worker's pages need: reading them, and a relay in front of the store that can be shut or frozen."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from streams.settings import Settings
from tests.broker_rig import environment

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def get(port: int, path: str, token: str = "") -> tuple[int, str]:
    """Status and text of a page; (0, "") while nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except OSError:
        return 0, ""
    finally:
        connection.close()


def page(port: int, token: str = "") -> dict[str, Any]:
    """What `/progress` says."""
    found: dict[str, Any] = json.loads(get(port, "/progress", token)[1])
    return found


@contextmanager
def listening(port: int, token: str = "") -> Iterator[Iterator[tuple[str, Any]]]:
    """Kind and content of each message of `/stream`, as they come."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/stream", headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        assert answer.status == 200

        def messages() -> Iterator[tuple[str, Any]]:
            kind = ""
            for line in answer:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                kind = value if name == "event" else kind
                if name == "data":
                    yield kind, json.loads(value)

        yield messages()
    finally:
        connection.close()


def samples(port: int, token: str = "") -> Samples:
    """What `/metrics` says, read by the library's own parser."""
    status, text = get(port, "/metrics", token)
    assert status == 200, text
    return {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def within(seconds: float, true: Callable[[], bool]) -> float:
    """Seconds until something is so; the test fails when that takes longer than was promised."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began <= seconds, f"not so within {seconds:g} s"
        time.sleep(0.1)
    return time.monotonic() - began


def workplace(settings: Settings, **changed: Any) -> tuple[dict[str, str], int]:
    """The environment of a worker whose pages are on a port of their own, and that port."""
    port = free_port()
    return environment(msgspec.structs.replace(settings, web_port=port, **changed)), port


class Relay:
    """Passes bytes on to an address; `frozen` takes them and passes nothing on, as behind a dead route."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._flows = threading.Event()
        self._flows.set()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self) -> None:
        """From now on nothing passes, and nobody is told."""
        self._flows.clear()

    def shut(self) -> None:
        """Every connection is gone and none is taken any more."""
        for end in [self._server, *self._open]:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._flows.set()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(self._to)
                self._open += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(1 << 16):
                self._flows.wait()
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)


@contextmanager
def relayed(host: str, port: int) -> Iterator[Relay]:
    """A relay that is gone at the end of the block."""
    relay = Relay(host, port)
    try:
        yield relay
    finally:
        relay.shut()
