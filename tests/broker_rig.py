"""Parts for tests that run an app or a worker on the shared broker, with topics and tables of their own."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from kafka import KafkaProducer

from infra.migrate import upgrade
from infra.topic_admin import create_topics
from streams.app import App, create_app
from streams.delivery import FrontierConsumer
from streams.settings import Settings
from tests.faults.traffic import HOUR_US, text

BASE = 1_790_000_000_000_000 // HOUR_US * HOUR_US


def fresh_settings(broker: str, store_url: str, partitions: int = 1) -> Settings:
    """Topics and tables of a test's own; nothing happens by the clock."""
    name = uuid.uuid4().hex[:8]
    made = Settings(
        broker=broker, store=store_url, group=f"delivery-{name}", topic_prefix=f"delivery-{name}.",
        partitions=partitions, session_timeout="6 s", idle_after="1 hour", commit_every="1 hour",
        watchdog_after="1 hour", web_port=0,
    )  # fmt: skip
    upgrade(store_url)
    create_topics(made)
    return made


async def until(true: Callable[[], bool], patience_s: float = 60) -> None:
    """Wait for something to come true; the test fails when it does not."""
    ends = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < ends, "what was waited for did not come"
        await asyncio.sleep(0.05)


@asynccontextmanager
async def started(app: App) -> AsyncIterator[FrontierConsumer]:
    """The consumer of the app with its partitions, until the block ends."""
    await app.start()
    try:
        await until(lambda: bool(app.consumer.assignment()) and not app.rebalancing)
        assert isinstance(app.consumer, FrontierConsumer)
        yield app.consumer
    finally:
        await app.stop()


def reader(settings: Settings, body: Callable[[Any], Awaitable[None]]) -> App:
    """An app that hands every record of the inference topic to `body`."""
    app = create_app(settings)

    async def read(stream: Any) -> None:
        async for event in stream.noack().events():
            for record in event.message.records:
                await body(record)

    app.agent(app.topic(settings.topic("inference"), key_type=bytes, value_type=bytes), name="reader")(read)
    return app


async def ignore(message: Any) -> None:
    """Read and do nothing."""


def produce(settings: Settings, topic: str, values: list[bytes], key: bytes | None = None) -> None:
    """Send records and wait for their acknowledgement."""
    producer = KafkaProducer(bootstrap_servers=settings.broker, acks="all")
    for value in values:
        producer.send(settings.topic(topic), value, key)
    producer.flush()
    producer.close()


def inference(number: int, time_us: int) -> bytes:
    """A single event as JSON."""
    return msgspec.json.encode({"id": f"r-{number}", "time": text(time_us), "model": "m", "version": "1"})


def environment(settings: Settings) -> dict[str, str]:
    """The settings for a worker process."""
    return {
        f"BESTBEFORE_{name.upper()}": str(value)
        for name, value in msgspec.structs.asdict(settings).items()
        if not isinstance(value, tuple)
    }
