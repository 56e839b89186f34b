"""From parts to inference and label events, as the plan of a source says. One event for each row of a part."""

import hashlib
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from models.descriptors.paths import value_at
from streams.adapters.contract import Part, Record, Row, Thing
from streams.adapters.outputs import label_text, output_of
from streams.adapters.plan import Places, Plan, at, told
from streams.adapters.times import moment
from streams.errors import BadRecord, Unadaptable
from streams.records import MAX_TEXT, InferenceEvent, LabelEvent, bounded_segment_key
from streams.trace_context import PARENT, STATE, bounded, context_of

MOST_SPREAD = 64  # elements of a list that become features of their own
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def things_of(part: Part, plan: Plan, record: Record) -> list[Thing]:
    """The events of one part. Raises Unadaptable that names what is missing and where it was looked for."""
    if plan.truth.said:
        return [_truth(row, part, plan, record) for row in part.request or part.response or ()]
    head = _head(part, plan, record)
    n = _count(part)
    name = _id(part, plan, record)
    found: list[Thing] = []
    for i in range(n):
        own = name if n == 1 else f"{name}#{i}"
        event = {**head, "id": own}
        if part.request is not None:
            event["features"] = features_of(part.request[i], plan)
        if part.response is not None:
            event["output"] = output_of(part.response[i], plan.output, plan.where)
        found.append(_converted(event, InferenceEvent))
        if part.truth is not None and i < len(part.truth) and part.truth[i] is not None:
            found.append(_label(own, part.truth[i], head))
    return found


def _count(part: Part) -> int:
    counts = {len(rows) for rows in (part.request, part.response) if rows is not None}
    if not counts:
        return 1  # nothing but that it was served
    if len(counts) != 1:
        raise Unadaptable(f"{sorted(counts)} rows in request and response; each answer needs its question")
    (n,) = counts
    if n == 0:
        raise Unadaptable("the body has no rows")
    return n


def _time(part: Part, plan: Plan, record: Record) -> datetime:
    said = at(plan.time, part.trees)
    if said is None and plan.time and part.time is None:
        raise Unadaptable(f"no time: nothing at {told(plan.time)}; see `time:` in {plan.where}")
    us = moment(said) if said is not None else part.time if part.time is not None else record.timestamp
    try:
        return _EPOCH + timedelta(microseconds=us)
    except OverflowError:
        raise Unadaptable(f"time {us} us since 1970 fits no calendar") from None


def _head(part: Part, plan: Plan, record: Record) -> dict[str, Any]:
    trees = part.trees
    time = _time(part, plan, record)
    segment = {
        name: str(value)[: MAX_TEXT + 1] for name, p in plan.segment.items() if (value := at(p, trees)) is not None
    }
    head = {
        "time": time,
        "model": _named("model", plan.model, part.model, trees, plan),
        "version": _named("version", plan.version, part.version, trees, plan),
        "segment": segment or None,
        "status": _status(part, plan),
        "latency_ms": _latency(part, plan),
        "sampling": _number(plan.sampling, "sampling", plan, trees, part.sampling),
        "digest": _digest(plan, trees),
        **_context(part.trees.get("envelope"), record),
    }
    try:
        bounded_segment_key(segment)
    except BadRecord as error:
        raise Unadaptable(str(error)) from None
    return head


def _context(envelope: Any, record: Record) -> dict[str, str]:
    """The trace context that the server sent: in the record's headers, else in the CloudEvent around the bodies."""
    found = context_of(record.headers)
    if found or not isinstance(envelope, Mapping):
        return found
    return bounded({name: text for name in (PARENT, STATE) if isinstance(text := envelope.get(name), str)})


def _number(places: Places, field: str, plan: Plan, trees: Mapping[str, Any], given: Any) -> Any:
    found = at(places, trees)
    if isinstance(found, str):
        try:
            return float(found)
        except ValueError:
            raise Unadaptable(f"the {field} is a text that is no number; see `{field}:` in {plan.where}") from None
    return given if found is None else found


def _status(part: Part, plan: Plan) -> Any:
    found = _number(plan.status, "status", plan, part.trees, part.status)
    return int(found) if isinstance(found, float) and found.is_integer() else found


def _latency(part: Part, plan: Plan) -> Any:
    if not plan.latency_s:
        return _number(plan.latency_ms, "latency_ms", plan, part.trees, part.latency_ms)
    seconds = _number(plan.latency_s, "latency_s", plan, part.trees, None)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return seconds
    return float(seconds) * 1000 if abs(seconds) < 1e300 else None


def _digest(plan: Plan, trees: Mapping[str, Any]) -> str | None:
    found = at(plan.digest, trees)
    if found is not None and not isinstance(found, str):
        raise Unadaptable(f"the digest is a {type(found).__name__}; see `digest:` in {plan.where}")
    return found


def _named(field: str, places: Places, given: str, trees: Mapping[str, Any], plan: Plan) -> str:
    found = at(places, trees)
    if isinstance(found, str | int | float) and not isinstance(found, bool):
        return label_text(found)
    if not places and given:
        return given
    looked = f"nothing at {told(places)}" if places else "the record does not tell it"
    raise Unadaptable(
        f"no {field}: {looked}; say `{field}:` in {plan.where or 'the source'}, as a path or {{fixed: …}}"
    )


