"""The client: pyarrow and a real broker give back what it was told; without a broker it stays out of the way."""

import base64
import doctest
import json
import socket
import socketserver
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from bestbefore_client import (
    CONTENT_TYPE,
    Recorder,
    Repeated,
    Strings,
    encode_frame,
    frame,
    messages,
    recorder,
    sampled,
    sampled_many,
    sampling,
    u64,
    u64_many,
    unit,
)
from bestbefore_client.events import MAX_VALUE
from hypothesis import given
from hypothesis import strategies as st
from kafka import KafkaAdminClient, KafkaConsumer
from kafka.admin import NewTopic
from scipy.stats import chi2, chi2_contingency

BASE = {"model": Repeated("digits"), "version": Repeated("3")}
README = Path(__file__).parents[1] / "client" / "README.md"
NOWHERE = "127.0.0.1:1"
TOPICS = ("inference", "inputs", "labels")


def read(data: bytes) -> pa.Table:
    with pa.ipc.open_stream(data) as reader:
        batches = list(reader)
    assert len(batches) == 1
    table = pa.Table.from_batches(batches)
    table.validate(full=True)
    return table


# --- sampling


def numbered(prefix: str, n: int) -> Strings:
    return Strings.of([f"{prefix}{i}" for i in range(1, n + 1)])


def hashes(ids: Strings) -> Any:
    return u64_many(ids.data, ids.offsets)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", 0), ("r-81", 0x3D0AB24FF202A778), ("é", None), ("x" * 200, None)],
)
def test_the_hash_is_the_documented_one(text: str, expected: int | None) -> None:
    data = text.encode()
    h = len(data) * 0x9E3779B97F4A7C15 % 2**64
    data += bytes(-len(data) % 8)
    for i in range(0, len(data), 8):
        h = (h ^ int.from_bytes(data[i : i + 8], "little")) * 0xFF51AFD7ED558CCD % 2**64
        h ^= h >> 32
    h ^= h >> 33
    h = h * 0xC4CEB9FE1A85EC53 % 2**64
    h ^= h >> 33
    assert u64(text) == h
    assert expected in (None, h)
    assert unit(text) == h / 2**64


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=200)))
def test_many_hashes_equal_single_hashes(ids: list[str]) -> None:
    laid = Strings.of(ids)
    assert hashes(laid).tolist() == [u64(i) for i in ids]


@given(st.lists(st.text("abcé", min_size=3, max_size=3), min_size=2), st.floats(0, 1))
def test_many_decisions_equal_single_decisions(ids: list[str], rate: float) -> None:
    laid = Strings.of(ids)[1:]
    assert hashes(laid).tolist() == [u64(i) for i in ids[1:]]
    assert sampled_many(laid.data, laid.offsets, rate).tolist() == [sampled(i, rate) for i in ids[1:]]


def test_rates_at_their_ends() -> None:
    ids = numbered("r-", 1000)
    assert sampled_many(ids.data, ids.offsets, 1.0).all()
    assert not sampled_many(ids.data, ids.offsets, 0.0).any()
    assert sampled("r-1", 1.0)
    assert not sampled("r-1", 0.0)


@pytest.mark.parametrize("prefix", ["r-", "", "request:", "a-prefix-longer-than-two-words-"])
@pytest.mark.parametrize("shift", [0, 32, 56])
def test_sequential_ids_hash_uniformly(prefix: str, shift: int) -> None:
    counts = np.bincount((hashes(numbered(prefix, 100_000)) >> np.uint64(shift)).astype(np.int64) & 255, minlength=256)
    statistic = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
    assert 1e-4 < chi2.sf(statistic, 255) < 1 - 1e-4


def test_equal_numbers_under_two_prefixes_are_sampled_independently() -> None:
    left, right = ((hashes(numbered(p, 100_000)) >> np.uint64(60)).astype(np.int64) for p in ("r-", "s-"))
    table = np.bincount(left * 16 + right, minlength=256).reshape(16, 16)
    assert chi2_contingency(table).pvalue > 1e-4


# --- frames


