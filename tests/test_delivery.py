"""Frontiers, gaps, buffers, fencing and the outbox, on a real broker and store."""

import asyncio
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from faust.transport.consumer import Consumer as StockConsumer
from faust.types import TP
from intervaltree import IntervalTree  # type: ignore[import-untyped]

from infra.worker import create_worker
from models.profile import Profile
from models.window_book import MAX_CUTS, Clock, Cut
from streams.app import App, create_app
from streams.batches import Stamped, event_batch
from streams.delivery import Cursor, decode_clock, encode_clock
from streams.event_store import EventStore
from streams.lane import Lane, ProfileRecord
from streams.records import decode_inference
from streams.runtime import Runtime
from streams.settings import Settings
from streams.store_rows import OutboxMessage
from tests.broker_rig import BASE, fresh_settings, ignore, inference, produce, reader, started, until
from tests.faults.topic import read_topic
from tests.faults.traffic import HOUR_US


@pytest.fixture
def settings(broker: str, store_url: str) -> Settings:
    """Topics and tables of this test's own."""
    return fresh_settings(broker, store_url)


# -- frontiers -----------------------------------------------------------------------------------------------


def test_a_clock_with_all_its_cuts_fits_into_the_metadata_of_a_commit() -> None:
    """Kafka allows 4096 bytes."""
    cuts = [Cut(10**11 + i, BASE + i) for i in range(MAX_CUTS)]
    written = encode_clock(Clock(BASE, BASE, cuts))
    assert len(written) <= 4096
    assert decode_clock(written) == Clock(BASE, BASE, cuts)
    assert decode_clock("") == Clock()


def test_a_frontier_comes_back_with_its_clock(settings: Settings) -> None:
    """The next owner of a partition reads offset and clock from the broker."""
    tp, clock = TP(settings.topic("inference"), 0), Clock(BASE, BASE - 1, [Cut(9, BASE), Cut(11, BASE + 1)])
    produce(settings, "inference", [inference(i, BASE) for i in range(20)])

    async def play() -> None:
        async with started(reader(settings, ignore)) as consumer:
            assert await consumer.committed(tp) == (None, Clock())
            assert await consumer.write({tp: (7, clock)}, consumer.app.consumer_generation_id)
        async with started(reader(settings, ignore)) as consumer:
            assert await consumer.committed(tp) == (7, clock)

    asyncio.run(play())


def test_a_refused_commit_keeps_the_books_and_the_worker(settings: Settings) -> None:
    """A zombie's commit is refused by the broker; it goes on without believing that it was written."""
    tp = TP(settings.topic("inference"), 0)
    produce(settings, "inference", [inference(i, BASE) for i in range(20)])

    async def play() -> None:
        app = reader(settings, ignore)
        async with started(app) as consumer:
            app.frontiers[tp] = lambda: (5, None)
            assert await consumer.force_commit()
            app.frontiers[tp] = lambda: (6, None)
            coordinator = consumer._frontier_thread._ensure_consumer()._coordinator
            coordinator.generation = app.consumer_generation_id = 999
            assert not await consumer.force_commit()
            assert consumer.written.get(tp) != (6, None)
            assert not app.crashed
            await until(lambda: app.consumer_generation_id != 999)  # it joins again by itself
            await until(lambda: tp in consumer.assignment() and not app.rebalancing)
            assert await consumer.force_commit()
            assert (await consumer.committed(tp))[0] == 6

    asyncio.run(play())


