"""Targets that read what the bridge is sent: requests with events, and OTLP logs, up to records for the broker."""

from functools import cache
from pathlib import Path

from streams.bridge.http_events import decode_request
from streams.bridge.log_events import event_of, line_of
from streams.bridge.message import Outgoing
from streams.bridge.otlp import JSON, PROTOBUF, decode_logs
from streams.bridge.routing import Router
from streams.errors import BadRecord, Refusal
from streams.settings import Settings
from tests.fuzz.damage import of_bytes, of_json
from tests.fuzz.records import of_record, record, written
from tests.fuzz.target import Target
from tests.sources_rig import sources

STATUSES = {400, 404, 413, 415}
EVENT = b'{"id":"r-81","time":"2026-11-20T10:00:00.123Z","model":"m","version":"1","output":{"label":"7"}}'
KSERVE = (
    ("content-type", "application/json"), ("ce-specversion", "1.0"), ("ce-id", "k-1"), ("ce-source", "http://x:9081/"),
    ("ce-type", "org.kubeflow.serving.inference.request"), ("ce-time", "2026-11-20T10:00:00.1Z"),
    ("ce-inferenceservicename", "loan"), ("ce-metadata", "%7B%22X-Site%22:%20[%22berlin%22]%7D"),
)  # fmt: skip
STRUCTURED = (
    b'{"specversion":"1.0","id":"e","source":"/s","type":"t","time":"2026-11-20T10:00:00Z","data":' + EVENT + b"}"
)
LOGS = b"""{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"chat"}}]},
"scopeLogs":[{"logRecords":[{"timeUnixNano":"1795168800123000000","eventName":"gen_ai.client.inference.operation.details",
"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","attributes":[
{"key":"gen_ai.request.model","value":{"stringValue":"gpt-5"}},{"key":"gen_ai.usage.input_tokens","value":{"intValue":"12"}},
{"key":"gen_ai.response.finish_reasons","value":{"arrayValue":{"values":[{"stringValue":"stop"}]}}},
{"key":"error.type","value":{"stringValue":"429"}},{"key":"bestbefore.features.age","value":{"doubleValue":4.5}}]},
{"observedTimeUnixNano":1795168800123000000,"attributes":[{"key":"event.name","value":{"stringValue":"bestbefore.label"}}],
"body":{"kvlistValue":{"values":[{"key":"inference_id","value":{"stringValue":"r-1"}},{"key":"label","value":{"stringValue":"7"}}]}}},
{"timeUnixNano":"1","eventName":"gen_ai.evaluation.result","attributes":[
{"key":"gen_ai.response.id","value":{"stringValue":"r-9"}},{"key":"gen_ai.evaluation.score.value","value":{"doubleValue":0.5}}]},
{"eventName":"bestbefore.inference","body":{"stringValue":"{\\"id\\":\\"1\\",\\"model\\":\\"m\\",\\"version\\":\\"1\\"}"}}]}]}]}"""
OTLP = Path(__file__).parents[1] / "data" / "bridge" / "bentoml.otlp"  # of BentoML 1.4.40, served


@cache
def _router() -> Router:
    return Router(Settings(), sources())


def _checked(made: list[Outgoing]) -> None:
    for one in made:
        assert one.key is None or isinstance(one.key, bytes)
        assert all(isinstance(text, bytes) for _, text in one.headers)


def _events(content: bytes) -> None:
    value, headers = record(content)
    given = [(name, (text or b"").decode("utf-8", "surrogateescape")) for name, text in headers]
    kind = next((text for name, text in given if name.lower() == "content-type"), "")
    topic = next((text for name, text in given if name == "topic"), "inference")
    try:
        messages = decode_request(kind, given, value or b"")
        _checked(_router().outgoing(_router().target(topic), messages))
    except Refusal as error:
        if error.status not in STATUSES:
            raise AssertionError(f"status {error.status}") from error
        raise


def _logs(kind: str, content: bytes) -> None:
    for log in decode_logs(content, kind):
        try:
            found = event_of(log)
            if found is not None:
                _checked(_router().outgoing(_router().target(found[0]), [found[1]]))
            _checked(_router().outgoing(_router().target("bentoml.iris"), [line_of(log)]))
        except (BadRecord, Refusal) as error:
            str(error).encode()


TARGETS = (
    Target(
        "bridge-request",
        _events,
        lambda: [
            written(EVENT, ("content-type", "application/json")),
            written(b'{"instances": [[41, 1800.5]]}', *KSERVE, ("topic", "kserve.loan")),
            written(b'{"inference_id":"r-1","time":"2026-11-20T10:00:00Z","label":"7"}', ("topic", "labels")),
            written(STRUCTURED, ("content-type", "application/cloudevents+json")),
            written(
                b"[" + STRUCTURED + b"," + STRUCTURED + b"]", ("content-type", "application/cloudevents-batch+json")
            ),
            written(EVENT + b"\n" + EVENT, ("content-type", "application/x-ndjson"), ("x-request-id", "7")),
        ],
        of_record(of_json),
    ),
    Target("bridge-logs-json", lambda content: _logs(JSON, content), lambda: [LOGS], of_json),
    Target("bridge-logs", lambda content: _logs(PROTOBUF, content), lambda: [OTLP.read_bytes()], of_bytes),
)
