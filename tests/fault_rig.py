"""What the fault test needs: traffic with an oracle that counts it, workers to be killed, and readers of the results.

The oracle is plain Python over what the broker acknowledged. It knows what a window is, but shares no code with the
project's own.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from aiokafka import AIOKafkaProducer
from bestbefore_client import CONTENT_TYPE, Repeated, encode_frame
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient
from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
PARTITIONS = 4
HOUR_US, DAY_US = 3_600_000_000, 86_400_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Counts = Counter[str]
Expected = dict[tuple[str, str, str, int], Counts]  # (model, version, segment, window start) -> counts


class Record(NamedTuple):
    """One Kafka record and what it adds to the oracle once it is acknowledged."""

    due_us: int  # event time at which it is sent
    topic: str
    partition: int
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]
    adds: list[tuple[tuple[str, str, str, int], str, int]]
    events: int = 0
    poison: bool = False


def text(time_us: int) -> str:
    """RFC 3339."""
    return (EPOCH + timedelta(microseconds=time_us)).isoformat().replace("+00:00", "Z")


def window(time_us: int, length_us: int) -> int:
    """Start of the window of a time."""
    return time_us - time_us % length_us


# -- traffic -------------------------------------------------------------------------------------------------


@dataclass
class Traffic:
    """40 days of two models: `digits` (described, decaying) and `edge` (nobody described it, three sites)."""

    seed: int
    days: int = 40
    frames_per_day: int = 10
    frame_rows: int = 450
    singles_per_day: int = 500
    records: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        now = time.time_ns() // 1000
        self.start = now - now % DAY_US - (self.days + 15) * DAY_US
        self.turn = 0
        for day in range(self.days):
            for part in range(self.frames_per_day):
                self._frame(day, part)
            for i in range(self.singles_per_day):
                self._single(day, i)
        self.records.sort(key=lambda record: record.due_us)

    def _times(self, day: int, share: float, width: float, rows: int) -> NDArray[np.int64]:
        """Event times around a share of a day: out of order by up to an hour, one in a hundred late by days."""
        begin = self.start + day * DAY_US
        within = (share + width * np.sort(self.rng.random(rows))) * DAY_US
        jitter = self.rng.random(rows) * HOUR_US * (self.rng.random(rows) < 0.2)
        late = self.rng.integers(1, 4, rows) * DAY_US * (self.rng.random(rows) < 0.01)
        times = np.int64(begin) + (within - jitter - late).astype(np.int64)
        times[times < self.start] = self.start
        return times

    def _answers(self, day: int, rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Truth, prediction and scores; the accuracy falls from 0.96 to 0.6 in the second half."""
        accuracy = 0.96 - 0.36 * max(0.0, day / self.days - 0.4) / 0.6
        truth = self.rng.integers(0, 10, rows)
        wrong = self.rng.random(rows) > accuracy
        predicted = np.where(wrong, (truth + 1 + self.rng.integers(0, 9, rows)) % 10, truth)
        scores = np.full((rows, 10), (1 - accuracy) / 9, dtype=np.float32)
        scores[np.arange(rows), predicted] = accuracy
        return truth, predicted, scores

    def _frame(self, day: int, part: int) -> None:
        edge = part == self.frames_per_day - 1 and day % 2 == 0
        model, version = ("edge", "7") if edge else ("digits", "1")
        width = 1 / self.frames_per_day
        times = self._times(day, part * width, width, self.frame_rows)
        truth, predicted, scores = self._answers(day, self.frame_rows)
        ids = [f"f-{day}-{part}-{i}" for i in range(self.frame_rows)]
        site = self.rng.integers(0, 3, self.frame_rows)
        columns: dict[str, Any] = {
            "id": ids, "time": times, "model": Repeated(model), "version": Repeated(version), "scores": scores,
            "label": [str(p) for p in predicted], "latency_ms": self.rng.gamma(4.0, 1.0, self.frame_rows),
            "features.brightness": self.rng.normal(0.305, 0.034, self.frame_rows),
            "features.contrast": self.rng.normal(0.316, 0.0287, self.frame_rows),
        }  # fmt: skip
        if edge:
            columns["segment.site"] = [f"s{s}" for s in site]
        self.turn += 1
        adds = [add for i in range(self.frame_rows) for add in self._keys(model, int(times[i]), site[i])]
        due = int(self.start + (day + (part + 1) * width) * DAY_US)
        headers = [("content-type", CONTENT_TYPE.encode())]
        frame = encode_frame(columns)
        self._put(Record(due, "inference", self.turn % PARTITIONS, None, frame, headers, adds, self.frame_rows))
        for i in range(self.frame_rows):
            self._follow_up(model, version, ids[i], int(times[i]), site[i], str(truth[i]), str(predicted[i]), due)

    def _single(self, day: int, i: int) -> None:
        model, version = (("edge", "7"), ("digits", "1"))[i % 2]
        at = int(self._times(day, i / self.singles_per_day, 0.01, 1)[0])
        truth, predicted, scores = self._answers(day, 1)
        site = int(self.rng.integers(0, 3))
        event: dict[str, Any] = {
            "id": f"e-{day}-{i}", "time": text(at), "model": model, "version": version, "latency_ms": 3.0,
            "features": {"brightness": 0.3, "contrast": 0.31},
            "output": {"label": str(predicted[0]), "scores": {str(k): float(s) for k, s in enumerate(scores[0])}},
        }  # fmt: skip
        if model == "edge":
            event["segment"] = {"site": f"s{site}"}
        due = int(self.start + (day + i / self.singles_per_day) * DAY_US)
        value, headers = self._dressed(event, i)
        self.turn += 1
        self._put(Record(
            due, "inference", self.turn % PARTITIONS, event["id"].encode(), value, headers,
            self._keys(model, at, site), 1,
        ))  # fmt: skip
        self._follow_up(model, version, event["id"], at, site, str(truth[0]), str(predicted[0]), due)

    def _dressed(self, event: dict[str, Any], i: int) -> tuple[bytes, list[tuple[str, bytes]]]:
        """Plain JSON, a binary CloudEvent or a structured one."""
        about = {"specversion": "1.0", "id": event["id"], "source": "/rig", "type": "t", "time": event["time"]}
        if i % 3 == 0:
            return json.dumps(event).encode(), []
        if i % 3 == 1:
            return json.dumps(event).encode(), [(f"ce_{name}", value.encode()) for name, value in about.items()]
        return (
            json.dumps({**about, "data": event}).encode(),
            [("content-type", b"application/cloudevents+json; charset=utf-8")],
        )

    @staticmethod
    def _keys(model: str, at: int, site: Any, what: str = "n") -> list[tuple[tuple[str, str, str, int], str, int]]:
        if model == "digits":
            return [(("digits", "1", "", window(at, DAY_US)), what, 1)]
        segment = json.dumps({"site": f"s{site}"}, separators=(",", ":"))
        return [(("edge", "7", name, window(at, 6 * HOUR_US)), what, 1) for name in ("", segment)]

    def _follow_up(
        self, model: str, version: str, name: str, at: int, site: Any, truth: str, predicted: str, due: int
    ) -> None:
        """A label for one in twenty, two to four days later (sent twice now and then); an input for one in 400."""
        if self.rng.random() < 0.05:
            labelled = at + int(self.rng.uniform(2, 4) * DAY_US)
            body = {
                "inference_id": name, "model": model, "version": version, "time": text(labelled), "label": truth,
                "propensity": 0.05,
            }  # fmt: skip
            adds = self._keys(model, at, site, "n_labelled")
            if truth == predicted:
                adds += self._keys(model, at, site, "n_correct")
            sent = max(labelled, due)
            where = sum(name.encode()) % PARTITIONS
            record = Record(sent, "labels", where, name.encode(), json.dumps(body).encode(), [], adds)
            self._put(record)
            if self.rng.random() < 0.02:
                self._put(record._replace(due_us=sent + HOUR_US, adds=[]))
        if model == "digits" and self.rng.random() < 1 / 400:
            tensor = self.rng.random((1, 16, 16)).astype(np.float32)
            fields = {
                "inference_id": name, "model": model, "version": version, "time": text(at), "dtype": "float32",
                "shape": "[1, 16, 16]", "propensity": "0.0025",
            }  # fmt: skip
            headers = [(field, value.encode()) for field, value in fields.items()]
            self.turn += 1
            self._put(Record(
                due, "inputs", self.turn % PARTITIONS, name.encode(), tensor.tobytes(), headers,
                self._keys(model, at, site, "n_input"),
            ))  # fmt: skip
            if self.rng.random() < 0.02:
                self._put(Record(due, "inference", self.turn % PARTITIONS, None, b"{no json", [], [], poison=True))

    def _put(self, record: Record) -> None:
        self.records.append(record)


