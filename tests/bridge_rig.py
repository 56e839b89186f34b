"""A bridge as a process of its own, and what tests send to it."""

import http.client
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
import psutil  # type: ignore[import-untyped]
from kafka.admin import KafkaAdminClient

from streams.settings import Settings
from tests.broker_rig import environment
from tests.faults.topic import read_topic
from tests.health_rig import Samples, samples, within
from tests.sources_rig import CONFIG

ROOT = Path(__file__).parents[1]
JSON = {"content-type": "application/json"}


class Answer(NamedTuple):
    """What the bridge said."""

    status: int
    text: str
    headers: dict[str, str]


class Running:
    """A bridge that runs."""

    def __init__(self, process: "subprocess.Popen[str]", url: str, errors: Path) -> None:
        self.process, self.url, self._errors = process, url, errors
        self.port = urlsplit(url).port or 0

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None, patience: float = 30) -> Answer:
        """Send a request; bodies that are no bytes become JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=patience)
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        try:
            connection.request("POST", path, content, JSON if headers is None else headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read().decode(), {k.lower(): v for k, v in answer.getheaders()})
        finally:
            connection.close()

    def samples(self, token: str = "") -> Samples:
        """What `/metrics` says."""
        return samples(self.port, token)

    def waiting(self, token: str = "") -> int:
        """Records that are not acknowledged yet."""
        return int(self.samples(token)["bestbefore_bridge_queue_records", ()])

    def memory(self) -> int:
        """Bytes of memory that the process takes."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def end(self, patience: float = 15) -> tuple[int, str]:
        """Ask it to stop; its exit status, and what it said on stderr."""
        self.process.terminate()
        status = self.process.wait(patience)
        return status, self._errors.read_text()


@contextmanager
def bridge(settings: Settings, folder: Path, **more: str) -> Iterator[Running]:
    """A bridge on a free port that knows the sources of tests/data/sources; `more` are settings in the environment."""
    given = {
        **environment(settings), "BESTBEFORE_BRIDGE_PORT": "0", "BESTBEFORE_SOURCES": str(CONFIG),
        "BESTBEFORE_BRIDGE_HEADERS": "x-site", "PYTHONPATH": f"{ROOT}:{ROOT / 'client'}", "OMP_NUM_THREADS": "1",
        **{f"BESTBEFORE_{name.upper()}": value for name, value in more.items()},
    }  # fmt: skip
    errors = folder / "bridge.err"
    with errors.open("w") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "infra.cli", "bridge"], env=given, cwd=folder, text=True, stderr=err,
            stdout=subprocess.PIPE,
        )  # fmt: skip
    watch = threading.Timer(60, process.kill)
    watch.start()
    assert process.stdout is not None
    line = process.stdout.readline()
    watch.cancel()
    assert line.startswith("bridge  http://"), errors.read_text()
    try:
        yield Running(process, line.split()[1], errors)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()


def make_topics(settings: Settings, *names: str, partitions: int = 1) -> None:
    """Topics of other servers."""
    admin = KafkaAdminClient(bootstrap_servers=settings.broker)
    wanted = {name: {"num_partitions": partitions, "replication_factor": 1} for name in names}
    admin.create_topics(wanted, wait_for_metadata=True)
    admin.close()


def arrived(settings: Settings, topic: str, n: int) -> list[Any]:
    """The records of a topic, as soon as there are `n`."""
    found: list[Any] = []

    def there() -> bool:
        found[:] = read_topic(settings.broker, topic)
        return len(found) >= n

    within(30, there)
    return found


def event(name: str, **fields: Any) -> dict[str, Any]:
    """An inference event."""
    return {
        "id": name, "time": "2026-11-20T10:00:00.123Z", "model": "loan", "version": "3", "features": {"age": 41.0},
        "output": {"label": "yes"}, **fields,
    }  # fmt: skip
