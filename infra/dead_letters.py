"""Reads the dead letters, and sends them to where they came from again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from streams.adapters.config import Sources, read_sources
from streams.connection import connected, explained
from streams.errors import ServiceError
from streams.records import header
from streams.settings import Settings
from streams.topics import DEAD_LETTERS, HEADROOM, INFERENCE, INPUTS, LABELS, LIFECYCLE, TOPICS

PREFIX = "__connect.errors."


class DeadLetter(msgspec.Struct):
    """One record that could not be used: where it lay, why, and what it was."""

    topic: str
    partition: int
    offset: int
    stage: str
    error: str
    message: str
    size: int
    truncated: bool
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


def read(settings: Settings, limit: int | None) -> list[DeadLetter]:
    """The dead letters, oldest first, each source record once; the newest `limit`, or all. Raises ServiceError."""
    with connected(settings, KafkaConsumer, enable_auto_commit=False) as consumer:
        found = {(d.topic, d.partition, d.offset): (at, d) for at, d in _all(consumer, settings.topic(DEAD_LETTERS))}
    letters = [letter for _, letter in sorted(found.values(), key=lambda pair: pair[0])]
    return letters if limit is None else letters[-limit:]


def _all(consumer: Any, topic: str) -> list[tuple[int, DeadLetter]]:
    partitions = consumer.partitions_for_topic(topic)
    if not partitions:
        raise ServiceError(f"topic {topic} does not exist; run `bestbefore topics create`")
    tps = [TopicPartition(topic, p) for p in sorted(partitions)]
    consumer.assign(tps)
    consumer.seek_to_beginning(*tps)
    ends = consumer.end_offsets(tps)
    letters: list[tuple[int, DeadLetter]] = []
    while any(consumer.position(tp) < ends[tp] for tp in tps):
        for records in consumer.poll(timeout_ms=1000).values():
            letters += [(record.timestamp, _letter(record)) for record in records]
    return letters


def _letter(record: Any) -> DeadLetter:
    headers = [(name, value) for name, value in record.headers or ()]
    text = {name: header(headers, PREFIX + name) for name in ("topic", "partition", "offset", "stage")}
    return DeadLetter(
        topic=text["topic"],
        partition=_number(text["partition"]),
        offset=_number(text["offset"]),
        stage=text["stage"],
        error=header(headers, PREFIX + "exception.class.name"),
        message=header(headers, PREFIX + "exception.message"),
        size=len(record.value or b""),
        truncated=bool(header(headers, "bestbefore.truncated.from")),
        key=record.key,
        value=record.value,
        headers=[(n, v) for n, v in headers if not n.startswith(PREFIX)],
    )


def _number(text: str) -> int:
    """The number in a header; -1 where whoever wrote the letter has left it out or wrote something else."""
    return int(text) if len(text) < 20 and text.isdecimal() else -1


def resend(settings: Settings, letters: Sequence[DeadLetter]) -> int:
    """Send letters to their topics again; returns how many were sent.

    Not those that were truncated, nor those of other topics than the ones workers read: a header is anybody's to write.
    Raises SettingsError where the setting `sources` names a file that cannot be read.
    """
    read_by_us = {settings.topic(name) for name in (INFERENCE, INPUTS, LABELS, LIFECYCLE)}
    ours = {settings.topic(topic.name) for topic in TOPICS}
    sources = read_sources(Path(settings.sources)) if settings.sources else Sources([])
    whole = [
        letter
        for letter in letters
        if not letter.truncated
        and (letter.topic in read_by_us or (letter.topic not in ours and sources.of(letter.topic) is not None))
    ]
    if not whole:
        return 0
    # The client does not send null as a header's value; nobody here tells it from an empty one.
    given = [(x, [(name, value or b"") for name, value in x.headers]) for x in whole]
    with connected(settings, KafkaProducer, max_request_size=settings.max_record_bytes + HEADROOM) as producer:
        try:
            sent = [producer.send(x.topic, key=x.key, value=x.value, headers=headers) for x, headers in given]
            for future in sent:
                future.get(timeout=60)
        except KafkaError as error:
            raise ServiceError(
                f"not all records could be sent again, and those that were may be there twice: "
                f"{explained(settings, error)}"
            ) from None
    return len(whole)
