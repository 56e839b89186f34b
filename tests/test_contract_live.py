"""Every record of a running pipeline is what the contract says: JSON Schema, the CloudEvents SDK, our reader agree."""

import json
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

from infra.cli import main
from models.descriptors.fields import instant_us
from streams.asyncapi import document
from streams.conformity import examine, message_of
from streams.contract import BY_NAME
from streams.envelopes import schema_id, source_of
from streams.records import STRUCTURED, header
from streams.settings import Settings
from streams.topics import TOPICS
from tests.broker_rig import BASE
from tests.contract_rig import REPLACED, N, Record, frame, parent, play, send, settings_of
from tests.faults.topic import read_topic
from tests.faults.traffic import HOUR_US
from tests.otlp_receiver import Receiver, receiving
from tests.schema_checks import problems

OUT = ("mismatches", "retrain-triggers", "label-requests", "status")


@pytest.fixture(scope="module")
def collector() -> Iterator[Receiver]:
    """A collector of spans."""
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def settings(broker: str, collector: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """What a pipeline wrote that saw everything that a topic takes."""
    folder = tmp_path_factory.mktemp("contract")
    made = msgspec.structs.replace(settings_of(broker, folder), otlp_endpoint=collector.endpoint)
    play(made, folder, [frame(window) for window in range(REPLACED)])
    return made


@pytest.fixture(scope="module")
def written(settings: Settings) -> dict[str, list[Any]]:
    """All records by topic."""
    return {topic.name: read_topic(settings.broker, settings.topic(topic.name)) for topic in TOPICS}


def test_every_message_of_the_contract_was_written(written: dict[str, list[Any]]) -> None:
    seen = Counter(message_of(topic, r.headers).name for topic, records in written.items() for r in records)
    assert seen.keys() == BY_NAME.keys(), "what nobody wrote is not checked below"


def test_every_record_fits_its_schema(written: dict[str, list[Any]]) -> None:
    """By a JSON Schema validator that knows nothing of msgspec; of outputs no field is missing in the schema."""
    found = []
    for topic, records in written.items():
        for record in records:
            message = message_of(topic, record.headers)
            if message.schema is None or message.schema == "profile":
                continue
            if poisoned(record) and topic != "dead-letters":
                continue
            if message.headers is not None:
                names = message.headers.__struct_encode_fields__
                value: Any = {n: header(record.headers, n) for n in names if header(record.headers, n)}
            else:
                value = json.loads(record.value)
            value = value["data"] if message.content_type == STRUCTURED else value
            told = problems(message.schema, value, closed=message.kind is not None)
            assert not told, (message.name, value, told)
            found.append(message.name)
    assert len(found) > 100


def poisoned(record: Any) -> bool:
    """What the rig sends for the dead letters."""
    return record.value in (b"{no json", b'{"inference_id": "x"}')


def test_what_goes_out_is_a_cloud_event_to_the_official_sdk(settings: Settings, written: dict[str, list[Any]]) -> None:
    ids: Counter[tuple[str, str]] = Counter()
    ours = [r for r in written["lifecycle"] if header(r.headers, "ce_type")]
    assert ours
    for topic, records in (*((name, written[name]) for name in OUT), ("lifecycle", ours)):
        for record in records:
            event = from_kafka(KafkaMessage(dict(record.headers), record.key, record.value), JSONFormat(), CloudEvent)
            kind = message_of(topic, record.headers).kind
            assert event.get_type() == f"io.bestbefore.{kind}.v1"
            assert event.get_dataschema() == schema_id(str(kind))
            assert event.get_datacontenttype() == "application/json"
            assert event.get_source() == source_of(settings.group)
            at = event.get_time()
            assert at is not None
            assert at.utcoffset() == timedelta(0)
            assert at.isoformat().replace("+00:00", "Z") == header(record.headers, "ce_time")
            assert uuid.UUID(event.get_id()).version == 5, "an id that follows from the cause"
            assert event.get_subject() == event.get_extension("partitionkey") == record.key.decode()
            assert isinstance(event.get_data(), dict)
            ids[event.get_source(), event.get_id()] += 1
    assert set(ids.values()) == {1}, "nothing was repeated here, so no id may be"


def test_the_command_finds_nothing_wrong(settings: Settings) -> None:
    done = verify(settings)
    assert done.exit_code == 1, "the poison that the rig sent"
    topics = {t["topic"].removeprefix(settings.topic_prefix): t for t in json.loads(done.output)}
    assert {name for name, found in topics.items() if found["unfit"]} == {"inference", "labels"}
    assert [one["message"] for one in topics["inference"]["unfit"]] == ["inference-event"]
    assert all(found["read"] for found in topics.values())
    assert topics["inference"]["messages"]["inference-frame"] == REPLACED


def verify(settings: Settings) -> Any:
    """`bestbefore topics verify --format json`."""
    runner = CliRunner(env={"BESTBEFORE_TOPIC_PREFIX": settings.topic_prefix})
    return runner.invoke(main, ["--broker", settings.broker, "topics", "verify", "--format", "json"])


# -- traces --------------------------------------------------------------------------------------------------


def test_events_name_requests_that_led_to_them(written: dict[str, list[Any]]) -> None:
    """Of the window that confirmed them; requests for labels the one that they are about."""
    for record in (*written["mismatches"], *written["retrain-triggers"]):
        body = json.loads(record.value)
        if body.get("verdict") == "ok":
            continue
        event = from_kafka(KafkaMessage(dict(record.headers), record.key, record.value), JSONFormat(), CloudEvent)
        assert event.get_extension("traceparent") == body["traces"][0]
        start = body["window"]["start"] if "window" in body else body["data"]["time_range"]["start"]
        numbers = [int(text.split("-")[1], 16) - 1 for text in body["traces"]]
        assert {BASE + number // N * HOUR_US for number in numbers} == {instant_us(start)}
    asked = {
        json.loads(r.value)["inference_id"]: header(r.headers, "ce_traceparent") for r in written["label-requests"]
    }
    of_rows = {f"{w}-{i}": parent(w * N + i) for w in range(0, REPLACED, 2) for i in range(0, N, 10)}
    assert {name: text for name, text in asked.items() if text} == {k: v for k, v in of_rows.items() if k in asked}
    assert any(asked.values())
    (dead,) = [r for r in written["dead-letters"] if r.value == b"{no json"]
    assert header(dead.headers, "traceparent") == parent(7), "a dead letter has the headers that it came with"
    assert not any(header(r.headers, "ce_traceparent") for r in written["status"])


def test_spans_lead_from_the_requests_to_the_events(written: dict[str, list[Any]], collector: Receiver) -> None:
    spans = {step: [s for s in collector.spans if s.name.startswith(step)] for step in ("ingest", "assess", "publish")}
    assert {s.service for s in collector.spans} == {"bestbefore"}
    of_requests = {text[3:52] for s in spans["ingest"] for text in s.links for text in [f"00-{text}-01"]}
    assert len(of_requests) > REPLACED, "every window, some by their rows"
    known = {s.span: s for s in collector.spans}
    assert all(known[s.parent].name.startswith("ingest") for s in spans["assess"])
    sent = [s for s in spans["publish"] if s.parent]
    assert all(known[s.parent].name.startswith("assess") for s in sent)
    told = {header(r.headers, "ce_traceparent")[3:52] for r in written["mismatches"]} - {""}
    assert told
    assert told <= {link for s in spans["publish"] for link in s.links}
    assert told <= of_requests
    assert {s.attributes["messaging.system"] for s in collector.spans} == {"kafka"}


# -- the topics ----------------------------------------------------------------------------------------------


def test_the_document_says_how_the_topics_are_kept(settings: Settings) -> None:
    """Partitions, replicas and configuration, as the broker has them."""
    admin = KafkaAdminClient(bootstrap_servers=settings.broker)
    try:
        for channel in document(settings, "0")["channels"].values():
            said = channel["bindings"]["kafka"]
            (found,) = admin.describe_topics([channel["address"]])
            assert len(found["partitions"]) == said["partitions"]
            assert {len(p["replica_nodes"]) for p in found["partitions"]} == {said["replicas"]}
            resource = ConfigResource(ConfigResourceType.TOPIC, channel["address"])
            config = admin.describe_configs([resource], config_filter="all")["topic"][channel["address"]]
            for name, value in said["topicConfiguration"].items():
                kept = str(config[name]["value"])
                assert sorted(kept.split(",")) == sorted(value if isinstance(value, list) else [str(value)]), name
    finally:
        admin.close()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda h, v: (h | {"ce_type": b"io.bestbefore.mismatch.v2"}, v), "header ce_type is"),
        (lambda h, v: (h | {"ce_time": b"yesterday"}, v), "RFC3339"),
        (lambda h, v: (h | {"ce_id": b"another"}, v), "the line's own id"),
        (lambda h, v: ({k: x for k, x in h.items() if k != "ce_source"}, v), "ce_source are missing"),
        (lambda h, v: (h | {"content-type": b"text/plain"}, v), "header content-type is"),
        (lambda h, v: ({}, v), "no CloudEvent in binary mode"),
        (lambda h, v: (h, v.replace(b'"severity"', b'"gravity"')), "missing required field `severity`"),
        (lambda h, v: (h, v[:-1]), "DecodeError"),
        (lambda h, v: (h, b""), "the record is empty"),
    ],
)
def test_what_does_not_fit_is_seen(written: dict[str, list[Any]], change: Any, told: str) -> None:
    record = written["mismatches"][0]
    headers, value = change(dict(record.headers), record.value)
    assert told in examine("mismatches", record.key, value, list(headers.items())).problem
    assert examine("mismatches", record.key, record.value, record.headers).problem == ""


def test_a_wrong_record_on_a_topic_is_named_by_its_place(broker: str, tmp_path: Path) -> None:
    made = settings_of(broker, tmp_path)
    wrong: list[Record] = [("status", b"m/1", b'{"model": "m"}', [("content-type", b"application/json")])]
    send(made, wrong)
    (topic,) = [t for t in json.loads(verify(made).output) if t["unfit"]]
    assert topic["topic"] == made.topic("status")
    (one,) = topic["unfit"]
    assert (one["offset"], one["message"]) == (0, "status")
    assert "ce_specversion is missing" in one["problem"]
