"""A model with everything declared, telemetry of every kind, and a worker that makes every output of it."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import yaml
from bestbefore_client import CONTENT_TYPE, Repeated, encode_frame
from kafka import KafkaProducer

from infra.registering import register
from streams.event_store import EventStore
from streams.heartbeats import HEARTBEAT
from streams.records import STRUCTURED
from streams.settings import Settings
from tests.broker_rig import BASE, environment, fresh_settings, until
from tests.faults.crew import Worker
from tests.faults.topic import read_topic
from tests.faults.traffic import HOUR_US, text

N, DECAYS, REPLACED = 300, 12, 27  # events a window; windows from which it decays, and in which version 2 is deployed
PATIENCE = 200  # seconds until the worker has started on a busy machine, and made what is waited for
Headers = list[tuple[str, bytes]]
Record = tuple[str, bytes | None, bytes, Headers]  # topic, key, value, headers


def settings_of(broker: str, folder: Path) -> Settings:
    """Topics and tables of a test's own; every prediction is kept."""
    made = fresh_settings(broker, f"sqlite:///{folder}/store.db", 2)
    return msgspec.structs.replace(made, idle_after="1 s", assess_grace="3 s", keep_rate=1.0)


def descriptors(folder: Path) -> Path:
    """A threshold, a lead time, costs, a calibration, a feature, and a budget of labels."""
    declared: dict[str, Any] = {
        "system_context": {"bestbefore": {
            "window": "1 hour", "lateness": "1 minute", "lead_time": "6 hours", "cost_degraded_per_day": 4,
        }},
        "trained_model": {
            "model_name": "loan", "model_version": "1",
            "algorithm_metrics": [{"metric": "accuracy", "threshold": 0.85}], "bestbefore": {"minimum_n": 50},
        },
        "training_data": {
            "bestbefore": {
                "calibration": {"accuracy": 0.95, "n": 2000, "residuals": {"low": -2.0, "high": 2.0}},
                "features": {"income": {
                    "type": "number", "mean": 3000, "sd": 400, "n": 2000,
                    "quantiles": {"0.05": 2342, "0.25": 2730, "0.5": 3000, "0.75": 3270, "0.95": 3658},
                }},
            },
        },
        "production_data": {"bestbefore": {"labels": {"delay": "1 day", "budget": {"share": 0.02}}}},
    }  # fmt: skip
    place = folder / "descriptors"
    place.mkdir()
    for kind, tree in declared.items():
        (place / f"{kind}.yaml").write_text(yaml.safe_dump({"version": "1.2", **tree}), "utf-8")
    return place


def parent(number: int) -> str:
    """A W3C trace context."""
    return f"00-{number + 1:032x}-{number + 1:016x}-01"


def frame(window: int) -> tuple[bytes, Headers]:
    """An hour of traffic, traced by row or frame. From DECAYS on the confidence falls, and incomes have risen."""
    rng = np.random.default_rng(window)
    top = np.clip(rng.normal(max(0.95 - 0.025 * max(window - DECAYS, 0), 0.6), 0.02, N), 0.5, 1.0)
    columns: dict[str, Any] = {
        "id": [f"{window}-{i}" for i in range(N)],
        "time": BASE + window * HOUR_US + np.sort(rng.integers(0, HOUR_US, N)),
        "model": Repeated("loan"), "version": Repeated("1"),
        "features.income": rng.normal(3600 if window > DECAYS else 3000, 400, N),
        "scores": np.stack((top, 1 - top), axis=1).astype(np.float32),
    }  # fmt: skip
    if window % 2:
        return encode_frame(columns, classes=["yes", "no"]), [("traceparent", parent(window * N).encode())]
    columns["traceparent"] = [parent(window * N + i) if i % 10 == 0 else None for i in range(N)]
    return encode_frame(columns, classes=["yes", "no"]), []


def events() -> list[Record]:
    """One of every other message that comes in, and some that cannot be used."""
    at = BASE + (REPLACED + 1) * HOUR_US
    event = {"id": "single", "time": text(at), "model": "loan", "version": "1", "output": {"label": "yes"}}
    beat = {"recorder": "web-1", "seq": 1, "time": text(at), "model": "loan", "version": "1", "recorded": 5}
    label = {"inference_id": "3-7", "time": text(at), "label": "yes"}
    deployed = {"id": "release-2", "time": text(BASE + REPLACED * HOUR_US), "kind": "deployed", "model": "loan",
                "version": "2", "previous": "1"}  # fmt: skip
    sample = {"inference_id": "3-7", "model": "loan", "version": "1", "time": text(at), "dtype": "float32",
              "shape": "[2]", "propensity": "0.5"}  # fmt: skip
    return [
        ("inference", b"loan", _json(event), [("content-type", b"application/json")]),
        ("inference", b"loan", *structured({**event, "id": "structured"})),
        ("inference", b"loan", _json(beat), [("content-type", HEARTBEAT.encode())]),
        ("labels", b"3-7", _json(label), []),
        ("labels", b"4-7", *structured({**label, "inference_id": "4-7"})),
        ("inputs", b"3-7", np.ones(2, np.float32).tobytes(), [(k, v.encode()) for k, v in sample.items()]),
        ("lifecycle", b"loan", _json(deployed), []),
        ("lifecycle", b"loan", *structured({**deployed, "id": "note-1", "kind": "override-added"})),
    ]  # fmt: skip


def structured(event: dict[str, Any]) -> tuple[bytes, Headers]:
    """The event as the data of a CloudEvent."""
    name = str(event.get("id", event.get("inference_id")))
    around = {"specversion": "1.0", "id": name, "source": "/test", "type": "test.v1", "data": event}
    return _json(around), [("content-type", STRUCTURED.encode())]


def poison() -> list[Record]:
    """Records that nobody can use."""
    trace = ("traceparent", parent(7).encode())
    return [("inference", b"loan", b"{no json", [trace]), ("labels", b"x", b'{"inference_id": "x"}', [])]


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def send(settings: Settings, records: Sequence[Record]) -> None:
    """Send records and wait until the broker has them."""
    producer = KafkaProducer(bootstrap_servers=settings.broker, acks="all")
    for topic, key, value, headers in records:
        producer.send(settings.topic(topic), key=key, value=value, headers=headers)
    producer.flush()
    producer.close()


def play(settings: Settings, folder: Path, frames: Sequence[tuple[bytes, Headers]]) -> None:
    """Register, send everything, and let a worker make every output of it."""
    done = register(descriptors(folder), settings, lambda: EventStore(settings.store), accept_mismatches=True)
    assert done.registered, done.lines
    kind = ("content-type", CONTENT_TYPE.encode())
    send(settings, [("inference", b"loan", body, [kind, *more]) for body, more in frames])
    store, worker = EventStore(settings.store), Worker(folder, "one", environment(settings))

    def told() -> bool:
        kinds = {event.body["kind"] for event in store.events(kind="lifecycle")}
        return {"trigger-resolved", "forecast-outcome", "override-added"} <= kinds

    async def story() -> None:
        await until(lambda: bool(store.triggers()), PATIENCE)
        send(settings, [*events(), *poison()])
        await until(told, PATIENCE)
        await until(lambda: len(read_topic(settings.broker, settings.topic("dead-letters"))) >= len(poison()))
        await until(lambda: store.outbox([0, 1], 10) == [])

    try:
        asyncio.run(story())
        assert worker.stop() == 0, worker.log.read_text()
    finally:
        worker.kill()
        store.close()