class Sender:
    """Sends the traffic spread over wall time, and adds up in `expected` what the broker has acknowledged."""

    def __init__(self, broker: str, prefix: str) -> None:
        self._broker, self._prefix = broker, prefix
        self.expected: Expected = {}
        self.events = self.acknowledged = 0
        self.poison: set[tuple[str, int, int]] = set()
        self.progress = 0.0

    async def send(self, records: list[Record], seconds: float) -> None:
        """Every record is acknowledged once when this returns; it raises when one is not."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self._broker, acks="all", enable_idempotence=True, request_timeout_ms=120_000,
            max_request_size=4 << 20, linger_ms=5,
        )  # fmt: skip
        await producer.start()
        waiting = []
        step = max(len(records) // int(seconds / 0.05), 1)
        try:
            for i, record in enumerate(records):
                self.progress = i / len(records)
                if i % step == 0:  # what an outage has held up is not sent in one burst
                    await asyncio.sleep(0.05)
                future = await producer.send(
                    self._prefix + record.topic, record.value, record.key, record.partition, None, record.headers
                )
                waiting.append((record, future))
            for record, future in waiting:
                self._count(record, await future)
        finally:
            self.progress = 1.0
            await producer.stop()

    def _count(self, record: Record, where: Any) -> None:
        self.acknowledged += 1
        self.events += record.events
        if record.poison:
            self.poison.add((where.topic, where.partition, where.offset))
        for key, name, by in record.adds:
            self.expected.setdefault(key, Counter())[name] += by


# -- workers -------------------------------------------------------------------------------------------------


class Worker:
    """One worker process with a log of its own."""

    def __init__(self, folder: Path, name: str, environment: dict[str, str], *options: str) -> None:
        self.name, self.log = name, folder / f"worker-{name}.log"
        env = {**os.environ, **environment, "PYTHONPATH": f"{ROOT}:{ROOT / 'client'}", "OMP_NUM_THREADS": "1"}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "infra.cli", "worker", *options], cwd=folder, env=env, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """Kill -9."""
        self.process.kill()
        self.process.wait()

    def stop(self, patience_s: float = 30) -> int:
        """Ask it to end; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(patience_s)