def test_a_frame_has_the_types_of_the_format() -> None:
    n = 3
    text = {name: ["{}", None, "x"] for name in frame.RESERVED}
    scores = np.array([[0.25, 0.75], [1, 0], [0.5, 0.5]])
    data = encode_frame(
        {
            "id": ["r-1", "ü", "日本"],
            "time": np.array([1, 2, 1_795_168_800_123_456]),
            **BASE,
            "segment.site": ["A", "B", "A"],
            "features.age": np.array([41.0, np.nan, 3.0]),
            "features.small": np.zeros(n, np.float32),
            "features.count": [1, None, 3],
            "features.new": [True, None, False],
            "features.country": ["DE", None, "FR"],
            "scores": scores,
            "label": np.array([7, 1, 2]),
            "value": [1.5, None, 2.5],
            "latency_ms": [3.2, 1, None],
            "status": [200, 500, 200],
            "abstained": np.array([False, True, False]),
            "sampling": np.full(n, 0.5),
            "embedding": np.ones((n, 4)),
            "digest": Repeated("sha256:0"),
            **text,
        },
        classes=["no", "yes"],
    )
    table = read(data)
    types = {field.name: field.type for field in table.schema}
    vector = {"scores": pa.list_(pa.float32(), 2), "embedding": pa.list_(pa.float32(), 4)}
    assert types == {
        **dict.fromkeys(["id", "model", "version", "segment.site", "features.country", "label", "digest"], pa.string()),
        **dict.fromkeys(frame.RESERVED, pa.string()),
        **dict.fromkeys(["features.age", "features.count", "value", "sampling"], pa.float64()),
        **dict.fromkeys(["features.new", "abstained"], pa.bool_()),
        **dict.fromkeys(["features.small", "latency_ms"], pa.float32()),
        **vector,
        "time": pa.timestamp("us", "UTC"),
        "status": pa.int32(),
    }
    assert json.loads(table.schema.metadata[b"classes"]) == ["no", "yes"]
    assert table["id"].to_pylist() == ["r-1", "ü", "日本"]
    assert table["time"].cast(pa.int64()).to_pylist() == [1, 2, 1_795_168_800_123_456]
    assert table["version"].to_pylist() == ["3"] * n
    assert table["features.age"].null_count == 0
    assert table["features.count"].to_pylist() == [1, None, 3]
    assert table["features.new"].to_pylist() == [True, None, False]
    assert table["features.country"].to_pylist() == ["DE", None, "FR"]
    assert table["label"].to_pylist() == ["7", "1", "2"]
    assert table["status"].to_pylist() == [200, 500, 200]
    assert table["scores"].to_pylist() == scores.tolist()
    assert table["shadow"].to_pylist() == ["{}", None, "x"]


def test_masked_arrays_views_and_mixed_values() -> None:
    table = read(
        encode_frame(
            {
                "id": Strings.of(["a", "b", "c"])[1:],
                "time": np.arange(4)[::2],
                **BASE,
                "features.masked": np.ma.array([1.0, 2.0], mask=[True, False]),
                "features.strided": np.arange(8.0)[::4],
                "features.mixed": [1.5, "x"],
                "features.unknown": [None, None],
                "features.numpy": [np.float32(0.5), np.int64(2)],
                "features.text": np.array(["é", "long"]),
                "scores": np.arange(6.0).reshape(3, 2).T,
            }
        )
    )
    assert table["id"].to_pylist() == ["b", "c"]
    assert table["features.masked"].to_pylist() == [None, 2.0]
    assert table["features.strided"].to_pylist() == [0.0, 4.0]
    assert table["features.mixed"].to_pylist() == ["1.5", "x"]
    assert table["features.unknown"].to_pylist() == [None, None]
    assert table["features.numpy"].to_pylist() == [0.5, 2.0]
    assert table["features.text"].to_pylist() == ["é", "long"]
    assert table["scores"].to_pylist() == [[0.0, 2.0, 4.0], [1.0, 3.0, 5.0]]
    assert json.loads(table.schema.metadata[b"classes"]) == ["0", "1", "2"]


def test_an_empty_frame_is_a_frame() -> None:
    assert read(encode_frame({"id": [], "time": np.zeros(0, np.int64), **BASE, "features.x": []})).num_rows == 0


