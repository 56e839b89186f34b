"""The real pipeline for whoever acts on triggers: broker, Postgres, a worker process, models that decay on request.

`Pipeline.trigger("loan", "1")` sends a day of traffic of a model that turns bad and returns what the worker asked for.
What consumers answer is read from the topic (`answers`) and from the store (`recorded`).
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
import psycopg
import yaml
from bestbefore_client import CONTENT_TYPE, Repeated, encode_frame
from bestbefore_client.triggers import ANSWERS, NotATrigger, Trigger, open_triggers, read_trigger
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from infra.registering import register
from streams.event_store import EventStore
from streams.settings import Settings
from tests.broker_rig import environment, fresh_settings
from tests.faults.crew import Worker
from tests.faults.topic import read_topic
from tests.faults.traffic import HOUR_US, text

T = TypeVar("T")
N, GOOD, BAD = 200, 2, 7  # events of a window, windows before and after the fall


class Told(NamedTuple):
    """A lifecycle event as somebody sent it."""

    id: str
    kind: str
    trigger_id: str
    version: str


class Pipeline:
    """A worker on topics of its own, and what has come of it."""

    def __init__(self, settings: Settings, folder: Path, worker: Worker) -> None:
        self.settings, self.folder, self.worker = settings, folder, worker
        self.store = EventStore(settings.store)
        self.broker, self.prefix = settings.broker, settings.topic_prefix
        # Each model decays after the one before: their events would be late otherwise. None comes from the future.
        self._next_us = time.time_ns() // 1000 // HOUR_US * HOUR_US - 200 * HOUR_US

    @property
    def dsn(self) -> str:
        """Address of the store as libpq, and so psycopg, knows it."""
        return self.settings.store.replace("postgresql+psycopg://", "postgresql://")

    @property
    def topic(self) -> str:
        """Where the triggers are."""
        return self.settings.topic("retrain-triggers")

    def trigger(self, model: str, version: str = "1") -> Trigger:
        """Let a model decay, and wait for the one trigger that comes of it, on its topic as well."""
        described = descriptors(self.folder / f"{model}-{version}", model, version)
        done = register(described, self.settings, lambda: self.store, accept_mismatches=True)
        assert done.registered, done.lines
        active = f"reference of {model} {version} is active"
        wait_for(lambda: active in self.worker.log.read_text(errors="replace"), active)
        base, self._next_us = self._next_us, self._next_us + (GOOD + BAD + 1) * HOUR_US
        producer = KafkaProducer(bootstrap_servers=self.broker, acks="all")
        for window in range(GOOD + BAD):
            body = frame(model, version, window, base)
            headers = [("content-type", CONTENT_TYPE.encode())]
            producer.send(self.settings.topic("inference"), body, headers=headers)
        producer.close()

        def asked() -> Trigger | None:
            found = [t for t in self.triggers() if (t.model, t.version) == (model, version)]
            return found[0] if found else None

        found = wait_for(asked, f"a trigger of {model} {version}")
        wait_for(lambda: found.trigger_id in self.published(), f"trigger {found.trigger_id} on {self.topic}")
        return found

    def triggers(self) -> list[Trigger]:
        """Every trigger of the store."""
        return [read_trigger(event.body) for event in self.store.triggers()]

    def open(self) -> list[str]:
        """Ids of the triggers that the store calls open."""
        with psycopg.connect(self.dsn) as connection:
            return [trigger.trigger_id for trigger in open_triggers(connection)]

    def published(self) -> list[str]:
        """Ids of the triggers on the topic, repeats included."""
        return [trigger.trigger_id for record in read_topic(self.broker, self.topic) if (trigger := _read(record))]

    def repeat(self, trigger: Trigger) -> None:
        """Publish it once more, as the pipeline may after a crash."""
        (record, *_) = [r for r in read_topic(self.broker, self.topic) if _read(r) == trigger]
        producer = KafkaProducer(bootstrap_servers=self.broker, acks="all")
        producer.send(self.topic, record.value, key=record.key, headers=list(record.headers)).get(timeout=30)
        producer.close()

    def answers(self, trigger: Trigger) -> list[Told]:
        """What consumers have told of a trigger, in the order of the topic, repeats included."""
        found = []
        for record in read_topic(self.broker, self.settings.topic("lifecycle")):
            body = json.loads(record.value)
            ours = any(name == "ce_type" for name, _ in record.headers)
            if not ours and body.get("trigger_id") == trigger.trigger_id:
                found.append(Told(body["id"], body["kind"], trigger.trigger_id, body["version"]))
        return found

    def recorded(self, trigger: Trigger) -> list[str]:
        """The kinds of answers that the store has taken in; each id counts once."""
        bodies = [event.body for event in self.store.events(kind="lifecycle", limit=1000)]
        return [b["kind"] for b in bodies if b.get("trigger_id") == trigger.trigger_id and b["kind"] in ANSWERS]

    def answered(self, trigger: Trigger, kind: str = "retrained") -> list[str]:
        """Wait until the pipeline knows of an answer, and nothing is open any more; the kinds it knows."""
        wait_for(
            lambda: kind in self.recorded(trigger) and trigger.trigger_id not in self.open(),
            f"{kind} of trigger {trigger.trigger_id}",
        )
        return self.recorded(trigger)

    def committed(self, group: str) -> int:
        """How many records of the triggers' topic a group has done with."""
        consumer = KafkaConsumer(bootstrap_servers=self.broker, group_id=group, enable_auto_commit=False)
        try:
            places = [TopicPartition(self.topic, p) for p in sorted(consumer.partitions_for_topic(self.topic) or ())]
            return sum(consumer.committed(place) or 0 for place in places)
        finally:
            consumer.close()