class Crew:
    """The workers of a deployment; one that ended by itself is noted and replaced, as orchestrators do."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder, self._environment = folder, environment
        self.workers: list[Worker] = []
        self.ended: list[tuple[str, int]] = []
        self._made = 0

    def start(self) -> Worker:
        """One more worker."""
        self._made += 1
        worker = Worker(self._folder, f"{self._made}", self._environment)
        self.workers.append(worker)
        return worker

    def replace(self, worker: Worker) -> None:
        """Kill -9 and start a new one."""
        worker.kill()
        self.workers.remove(worker)
        self.start()

    def look_after(self) -> None:
        """Replace what has ended by itself."""
        for worker in list(self.workers):
            status = worker.process.poll()
            if status is not None:
                self.ended.append((worker.name, status))
                self.workers.remove(worker)
                self.start()

    def logs(self, lines: int = 60) -> str:
        """The ends of all logs."""
        return "\n".join(
            f"--- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
            for path in sorted(self._folder.glob("worker-*.log"))
        )


@contextmanager
def crew(folder: Path, environment: dict[str, str]) -> Iterator[Crew]:
    """Workers that are gone at the end of the block."""
    hired = Crew(folder, environment)
    try:
        yield hired
    finally:
        for worker in hired.workers:
            worker.kill()


# -- what came of it -----------------------------------------------------------------------------------------


def read_topic(broker: str, topic: str) -> list[Any]:
    """Every record of a topic."""
    consumer = KafkaConsumer(
        bootstrap_servers=broker, enable_auto_commit=False, auto_offset_reset="earliest", fetch_max_wait_ms=100
    )
    try:
        places = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic))]
        ends = consumer.end_offsets(places)
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        found: list[Any] = []
        while any(consumer.position(place) < end for place, end in ends.items()):
            found += [record for batch in consumer.poll(500).values() for record in batch]
        return found
    finally:
        consumer.close()


def lag(broker: str, group: str, topics: list[str]) -> dict[str, int]:
    """Records of each topic that the group has not committed yet."""
    admin = KafkaAdminClient(bootstrap_servers=broker)
    consumer = KafkaConsumer(bootstrap_servers=broker)
    try:
        committed = admin.list_group_offsets(group)
        committed = committed.get(group, committed)
        behind: dict[str, int] = {}
        for topic in topics:
            ends = consumer.end_offsets([TopicPartition(topic, p) for p in range(PARTITIONS)])
            done = {place: committed[place].offset if place in committed else 0 for place in ends}
            behind[topic] = sum(end - max(done[place], 0) for place, end in ends.items())
        return behind
    finally:
        consumer.close()
        admin.close()
