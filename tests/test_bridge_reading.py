"""What requests become, record by record: modes of CloudEvents, log records, keys, and the bounds of the queue."""

import asyncio
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from infra.bridge import Bridge, listen
from infra.bridge_connections import Connections
from streams.adapters.config import sources_of
from streams.adapters.source import Source
from streams.bridge.buffer import Buffer, cost
from streams.bridge.http_events import MOST_EVENTS, decode_request
from streams.bridge.log_events import event_of, line_of
from streams.bridge.message import Message, Outgoing
from streams.bridge.metrics import MOST_TOPICS, BridgeMetrics
from streams.bridge.otlp import JSON, PROTOBUF, Log, decode_logs, encode_answer
from streams.bridge.routing import Router, pair_key
from streams.errors import Invalid, Refusal, ServiceError, SettingsError
from streams.records import decode_inference, decode_label
from streams.services import Service
from streams.settings import Settings, load
from streams.topics import INFERENCE, LABELS, LIFECYCLE, TOPICS
from tests.fuzz.bridge import LOGS, OTLP
from tests.sources_rig import PAIRED, SAMPLES, source_of, sources

PAGE = Path(__file__).parents[1] / "docs" / "bridge.md"
CE = [("CE-SpecVersion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")]


def headers_of(*more: tuple[str, str]) -> dict[str, bytes]:
    """The headers of a record that a request in binary mode becomes."""
    (message,) = decode_request("application/json", [*CE, *more], b"{}")
    return dict(message.headers)


# -- CloudEvents ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),  # the example of the HTTP binding
        ("50%25", "50%"),
        ('"quoted \\"text\\""', 'quoted "text"'),
        ("%zz %", "%zz %"),
        ("  spaced  ", "spaced"),
    ],
)
def test_values_of_attributes_are_decoded_as_the_http_binding_says(sent: str, kept: str) -> None:
    assert headers_of(("ce-subject", sent))["ce_subject"].decode() == kept


def test_only_headers_that_say_what_a_record_is_are_kept() -> None:
    more = (
        ("Authorization", "x"),
        ("Cookie", "x"),
        ("x-forwarded-for", "10.0.0.1"),
        ("X-Request-Id", "7"),
        ("Host", "h"),
    )
    assert headers_of(*more, ("traceparent", "00-a-b-01"), ("ce-id", "second"), ("ce-bad name", "x")) == {
        "x-request-id": b"7", "traceparent": b"00-a-b-01", "ce_specversion": b"1.0", "ce_id": b"1", "ce_source": b"/s",
        "ce_type": b"t",
    }  # fmt: skip
    (message,) = decode_request("application/json", [("X-Site", "rome"), ("X-User", "u")], b"{}", {"x-site"})
    assert message.headers == [("x-site", b"rome")]


def test_a_batch_keeps_each_event_as_it_stands_and_is_bounded() -> None:
    events = [b'{"specversion":"1.0", "id":"%d", "source":"s", "type":"t", "data": 1.50}' % i for i in range(2)]
    batch = "application/cloudevents-batch+json; charset=utf-8"
    messages = decode_request(batch, [("content-type", batch)], b"[" + b" , ".join(events) + b"]")
    assert [one.value for one in messages] == events
    assert {one.headers[0] for one in messages} == {("content-type", b"application/cloudevents+json")}
    assert decode_request(batch, [], b"[]") == []
    with pytest.raises(Refusal, match="at most 10000") as refusal:
        decode_request("application/x-ndjson", [], b"{}\n" * (MOST_EVENTS + 1))
    assert refusal.value.status == 413


# -- keys ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAIRED)
def test_both_halves_of_a_pair_have_the_same_key(name: str) -> None:
    """What the adapter pairs by, from the samples of each server whose halves come apart."""
    source: Source = source_of(name)[0]
    if source.pairing is None:
        return
    keys: dict[str, set[bytes | None]] = {}
    for record in SAMPLES[name]:
        if record.key is not None and name == "open-inference":
            continue  # the server writes to Kafka itself, and its key is the id
        (part,) = source.adapter.read(record, None)
        headers = [(key.lower(), text or b"") for key, text in record.headers]
        keys.setdefault(part.id, set()).add(pair_key(Message(record.value or b"", headers)))
    assert keys
    assert all(len(found) == 1 and None not in found for found in keys.values()), keys


def test_the_extension_partitionkey_wins_and_nothing_is_no_key() -> None:
    assert pair_key(Message(b"{}", [("ce_partitionkey", b"p"), ("ce_id", b"1")])) == b"p"
    assert pair_key(Message(b'{"inputs": [[1], {"id": "inner"}], "id": 7}', [])) == b"7"
    assert pair_key(Message(b"[1]", [])) is None
    assert pair_key(Message(b"{", [])) is None


