"""Stories that practitioners told, on the live pipeline: what each mismatch looks like from telemetry, and who is told.

From the survey of the Software Engineering Institute (Lewis et al., WAIN 2021): pipeline and model out of step raised
alarms about normal data; an upstream change that software engineers knew of and data scientists did not; missing time
zones; the same feature with two meanings; what production does under overload.
"""

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
from infra.describe import describe
from streams.event_store import EventStore
from streams.settings import Settings
from tests.broker_rig import BASE, environment, fresh_settings, until
from tests.faults.crew import Worker
from tests.faults.traffic import HOUR_US, text

N, SOUND, BROKEN = 600, 3, 3  # events a window, windows before and after the change
MODELS = ("camera", "loan", "fare", "shop", "triage")
Columns = dict[str, Any]
KNOWN = {
    "camera": ("brightness", "contrast"), "loan": ("income", "region"), "fare": ("hour", "distance"),
    "shop": ("price",), "triage": ("age", "pulse"),
}  # fmt: skip


def sound(model: str, rng: np.random.Generator, n: int) -> Columns:
    """What the model was trained on."""
    made: dict[str, Columns] = {
        "camera": {"brightness": rng.normal(110, 30, n), "contrast": rng.normal(60, 12, n)},
        "loan": {"income": rng.normal(3000, 700, n), "region": rng.choice(["N", "S", "E", "W"], n).tolist()},
        "fare": {"hour": np.clip(rng.normal(10, 2.5, n), 0, 23), "distance": rng.gamma(3, 2, n)},
        "shop": {"price": rng.normal(40, 9, n), "site": rng.choice(["A", "B"], n).tolist()},
        "triage": {"age": rng.normal(50, 15, n), "pulse": rng.normal(75, 9, n)},
    }
    return made[model]


def changed(model: str, rng: np.random.Generator) -> tuple[Columns, Columns]:
    """Features and other columns once somebody changed something and told nobody."""
    features = sound(model, rng, N)
    others: Columns = {}
    if model == "camera":  # the new pipeline already scales to 0..1, the model still expects 0..255
        features = {name: values / 255 for name, values in features.items()}
    elif model == "loan":  # the upstream API now spells the region out
        names = {"N": "north", "S": "south", "E": "east", "W": "west"}
        features["region"] = [names[r] for r in features["region"]]
    elif model == "fare":  # local time where UTC was meant
        features["hour"] = features["hour"] + 2
    elif model == "shop":  # one site sends cents under the same name
        cents = np.array(features["site"]) == "B"
        features["price"] = np.where(cents, features["price"] * 100, features["price"])
    else:  # overload: a third is refused, the rest is slow
        others = {"status": np.where(rng.random(N) < 0.33, 503, 200), "latency_ms": rng.gamma(4, 60, N)}
    return features, others


UNITS = {"brightness": "level", "contrast": "level", "hour": "hour", "distance": "km", "price": "EUR"}


def descriptors(model: str, folder: Path) -> Path:
    """What a team would have: facts that people wrote, and the rest described from events of a sound week."""
    people: dict[str, Any] = {
        "system_context": {"bestbefore": {"window": "1 hour", "lateness": "1 minute", "owner": f"{model} team"}},
        "trained_model": {"model_name": model, "model_version": "1", "bestbefore": {"minimum_n": 100}},
        "training_data": {"bestbefore": {"features": {k: {"unit": u} for k, u in UNITS.items() if k in KNOWN[model]}}},
        "production_environment": {"bestbefore": {"latency": {"percentile": 99, "value": 50, "unit": "ms"}}},
        "production_data": {
            "bestbefore": {"rate": {"mean": N, "p99": 2 * N, "unit": "1/hour"}},
            "schema": [
                {"field_name": "income", "field_type": "Float", "expected_values": "0..100000"},
                {"field_name": "region", "field_type": "String", "expected_values": "N,S,E,W"},
            ] if model == "loan" else [],
        },
    }  # fmt: skip
    declared = folder / "declared.yaml"
    folder.mkdir(parents=True)
    declared.write_text(yaml.safe_dump({kind: {"version": "1.2", **tree} for kind, tree in people.items()}), "utf-8")
    rng = np.random.default_rng(0)
    events = folder / "sound.jsonl"
    events.write_text("\n".join(json.dumps(event) for event in recorded(model, rng, 4000)), "utf-8")
    describe([], [events], folder / "descriptors", declared=declared)
    return folder / "descriptors"


def recorded(model: str, rng: np.random.Generator, n: int) -> Iterator[dict[str, Any]]:
    """Events of a sound week before anything is watched."""
    features = {k: v for k, v in sound(model, rng, n).items() if k != "site"}
    scores = rng.uniform(0.05, 0.95, n)
    for i in range(n):
        row = {name: values[i] if isinstance(values, list) else float(values[i]) for name, values in features.items()}
        yield {
            "id": f"past-{i}", "time": text(BASE - 168 * HOUR_US + i * 150 * 1_000_000), "model": model, "version": "1",
            "features": row, "output": {"scores": {"0": 1 - scores[i], "1": scores[i]}}, "latency_ms": 12.0,
        }  # fmt: skip


