"""Topics of other servers, and single events, while a worker is killed and partitions change hands."""

import json
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic

from streams.event_store import EventStore
from streams.settings import Settings
from tests.broker_rig import environment, fresh_settings, inference
from tests.faults.crew import crew
from tests.faults.topic import Progress, read_topic
from tests.faults.traffic import HOUR_US, PARTITIONS, text, window

EVENTS, STEP_US, WITHIN_US, RATE = 4_000, 10_000_000, 600_000_000, 600
PATIENCE = 120.0
SOURCES = """
sources:
  - topics: "{prefix}*"
    adapter: kserve
    version: {{fixed: "3"}}
    features: [age, income]
    output: {{scores: output, classes: ["no", "yes"]}}
    pair: {{within: 10 minutes}}
"""


class Sent(NamedTuple):
    """A record, when in event time it is sent, and what is to become of it."""

    due_us: int
    topic: str
    value: bytes
    key: bytes
    headers: list[tuple[str, bytes]]
    window: tuple[str, int] | None = None  # where it counts once
    dead: bool = False


def half(topic: str, side: str, name: str, at: int, **fate: Any) -> Sent:
    """One half as KServe's logger sends it."""
    attributes = {
        "specversion": "1.0", "id": name, "source": "s", "type": f"org.kubeflow.serving.inference.{side}",
        "time": text(at), "inferenceservicename": "loan",
    }  # fmt: skip
    body = {"instances": [[41, 1800.5]]} if side == "request" else {"predictions": [[0.25, 0.75]]}
    headers = [(f"CE_{key}" if side == "request" else f"ce_{key}", v.encode()) for key, v in attributes.items()]
    return Sent(at, topic, json.dumps(body).encode(), name.encode(), headers, **fate)


def traffic(single: str, paired: str, start: int) -> list[Sent]:
    """Single events and halves, one in fifteen of them alone, responses before their requests, and poison."""
    rng, found = random.Random(7), []
    for i in range(EVENTS):
        at = start + i * STEP_US
        name = f"r-{i}"
        found.append(Sent(at, single, inference(i, at), name.encode(), [], window=("m", window(at, HOUR_US))))
        answered = at + rng.randrange(60_000_000)
        if rng.random() < 1 / 15:
            found.append(half(paired, rng.choice(["request", "response"]), name, at, dead=True))
        else:
            told = at + rng.randrange(-5_000_000, 5_000_000) if rng.random() < 0.2 else at
            request, fate = max(told, start), ("loan", window(answered, HOUR_US))
            found += [half(paired, "request", name, at)._replace(due_us=request)]
            found += [half(paired, "response", name, answered, window=fate)]
        if rng.random() < 0.01:
            found.append(Sent(at, rng.choice([single, paired]), b"\xff not a record", name.encode(), [], dead=True))
    return sorted(found, key=lambda record: record.due_us)