@pytest.mark.parametrize(
    ("columns", "error", "told"),
    [
        ({"time": [1, 2]}, ValueError, "'time'"),
        ({"featurse.x": [1]}, ValueError, "'featurse.x'"),
        ({"features.x": [[1]]}, TypeError, "'features.x'"),
        ({"features.x": np.array([1j])}, TypeError, "'features.x'"),
        ({"features.x": np.zeros((1, 2))}, ValueError, "'features.x'"),
        ({"label": [{}]}, TypeError, "'label'"),
        ({"scores": np.zeros(1)}, ValueError, "'scores'"),
        ({"segment.site": ["\ud800"]}, UnicodeEncodeError, "'segment.site'"),
        ({"status": [2**40]}, OverflowError, "'status'"),
        ({"id": Repeated("x")}, ValueError, "one id per row"),
    ],
)
def test_a_column_that_does_not_fit_is_named(columns: dict[str, Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        encode_frame({"id": ["a"], "time": [0], **BASE, **columns})


def test_class_names_must_match_the_scores() -> None:
    with pytest.raises(ValueError, match="1 class names for 2 scores"):
        encode_frame({"id": ["a"], "time": [0], **BASE, "scores": np.zeros((1, 2))}, classes=["no"])


# --- without a broker


def test_a_dead_broker_costs_bounded_memory_and_counted_drops() -> None:
    dead = Recorder(NOWHERE, model="m", version="1", max_events=50, input_rate=1.0)
    for i in range(80):
        dead.record(f"r-{i}", features={"x": 1.0})
    assert dead.pending == 50
    assert dead.dropped == {"full": 30}
    assert not dead.flush(0.05)
    assert not dead.close(0.2)
    dead.record("late")
    assert dead.dropped == {"full": 30, "closed": 51}
    assert dead.pending == 0
    assert not dead.close()


def test_bytes_are_bounded_and_inputs_leave_room_for_events() -> None:
    with Recorder(NOWHERE, model="m", version="1", max_bytes=100_000, input_rate=1.0) as dead:
        for i in range(10):
            dead.record(f"r-{i}", input=np.zeros(10_000, np.uint8))
        assert dead.dropped == {"full": 6}
        dead.record("big", features={"text": "x" * 60_000})
        dead.record_many(["m-1", "m-2"], features={"x": np.zeros(2)})
        assert dead.dropped == {"full": 7}
        assert dead.pending == 16
        dead.close(0.1)


class Awkward:
    """Raises whatever one does with it."""

    def __getattribute__(self, name: str) -> Any:
        raise ZeroDivisionError(name)

    def __str__(self) -> str:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "fields",
    [
        {"id": None},
        {"id": ""},
        {"id": "x" * 201},
        {"id": "\ud800", "input": b"x"},
        {"id": Awkward()},
        {"features": {"x": [1]}},
        {"features": {"x": Awkward()}},
        {"features": 3},
        {"scores": [0.1]},
        {"scores": "ab"},
        {"segment": {str(i): "x" for i in range(9)}},
        {"time_us": "yesterday"},
        {"embedding": "x"},
        {"experiment": {1, 2}},
        {"colour": "red"},
    ],
)
def test_record_never_raises(fields: dict[str, Any]) -> None:
    with Recorder(NOWHERE, model="m", version="1", classes=["a", "b"], input_rate=1.0) as dead:
        dead.record(**{"id": "r-1", **fields})
        assert dead.dropped["invalid"] == 1
        assert dead.last_error is not None
        dead.close(0.0)


def test_record_many_and_label_never_raise() -> None:
    with Recorder(NOWHERE, model="m", version="1") as dead:
        dead.record_many(["a", "b"], features={"x": np.zeros(3)})
        dead.record_many(["a", ""])
        dead.record_many(3)  # type: ignore[arg-type]
        dead.label("a")
        dead.label("a", value=float("nan"))
        dead.label("a", label="x", time_us=10**20)
        assert dead.dropped == {"invalid": 8}


@pytest.mark.parametrize("wrong", [{"input_rate": 2.0}, {"frame_rows": 0}, {"key": "{colour}"}])
def test_a_wrong_setting_is_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"input_rate|key"):
        Recorder(NOWHERE, model="m", version="1", **wrong)


def test_examples_in_the_documentation() -> None:
    for module in (frame, messages, recorder, sampling):
        assert doctest.testmod(module).failed == 0
    assert doctest.testfile(str(README), module_relative=False).failed == 0


# --- with a real broker


@pytest.fixture
def prefix(broker: str) -> str:
    name = f"client-{uuid.uuid4().hex[:8]}."
    create(broker, name, *TOPICS)
    return name


