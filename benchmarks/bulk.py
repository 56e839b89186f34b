"""Single JSON events, 1 kB each: a worker's way from the topic to window sums, beside others that only read them.

    python -m benchmarks.bulk [--events 200_000] [--rounds 3]

One topic with 4 partitions on a real broker on this machine, read in turn by each of these, in a process of its own and
as a new group: this version's worker and the previous one's (agent `ingest` alone, up to published profiles, few
predictions kept), quixstreams, which decodes the JSON and does nothing with it, and aiokafka's `getmany`, which does
not even decode. Ratios are those of the same round; given are medians, and the lowest and highest, of all rounds.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer

from benchmarks.client import events as samples
from benchmarks.throughput import FEW, PARTITIONS, ROOT, START_US, normal_feature, watch_worker
from infra.local.services import ephemeral
from infra.migrate import upgrade
from infra.topic_admin import create_topics
from models.reference import Reference
from streams.event_store import EventStore
from streams.records import time_text
from streams.registry import encode_reference
from streams.settings import Settings, load
from streams.store_schema import OLDEST_TABLES
from streams.topics import INFERENCE
from tests.environments import environment
from tests.previous import unpacked, version

MOST = 0.95  # share of the events at which the clock stops: the last windows close by the wall clock
STEP_US = 500_000  # event time from one event to the next
THIS, QUIX, BARE = "worker, to window sums", "quixstreams 3.28, decoding JSON", "aiokafka getmany, only reading"


def reference() -> Reference:
    """What is known of the benchmark's model: 13 quantiles for each number."""
    grid = normal_feature()
    return Reference(
        model="bench", version="1", window_us=3_600_000_000, lateness_us=300_000_000, minimum_n=100,
        numeric={f"amount_{i:02d}": grid for i in range(12)},
    )  # fmt: skip


def values(n: int) -> list[bytes]:
    """Events as a server would send them."""
    made = samples()
    return [msgspec.json.encode({**_named(i), **_event(made[i % len(made)])}) for i in range(n)]


def _named(i: int) -> dict[str, str]:
    name, at = f"0b7c6e1e-6e83-4b3c-8a56-{i:012d}", time_text(START_US + i * STEP_US)
    return {"id": name, "time": at, "model": "bench", "version": "1"}


def _event(one: dict[str, Any]) -> dict[str, Any]:
    output = {"label": one["label"], "scores": one["scores"]}
    return {**{key: one[key] for key in ("segment", "features", "latency_ms")}, "output": output}


async def produce(settings: Settings, records: list[bytes]) -> None:
    """Fill the topic."""
    async with AIOKafkaProducer(bootstrap_servers=settings.broker, max_batch_size=1 << 18, linger_ms=5) as producer:
        waiting: list[Any] = []
        for i, value in enumerate(records):
            waiting.append(await producer.send(settings.topic(INFERENCE), value, partition=i % PARTITIONS))
            if len(waiting) == 2000:
                await asyncio.gather(*waiting)
                waiting.clear()
        await asyncio.gather(*waiting)


def worker(settings: Settings, folder: Path, events: int, home: str | None = None) -> float:
    """Events a second of a worker of the version at `home`, by default this one."""
    group = f"worker-{time.time_ns()}"
    given = {"group": group, "partitions": PARTITIONS, "keep_rate": FEW, "idle_after": "2 s"}
    given |= {"broker": settings.broker, "store": str(settings.store)}
    config, log = folder / f"{group}.toml", folder / f"{group}.log"
    config.write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in given.items()))
    ahead = time.time() - time.perf_counter()
    readings = asyncio.run(watch_worker(settings, config, events, log, home))
    if not readings or readings[-1].events != events:
        print(f"only {readings[-1].events if readings else 0:,} of {events:,} counted\n{log.read_text()[-2000:]}")
    begins = next(line for line in log.read_text().splitlines() if "inference" in line and "reading from" in line)
    began = datetime.strptime(begins[1:24], "%Y-%m-%d %H:%M:%S,%f").timestamp() - ahead
    end = next(r for r in readings if r.events >= MOST * readings[-1].events)
    return end.events / (end.at - began)


def quix(settings: Settings, events: int) -> float:
    """Events a second of quixstreams."""
    command = [str(environment("quixstreams")), str(ROOT / "benchmarks" / "bulk_quix.py")]
    command += [settings.broker, settings.topic(INFERENCE), str(events)]
    return float(subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()[-1])


def bare(settings: Settings) -> float:
    """Events a second of aiokafka in a fresh process."""
    code = (
        "import asyncio, sys; from benchmarks.throughput import read_bare; from streams.settings import load; "
        "print(asyncio.run(read_bare(load({}, broker=sys.argv[1]), 1)))"
    )
    command = [sys.executable, "-c", code, settings.broker]
    return float(subprocess.run(command, capture_output=True, check=True, text=True, cwd=ROOT).stdout.split()[-1])


def measured(events: int, rounds: int) -> dict[str, list[float]]:
    """Events a second of each reader, round by round."""
    with tempfile.TemporaryDirectory() as name, ephemeral(Path(name) / "services") as services:
        folder = Path(name)
        settings = load({}, folder, broker=services.broker, store=services.store, partitions=PARTITIONS)
        upgrade(settings.store, OLDEST_TABLES)  # which both versions can work with
        create_topics(settings)
        known = reference()
        EventStore(settings.store).register(known.model, known.version, "bench", encode_reference(known))
        records = values(events)
        print(f"{events:,} events of {sum(map(len, records)) / events:.0f} bytes, {rounds} rounds", flush=True)
        asyncio.run(produce(settings, records))
        before = unpacked(folder / "previous")
        readers: dict[str, Callable[[], float]] = {
            THIS: lambda: worker(settings, folder, events),
            QUIX: lambda: quix(settings, events),
            BARE: lambda: bare(settings),
            f"worker {version()}, as Faust hands over": lambda: worker(settings, folder, events, before),
        }
        found: dict[str, list[float]] = {reader: [] for reader in readers}
        for _ in range(rounds):
            for reader, read in readers.items():
                found[reader].append(read())
        return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    found = measured(given.events, given.rounds)
    print(f"\n{'reader':<40}{'events/s':>10}  {'lowest to highest':>19}  of quixstreams")
    for reader, rates in found.items():
        ratios = [a / b for a, b in zip(rates, found[QUIX], strict=True)]
        spread = f"{min(rates):,.0f} to {max(rates):,.0f}"
        print(
            f"{reader:<40}{median(rates):>10,.0f}  {spread:>19}  "
            f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
