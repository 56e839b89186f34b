"""A model decays, is replaced, and asks for no more: on the live pipeline, through a crash, and again in a replay."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import yaml
from bestbefore_client import CONTENT_TYPE, Repeated, encode_frame
from click.testing import CliRunner
from kafka import KafkaProducer

from infra.cli import main
from infra.dead_letters import read
from infra.recorded_lines import read_lines
from infra.recording import Writer
from infra.registering import register
from infra.replay import replay
from streams.event_store import EventStore
from streams.settings import Settings
from tests.broker_rig import BASE, environment, fresh_settings, produce, until
from tests.faults.crew import Worker
from tests.faults.topic import read_topic
from tests.faults.traffic import HOUR_US, text

N, REPLACED, LAST = 300, 24, 31  # events a window; window in which version 2 is deployed; last window
AT = BASE + REPLACED * HOUR_US + HOUR_US // 2
VERSIONS = ("1", "2")


def descriptors(folder: Path, version: str) -> Path:
    """What a team declares: a threshold, a lead time, costs, and how confidences are calibrated."""
    declared: dict[str, Any] = {
        "system_context": {"bestbefore": {
            "window": "1 hour", "lateness": "1 minute", "lead_time": "6 hours", "cost_degraded_per_day": 4,
        }},
        "trained_model": {
            "model_name": "loan", "model_version": version,
            "algorithm_metrics": [{"metric": "accuracy", "threshold": 0.85}], "bestbefore": {"minimum_n": 50},
        },
        "training_data": {
            "bestbefore": {"calibration": {"accuracy": 0.95, "n": 2000, "residuals": {"low": -2.0, "high": 2.0}}}
        },
    }  # fmt: skip
    place = folder / f"v{version}"
    place.mkdir()
    for kind, tree in declared.items():
        (place / f"{kind}.yaml").write_text(yaml.safe_dump({"version": "1.2", **tree}), "utf-8")
    return place


def frame(version: str, window: int) -> bytes:
    """An hour of traffic: version 1 is good for half a day and then decays, version 2 is good."""
    rng = np.random.default_rng(100 * window + int(version))
    confidence = 0.95 - (0.025 * max(window - 12, 0) if version == "1" else 0.0)
    top = np.clip(rng.normal(max(confidence, 0.6), 0.02, N), 0.5, 1.0)
    columns: dict[str, Any] = {
        "id": [f"{version}-{window}-{i}" for i in range(N)],
        "time": BASE + window * HOUR_US + np.sort(rng.integers(0, HOUR_US, N)),
        "model": Repeated("loan"), "version": Repeated(version),
        "scores": np.stack((top, 1 - top), axis=1).astype(np.float32),
    }  # fmt: skip
    return encode_frame(columns)


def traffic(settings: Settings, writer: Writer, first: int, last: int, versions: tuple[str, ...]) -> None:
    """Send the windows from `first` up to `last`, and record them."""
    producer = KafkaProducer(bootstrap_servers=settings.broker, acks="all")
    for window in range(first, last):
        for version in versions:
            body = frame(version, window)
            writer.frame(body)
            producer.send(settings.topic("inference"), body, headers=[("content-type", CONTENT_TYPE.encode())])
    producer.flush()
    producer.close()


@pytest.fixture
def settings(broker: str, tmp_path: Path) -> Settings:
    made = fresh_settings(broker, f"sqlite:///{tmp_path}/store.db")
    return msgspec.structs.replace(made, idle_after="1 s", assess_grace="3 s")


@pytest.fixture
def store(settings: Settings) -> Iterator[EventStore]:
    made = EventStore(settings.store)
    yield made
    made.close()


RETRAINED: dict[str, Any] = {
    "id": "job-9", "time": text(AT - 3 * HOUR_US), "kind": "retrained", "model": "loan", "version": "2",
}  # fmt: skip
DEPLOYED = RETRAINED | {"id": "release-2", "time": text(AT), "kind": "deployed", "previous": "1"}


def tell(settings: Settings, event: dict[str, Any]) -> None:
    """What the last step of a job runs; again, because its network failed the first time."""
    given = [part for name in ("id", "time", "previous") if name in event for part in (f"--{name}", event[name])]
    for _ in range(2):
        done = CliRunner(env={"BESTBEFORE_TOPIC_PREFIX": settings.topic_prefix}).invoke(
            main, ["--broker", settings.broker, "lifecycle", event["kind"], "loan", event["version"], *given]
        )
        assert done.exit_code == 0, done.output


def run(settings: Settings, store: EventStore, folder: Path, writer: Writer) -> None:
    """The story, live."""
    worker = Worker(folder, "one", environment(settings))

    def assessed(version: str, window: int) -> bool:
        lines = [e.body for e in store.latest_status("loan") if e.version == version]
        return bool(lines) and lines[0]["window"]["start"] >= text(BASE + window * HOUR_US)

    async def story() -> None:
        nonlocal worker
        traffic(settings, writer, 0, REPLACED - 3, ("1",))
        await until(lambda: assessed("1", REPLACED - 5))
        tell(settings, RETRAINED)
        await until(lambda: bool(store.events(kind="lifecycle")))
        traffic(settings, writer, REPLACED - 3, REPLACED, ("1",))
        await until(lambda: assessed("1", REPLACED - 2))
        worker.kill()
        traffic(settings, writer, REPLACED, LAST + 1, VERSIONS)  # while nobody is there
        produce(settings, "lifecycle", [b"{no json", json.dumps({"kind": "deployed"}).encode()], b"loan")
        tell(settings, DEPLOYED)
        worker = Worker(folder, "two", environment(settings))
        await until(lambda: all(assessed(version, LAST - 1) for version in VERSIONS))
        await until(lambda: len(read(settings, None)) == 2)

    try:
        asyncio.run(story())
    finally:
        worker.kill()


def test_a_replaced_model_is_asked_for_no_more(settings: Settings, store: EventStore, tmp_path: Path) -> None:
    folders = [descriptors(tmp_path, version) for version in VERSIONS]
    for folder in folders:
        done = register(folder, settings, lambda: EventStore(settings.store), accept_mismatches=True)
        assert done.registered, done.lines
    writer = Writer(tmp_path / "recording")
    run(settings, store, tmp_path, writer)
    writer.close()
    happened = [RETRAINED, DEPLOYED]
    recording = "\n".join(json.dumps(event) for event in [DEPLOYED, RETRAINED, DEPLOYED])
    (tmp_path / "recording" / "lifecycle.jsonl").write_text(recording, "utf-8")

    (trigger,) = store.triggers()
    assert (trigger.version, trigger.body["action"]) == ("1", "retrain")
    lines = [e.body for e in store.events(kind="lifecycle")]
    assert [b for b in lines if b["kind"] in ("retrained", "deployed")] == happened, "sent twice, recorded once"
    (end,) = [b for b in lines if b["kind"] == "trigger-resolved"]
    assert (end["trigger_id"], end["resolution"], end["successor"]) == (trigger.event_id, "superseded", "2")
    worth = [b for b in lines if b["kind"] == "forecast-outcome"]
    assert (worth[-1]["stage"], worth[-1]["trigger_id"]) == ("ended", trigger.event_id)
    assert worth[-1]["observed"]["until"] == text(AT)
    latest = {e.version: e.body for e in store.latest_status("loan")}
    assert latest["1"]["lifecycle"] | {"since": None} == {
        "serving": False, "since": None, "successor": "2", "retired": False, "candidate": None,
    }  # fmt: skip
    assert latest["1"]["open_triggers"] == latest["2"]["open_triggers"] == {}
    assert latest["2"]["lifecycle"]["since"] == text(AT)
    assert latest["2"]["quality"]["estimate"] > 0.9

    ours = [json.loads(r.value) for r in read_topic(settings.broker, settings.topic("lifecycle")) if r.headers]
    assert {b["id"]: b for b in ours} == {b["id"]: b for b in lines if b not in happened}, "not what was told to us"

    shown = CliRunner(env={"BESTBEFORE_STORE": settings.store}).invoke(main, ["triggers", "--format", "json"])
    assert [line["resolved"]["resolution"] for line in json.loads(shown.output)] == ["superseded"]

    replay([tmp_path / "recording"], folders, tmp_path / "again", settings)
    assert read_lines(tmp_path / "again" / "retrain-triggers.jsonl") == [trigger.body]
    assert read_lines(tmp_path / "again" / "lifecycle.jsonl") == lines
    limit = text(BASE + LAST * HOUR_US)  # the last window is not over
    live = [e.body for e in store.events(kind="status", limit=1000) if e.body["window"]["start"] < limit]
    again = [b for b in read_lines(tmp_path / "again" / "status.jsonl") if b["window"]["start"] < limit]
    assert len(again) == 2 * LAST - REPLACED
    assert by_window(again) == by_window(live)


def by_window(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Status lines in the order of versions and windows."""
    return sorted(lines, key=lambda b: (b["version"], b["window"]["start"]))
