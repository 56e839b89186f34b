"""Weights swapped under the same version while everything runs: golden records tell, and the cure is to roll back."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from bestbefore_client import CONTENT_TYPE, Repeated, encode_frame
from kafka import KafkaProducer

from infra.registering import register
from streams.event_store import EventStore
from streams.inspecting import decode_inspection
from streams.settings import Settings
from tests.broker_rig import environment, fresh_settings, until
from tests.faults.crew import ROOT, Worker
from tests.faults.traffic import DAY_US

START = 1_790_000_000_000_000 // DAY_US * DAY_US
N = 400
KEY = ("digits", "1")


@pytest.fixture
def settings(broker: str, tmp_path: Path) -> Settings:
    made = fresh_settings(broker, f"sqlite:///{tmp_path}/store.db")
    return msgspec.structs.replace(made, idle_after="2 s", assess_grace="3 s", inspect_every="1 s")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The digits model and its descriptors, to be tampered with."""
    source = ROOT / "examples" / "digits"
    shutil.copytree(source / "descriptors", tmp_path / "model" / "descriptors")
    shutil.copy(source / "digits.onnx", tmp_path / "model" / "digits.onnx")
    return tmp_path / "model"


def swap(file: Path) -> None:
    """Other weights under the same name: what a hurried fix of a production server looks like."""
    model = onnx.load_model(file)
    weight = max(model.graph.initializer, key=lambda t: int(np.prod(t.dims)))
    values = onnx.numpy_helper.to_array(weight)
    weight.CopyFrom(onnx.numpy_helper.from_array((values * 0.8).astype(values.dtype), weight.name))
    beside = file.with_suffix(".new")
    onnx.save_model(model, beside)
    beside.replace(file)


def days(settings: Settings, first: int, last: int, confidence: float) -> None:
    """Traffic of some days, with this confidence in the first of ten classes."""
    producer = KafkaProducer(bootstrap_servers=settings.broker, acks="all")
    rng = np.random.default_rng(first)
    for day in range(first, last):
        scores = np.full((N, 10), (1 - confidence) / 9, np.float32)
        scores[np.arange(N), rng.integers(0, 10, N)] = confidence
        columns: dict[str, Any] = {
            "id": [f"{day}-{i}" for i in range(N)], "time": START + day * DAY_US + np.sort(rng.integers(0, DAY_US, N)),
            "model": Repeated("digits"), "version": Repeated("1"), "scores": scores,
        }  # fmt: skip
        headers = [("content-type", CONTENT_TYPE.encode())]
        producer.send(settings.topic("inference"), encode_frame(columns), headers=headers)
    producer.flush()
    producer.close()


@pytest.fixture
def store(settings: Settings) -> Iterator[EventStore]:
    made = EventStore(settings.store)
    yield made
    made.close()


def test_swapped_weights_are_found_while_the_worker_runs(
    settings: Settings, folder: Path, store: EventStore, tmp_path: Path
) -> None:
    done = register(folder / "descriptors", settings, lambda: EventStore(settings.store))
    assert done.registered, done.lines
    sound = decode_inspection(store.inspections()[KEY])
    assert len(sound.golden) == 3
    assert all(g.error is not None and g.error <= g.tolerance and g.label == g.expected for g in sound.golden)
    swap(folder / "digits.onnx")
    worker = Worker(tmp_path, "one", environment(settings))

    def inspected() -> bool:
        return decode_inspection(store.inspections()[KEY]).digest != sound.digest

    async def told() -> None:
        await until(inspected)
        days(settings, 0, 5, confidence=0.3)
        await until(lambda: bool(store.triggers(limit=5)), patience_s=60)

    try:
        asyncio.run(told())
    finally:
        worker.kill()
    lines = {e.body["check"]: e.body for e in store.events(kind="mismatch", limit=100)}
    assert "other weights under the same version" in lines["model-identity"]["message"]
    (trigger,) = store.triggers(limit=5)
    assert trigger.body["action"] == "roll-back"
    withheld = trigger.body["reason"]["withheld"]
    assert withheld["action"] == "retrain"
    assert {cause["check"] for cause in withheld["because"]} >= {"model-identity"}