def create(broker: str, prefix: str, *topics: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=broker)
    admin.create_topics([NewTopic(prefix + topic, num_partitions=2, replication_factor=1) for topic in topics])
    admin.close()


def consumed(broker: str, topic: str, count: int) -> list[Any]:
    """Read `count` records, and those that lie behind them."""
    consumer = KafkaConsumer(topic, bootstrap_servers=broker, auto_offset_reset="earliest", enable_auto_commit=False)
    found: list[Any] = []
    deadline = time.monotonic() + 60
    while len(found) < count and time.monotonic() < deadline:
        found += [r for records in consumer.poll(timeout_ms=500).values() for r in records]
    found += [r for records in consumer.poll(timeout_ms=200).values() for r in records]
    consumer.close()
    return found


def rows(records: list[Any]) -> dict[str, dict[str, Any]]:
    assert all(("content-type", CONTENT_TYPE.encode()) in r.headers for r in records)
    return {row["id"]: row for r in records for row in read(r.value).to_pylist()}


def test_events_arrive_in_frames_by_shape(broker: str, prefix: str) -> None:
    with Recorder(broker, model="digits", version="3", topic_prefix=prefix, digest="sha256:0", frame_rows=10) as client:
        for i in range(25):
            client.record(f"r-{i}", time_us=i, features={"x": i, "s": "a"}, scores={"no": 0.25, "yes": 0.75})
        client.record("new", features={"x": 1}, version="4", label=7, segment={"site": "A"}, status=500)
        client.record("rich", experiment={"name": "e", "arm": "b"}, served="shadow", embedding=[1, 2], abstained=True)
        assert client.flush(60)
        assert client.delivered == 27
    assert client.dropped == {}
    records = consumed(broker, f"{prefix}inference", 5)
    found = rows(records)
    assert len(found) == 27
    assert {r.key for r in records} == {b"digits"}
    assert found["r-7"]["features.x"] == 7.0
    assert found["r-7"]["scores"] == [0.25, 0.75]
    assert found["r-7"]["digest"] == "sha256:0"
    assert found["r-7"]["time"].timestamp() == pytest.approx(7e-6)
    assert "status" not in found["r-7"]
    assert (found["new"]["version"], found["new"]["label"], found["new"]["status"]) == ("4", "7", 500)
    assert (found["new"]["segment.site"], "digest" in found["new"]) == ("A", False)
    assert json.loads(found["rich"]["experiment"]) == {"name": "e", "arm": "b"}
    assert (found["rich"]["served"], found["rich"]["embedding"], found["rich"]["abstained"]) == ("shadow", [1, 2], True)


def test_columns_inputs_and_labels_arrive(broker: str, prefix: str) -> None:
    n = 2500
    ids = [f"r-{i}" for i in range(n)]
    images = np.arange(n * 4, dtype=np.float32).reshape(n, 2, 2)
    age = np.arange(n, dtype=np.float64)
    vectors = np.ones((n, 3), np.float32)
    client = Recorder(
        broker, model="m", version="1", topic_prefix=prefix, input_rate=0.1, segment={"site": "A"}, key=None
    )
    client.record_many(
        ids,
        times_us=np.arange(n) * 1_000_000,
        features={"age": age},
        scores=np.full((n, 2), 0.5),
        inputs=images,
        embedding=vectors,
        segment={"group": ["g"] * n},
        served="live",
        flags=[{"a": i} for i in range(n)],
    )
    age[:] = -1  # the server reuses its buffer
    client.label("r-1", label=3, time_us=0, propensity=0.05)
    client.label("r-2", correct=False, source="feedback", channel="thumbs")
    assert client.close(60)
    assert client.dropped == {}

    found = rows(consumed(broker, f"{prefix}inference", 3))
    assert [found[i]["features.age"] for i in ids] == list(range(n))
    assert (found["r-9"]["segment.site"], found["r-9"]["segment.group"], found["r-9"]["served"]) == ("A", "g", "live")
    assert found["r-9"]["flags"] == '{"a": 9}'

    chosen = [i for i in ids if sampled(i, 0.1)]
    inputs = {r.key.decode(): r for r in consumed(broker, f"{prefix}inputs", len(chosen))}
    assert sorted(inputs) == sorted(chosen)
    record = inputs[chosen[0]]
    index = int(chosen[0][2:])
    headers = dict(record.headers)
    assert record.value == images[index].tobytes()
    assert (headers["dtype"], json.loads(headers["shape"])) == (b"float32", [2, 2])
    assert (headers["model"], headers["version"], float(headers["propensity"])) == (b"m", b"1", 0.1)
    assert json.loads(headers["segment"]) == {"site": "A", "group": "g"}
    assert np.frombuffer(base64.b64decode(headers["embedding"]), "<f4").tolist() == [1, 1, 1]
    assert headers["time"].decode() == messages.rfc3339(index * 1_000_000)

    labels = {r.key.decode(): json.loads(r.value) for r in consumed(broker, f"{prefix}labels", 2)}
    assert labels["r-1"] == {
        **{"inference_id": "r-1", "model": "m", "version": "1", "time": "1970-01-01T00:00:00.000000Z"},
        **{"label": "3", "source": "ground-truth", "propensity": 0.05},
    }
    assert (labels["r-2"]["correct"], labels["r-2"]["channel"], "label" in labels["r-2"]) == (False, "thumbs", False)


