"""Reads the newest records of every topic, and says which are not what the contract promises."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
from kafka import KafkaConsumer, TopicPartition

from streams.conformity import examine
from streams.connection import connected
from streams.errors import ServiceError
from streams.settings import Settings
from streams.topics import TOPICS

PATIENCE_MS = 10_000  # for the broker to hand over the next records


class Unfit(msgspec.Struct, frozen=True):
    """A record that does not fit, by its place; what it holds may be private and is not shown."""

    partition: int
    offset: int
    message: str
    problem: str


class Verified(msgspec.Struct, frozen=True):
    """What was read of a topic: how many records of each message, and those that do not fit."""

    topic: str
    read: int
    messages: dict[str, int]
    unfit: list[Unfit]


def verify(settings: Settings, records: int) -> list[Verified]:
    """Read the newest `records` of each partition of each topic. Raises ServiceError."""
    with connected(settings, KafkaConsumer, enable_auto_commit=False, max_partition_fetch_bytes=16 << 20) as consumer:
        return [_verified(consumer, settings.topic(topic.name), topic.name, records) for topic in TOPICS]


def _verified(consumer: Any, full: str, name: str, records: int) -> Verified:
    counts: Counter[str] = Counter()
    unfit: list[Unfit] = []
    for record in _newest(consumer, full, records):
        found = examine(name, record.key, record.value, record.headers)
        counts[found.message] += 1
        if found.problem:
            unfit.append(Unfit(record.partition, record.offset, found.message, found.problem[:500]))
    return Verified(full, counts.total(), dict(sorted(counts.items())), unfit)


def _newest(consumer: Any, topic: str, records: int) -> Iterator[Any]:
    """The newest records of each partition; of a compacted topic those of that many last offsets that are left."""
    partitions = consumer.partitions_for_topic(topic)
    if not partitions:
        raise ServiceError(f"topic {topic} does not exist; run `bestbefore topics create`")
    places = [TopicPartition(topic, p) for p in sorted(partitions)]
    consumer.assign(places)
    begins, ends = consumer.beginning_offsets(places), consumer.end_offsets(places)
    for place in places:
        consumer.seek(place, max(begins[place], ends[place] - records))
    while any(consumer.position(place) < ends[place] for place in places):
        polled = consumer.poll(timeout_ms=PATIENCE_MS)
        if not polled and any(consumer.position(place) < ends[place] for place in places):
            raise ServiceError(f"topic {topic}: the broker hands over no records; look at its log, then run it again")
        for place, found in polled.items():
            yield from (record for record in found if record.offset < ends[place])
