"""The promise under faults: every acknowledged event is counted exactly once, and one cause gives one trigger."""

import asyncio
import json
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bestbefore_client.sampling import unit
from sqlalchemy import text as sql

from infra.local.kafka import Broker
from infra.local.postgres import Postgres
from infra.local.services import Services, ephemeral
from infra.migrate import upgrade
from infra.topic_admin import create_topics
from models.label_sampling import Plan
from streams.descriptor_files import load_reference
from streams.errors import StoreUnreachable
from streams.event_store import EventStore
from streams.registry import encode_reference
from streams.runtime import EXIT_BROKEN
from streams.settings import Settings
from tests.fault_rig import PARTITIONS, ROOT, Crew, Expected, Sender, Traffic, crew, lag, read_topic

GROUP = "faults"
READ = ("inference", "inputs", "labels", "profiles")
SECONDS = 32.0  # over which the traffic is spread
ASKED = 0.01  # share of predictions that labels are asked for
DEADLINE = 90.0  # after which counts that still differ are a failure


@pytest.fixture
def place() -> Iterator[tuple[Path, Services, Settings]]:
    """A broker and a store that may be broken, with topics, tables and one registered model."""
    folder = Path(tempfile.mkdtemp(prefix="bestbefore-faults-"))
    with ephemeral(folder) as services:
        settings = Settings(broker=services.broker, store=services.store, group=GROUP, partitions=PARTITIONS)
        upgrade(services.store)
        create_topics(settings)
        reference = load_reference(ROOT / "examples" / "digits" / "descriptors")
        terms = msgspec.structs.replace(reference.labels, plan=Plan(rate=ASKED, uniform=1.0))
        reference = msgspec.structs.replace(reference, labels=terms)
        store = EventStore(services.store)
        store.register(reference.model, reference.version, reference.digest, encode_reference(reference))
        store.close()
        yield folder, services, settings
    if (folder / "passed").exists():  # else its logs are wanted
        shutil.rmtree(folder)


def environment(services: Services) -> dict[str, str]:
    """Settings of the workers: short waits, every prediction kept."""
    return {
        "BESTBEFORE_BROKER": services.broker,
        "BESTBEFORE_STORE": services.store,
        "BESTBEFORE_GROUP": GROUP,
        "BESTBEFORE_DEFAULT_WINDOW": "6 hours",
        "BESTBEFORE_DEFAULT_LATENESS": "10 minutes",
        "BESTBEFORE_IDLE_AFTER": "5 s",
        "BESTBEFORE_ASSESS_GRACE": "20 s",
        "BESTBEFORE_SESSION_TIMEOUT": "6 s",
        "BESTBEFORE_LABEL_PATIENCE": "3 minutes",
        "BESTBEFORE_KEEP_RATE": "1",
        "BESTBEFORE_PROVIDER_POLICY": "cpu",
    }


async def until(share: float, sender: Sender, hired: Crew) -> None:
    """Wait until this share of the traffic was sent."""
    while sender.progress < share:
        hired.look_after()
        await asyncio.sleep(0.05)


async def faults(folder: Path, sender: Sender, hired: Crew) -> list[str]:
    """Every fault in turn, while traffic flows."""

    async def broker() -> None:
        await asyncio.to_thread(Broker(folder).kill)
        await asyncio.sleep(2)
        await asyncio.to_thread(Broker(folder).start)

    async def store() -> None:
        await asyncio.to_thread(Postgres(folder).stop)
        await asyncio.sleep(4)
        await asyncio.to_thread(Postgres(folder).start)

    async def oldest() -> None:
        await asyncio.to_thread(hired.replace, hired.workers[0])

    async def zombie() -> None:
        paused = hired.workers[0].process
        paused.send_signal(signal.SIGSTOP)
        await asyncio.sleep(9)  # its session ends, the other worker takes over
        paused.send_signal(signal.SIGCONT)

    plan: list[tuple[float, str, Callable[[], Awaitable[None]]]] = [
        (0.15, "kill -9 of the first worker", oldest),
        (0.35, "kill -9 of the second worker", oldest),
        (0.55, "kill -9 and restart of the broker", broker),
        (0.7, "restart of the store", store),
        (0.85, "pause of a worker beyond its session", zombie),
    ]
    for share, _, fault in plan:
        await until(share, sender, hired)
        await fault()
    return [name for _, name, _ in plan]


async def watch_offsets(store: EventStore, stop: asyncio.Event) -> list[str]:
    """What ever moved back in the table of applied offsets."""
    seen: dict[Any, tuple[int, int]] = {}
    wrong = []
    while not stop.is_set():
        for place, now in (await asyncio.to_thread(applied, store)).items():
            before = seen.get(place, now)
            if now[0] < before[0] or now[1] < before[1]:
                wrong.append(f"{place}: {before} -> {now}")
            seen[place] = now
        await asyncio.sleep(0.3)
    return wrong


def applied(store: EventStore) -> dict[Any, tuple[int, int]]:
    """(next offset, epoch) of every profiles partition; nothing while the store is away."""
    try:
        with store._reading() as connection:
            rows = connection.execute(sql("SELECT grp, topic, partition, next_offset, epoch FROM applied_offset"))
            return {tuple(row[:3]): (row[3] or 0, row[4]) for row in rows}
    except StoreUnreachable:
        return {}


