"""What the client of a version sends to a broker, and what a version reads in it.

    python tests/sent_records.py send BROKER PREFIX
    python tests/sent_records.py read FILE      (prints JSON; FILE is msgpack: [topic, value, headers] of each record)

Runs under this version and under the previous one, like tests/artefacts.py.
"""

import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from bestbefore_client import Recorder

from streams.batches import kept_of_frame
from streams.frames import decode_frame
from streams.records import decode_input, decode_label

TIME = 1_795_168_800_123_456
TOPICS = ("inference", "inputs", "labels")


def send(broker: str, prefix: str) -> None:
    """Everything that a model server can tell the recorder."""
    recorder = Recorder(
        broker, model="digits", version="3", topic_prefix=prefix, input_rate=1.0, frame_seconds=0.1, digest="sha256:ab",
        provider="CPUExecutionProvider", segment={"site": "A"}, classes=("0", "1"),
    )  # fmt: skip
    recorder.record(
        "one", time_us=TIME, features={"age": 41.0, "country": "DE", "ok": True, "income": None}, label="7",
        scores={"0": 0.1, "7": 0.9}, latency_ms=3.2, status=200, segment={"line": "2"}, sampling=0.5, batch_size=8,
        input=np.arange(6, dtype=np.float32).reshape(2, 3), embedding=np.ones(4, np.float32), experiment={"name": "e"},
    )  # fmt: skip
    recorder.record("two", time_us=TIME + 1, value=1.5, status=500, abstained=True, version="4", served="shadow")
    recorder.record_many(
        ["m-1", "m-2"], times_us=[TIME + 2, TIME + 3], features={"x": np.array([0.5, np.nan]), "c": ["a", None]},
        scores=np.array([[0.2, 0.8], [0.9, 0.1]]), label=["1", "0"], latency_ms=[1.0, 2.0], sampling=0.25,
        segment={"line": ["1", "2"]},
    )  # fmt: skip
    recorder.label("one", time_us=TIME + 9, label="1", propensity=0.05, loss=0.5, metric="m")
    recorder.label("two", time_us=TIME + 9, value=2.5, source="proxy:click")
    recorder.label("m-1", time_us=TIME + 9, correct=False, source="feedback")
    if not recorder.close(20.0):
        raise SystemExit(f"not all was sent: {recorder.dropped}, {recorder.last_error}")


def read(records: list[tuple[str, bytes, list[tuple[str, bytes]]]]) -> Any:
    """What is found in records of the three topics, in an order of its own."""
    found: dict[str, list[Any]] = {topic: [] for topic in TOPICS}
    for topic, value, headers in records:
        if topic == "inference":
            decoded = decode_frame(value, 0)
            found[topic] += [decoded.table.to_pylist(), [msgspec.to_builtins(k) for k in kept_of_frame(decoded, 1.0)]]
        elif topic == "labels":
            found[topic].append(msgspec.to_builtins(decode_label(value, headers)))
        else:
            found[topic].append([msgspec.to_builtins(decode_input(headers)), value])
    plain: Any = msgspec.json.decode(msgspec.json.encode(found))
    return plain


if __name__ == "__main__":
    task, *given = sys.argv[1:]
    if task == "send":
        send(*given)
    else:
        sent = msgspec.msgpack.decode(Path(given[0]).read_bytes())
        sys.stdout.buffer.write(msgspec.json.encode(read(sent)))
