"""Trace contexts of requests on their way to the events they led to: the same ones however the records came."""

import itertools
import socket
import time
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from bestbefore_client import Repeated, encode_frame

from models.columns import Subject
from models.profile import Profile
from models.reference import Reference
from models.tables import SAMPLES
from models.traces import examples
from streams.batches import Stamped, event_batch, frame_batch, kept_of_frame
from streams.envelopes import attributes
from streams.errors import SettingsError
from streams.frames import decode_frame
from streams.records import InferenceEvent, decode_inference
from streams.settings import Settings, load
from streams.spans import EXPORT_SECONDS, WAITING, Silent, spans_of
from streams.trace_context import context_of
from streams.traces import of_column, of_record, of_texts
from tests.otlp_receiver import receiving

START, N = 1_795_132_800_000_000, 400
REFERENCE = Reference("m", "1", window_us=3_600_000_000)


def parent(number: int, flags: str = "01") -> str:
    return f"00-{number + 1:032x}-{number + 1:016x}-{flags}"


GOOD = parent(7)


def traced(i: int) -> str | None:
    """Every third request has a trace, and every second of these was sampled."""
    return parent(i, "01" if i % 2 else "00") if i % 3 == 0 else None


def frame(rows: slice) -> bytes:
    where = range(*rows.indices(N))
    columns: dict[str, Any] = {
        "id": [f"r-{i}" for i in where], "time": START + np.arange(N)[rows] * 1000, "model": Repeated("m"),
        "version": Repeated("1"), "status": np.array([500 if i % 9 == 0 else 200 for i in where], np.int32),
        "traceparent": [traced(i) for i in where],
    }  # fmt: skip
    return encode_frame(columns)


def profile_of(rows: slice) -> Profile:
    made = Profile()
    for subject, columns, _ in frame_batch(decode_frame(frame(rows), 0), 0, START).groups:
        if subject == Subject("m", "1"):
            made.add(columns, REFERENCE)
    return made


def of_events(rows: slice) -> Profile:
    events = [
        InferenceEvent(
            id=f"r-{i}", time=TIME, model="m", version="1",
            status=500 if i % 9 == 0 else 200, traceparent=traced(i),
        )
        for i in range(*rows.indices(N))
    ]  # fmt: skip
    made = Profile()
    for subject, columns, _ in event_batch([Stamped(i, START, e) for i, e in enumerate(events)]).groups:
        if subject == Subject("m", "1"):
            made.add(columns, REFERENCE)
    return made


TIME: Any = decode_inference(b'{"id":"x","time":"2026-11-20T00:00:00Z","model":"m","version":"1"}', ()).time


def test_a_few_sampled_traces_are_kept_the_same_in_every_batching() -> None:
    whole = profile_of(slice(None))
    assert len(whole.samples["trace.any"]) == SAMPLES
    assert all(text.endswith("-01") for _, text in whole.samples["trace.any"])
    for make, cuts in itertools.product((profile_of, of_events), ([0, N], [0, 1, 7, 200, N], [0, 399, N])):
        parts = [make(slice(a, b)) for a, b in itertools.pairwise(cuts)]
        for order in (parts, parts[::-1]):
            merged = Profile()
            for part in order:
                merged.merge(Profile.unpack(part.pack()))
            assert merged.samples == whole.samples


def test_a_request_that_is_sent_again_has_the_same_traces_in_every_batching() -> None:
    """Its id is the same each time, and its trace another: a new span."""
    events = [
        InferenceEvent(id=f"r-{i % 4}", time=TIME, model="m", version="1", traceparent=parent(N - i)) for i in range(24)
    ]

    def profile(*cuts: int) -> Profile:
        made = Profile()
        for a, b in itertools.pairwise(cuts):
            for subject, columns, _ in event_batch([Stamped(i, START, e) for i, e in enumerate(events[a:b])]).groups:
                if subject == Subject("m", "1"):
                    made.add(columns, REFERENCE)
        return made

    whole = profile(0, 24).samples
    assert len(whole["trace.any"]) == SAMPLES
    assert profile(0, 1, 2, 3, 9, 24).samples == profile(0, 13, 24).samples == whole


def test_evidence_leads_to_traces_that_show_the_same() -> None:
    made = profile_of(slice(None))
    failed = examples(made.evidence("failed"), None, made)
    assert len(failed) == SAMPLES
    assert all((int(text[3:35], 16) - 1) % 9 == 0 for text in failed), "traces of requests that failed"
    assert examples((), made) == [text for _, text in made.samples["trace.any"]]
    assert examples(("an id that nobody kept",), made) == examples((), made)
    assert examples((), None) == examples((), Profile()) == []
    made.samples["trace.failed"] = [(1, "00-" + "z" * 52)]
    assert examples(made.evidence("failed"), made) == [], "no trace of another request in its place"


