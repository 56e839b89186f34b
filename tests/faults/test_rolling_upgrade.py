"""Workers are replaced one by one by those of this version, while traffic flows and the tables are migrated."""

import asyncio
import random
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import text as sql

from infra import migrate
from infra.dead_letters import read as read_dead_letters
from infra.local.services import Services
from infra.topic_admin import create_topics
from streams.event_store import EventStore, wall_clock_us
from streams.settings import Settings
from streams.store_schema import OLDEST_TABLES
from tests.faults.checker import verdict
from tests.faults.crew import Worker, crew
from tests.faults.play import settle
from tests.faults.proxy import Proxy
from tests.faults.rig import GROUP, Rig, environment, register
from tests.faults.sender import Sender
from tests.faults.traffic import DAY_US, PARTITIONS, Traffic
from tests.faults.watch import Watch
from tests.previous import unpacked

SEED, DAYS_PER_SECOND, PATIENCE = 6, 1.0, 120.0
DECAYED = 28  # days after which a retraining has been asked for


class Little(Traffic):
    """Fewer events of the same kinds, for as long as the upgrade takes; the decay takes its 40 days."""

    frames_per_day, frame_rows, singles_per_day = 4, 200, 60

    def __init__(self) -> None:
        super().__init__(SEED, days=400, generation=400)

    def answers(self, day: int, rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Decays in a tenth of the days, and is as bad from then on."""
        return super().answers(min(day, 39) * 10, rows)


@pytest.fixture
def place(services: Services, store_url: str, tmp_path: Path) -> Iterator[Rig]:
    """The shared broker with topics of its own, the tables of the previous version; nothing is hurt on the way."""
    prefix = f"upgrade-{uuid.uuid4().hex[:8]}."
    settings = Settings(
        broker=services.broker, store=store_url, group=GROUP, topic_prefix=prefix, partitions=PARTITIONS
    )
    migrate.upgrade(store_url, OLDEST_TABLES)
    create_topics(settings)
    register(store_url, Little().versions)
    names = environment(services.broker, store_url, BESTBEFORE_TOPIC_PREFIX=prefix)
    sender, unused = Sender(services.broker, prefix, tmp_path / "sent.log"), Proxy(0, 0)
    unused.start()
    own = Services(broker=services.broker, store=store_url)
    with crew(tmp_path, names) as hired:
        yield Rig(tmp_path, own, settings, hired, sender, unused, unused, random.Random(SEED))
    unused.stop()


def until(rig: Rig, true: Callable[[], Any], what: str) -> None:
    """Wait for something; the test fails when it does not come, or when a worker ends."""
    ends = time.monotonic() + PATIENCE
    while not true():
        ended = [worker.name for worker in rig.crew.workers if worker.process.poll() is not None]
        assert not ended, f"worker {ended} ended before {what}" + rig.crew.logs()
        assert time.monotonic() < ends, f"{what} did not come" + rig.crew.logs()
        time.sleep(0.05)


def left(rig: Rig, worker: Worker) -> None:
    """Ask a worker to end, as an orchestrator does."""
    rig.crew.workers.remove(worker)
    assert worker.stop() == 0, rig.crew.logs()


def reads(worker: Worker, since: int = 0) -> set[str]:
    """Partitions of the inferences that a worker has taken over, by what its log says from a place on."""
    return set(re.findall(r"inference\[(\d+)\]: reading from offset", worker.log.read_text()[since:]))


def alone(rig: Rig, worker: Worker, other: Worker) -> None:
    """The other is paused beyond its session: this one gets all, goes on with its states, and then shares again."""
    since = len(worker.log.read_text())
    other.pause()
    until(rig, lambda: len(reads(worker, since)) == PARTITIONS, f"all partitions to worker {worker.name}")
    now = wall_clock_us()
    until(rig, lambda: written_at(rig) > now, f"a state by worker {worker.name}")
    since = len(other.log.read_text())
    other.go_on()
    until(rig, lambda: reads(other, since), f"partitions back to worker {other.name}")


def written_at(rig: Rig) -> int:
    """When the state of the described model was written last."""
    store = EventStore(rig.services.store)
    with store._reading() as connection:
        found = connection.execute(
            sql("SELECT max(updated_at_us) FROM estimator_state WHERE model = 'digits'")
        ).scalar()
    store.close()
    return found or 0


def upgrade(rig: Rig) -> None:
    """One of two workers is replaced, all goes to the new one and back to the old one, then the other is replaced."""
    first, second = rig.crew.workers
    until(rig, lambda: written_at(rig), "the first state")
    left(rig, first)
    new = rig.crew.start()  # on the tables of the old version
    until(rig, lambda: new.ready and reads(new), "partitions to the new worker")
    assert migrate.upgrade(rig.services.store) == migrate.head()
    alone(rig, new, second)
    alone(rig, second, new)
    newer = rig.crew.start()
    until(rig, lambda: newer.ready, "the second new worker")
    left(rig, second)


@pytest.mark.timeout(300)
def test_a_rolling_upgrade_loses_nothing_and_counts_nothing_twice(place: Rig, tmp_path: Path) -> None:
    """Counters equal the oracle, one trigger for a cause, dead letters just the poison, no offset ever moves back."""
    home, traffic = unpacked(tmp_path / "previous"), Little()
    send = place.sender.send(traffic, DAYS_PER_SECOND * DAY_US)
    sending = threading.Thread(target=lambda: asyncio.run(send), name="sender")
    with Watch(place) as watch:
        for worker in (place.crew.start(home), place.crew.start(home)):
            until(place, lambda worker=worker: worker.ready, "the old workers")  # type: ignore[misc]
        sending.start()
        upgrade(place)
        until(place, lambda: place.sender.due_us > traffic.start + DECAYED * DAY_US, "the decay")
        place.sender.stop()
        sending.join()
        settle(place, watch)
        assert not watch.backwards, "\n".join(watch.backwards)
    found = verdict(place)
    assert place.sender.events > DECAYED * 800
    assert not found.broken(), "\n".join(found.broken()) + place.crew.logs()
    assert found.triggers, place.crew.logs()
    letters = read_dead_letters(place.settings, None)
    assert {(one.topic, one.partition, one.offset) for one in letters} == place.sender.poison != set()
    assert {(one.stage, one.value) for one in letters} == {("DECODE", b"{no json")}
    assert [worker.stop() for worker in place.crew.workers] == [0, 0], place.crew.logs()
