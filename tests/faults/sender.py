"""Sends traffic, and adds up in an oracle what the broker has acknowledged: that, and no more, must be found again."""

import asyncio
from collections import Counter, deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from tests.faults.traffic import Expected, Record

STEP_S = 0.05
MAX_WAITING = 20_000  # records on their way to the broker at once


class Sender:
    """`log` gets a line for every acknowledged record: topic, partition, offset, name, events."""

    def __init__(self, broker: str, prefix: str, log: Path) -> None:
        self._broker, self._prefix, self._path = broker, prefix, log
        self.expected: Expected = {}
        self.asked: set[str] = set()
        self.poison: set[tuple[str, int, int]] = set()
        self.events = self.acknowledged = 0
        self.due_us = 0  # event time that the traffic has come to
        self._stop = False

    def stop(self) -> None:
        """Send no more."""
        self._stop = True

    async def send(self, records: Iterable[Record], us_per_second: float) -> None:
        """Every record is acknowledged once when this returns; it raises when one is not.

        Event time passes at `us_per_second` of wall time, and stands still while the broker takes nothing: what an
        outage has held up is not sent in one burst.
        """
        producer = AIOKafkaProducer(
            bootstrap_servers=self._broker, acks="all", enable_idempotence=True, request_timeout_ms=120_000,
            max_request_size=4 << 20, linger_ms=5,
        )  # fmt: skip
        await producer.start()
        waiting: deque[tuple[Record, Any]] = deque()
        with self._path.open("a", encoding="utf-8") as self._log:
            try:
                for record in records:
                    self.due_us = self.due_us or record.due_us
                    while record.due_us > self.due_us and not self._stop:
                        self.due_us += int(STEP_S * us_per_second)
                        await asyncio.sleep(STEP_S)
                        await self._collect(waiting, MAX_WAITING)
                    if self._stop:
                        break
                    future = await producer.send(
                        self._prefix + record.topic, record.value, record.key, record.partition, None, record.headers
                    )
                    waiting.append((record, future))
                await self._collect(waiting, 0)
            finally:
                await producer.stop()

    async def _collect(self, waiting: deque[tuple[Record, Any]], most: int) -> None:
        """Count what is acknowledged; wait until no more than `most` are not."""
        while waiting and (len(waiting) > most or waiting[0][1].done()):
            record, future = waiting.popleft()
            self._count(record, await future)

    def _count(self, record: Record, where: Any) -> None:
        self._log.write(f"{where.topic} {where.partition} {where.offset} {record.name} {record.events}\n")
        self.acknowledged += 1
        self.events += record.events
        self.asked.update(record.asks)
        if record.poison:
            self.poison.add((where.topic, where.partition, where.offset))
        for key, name, by in record.adds:
            self.expected.setdefault(key, Counter())[name] += by
