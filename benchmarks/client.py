"""What recording costs a model server: `Recorder.record` beside sending by hand, and a server's thread beside it.

    python -m benchmarks.client [--repeats 5] [--seconds 3]
    python -m benchmarks.client --soak 600        (a dead broker, 2 000 events a second; times include copying)

Events are 1 kB as JSON: twelve numbers, six texts, ten scores, a segment. A real broker on this machine is up, then
killed, then was never there; `full` is a recorder whose bounds are reached. Percentiles are of single calls, in
microseconds, each repeat apart: p99 is given as min/median/max over the repeats, because cores are shared; `on a core`
leaves out what the thread waited for one. Peers in the same run: `json.dumps` of the event, which sending by hand needs
before anything else, and `producer.send` of kafka-python and `produce` of confluent-kafka of that JSON. The server's
thread waits 1 ms for its client, computes for about 200 us and records; what is measured is how long that takes in all.
"""

import argparse
import json
import logging
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]
from bestbefore_client import Recorder
from confluent_kafka import Producer
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic
from numpy.typing import NDArray

from infra.local.kafka import Broker

NOWHERE = "127.0.0.1:1"
BACKENDS = ("kafka-python", "confluent")
RATES = (1_000, 10_000, 0)  # 0: one call after the other
ROOM: dict[str, Any] = {
    "max_events": 2_000_000,
    "max_bytes": 2 << 30,
}  # so that an outage is measured before the bounds are reached
Call = Callable[[str, dict[str, Any]], object]


def events(n: int = 1000) -> list[dict[str, Any]]:
    """Arguments of `record`, 1 kB each as JSON."""
    rng = np.random.default_rng(0)
    texts = {
        "country": "DE", "device": "mobile", "browser": "Firefox 146", "campaign": "autumn-2026", "language": "de-DE",
        "referrer": "https://www.example.org/shoes",
    }  # fmt: skip
    return [
        {
            "features": {**{f"amount_{k:02d}": float(x) for k, x in enumerate(rng.normal(size=12))}, **texts},
            "scores": {str(k): float(p) for k, p in enumerate(rng.dirichlet(np.ones(10)))},
            "label": "7",
            "latency_ms": float(rng.gamma(9.0, 0.4)),
            "segment": {"site": "A", "tenant": "north"},
        }
        for _ in range(n)
    ]