def test_nothing_is_held_between_two_assignments(settings: Settings, tmp_path: Path) -> None:
    """Else an agent would open a partition again that has just been taken away, and commit what is old by then."""
    tp = TP(settings.topic("inference"), 0)

    async def play() -> None:
        app = reader(settings, ignore)
        runtime = Runtime(settings, app, EventStore(f"sqlite:///{tmp_path}/store.db"))
        between: list[bool] = []

        async def taken_away(*_: Any, **__: Any) -> None:
            if tp in app.consumer.assignment():  # Faust says so still
                between.append(runtime.holds(tp, app.consumer_generation_id))

        app.on_partitions_revoked.connect(taken_away, weak=False)
        async with started(app) as consumer:
            assert runtime.holds(tp, app.consumer_generation_id)
            consumer._frontier_thread._ensure_consumer()._coordinator.request_rejoin()
            await until(lambda: bool(between) and not app.rebalancing)
            await until(lambda: runtime.holds(tp, app.consumer_generation_id))
            assert between == [False]
        runtime.store.close()

    asyncio.run(play())


def test_upstream_still_commits_past_a_message_that_is_not_acked() -> None:
    """The reason for streams/delivery.py (faust-streaming issues 606 and 692)."""
    tp = TP("t", 0)
    books = SimpleNamespace(
        _acked={tp: [11, 12, 13]}, _acked_index={tp: {11, 12, 13}}, _committed_offset={tp: 10},
        _gap=defaultdict(IntervalTree),
    )  # fmt: skip
    assert StockConsumer._new_offset(cast(StockConsumer, books), tp) == 14, (
        "Faust no longer commits 14 while message 10 is not acked: the frontier in streams/delivery.py that stands in "
        "for its acks can be reconsidered"
    )


class Slow(Runtime):
    """A broker that takes records only when it is told to."""

    def __init__(self, settings: Settings, app: App, store: EventStore) -> None:
        super().__init__(settings, app, store)
        self.sending, self.open = False, asyncio.Event()

    async def send(self, *args: Any, **kwargs: Any) -> None:
        """Wait."""
        self.sending = True
        await self.open.wait()


def test_a_settling_that_is_cancelled_holds_the_frontier(settings: Settings, tmp_path: Path) -> None:
    """At the end of a worker agents are cancelled before the last commit: what they were writing must be read again."""
    tp = TP(settings.topic("inference"), 0)

    async def play() -> None:
        lane = Lane(
            Slow(settings, create_app(settings), EventStore(f"sqlite:///{tmp_path}/store.db")), tp, 1, 0, Clock()
        )
        events = [decode_inference(inference(i, BASE + 5 * i * HOUR_US), []) for i in range(2)]
        await lane.add(event_batch([Stamped(i, BASE, e) for i, e in enumerate(events)]))
        await until(lambda: cast(Slow, lane.runtime).sending)
        others = asyncio.all_tasks() - {cast(asyncio.Task[Any], asyncio.current_task())}
        for task in others:
            task.cancel()
        await asyncio.wait(others)
        await lane.settle()
        assert lane.frontier() == (0, Clock())

    asyncio.run(play())


def test_a_cut_is_committed_until_the_windows_it_closed_are_published(settings: Settings, tmp_path: Path) -> None:
    """Without it the next owner would count late rows into windows that were published already."""
    tp = TP(settings.topic("inference"), 0)

    async def play() -> None:
        app = reader(settings, ignore)
        async with started(app) as consumer:
            runtime = Slow(settings, app, EventStore(f"sqlite:///{tmp_path}/store.db"))
            lane = Lane(runtime, tp, app.consumer_generation_id, 0, Clock())
            runtime.open.set()
            event = decode_inference(inference(0, BASE), [])
            assert await lane.admit(0)
            await lane.add(event_batch([Stamped(0, BASE, event)]))
            await lane.settle()
            app.frontiers[tp] = lane.frontier
            runtime.open.clear()
            runtime.sending = False
            await until(lambda: consumer.highwater(tp) == 1)
            resting = asyncio.create_task(lane.rest(-1.0, BASE + 5 * HOUR_US))
            await until(lambda: runtime.sending)
            await consumer.force_commit()
            assert await consumer.committed(tp) == (0, Clock(cuts=[Cut(0, BASE + HOUR_US)]))
            runtime.open.set()
            await resting
            await consumer.force_commit()
            assert await consumer.committed(tp) == (1, Clock(BASE, BASE + HOUR_US))

    produce(settings, "inference", [inference(0, BASE)])
    asyncio.run(play())


