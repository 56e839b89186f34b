"""Topics whose offsets have holes: transactions, compaction, records deleted before they were read.

The client of a model server needs no transactions, but what feeds these topics may be a stream job that does.
"""

import asyncio
import json
import logging
from collections.abc import Iterator

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from faust.types import TP
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

from infra.dead_letters import read
from infra.worker import create_worker
from streams.event_store import EventStore
from streams.runtime import Runtime
from streams.settings import Settings
from tests.broker_rig import BASE, fresh_settings, inference, produce, started, until
from tests.faults.bad_records import behind
from tests.faults.traffic import HOUR_US, text

TOPICS = ("inference", "labels", "lifecycle")


@pytest.fixture
def settings(broker: str, store_url: str) -> Settings:
    """Idle partitions close their windows after a second."""
    made = fresh_settings(broker, store_url)
    return msgspec.structs.replace(made, idle_after="1 s", commit_every="500 ms", keep_rate=1.0, label_patience="15 s")


@pytest.fixture
def store(settings: Settings) -> Iterator[EventStore]:
    """The store of the test."""
    opened = EventStore(settings.store)
    yield opened
    opened.close()


def label(number: int) -> bytes:
    """Whose prediction was right."""
    return msgspec.json.encode({"inference_id": f"r-{number}", "time": text(BASE), "correct": True})


def lifecycle(number: int, kind: str = "drill-started") -> bytes:
    """Something that happened."""
    body = {"id": f"l-{number}", "time": text(BASE), "kind": kind, "model": "m", "version": "1"}
    return json.dumps(body).encode()


async def transactions(settings: Settings, numbers: range) -> None:
    """One transaction for each number, in three topics; every third is taken back."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.broker, transactional_id=settings.group)
    await producer.start()
    try:
        for number in numbers:
            await producer.begin_transaction()
            for topic, value in zip(TOPICS, (inference(number, BASE), label(number), lifecycle(number)), strict=True):
                await producer.send_and_wait(settings.topic(topic), value, b"k")
            await (producer.abort_transaction() if number % 3 == 2 else producer.commit_transaction())
    finally:
        await producer.stop()


def backlog(runtime: Runtime) -> int:
    """Records that wait at the broker, as the watchdog sees them."""
    return sum(max(runtime.app.consumer.highwater(tp) - n, 0) for tp, n in runtime.progress.wanted.items())


def at_their_ends(runtime: Runtime, settings: Settings) -> bool:
    """Whether the watchdog sees no backlog, and the group has committed all there is."""
    return not backlog(runtime) and not behind(settings, TOPICS)


def test_what_a_transaction_took_back_never_was_and_its_marks_hold_nothing_up(
    settings: Settings, store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Every partition ends with a marker, behind which no record comes: it is read to its end all the same."""
    caplog.set_level(logging.INFO)
    kept = [number for number in range(60) if number % 3 < 2]

    async def play() -> None:
        await transactions(settings, range(60))
        app, runtime = create_worker(settings)
        async with started(app) as consumer:
            await until(lambda: sum(w.n for w in store.windows("m", "1")) == len(kept))
            await until(lambda: sum(w.n_labelled for w in store.windows("m", "1")) == len(kept))
            await until(lambda: at_their_ends(runtime, settings))
            assert not consumer.lost

    asyncio.run(play())
    assert {event.body["id"] for event in store.events(kind="lifecycle", limit=1000)} >= {f"l-{n}" for n in kept}
    assert sum(window.n_correct for window in store.windows("m", "1")) == len(kept)
    assert read(settings, None) == []
    # Each of some hundred holes is known when it is met; going back for every one would take a fetch each.
    assert "going back" not in caplog.text


def test_records_behind_an_open_transaction_come_when_it_ends(settings: Settings, store: EventStore) -> None:
    """Until then there is nothing to be read, and nothing to be waited for."""

    async def play() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=settings.broker, transactional_id=settings.group)
        await producer.start()
        await asyncio.to_thread(produce, settings, "inference", [inference(0, BASE)])
        await producer.begin_transaction()
        await producer.send_and_wait(settings.topic("inference"), inference(1, BASE))
        await asyncio.to_thread(produce, settings, "inference", [inference(2, BASE)])
        app, runtime = create_worker(settings, ["ingest", "assess"])
        try:
            async with started(app):
                await until(lambda: sum(w.n for w in store.windows("m", "1")) == 1)
                await until(lambda: not backlog(runtime))
                await producer.commit_transaction()
                await until(lambda: sum(w.n for w in store.windows("m", "1")) == 3)
        finally:
            await producer.stop()

    asyncio.run(play())


