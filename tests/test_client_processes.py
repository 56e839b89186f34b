"""Recorders in the processes of real servers: forks, gunicorn's and uvicorn's workers, and the end of a process."""

import http.client
import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from infra.local.machine import free_port
from tests.client_rig import BACKENDS, NOWHERE, consumed, fresh_prefix, heartbeats, rows, until

CLIENT = str(Path(__file__).parents[1] / "client")


def environment(**more: str) -> dict[str, str]:
    """What a process of its own needs, to find the client."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": CLIENT, **more}


def run(script: str, *args: str) -> list[Any]:
    """Run a script; each line it prints is JSON."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *args],
        env=environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


FORKS = """
    import json, os, sys, threading, time
    from bestbefore_client import Recorder

    recorder = Recorder(sys.argv[1], model="m", version="1", topic_prefix=sys.argv[2], backend=sys.argv[3])
    recorder.record("p-first")
    recorder.flush(30)
    recorder.record("p-waits")
    going, count = threading.Event(), [0]

    def hammer():  # so that some lock is held whenever a fork happens
        while not going.is_set():
            recorder.record(f"p-{count[0]}", features={"x": 1.0})
            count[0] += 1
            if count[0] % 50 == 0:
                time.sleep(0.001)

    thread = threading.Thread(target=hammer)
    thread.start()
    for i in range(6):
        if os.fork() == 0:
            fresh = recorder.stats()
            recorder.record(f"c-{i}")
            sent = recorder.close(30) if i % 2 else None  # the others leave it to the end of their process
            os.write(1, (json.dumps([fresh.recorder, fresh.pending, fresh.recorded, sent]) + "\\n").encode())
            sys.exit(0)
    for _ in range(6):
        os.wait()
    going.set()
    thread.join()
    closed = recorder.close(30)
    os.write(1, (json.dumps([recorder.id, count[0], recorder.stats().recorded, closed]) + "\\n").encode())
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_forked_child_begins_afresh_and_the_parent_sends_what_it_held(broker: str, backend: str) -> None:
    prefix = fresh_prefix(broker)
    *children, parent = run(FORKS, broker, prefix, backend)
    assert len(children) == 6
    assert len({recorder for recorder, *_ in children} | {parent[0]}) == 7, "each process has an id of its own"
    assert all([pending, recorded] == [0, 0] and sent in (None, True) for _, pending, recorded, sent in children)
    _, count, recorded, closed = parent
    assert (recorded, closed) == (count + 2, True)
    records = consumed(broker, f"{prefix}inference", 8)
    expected = {"p-first", "p-waits", *(f"p-{i}" for i in range(count)), *(f"c-{i}" for i in range(6))}
    found = rows(records)
    assert set(found) == expected
    assert sum(beat["recorded"] for beat in heartbeats(records)) == len(expected)


EXIT = """
    import atexit, json, logging, sys, time
    began = []
    atexit.register(lambda: print(json.dumps(time.monotonic() - began[0])))
    from bestbefore_client import Recorder

    logging.getLogger("bestbefore_client").setLevel(logging.CRITICAL)
    recorders = [Recorder(sys.argv[1], model=m, version="1", backend=sys.argv[2]) for m in "abc"]
    for recorder in recorders:
        for i in range(5000):
            recorder.record(f"r-{i}", features={"x": 1.0})
    if sys.argv[3] == "later":
        time.sleep(0.3)
    began.append(time.monotonic())
"""


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("when", ["at once", "later"])
def test_a_dead_broker_holds_up_the_end_of_a_process_for_a_second_in_all(backend: str, when: str) -> None:
    (seconds,) = run(EXIT, NOWHERE, backend, when)
    assert seconds <= 1.0


APP = """
import json, os, time
from bestbefore_client import Recorder

recorder = Recorder(os.environ["BROKER"], model="m", version="1", topic_prefix=os.environ["PREFIX"], frame_seconds=0.2,
                    heartbeat_seconds=0.5)
recorder.record("loaded")


def wsgi(environ, start_response):
    name = environ["PATH_INFO"][1:]
    recorder.record(name, features={"pid": os.getpid()})
    time.sleep(0.05)  # so that the other worker takes the next request
    start_response("200 OK", [("content-type", "text/plain")])
    return [str(os.getpid()).encode()]


async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        recorder.close(5)  # uvicorn ends its workers by a signal, which skips Python's exit handlers
        await send({"type": "lifespan.shutdown.complete"})
        return
    recorder.record(scope["path"][1:], features={"pid": os.getpid()})
    time.sleep(0.05)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""

SERVERS = {
    "gunicorn": ["gunicorn", "app:wsgi", "--preload", "--workers", "2", "--bind", "127.0.0.1:{port}"],
    "uvicorn": [
        "uvicorn",
        "app:asgi",
        "--workers",
        "2",
        "--host",
        "127.0.0.1",
        "--port",
        "{port}",
        "--lifespan",
        "on",
    ],
}


@contextmanager
def serving(kind: str, folder: Path, broker: str, prefix: str) -> Iterator[int]:
    """A server with two workers, asked to stop at the end; its port."""
    (folder / "app.py").write_text(APP)
    port = free_port()
    argv = [sys.executable, "-m", *(part.format(port=port) for part in SERVERS[kind])]
    server = subprocess.Popen(argv, cwd=folder, env=environment(BROKER=broker, PREFIX=prefix))
    try:
        yield port
    finally:
        server.terminate()
        server.wait(30)


def answer(port: int, path: str) -> str | None:
    """What a server says; None when it does not answer yet."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", f"/{path}")
        return connection.getresponse().read().decode()
    except OSError:
        return None
    finally:
        connection.close()


@pytest.mark.parametrize(("kind", "processes"), [("gunicorn", 3), ("uvicorn", 2)])
def test_every_worker_of_a_server_records(kind: str, processes: int, broker: str, tmp_path: Path) -> None:
    """gunicorn forks its workers off a process that has recorded; uvicorn's import the application themselves."""
    prefix = fresh_prefix(broker)
    asked: dict[str, str] = {}
    with serving(kind, tmp_path, broker, prefix) as port:
        until(lambda: answer(port, "up") is not None)
        deadline = time.monotonic() + 30
        with ThreadPoolExecutor(4) as pool:
            while len(set(asked.values())) < 2 and time.monotonic() < deadline:
                names = [f"r-{len(asked) + i}" for i in range(4)]
                asked.update(zip(names, pool.map(lambda name: answer(port, name) or "", names), strict=True))
        wanted = {"loaded", *asked}
        until(lambda: wanted <= set(rows(consumed(broker, f"{prefix}inference", 1))))
        until(lambda: len(counted(broker, prefix)) == processes)
    found = rows(consumed(broker, f"{prefix}inference", 1))
    assert len(set(asked.values())) == 2
    assert {name: f"{found[name]['features.pid']:.0f}" for name in asked} == asked


def counted(broker: str, prefix: str) -> set[str]:
    """The recorders that have said in a heartbeat that they recorded something."""
    beats = heartbeats(consumed(broker, f"{prefix}inference", 1))
    return {beat["recorder"] for beat in beats if beat["recorded"]}
