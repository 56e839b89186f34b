"""Lifecycle events on the wire, in recordings and in the store: what is read, what is refused, and for whom it is."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agents.lifecycle import Lifecycle, change_of, concerned
from infra.recording import read_recording
from models.columns import Subject
from models.lifecycle import Change, resolution_id
from models.reference import Reference
from streams.errors import BadRecord, Invalid, Undecodable
from streams.lane import ProfileRecord, change_record
from streams.records import STRUCTURED, decode_lifecycle, time_us
from streams.registry import Registry

EVENT: dict[str, Any] = {
    "id": "release-2", "time": "2026-11-20T10:00:00Z", "kind": "deployed", "model": "loan", "version": "2",
}  # fmt: skip
AT = 1_795_168_800_000_000
CHANGE = Change(id="release-2", at_us=AT, kind="deployed", version="2")


def body(**fields: Any) -> bytes:
    return json.dumps({k: v for k, v in (EVENT | fields).items() if v is not None}).encode()


def test_plain_json_and_cloud_events() -> None:
    assert change_of(decode_lifecycle(body(), ())) == CHANGE
    about = {"specversion": "1.0", "id": "release-2", "source": "/ci", "type": "t", "time": EVENT["time"]}
    bare = body(id=None, time=None)
    binary = [(f"ce_{name}", value.encode()) for name, value in about.items()]
    assert change_of(decode_lifecycle(bare, binary)) == CHANGE
    structured = json.dumps({**about, "data": json.loads(bare)}).encode()
    assert change_of(decode_lifecycle(structured, [("content-type", STRUCTURED.encode())])) == CHANGE
    full = decode_lifecycle(body(previous="1", served="shadow", message="try", unheard="of"), ())
    assert change_of(full) == msgspec.structs.replace(CHANGE, previous="1", served="shadow", message="try")


@pytest.mark.parametrize(
    ("value", "kind", "told"),
    [
        (b"{no json", Undecodable, "not a JSON object"),
        (b"", Undecodable, "empty"),
        (body(kind=None), Invalid, "`kind`"),
        (body(version=None), Invalid, "`version`"),
        (body(version=""), Invalid, "$.version"),
        (body(id="x" * 201), Invalid, "$.id"),
        (body(model="a\x00b"), Invalid, "$.model"),
        (body(time="2026-11-20T10:00:00"), Invalid, "$.time"),
        (body(message="x" * 1001), Invalid, "$.message"),
        (body(previous=7), Invalid, "$.previous"),
    ],
)
def test_what_cannot_be_used_is_told(value: bytes, kind: type[BadRecord], told: str) -> None:
    with pytest.raises(kind) as raised:
        decode_lifecycle(value, ())
    assert told in str(raised.value)


class Message(msgspec.Struct):
    value: bytes | None
    headers: list[tuple[str, bytes]] = []


def test_our_own_lines_and_tombstones_are_passed_over() -> None:
    decode = Lifecycle.decode
    assert decode(None, Message(None)) is None  # type: ignore[arg-type]
    ours = [("ce_specversion", b"1.0"), ("ce_type", b"io.bestbefore.lifecycle.v1")]
    assert decode(None, Message(b"{}", ours)) is None  # type: ignore[arg-type]
    assert decode(None, Message(body(kind="trigger-resolved"))) is None  # type: ignore[arg-type]
    assert decode(None, Message(body(kind="something-new"))) is not None  # type: ignore[arg-type]


def test_every_registered_version_of_the_model_is_told() -> None:
    registry = Registry(window_us=1, lateness_us=0)
    for model, version in (("loan", "1"), ("loan", "0"), ("digits", "9")):
        registry.put(Reference(model, version))
    assert concerned(CHANGE, "loan", registry) == ["0", "1", "2"]
    assert concerned(msgspec.structs.replace(CHANGE, previous="x"), "loan", registry) == ["0", "1", "2", "x"]
    assert concerned(CHANGE, "unheard-of", registry) == ["2"]


def test_a_change_travels_as_a_record_that_older_workers_pass_over() -> None:
    record = change_record(CHANGE, "loan", "1")
    wire = msgspec.msgpack.encode(record)
    assert msgspec.msgpack.decode(wire, type=ProfileRecord) == record
    fields = msgspec.msgpack.decode(wire)
    older = msgspec.msgpack.decode(msgspec.msgpack.encode(fields[:-1]), type=ProfileRecord)
    assert (older.change, older.profile, older.retired) == (None, None, True)
    again = change_record(msgspec.structs.replace(CHANGE, at_us=AT + 1, kind="retired"), "loan", "1")
    assert record.identity() == again.identity(), "the first of an id counts"
    others = [change_record(CHANGE, "loan", "2"), change_record(msgspec.structs.replace(CHANGE, id="x"), "loan", "1")]
    assert record.identity() not in {o.identity() for o in others}


def test_a_recording_holds_lifecycle_lines(tmp_path: Path) -> None:
    inference = {"id": "r-1", "time": EVENT["time"], "model": "loan", "version": "2", "output": {"label": "yes"}}
    lines = [inference, EVENT, EVENT | {"kind": "trigger-resolved"}, EVENT | {"time": "soon"}]
    (tmp_path / "all.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    found = read_recording([tmp_path])
    assert [time_us(e.time) for e in found.lifecycle] == [AT]
    assert len(found.events) == 1
    assert len(found.rejected) == 1
    assert "$.time" in found.rejected[0]


def test_ids_of_resolutions_differ_by_version_and_trigger() -> None:
    ids = {resolution_id(Subject("loan", v), t) for v in "12" for t in "ab"}
    assert len(ids) == 4
