"""A lane commits past no record that is still on its way into the book."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from agents.lifecycle import Lifecycle
from models.columns import Subject
from models.reference import Reference
from models.window_book import RETIRE_AFTER, Clock, Cut
from streams.app import create_app
from streams.batches import Stamped, event_batch
from streams.chunks import Chunk
from streams.delivery import Cursor
from streams.event_store import EventStore
from streams.intake import Intake
from streams.lane import Lane
from streams.records import decode_inference
from streams.registry import Registry
from streams.runtime import Runtime
from streams.settings import load
from streams.topics import INFERENCE, LIFECYCLE

Story = Callable[[Lane], Coroutine[Any, Any, None]]
START = 1_795_168_800_000_000


@pytest.fixture
def told(tmp_path: Path) -> Callable[[Story], None]:
    """Runs a story on a lane of a worker that is not connected: nothing in it sends or stores anything."""

    def tell(story: Story) -> None:
        async def run() -> None:
            settings = load({}, tmp_path, store=f"sqlite:///{tmp_path}/store.db")
            store = EventStore(settings.store)
            try:
                lane = Lane(
                    Runtime(settings, create_app(settings, loop=asyncio.get_running_loop()), store),
                    TP("inference", 0),
                    1,
                    10,
                    Clock(),
                )
                await story(lane)
            finally:
                store.close()

        asyncio.run(run())

    return tell


def record(offset: int) -> Stamped:
    value = b'{"id": "a", "time": "2026-11-20T10:00:00Z", "model": "m", "version": "1"}'
    return Stamped(offset, START, decode_inference(value, []))


async def settled(lane: Lane) -> tuple[int, Clock | None]:
    await lane.settle()
    found = lane.frontier()
    assert found is not None
    return found


def test_a_queued_record_is_not_committed_past(told: Callable[[Story], None]) -> None:
    async def story(lane: Lane) -> None:
        lane.passed(10)
        assert (await settled(lane))[0] == 11
        lane.queued(record(11))
        lane.passed(12)
        assert (await settled(lane))[0] == 11

    told(story)


def test_records_under_way_are_not_committed_past_when_others_queue_up_behind_them(
    told: Callable[[Story], None],
) -> None:
    """Labels wait for their predictions, inputs for the embedder; meanwhile more of them come."""

    async def story(lane: Lane) -> None:
        lane.queued(record(10))
        lane.queued(record(11))
        under_way = lane.unqueue()
        assert (await settled(lane))[0] == 10
        lane.queued(record(12))
        lane.passed(13)
        assert (await settled(lane))[0] == 10
        await lane.add(event_batch(under_way))
        lane.book.apply(Cut(11, START + 24 * 3_600_000_000))
        lane.book.close()  # nothing is open any more, only the queue holds the frontier
        offset, clock = await settled(lane)
        assert offset == 12
        assert clock is not None
        assert (clock.newest, clock.cut) == (START, START + 24 * 3_600_000_000)

    told(story)


def test_what_passed_behind_waiting_records_counts_once_they_are_in(told: Callable[[Story], None]) -> None:
    async def story(lane: Lane) -> None:
        lane.queued(record(10))
        lane.passed(11)
        assert lane.book.newest_offset == 9
        await lane.add(event_batch(lane.unqueue()))
        assert lane.book.newest_offset == 11

    told(story)


def test_two_batches_under_way_are_held_one_after_the_other(told: Callable[[Story], None]) -> None:
    async def story(lane: Lane) -> None:
        lane.queued(record(10))
        first = lane.unqueue()
        lane.queued(record(11))
        second = lane.unqueue()
        assert lane.unqueue() == []
        hold = lane.queue_hold
        assert hold is not None
        assert hold[0] == 10
        await lane.add(event_batch(first))
        hold = lane.queue_hold
        assert hold is not None
        assert hold == (11, lane.book.now)
        await lane.add(event_batch(second))
        assert lane.queue_hold is None

    told(story)


def test_an_idle_lane_tells_it_of_a_newly_registered_model_too(told: Callable[[Story], None]) -> None:
    async def story(lane: Lane) -> None:
        lane._idle_told = True
        lane.expect(lane.runtime.registry)
        assert lane._idle_told
        lane.runtime.registry.put(Reference("new", "1", window_us=3_600_000_000, lateness_us=0))
        lane.expect(lane.runtime.registry)
        assert not lane._idle_told
        assert lane.book.subjects() == [Subject("new", "1")]

    told(story)


def test_a_lane_of_inferences_expects_all_versions_of_a_model_together(told: Callable[[Story], None]) -> None:
    async def story(lane: Lane) -> None:
        for version in ("1", "2"):
            lane.runtime.registry.put(Reference("new", version, window_us=3_600_000_000, lateness_us=0))
        lane.expect(lane.runtime.registry)
        versions = [Subject("new", "1"), Subject("new", "2")]
        assert lane.book.subjects() == versions
        lane.tp = TP(lane.runtime.settings.topic(INFERENCE), 0)
        lane.expect(lane.runtime.registry)
        assert lane.book.subjects() == [Subject("new", ""), *versions]

    told(story)


def test_the_reference_of_a_model_is_that_of_its_newest_version() -> None:
    registry = Registry(window_us=1, lateness_us=0)

    def put(version: str, date: str | None) -> None:
        tree = {} if date is None else {"trained_model": {"training_date": date}}
        registry.put(Reference("m", version, owner=f"of {version}", descriptors=tree))

    assert not registry.describes("m")
    assert not registry.get("m", "").registered
    newest = []
    for version, date in (
        ("9", None), ("10", "about 2020"), ("2", "2026-01-02"), ("3", "2026-01-01T00:00:00Z"), ("4", "2026-01-02"),
    ):  # fmt: skip
        put(version, date)
        newest.append(registry.get("m", "").owner)
    assert newest == ["of 9", "of 10", "of 2", "of 2", "of 4"]
    assert registry.get("m", "").version == ""
    assert registry.get("m", "2").owner == "of 2"
    assert [reference.version for reference in registry] == ["9", "10", "2", "3", "4"]


def test_a_subject_that_was_expected_before_any_row_stays_for_a_while(told: Callable[[Story], None]) -> None:
    """Retired at the first row of another model, its windows would no longer wait for this partition."""

    async def story(lane: Lane) -> None:
        expected, hour = Subject("quiet", "1"), 3_600_000_000
        lane.runtime.registry.put(Reference("quiet", "1", window_us=hour, lateness_us=0))
        lane.expect(lane.runtime.registry)
        assert lane.book.close() == []
        news = []
        for hours in range(RETIRE_AFTER + 2):
            lane.book.heard(START + hours * hour)
            news += [closed.retired for closed in lane.book.close() if closed.key.subject == expected]
        assert news == [False] * RETIRE_AFTER + [True]

    told(story)


def test_windows_wait_for_lifecycle_events_that_came_before_the_worker(told: Callable[[Story], None]) -> None:
    """Otherwise a backlog would be assessed before the deployment in its midst is known."""

    async def story(lane: Lane) -> None:
        lane.runtime.catch_up = 0.5
        handed_on = False
        lane.runtime.lifecycle_read = lambda: handed_on
        settling = asyncio.ensure_future(lane.settle())
        done, _ = await asyncio.wait([settling], timeout=0.2)
        assert not done
        handed_on = True
        await settling

        lane.runtime.lifecycle_read = lambda: False
        await lane.settle()  # but not for ever

    told(story)


class Slow:
    """The client of a broker that takes its time to acknowledge a commit, and none for a record."""

    consumer_generation_id = 1

    def __init__(self, tp: TP) -> None:
        self.held, self.written, self.acknowledged = {tp}, asyncio.Event(), asyncio.Event()

    def highwater(self, tp: TP) -> int:
        """Nothing is left to be read."""
        return 12

    def empty_until(self, tp: TP, offset: int) -> int:
        """A record lies everywhere."""
        return offset

    async def write(self, frontiers: Any, generation: int) -> bool:
        """In the end."""
        self.written.set()
        await self.acknowledged.wait()
        return True

    async def maybe_start_producer(self) -> "Slow":
        """It has begun."""
        return self

    async def send(self, *_: Any) -> "asyncio.Future[None]":
        """At once."""
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


def test_a_cut_that_is_being_committed_does_not_take_the_frontier_back(told: Callable[[Story], None]) -> None:
    """Were the frontier to move on meanwhile, the next commit could be ahead of this one, which is older."""

    async def story(lane: Lane) -> None:
        client = Slow(lane.tp)
        lane.runtime.app = SimpleNamespace(
            consumer=client, consumer_generation_id=1, maybe_start_producer=client.maybe_start_producer
        )
        lane.cursor = Cursor(client, lane.tp, 12)
        lane.queued(record(10))
        await lane.add(event_batch(lane.unqueue()))
        await settled(lane)
        lane.last_record -= 60
        resting = asyncio.ensure_future(lane.rest(1.0, START + 24 * 3_600_000_000))
        await asyncio.wait_for(client.written.wait(), 10)
        before = lane.frontier()
        lane.passed(11)
        lane.book.apply(Cut(11, START + 24 * 3_600_000_000))  # with this a settling has something to move on for
        settling = asyncio.ensure_future(lane.settle())
        await asyncio.wait([settling], timeout=0.1)
        assert lane.frontier() == before
        client.acknowledged.set()
        await asyncio.wait_for(asyncio.gather(resting, settling), 10)
        assert before is not None
        assert (lane.frontier() or (0, None))[0] > before[0]

    told(story)


class Marked:
    """A log in which a transaction's marker stands behind record 10."""

    def empty_until(self, tp: TP, offset: int) -> int:
        """The marker is no record."""
        return 12 if offset == 11 else offset


