"""Targets that read what model servers and labellers send: followed through to the profile, which must take it all."""

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple, TypeVar

import fsspec
import msgspec
import numpy as np
from bestbefore_client import HEARTBEAT, Repeated, encode_frame

from agents.embed import Embed, as_taken
from agents.ingest import Ingest
from agents.label import Label, about, labelled
from agents.lifecycle import Lifecycle, change_of, concerned
from infra.dead_letters import _letter
from models.embedder import decode_tensor
from models.profile import Profile
from models.window_book import Batch, Clock, WindowBook
from streams.asking import ask_of_events, ask_of_frame
from streams.batches import (
    Stamped,
    event_batch,
    frame_batch,
    kept_of_events,
    kept_of_frame,
    outcome_batch,
)
from streams.claim_check import fetch
from streams.embedded import NOTHING, Recomputed, embedded_batch
from streams.frames import Decoded, frame_bytes
from streams.heartbeats import Heartbeat, Recorders, heartbeat_batch
from streams.intake import Intake
from streams.lane import change_record, profile_record
from streams.registry import Registry
from streams.settings import Settings
from streams.store_rows import Prediction
from tests.fuzz.arrow import of_frame
from tests.fuzz.damage import of_bytes, of_json
from tests.fuzz.records import of_record, record, written
from tests.fuzz.target import Target
from tests.profile_rig import REFERENCE

A = TypeVar("A", bound=Intake)
HOUR = 3_600_000_000
NOW = 1_795_168_800_000_000
TIME = "2026-11-20T10:00:00.123Z"
FRAME = ("content-type", "application/vnd.apache.arrow.stream")
JSON = ("content-type", "application/json")
BINARY = (
    JSON,
    ("ce_specversion", "1.0"),
    ("ce_id", "r-81"),
    ("ce_type", "inference"),
    ("ce_source", "/s"),
    ("ce_time", TIME),
)
STRUCTURED = ("content-type", "application/cloudevents+json; charset=utf-8")
BEATS = ("content-type", HEARTBEAT)
BEAT = {
    "recorder": "web-3/8112",
    "seq": 7,
    "time": TIME,
    "model": "m",
    "version": "1",
    "recorded": 512,
    "sampled_out": 1,
    "dropped": {"full": 3},
    "sampling": 0.5,
}
EVENT = {
    "id": "r-81",
    "time": TIME,
    "model": "m",
    "version": "1",
    "segment": {"site": "A"},
    "latency_ms": 3.2,
    "status": 200,
    "features": {"age": 41.0, "country": "DE", "income": None, "new": True},
    "output": {"label": "7", "scores": {"0": 0.1, "7": 0.9}},
    "embedding": [0.1],
    "digest": "sha256:ab",
    "sampling": 0.5,
    "served": "live",
    "flags": {"a": "b"},
    "cost": 0.1,
    "shadow": [{"version": "2", "output": {"label": "1"}}],
    "experiment": {"name": "e", "arm": "a", "propensity": 0.5},
}
LABEL = {
    "inference_id": "r-81",
    "model": "m",
    "version": "1",
    "time": TIME,
    "label": "7",
    "source": "ground-truth",
    "propensity": 0.05,
    "loss": 0.5,
    "metric": "cost",
    "tags": ["a"],
    "seen_prediction": True,
}
CHANGE = {
    "id": "release-2",
    "time": TIME,
    "kind": "deployed",
    "model": "m",
    "version": "2",
    "previous": "1",
    "served": "live",
    "message": "by CI",
}
INPUT = (
    ("inference_id", "r-81"),
    ("model", "m"),
    ("version", "1"),
    ("time", TIME),
    ("dtype", "float32"),
    ("shape", "[1, 2, 2]"),
    ("segment", '{"site": "A"}'),
    ("embedding", "zczMPQAAAAA="),
    ("propensity", "0.05"),
    ("provider", "CPUExecutionProvider"),
    ("batch_size", "8"),
    ("digest", "sha256:ab"),
)


class Message(NamedTuple):
    """A record as the agents see it."""

    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    offset: int = 7


@cache
def registry() -> Registry:
    """One model that is described, the others are not."""
    made = Registry(window_us=HOUR, lateness_us=0)
    made.put(REFERENCE)
    return made