def paced(
    call: Call, rate: int, seconds: float, load: list[dict[str, Any]], clock: Callable[[], float] = time.perf_counter
) -> NDArray[np.float64]:
    """Microseconds of each call, made at a rate in bursts of at most a millisecond, or one after the other for 0."""
    burst = max(1, rate // 1000)
    taken = np.empty(int(rate * seconds) or 10_000)
    start = time.perf_counter()
    for i in range(len(taken)):
        if rate and i % burst == 0:
            ahead = start + i / rate - time.perf_counter()
            if ahead > 0:
                time.sleep(ahead)
        event, name = load[i % len(load)], f"0b7c6e1e-6e83-4b3c-8a56-{i:012d}"
        before = clock()
        call(name, event)
        taken[i] = clock() - before
    return taken * 1e6


def served(call: Call | None, per_request: int, seconds: float, load: list[dict[str, Any]]) -> NDArray[np.float64]:
    """Microseconds of each request of a server's thread that records `per_request` events in it."""
    taken: list[float] = []
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        before = time.perf_counter()
        time.sleep(0.001)
        sum(i * i for i in range(3000))
        for i in range(per_request if call else 0):
            assert call is not None
            call(f"r-{len(taken)}-{i}", load[len(taken) % len(load)])
        taken.append(time.perf_counter() - before)
    return np.array(taken) * 1e6


def told(name: str, runs: list[NDArray[np.float64]], more: str = "") -> None:
    """One line of percentiles."""
    p50, p99, p999 = (np.array([np.percentile(run, p) for run in runs]) for p in (50, 99, 99.9))
    print(
        f"{name:46s} p50 {np.median(p50):7.1f}   p99 {p99.min():7.1f} /{np.median(p99):7.1f} /{p99.max():7.1f}   "
        f"p99.9 {np.median(p999):8.1f}  {more}",
        flush=True,
    )


@contextmanager
def recording(broker: str, prefix: str, backend: str, **options: Any) -> Iterator[Recorder]:
    """A recorder that has begun."""
    recorder = Recorder(broker, model="bench", version="1", topic_prefix=prefix, backend=backend, **options)
    yield recorder
    recorder.close(2.0)


def record(recorder: Recorder) -> Call:
    """Call `record`."""
    return lambda name, event: recorder.record(name, **event)


def as_json(name: str, event: dict[str, Any]) -> bytes:
    """Give the event as one would write it by hand."""
    return json.dumps(
        {"id": name, "time": "2026-11-20T10:00:00.123Z", "model": "bench", "version": "1", **event}
    ).encode()


class Bench:
    """One run: what is repeated, for how long, with which load."""

    def __init__(self, repeats: int, seconds: float, prefix: str) -> None:
        self.repeats, self.seconds, self.prefix, self.load = repeats, seconds, prefix, events()

    def calls(self, name: str, call: Call, more: Callable[[], str] = str) -> None:
        """Measure single calls at each rate."""
        for rate in RATES:
            runs = [paced(call, rate, self.seconds, self.load) for _ in range(self.repeats)]
            told(f"{name}, {f'{rate:,}/s' if rate else 'back to back'}", runs, more())
        runs = [paced(call, 0, 0.0, self.load, time.thread_time) for _ in range(self.repeats)]
        told(f"{name}, back to back, on a core", runs)

    def recorder(
        self, state: str, broker: str, backend: str, between: Callable[[], object] = str, **options: Any
    ) -> None:
        """Measure `record` in a state of the broker."""
        with recording(broker, self.prefix, backend, **options) as recorder:
            recorder.record("first", **self.load[0])
            recorder.flush(5.0)
            between()
            while "full" in state and not recorder.dropped:
                recorder.record("fill", **self.load[0])
            self.calls(f"record {backend}, {state}", record(recorder), lambda: _losses(recorder))

    def peers(self, broker: str) -> None:
        """Measure what one would write by hand."""
        self.calls("json.dumps", as_json)
        topic = f"{self.prefix}inference"
        slow = KafkaProducer(bootstrap_servers=broker, acks="all")
        self.calls("kafka-python send(json.dumps)", lambda name, event: slow.send(topic, as_json(name, event)))
        slow.close()
        fast = Producer({"bootstrap.servers": broker, "acks": "all"})

        def produce(name: str, event: dict[str, Any]) -> None:
            fast.produce(topic, as_json(name, event))
            fast.poll(0)

        self.calls("confluent produce(json.dumps)", produce)
        fast.flush()

    def server(self, broker: str, state: str) -> None:
        """Measure a server's thread, without and with the recorder."""
        for per_request in (1, 10):
            runs = [served(None, per_request, self.seconds, self.load) for _ in range(self.repeats)]
            told("request, no recorder", runs)
            for backend in BACKENDS:
                with recording(broker, self.prefix, backend) as recorder:
                    call = record(recorder)
                    runs = [served(call, per_request, self.seconds, self.load) for _ in range(self.repeats)]
                    rate = np.mean([len(run) for run in runs]) * per_request / self.seconds
                    told(f"request, {backend}, {state}, {rate:,.0f} events/s", runs, _losses(recorder))


def _losses(recorder: Recorder) -> str:
    return "" if not recorder.dropped else f"dropped {recorder.dropped}"


def soak(seconds: float, rate: int = 2_000) -> None:
    """Record to a broker that is not there, and watch the memory."""
    process, load = psutil.Process(), events()
    for backend in BACKENDS:
        with recording(NOWHERE, "soak.", backend) as recorder:

            def call(name: str, event: dict[str, Any], recorder: Recorder = recorder) -> None:
                # Objects of its own, as a server has: shared ones would take no memory.
                numbers = {
                    key: value if type(value) is str else value + 1e-9 for key, value in event["features"].items()
                }
                scores = {key: value * 0.5 for key, value in event["scores"].items()}
                recorder.record(name, **{**event, "features": numbers, "scores": scores})

            before = process.memory_info().rss
            print(f"{backend}: bound 64 MiB; resident before {before / 2**20:.0f} MiB", flush=True)
            for part in range(12):
                taken = paced(call, rate, seconds / 12, load)
                grown = (process.memory_info().rss - before) / 2**20
                stats = recorder.stats()
                told(
                    f"  {(part + 1) * seconds / 12:5.0f} s", [taken],
                    f"+{grown:.1f} MiB, holds {stats.pending:,} events of {stats.pending_bytes / 2**20:.1f} MiB, "
                    f"dropped {stats.dropped}",
                )  # fmt: skip


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--soak", type=float, help="seconds with a dead broker, for each library")
    given = parser.parse_args()
    logging.getLogger("bestbefore_client").setLevel(logging.CRITICAL)
    if given.soak:
        soak(given.soak)
        return
    prefix = f"bench-{uuid.uuid4().hex[:8]}."
    bench = Bench(given.repeats, given.seconds, prefix)
    print(f"one event is {len(as_json('0b7c6e1e-6e83-4b3c-8a56-000000000000', bench.load[0]))} bytes of JSON; us")
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder))
        broker.start()
        admin = KafkaAdminClient(bootstrap_servers=broker.address)
        admin.create_topics([NewTopic(f"{prefix}inference", 2, 1)])
        admin.close()
        bench.peers(broker.address)
        for backend in BACKENDS:
            bench.recorder("up", broker.address, backend, **ROOM)
        bench.server(broker.address, "up")
        for backend in BACKENDS:
            broker.start()
            bench.recorder("killed", broker.address, backend, broker.kill, **ROOM)
        with suppress(Exception):
            broker.stop()
    for backend in BACKENDS:
        bench.recorder("never there", NOWHERE, backend, **ROOM)
        bench.recorder("never there, full", NOWHERE, backend)
    bench.server(NOWHERE, "never there")


if __name__ == "__main__":
    main()