def frame(model: str, window: int, features: Columns, others: Columns, rng: np.random.Generator) -> bytes:
    """One window of traffic."""
    n = len(next(iter(features.values())))
    score = rng.uniform(0.05, 0.95, n)
    columns: Columns = {
        "id": [f"{model}-{window}-{i}" for i in range(n)],
        "time": BASE + window * HOUR_US + np.sort(rng.integers(0, HOUR_US, n)),
        "model": Repeated(model), "version": Repeated("1"), "latency_ms": rng.gamma(4, 3, n),
        "scores": np.stack([1 - score, score], axis=1).astype(np.float32), **others,
    }  # fmt: skip
    for name, values in features.items():
        columns[f"segment.{name}" if name == "site" else f"features.{name}"] = values
    return encode_frame(columns)


def play(settings: Settings) -> None:
    """Three sound windows and three changed ones of every model, and a time without a zone."""
    producer = KafkaProducer(bootstrap_servers=settings.broker, acks="all")
    rng = np.random.default_rng(1)
    for window in range(SOUND + BROKEN + 1):
        for model in MODELS:
            features, others = changed(model, rng) if window >= SOUND else (sound(model, rng, N), {})
            body = frame(model, window, features, others, rng)
            producer.send(settings.topic("inference"), body, headers=[("content-type", CONTENT_TYPE.encode())])
    zoneless = {"id": "fare-x", "time": text(BASE).removesuffix("Z"), "model": "fare", "version": "1"}
    producer.send(settings.topic("inference"), json.dumps(zoneless).encode())
    producer.flush()
    producer.close()


@pytest.fixture(scope="module")
def told(
    services: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[dict[str, list[dict[str, Any]]], Settings]]:
    """The mismatches of every model, from a real worker, and its settings."""
    folder = tmp_path_factory.mktemp("stories")
    made = fresh_settings(services.broker, f"sqlite:///{folder}/store.db")
    # Inputs and labels never come here: windows need not wait for them.
    settings = msgspec.structs.replace(made, idle_after="2 s", assess_grace="3 s")
    for model in MODELS:
        path = descriptors(model, folder / model)
        done = CliRunner().invoke(main, ["--store", settings.store, "register", str(path)])
        assert done.exit_code == 0, done.output
    play(settings)
    store = EventStore(settings.store)
    worker = Worker(folder, "stories", environment(settings))

    async def assessed() -> None:
        def done(model: str) -> bool:
            return len(store.events(kind="status", model=model, limit=1000)) >= (SOUND + BROKEN) * (
                3 if model == "shop" else 1
            )

        await until(lambda: all(map(done, MODELS)), patience_s=120)

    try:
        asyncio.run(assessed())
    finally:
        worker.kill()
    yield {m: [e.body for e in store.events(kind="mismatch", model=m, limit=200)] for m in MODELS}, settings
    store.close()


Told = tuple[dict[str, list[dict[str, Any]]], Settings]


def opened(told: Told, model: str) -> dict[str, dict[str, Any]]:
    """Mismatches of all traffic of a model, by check and field."""
    return {f"{b['check']}/{b['field']}": b for b in told[0][model] if b["verdict"] == "mismatch" and not b["segment"]}


def test_nothing_was_said_before_anything_changed(told: Told) -> None:
    for lines in told[0].values():
        assert all(line["first_seen"] >= text(BASE + SOUND * HOUR_US) for line in lines)


def test_pipeline_and_model_out_of_step(told: Told) -> None:
    """No drift alarm alone, that somebody would retrain on: the scale is named, and the cure is the pipeline."""
    found = opened(told, "camera")
    for field in ("brightness", "contrast"):
        line = found[f"unit-scale-encoding/{field}"]
        assert "divided by 255" in line["message"]
        assert (line["action"], line["owner"]) == ("fix-pipeline", "camera team")
        assert line["evidence"]


def test_an_upstream_api_change(told: Told) -> None:
    line = opened(told, "loan")["domain-and-schema/region"]
    assert "not among the allowed values" in line["message"]
    assert line["left"]["path"].startswith("production_data.schema[1]")
    assert line["effect"]["estimate"] == 1.0
    assert all(name.startswith("loan-") for name in line["evidence"])


def test_missing_time_zone(told: Told) -> None:
    """A feature in local time is named with its hours; an event whose time has no zone is refused, not guessed."""
    assert "another time zone (+2 h)" in opened(told, "fare")["unit-scale-encoding/hour"]["message"]
    (letter,) = [entry for entry in read(told[1], None) if "fare-x" in str(entry)]
    assert "timezone" in str(letter).lower() or "time zone" in str(letter).lower()


def test_the_same_feature_under_two_meanings(told: Told) -> None:
    """Only the segment that means something else is named."""
    lines = [b for b in told[0]["shop"] if b["check"] == "unit-scale-encoding" and b["verdict"] == "mismatch"]
    assert [(b["segment"], b["field"]) for b in lines] == [('{"site":"B"}', "price")]
    assert "hundredths" in lines[0]["message"]


def test_overload(told: Told) -> None:
    found = opened(told, "triage")
    assert "answers fail more often" in found["failure-and-default-output/status"]["message"]
    assert found["failure-and-default-output/status"]["effect"]["low"] < 0.33
    assert "took longer than 50 ms" in found["latency-rate-buffering/latency"]["message"]


def test_no_story_ends_in_a_retraining(told: Told) -> None:
    store = EventStore(told[1].store)
    assert [t.body["action"] for t in store.triggers(limit=10) if t.body["action"] == "retrain"] == []
    store.close()