def delete(settings: Settings, topic: str, upto: int) -> None:
    """Delete the records before an offset, as retention would."""
    admin = KafkaAdminClient(bootstrap_servers=settings.broker)
    admin.delete_records({TopicPartition(settings.topic(topic), 0): upto})
    admin.close()


def test_deleted_records_are_counted_as_lost_and_what_is_left_is_read(
    settings: Settings, store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Once in the middle of a topic and once up to its end, where no record tells that some are gone."""
    tp, profiles = (TP(settings.topic(topic), 0) for topic in ("inference", "profiles"))
    produce(settings, "inference", [inference(i, BASE + i % 3 * HOUR_US) for i in range(30)])

    async def first() -> None:
        app, _ = create_worker(settings, ["ingest"])
        async with started(app) as consumer:
            await until(lambda: (consumer.written.get(tp) or (0,))[0] == 30)

    async def second() -> None:
        app, runtime = create_worker(settings)
        async with started(app) as consumer:
            await until(lambda: sum(w.n for w in store.windows("m", "1")) == 30 + 5)
            assert consumer.lost[tp] == 15
            await until(lambda: at_their_ends(runtime, settings))
            assert consumer.lost[profiles] == 0

    async def third() -> None:
        app, runtime = create_worker(settings)
        async with started(app) as consumer:
            await until(lambda: consumer.lost[tp] == 4)
            await until(lambda: at_their_ends(runtime, settings))

    asyncio.run(first())
    produce(settings, "inference", [inference(i, BASE + 9 * HOUR_US) for i in range(30, 50)])
    delete(settings, "inference", 45)
    asyncio.run(second())
    produce(settings, "inference", [inference(i, BASE + 9 * HOUR_US) for i in range(50, 54)])
    delete(settings, "inference", 54)
    asyncio.run(third())
    assert "offsets 30 to 44 were deleted" in caplog.text
    assert "offsets 50 to 53 were deleted" in caplog.text


@pytest.fixture(scope="module", autouse=True)
def compacting(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A lifecycle topic that the broker compacts as soon as it may, while the other tests here run."""
    made = fresh_settings(broker, f"sqlite:///{tmp_path_factory.mktemp('compacting')}/store.db")
    admin = KafkaAdminClient(bootstrap_servers=broker)
    eager = {"segment.ms": "100", "min.cleanable.dirty.ratio": "0.0", "max.compaction.lag.ms": "1"}
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, made.topic("lifecycle"), eager)])
    admin.close()
    for number in range(40):
        produce(made, "lifecycle", [lifecycle(number)], b"old" if number % 4 else b"kept-%d" % number)
    produce(made, "lifecycle", [b""], b"empty")
    return made


def offsets(settings: Settings) -> list[int]:
    """Of the records that the lifecycle topic has."""
    consumer = KafkaConsumer(bootstrap_servers=settings.broker, auto_offset_reset="earliest")
    place = TopicPartition(settings.topic("lifecycle"), 0)
    consumer.assign([place])
    try:
        return [record.offset for records in consumer.poll(2000).values() for record in records]
    finally:
        consumer.close()


def test_offsets_that_were_compacted_away_are_passed_over(
    compacting: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """What compaction left is read, and nothing is asked for twice."""
    caplog.set_level(logging.INFO)

    async def play() -> None:
        await until(lambda: len(offsets(compacting)) < 15)
        app, runtime = create_worker(compacting, ["lifecycle", "assess"])
        async with started(app) as consumer:
            await until(lambda: len(read(compacting, None)) == 1)
            await until(lambda: not backlog(runtime))
            assert not consumer.lost
            left.extend(offsets(compacting))

    left: list[int] = []
    asyncio.run(play())
    store = EventStore(compacting.store)
    assert {e.body["id"] for e in store.events(kind="lifecycle", limit=100)} == {f"l-{n}" for n in left if n < 40}
    store.close()
    assert "going back" not in caplog.text
