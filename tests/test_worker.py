"""How a worker process starts and ends."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from faust.types import TP

from streams.event_store import EventStore
from streams.settings import Settings
from streams.watchdog import EXIT_WEDGED
from tests.broker_rig import BASE, environment, fresh_settings, ignore, inference, produce, reader, started, until
from tests.faults.crew import ROOT, Worker
from tests.faults.traffic import HOUR_US


@pytest.fixture
def settings(broker: str, store_url: str) -> Settings:
    """Topics and tables of this test's own."""
    return fresh_settings(broker, store_url)


def test_a_signal_ends_the_worker_and_its_frontier_is_committed(settings: Settings, tmp_path: Path) -> None:
    """The next worker goes on where this one stopped; here nothing was committed before the end."""
    produce(settings, "inference", [inference(i, BASE + i * HOUR_US) for i in range(8)])
    store = EventStore(settings.store)
    worker = Worker(tmp_path, "one", environment(settings))
    try:

        async def settled() -> None:
            await until(lambda: len(store.windows("m", "1")) == 6)
            await asyncio.sleep(1)  # what is half written at the signal is not committed, but read again

        asyncio.run(settled())
        assert worker.stop() == 0, worker.log.read_text()
    finally:
        worker.kill()
        store.close()

    async def committed() -> int:
        async with started(reader(settings, ignore)) as consumer:
            return (await consumer.committed(TP(settings.topic("inference"), 0)))[0] or 0

    assert asyncio.run(committed()) >= 6


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"BESTBEFORE_BROKER": "127.0.0.1:9"}, "no Kafka broker answers at 127.0.0.1:9"),
        ({"BESTBEFORE_STORE": "postgresql://u:secret@127.0.0.1:9/x"}, "postgres 127.0.0.1:9/x"),
        ({"BESTBEFORE_TOPIC_PREFIX": "nobody-made-these."}, "topic nobody-made-these.inference is missing"),
    ],
)
def test_a_worker_that_cannot_start_says_why_in_one_line(
    settings: Settings, tmp_path: Path, wrong: dict[str, str], message: str
) -> None:
    """And ends with status 2, so that an orchestrator tries again later."""
    worker = Worker(tmp_path, "one", {**environment(settings), **wrong})
    try:
        assert worker.process.wait(60) == 2, worker.log.read_text()
    finally:
        worker.kill()
    said = [line for line in worker.log.read_text().splitlines() if line.startswith("bestbefore:")]
    assert len(said) == 1, worker.log.read_text()
    assert message in said[0]
    assert "secret" not in worker.log.read_text()
    assert "Traceback" not in worker.log.read_text()


def test_a_wedged_event_loop_ends_the_worker() -> None:
    """It could not tell of itself; its partitions go to another worker."""
    program = (
        "import asyncio, time\n"
        "from streams.watchdog import Watchdog\n"
        "async def main():\n"
        "    watchdog = Watchdog(0.5)\n"
        "    watchdog.start()\n"
        "    watchdog.beat()\n"
        "    time.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_WEDGED, done.stderr
    assert "event loop has not turned" in done.stderr
