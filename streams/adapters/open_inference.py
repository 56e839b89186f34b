"""The Open Inference Protocol on topics: Seldon Core 2, MLServer's Kafka topics, the logger of Seldon Core 1.

Whether a record is a request or a response is told by the header `seldon-infer-type` (which also tells JSON from
protobuf), `type`, or `ce_type` (MLServer 1.7 writes `Ce-Type`, of CloudEvents 0.3), by the end of the topic's name
(`.inputs`, `-output`), or by the body. Seldon's feedback events are refused: send labels to the topic `labels`.
"""

from typing import Any, NamedTuple

from streams.adapters.contract import Adapter, Part, Record, header_of, json_of, refused
from streams.adapters.oip_messages import message_of
from streams.adapters.payloads import Half, rows_of
from streams.errors import Unadaptable

_EXPECTED = "an inference request or response (V2 JSON or protobuf)"
_SELDON = "io.seldon.serving."
_SELDON_1 = f"{_SELDON}inference."


class _Form(NamedTuple):
    side: Half | None
    json: bool | None


def read(record: Record, _: Any = None) -> list[Part]:
    """One request or one response. Raises Unadaptable."""
    kind = header_of(record, "ce_type")
    if header_of(record, "ce_specversion") and not kind.startswith(_SELDON):
        raise refused(f"a CloudEvent of type {kind[:80]!r}", _EXPECTED)
    value, form = record.value or b"", _form(record)
    if not value:
        raise Unadaptable(f"the record is empty; expected {_EXPECTED}")
    if form.json or (form.json is None and value.lstrip()[:1] == b"{"):
        return [_of_json(value, form.side, record)]
    if form.side is None:
        raise Unadaptable(
            "no header, and not the end of the topic's name, tells whether this is a request or a response; "
            "protobuf needs the header seldon-infer-type, or a topic that ends in .inputs or .outputs"
        )
    tree, rows = message_of(value, form.side)
    return [_part(form.side, tree, rows, record)]


def _form(record: Record) -> _Form:
    kind = header_of(record, "seldon-infer-type").lower()
    encoding = kind.startswith("json") if kind.startswith(("json", "proto")) else None
    side: Half | None = "request" if kind.endswith("request") else "response" if kind.endswith("response") else None
    logged = header_of(record, "type", "ce_type")
    if logged.startswith(("io.seldon.", "org.kubeflow.")):
        word = logged.removeprefix(_SELDON_1)
        if word not in ("request", "response"):
            raise refused(f"an event of type {logged[:80]!r}", _EXPECTED)
        side = side or ("request" if word == "request" else "response")
    if side is None:
        end = record.topic.lower().rstrip("s")
        side = "request" if end.endswith("input") else "response" if end.endswith("output") else None
    return _Form(side, encoding)


def _of_json(value: bytes, side: Half | None, record: Record) -> Part:
    tree = json_of(value, _EXPECTED, dict[str, Any])
    found = side or ("request" if "inputs" in tree else "response")
    key = "inputs" if found == "request" else "outputs"
    tensors = tree.get(key)
    if not isinstance(tensors, list) or not all(isinstance(t, dict) and "datatype" in t for t in tensors):
        raise refused(f"JSON without tensors in `{key}`", _EXPECTED)
    return _part(found, tree, rows_of(tree, found), record)


def _part(side: Half, tree: dict[str, Any], rows: list[Any], record: Record) -> Part:
    key = (record.key or b"").decode("utf-8", "replace")
    around = _headers_of(tree)
    name = (
        header_of(record, "x-request-id", "requestid", "ce_requestid")
        or _text(around.get("ce-requestid"))
        or _text(tree.get("id"))
        or key
    )
    return Part(
        side=side, id=name,
        model=_text(tree.get("model_name")) or header_of(record, "modelid", "mlserver-model", "ce_modelid"),
        version=_text(tree.get("model_version")) or header_of(record, "mlserver-version"),
        request=rows if side == "request" else None, response=rows if side == "response" else None,
        trees={"envelope": around, side: tree},
    )  # fmt: skip


def _text(value: Any) -> str:
    return str(value) if isinstance(value, str | int) else ""


def _headers_of(tree: dict[str, Any]) -> dict[str, Any]:
    """MLServer carries HTTP headers within the body."""
    parameters = tree.get("parameters")
    headers = parameters.get("headers") if isinstance(parameters, dict) else None
    return {str(key).lower(): value for key, value in headers.items()} if isinstance(headers, dict) else {}


ADAPTER = Adapter(
    "open-inference", "Seldon Core, MLServer: Open Inference Protocol v2, JSON and protobuf", read, pairs=True
)
