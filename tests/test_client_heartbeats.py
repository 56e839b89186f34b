"""What a recorder says of itself: heartbeats with what was recorded, left out and lost; and sampling by id."""

import json
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bestbefore_client import Recorder, sampled
from bestbefore_client.events import NEVER
from bestbefore_client.heartbeat import Heart
from bestbefore_client.ledger import Ledger
from bestbefore_client.messages import rfc3339

from infra.local.kafka import Broker
from tests.client_rig import BACKENDS, NOWHERE, consumed, fresh_prefix, heartbeats, is_heartbeat, rows, until

NOW = 1_795_168_800_000_000


def heart(ledger: Ledger, clock: Any = lambda: NOW) -> Heart:
    made = Heart(ledger, 5.0, clock, recorder="r", model="digits", version="3", sampling=0.5)
    made.begin()
    return made


def bodies(messages: list[Any]) -> list[dict[str, Any]]:
    return [json.loads(message.value) for message in messages]


# --- without a broker


def test_a_beat_is_as_agreed() -> None:
    ledger = Ledger(100, 10_000)
    ledger.recorded, ledger.sampled_out = 512, 20
    ledger.drop("full", 3)
    (message,) = heart(ledger).beats(NEVER, NOW, [None], "digits")
    assert (message.topic, message.key, message.items) == ("inference", "digits", 0)
    assert message.headers == [("content-type", b"application/vnd.bestbefore.heartbeat+json")]
    assert json.loads(message.value) == {
        "recorder": "r", "seq": 1, "time": rfc3339(NOW), "model": "digits", "version": "3", "recorded": 512,
        "sampled_out": 20, "dropped": {"full": 3}, "sampling": 0.5,
    }  # fmt: skip


def test_what_a_lost_beat_said_is_said_again() -> None:
    ledger = Ledger(100, 10_000)
    ours = heart(ledger)
    ledger.recorded = 10
    ledger.drop("full", 3)
    (lost,) = ours.beats(NEVER, NOW, [None], "m")
    assert ours.left() == float("inf"), "one round at a time"
    assert not ours.unsaid()
    assert lost.landed is not None
    lost.landed(TimeoutError())
    ledger.recorded = 15
    ledger.drop("invalid", 1)
    (second,) = ours.beats(NEVER, NOW, [None], "m")
    (said,) = bodies([second])
    assert (said["seq"], said["recorded"], said["dropped"]) == (2, 15, {"full": 3, "invalid": 1})
    assert second.landed is not None
    second.landed(None)
    (third,) = bodies(ours.beats(NEVER, NOW, [None], "m"))
    assert (third["recorded"], third["dropped"], ours.acknowledged) == (0, {}, 1)


def test_each_partition_gets_a_beat_and_the_counts_stand_in_one() -> None:
    ledger = Ledger(100, 10_000)
    ledger.recorded = 7
    beats = heart(ledger).beats(NEVER, NOW, [0, 1, 2], None)
    assert [message.partition for message in beats] == [0, 1, 2]
    assert [(b["seq"], b["recorded"]) for b in bodies(beats)] == [(1, 7), (2, 0), (3, 0)]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (NEVER, NOW - 10, NOW - 10),  # nothing waits: the newest event, moved on by the time since
        (NOW - 50, NOW - 10, NOW - 50),  # never beyond what still waits
        (NEVER, NOW + 9_000_000, NOW),  # nor beyond the clock
        (NEVER, -NEVER, NOW),  # every event was left out
        (NEVER, 1_000_000, 1_000_000),  # recorded years later: nothing of what follows becomes late
    ],
)
def test_the_time_of_a_beat(low: int, high: int, expected: int) -> None:
    ledger = Ledger(100, 10_000)
    ledger.recorded = 1
    (said,) = bodies(heart(ledger).beats(low, high, [None], "m"))
    assert rfc3339(expected) <= said["time"] <= rfc3339(min(expected + 1_000_000, max(NOW, expected)))


def test_no_thread_before_the_first_record_nor_after_close() -> None:
    before = set(threading.enumerate())
    recorder = Recorder(NOWHERE, model="m", version="1", heartbeat_seconds=0.01)
    assert recorder.stats().recorded == 0
    assert recorder.close()
    recorder.record("late")
    recorder.record_many(["late"])
    assert set(threading.enumerate()) <= before
    with Recorder(NOWHERE, model="m", version="1", sampling_rate=0.0) as none:
        none.record("left out")
        assert none.stats()[1:6] == (1, 1, 0, {}, 0)
        none.close(0.0)


