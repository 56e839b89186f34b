"""Records as nobody should send them, made from a seed, and what a test needs to see what became of them."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import numpy as np
from bestbefore_client import CONTENT_TYPE
from confluent_kafka import Producer
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient

from models.profile import Profile
from streams.lane import ProfileRecord
from streams.settings import Settings
from tests.faults.traffic import HOUR_US, Record, Traffic, text

Headers = list[tuple[str, bytes | None]]
FRAME: Headers = [("content-type", CONTENT_TYPE.encode())]
INPUTS = ("inference", "inputs", "labels", "lifecycle", "profiles")


class Sent(NamedTuple):
    """A record, and what must be found of it: the class of its error; empty for one that is no error."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    error: str = ""


class RawName(str):
    """A header's name that goes on the wire as bytes which are not UTF-8."""

    __slots__ = ()

    def encode(self, *_: Any) -> bytes:
        """Not what one expects."""
        return b"\xff\xfe-" + str.__str__(self).encode()


def inference(name: str, at_us: int, **fields: Any) -> bytes:
    """A single event of a model nobody described."""
    body = {"id": name, "time": text(at_us), "model": "m", "version": "1", "output": {"label": "x"}}
    return json.dumps(body | fields).encode()


def sampled(name: str, at_us: int) -> Headers:
    """The headers of a sampled input."""
    fields = {"inference_id": name, "model": "m", "version": "1", "time": text(at_us), "dtype": "float32"}
    return [(key, value.encode()) for key, value in (fields | {"shape": "[2]"}).items()]


def label(name: str, at_us: int, **fields: Any) -> bytes:
    """The truth about it."""
    return json.dumps({"inference_id": name, "time": text(at_us), "label": "x"} | fields).encode()


def lifecycle(name: str, at_us: int) -> bytes:
    """Something that happened."""
    body = {"id": name, "time": text(at_us), "kind": "drill-started", "model": "m", "version": "1"}
    return json.dumps(body).encode()


def forged(**fields: Any) -> bytes:
    """A profile as no worker writes it."""
    profile = Profile()
    profile.count("n", 1)
    record = ProfileRecord(1, "s/0", "m", "1", "", 0, 0, HOUR_US, HOUR_US, False, profile.pack())
    return msgspec.msgpack.encode(msgspec.structs.replace(record, **fields))


