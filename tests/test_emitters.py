"""The real emitters, each in an environment of its own, against the bridge, the topics and the adapters."""

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer

from infra.source_samples import records_of
from infra.topic_admin import create_topics
from streams.adapters.config import Sources, read_sources
from streams.adapters.contract import Record
from streams.records import InferenceEvent, decode_inference, decode_label
from streams.settings import Settings
from tests.bridge_rig import JSON, Running, arrived, bridge, make_topics
from tests.environments import environment
from tests.faults.topic import read_topic
from tests.health_rig import free_port, get, within

LEFT_OUT = ("no_event", "bad_record")
SCRIPTS = Path(__file__).with_name("emitters")


@pytest.fixture(scope="module")
def settings(broker: str) -> Settings:
    """Topics of this module's own."""
    made = Settings(broker=broker, store="sqlite:///unused.db", topic_prefix="emitters.", web_port=0)
    create_topics(made)
    make_topics(made, "loan.kserve", "iris.bentoml", "loan-input", "loan-output", partitions=2)
    return made


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an operator writes for these emitters."""
    path = tmp_path_factory.mktemp("sources") / "sources.yaml"
    path.write_text("""\
sources:
  - {topics: loan.kserve, adapter: kserve, version: [response.model_version, {fixed: "3"}],
     segment: {site: envelope.metadata.x-site}, output: {scores: output, classes: ["no", "yes"]}}
  - {topics: iris.bentoml, adapter: bentoml, model: {fixed: iris}, version: {fixed: "7"}}
  - {topics: [loan-input, loan-output], adapter: open-inference, segment: {site: header.x-site},
     output: {label: predict, scores: predict_proba, classes: ["no", "yes"]}}
""")
    return path


@pytest.fixture(scope="module")
def running(settings: Settings, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The bridge that the tests share."""
    with bridge(settings, tmp_path_factory.mktemp("bridge"), sources=str(config)) as started:
        within(30, lambda: get(started.port, "/ready")[0] == 200)
        yield started


def inferences(sources: Sources, records: list[Any]) -> list[InferenceEvent]:
    """What the adapters make of records of topics; nothing may stay without its other half."""
    found: list[Any] = []
    for one in records:
        source, names = sources.of(one.topic) or (None, {})
        assert source is not None
        found += source.adapt(Record(one.topic, one.value, one.key, one.headers, one.timestamp * 1000), names)
    assert not [rest for entry in sources.entries for rest in entry.source.rest()]
    return sorted(found, key=lambda one: str(one.id))


