"""The proxy does to a connection what it says, and a store that falls silent is given up."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import make_url

from infra.local.machine import free_port
from streams.store_silence import Impatient
from tests.faults.proxy import HOST, Proxy


@pytest.fixture
def echo() -> Iterator[Proxy]:
    """A proxy in front of a server that says back what it hears."""
    with socket.create_server((HOST, 0)) as server:

        def serve(connection: socket.socket) -> None:
            with connection, contextlib.suppress(ConnectionResetError):
                while heard := connection.recv(1 << 16):
                    connection.sendall(heard)

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        proxy = Proxy(free_port(), server.getsockname()[1])
        proxy.start()
        yield proxy
        proxy.stop()
        server.shutdown(socket.SHUT_RDWR)


def connected(proxy: Proxy) -> socket.socket:
    """A client that waits for half a second."""
    return socket.create_connection((HOST, proxy.port), timeout=0.5)


def said(client: socket.socket, word: bytes) -> bytes:
    """What comes back."""
    client.sendall(word)
    return client.recv(1 << 16)


def test_passes_on_and_is_slow_when_told(echo: Proxy) -> None:
    """Both ways, each delayed."""
    with connected(echo) as client:
        assert said(client, b"one") == b"one"
        echo.slow(0.1, 1e6)
        began = time.monotonic()
        assert said(client, b"two") == b"two"
        assert time.monotonic() - began >= 0.2


def test_half_open_connections_stay_dead_and_new_ones_work_once_healed(echo: Proxy) -> None:
    """Neither an answer nor an end: what a firewall that forgets does."""
    with connected(echo) as old:
        assert said(old, b"one") == b"one"
        echo.half_open()
        with connected(echo) as new, pytest.raises(TimeoutError):
            said(new, b"two")
        echo.heal()
        with pytest.raises(TimeoutError):
            said(old, b"three")
        with connected(echo) as fresh:
            assert said(fresh, b"four") == b"four"


def test_resets_and_refuses(echo: Proxy) -> None:
    """RST for what is open; nobody listens while refusing."""
    with connected(echo) as client:
        assert said(client, b"one") == b"one"
        echo.reset()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    echo.refuse()
    with pytest.raises(ConnectionRefusedError):
        connected(echo)
    echo.heal()
    with connected(echo) as client:
        assert said(client, b"two") == b"two"


def test_a_silent_store_is_given_up(store_url: str) -> None:
    """libpq alone would wait for ever: TCP has nothing to complain about."""
    url = make_url(store_url)
    proxy = Proxy(free_port(), url.port or 0)
    proxy.start()
    plain = url.set(drivername="postgresql", port=proxy.port).render_as_string(hide_password=False)
    with Impatient.connect(plain) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        connection.within = 0.5
        proxy.half_open()
        with pytest.raises(psycopg.OperationalError, match=r"no answer within 0\.5 s"):
            connection.execute("SELECT 2")
        assert connection.closed
    proxy.stop()
