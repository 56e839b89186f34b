"""Bad records of every kind between good ones, through a real broker, worker and store."""

import hashlib
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from bestbefore_client import CONTENT_TYPE, Repeated, encode_frame
from kafka import KafkaProducer

from infra.dead_letters import DeadLetter, read
from infra.migrate import upgrade
from infra.topic_admin import create_topics
from models.reference import ModelFile, Reference
from streams.descriptor_files import load_reference
from streams.event_store import EventStore
from streams.records import time_text
from streams.registry import encode_reference
from streams.settings import Settings, load

ROOT = Path(__file__).parents[1]
HOUR = 3_600_000_000
PARTITIONS = 2
FRAME = [("content-type", CONTENT_TYPE.encode())]
LIMIT = 32 << 10


class Traffic:
    """Sends records, and remembers what must become of them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: Any = KafkaProducer(bootstrap_servers=settings.broker, acks="all", max_request_size=4 << 20)
        self.bad: dict[bytes, str] = {}  # value -> class of its error
        self.base = (time.time_ns() // 1000) // HOUR * HOUR - 6 * HOUR

    def send(self, topic: str, value: bytes, partition: int, headers: list[tuple[str, bytes]] | None = None) -> None:
        self._producer.send(
            self._settings.topic(topic), value, key=b"k", headers=headers or [], partition=partition
        ).get(timeout=10)

    def wrong(
        self, error: str, topic: str, value: bytes, partition: int, headers: list[tuple[str, bytes]] | None = None
    ) -> None:
        assert value not in self.bad
        self.bad[value] = error
        self.send(topic, value, partition, headers)

    def event(self, name: str, **fields: Any) -> bytes:
        body = {"id": name, "time": time_text(self.base), "model": "digits", "version": "1", "output": {"label": "7"}}
        return json.dumps(body | fields).encode()

    def close(self) -> None:
        self._producer.close()


@pytest.fixture
def settings(broker: str, store_url: str) -> Settings:
    name = uuid.uuid4().hex[:8]
    made = load(
        {}, broker=broker, store=store_url, topic_prefix=f"bad-{name}.", group=f"bad-{name}", partitions=PARTITIONS,
        idle_after="1 s", assess_grace="2 s", label_patience="10 s", keep_rate=1.0, provider_policy="cpu",
    )  # fmt: skip
    upgrade(store_url)
    create_topics(made)
    # Topics take more than the worker: the limit is the worker's to enforce.
    return msgspec.structs.replace(made, max_record_bytes=LIMIT)


@pytest.fixture
def store(settings: Settings, tmp_path: Path) -> Iterator[EventStore]:
    """A store that knows `digits`, and two models whose ONNX file was swapped or damaged after registration."""
    opened = EventStore(settings.store)
    declared = load_reference(ROOT / "examples" / "digits" / "descriptors")
    declared = msgspec.structs.replace(declared, window_us=HOUR, lateness_us=0)
    assert declared.file is not None
    content = Path(declared.file.path).read_bytes()
    damaged = content[: len(content) // 2]
    for reference in (
        declared,
        _with_file(declared, tmp_path, "swapped", content + b"\0", hashlib.sha256(content).hexdigest()),
        _with_file(declared, tmp_path, "damaged", damaged, hashlib.sha256(damaged).hexdigest()),
    ):
        opened.register(reference.model, reference.version, reference.digest, encode_reference(reference))
    yield opened
    opened.close()


def _with_file(declared: Reference, folder: Path, model: str, content: bytes, digest: str) -> Reference:
    path = folder / f"{model}.onnx"
    path.write_bytes(content)
    file = ModelFile(path=str(path), sha256=digest, embedding="embedding")
    return msgspec.structs.replace(declared, model=model, file=file)


@pytest.fixture
def worker(settings: Settings, store: EventStore, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    fields = {k: v for k, v in msgspec.structs.asdict(settings).items() if isinstance(v, str | int | float)}
    environment = {f"BESTBEFORE_{name.upper()}": str(value) for name, value in fields.items()}
    paths = os.pathsep.join([str(ROOT), str(ROOT / "client")])
    with (tmp_path / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "infra.cli", "worker"], cwd=ROOT, stdout=log, stderr=log,
            env={**os.environ, **environment, "PYTHONPATH": paths},
        )  # fmt: skip
        yield process
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()


def wait_for(
    expected: Any, now: Callable[[], Any], process: subprocess.Popen[bytes], log: Path, seconds: float = 45
) -> None:
    deadline = time.monotonic() + seconds
    while (found := now()) != expected:
        told = log.read_text("utf-8", "replace")[-3000:]
        assert process.poll() is None, f"the worker ended with {process.returncode}:\n{told}"
        assert time.monotonic() < deadline, f"{found} instead of {expected}; the worker says:\n{told}"
        time.sleep(0.25)


# -- the records ---------------------------------------------------------------------------------------------


def frame(times: list[int], prefix: str, ids: list[str | None] | None = None, **columns: Any) -> bytes:
    names = ids or [f"{prefix}-{i}" for i in range(len(times))]
    base: dict[str, Any] = {"id": names, "time": np.array(times), "model": Repeated("digits"), "version": Repeated("1")}
    return encode_frame(base | columns)


def batch_bytes(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def arrow(t: Traffic, prefix: str, **columns: Any) -> pa.RecordBatch:
    """Two events as pyarrow columns."""
    base = {
        "id": pa.array([f"{prefix}-0", f"{prefix}-1"]),
        "time": pa.array([t.base, t.base], pa.timestamp("us", "UTC")),
        "model": pa.array(["digits", "digits"]),
        "version": pa.array(["1", "1"]),
    }
    return pa.record_batch(base | columns)


def broken_offsets() -> pa.Array:
    offsets = np.array([0, 4_000, 2], dtype=np.int32)
    return pa.Array.from_buffers(pa.string(), 2, [None, pa.py_buffer(offsets), pa.py_buffer(b"abcd")])


def send_inferences(t: Traffic, p: int) -> int:
    """Good and bad ones on one partition; returns how many good ones `digits` has."""
    t.send("inference", t.event(f"good-{p}-0"), p)
    t.wrong("Undecodable", "inference", f"not json {p}".encode(), p)
    t.wrong("Undecodable", "inference", b"\xff\xfe\x00" + bytes([p]), p)
    t.wrong("Undecodable", "inference", t.event(f"nan-{p}", features={"x": float("nan")}), p)
    t.wrong("Invalid", "inference", json.dumps({"id": f"half-{p}", "model": "digits"}).encode(), p)
    t.wrong("Invalid", "inference", t.event(f"typed-{p}", latency_ms="fast"), p)
    t.wrong("Invalid", "inference", t.event(f"zoneless-{p}", time="2026-11-20T10:00:00"), p)
    t.send("inference", frame([t.base + i for i in range(50)], f"frame-{p}", latency_ms=np.arange(50.0)), p, FRAME)
    t.wrong("Undecodable", "inference", t.event(f"large-{p}", features={"x": "x" * LIMIT}), p)
    t.wrong("Undecodable", "inference", frame([t.base], f"cut-{p}")[:-40], p, FRAME)
    t.wrong("Undecodable", "inference", batch_bytes(arrow(t, f"o-{p}", **{"segment.a": broken_offsets()})), p, FRAME)
    t.wrong("Invalid", "inference", batch_bytes(arrow(t, f"t-{p}", time=pa.array(["a", "b"]))), p, FRAME)
    t.wrong("Invalid", "inference", t.event(f"nul-{p}\0"), p)
    t.send("inference", t.event(f"text-{p}", output={"label": "\0"}, segment={"site": "\0"}, entity="\0"), p)
    t.wrong("Invalid", "inference", frame([t.base], f"nul-\0{p}"), p, FRAME)
    t.send("inference", t.event(f"past-{p}", time="1970-01-01T00:00:00Z"), p)
    t.send("inference", t.event(f"future-{p}", time="2100-01-01T00:00:00Z"), p)
    t.send("inference", frame([t.base, t.base + 1, t.base + 2], f"n-{p}", [f"n-{p}-0", None, f"n-{p}-2"]), p, FRAME)
    t.send("inference", frame([t.base], f"one-{p}", scores=np.full((1, 3), 1 / 3, np.float32)), p, FRAME)
    for i in range(3):
        t.send("inference", t.event(f"stranger-{p}-{i}", model="stranger", version="9"), p)
    t.send("inference", t.event(f"good-{p}-1"), p)
    return 2 + 50 + 1 + 2 + 2 + 1


def tensor_headers(t: Traffic, name: str, **fields: str) -> list[tuple[str, bytes]]:
    base = {"inference_id": name, "model": "digits", "version": "1", "time": time_text(t.base), "dtype": "float32"}
    return [(k, v.encode()) for k, v in (base | {"shape": "[1, 16, 16]"} | fields).items()]


def send_inputs(t: Traffic, p: int) -> None:
    """Two good inputs on one partition, with bad ones between them."""
    image = np.full((1, 16, 16), (0.11, 0.17)[p], dtype=np.float32)
    good = image.tobytes()
    t.send("inputs", good, p, tensor_headers(t, f"in-{p}-0"))
    t.wrong("BadInput", "inputs", good[:-4], p, tensor_headers(t, f"in-{p}-short"))
    t.wrong("BadInput", "inputs", (image * 2).tobytes(), p, tensor_headers(t, f"in-{p}-dtype", dtype="float23"))
    t.wrong("BadInput", "inputs", (image * 3).tobytes(), p, tensor_headers(t, f"in-{p}-shape", shape="[16, "))
    t.wrong("Invalid", "inputs", (image * 4).tobytes(), p, [("inference_id", b"only")])
    t.wrong("BadInput", "inputs", f"{p}".encode(), p, tensor_headers(t, "ref", dataref="file:///etc/hostname"))
    t.wrong("BadInput", "inputs", (image * 5).tobytes(), p, tensor_headers(t, "swap", model="swapped"))
    t.wrong("BadInput", "inputs", (image * 6).tobytes(), p, tensor_headers(t, "harm", model="damaged"))
    t.send("inputs", good, p, tensor_headers(t, f"in-{p}-1"))


def send_labels(t: Traffic, p: int) -> None:
    """Three good labels on one partition, with bad ones between them."""

    def label(name: str, **fields: Any) -> bytes:
        return json.dumps({"inference_id": name, "time": time_text(t.base + 60_000_000)} | fields).encode()

    t.send("labels", label(f"good-{p}-0", label="7"), p)
    t.wrong("Unmatched", "labels", label(f"never-{p}", label="7"), p)
    t.wrong("Invalid", "labels", label(f"good-{p}-0", note="says nothing"), p)
    t.wrong("Invalid", "labels", label(f"good-{p}-0", label="7", propensity=0), p)
    t.wrong("Invalid", "labels", label(f"good-{p}-0\0", label="7"), p)
    t.wrong("Undecodable", "labels", f"[{p}".encode(), p)
    t.send("labels", label(f"past-{p}", label="7"), p)  # its inference claims to be of 1970: counts when it came
    t.send("labels", label(f"good-{p}-1", label="1"), p)


# -- the test ------------------------------------------------------------------------------------------------


def test_bad_records_are_set_apart_and_good_ones_all_counted(
    settings: Settings, store: EventStore, worker: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    traffic = Traffic(settings)
    good = 0
    for partition in range(PARTITIONS):
        good += send_inferences(traffic, partition)
        send_inputs(traffic, partition)
        send_labels(traffic, partition)
    traffic.close()

    def totals(model: str, version: str, *names: str) -> list[int]:
        rows = store.windows(model, version)
        return [sum(getattr(row, name) for row in rows) for name in names]

    def audited(*names: str) -> list[int]:
        """In the one window of the inferences; that of the records themselves is still open, or just closed."""
        rows = [row for row in store.windows("digits", "1") if row.window_start_us == traffic.base]
        return [sum(getattr(row, name) for row in rows) for name in names]

    def now() -> list[int]:
        counted = totals("digits", "1", "n", "n_input")
        return [*counted, *audited("n_labelled"), len(read(settings, None)), len(store.latest_status("stranger"))]

    # The rows without an id are one more dead letter on each partition.
    expected = [good, 2 * PARTITIONS, 2 * PARTITIONS, len(traffic.bad) + PARTITIONS, 1]
    wait_for(expected, now, worker, tmp_path / "worker.log")
    assert [*totals("digits", "1", "n_capped"), *audited("n_correct")] == [2 * PARTITIONS, PARTITIONS]
    assert totals("stranger", "9", "n") == [3 * PARTITIONS]
    quality = store.latest_status("stranger")[0].body["quality"]
    assert quality["basis"] == "none"
    assert "no descriptor is registered" in quality["reason"]
    check_letters(settings, traffic, read(settings, None))
    assert worker.poll() is None


def check_letters(settings: Settings, traffic: Traffic, letters: list[DeadLetter]) -> None:
    found = {letter.value: letter for letter in letters}
    for value, error in traffic.bad.items():
        letter = found.pop(value)
        assert (letter.error, letter.key) == (error, b"k"), letter.message
        assert letter.partition in range(PARTITIONS)
        assert letter.topic.removeprefix(settings.topic_prefix) in {"inference", "inputs", "labels"}
        assert letter.message
        assert letter.stage in {"DECODE", "VALIDATE", "EMBED", "JOIN"}
    assert len(found) == 1  # both partitions have the same rows without an id
    for rest in found.values():
        with pa.ipc.open_stream(rest.value) as reader:
            assert reader.read_all()["id"].to_pylist() == [None]
