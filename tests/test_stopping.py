"""A worker that is asked to stop ends within ten seconds with status 0, whatever store and broker are doing."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
from sqlalchemy import URL, make_url

from infra.local.kafka import Broker
from streams.settings import Settings
from tests.broker_rig import BASE, fresh_settings, inference, produce
from tests.faults.crew import Worker
from tests.faults.traffic import HOUR_US
from tests.health_rig import Relay, get, relayed, within, workplace

PROMISED = 10.0  # seconds from the signal to the end
RECORDS = 30_000


class Running(NamedTuple):
    """A worker and the port of its pages."""

    worker: Worker
    port: int

    def waits_for(self, service: str) -> None:
        """It says within ten seconds for whom it waits, and that this is no reason to end it."""
        within(PROMISED, lambda: get(self.port, "/ready") == (503, f"waiting for {service}\n"))
        assert get(self.port, "/live")[0] == 200

    def ends(self) -> None:
        """The signal ends it in time, with status 0."""
        began = time.monotonic()
        assert self.worker.stop(PROMISED) == 0, self.worker.log.read_text()
        assert time.monotonic() - began <= PROMISED


@contextmanager
def running(folder: Path, **settings: Settings) -> Iterator[list[Running]]:
    """Workers that are ready, each in a group of its own."""
    made: list[Running] = []
    try:
        for name, mine in settings.items():
            environment, port = workplace(mine, group=f"{mine.group}-{name}")
            made.append(Running(Worker(folder, name, environment), port))
        for one in made:
            within(60, lambda port=one.port: get(port, "/ready")[0] == 200)  # type: ignore[misc]
        yield made
    finally:
        for one in made:
            one.worker.kill()


def behind(relay: Relay, settings: Settings) -> Settings:
    """The same store by way of the relay."""
    url = make_url(settings.store).set(host="127.0.0.1", port=relay.port)
    return msgspec.structs.replace(settings, store=url.render_as_string(hide_password=False))


def test_with_a_backlog_and_a_store_that_answers_that_is_frozen_and_that_is_gone(
    broker: str, store_url: str, tmp_path: Path
) -> None:
    """Windows are open and records wait. Frozen: half-open, nothing comes back and nobody says so."""
    settings = msgspec.structs.replace(fresh_settings(broker, store_url), keep_rate=1.0)
    url = make_url(store_url)
    where = (url.host or "127.0.0.1", url.port or 5432)
    with (
        relayed(*where) as frozen,
        relayed(*where) as shut,
        running(tmp_path, well=settings, frozen=behind(frozen, settings), shut=behind(shut, settings)) as workers,
    ):
        well, *others = workers
        frozen.freeze()
        shut.shut()
        produce(settings, "inference", [inference(i, BASE + i * HOUR_US // 1000) for i in range(RECORDS)])
        well.ends()
        for worker in others:
            worker.waits_for("store")
            worker.ends()


def test_with_a_broker_that_is_frozen_and_that_is_gone(tmp_path: Path) -> None:
    server = Broker(tmp_path / "broker")
    server.start()
    store = URL.create("sqlite", database=str(tmp_path / "store.db")).render_as_string()
    settings = fresh_settings(server.address, store)
    try:
        with running(tmp_path, one=settings, two=settings) as (one, two):
            process = server.process()
            assert process is not None
            process.send_signal(signal.SIGSTOP)
            one.waits_for("broker")
            one.ends()
            server.kill()
            two.waits_for("broker")
            two.ends()
    finally:
        server.kill()