def unreadable(rng: np.random.Generator, topic: str) -> list[Sent]:
    """One of each kind that a topic's reader must refuse; never the same bytes twice."""
    noise = rng.bytes(40)
    sent = [Sent(topic, b"k", b"\xc1" + noise, [], "Undecodable"), Sent(topic, b"\xff\xfe", b"", [], "Undecodable")]
    if topic == "inputs":  # the metadata lies in headers
        name = rng.bytes(4).hex()
        cut = [(n, v if n != "shape" else b"[2,") for n, v in sampled(name, HOUR_US)]
        return [
            Sent(topic, b"k", noise, [], "Invalid"), Sent(topic, b"k", None, sampled(name, HOUR_US), "BadInput"),
            Sent(topic, b"k", b"", sampled(name, HOUR_US), "BadInput"), Sent(topic, None, noise, cut, "BadInput"),
            Sent(topic, None, None, [], "Invalid"),
        ]  # fmt: skip
    if topic != "lifecycle":  # tombstones are its compaction's business
        sent += [Sent(topic, b"k", None, [("a", None)], "Undecodable"), Sent(topic, None, None, [], "Undecodable")]
    if topic == "inference":
        sent += [Sent(topic, None, noise, FRAME, "Undecodable"), Sent(topic, None, None, FRAME, "Undecodable")]
    if topic == "profiles":
        body = forged()
        sent.append(Sent(topic, b"m/1", body[: len(body) // 2], [], "Undecodable"))
        sent.append(Sent(topic, b"m/1", forged(profile=noise), [], "Undecodable"))
        sent += [Sent(topic, b"m/1", forged(**wrong), [], "Invalid") for wrong in WRONG]
    else:
        sent.append(Sent(topic, b"k", json.dumps({"id": noise.hex()}).encode(), [], "Invalid"))
    return sent


WRONG: list[dict[str, Any]] = [
    {"length": 0}, {"model": ""}, {"version": "v" * 300}, {"segment": "s" * 5000}, {"model": "\0"}, {"start": 1 << 63},
]  # fmt: skip


def dressed(rng: np.random.Generator, sent: Sent) -> Sent:
    """With headers that mean nothing: null, empty, twice, not UTF-8."""
    more: Headers = [("x", None), ("x", b""), ("trace", rng.bytes(8)), ("trace", b"\xff"), ("", b"no name")]
    return sent._replace(headers=[*sent.headers, *(one for one in more if rng.random() < 0.5)])


class Wire:
    """Sends whatever the protocol allows; `dead` has the place of each that must become a dead letter."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer = Producer({"bootstrap.servers": settings.broker, "message.max.bytes": 8 << 20})
        self.dead: dict[tuple[str, int, int], Sent] = {}
        self.refused: list[str] = []

    def send(self, sent: Sent, partition: int) -> None:
        """Queue it for a partition."""
        topic = self._settings.topic(sent.topic)

        def done(error: Any, message: Any) -> None:
            if error is not None:
                self.refused.append(error.name())
            elif sent.error:
                self.dead[topic, partition, message.offset()] = sent

        self._producer.produce(
            topic, sent.value, sent.key, partition, on_delivery=done, headers=[*sent.headers] or None
        )
        self._producer.poll(0)

    def flush(self) -> None:
        """Wait until the broker has said yes or no to each."""
        assert self._producer.flush(60) == 0, "the broker does not answer"

    def close(self) -> None:
        """Its connections close when nothing holds it any more."""
        del self._producer

    def raw(self, sent: Sent, partition: int) -> None:
        """Send one with names of headers that are not UTF-8, which few clients let pass."""
        self.flush()
        producer: Any = KafkaProducer(bootstrap_servers=self._settings.broker)
        names = [(RawName(name), value) for name, value in sent.headers]
        where = producer.send(self._settings.topic(sent.topic), sent.value, sent.key, names, partition).get(30)
        producer.close()
        if sent.error:
            self.dead[where.topic, where.partition, where.offset] = sent


def poison(traffic: Traffic, day: int) -> Iterator[Record]:
    """A source for the traffic of the fault suite: on every topic, each kind of bad record every fourth day or so."""
    for topic in INPUTS:
        for place, sent in enumerate(unreadable(traffic.rng, topic)):
            if traffic.rng.random() > 0.25:
                continue
            bad = dressed(traffic.rng, sent)
            due = int(traffic.start + (day + traffic.rng.random()) * 24 * HOUR_US)
            headers = [(name, value or b"") for name, value in bad.headers]
            if bad.key is None and bad.value is None:
                bad = bad._replace(key=b"")  # its client sends no record that has neither
            yield Record(
                due,
                f"poison-{topic}-{day}-{place}",
                topic,
                traffic.turn(),
                bad.key,
                bad.value,
                headers,
                [],
                poison=True,
            )


def behind(settings: Settings, topics: tuple[str, ...]) -> int:
    """Offsets of these topics that the group has not committed yet, markers of transactions and all."""
    admin = KafkaAdminClient(bootstrap_servers=settings.broker)
    consumer = KafkaConsumer(bootstrap_servers=settings.broker)
    try:
        committed = admin.list_group_offsets(settings.group)
        committed = committed.get(settings.group, committed)
        places = [TopicPartition(settings.topic(t), p) for t in topics for p in range(settings.partitions)]
        ends = consumer.end_offsets(places)
        return sum(end - max(committed[place].offset if place in committed else 0, 0) for place, end in ends.items())
    finally:
        consumer.close()
        admin.close()
