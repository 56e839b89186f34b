"""Single records: what they are read as, and the error that each kind of bad one gets."""

import base64
import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from cloudevents.core.bindings.kafka import to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.columns import Subject
from models.profile import Profile
from models.reference import Reference
from streams.batches import Stamped, event_batch, kept_of_events
from streams.errors import BadInput, BadRecord, Invalid, Undecodable
from streams.records import (
    STRUCTURED,
    InferenceEvent,
    decode_inference,
    decode_input,
    decode_label,
    header,
    segment_key,
    time_text,
    time_us,
)

Headers = list[tuple[str, bytes | None]]
EVENT: dict[str, Any] = {"id": "r-81", "time": "2026-11-20T10:00:00.123Z", "model": "digits", "version": "3"}
LABEL: dict[str, Any] = {"inference_id": "r-81", "time": "2026-11-27T10:00:00Z", "label": "1"}
TIME_US = 1_795_168_800_123_000


def event(**fields: Any) -> bytes:
    return json.dumps(EVENT | fields).encode()


# -- JSON ----------------------------------------------------------------------------------------------------


def test_an_event_with_the_required_fields_has_the_documented_defaults() -> None:
    found = decode_inference(event(), [])
    assert (found.id, time_us(found.time), found.model, found.version) == ("r-81", TIME_US, "digits", "3")
    assert (found.status, found.sampling, found.abstained, found.features, found.output) == (200, 1.0, False, {}, None)


def test_unknown_fields_are_kept_out_of_the_way_and_reserved_ones_carried_along() -> None:
    found = decode_inference(event(surprise={"a": [1]}, served="live", flags={"f": "on"}, cost=0.5), [])
    assert (found.served, found.flags, found.cost) == ("live", {"f": "on"}, 0.5)
    (kept,) = kept_of_events([Stamped(0, 0, found)], 1.0)
    assert kept.extra == {"served": "live", "flags": {"f": "on"}, "cost": 0.5}


def test_a_time_with_any_zone_is_the_same_moment() -> None:
    assert time_us(decode_inference(event(time="2026-11-20T12:30:00.123+02:30"), []).time) == TIME_US
    assert time_text(TIME_US) == "2026-11-20T10:00:00.123000Z"


