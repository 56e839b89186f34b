"""The client: pyarrow and a real broker give back what it was told; without a broker it stays out of the way."""

import base64
import doctest
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from bestbefore_client import (
    Recorder,
    frame,
    messages,
    recorder,
    sampled,
    sampling,
)
from bestbefore_client.events import MAX_VALUE
from bestbefore_client.rows import Rows

from tests.client_rig import BACKENDS, NOWHERE, closed_gate, consumed, fresh_prefix, is_heartbeat, rows

README = Path(__file__).parents[1] / "client" / "README.md"


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


def test_segments_whose_values_are_equal_and_not_the_same_stay_apart() -> None:
    made = Rows((), {})
    assert [made.placed({"a": value})["a"] for value in (1, True, 1.0, 1)] == ["1", "True", "1.0", "1"]


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
    with pytest.raises(ValueError, match=r"input_rate|key|frame_rows"):
        Recorder(NOWHERE, model="m", version="1", **wrong)


def test_examples_in_the_documentation() -> None:
    for module in (frame, messages, recorder, sampling):
        assert doctest.testmod(module).failed == 0
    assert doctest.testfile(str(README), module_relative=False).failed == 0


# --- with a real broker, by either library


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def prefix(broker: str) -> str:
    return fresh_prefix(broker)


def test_events_arrive_in_frames_by_shape(broker: str, prefix: str, backend: str) -> None:
    with Recorder(
        broker, model="digits", version="3", topic_prefix=prefix, backend=backend, digest="sha256:0", frame_rows=10
    ) as client:
        for i in range(25):
            client.record(f"r-{i}", time_us=i, features={"x": i, "s": "a"}, scores={"no": 0.25, "yes": 0.75})
        client.record("new", features={"x": 1}, version="4", label=7, segment={"site": "A"}, status=500)
        client.record("rich", experiment={"name": "e", "arm": "b"}, served="shadow", embedding=[1, 2], abstained=True,
                      traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")  # fmt: skip
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
    assert found["rich"]["traceparent"] == "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert (found["rich"]["served"], found["rich"]["embedding"], found["rich"]["abstained"]) == ("shadow", [1, 2], True)


def test_columns_inputs_and_labels_arrive(broker: str, prefix: str, backend: str) -> None:
    n = 2500
    ids = [f"r-{i}" for i in range(n)]
    images = np.arange(n * 4, dtype=np.float32).reshape(n, 2, 2)
    age = np.arange(n, dtype=np.float64)
    vectors = np.ones((n, 3), np.float32)
    client = Recorder(
        broker, model="m", version="1", topic_prefix=prefix, backend=backend, input_rate=0.1,
        segment={"site": "A"}, key=None, digest="sha256:0", provider="CPUExecutionProvider",
    )  # fmt: skip
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
        batch_size=32,
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
    served = (headers["provider"], headers["batch_size"], headers["digest"])
    assert served == (b"CPUExecutionProvider", b"32", b"sha256:0")
    assert headers["time"].decode() == messages.rfc3339(index * 1_000_000)

    labels = {r.key.decode(): json.loads(r.value) for r in consumed(broker, f"{prefix}labels", 2)}
    assert labels["r-1"] == {
        **{"inference_id": "r-1", "model": "m", "version": "1", "time": "1970-01-01T00:00:00.000000Z"},
        **{"label": "3", "source": "ground-truth", "propensity": 0.05},
    }
    assert (labels["r-2"]["correct"], labels["r-2"]["channel"], "label" in labels["r-2"]) == (False, "thumbs", False)


def test_one_bad_event_does_not_take_its_frame_with_it(broker: str, prefix: str, backend: str) -> None:
    with Recorder(broker, model="m", version="1", topic_prefix=prefix, backend=backend) as client:
        for i in range(20):
            client.record(f"r-{i}", features={"x": 10**400 if i == 13 else i})
        client.record("huge", features={"y": "x" * (MAX_VALUE + 1)})
        assert not client.flush(60)
        assert client.dropped == {"invalid": 1, "too-large": 1}
    found = rows(consumed(broker, f"{prefix}inference", 2))
    assert sorted(found) == sorted(f"r-{i}" for i in range(20) if i != 13)


def test_large_frames_are_halved(broker: str, prefix: str, backend: str) -> None:
    n = 400
    with Recorder(broker, model="m", version="1", topic_prefix=prefix, backend=backend) as client:
        client.record_many([f"c-{i}" for i in range(n)], embedding=np.zeros((n, 1000)))
        for i in range(n):
            client.record(f"r-{i}", features={"text": "x" * 4000})
        assert client.flush(60)
    records = consumed(broker, f"{prefix}inference", 4)
    assert len(rows(records)) == 2 * n
    assert all(len(r.value) <= MAX_VALUE for r in records)


def test_a_missing_topic_holds_up_only_itself(broker: str, backend: str) -> None:
    prefix = fresh_prefix(broker, "inference")
    client = Recorder(broker, model="m", version="1", topic_prefix=prefix, backend=backend, frame_seconds=0.1)
    client.label("r-0", label="x")
    for i in range(5):
        client.record(f"r-{i}")
    assert len(rows(consumed(broker, f"{prefix}inference", 1))) == 5
    assert not client.close(1.0)
    assert client.dropped == {"closed": 1}


def test_events_wait_for_a_broker_that_comes_later(broker: str, prefix: str, backend: str) -> None:
    with closed_gate(broker) as gate:
        client = Recorder(
            f"127.0.0.1:{gate.server_address[1]}", model="m", version="1", topic_prefix=prefix, backend=backend
        )
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


def test_what_was_accepted_under_pressure_arrives_once(broker: str, prefix: str, backend: str) -> None:
    with Recorder(
        broker, model="m", version="1", topic_prefix=prefix, backend=backend, frame_rows=50, max_bytes=400_000
    ) as client:
        for i in range(2000):
            client.record(f"r-{i}", features={"x": i})
        assert client.flush(60)
    accepted = 2000 - client.dropped.get("full", 0)
    assert client.delivered == accepted
    records = [r for r in consumed(broker, f"{prefix}inference", -(-accepted // 50)) if not is_heartbeat(r)]
    assert sum(pa.ipc.open_stream(r.value).read_all().num_rows for r in records) == len(rows(records)) == accepted


def test_a_script_that_forgets_to_close_still_sends(broker: str, prefix: str, backend: str) -> None:
    script = """
import sys
from bestbefore_client import Recorder
recorder = Recorder(
    sys.argv[1], model="m", version="1", topic_prefix=sys.argv[2], backend=sys.argv[3], frame_seconds=60
)
recorder.record("first")
recorder.flush(60)
recorder.record("last")
"""
    client = str(README.parent)
    subprocess.run([sys.executable, "-c", script, broker, prefix, backend], env={"PYTHONPATH": client}, check=True)
    assert sorted(rows(consumed(broker, f"{prefix}inference", 2))) == ["first", "last"]