class Interrupted(Intake):
    """Gets stuck with every record."""

    name, topic = "interrupted", INFERENCE

    def decode(self, message: Any) -> None:
        """Nothing."""

    async def digest(self, lane: Lane, message: Any, record: Any) -> None:
        """Never."""
        await asyncio.Event().wait()


def test_a_record_whose_taking_was_cancelled_is_not_passed_with_the_hole_behind_it(
    told: Callable[[Story], None],
) -> None:
    async def story(lane: Lane) -> None:
        agent = Interrupted(lane.runtime)
        agent.lanes[lane.tp] = lane
        lane.generation, lane.cursor = lane.runtime.app.consumer_generation_id, Cursor(Marked(), lane.tp, 10)
        record = SimpleNamespace(offset=10, timestamp=1000, timestamp_type=0, value=b"")
        taking = asyncio.ensure_future(agent.take(Chunk(lane.tp, [record], lane.generation)))
        await asyncio.sleep(0)
        assert lane.cursor.wanted == 11
        taking.cancel()
        await asyncio.wait([taking])
        await agent.look_ahead()
        assert (await settled(lane))[0] == 10

    told(story)


def test_a_lifecycle_partition_that_is_assigned_and_not_opened_is_not_read(told: Callable[[Story], None]) -> None:
    """A rebalance may take it away and give it back while its end is asked for."""

    async def story(lane: Lane) -> None:
        agent = Lifecycle(lane.runtime)
        tp = TP(lane.runtime.settings.topic(LIFECYCLE), 0)
        agent._ends[tp] = 0
        assert not agent._read(tp)
        agent.lanes[tp] = lane
        lane.book.newest_offset = 6
        assert agent._read(tp)
        agent._ends[tp] = 8
        assert not agent._read(tp)

    told(story)
