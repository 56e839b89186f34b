"""What a lane cannot use goes to the dead letters: once, and no faster than the broker takes it."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from faust.types import TP

from agents.ingest import Ingest
from models.window_book import Clock
from streams.chunks import MOST_RECORDS, Chunk
from streams.delivery import Cursor
from streams.errors import Undecodable
from streams.intake import MAX_OWED, Intake
from streams.lane import Lane
from streams.sourced import Sourced
from streams.topics import INFERENCE
from tests.sources_rig import sources
from tests.test_lane import Slow, Story, settled, told

__all__ = ["told"]  # a fixture
START = 10  # where its lanes begin


def test_a_large_record_that_is_read_again_for_pairs_alone_holds_nothing_back(told: Callable[[Story], None]) -> None:
    """It was set apart before: its dead letter is at the broker, and the frontier has passed it."""

    async def story(lane: Lane) -> None:
        runtime, clock = lane.runtime, Clock(newest=1_795_168_800_000_000, counted=20, read=20)
        source, names = sources().of("kserve.loan") or (None, {})
        assert source is not None
        sourced = Sourced(source, names, lambda _: None, START, clock)
        again = Lane(runtime, TP("kserve.loan", 0), 1, START, clock, sourced)
        agent = Ingest(runtime)
        agent.lanes[again.tp] = again
        large = SimpleNamespace(
            topic="kserve.loan", partition=0, offset=15, timestamp=1000, timestamp_type=0, key=None, headers=(),
            value=b" " * (runtime.settings.max_record_bytes + 1),
        )  # fmt: skip
        await agent._deal(again, large)
        assert again.owed == []
        assert again.book.frontier([hold for hold, _ in again.owed])[0] == 20

    told(story)


class Refusing(Intake):
    """Cannot read any record."""

    name, topic = "refusing", INFERENCE

    def decode(self, message: Any) -> None:
        """Raises Undecodable."""
        raise Undecodable("not a word of it")


class Busy(Slow):
    """A client whose broker takes records when it is told to."""

    sent = 0

    async def send(self, *_: Any) -> "asyncio.Future[None]":
        """In the end."""
        self.sent += 1
        await self.acknowledged.wait()
        return await super().send()


def test_no_more_is_read_while_very_much_is_being_sent(told: Callable[[Story], None]) -> None:
    """Records are read faster than they are written; a flood of what nobody can read must not fill the memory."""

    async def story(lane: Lane) -> None:
        client, chunks = Busy(lane.tp), 20
        lane.runtime.app = SimpleNamespace(
            consumer=client, consumer_generation_id=1, maybe_start_producer=client.maybe_start_producer
        )
        agent = Refusing(lane.runtime)
        agent.lanes[lane.tp], lane.cursor = lane, Cursor(client, lane.tp, START)

        def chunk(number: int) -> Chunk:
            where = range(START + number * MOST_RECORDS, START + (number + 1) * MOST_RECORDS)
            return Chunk(lane.tp, [
                SimpleNamespace(topic="t", partition=0, offset=i, timestamp=1, timestamp_type=0, key=None, headers=(),
                                value=b"?")
                for i in where
            ], 1)  # fmt: skip

        async def read() -> None:
            for number in range(chunks):
                await agent.take(chunk(number))

        reading = asyncio.ensure_future(read())
        await asyncio.wait([reading], timeout=0.5)
        assert client.sent <= MAX_OWED + MOST_RECORDS
        client.acknowledged.set()
        await asyncio.wait_for(reading, 30)
        assert client.sent == chunks * MOST_RECORDS
        assert (await settled(lane))[0] == START + client.sent

    told(story)
