"""Which log records are inference or label events, and what they say.

| log record | becomes |
|---|---|
| event `bestbefore.inference`, `bestbefore.label` | the event in its body, a map or JSON text |
| event `gen_ai.client.inference.operation.details` | an inference: see `_inference` |
| event `gen_ai.evaluation.result` | a label, source `proxy:<name of the evaluation>` |

Any of them may carry attributes `bestbefore.<field>` (`bestbefore.version`, `bestbefore.features.age`), which win.
The name of an event is `event_name`, or the attribute `event.name`. What else is logged is of no interest here.
Source: OpenTelemetry semantic conventions for generative AI, 1.37 and later, still in development.
"""

from typing import Any

import msgspec

from streams.bridge.message import Message
from streams.bridge.otlp import Log
from streams.errors import Invalid
from streams.records import UNREADABLE, time_text

INFERENCE_EVENT, LABEL_EVENT = "bestbefore.inference", "bestbefore.label"
GEN_AI_EVENT, GEN_AI_EVALUATION = "gen_ai.client.inference.operation.details", "gen_ai.evaluation.result"
OURS = "bestbefore."
# Attributes of generative AI that are features: what was asked for, and how many tokens it took. Never the texts.
FEATURES = ("gen_ai.request.", "gen_ai.usage.", "gen_ai.output.type", "gen_ai.response.time_to_first_chunk")
_NO_FEATURE = ("gen_ai.request.model", "gen_ai.request.seed")
_NESTED = ("features", "segment", "output")
_MESSAGE_HEADERS = [("content-type", b"application/json")]


def event_of(log: Log) -> tuple[str, Message] | None:
    """The topic (`inference` or `labels`) and the record of a log record; None where it is no event of ours.

    Raises Invalid for one that says it is, and cannot be read.
    """
    name = log.name or _text(log.attributes.get("event.name"))
    if name in (INFERENCE_EVENT, LABEL_EVENT):
        event = _body(log, name)
    elif name == GEN_AI_EVENT:
        event = _inference(log.attributes)
    elif name == GEN_AI_EVALUATION:
        event = _label(log.attributes)
    else:
        return None
    label = name in (LABEL_EVENT, GEN_AI_EVALUATION)
    _put(event, log.attributes)
    if log.time is not None:
        event.setdefault("time", _time(log.time))
    if not label and log.trace:
        event.setdefault("id", "-".join(part for part in (log.trace, log.span) if part))
    return ("labels" if label else "inference"), Message(_encoded(event), _around(log))


def line_of(log: Log) -> Message:
    """The body of a log record as a record of its own, for topics that an adapter reads.

    Raises Invalid where there is none.
    """
    if log.body in (None, "", {}):
        raise Invalid("the log record has no body")
    return Message(log.body.encode() if isinstance(log.body, str) else _encoded(log.body), _around(log))


def _around(log: Log) -> list[tuple[str, bytes]]:
    if len(log.trace) == 32 and len(log.span) == 16:
        return [*_MESSAGE_HEADERS, ("traceparent", f"00-{log.trace}-{log.span}-01".encode())]
    return list(_MESSAGE_HEADERS)


def _body(log: Log, name: str) -> dict[str, Any]:
    body = log.body
    if isinstance(body, str) and body.lstrip()[:1] == "{":
        try:
            body = msgspec.json.decode(body)
        except UNREADABLE as error:
            raise Invalid(f"the body of a log record {name} is no JSON: {error}") from None
    return dict(body) if isinstance(body, dict) else {}


def _inference(given: dict[str, Any]) -> dict[str, Any]:
    """The model is that which was asked for, its version that which answered; the finish reason is the label."""
    asked, answered = _text(given.get("gen_ai.request.model")), _text(given.get("gen_ai.response.model"))
    reasons = given.get("gen_ai.response.finish_reasons")
    reason = reasons[0] if isinstance(reasons, list) and reasons else reasons
    error = _text(given.get("error.type"))
    segment = {
        "operation": _text(given.get("gen_ai.operation.name")),
        "provider": _text(given.get("gen_ai.provider.name") or given.get("gen_ai.system")),
    }
    event: dict[str, Any] = {
        "id": _text(given.get("gen_ai.response.id")), "model": asked or answered, "version": answered or asked,
        "segment": {name: text for name, text in segment.items() if text},
        "features": {name: value for name, value in given.items() if _is_feature(name, value)},
    }  # fmt: skip
    if isinstance(reason, str):
        event["output"] = {"label": reason}
    if error:
        event["status"] = int(error) if error.isascii() and error.isdigit() and len(error) == 3 else 500
    return {name: value for name, value in event.items() if value not in ("", {})}


def _is_feature(name: str, value: Any) -> bool:
    return name.startswith(FEATURES) and name not in _NO_FEATURE and isinstance(value, str | int | float)


def _label(given: dict[str, Any]) -> dict[str, Any]:
    event: dict[str, Any] = {
        "inference_id": _text(given.get("gen_ai.response.id")),
        "source": f"proxy:{_text(given.get('gen_ai.evaluation.name')) or 'evaluation'}",
    }
    label, score = given.get("gen_ai.evaluation.score.label"), given.get("gen_ai.evaluation.score.value")
    if isinstance(label, str) and label:
        event["label"] = label
    if isinstance(score, int | float):
        event["value"] = score
    return event


def _put(event: dict[str, Any], attributes: dict[str, Any]) -> None:
    """What `bestbefore.*` attributes say, on top."""
    for name, value in attributes.items():
        if not name.startswith(OURS):
            continue
        field, _, inner = name.removeprefix(OURS).partition(".")
        if inner and field in _NESTED:
            holder = event.get(field)
            event[field] = {**(holder if isinstance(holder, dict) else {}), inner: value}
        else:
            event[field] = value


def _encoded(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise Invalid(f"the log record cannot be written as JSON: {error}") from None


def _time(us: int) -> str:
    try:
        return time_text(us)
    except OverflowError:
        raise Invalid(f"time {us} us since 1970 fits no calendar") from None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