def test_one_bad_event_does_not_take_its_frame_with_it(broker: str, prefix: str) -> None:
    with Recorder(broker, model="m", version="1", topic_prefix=prefix) as client:
        for i in range(20):
            client.record(f"r-{i}", features={"x": 10**400 if i == 13 else i})
        client.record("huge", features={"y": "x" * (MAX_VALUE + 1)})
        assert not client.flush(60)
        assert client.dropped == {"invalid": 1, "too-large": 1}
    found = rows(consumed(broker, f"{prefix}inference", 2))
    assert sorted(found) == sorted(f"r-{i}" for i in range(20) if i != 13)


def test_large_frames_are_halved(broker: str, prefix: str) -> None:
    n = 400
    with Recorder(broker, model="m", version="1", topic_prefix=prefix) as client:
        client.record_many([f"c-{i}" for i in range(n)], embedding=np.zeros((n, 1000)))
        for i in range(n):
            client.record(f"r-{i}", features={"text": "x" * 4000})
        assert client.flush(60)
    records = consumed(broker, f"{prefix}inference", 4)
    assert len(rows(records)) == 2 * n
    assert all(len(r.value) <= MAX_VALUE for r in records)


def test_a_missing_topic_holds_up_only_itself(broker: str) -> None:
    prefix = f"client-{uuid.uuid4().hex[:8]}."
    create(broker, prefix, "inference")
    client = Recorder(broker, model="m", version="1", topic_prefix=prefix, frame_seconds=0.1)
    client.label("r-0", label="x")
    for i in range(5):
        client.record(f"r-{i}")
    assert len(rows(consumed(broker, f"{prefix}inference", 1))) == 5
    assert not client.close(1.0)
    assert client.dropped == {"closed": 1}


class Forward(socketserver.BaseRequestHandler):
    """Passes bytes on to the broker and back."""

    broker: tuple[str, int]

    def handle(self) -> None:
        with socket.create_connection(self.broker) as upstream:
            back = threading.Thread(target=self.pump, args=(upstream, self.request))
            back.start()
            self.pump(self.request, upstream)
            back.join()

    @staticmethod
    def pump(source: socket.socket, sink: socket.socket) -> None:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def closed_gate(broker: str) -> Iterator[socketserver.ThreadingTCPServer]:
    """A door to the broker that refuses connections until it is activated and serves."""
    host, port = broker.split(":")
    handler = type("To", (Forward,), {"broker": (host, int(port))})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler, bind_and_activate=False) as server:
        server.daemon_threads = True
        server.server_bind()
        yield server


def test_events_wait_for_a_broker_that_comes_later(broker: str, prefix: str) -> None:
    with closed_gate(broker) as gate:
        client = Recorder(f"127.0.0.1:{gate.server_address[1]}", model="m", version="1", topic_prefix=prefix)
        for i in range(5):
            client.record(f"r-{i}")
        assert not client.flush(1.0)
        assert client.pending == 5
        gate.server_activate()
        serving = threading.Thread(target=gate.serve_forever)
        serving.start()
        assert client.flush(60)
        assert client.delivered == 5
        assert client.close()
        gate.shutdown()
        serving.join()