def test_a_lane_from_before_a_rebalance_makes_no_cut(settings: Settings, tmp_path: Path) -> None:
    """It would put its cut over the frontier of the lane that reads the partition now and knows nothing of it."""
    tp = TP(settings.topic("inference"), 0)
    produce(settings, "inference", [inference(0, BASE)])

    async def play() -> None:
        app = reader(settings, ignore)
        async with started(app) as consumer:
            runtime = Runtime(settings, app, EventStore(f"sqlite:///{tmp_path}/store.db"))
            lane = Lane(runtime, tp, app.consumer_generation_id, 0, Clock())
            assert await lane.admit(0)
            await lane.add(event_batch([Stamped(0, BASE, decode_inference(inference(0, BASE), []))]))
            await until(lambda: consumer.highwater(tp) == 1)
            lane.generation -= 1
            await lane.rest(-1.0, BASE + 5 * HOUR_US)
            assert not await consumer.write({tp: (1, None)}, lane.generation)
            assert await consumer.committed(tp) == (None, Clock())

    asyncio.run(play())


# -- gaps ----------------------------------------------------------------------------------------------------


class Asked:
    """A consumer that only remembers where it was sent, and knows nothing of the log."""

    def __init__(self) -> None:
        self.places: list[int] = []
        self.gone: list[tuple[int, int]] = []

    def empty_until(self, tp: TP, offset: int) -> int:
        """Not known."""
        return offset

    async def missed(self, tp: TP, start: int, end: int) -> None:
        """Remember."""
        self.gone.append((start, end))

    async def seek(self, tp: TP, offset: int) -> None:
        """Remember."""
        self.places.append(offset)


def admitted(cursor: Cursor, offsets: list[int]) -> list[int]:
    """Which of these the cursor takes."""

    async def play() -> list[int]:
        return [offset for offset in offsets if await cursor.admit(offset)]

    return asyncio.run(play())


def test_a_gap_is_asked_for_once_and_what_was_read_ahead_waits() -> None:
    """Also what comes twice is taken once."""
    consumer = Asked()
    cursor = Cursor(consumer, TP("t", 0), 3)
    assert admitted(cursor, [2, 3, 4, 7, 8, 9, 5, 6, 7, 8]) == [3, 4, 5, 6, 7, 8]
    assert consumer.places == [5]


def test_offsets_that_do_not_exist_are_passed_over() -> None:
    """Compaction, retention and transactions leave holes: the same record comes again after it was asked for."""
    consumer = Asked()
    cursor = Cursor(consumer, TP("t", 0), 3)
    assert admitted(cursor, [7, 8, 7, 8, 20, 20, 21]) == [7, 8, 20, 21]
    assert consumer.places == [3, 9]
    assert consumer.gone == [(3, 7), (9, 20)]
    assert cursor.wanted == 22


def test_a_lost_record_comes_again_although_others_were_read_ahead(settings: Settings) -> None:
    """Faust's own filter would drop it, for it had let later ones pass; then the partition would stand still."""
    tp = TP(settings.topic("inference"), 0)
    produce(settings, "inference", [inference(i, BASE) for i in range(300)])

    async def play() -> list[int]:
        taken: list[int] = []
        lost = {50, 51, 120, 299}
        cursor: list[Cursor] = []

        async def body(message: Any) -> None:
            if not cursor:
                cursor.append(Cursor(app.consumer, tp, 0))
            if message.offset in lost:
                lost.discard(message.offset)
            elif await cursor[0].admit(message.offset):
                taken.append(message.offset)

        app = reader(settings, body)
        async with started(app):
            await until(lambda: len(taken) >= 299)
            await asyncio.to_thread(produce, settings, "inference", [inference(300, BASE)])
            await until(lambda: len(taken) >= 301)
        return taken

    assert asyncio.run(play()) == list(range(301))