UNDECODABLE: list[tuple[bytes | None, str]] = [
    (None, "the record is empty"),
    (b"", "the record is empty"),
    (b"hello", "not a JSON object"),
    (b"\xff\xfe\x00", "not a JSON object"),
    (b'{"id": "\xff"}', "not a JSON object"),
    (b'{"id": "a", "time"', "not a JSON object"),
    (b'{"id": 5, "time"', "not a JSON object"),
    (b"[1, 2", "not a JSON object"),
    (event(features={"x": float("nan")}), "NaN and Infinity are not JSON, send null"),
    (event(features={"x": float("-inf")}), "NaN and Infinity are not JSON, send null"),
    (event()[:-1] + b', "flags": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not a JSON object"),
    (event() + b"{}", "not a JSON object"),
]


@pytest.mark.parametrize(("value", "message"), UNDECODABLE)
def test_what_is_no_json_is_undecodable(value: bytes | None, message: str) -> None:
    for decode in (decode_inference, decode_label):
        with pytest.raises(Undecodable, match=message) as caught:
            decode(value, [])
        assert caught.value.stage == "decode"


INVALID: list[tuple[bytes, str]] = [
    *((json.dumps({k: v for k, v in EVENT.items() if k != gone}).encode(), gone) for gone in EVENT),
    (b"[]", "Expected `object`, got `array`"),
    (b'"text"', "Expected `object`, got `str`"),
    (event(id=""), "length >= 1.*id"),
    (event(id=7), "Expected `str`, got `int`.*id"),
    (event(id="x" * 201), "length <= 200.*id"),
    (event(model="x" * 201), "model"),
    (event(version="\0"), "version"),
    (event(time="2026-11-20T10:00:00"), "timezone"),
    (event(time="yesterday"), "Invalid RFC3339"),
    (event(time=1_795_168_800), "Expected `datetime`"),
    (event(segment={str(i): "a" for i in range(9)}), "length <= 8.*segment"),
    (event(segment={"site": 5}), "Expected `str`.*segment"),
    (event(segment={"site": "x" * 8000}), "length <= 200.*segment"),
    (event(segment={"x" * 201: "a"}), "length <= 200.*segment"),
    (event(segment={"site": "x" * 199, "zone": "y" * 199}), "at most 400 are allowed"),
    (event(sampling=1e-6), "sampling"),
    (event(sampling=0), "sampling"),
    (event(sampling=1.5), "sampling"),
    (event(sampling=1e-300), "sampling"),
    (event(features={"a": [1]}), "features"),
    (event(features=[]), "features"),
    (event(output={"scores": {"7": "high"}}), "scores"),
    (event(output="7"), "output"),
    (event(latency_ms="3"), "latency_ms"),
    (event(status="ok"), "status"),
    (event(abstained=1), "abstained"),
    (event(served=True), "served"),
]


@pytest.mark.parametrize(("value", "message"), INVALID)
def test_a_field_that_is_missing_or_wrong_is_named(value: bytes, message: str) -> None:
    with pytest.raises(Invalid, match=message) as caught:
        decode_inference(value, [])
    assert caught.value.stage == "validate"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"label": None}, "says nothing: it needs `label`, `value` or `correct`"),
        ({"propensity": 0}, "propensity"),
        ({"propensity": 1.01}, "propensity"),
        ({"inference_id": "x" * 201}, "inference_id"),
        ({"time": "2026-11-27T10:00:00"}, "timezone"),
        ({"correct": "yes"}, "correct"),
        ({"source": "x" * 201}, "length <= 200.*source"),
        ({"source": "a\0"}, "source"),
        ({"model": "x" * 201}, "model"),
        ({"version": "\0"}, "version"),
        ({"propensity": 1e-6}, "propensity"),
        ({"label": 1}, "label"),
    ],
)
def test_a_label_that_is_wrong_says_what(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(Invalid, match=message):
        decode_label(json.dumps(LABEL | fields).encode(), [])


def test_a_label_may_only_say_that_the_answer_was_wrong() -> None:
    found = decode_label(json.dumps(LABEL | {"label": None, "correct": False, "source": "feedback"}).encode(), [])
    assert (found.correct, found.label, found.source, found.propensity) == (False, None, "feedback", None)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
@example(b'{"specversion":"1.0"}')
def test_any_bytes_are_read_or_refused(value: bytes) -> None:
    for headers in ([], [("content-type", STRUCTURED.encode())], [("ce_specversion", b"1.0"), ("ce_id", value)]):
        with contextlib.suppress(Undecodable, Invalid):
            decode_inference(value, headers)


# -- CloudEvents ---------------------------------------------------------------------------------------------


def cloud_event(data: Any, **attributes: Any) -> CloudEvent:
    base = {"id": "ce-1", "source": "/server", "type": "io.example.inference", "specversion": "1.0"}
    return CloudEvent(base | {"datacontenttype": "application/json"} | attributes, data)


def headers_of(message: Any, *, upper: bool = False) -> Headers:
    return [(name.title() if upper else name, value) for name, value in message.headers.items()]


@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("convert", [to_binary, to_structured])
def test_events_of_the_official_package_are_read(convert: Any, upper: bool) -> None:
    message = convert(cloud_event(EVENT | {"segment": {"site": "A"}}), JSONFormat())
    found = decode_inference(message.value, headers_of(message, upper=upper))
    assert (found.id, time_us(found.time), found.segment) == ("r-81", TIME_US, {"site": "A"})


@pytest.mark.parametrize("convert", [to_binary, to_structured])
def test_the_event_around_the_data_gives_the_id_and_time_that_are_not_in_it(convert: Any) -> None:
    moment = datetime(2026, 11, 20, 10, 0, 0, 123000, tzinfo=UTC)
    message = convert(cloud_event({"model": "digits", "version": "3"}, time=moment), JSONFormat())
    found = decode_inference(message.value, headers_of(message))
    assert (found.id, time_us(found.time)) == ("ce-1", TIME_US)


def test_the_fields_of_the_data_win_over_those_around_it() -> None:
    message = to_structured(cloud_event(EVENT, time=datetime(2020, 1, 1, tzinfo=UTC)), JSONFormat())
    found = decode_inference(message.value, headers_of(message))
    assert (found.id, time_us(found.time)) == ("r-81", TIME_US)


@pytest.mark.parametrize("convert", [to_binary, to_structured])
def test_labels_travel_in_cloud_events_too(convert: Any) -> None:
    message = convert(cloud_event(LABEL), JSONFormat())
    assert decode_label(message.value, headers_of(message)).label == "1"


def test_base64_data_of_a_structured_event_is_unpacked() -> None:
    message = to_structured(cloud_event(event(), datacontenttype="application/octet-stream"), JSONFormat())
    assert b"data_base64" in message.value
    assert decode_inference(message.value, headers_of(message)).id == "r-81"


@pytest.mark.parametrize("kind", [b"Application/CloudEvents+JSON", b"application/cloudevents+json; charset=UTF-8"])
def test_the_content_type_is_read_as_http_reads_it(kind: bytes) -> None:
    message = to_structured(cloud_event(EVENT), JSONFormat())
    assert decode_inference(message.value, [("Content-Type", kind)]).id == "r-81"


@pytest.mark.parametrize(
    "value",
    [
        b"{}",
        b"[]",
        b"\xff",
        b'{"specversion":"1.0","id":"a","source":"s","type":"t","data_base64":"%%%"}',
        b'{"specversion":"1.0","id":"a","source":"s","type":"t","data":[' + b"[" * 100_000,
        b'{"specversion":"1.0","id":1,"source":"s","type":"t"}',
        b'{"specversion":"1.0","id":"\xff","source":"s","type":"t"}',
    ],
)
def test_what_is_no_structured_event_is_undecodable(value: bytes) -> None:
    with pytest.raises(Undecodable, match=r"not a structured CloudEvent 1\.0"):
        decode_inference(value, [("content-type", STRUCTURED.encode())])


def test_a_structured_event_without_data_lacks_the_fields() -> None:
    value = b'{"specversion":"1.0","id":"a","source":"s","type":"t"}'
    with pytest.raises(Invalid, match="Expected `object`, got `null`"):
        decode_inference(value, [("content-type", STRUCTURED.encode())])


# -- headers and segments ------------------------------------------------------------------------------------


def test_headers_are_found_in_any_case_and_never_raise() -> None:
    headers: Headers = [("A", None), ("b", b"\xff"), ("B", b"second")]
    assert (header(headers, "a"), header(headers, "b"), header(headers, "c")) == ("", "\ufffd", "")


def test_a_segment_has_one_key_whatever_the_order_of_its_names() -> None:
    assert segment_key({"b": "2", "a": "ü"}) == segment_key({"a": "ü", "b": "2"}) == '{"a":"ü","b":"2"}'
    assert segment_key({}) == segment_key(None) == ""


SAMPLE: dict[str, bytes | None] = {
    "inference_id": b"r-81", "model": b"digits", "version": b"3", "time": b"2026-11-20T10:00:00.123Z",
    "dtype": b"float32", "shape": b"[1, 2]",
}  # fmt: skip


def sample(**fields: bytes | None) -> Headers:
    return list((SAMPLE | fields).items())


def test_the_headers_of_a_sampled_input_are_its_metadata() -> None:
    embedding = base64.b64encode(b"\0\0\x80?")
    found = decode_input(sample(segment=b'{"site": "A"}', embedding=embedding, propensity=b"0.05", size=b"8"))
    assert (found.inference_id, found.shape, found.segment) == ("r-81", [1, 2], {"site": "A"})
    assert (found.embedding, found.propensity, found.size) == (b"\0\0\x80?", 0.05, 8)
    assert decode_input([(name.upper(), value) for name, value in sample()]).dtype == "float32"


def test_what_computed_an_embedding_may_be_named() -> None:
    found = decode_input(sample(provider=b"CUDAExecutionProvider", batch_size=b"8", digest=b"sha256:0"))
    assert (found.provider, found.batch_size, found.digest) == ("CUDAExecutionProvider", 8, "sha256:0")
    bare = decode_input(sample())
    assert (bare.provider, bare.batch_size, bare.digest) == (None, None, None)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"batch_size": b"0"}, Invalid, "batch_size"),
        ({"provider": b"x" * 201}, Invalid, "provider"),
        ({"shape": b"[1, "}, BadInput, "header shape"),
        ({"shape": b"[" * 100_000}, BadInput, "header shape"),
        ({"segment": b"\xff"}, BadInput, "header segment"),
        ({"shape": b"[1.5]"}, Invalid, "shape"),
        ({"shape": b"{}"}, Invalid, "shape"),
        ({"time": b"2026-11-20T10:00:00"}, Invalid, "timezone"),
        ({"propensity": b"0"}, Invalid, "propensity"),
        ({"propensity": b"nan"}, Invalid, "propensity"),
        ({"embedding": b"%%%"}, Invalid, "embedding"),
        ({"size": b"much"}, Invalid, "size"),
        ({"segment": json.dumps({"site": "x" * 8000}).encode()}, Invalid, "segment"),
        ({"segment": json.dumps({"site": "x" * 199, "zone": "y" * 199}).encode()}, Invalid, "at most 400"),
        ({"segment": b'{"site": "\\ud800"}'}, Invalid, "half of a surrogate pair"),
        ({"dtype": None}, Invalid, "missing required field `dtype`"),
        ({"inference_id": b"x" * 201}, Invalid, "inference_id"),
    ],
)
def test_a_header_that_is_wrong_is_named(fields: dict[str, bytes | None], error: type[BadRecord], message: str) -> None:
    with pytest.raises(error, match=message):
        decode_input(sample(**fields))


