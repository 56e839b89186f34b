"""Events per second of one worker, from the inference topic to published profiles, beside a bare aiokafka reader.

    python -m benchmarks.throughput [--events 10_000_000] [--singles 100_000]

Frames of 1 000 events with 10 features and 10 scores on 4 partitions of a real broker on this machine. The worker runs
as in production, agent `ingest` alone, with a registered reference. Its rate is taken between
the first profile and the one that makes 95% of all events. Peer: aiokafka `getmany` on the same records, which only
reads. Memory is the worker's resident set.
"""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from bestbefore_client import CONTENT_TYPE, Repeated, encode_frame

from infra.local.services import ephemeral
from infra.migrate import upgrade
from infra.topic_admin import create_topics
from models.profile import Profile
from models.quality import Calibration
from models.reference import NumericFeature, Reference
from streams.event_store import EventStore
from streams.lane import ProfileRecord
from streams.registry import encode_reference
from streams.settings import Settings, load
from streams.topics import INFERENCE, PROFILES

ROWS, FEATURES, CLASSES, PARTITIONS = 1_000, 10, 10, 4
FRAME_US = 30_000_000  # event time a frame spans
FEW = 0.001  # share of predictions kept for labels: at this rate of events still hundreds a second
START_US = (time.time_ns() // 86_400_000_000_000 - 100) * 86_400_000_000
ROOT = Path(__file__).parents[1]


class Reading(NamedTuple):
    """Profiles seen by one moment: event count and the worker's memory in MiB."""

    at: float
    events: int
    memory: float


def frame(rng: np.random.Generator, number: int) -> bytes:
    """One frame; frames of a partition follow each other in event time."""
    scores = rng.dirichlet(np.ones(CLASSES) * 0.3, ROWS).astype(np.float32)
    columns: dict[str, Any] = {
        "id": [f"e-{number:06d}-{i:04d}" for i in range(ROWS)],
        "time": START_US + number * FRAME_US + np.arange(ROWS) * (FRAME_US // ROWS),
        "model": Repeated("bench"),
        "version": Repeated("1"),
        **{f"features.f{i}": rng.normal(size=ROWS) for i in range(FEATURES)},
        "scores": scores,
        "latency_ms": rng.gamma(9.0, 0.4, ROWS).astype(np.float32),
    }
    return encode_frame(columns, classes=[str(i) for i in range(CLASSES)])


def normal_feature() -> NumericFeature:
    """A standard normal number as descriptors tell it, by 13 quantiles."""
    shares = (0.01, 0.05, *np.arange(0.1, 0.95, 0.1).round(1).tolist(), 0.95, 0.99)
    edges = tuple(NormalDist().inv_cdf(p) for p in shares)
    return NumericFeature(edges=edges, shares=tuple(np.diff([0.0, *shares, 1.0]).tolist()), n=10_000)


def reference() -> Reference:
    """The benchmark's model as its descriptors would say it: 13 quantiles per feature, a calibration."""
    grid = normal_feature()
    return Reference(
        model="bench", version="1", window_us=3_600_000_000, lateness_us=300_000_000, minimum_n=100,
        numeric={f"f{i}": grid for i in range(FEATURES)},
        calibration=Calibration(temperature=1.2, atc_threshold=0.7, accuracy=0.9, n=1_000),
    )  # fmt: skip


async def produce_frames(settings: Settings, frames: int) -> int:
    """Fill the inference topic; returns the bytes sent."""
    rng, size = np.random.default_rng(1), 0
    headers = [("content-type", CONTENT_TYPE.encode())]
    async with AIOKafkaProducer(
        bootstrap_servers=settings.broker, max_batch_size=1 << 20, linger_ms=5, max_request_size=8 << 20
    ) as producer:
        waiting: list[Any] = []
        for number in range(frames):
            value = frame(rng, number // PARTITIONS)
            size += len(value)
            waiting.append(
                await producer.send(settings.topic(INFERENCE), value, partition=number % PARTITIONS, headers=headers)
            )
            if len(waiting) == 64:
                await asyncio.gather(*waiting)
                waiting.clear()
        await asyncio.gather(*waiting)
    return size


async def produce_singles(settings: Settings, events: int) -> None:
    """The same kind of events, one JSON object a record."""
    rng = np.random.default_rng(2)
    async with AIOKafkaProducer(bootstrap_servers=settings.broker, max_batch_size=1 << 18, linger_ms=5) as producer:
        waiting: list[Any] = []
        features, scores = rng.normal(size=(1000, FEATURES)).round(4), rng.dirichlet(np.ones(CLASSES), 1000).round(4)
        for number in range(events):
            row = number % 1000
            seconds = START_US // 1_000_000 + number // 2
            body = {
                "id": f"s-{number}", "model": "bench", "version": "1",
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)),
                "features": {f"f{i}": v for i, v in enumerate(features[row].tolist())},
                "output": {"scores": {str(i): v for i, v in enumerate(scores[row].tolist())}}, "latency_ms": 3.1,
            }  # fmt: skip
            waiting.append(
                await producer.send(settings.topic(INFERENCE), msgspec.json.encode(body), partition=number % PARTITIONS)
            )
            if len(waiting) == 2000:
                await asyncio.gather(*waiting)
                waiting.clear()
        await asyncio.gather(*waiting)


async def read_bare(settings: Settings, events_per_record: int) -> float:
    """Events per second of aiokafka `getmany` over the same topic, doing nothing with the records."""
    consumer = AIOKafkaConsumer(
        settings.topic(INFERENCE), bootstrap_servers=settings.broker, auto_offset_reset="earliest",
        max_partition_fetch_bytes=8 << 20,
    )  # fmt: skip
    async with consumer:
        ends = await consumer.end_offsets(consumer.assignment())
        started, seen, total = time.perf_counter(), 0, sum(ends.values())
        while seen < total:
            batch = await consumer.getmany(timeout_ms=1000)
            seen += sum(len(records) for records in batch.values())
        return seen * events_per_record / (time.perf_counter() - started)


def memory(process: int) -> float:
    """Resident set of a process in MiB."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return float("nan")


async def watch_worker(
    settings: Settings, config: Path, events: int, log: Path, home: str | None = None
) -> list[Reading]:
    """Start a worker, of the version at `home`, and follow the profiles it publishes until all events are in them."""
    environment = {**os.environ, "BESTBEFORE_CONFIG": str(config), "PYTHONPATH": home or f"{ROOT}:{ROOT / 'client'}"}
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.broker, max_partition_fetch_bytes=8 << 20)
    places = [TopicPartition(settings.topic(PROFILES), p) for p in range(settings.partitions)]
    decoder = msgspec.msgpack.Decoder(ProfileRecord)
    readings: list[Reading] = []
    async with consumer:
        consumer.assign(places)
        await consumer.seek_to_end(*places)  # what an earlier worker has published is not counted
        for place in places:
            await consumer.position(place)
        with log.open("wb") as out:
            worker = subprocess.Popen(
                [sys.executable, "-P", "-m", "infra.cli", "worker", "--agents", "ingest"],
                env=environment,
                stdout=out,
                stderr=out,
            )
        try:
            counted, quiet = 0, time.monotonic()
            while counted < events and time.monotonic() - quiet < 90 and worker.poll() is None:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    for record in records:
                        found = decoder.decode(record.value)
                        if found.profile is not None and found.version and not found.segment:
                            counted += Profile.unpack(found.profile).n
                            quiet = time.monotonic()
                    readings.append(Reading(time.perf_counter(), counted, memory(worker.pid)))
            return readings
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.wait(30)


def rate(readings: list[Reading], share: float = 0.95) -> float:
    """Events per second between the first profile and the moment `share` of all events was in profiles."""
    last = readings[-1].events * share
    first = next(r for r in readings if r.events > 0)
    end = next(r for r in readings if r.events >= last)
    return (end.events - first.events) / (end.at - first.at)


def run(events: int, *, singles: bool, keep: float) -> tuple[float, float, list[Reading]]:
    """The worker's rate, the bare reader's rate, and the worker's readings, on services of their own."""
    with tempfile.TemporaryDirectory(dir=ROOT) as folder, ephemeral(Path(folder) / "services") as services:
        given = {"group": "bench", "idle_after": "2 s", "partitions": PARTITIONS, "keep_rate": keep}
        settings = load({}, Path(folder), broker=services.broker, store=services.store, **given)
        upgrade(settings.store)
        create_topics(settings)
        known = reference()
        EventStore(settings.store).register(known.model, known.version, "bench", encode_reference(known))
        config = Path(folder) / "bench.toml"
        lines = [f'{k} = "{v}"' if isinstance(v, str) else f"{k} = {v}" for k, v in given.items()]
        config.write_text("\n".join([*lines, f'broker = "{services.broker}"', f'store = "{services.store}"']) + "\n")
        if singles:
            asyncio.run(produce_singles(settings, events))
        else:
            size = asyncio.run(produce_frames(settings, events // ROWS))
            print(f"{events:,} events in {events // ROWS:,} frames of {size * ROWS / events / 1024:.0f} KiB")
        bare = asyncio.run(read_bare(settings, 1 if singles else ROWS))
        log = Path(folder) / "worker.log"
        readings = asyncio.run(watch_worker(settings, config, events, log))
        if not readings or readings[-1].events != events:
            print(f"only {readings[-1].events if readings else 0:,} of {events:,} counted\n{log.read_text()[-2000:]}")
        return rate(readings), bare, readings


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--singles", type=int, default=100_000)
    given = parser.parse_args()
    ours, bare, readings = run(given.events, singles=False, keep=FEW)
    default = Settings().keep_rate
    kept, _, _ = run(given.events // 4, singles=False, keep=default)
    single, bare_single, _ = run(given.singles, singles=True, keep=FEW)
    print(f"\n{'path':<44}{'events/s':>12}{'share of bare read':>20}")
    print(f"{'frames: aiokafka getmany, only reading':<44}{bare:>12,.0f}{1:>20.2f}")
    print(f"{'frames: worker, ingest to published profiles':<44}{ours:>12,.0f}{ours / bare:>20.2f}")
    print(f"{f'  … keeping {default:.0%} for labels, in Postgres here too':<44}{kept:>12,.0f}{kept / bare:>20.2f}")
    print(f"{'single events: aiokafka getmany':<44}{bare_single:>12,.0f}{1:>20.2f}")
    print(f"{'single events: worker':<44}{single:>12,.0f}{single / bare_single:>20.2f}")
    print("\nmemory of the worker (MiB) by events in published profiles")
    for part in (0.1, 0.25, 0.5, 0.75, 1.0):
        seen = next(r for r in readings if r.events >= part * readings[-1].events)
        print(f"  {seen.events:>12,}  {seen.memory:8.0f}")


if __name__ == "__main__":
    main()