def test_records_of_others_are_tried_only_where_that_is_quick() -> None:
    router = Router(Settings(), sources())
    target = router.target("kserve.loan")
    with pytest.raises(Refusal, match="no CloudEvent"):
        router.outgoing(target, [Message(b"{}", [])])
    (large,) = router.outgoing(target, [Message(b" " * 100_000, [("ce_id", b"1")])])
    assert large.key == b"1"
    with pytest.raises(Refusal, match="max_record_bytes") as refusal:
        router.outgoing(target, [Message(b" " * (5 << 20), [])])
    assert refusal.value.status == 413


def test_no_pattern_opens_the_topics_that_are_written_by_the_project_or_the_broker() -> None:
    """Or whoever may send telemetry could make up triggers."""
    text = b"sources: [{topics: '*', adapter: json, time: record.t, features: {a: a}, output: {label: y}}]"
    settings = Settings()
    router = Router(settings, sources_of(text, "sources.yaml", lambda _: b""))
    for topic in TOPICS:
        if topic.name not in (INFERENCE, LABELS, LIFECYCLE):
            with pytest.raises(Refusal, match="no topic") as refusal:
                router.target(settings.topic(topic.name))
            assert refusal.value.status == 404
    with pytest.raises(Refusal, match="no topic"):
        router.target("__consumer_offsets")
    assert router.target("shop.logs").source is not None


# -- log records ---------------------------------------------------------------------------------------------


def test_the_same_logs_in_json_and_protobuf_are_the_same_records() -> None:
    """OTLP of the SDK, as recorded, against its JSON form as the specification maps it."""
    logs = decode_logs(OTLP.read_bytes(), PROTOBUF)
    group = {
        "resource": {"attributes": _pairs(logs[0].resource)},
        "scopeLogs": [{"logRecords": list(map(_record, logs))}],
    }
    again = msgspec.json.encode({"resourceLogs": [group]})
    assert decode_logs(again, f"{JSON}; charset=utf-8") == logs
    assert logs[0].body["bento_meta"]["schema"]["pred"]["role"] == "prediction"
    assert dict(line_of(logs[0]).headers)["traceparent"] == f"00-{logs[0].trace}-{logs[0].span}-01".encode()


def _record(log: Log) -> dict[str, Any]:
    return {
        "timeUnixNano": str((log.time or 0) * 1000), "body": _value(log.body), "attributes": _pairs(log.attributes),
        "traceId": log.trace, "spanId": log.span, "flags": 1, "later": {"unknown": []},
    }  # fmt: skip


def _pairs(tree: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in tree.items()]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return {"kvlistValue": {"values": _pairs(value)}}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(one) for one in value]}}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": value}


def test_zero_and_false_and_empty_are_values() -> None:
    body = [_value(one) for one in (0, False, "", 0.0)]
    log = {"body": {"arrayValue": {"values": [*body, {}]}}}
    (found,) = decode_logs(msgspec.json.encode({"resourceLogs": [{"scopeLogs": [{"logRecords": [log]}]}]}), JSON)
    assert found.body == [0, False, "", 0.0, None]


def test_log_records_become_inferences_and_labels_as_documented() -> None:
    made = []
    for log in decode_logs(LOGS, JSON):
        found = event_of(log)
        assert found is not None
        made.append((found[0], found[1].value))
    assert [topic for topic, _ in made] == ["inference", "labels", "labels", "inference"]
    chat = decode_inference(made[0][1], [])
    assert (chat.model, chat.version, chat.status) == ("gpt-5", "gpt-5", 429)
    assert chat.features == {"gen_ai.usage.input_tokens": 12.0, "age": 4.5}
    assert chat.output is not None
    assert chat.output.label == "stop"
    assert decode_label(made[1][1], []).label == "7"
    score = decode_label(made[2][1], [])
    assert (score.value, score.source, score.inference_id) == (0.5, "proxy:evaluation", "r-9")


def test_what_is_logged_besides_is_no_event_and_a_broken_one_is_told() -> None:
    plain = Log("", None, "hello", {"gen_ai.system": "x"}, {}, "", "")
    assert event_of(plain) is None
    with pytest.raises(Invalid, match="no JSON"):
        event_of(plain._replace(name="bestbefore.inference", body="{"))
    with pytest.raises(Invalid, match="no body"):
        line_of(plain._replace(body=None))


def test_answers_to_logs_say_what_was_left_out() -> None:
    assert encode_answer(PROTOBUF, 0, "") == b""
    assert encode_answer(JSON, 0, "") == b"{}"
    told = msgspec.json.decode(encode_answer(JSON, 2, "two"))
    assert told == {"partialSuccess": {"rejectedLogRecords": "2", "errorMessage": "two"}}
    assert encode_answer(PROTOBUF, 2, "two") == b"\x0a\x07\x08\x02\x12\x03two"


# -- the queue -----------------------------------------------------------------------------------------------