# -- events as columns ---------------------------------------------------------------------------------------


def inference(**fields: Any) -> InferenceEvent:
    return decode_inference(event(**fields), [])


def totals(events: list[InferenceEvent], sizes: list[int]) -> dict[str, Any]:
    """The profile of all traffic when the events come in batches of these sizes."""
    made, rest = Profile(), [Stamped(i, 0, e) for i, e in enumerate(events)]
    for size in sizes:
        batch, rest = rest[:size], rest[size:]
        for subject, rows, _ in event_batch(batch, {"digits"}.__contains__).groups:
            if subject in (Subject("digits", "3"), Subject("digits", "")):
                made.add(rows, Reference("digits", "3"))
    body = msgspec.msgpack.decode(made.pack())
    assert isinstance(body, dict)
    return body


def test_events_mean_the_same_however_they_are_batched() -> None:
    """A field that an event lacks must not look like a null because its neighbour has it."""
    events = [
        inference(
            features={"age": 4, "country": "DE"}, output={"label": "7", "scores": {"7": 0.9, "1": 0.1}}, digest="d"
        ),
        inference(features={"age": None}, latency_ms=3.0, output={"value": 2.5}),
        inference(features={"age": "old"}, output={}),
        inference(output={"scores": {"3": 1.0}}, status=500),
        inference(features={"age": True}, sampling=0.25, embedding=[0.5], segment={"site": "A"}),
        inference(features={"country": None}, abstained=True, output={"label": None}),
        inference(features={"age": 5, "country": "FR"}, served="shadow"),
    ]
    together = totals(events, [7])
    assert together == totals(events, [1] * 7) == totals(events, [2, 3, 2])
    assert together["counts"]["n"] == 12  # of the version, and of all versions side by side
    assert together["categories"]["version"] == {"3": together["counts"]["weight"] // 2}
    assert together["categories"]["filled"]["digest"] == together["categories"]["filled"]["embedding"] >> 2 == 1 << 16
    assert set(together["categories"]["status"]) == {"2xx", "5xx"}
    assert together["counts"]["not_live"] == 1
    assert together["counts"]["failed"] == 4
    assert sum(together["categories"]["feature.country"].values()) == 1 << 16


def test_every_group_of_a_batch_names_the_rows_it_holds() -> None:
    events = [
        inference(segment={"site": s} if s else None, features=f) for s, f in (("A", {}), ("", {"x": 1}), ("A", {}))
    ]
    batch = event_batch([Stamped(10 + i, 5, e) for i, e in enumerate(events)])
    found: dict[Subject, list[int]] = {}
    for subject, rows, where in batch.groups:
        assert rows.offset.tolist() == batch.offset[where].tolist()
        found.setdefault(subject, []).extend(rows.offset.tolist())
    assert {s.segment: sorted(o) for s, o in found.items()} == {"": [10, 11, 12], '{"site":"A"}': [10, 12]}
    assert batch.last == 12