def through(batch: Batch) -> None:
    """Put a batch into a window book, close it, and write and read the profiles that leave it."""
    book = WindowBook(registry().get, Clock(), skew_us=HOUR, age_us=30 * 24 * HOUR)
    if len(batch.offset):
        book.add(batch)
    book.heard(NOW + 10 * HOUR)
    for closed in book.close():
        sent = profile_record("inference/0", closed)
        assert sent.identity()
        assert msgspec.msgpack.encode(sent)
        if closed.profile is not None:
            assert Profile.unpack(closed.profile.pack()).merge(closed.profile).n == 2 * closed.profile.n


class Desk:
    """What decoding asks of a worker: its settings and its registry."""

    def __init__(self) -> None:
        self.settings, self.registry = Settings(), registry()


def at_desk(kind: type[A]) -> A:
    """The agent without a broker or a store."""
    made = kind.__new__(kind)
    made.runtime = Desk()  # type: ignore[assignment]
    return made


def inference(content: bytes) -> None:
    """A record of the topic inference: a frame, a heartbeat or a single event, told apart as the agent does it."""
    sent = record(content)
    found = at_desk(Ingest).decode(Message(*sent))
    describes, of, temperature = registry().describes, registry().get, registry().temperature
    if isinstance(found, Heartbeat):
        Recorders(4).missing(found)
        return through(heartbeat_batch(found, 7, NOW))
    if isinstance(found, Decoded):
        if found.rejected is not None:
            assert frame_bytes(found.rejected)
        ask_of_frame(found, 0.5, of)
        kept = kept_of_frame(found, 1.0, temperature)
        through(frame_batch(found, 7, NOW, describes))
    else:
        stamped = [Stamped(7, NOW, found)]
        kept = kept_of_events(stamped, 1.0, temperature)
        through(event_batch(stamped, describes, ask_of_events([found], 0.5, of)))
    stored(kept)


def stored(kept: Sequence[Prediction]) -> None:
    """What the event store does with what is kept: text for SQL, JSON for the rest."""
    for row in kept:
        assert msgspec.json.encode(row.extra) is not None
        for text in (row.model, row.version, row.inference_id, row.segment):
            assert "\x00" not in text
            text.encode()


def frame(content: bytes) -> None:
    """A frame alone."""
    inference(written(content, FRAME))


def label(content: bytes) -> None:
    """A label, joined with a prediction."""
    found = at_desk(Label).decode(Message(*record(content)))
    stamped = Stamped(7, NOW, (found, None))
    prediction = Prediction(
        model="m",
        version="1",
        inference_id=found.inference_id,
        segment="",
        time_us=NOW - HOUR,
        label="7",
        value=0.5,
        confidence=0.9,
        propensity=1.0,
        extra=None,
    )
    joined = [labelled(stamped, prediction, HOUR, 30 * 24 * HOUR, asking=True)] if about(found, prediction) else []
    through(outcome_batch(joined, 7))


def lifecycle(content: bytes) -> None:
    """A lifecycle event, as it is handed on."""
    sent = Message(*record(content))
    found = at_desk(Lifecycle).decode(sent)
    if found is not None:
        change = change_of(found)
        for version in concerned(change, found.model, registry()):
            assert change_record(change, found.model, version).identity()


def sampled_input(content: bytes) -> None:
    """A sampled input: its headers, its tensor, its place in a profile."""
    sent = record(content)
    sample = at_desk(Embed).decode(Message(*sent))
    try:
        tensor = as_taken(decode_tensor(sent.value or b"", sample.dtype, sample.shape, (1, 2, 2)), np.dtype(np.float32))
        found = Recomputed(tensor.reshape(-1)[:2].astype(np.float32), 0, 2, np.array([0.9, 0.1], np.float32))
    except ValueError as error:
        found = NOTHING
        if not str(error).startswith("input"):
            raise
    through(embedded_batch([Stamped(7, NOW, sample)], [found], 7, registry().get))


def claim(content: bytes) -> None:
    """A claim check from an object store in memory; the input is `dataref`, `sha256` and `size` in lines."""
    lines = content.decode("utf-8", "surrogateescape").split("\n")
    dataref, digest, size = (*lines, "", "")[:3]
    fsspec.filesystem("memory").pipe("/samples/a.bin", b"pixels")
    allowed = ("memory://samples", "file:///var/empty/none")
    found = fetch(
        dataref,
        sha256=digest or None,
        size=int(size) if size.isdecimal() and len(size) < 30 else None,
        allowed=allowed,
        max_bytes=100,
    )
    assert found == b"pixels"