def test_the_queue_is_bounded_in_number_and_in_bytes_and_takes_all_or_nothing() -> None:
    async def fill() -> None:
        record = Outgoing("t", b"k", b"x" * 100, [])
        buffer = Buffer(3, 10 * cost(record))
        ack = buffer.put([record, record])
        with pytest.raises(Refusal, match="no room") as refusal:
            buffer.put([record, record])
        assert (refusal.value.status, refusal.value.retry_after, buffer.records) == (429, 2, 2)
        taken = await buffer.take(10, 1 << 20)
        assert (len(taken), buffer.records, ack.done.is_set()) == (2, 2, False)  # counted until they are gone
        for one in taken:
            one.ack.tell()
        buffer.gone(taken)
        assert (buffer.records, buffer.bytes, ack.done.is_set()) == (0, 0, True)
        buffer.reserve(9 * cost(record))
        with pytest.raises(Refusal):
            buffer.put([record, record])
        await buffer.emptied()
        assert buffer.put([]).done.is_set()

    asyncio.run(fill())


def test_the_queue_is_empty_only_if_nothing_came_while_that_was_told() -> None:
    """Or a bridge that ends would give up what a sender was told is taken."""

    async def meet() -> None:
        buffer = Buffer(3, 1 << 20)
        buffer.put([Outgoing("t", b"k", b"x", [])])
        emptied = asyncio.ensure_future(buffer.emptied())
        for _ in range(2):
            buffer.gone(await buffer.take(1, 1))
            buffer.put([Outgoing("t", b"k", b"x", [])])
            done, _ = await asyncio.wait([emptied], timeout=0.05)
            assert not done
        buffer.gone(await buffer.take(1, 1))
        await asyncio.wait_for(emptied, 10)

    asyncio.run(meet())


# -- the start -----------------------------------------------------------------------------------------------


def test_what_makes_no_sense_ends_the_start_with_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"bridge_host: '0\.0\.0\.0' is seen by other machines, so bridge_token"):
        Settings(bridge_host="0.0.0.0")  # noqa: S104 -- it is refused
    with pytest.raises(ValueError, match="bridge_port: must lie in 0 to 65535"):
        Settings(bridge_port=70_000)
    with pytest.raises(ValueError, match="bridge_queue_bytes: must be 1 or more"):
        Settings(bridge_queue_bytes=0)
    with pytest.raises(SettingsError, match="bridge_topic: no topic 'status' to send to; there are inference, labels"):
        Bridge(Settings(bridge_topic="status"))
    assert load({"BESTBEFORE_BRIDGE_HEADERS": "x-site, x-region"}).bridge_headers == ("x-site", "x-region")
    taken = listen("127.0.0.1", 0)
    with taken, pytest.raises(ServiceError, match="bridge_port to a free port"):
        listen("127.0.0.1", taken.getsockname()[1])


# -- connections ---------------------------------------------------------------------------------------------


def test_a_connection_too_many_is_told_so_and_a_silent_one_ends() -> None:
    async def meet() -> None:
        app = web.Application()
        runner = web.AppRunner(app)
        await runner.setup()
        connections = Connections(runner, most=1, idle=0.3)
        server = await asyncio.get_running_loop().create_server(connections.made, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        silent, quiet = await asyncio.open_connection("127.0.0.1", port)
        refused, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert (await refused.read()).startswith(b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 2\r\n")
        assert await asyncio.wait_for(silent.read(), 10) == b""
        for end in (writer, quiet):
            end.close()
        server.close()
        await runner.cleanup()

    asyncio.run(meet())


# -- metrics -------------------------------------------------------------------------------------------------


def test_every_metric_of_the_bridge_has_its_row() -> None:
    """Name and meaning as in streams/bridge/metrics.py, and nothing besides; the topic is a short name."""

    async def made() -> BridgeMetrics:
        return BridgeMetrics(Buffer(1, 1), Service("broker"), lambda name: name.removeprefix("p."))

    metrics = asyncio.run(made())
    metrics.answered("/", 202)
    metrics.refused("full")
    metrics.taken("p.inference", 1)
    metrics.delivered("p.inference", 0.1)
    metrics.undelivered("p.inference", "too_large")
    metrics.left_out("no_event", 1)
    metrics.again(1)
    assert 'taken_records_total{topic="inference"} 1.0' in metrics.text().decode()
    wanted = set()
    for family in metrics.registry.collect():
        labels = sorted({name for one in family.samples for name in one.labels} - {"le"})
        shown = f"`{family.name}{'_total' if family.type == 'counter' else ''}`"
        wanted.add(f"| {shown} | {family.type} | {', '.join(labels)} | {family.documentation} |")
    assert (
        set(re.findall(r"^\| `bestbefore_\w+` \| (?:counter|gauge|histogram) .*$", PAGE.read_text("utf-8"), re.M))
        == wanted
    )
    for i in range(MOST_TOPICS + 5):
        metrics.taken(f"p.{i}", 1)
    assert 'taken_records_total{topic="other"} 6.0' in metrics.text().decode()