def counted(store: EventStore) -> Expected:
    """What the store has counted, in the oracle's form."""
    with store._reading() as connection:
        rows = connection.execute(
            sql("SELECT model, version, segment, window_start_us, n, n_input, n_labelled, n_correct FROM window_total")
        )
        names = ("n", "n_input", "n_labelled", "n_correct")
        return {
            (r.model, r.version, r.segment, r.window_start_us): Counter({k: v for k in names if (v := getattr(r, k))})
            for r in rows
        }


def differences(expected: Expected, found: Expected) -> list[str]:
    """Windows whose counts are not the oracle's."""
    return [
        f"{key}: expected {dict(expected.get(key, {}))}, found {dict(found.get(key, {}))}"
        for key in sorted(expected.keys() | found.keys())
        if expected.get(key, {}) != found.get(key, {})
    ]


async def settled(store: EventStore, services: Services, settings: Settings, expected: Expected, hired: Crew) -> None:
    """Wait until nothing is left to be read or written, however long that takes, within the deadline."""
    ends = time.monotonic() + DEADLINE
    topics = [settings.topic(name) for name in READ]
    while time.monotonic() < ends:
        hired.look_after()
        if not await asyncio.to_thread(lambda: differences(expected, counted(store))):
            behind = await asyncio.to_thread(lag, services.broker, GROUP, topics)
            if not any(behind.values()) and not store.counts()["outbox"]:
                return
        await asyncio.sleep(1)


async def play(place: tuple[Path, Services, Settings], hired: Crew, seed: int) -> tuple[Sender, list[str], list[str]]:
    """Traffic and faults together, to the end."""
    folder, services, settings = place
    traffic = await asyncio.to_thread(Traffic, seed)
    sender = Sender(services.broker, settings.topic_prefix)
    store = EventStore(services.store)
    stop = asyncio.Event()
    watching = asyncio.create_task(watch_offsets(store, stop))
    hired.start()
    hired.start()
    while any("Worker ready" not in worker.log.read_text() for worker in hired.workers):
        hired.look_after()
        await asyncio.sleep(0.1)
    sending = asyncio.create_task(sender.send(traffic.records, SECONDS))
    done = await faults(folder, sender, hired)
    while not sending.done():
        hired.look_after()
        await asyncio.sleep(0.1)
    await sending
    await settled(store, services, settings, sender.expected, hired)
    stop.set()
    wrong = await watching
    store.close()
    return sender, done, wrong


def asked_for(traffic: Traffic) -> set[str]:
    """The inferences of the described model whose hash says that a label is asked for."""
    days = range(traffic.days)
    parts = [(d, p) for d in days for p in range(traffic.frames_per_day) if p < traffic.frames_per_day - 1 or d % 2]
    names = [f"f-{d}-{p}-{i}" for d, p in parts for i in range(traffic.frame_rows)]
    names += [f"e-{d}-{i}" for d in days for i in range(1, traffic.singles_per_day, 2)]
    return {name for name in names if unit(name) < ASKED}


def ids(records: list[Any]) -> list[str]:
    """The ids of CloudEvents."""
    return [dict(record.headers)["ce_id"].decode() for record in records]


@pytest.mark.timeout(400)
def test_counts_are_exact_and_one_trigger_comes_under_faults(
    place: tuple[Path, Services, Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    """Two workers, each killed in turn, a broker and a store restarted, during 200 000 events."""
    folder, services, settings = place
    began = time.monotonic()
    with crew(folder, environment(services)) as hired:
        sender, done, wrong = asyncio.run(play(place, hired, seed=2026))
        ends = [hired.workers[0].stop()]
        Broker(folder).kill()
        ends.append(hired.workers[1].stop())
        Broker(folder).start()
        report = hired.logs()
    store = EventStore(services.store)
    different = differences(sender.expected, counted(store))
    story = (
        f"\n{sender.events} events, {sender.acknowledged} records, {len(done)} faults, {time.monotonic() - began:.0f} s"
    )
    story += f", workers that ended by themselves: {hired.ended or 'none'}, logs in {folder}\n"
    with capsys.disabled():
        print(story)  # noqa: T201 -- what was survived is worth knowing also when it passes
    assert sender.events == 200_000
    assert not different, f"{len(different)} windows differ:\n" + "\n".join(different[:40]) + story + report
    assert not wrong, "\n".join(wrong)
    dead = {
        (h["__connect.errors.topic"].decode(), int(h["__connect.errors.partition"]), int(h["__connect.errors.offset"]))
        for h in (dict(record.headers) for record in read_topic(services.broker, settings.topic("dead-letters")))
    }
    assert dead == sender.poison
    triggers = store.triggers()
    assert [event.model for event in triggers] == ["digits"], story + report
    sent = ids(read_topic(services.broker, settings.topic("retrain-triggers")))
    assert set(sent) == {triggers[0].event_id}
    known = {event.event_id for event in store.events(kind="status", limit=100_000)}
    assert set(ids(read_topic(services.broker, settings.topic("status")))) == known
    requests = read_topic(services.broker, settings.topic("label-requests"))
    wanted = {json.loads(record.value)["inference_id"]: dict(record.headers)["ce_id"] for record in requests}
    assert wanted.keys() == asked_for(Traffic(2026))
    assert len(set(ids(requests))) == len(wanted)
    assert ends == [0, EXIT_BROKEN], report  # with the broker away it cannot commit, but it ends
    assert not hired.ended, f"workers ended by themselves: {hired.ended}" + report
    (folder / "passed").touch()
