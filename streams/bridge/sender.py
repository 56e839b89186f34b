"""From the buffer to the broker, until each record is acknowledged or can never be taken.

One batch is under way at a time, so the order is kept as long as nothing fails. What failed for a reason that passes
(broker away, leader moves) is sent again, so the delivery is at least once; what the broker will never take (too large
for its topic, no right to write) is given up, counted and told.
"""

import asyncio
import logging
import time
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    UnsupportedForMessageFormatError,
    UnsupportedVersionError,
)

from streams.bridge.buffer import Buffer, Waiting
from streams.bridge.metrics import BridgeMetrics
from streams.connection import client_options
from streams.services import Service
from streams.settings import Settings

log = logging.getLogger(__name__)
NEVER: dict[type[Exception], str] = {
    MessageSizeTooLargeError: "too_large", RecordListTooLargeError: "too_large", InvalidTopicError: "no_topic",
    TopicAuthorizationFailedError: "not_allowed", UnsupportedForMessageFormatError: "unsupported",
    UnsupportedVersionError: "unsupported",
}  # fmt: skip
TELLS = {
    "too_large": "the topic's max.message.bytes is below max_record_bytes", "no_topic": "there is no such topic",
    "not_allowed": "the broker's ACL does not let the bridge write there",
    "unsupported": "the broker is too old, or its topic keeps an old format",
}  # fmt: skip
MOST, MOST_BYTES = 500, 1 << 20  # of one batch
PATIENCE_MS = 5_000  # for an answer of the broker; then the batch is sent again
LOOK, PAUSE = 2.0, 0.5  # seconds between looks at the broker, and before trying again
GONE = 30.0  # seconds without a topic until its records are given up
HEADROOM = 64 << 10  # of a request beside a record


class Sender:
    """Delivers what is in the buffer, and looks whether the broker answers and which topics it has."""

    def __init__(self, settings: Settings, buffer: Buffer, broker: Service) -> None:
        self._settings, self._buffer, self._broker = settings, buffer, broker
        self._producer: AIOKafkaProducer | None = None
        self._options = client_options(settings)  # once: a file that is being replaced must not end the bridge
        self._missing: dict[str, float] = {}  # topics that the broker has not, and since when
        self.topics: frozenset[str] | None = None  # that the broker has; None while nobody has told

    # -- sending ---------------------------------------------------------------------------------------------

    async def deliver(self, metrics: BridgeMetrics) -> None:
        """Deliver for ever."""
        while True:
            left = await self._buffer.take(MOST, MOST_BYTES)
            while left:
                producer = await self._connected()
                left = await self._sent(producer, left, metrics)
                if left:
                    metrics.again(len(left))
                    await asyncio.sleep(PAUSE)

    async def close(self) -> None:
        """Let go of the connection."""
        if self._producer is not None:
            await self._producer.stop()

    async def _connected(self) -> AIOKafkaProducer:
        while self._producer is None:
            made = AIOKafkaProducer(
                **self._options, client_id="bestbefore-bridge", acks="all",
                request_timeout_ms=PATIENCE_MS, max_request_size=self._settings.max_record_bytes + HEADROOM,
                max_batch_size=256 << 10,
            )  # fmt: skip
            try:
                await made.start()
                self._producer = made
            except (KafkaError, OSError) as error:
                log.warning("no broker answers at %s (%r); records wait", self._settings.broker, error)
                await made.stop()
                await asyncio.sleep(PAUSE)
        return self._producer

    async def _sent(self, producer: AIOKafkaProducer, batch: list[Waiting], metrics: BridgeMetrics) -> list[Waiting]:
        """Send a batch; what is to be sent again, in order."""
        sent = [await self._begun(producer, one) for one in batch]
        again: list[Waiting] = []
        why: Exception | None = None
        for one, future in zip(batch, sent, strict=True):
            failure = future if isinstance(future, Exception) else await _outcome(future)
            reason = "" if failure is None else NEVER.get(type(failure), "again")
            if reason == "again":
                why = why or failure
                again.append(one)
                continue
            self._ended(one, reason, metrics)
        if again:
            log.warning("%d records are sent again, because the broker did not take them: %r", len(again), why)
        if len(again) < len(batch):
            self._broker.answered()
        return again

    async def _begun(self, producer: AIOKafkaProducer, one: Waiting) -> Any:
        """The future of a record, or why it could not be sent."""
        record = one.record
        if self.topics is not None and record.topic not in self.topics:
            # The producer would wait for it, record by record. A broker that has just come back may not know it yet.
            since = self._missing.setdefault(record.topic, time.monotonic())
            gone = time.monotonic() - since > GONE
            return (InvalidTopicError if gone else UnknownTopicOrPartitionError)(record.topic)
        self._missing.pop(record.topic, None)
        try:
            return await producer.send(record.topic, record.value, record.key, headers=record.headers)
        except (KafkaError, OSError) as error:
            return error

    def _ended(self, one: Waiting, reason: str, metrics: BridgeMetrics) -> None:
        self._buffer.gone([one])
        one.ack.tell(reason)
        if reason:
            log.error("a record for topic %s is given up: %s", one.record.topic, TELLS[reason])
            metrics.undelivered(one.record.topic, reason)
        else:
            metrics.delivered(one.record.topic, time.monotonic() - one.since)

    # -- looking ---------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Ask the broker for ever whether it is there, and for its topics."""
        while True:
            client = AIOKafkaClient(**self._options, request_timeout_ms=PATIENCE_MS)
            try:
                await asyncio.wait_for(client.bootstrap(), PATIENCE_MS / 1000)
                while True:
                    found = await asyncio.wait_for(client.fetch_all_metadata(), PATIENCE_MS / 1000)
                    self.topics = frozenset(found.topics()) or None
                    self._broker.answered()
                    await asyncio.sleep(LOOK)
            except (KafkaError, OSError, TimeoutError) as error:
                log.debug("the broker does not answer: %r", error)
                self._broker.failed()
            finally:
                await client.close()
            await asyncio.sleep(LOOK / 2)


async def _outcome(future: Any) -> Exception | None:
    try:
        await future
        return None
    except (KafkaError, OSError) as error:
        return error