class Oracle:
    """Sends, and adds up what the broker has acknowledged."""

    def __init__(self, broker: str, records: list[Sent]) -> None:
        self.records, self.sent = records, 0
        self.counted: Counter[tuple[str, int]] = Counter()
        self.dead: set[tuple[str, int, int]] = set()
        self._producer = KafkaProducer(bootstrap_servers=broker, acks="all", linger_ms=5)
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        began, waiting = time.monotonic(), []
        for record in self.records:
            ahead = began + self.sent / (3 * RATE) - time.monotonic()
            if ahead > 0.01:
                time.sleep(ahead)
            future = self._producer.send(
                record.topic, record.value, record.key, headers=record.headers, timestamp_ms=record.due_us // 1000
            )
            waiting.append((record, future))
            self.sent += 1
        for record, future in waiting:
            place = future.get(30)
            if record.window is not None:
                self.counted[record.window] += 1
            if record.dead:
                self.dead.add((place.topic, place.partition, place.offset))

    def close(self, single: str, paired: str, at: int) -> None:
        """Move every partition's clock beyond all windows, and what waits beyond its time."""
        for partition in range(PARTITIONS):
            self._producer.send(single, inference(-1, at).replace(b'"m"', b'"end"'), partition=partition)
            for side in ("request", "response"):
                last = half(paired, side, f"end-{partition}", at)
                headers = [(k, b"end" if k.lower() == "ce_inferenceservicename" else v) for k, v in last.headers]
                self._producer.send(paired, last.value, partition=partition, headers=headers, timestamp_ms=at // 1000)
        self._producer.flush()
        self._producer.close()


@pytest.fixture
def place(broker: str, store_url: str, tmp_path: Path) -> tuple[Settings, str]:
    """Settings with topics of this test's own, and one of another server."""
    prefix = f"knative-{uuid.uuid4().hex[:8]}."
    file = tmp_path / "sources.yaml"
    file.write_text(SOURCES.format(prefix=prefix))
    admin = KafkaAdminClient(bootstrap_servers=broker)
    admin.create_topics([NewTopic(f"{prefix}loan", PARTITIONS, 1)])
    admin.close()
    given = {"commit_every": "300 ms", "sources": str(file)}
    return msgspec.structs.replace(fresh_settings(broker, store_url, PARTITIONS), **given), f"{prefix}loan"


def moved_back(progress: Progress, so_far: dict[Any, int]) -> Iterator[Any]:
    """Partitions whose committed offset is lower than it was."""
    for place, offset in progress.committed().items():
        if offset < so_far.get(place, 0):
            yield place, so_far[place], offset
        so_far[place] = offset


def buried(settings: Settings) -> set[tuple[str, int, int]]:
    """Where the dead letters came from."""
    letters = [dict(record.headers) for record in read_topic(settings.broker, settings.topic("dead-letters"))]
    topic, partition, offset = (f"__connect.errors.{name}" for name in ("topic", "partition", "offset"))
    return {(one[topic].decode(), int(one[partition]), int(one[offset])) for one in letters}


def test_events_of_other_servers_are_counted_once_through_kill_and_rebalance(
    place: tuple[Settings, str], tmp_path: Path
) -> None:
    settings, paired = place
    single = settings.topic("inference")
    start = window(time.time_ns() // 1000 - 24 * HOUR_US, HOUR_US)
    oracle = Oracle(settings.broker, traffic(single, paired, start))
    store, progress = EventStore(settings.store), Progress(settings.broker, settings.group, [single, paired])
    so_far: dict[Any, int] = {}
    back: list[Any] = []

    def wait(true: Any) -> None:
        ends = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < ends, f"what was waited for did not come\n{workers.logs()}"
            back.extend(moved_back(progress, so_far) if oracle.sent else ())
            time.sleep(0.2)

    def counted() -> Counter[tuple[str, int]]:
        models = (("m", "1"), ("loan", "3"))
        return Counter({(m, row.window_start_us): row.n for m, v in models for row in store.windows(m, v) if row.n})

    with crew(tmp_path, environment(settings)) as workers:
        first, second = workers.start(), workers.start()
        wait(lambda: first.ready and second.ready)
        oracle.thread.start()
        wait(lambda: oracle.sent > len(oracle.records) // 4 and sum(so_far.values()) > 0)
        workers.replace(first)
        wait(lambda: oracle.sent > len(oracle.records) // 2)
        workers.remove(second, killed=False)
        oracle.thread.join()
        oracle.close(single, paired, start + EVENTS * STEP_US + 6 * HOUR_US)
        wait(lambda: sum(counted().values()) >= sum(oracle.counted.values()))
        wait(lambda: len(buried(settings)) >= len(oracle.dead))
        assert counted() == oracle.counted
        assert buried(settings) == oracle.dead
        workers.look_after()
        assert not workers.ended
    assert not back
    progress.close()
    store.close()