def test_an_agent_that_waits_for_another_does_not_stop_it(settings: Settings) -> None:
    """Labels wait for their predictions, which must come also while more labels wait than the buffer holds."""
    settings = msgspec.structs.replace(settings, buffer_records=16)
    produce(settings, "labels", [b"{}"] * 500)

    async def play() -> None:
        waits, comes = asyncio.Event(), asyncio.Event()

        async def body(message: Any) -> None:
            comes.set()

        async def wait(stream: Any) -> None:
            async for _ in stream.noack().events():
                waits.set()
                await comes.wait()

        app = reader(settings, body)
        app.agent(app.topic(settings.topic("labels"), key_type=bytes, value_type=bytes), name="waiter")(wait)
        async with started(app) as consumer:
            await until(waits.is_set)
            await until(lambda: TP(settings.topic("labels"), 0) in consumer._buffered_partitions)
            await asyncio.to_thread(produce, settings, "inference", [inference(0, BASE)])
            await until(comes.is_set)

    asyncio.run(play())


# -- profiles, fencing, outbox -------------------------------------------------------------------------------


def profiles(settings: Settings, numbers: range) -> list[bytes]:
    """One profile per window, with one event each."""
    found = []
    for number in numbers:
        profile = Profile()
        profile.count("n", 1)
        start = BASE + number * HOUR_US
        record = ProfileRecord(1, "s/0", "m", "1", "", start, start, HOUR_US, start + HOUR_US, False, profile.pack())
        found.append(msgspec.msgpack.encode(record))
    return found


def test_profiles_of_a_fenced_claim_are_read_again(settings: Settings) -> None:
    """A worker that claims a partition late fences the rightful owner, which must not lose what it had taken in."""
    store = EventStore(settings.store)

    def stored() -> int:
        return sum(window.n for window in store.windows("m", "1"))

    async def play() -> None:
        app, _ = create_worker(settings, ["assess"])
        async with started(app):
            await asyncio.to_thread(produce, settings, "profiles", profiles(settings, range(5)), b"m/1")
            await until(lambda: stored() == 5)
            store.claim(settings.group, settings.topic("profiles"), 0)
            await asyncio.to_thread(produce, settings, "profiles", profiles(settings, range(5, 10)), b"m/1")
            await until(lambda: stored() == 10)

    asyncio.run(play())
    assert [window.n for window in store.windows("m", "1")] == [1] * 10
    store.close()


def test_a_topic_that_was_made_anew_is_read_from_its_beginning(settings: Settings) -> None:
    """The store would go on where the old log ended, and skip all that comes until then."""
    store = EventStore(settings.store)
    topic = settings.topic("profiles")
    older, epoch = (store.claim(settings.group, topic, 0).epoch for _ in range(2))
    with store.transaction() as tx:
        tx.advance(settings.group, topic, 0, epoch, 1000)
    store.rewind(settings.group, topic, 0, older, 5)
    assert store.claim(settings.group, topic, 0).next_offset == 1000

    async def play() -> None:
        app, _ = create_worker(settings, ["assess"])
        async with started(app):
            await asyncio.to_thread(produce, settings, "profiles", profiles(settings, range(3)), b"m/1")
            await until(lambda: len(store.windows("m", "1")) == 3)

    asyncio.run(play())
    assert store.claim(settings.group, topic, 0).next_offset == 3
    store.close()


def test_an_outbox_left_by_a_killed_worker_is_sent_without_new_traffic(settings: Settings) -> None:
    """A trigger must not wait for the next profile."""
    store = EventStore(settings.store)
    with store.transaction() as tx:
        tx.enqueue([OutboxMessage(partition=0, topic="retrain-triggers", key="m", headers={"ce_id": "t"}, value=b"{}")])

    async def play() -> None:
        app, _ = create_worker(settings, ["assess"])
        async with started(app):
            await until(lambda: store.counts()["outbox"] == 0)

    asyncio.run(play())
    store.close()
    sent = read_topic(settings.broker, settings.topic("retrain-triggers"))
    assert [record.value for record in sent] == [b"{}"]
