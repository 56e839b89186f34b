"""The bridge as a process, a real broker, and real senders: curl and the SDK of CloudEvents."""

import asyncio
import gzip
import json
import shutil
import socket
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from cloudevents.core.bindings.http import to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from infra.local.kafka import Broker
from infra.topic_admin import create_topics
from streams.adapters.config import read_sources
from streams.adapters.contract import Record
from streams.records import InferenceEvent, decode_inference, decode_label
from streams.settings import Settings
from tests.bridge_rig import JSON, Running, arrived, bridge, event, make_topics
from tests.faults.topic import read_topic
from tests.health_rig import get, within
from tests.sources_rig import CONFIG

DEADLINE_S = 10  # of a stop, as promised
ASKED = "t0ken"


@pytest.fixture(scope="module")
def settings(broker: str) -> Settings:
    """Topics of this module's own, of four partitions."""
    made = Settings(broker=broker, store="sqlite:///unused.db", topic_prefix="bridge-tests.", web_port=0)
    create_topics(made)
    return made


@pytest.fixture(scope="module")
def running(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The bridge that most tests share."""
    with bridge(settings, tmp_path_factory.mktemp("bridge"), bridge_max_body_bytes="1000000") as started:
        within(30, lambda: get(started.port, "/ready")[0] == 200)
        yield started
        lines = b"\n".join(msgspec.json.encode(event(f"end-{i}")) for i in range(2000))
        assert started.post("/", lines, {"content-type": "application/x-ndjson"}).status == 202
        status, said = started.end(DEADLINE_S)  # at once: all that was taken is delivered before it ends
        assert (status, "Traceback" in said, "not delivered" in said) == (0, False, False), said
        ids = {f"end-{i}" for i in range(2000)}
        assert len(by_id(read_topic(settings.broker, settings.topic("inference")), ids)) == 2000


def curl(*arguments: str) -> Any:
    """The status and the body that curl got."""
    program = shutil.which("curl")
    assert program, "curl is needed: apt install curl"
    done = subprocess.run(
        [program, "-sS", "-w", "\n%{http_code}", *arguments], capture_output=True, text=True, check=True
    )
    text, _, status = done.stdout.rpartition("\n")
    return int(status), text


def by_id(records: list[Any], ids: set[str]) -> dict[str, Any]:
    """Records of the inference topic by the id of their event, those of one test."""
    found = {decode_inference(one.value, one.headers).id: one for one in records}
    return {name: one for name, one in found.items() if name in ids}


# -- what is taken -------------------------------------------------------------------------------------------


def test_curl_sends_an_event_and_it_is_on_the_topic(running: Running, settings: Settings) -> None:
    data = json.dumps(event("c-1"))
    told = curl(running.url, "-H", "content-type: application/json", "-d", data)
    assert told == (202, '{"taken": 1}')
    told = curl(f"{running.url}/?wait=ack", "-H", "Content-Type: application/json", "-d", json.dumps(event("c-2")))
    assert told == (200, '{"delivered": 1}')
    binary = ["ce-specversion: 1.0", "ce-id: c-3", "ce-source: /curl", "ce-type: x", "ce-time: 2026-11-20T10:00:00Z",
              "content-type: application/json", "Authorization: Bearer secret", "Cookie: a=b"]  # fmt: skip
    rest = {k: v for k, v in event("").items() if k not in ("id", "time")}
    sent = curl(
        f"{running.url}/topics/inference?wait=ack", *(x for h in binary for x in ("-H", h)), "-d", json.dumps(rest)
    )
    assert sent == (200, '{"delivered": 1}')
    found = by_id(arrived(settings, settings.topic("inference"), 3), {"c-1", "c-2", "c-3"})
    assert len(found) == 3
    assert {one.key for one in found.values()} == {b"loan/3"}
    assert dict(found["c-3"].headers) == {
        "content-type": b"application/json", "ce_specversion": b"1.0", "ce_id": b"c-3", "ce_source": b"/curl",
        "ce_type": b"x", "ce_time": b"2026-11-20T10:00:00Z",
    }  # fmt: skip
    assert found["c-1"].value == data.encode()


def test_the_sdk_of_cloudevents_sends_in_every_mode(running: Running, settings: Settings) -> None:
    def made(name: str) -> CloudEvent:
        about = {
            "id": f"é {name}%",
            "source": "/sdk",
            "type": "io.test.v1",
            "specversion": "1.0",
            "partitionkey": "k é",
        }
        return CloudEvent(about, {k: v for k, v in event("").items() if k != "id"})

    names = [f"é {name}%" for name in ("binary", "structured", "batch-1", "batch-2")]
    message = to_binary(made("binary"), JSONFormat())
    assert running.post("/?wait=ack", message.body, dict(message.headers)).status == 200
    message = to_structured(made("structured"), JSONFormat())
    assert running.post("/?wait=ack", message.body, dict(message.headers)).status == 200
    bodies = [to_structured(made(f"batch-{i}"), JSONFormat()).body for i in (1, 2)]
    answer = running.post(
        "/?wait=ack", b"[" + b",".join(bodies) + b"]", {"content-type": "application/cloudevents-batch+json"}
    )
    assert (answer.status, answer.text) == (200, '{"delivered": 2}')
    found = by_id(read_topic(settings.broker, settings.topic("inference")), set(names))
    assert sorted(found) == sorted(names)
    assert found["é binary%"].key == "k é".encode()
    assert {one.key for name, one in found.items() if name != "é binary%"} == {b"loan/3"}


def test_lines_labels_and_packed_bodies_are_taken(running: Running, settings: Settings) -> None:
    lines = b"\n".join(msgspec.json.encode(event(f"l-{i}")) for i in range(450)) + b"\n"
    for pack, name in ((gzip.compress, "gzip"), (zlib.compress, "deflate"), (bytes, "identity")):
        headers = {"content-type": "application/x-ndjson", "content-encoding": name}
        assert running.post("/?wait=ack", pack(lines), headers).text == '{"delivered": 450}'
    ids = {f"l-{i}" for i in range(450)}
    assert len(by_id(read_topic(settings.broker, settings.topic("inference")), ids)) == 450
    answer = running.post("/", lines + b'{"id": "x"}', {"content-type": "application/x-ndjson"})
    assert (answer.status, answer.text.partition(":")[0]) == (400, "record 450")
    label = {"inference_id": "l-1", "time": "2026-11-21T10:00:00Z", "label": "no"}
    assert running.post("/topics/labels?wait=ack", label).status == 200
    (record,) = arrived(settings, settings.topic("labels"), 1)
    assert (record.key, decode_label(record.value, record.headers).label) == (b"l-1", "no")


def test_the_halves_of_kserve_meet_in_one_partition_and_become_events(running: Running, settings: Settings) -> None:
    """As KServe's agent sends them (pkg/logger/worker.go): binary, one id for both, metadata as JSON text."""
    make_topics(settings, "kserve.loan", partitions=4)
    within(30, lambda: running.post("/topics/kserve.loan", {}).status == 400)  # until the bridge knows the topic
    for side, body in (("response", {"predictions": [[0.25, 0.75]]}), ("request", {"instances": [[41, 1800.0]]})):
        for i in range(20):
            headers = {
                **JSON, "Ce-Specversion": "1.0", "Ce-Id": f"k-{i}", "Ce-Source": "http://localhost:9081/",
                "Ce-Type": f"org.kubeflow.serving.inference.{side}", "Ce-Time": "2026-11-20T10:00:00.1Z",
                "Ce-Inferenceservicename": "loan", "Ce-Namespace": "prod", "Ce-Component": "predictor",
                "Ce-Endpoint": "default", "Ce-Metadata": '{%22X-Site%22:[%22berlin%22]}',
            }  # fmt: skip
            assert running.post("/topics/kserve.loan", body, headers).status == 202
    records = arrived(settings, "kserve.loan", 40)
    assert len({(one.partition, one.key) for one in records}) == 20  # both halves of each in one
    assert len({one.partition for one in records}) > 1
    source, names = read_sources(CONFIG).of("kserve.loan") or (None, {})
    assert source is not None
    things = [
        thing
        for one in records
        for thing in source.adapt(Record(one.topic, one.value, one.key, one.headers, one.timestamp * 1000), names)
    ]
    assert sorted(t.id for t in things if isinstance(t, InferenceEvent)) == sorted(f"k-{i}" for i in range(20))
    assert {(t.model, t.version, str(t.segment)) for t in things if isinstance(t, InferenceEvent)} == {
        ("loan", "3", "{'site': 'berlin'}")
    }


# -- what is refused -----------------------------------------------------------------------------------------

CE = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}
KSERVE = {**CE, **JSON, "ce-type": "org.kubeflow.serving.inference.request"}
FORM = {"content-type": "application/x-www-form-urlencoded"}
BATCH = {"content-type": "application/cloudevents-batch+json"}
REFUSED: dict[str, tuple[str, bytes, dict[str, str], int, str]] = {
    "no JSON": ("/", b"{", JSON, 400, "not a JSON object"),
    "a field is missing": ("/", b'{"id":"1"}', JSON, 400, "missing required field"),
    "empty": ("/", b"", JSON, 400, "curl"),
    "curl without a type": ("/", b"{}", FORM, 415, "content-type: app"),
    "a frame": ("/", b"x", {"content-type": "application/vnd.apache.arrow.stream"}, 415, "bestbefore-client"),
    "avro": ("/", b"x", {"content-type": "application/cloudevents+avro"}, 415, "cloudevents+json"),
    "no id": ("/", b"{}", {**CE, "ce-id": ""}, 400, "ce-id"),
    "an old version": ("/", b"{}", {**CE, "ce-specversion": "0.1"}, 400, "1.0 and 0.3"),
    "structured without id": ("/", b"{}", {"content-type": "application/cloudevents+json"}, 400, "specversion"),
    "one bad in a batch": ("/", b'[{"specversion":"1.0","id":"1","source":"s","type":"t"}]', BATCH, 400, "object"),
    "a batch of nothing known": ("/", b"7", BATCH, 400, "array"),
    "KServe to us": ("/", b'{"instances":[]}', KSERVE, 400, "/topics/NAME"),
    "an unknown topic": ("/topics/x", b"{}", JSON, 404, "sources.yaml"),
    "a topic that the broker has not": ("/topics/vertex.loan", b"{}", JSON, 404, "the broker has no topic"),
    "an output topic": ("/topics/status", b"{}", JSON, 404, "there are inference, labels"),
    "no such page": ("/x/y", b"{}", JSON, 404, "POST /topics/NAME"),
    "too large": ("/", b"[" + b" " * 1_000_001, JSON, 413, "bridge_max_body_bytes"),
    "a bomb": ("/", gzip.compress(b" " * 50_000_000), {**JSON, "content-encoding": "gzip"}, 413, "unpacked"),
    "not packed": ("/", b"{}", {**JSON, "content-encoding": "gzip"}, 400, "Content-Encoding"),
    "packed too short": ("/", gzip.compress(b"x" * 999)[:-9], {**JSON, "content-encoding": "gzip"}, 400, "too early"),
    "packed twice": ("/", gzip.compress(b"{}\n") * 2, {**JSON, "content-encoding": "gzip"}, 400, "behind its end"),
    "packed otherwise": ("/", b"{}", {**JSON, "content-encoding": "br"}, 415, "gzip"),
    "no logs": ("/v1/logs", b"\xff", {"content-type": "application/x-protobuf"}, 400, "OTLP"),
    "logs as text": ("/v1/logs", b"x", {"content-type": "text/plain"}, 415, "application/x-protobuf"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_event_is_refused_with_what_to_do(name: str, running: Running) -> None:
    path, body, headers, status, told = REFUSED[name]
    before = running.samples()
    answer = running.post(path, body, headers)
    assert (answer.status, told in answer.text) == (status, True), answer
    after = running.samples()
    taken = [key for key in after if key[0].startswith("bestbefore_bridge_taken")]
    assert {key: after[key] for key in taken} == {key: before.get(key, 0) for key in taken}


def test_a_sender_that_goes_away_leaves_nothing_reserved(running: Running) -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", running.port)) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n" + b" " * 500_000)
    within(10, lambda: running.samples()["bestbefore_bridge_queue_bytes", ()] == 0)
    assert get(running.port, "/live") == (200, "live\n")


# -- a broker that goes away ---------------------------------------------------------------------------------


def test_nothing_taken_is_lost_and_no_caller_waits_while_the_broker_is_away(tmp_path: Path) -> None:
    """Killed under a flood, back, killed again and a stop: what was told with 202 is delivered, or told as lost."""
    own = Broker(tmp_path)
    own.start()
    try:
        settings = Settings(broker=own.address, store="sqlite:///unused.db", web_port=0, partitions=2)
        create_topics(settings)
        token = {**JSON, "Authorization": f"Bearer {ASKED}"}
        with bridge(
            settings,
            tmp_path,
            **{"bridge_token": ASKED},
            bridge_queue_bytes=str(8 << 20),
            bridge_away_after="8 s",
            bridge_ack_timeout="2 s",
        ) as one:
            within(30, lambda: get(one.port, "/ready")[0] == 200)
            _asks_for_its_token(one)
            assert one.post("/?wait=ack", event("first"), token).status == 200
            _waits_for_a_broker_that_stands(one, own, token)
            own.kill()
            said = asyncio.run(_flood(one, 1500, token))
            assert {status for status, _ in said} <= {202, 429}
            taken = {name for status, name in said if status == 202}
            assert 50 < len(taken) < 1000  # 8 MiB of some 13 kB each
            assert one.memory() < 250 << 20
            within(30, lambda: one.post("/?wait=ack", event("a"), token).status == 503)
            within(20, lambda: "has not answered" in one.post("/", event("b"), token).text)
            refused = one.post("/", event("b"), token)
            assert (refused.status, refused.headers["retry-after"]) == (429, "10")
            assert (get(one.port, "/ready")[0], get(one.port, "/live")[0]) == (503, 200)
            own.start()
            found = {
                decode_inference(r.value, r.headers).id
                for r in arrived(settings, settings.topic("inference"), len(taken) + 2)
            }
            assert found - {"a", "b"} == {"first", "frozen", *taken}  # a and b were sent while it was not told away
            own.kill()
            for i in range(5):
                assert one.post("/", event(f"lost-{i}"), token).status == 202
            status, told = one.end(DEADLINE_S)
            assert status == 1
            assert "5 records that were taken were not delivered" in told
    finally:
        own.kill()


def _asks_for_its_token(one: Running) -> None:
    assert one.post("/", event("x")).status == 401
    assert one.post("/", event("x"), {**JSON, "Authorization": "Bearer t0ke"}).status == 401
    with_user = one.url.replace("http://", f"http://x:{ASKED}@")  # as in KServe's logger.url
    data = json.dumps({"id": "x"})
    assert curl(with_user, "-H", "content-type: application/json", "-d", data)[0] == 400
    assert get(one.port, "/metrics")[0] == 401
    assert get(one.port, "/metrics", ASKED)[0] == 200


def _waits_for_a_broker_that_stands(one: Running, own: Broker, token: dict[str, str]) -> None:
    process = own.process()
    assert process is not None
    process.suspend()
    within(10, lambda: process.status() == "stopped")  # all its threads, however busy the machine
    answer = one.post("/?wait=ack", event("frozen"), token)
    assert (answer.status, "may come twice" in answer.text) == (504, True)
    process.resume()
    within(30, lambda: one.waiting(ASKED) == 0)


async def _flood(one: Running, n: int, headers: dict[str, str]) -> list[tuple[int, str]]:
    """Send `n` events of 13 kB at once, over 200 connections; each is answered, although no broker is there."""
    padding = "x" * 12_500

    async def send(session: aiohttp.ClientSession, name: str) -> tuple[int, str]:
        body = msgspec.json.encode(event(name, pipeline=padding))
        async with session.post(one.url, data=body, headers=headers) as answer:
            await answer.read()
            return answer.status, name

    connector, patience = aiohttp.TCPConnector(limit=200), aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(connector=connector, timeout=patience) as session:
        return await asyncio.gather(*(send(session, f"f-{i}") for i in range(n)))