def test_a_kept_prediction_carries_its_own() -> None:
    kept = kept_of_frame(decode_frame(frame(slice(None)), 0), 1.0)
    assert {p.inference_id: (p.extra or {}).get("traceparent") for p in kept}["r-3"] == parent(3)


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([("traceparent", GOOD)], {"traceparent": GOOD}),
        ([("TraceParent", GOOD), ("tracestate", "a=b")], {"traceparent": GOOD, "tracestate": "a=b"}),
        ([("ce_traceparent", GOOD), ("traceparent", parent(1))], {"traceparent": GOOD}),
        ([("traceparent", parent(1)), ("ce_traceparent", GOOD)], {"traceparent": GOOD}),
        ([("traceparent", "00-" + "0" * 32 + "-" + "1" * 16 + "-01")], {}),
        ([("traceparent", GOOD[:-1]), ("tracestate", "a=b")], {}),
        ([("tracestate", "a=b")], {}),
        ([("traceparent", GOOD), ("tracestate", "a" * 513)], {"traceparent": GOOD}),
        ([("traceparent", GOOD), ("tracestate", "a=b\n")], {"traceparent": GOOD}),
        ([("traceparent", None)], {}),
    ],
)
def test_the_context_of_a_record(headers: Any, found: dict[str, str]) -> None:
    assert context_of([(k, v.encode() if v else v) for k, v in headers]) == found


def event(**more: Any) -> bytes:
    return msgspec.json.encode({"id": "a", "time": "2026-11-20T00:00:00Z", "model": "m", "version": "1", **more})


def test_a_single_event_has_its_own_that_of_its_cloud_event_or_that_of_its_headers() -> None:
    sent = [("traceparent", parent(1).encode())]
    assert decode_inference(event(), sent).traceparent == parent(1)
    assert decode_inference(event(traceparent=GOOD), sent).traceparent == GOOD
    binary = [("ce_specversion", b"1.0"), ("ce_traceparent", GOOD.encode()), *sent]
    assert decode_inference(event(), binary).traceparent == GOOD
    around = {"specversion": "1.0", "id": "e", "source": "/s", "type": "t", "data": msgspec.Raw(event())}
    kind = ("content-type", b"application/cloudevents+json")
    whole = msgspec.json.encode({**around, "traceparent": GOOD, "tracestate": "a=b"})
    found = decode_inference(whole, [kind, *sent])
    assert (found.traceparent, found.tracestate) == (GOOD, "a=b")
    assert decode_inference(msgspec.json.encode({**around, "traceparent": 7}), [kind]).traceparent is None


def test_columns_of_any_layout() -> None:
    texts = [GOOD, None, parent(2, "00"), "x", parent(3, "0b")[:-1] + "3", ""]
    wanted = [True, False, False, False, True, False]
    for column in (
        pa.array(texts), pa.array(texts, pa.large_string()), pa.array(texts).dictionary_encode(),
        pa.array(["cut", *texts]).slice(1),
    ):  # fmt: skip
        traces = of_column(column)
        assert traces is not None
        assert traces.sampled.tolist() == wanted
        assert traces.take(np.array([4, 0])).texts(np.array([1])) == [GOOD]
    found = of_texts(texts)
    assert found is not None
    assert found.sampled.tolist() == wanted
    for nothing in (pa.array([None, None], pa.string()), pa.array([1, 2]), pa.array([], pa.string()), None):
        assert of_column(nothing) is None
    assert of_texts([None, ""]) is of_texts([parent(2, "00")]) is None


def test_the_header_of_a_frame_stands_for_its_rows() -> None:
    traces = of_record([("traceparent", GOOD.encode())], 3)
    assert traces is not None
    assert traces.take(np.array([2])).texts(np.array([0])) == [GOOD]
    assert of_record([("traceparent", parent(1, "00").encode())], 3) is None
    assert of_record([], 3) is None


def test_attributes_hold_nothing_that_the_specification_bars() -> None:
    told = attributes("status", "1", group="a b/ü", time="2026-01-01T00:00:00Z", subject="m\n1\x7f/ü")
    assert told["ce_source"] == "/bestbefore/a%20b%2F%C3%BC"
    assert told["ce_subject"] == "m%0A1%7F/ü"


def test_spans_are_off_unless_asked_for() -> None:
    assert isinstance(spans_of(Settings(), "1"), Silent)
    with pytest.raises(SettingsError, match="otlp_endpoint: must be a URL"):
        load({"BESTBEFORE_OTLP_ENDPOINT": "collector:4318"})


def test_a_collector_that_hangs_holds_up_neither_work_nor_end() -> None:
    """More spans than may wait are dropped; the end is given two seconds."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        spans = spans_of(Settings(otlp_endpoint=f"http://127.0.0.1:{deaf.getsockname()[1]}"), "1")
        for _ in range(WAITING + 1000):
            with spans.step("ingest", "t", links=[GOOD]):
                assert spans.headers()
        began = time.monotonic()
        spans.close()
        assert time.monotonic() - began < 2 * EXPORT_SECONDS


def test_spans_hold_no_message_of_an_error() -> None:
    with receiving() as collector:
        spans = spans_of(Settings(otlp_endpoint=collector.endpoint), "1")
        with pytest.raises(ValueError, match="Mary"), spans.step("assess", "t", parents=[GOOD, parent(1)], profiles=2):
            raise ValueError("Mary is 41")
        spans.close()
    (span,) = collector.spans
    assert (span.name, span.trace, span.parent) == ("assess t", GOOD[3:35], GOOD[36:52])
    assert span.links == [parent(1)[3:52]]
    assert span.attributes["bestbefore.profiles"] == 2
    assert b"Mary" not in collector.bodies