def _read(record: Any) -> Trigger | None:
    """The trigger in a record; None for what a test has put among them."""
    try:
        return read_trigger(record.value, record.headers)
    except NotATrigger:
        return None


@contextmanager
def pipeline(broker: str, store_url: str, folder: Path) -> Iterator[Pipeline]:
    """A worker at work, gone at the end of the block."""
    made = fresh_settings(broker, store_url)
    # Inputs and labels never come here: windows need not wait for them.
    settings = msgspec.structs.replace(made, idle_after="1 s", assess_grace="1 s")
    worker = Worker(folder, "pipeline", environment(settings))
    running = Pipeline(settings, folder, worker)
    try:
        wait_for(lambda: worker.ready, f"the worker, see {worker.log}")
        yield running
    finally:
        worker.kill()
        running.store.close()


def wait_for(what: Callable[[], T | None], name: str, patience_s: float = 60) -> T:
    """Ask until there is an answer; the test fails without one."""
    ends = time.monotonic() + patience_s
    while not (found := what()):
        assert time.monotonic() < ends, f"{name} did not come"
        time.sleep(0.1)
    return found


def descriptors(folder: Path, model: str, version: str) -> Path:
    """What a team declares: a threshold, a lead time, costs, and how confidences are calibrated."""
    declared: dict[str, Any] = {
        "system_context": {"bestbefore": {
            "window": "1 hour", "lateness": "1 minute", "lead_time": "6 hours", "cost_degraded_per_day": 4,
        }},
        "trained_model": {
            "model_name": model, "model_version": version,
            "algorithm_metrics": [{"metric": "accuracy", "threshold": 0.85}], "bestbefore": {"minimum_n": 50},
        },
        "training_data": {
            "bestbefore": {"calibration": {"accuracy": 0.95, "n": 2000, "residuals": {"low": -0.03, "high": 0.03}}}
        },
    }  # fmt: skip
    folder.mkdir(parents=True)
    for kind, tree in declared.items():
        (folder / f"{kind}.yaml").write_text(yaml.safe_dump({"version": "1.2", **tree}), "utf-8")
    return folder


def frame(model: str, version: str, window: int, base: int) -> bytes:
    """An hour of traffic, whose confidence falls from 0.95 to 0.6 after the good windows."""
    rng = np.random.default_rng((window, len(model)))
    top = np.clip(rng.normal(0.95 if window < GOOD else 0.6, 0.02, N), 0.5, 1.0)
    columns: dict[str, Any] = {
        "id": [f"{model}-{version}-{window}-{i}" for i in range(N)],
        "time": base + window * HOUR_US + np.sort(rng.integers(0, HOUR_US, N)),
        "model": Repeated(model), "version": Repeated(version),
        "scores": np.stack((top, 1 - top), axis=1).astype(np.float32),
    }  # fmt: skip
    return encode_frame(columns)


__all__ = ["Pipeline", "Told", "Trigger", "pipeline", "text", "wait_for"]