def test_sampling_takes_the_same_ids_one_by_one_and_as_columns() -> None:
    ids = [f"r-{i}" for i in range(2000)]
    kept = sum(sampled(name, 0.25) for name in ids)
    with Recorder(NOWHERE, model="m", version="1", sampling_rate=0.25, input_rate=0.5) as one:
        for name in ids:
            one.record(name)
        one.record_many(ids, features={"x": np.arange(2000.0)}, label=list("ab") * 1000)
        stats = one.stats()
        assert (stats.recorded, stats.sampled_out, stats.pending) == (4000, 2 * (2000 - kept), 2 * kept)
        assert one.input_rate == 0.25, "no input of an event that is not sent"
        one.close(0.0)


# --- with a real broker


@pytest.mark.parametrize("backend", BACKENDS)
def test_beats_account_for_everything(broker: str, backend: str) -> None:
    prefix = fresh_prefix(broker)
    ids = [f"r-{i}" for i in range(400)]
    client = Recorder(
        broker, model="m", version="1", topic_prefix=prefix, backend=backend, key=None, sampling_rate=0.5,
        heartbeat_seconds=0.1, max_events=100,
    )  # fmt: skip
    began = rfc3339(time.time_ns() // 1000)
    client.record("", features={})
    for name in ids:
        client.record(name, sampling=0.5)
    client.record_many(ids, features={"x": np.arange(400.0)}, latency_ms=np.ones(400))
    assert client.flush(30)
    until(lambda: client.stats().heartbeats >= 4)
    client.close(30)
    stats = client.stats()
    records = consumed(broker, f"{prefix}inference", 1)
    beats = heartbeats(records)
    dropped: Counter[str] = Counter()
    for beat in beats:
        dropped.update(beat["dropped"])
    assert dropped == stats.dropped
    assert dropped["full"] > 0
    assert dropped["invalid"] == 1
    assert sum(beat["recorded"] for beat in beats) == stats.recorded == 801
    assert sum(beat["sampled_out"] for beat in beats) == stats.sampled_out > 300
    assert [beat["seq"] for beat in beats] == list(range(1, len(beats) + 1))
    assert {r.partition for r in records if is_heartbeat(r)} == {0, 1}
    assert {beat["recorder"] for beat in beats} == {client.id}
    assert all(began <= beat["time"] <= rfc3339(time.time_ns() // 1000) for beat in beats)
    found = rows(records)
    assert len(found) <= stats.delivered
    assert set(found) <= {name for name in ids if sampled(name, 0.5)}
    assert {row["sampling"] for row in found.values()} <= {0.25, 0.5}


def test_an_outage_is_survived_and_told(tmp_path: Path) -> None:
    """The broker is killed with events on their way, comes back, and learns what was lost while it was away."""
    own = Broker(tmp_path)
    own.start()
    prefix = fresh_prefix(own.address)
    clients = [
        Recorder(
            own.address, model=backend, version="1", topic_prefix=prefix, backend=backend, max_events=300,
            frame_rows=50, heartbeat_seconds=0.2,
        )
        for backend in BACKENDS
    ]  # fmt: skip
    for client in clients:
        client.record(f"{client.model}-before")
        assert client.flush(30)
    own.kill()
    for client in clients:
        for i in range(1000):
            client.record(f"{client.model}-{i}", features={"x": float(i)})
        assert client.pending == 300
        assert client.dropped == {"full": 700}
    own.start()
    assert all(client.flush(60) for client in clients)
    assert all(client.close(30) for client in clients)
    records = consumed(own.address, f"{prefix}inference", 14)
    own.stop()
    assert set(rows(records)) == {f"{b}-before" for b in BACKENDS} | {f"{b}-{i}" for b in BACKENDS for i in range(300)}
    for client in clients:
        told = [beat for beat in heartbeats(records) if beat["recorder"] == client.id]
        assert sum(beat["dropped"].get("full", 0) for beat in told) == 700
        assert sum(beat["recorded"] for beat in told) == 1001