def _id(part: Part, plan: Plan, record: Record) -> str:
    found = at(plan.id, part.trees) if plan.id else part.id
    if isinstance(found, str | int) and not isinstance(found, bool) and found != "":
        return str(found)
    if plan.id:
        raise Unadaptable(f"no id: nothing at {told(plan.id)}; see `id:` in {plan.where}")
    # The same record read again has the same id; two alike within one microsecond of the broker are taken for one.
    digest = hashlib.sha256(f"{record.topic}\0{record.timestamp}\0{part.source}\0".encode())
    digest.update(record.key or b"")
    digest.update(b"\0")
    digest.update(record.value or b"")
    return digest.hexdigest()[:32]


# -- features ------------------------------------------------------------------------------------------------


def features_of(row: Row, plan: Plan) -> dict[str, Any]:
    """The features of one row: scalars by their names, short lists element by element.

    Raises Unadaptable where what the plan names is no feature. Longer and nested lists, and bytes, are inputs of a
    model, no features; they are left out unless the plan asks for them.
    """
    if isinstance(plan.features, Mapping):
        return {name: _asked(name, value_at(row, path), plan) for name, path in plan.features.items()}
    if plan.features is not None:
        return _by_position(row, plan.features, plan)
    return dict(_spread(row))


def _asked(name: str, value: Any, plan: Plan) -> Any:
    if isinstance(value, list | dict | bytes):
        raise Unadaptable(f"feature {name!r} is a {type(value).__name__}; see `features:` in {plan.where}")
    return cell(value)


def _by_position(row: Row, names: tuple[str, ...], plan: Plan) -> dict[str, Any]:
    """The elements of the one column that is a list, or the columns in their order; named columns win."""
    if set(names) <= row.keys():
        return {name: _asked(name, row[name], plan) for name in names}
    values = list(row.values())
    if len(values) == 1:
        values = values[0] if isinstance(values[0], list) else values
    if len(values) != len(names):
        raise Unadaptable(f"the row has {len(values)} values, and `features:` in {plan.where} names {len(names)}")
    return {name: _asked(name, value, plan) for name, value in zip(names, values, strict=True)}


def _spread(row: Row) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in row.items():
        if isinstance(value, dict):
            found += [(f"{name}.{k}", cell(v)) for k, v in value.items() if not isinstance(v, list | dict | bytes)]
        elif isinstance(value, bytes):
            continue
        elif not isinstance(value, list):
            found.append((name, cell(value)))
        elif len(value) == 1 and not isinstance(value[0], list | dict | bytes):
            found.append((name, cell(value[0])))
        elif len(value) <= MOST_SPREAD and not any(isinstance(one, list | dict | bytes) for one in value):
            found += [(f"{name}[{i}]", cell(one)) for i, one in enumerate(value)]
    return found


def cell(value: Any) -> Any:
    """A feature as events hold it: a number that is not finite is missing. Raises Unadaptable for huge integers."""
    if isinstance(value, bool | str) or value is None:
        return value
    try:
        number = float(value)
    except (OverflowError, TypeError, ValueError):
        known = f"a {type(value).__name__}" if not isinstance(value, int) else "an integer beyond 1e308"
        raise Unadaptable(f"a feature is {known}; expected a number, text or a boolean") from None
    return number if math.isfinite(number) else None


# -- events --------------------------------------------------------------------------------------------------


def _truth(row: Row, part: Part, plan: Plan, record: Record) -> LabelEvent:
    """What was true, of a record that tells nothing else."""
    fields: dict[str, Any] = {"inference_id": _id(part, plan, record), "time": _time(part, plan, record)}
    for key, places in (("model", plan.model), ("version", plan.version)):
        found = at(places, part.trees)
        if isinstance(found, str | int | float) and not isinstance(found, bool):
            fields[key] = label_text(found)
    path = plan.truth.label or plan.truth.value
    found = value_at(row, path)
    if found is None or isinstance(found, list | dict | bytes):
        raise Unadaptable(f"no truth at {path} but {type(found).__name__}; see `truth:` in {plan.where}")
    if plan.truth.label:
        fields["label"] = label_text(found)
    else:
        fields["value"] = cell(found)
    label: LabelEvent = _converted(fields, LabelEvent)
    return label


def _label(name: str, truth: Any, head: Mapping[str, Any]) -> LabelEvent:
    fields: dict[str, Any] = {"inference_id": name, **{key: head[key] for key in ("time", "model", "version")}}
    if isinstance(truth, float) and not truth.is_integer():
        fields["value"] = cell(truth)
    elif isinstance(truth, str | int | float):
        fields["label"] = label_text(truth)
    else:
        raise Unadaptable(f"the true label is a {type(truth).__name__}; expected text or a number")
    label: LabelEvent = _converted(fields, LabelEvent)
    return label


def _converted(fields: dict[str, Any], kind: Any) -> Any:
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise Unadaptable(f"{error} (after adapting)") from None