def dead_letter(content: bytes) -> None:
    """A record of the topic dead-letters, as `dead-letters replay` reads it."""

    class Consumed(NamedTuple):
        value: bytes | None
        headers: Any
        key: bytes | None = None

    sent = record(content)
    assert msgspec.json.encode(_letter(Consumed(sent.value, sent.headers)))


def frames() -> list[bytes]:
    """Frames of all kinds of columns."""
    base: dict[str, Any] = {
        "id": ["a", "b", "c"],
        "time": [NOW, NOW + 1, NOW + HOUR],
        "model": Repeated("m"),
        "version": Repeated("1"),
    }
    full = base | {
        "features.age": [1.0, None, 3.0],
        "features.country": ["DE", None, "FR"],
        "features.new": [True, False, True],
        "segment.site": ["A", "B", "A"],
        "scores": np.array([[0.1, 0.9], [0.5, 0.5], [1, 0]]),
        "label": ["7", "0", None],
        "value": [1.0, 2.0, 3.0],
        "latency_ms": [1.0, 2.0, 3.0],
        "status": [200, 500, 200],
        "abstained": [False, True, False],
        "sampling": [1.0, 0.5, 0.25],
        "embedding": np.ones((3, 2)),
        "digest": Repeated("sha256:ab"),
        "served": ["live", "shadow", None],
        "flags": ['{"a": "b"}', None, None],
    }
    return [encode_frame(base), encode_frame(full, classes=["0", "7"]), encode_frame(base | {"value": [1.0, 2.0, 3.0]})]


def events(tree: dict[str, Any]) -> list[bytes]:
    """An event bare, in a binary CloudEvent that fills in what it lacks, and in structured ones."""
    body = json.dumps(tree).encode()
    short = json.dumps({k: v for k, v in tree.items() if k not in ("id", "time")}).encode()
    around = {"specversion": "1.0", "id": "r-81", "source": "/s", "type": "inference", "time": TIME}
    return [
        written(body, JSON),
        written(body),
        written(short, *BINARY),
        written(json.dumps(around | {"data": tree}).encode(), STRUCTURED),
        written(json.dumps(around | {"data_base64": base64.b64encode(body).decode()}).encode(), STRUCTURED),
    ]


def letters() -> list[bytes]:
    """Dead letters."""
    errors = [
        ("topic", "inference"),
        ("partition", "0"),
        ("offset", "7"),
        ("stage", "DECODE"),
        ("exception.class.name", "Undecodable"),
    ]
    headers = [(f"__connect.errors.{name}", value) for name, value in errors]
    return [written(b"{}", JSON, *headers), written(b"{}", *headers, ("bestbefore.truncated.from", "99"))]


def claims() -> list[bytes]:
    """A claim check that is there, and addresses that are refused."""
    digest = hashlib.sha256(b"pixels").hexdigest()
    return [
        f"memory://samples/a.bin\n{digest}\n6".encode(),
        b"memory://samples/a.bin\nsha256:" + digest.encode(),
        b"file:///var/empty/none/x",
        b"memory://samples/%61.bin",
        b"https://[::1]/a?b#c",
        b"memory://samples/../a.bin\n\n6",
    ]


TARGETS = (
    Target("frame", frame, frames, of_frame, examples=300),
    Target(
        "inference",
        inference,
        lambda: [*events(EVENT), written(frames()[1], FRAME), written(json.dumps(BEAT).encode(), BEATS)],
        of_record(of_json),
        examples=300,
    ),
    Target("label", label, lambda: events(LABEL), of_record(of_json), examples=200),
    Target("lifecycle", lifecycle, lambda: events(CHANGE), of_record(of_json)),
    Target(
        "input",
        sampled_input,
        lambda: [written(np.ones(4, "<f4").tobytes(), *INPUT)],
        of_record(of_bytes),
        (ValueError,),
        200,
    ),
    Target("claim", claim, claims, of_bytes, examples=200),
    Target("dead-letter", dead_letter, letters, of_record(of_bytes)),
)