def ran(name: str, *arguments: str) -> str:
    """What a script of tests/emitters printed."""
    done = subprocess.run(
        [environment("emitters"), SCRIPTS / name, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def served(port: int, folder: Path, *command: Any, **environ: str) -> Iterator[None]:
    """A server that runs, and answers at /v2/health/ready, until the block ends."""
    with (folder / "server.log").open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, cwd=folder, env={"PATH": "", **environ})
    try:
        within(60, lambda: process.poll() is not None or get(port, "/v2/health/ready")[0] == 200)
        assert process.poll() is None, (folder / "server.log").read_text()
        yield
    finally:
        process.kill()
        process.wait()


# -- MLServer ------------------------------------------------------------------------------------------------


def test_mlserver_answers_on_its_topics_and_the_adapter_pairs_them(
    settings: Settings, config: Path, tmp_path: Path
) -> None:
    """Its own Kafka server: key and header `mlserver-model` in; headers of CloudEvents 0.3 out."""
    (tmp_path / "model-settings.json").write_text(
        '{"name": "loan", "implementation": "mlserver_loan.Loan", "parameters": {"version": "v0.2"}}'
    )
    ports = {f"MLSERVER_{name}_PORT": str(free_port()) for name in ("HTTP", "GRPC", "METRICS")}
    given = {
        **ports, "MLSERVER_HOST": "127.0.0.1", "MLSERVER_KAFKA_ENABLED": "true", "MLSERVER_PARALLEL_WORKERS": "0",
        "MLSERVER_KAFKA_SERVERS": settings.broker, "MLSERVER_KAFKA_TOPIC_INPUT": "loan-input",
        "MLSERVER_KAFKA_TOPIC_OUTPUT": "loan-output", "PYTHONPATH": str(SCRIPTS),
    }  # fmt: skip
    python = environment("mlserver")
    producer = KafkaProducer(bootstrap_servers=settings.broker)

    def ask(name: str, *rows: list[float]) -> None:
        flat = [value for row in rows for value in row]
        body = {"inputs": [{"name": "x", "shape": [len(rows), 2], "datatype": "FP64", "data": flat}]}
        headers = [("mlserver-model", b"loan"), ("x-site", b"rome")]
        producer.send("loan-input", json.dumps(body).encode(), name.encode(), headers)
        producer.flush()

    command = (python, "-m", "mlserver.cli.main", "start", str(tmp_path))
    with served(int(ports["MLSERVER_HTTP_PORT"]), tmp_path, *command, **given):
        probes = iter(range(1000))

        def answers() -> bool:
            """It reads from the end of its topic, from whenever it has found that."""
            ask(f"probe-{next(probes)}", [1.0, 1.0])
            return bool(read_topic(settings.broker, "loan-output"))

        within(60, answers)
        ask("r-1", [33.0, 1.5])
        ask("r-2", [70.0, 1.5], [20.0, 2.5])
        within(30, lambda: {b"r-1", b"r-2"} <= {one.key for one in read_topic(settings.broker, "loan-output")})
    producer.close()
    asked, answered = read_topic(settings.broker, "loan-input"), read_topic(settings.broker, "loan-output")
    assert dict(answered[0].headers)["Ce-Specversion"] == b"0.3"  # what adapters were once sure that it has not
    known = {one.key for one in answered}
    found = inferences(read_sources(config), [*(one for one in asked if one.key in known), *answered])
    events = {one.id: one for one in found if one.id.startswith("r-")}
    assert list(events) == ["r-1", "r-2#0", "r-2#1"]
    first = events["r-1"]
    assert (first.model, first.version, first.segment) == ("loan", "v0.2", {"site": "rome"})
    assert first.features == {"x[0]": 33.0, "x[1]": 1.5}
    assert first.output is not None
    assert (first.output.label, first.output.scores) == ("no", {"no": 0.6699999999999999, "yes": 0.33})
    assert events["r-2#0"].output is not None
    assert events["r-2#0"].output.label == "yes"


# -- KServe --------------------------------------------------------------------------------------------------


def test_bodies_of_kserves_server_pass_the_bridge_as_its_logger_sends_them(
    settings: Settings, config: Path, running: Running, tmp_path: Path
) -> None:
    """The bodies are those of the real server, the envelopes those of its agent (in Go, so not from pip)."""
    port = free_port()
    asked = {
        "v1/models/loan:predict": {"instances": [[41, 1800.0]]},
        "v2/models/loan/infer": {
            "id": "x",
            "inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP64", "data": [[30, 2.5], [50, 3.5]]}],
        },
    }
    script = (environment("emitters"), SCRIPTS / "kserve_server.py", str(port))
    with served(port, tmp_path, *script):
        for i, (path, body) in enumerate(asked.items()):
            content = json.dumps(body).encode()
            request = urllib.request.Request(f"http://127.0.0.1:{port}/{path}", content, JSON)
            with urllib.request.urlopen(request) as response:  # noqa: S310 -- loopback
                answer = response.read()
            for side, half in (("request", content), ("response", answer)):
                assert running.post("/topics/loan.kserve", half, _logged(f"k-{i}", side)).status == 202
    found = inferences(read_sources(config), arrived(settings, "loan.kserve", 4))
    told = [(one.id, one.version, one.segment, one.features, one.output and one.output.scores) for one in found]
    site = {"site": "berlin"}
    assert told == [
        ("k-0", "3", site, {"input[0]": 41.0, "input[1]": 1800.0}, {"no": 0.5900000000000001, "yes": 0.41}),
        ("k-1#0", "4", site, {"x[0]": 30.0, "x[1]": 2.5}, {"no": 0.7, "yes": 0.3}),
        ("k-1#1", "4", site, {"x[0]": 50.0, "x[1]": 3.5}, {"no": 0.5, "yes": 0.5}),
    ]


def _logged(name: str, side: str) -> dict[str, str]:
    """Headers as Go's SDK of CloudEvents writes them for pkg/logger/worker.go."""
    return {
        **JSON, "Ce-Specversion": "1.0", "Ce-Id": name, "Ce-Source": "http://localhost:9081/",
        "Ce-Type": f"org.kubeflow.serving.inference.{side}", "Ce-Time": "2026-11-20T10:00:00.1Z",
        "Ce-Inferenceservicename": "loan", "Ce-Namespace": "prod", "Ce-Component": "predictor", "Ce-Endpoint": "",
        "Ce-Metadata": "{%22X-Site%22:[%22berlin%22]}",
    }  # fmt: skip


# -- BentoML and OpenTelemetry -------------------------------------------------------------------------------

IRIS = [(1.5, "oslo", "virginica"), (2.5, "bern", "setosa"), *((4.9 + n, "rome", "setosa") for n in range(3))]


def test_lines_of_bentomls_monitor_are_read_with_its_schema(tmp_path: Path) -> None:
    ran("bentoml_monitor.py", "default", str(tmp_path))
    (tmp_path / "sources.yaml").write_text(
        "sources:\n  - {topics: iris, adapter: bentoml, schema: iris/schema/schema.0.log, model: {fixed: iris}, "
        'version: {fixed: "7"}}\n'
    )
    source, _ = read_sources(tmp_path / "sources.yaml").of("iris") or (None, {})
    assert source is not None
    lines = records_of(tmp_path / "iris" / "data" / "data.0.log", "iris")
    _is_iris([thing for _, record in lines for thing in source.adapt(record)])


def test_bentomls_otlp_monitor_reaches_the_adapter_through_the_bridge(
    settings: Settings, config: Path, running: Running
) -> None:
    ran("bentoml_monitor.py", "otlp", f"{running.url}/topics/iris.bentoml/v1/logs")
    _is_iris(inferences(read_sources(config), arrived(settings, "iris.bentoml", 5)))


def _is_iris(found: list[Any]) -> None:
    told = sorted((e.features["sepal_len"], e.features["site"], e.output.label) for e in found)
    assert told == sorted(IRIS)
    assert all("embedding[1]" in event.features for event in found)
    assert {(event.model, event.version) for event in found} == {("iris", "7")}
    assert len({event.id for event in found}) == 5


def test_the_sdk_of_opentelemetry_exports_inferences_and_labels(settings: Settings, running: Running) -> None:
    ran("otel_logs.py", f"{running.url}/v1/logs?wait=ack")
    records = [
        decode_inference(one.value, one.headers) for one in read_topic(settings.broker, settings.topic("inference"))
    ]
    chat, loan = sorted(records, key=lambda one: one.model)
    assert (chat.id, chat.model, chat.version) == ("chatcmpl-123", "gpt-5", "gpt-5-2026-08-07")
    assert chat.segment == {"operation": "chat", "provider": "openai"}
    assert (chat.latency_ms, chat.output and chat.output.label) == (830.5, "stop")
    assert chat.features == {
        "gen_ai.request.temperature": 0.5, "gen_ai.usage.input_tokens": 100.0, "gen_ai.usage.output_tokens": 180.0,
        "tenant": "a",
    }  # fmt: skip
    assert loan.id == "5b8efff798038103d269b633813fc60c-eee19b7ec3c1b174"
    assert (loan.segment, loan.features) == ({"site": "rome"}, {"age": 41.0})
    (record,) = read_topic(settings.broker, settings.topic("labels"))
    label = decode_label(record.value, record.headers)
    assert (label.inference_id, label.label, label.source) == ("chatcmpl-123", "pass", "proxy:relevance")
    assert b"secret" not in b"".join(r.value for r in read_topic(settings.broker, settings.topic("inference")))
    left_out = {r: running.samples()["bestbefore_bridge_left_out_logs_total", (("reason", r),)] for r in LEFT_OUT}
    assert left_out == {"no_event": 1, "bad_record": 1}
