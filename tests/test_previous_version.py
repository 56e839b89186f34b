"""What the previous version has written is read with the same result, and it reads what this one writes."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kafka import KafkaAdminClient
from kafka.admin import NewTopic

from infra import migrate
from models.subject_state import State
from streams.delivery import decode_clock
from streams.event_store import EventStore
from streams.inspecting import decode_inspection
from streams.registry import decode_reference
from streams.store_schema import OLDEST_TABLES
from tests import artefacts, sent_records, stored_shapes
from tests.faults.topic import read_topic
from tests.previous import ROOT, python, unpacked, version

DESCRIPTORS = ROOT / "examples" / "digits" / "descriptors"
SCRIPTS = ROOT / "tests"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> str:
    return unpacked(tmp_path_factory.mktemp("previous"))


@pytest.fixture(scope="module")
def written(home: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders `old` and `new`: everything that can be written, by either version, on the tables of the old."""
    folder = tmp_path_factory.mktemp("artefacts")
    python(home, str(SCRIPTS / "artefacts.py"), "write", str(folder / "old"), str(DESCRIPTORS), folder=folder)
    artefacts.write(folder / "new", DESCRIPTORS)
    migrate.downgrade(f"sqlite:///{folder / 'new' / 'store.db'}", OLDEST_TABLES)
    return folder


def lost(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Where the newer version has not all that the older has; it may have more."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name, value in old.items():
            if name in new:
                yield from lost(value, new[name], f"{path}/{name}")
            else:
                yield f"{path}/{name} is missing"
    elif isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            yield f"{path}: {len(old)} became {len(new)}"
        for i, (one, other) in enumerate(zip(old, new, strict=False)):
            yield from lost(one, other, f"{path}/{i}")
    elif old != new and not (isinstance(old, float) and new == pytest.approx(old, rel=1e-9)):
        yield f"{path}: {str(old)[:80]} became {str(new)[:80]}"


def test_the_previous_version_is_what_runs(home: str, tmp_path: Path) -> None:
    code = (
        "import importlib.metadata, bestbefore_client, streams.store_schema as s;"
        "print(importlib.metadata.version('bestbefore'), s.SCHEMA_REVISION, s.__file__, bestbefore_client.__file__)"
    )
    said = python(home, "-c", code, folder=tmp_path).decode().split()
    assert said[0] == version()
    assert said[1] >= OLDEST_TABLES, "workers may be replaced before the tables are migrated"
    assert all(place.startswith(home) for place in said[2:])


@pytest.fixture(scope="module")
def read_by_previous(home: str, written: Path) -> dict[str, Any]:
    """What the previous version reads in both folders."""
    folders = [str(written / writer) for writer in ("old", "new")]
    said = python(home, str(SCRIPTS / "artefacts.py"), "read", *folders, str(DESCRIPTORS), folder=written)
    found: dict[str, Any] = json.loads(said)
    return found


@pytest.mark.parametrize("writer", ["old", "new"])
def test_both_versions_read_the_same(read_by_previous: dict[str, Any], written: Path, writer: str) -> None:
    """Contents, and what is concluded from them: a state goes on alike, a profile is counted alike."""
    theirs = read_by_previous[writer]
    ours = artefacts.read(written / writer, DESCRIPTORS)
    assert theirs.keys() == ours.keys()
    assert len(theirs) > 10
    assert theirs["state"]["told"], "a state that says nothing shows nothing"
    assert theirs["store"]["new"] == [False, False]
    found = list(lost(theirs, ours))
    assert not found, "\n".join(found[:40])


def test_what_the_previous_client_sends_is_read_alike(home: str, broker: str, tmp_path: Path) -> None:
    script, prefix, file = str(SCRIPTS / "sent_records.py"), f"sent-{uuid.uuid4().hex[:8]}.", tmp_path / "sent"
    topics = {prefix + topic: topic for topic in sent_records.TOPICS}
    admin = KafkaAdminClient(bootstrap_servers=broker)
    admin.create_topics([NewTopic(topic, 1, 1) for topic in topics])
    admin.close()
    python(home, script, "send", broker, prefix, folder=tmp_path)
    records = [(name, r.value, r.headers) for topic, name in topics.items() for r in read_topic(broker, topic)]
    file.write_bytes(msgspec.msgpack.encode(records))
    theirs, ours = json.loads(python(home, script, "read", str(file), folder=tmp_path)), sent_records.read(records)
    found = list(lost(theirs, ours))
    assert not found, "\n".join(found[:40])
    assert {row["inference_id"] for _, rows in zip(*[iter(ours["inference"])] * 2, strict=True) for row in rows} == {
        "one", "m-1", "m-2",
    }  # fmt: skip
    assert len(ours["labels"]) == 3
    assert [meta["inference_id"] for meta, _ in ours["inputs"]] == ["one"]


def test_a_store_of_the_previous_version_is_migrated_with_all_its_rows(written: Path, tmp_path: Path) -> None:
    copy = tmp_path / "store.db"
    copy.write_bytes((written / "old" / "store.db").read_bytes())
    url = f"sqlite:///{copy}"
    before = artefacts.read_store(url)
    assert migrate.upgrade(url) == migrate.head()
    assert artefacts.read_store(url) == before
    EventStore(url).check()


# -- the rule ------------------------------------------------------------------------------------------------


def broken(old: Any, new: Any, path: str) -> Iterator[str]:
    """Where a type has changed so that one of the two versions could not read what the other writes."""
    structs = [isinstance(kind, dict) and "fields" in kind for kind in (old, new)]
    if all(structs):
        yield from _broken_struct(old, new, path)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for one, other in zip(old, new, strict=True):
            yield from broken(one, other, path)
    elif isinstance(old, dict) and isinstance(new, dict) and not any(structs) and old.keys() == new.keys():
        for name in old:
            yield from broken(old[name], new[name], path)
    elif old != new:
        yield f"{path} was {json.dumps(old)[:100]}, is {json.dumps(new)[:100]}"


def _broken_struct(old: Any, new: Any, path: str) -> Iterator[str]:
    if old["array"] != new["array"] or old["strict"] != new["strict"]:
        yield f"{path}: array-like or strict now, or no longer"
    now = {name: (i, kind) for i, (name, _, kind) in enumerate(new["fields"])}
    for i, (name, _, kind) in enumerate(old["fields"]):
        if name not in now or (old["array"] and now[name][0] != i):
            yield f"{path}.{name} is gone, or stands elsewhere"
        else:
            yield from broken(kind, now[name][1], f"{path}.{name}")
    before = {name for name, _, _ in old["fields"]}
    for name, required, _ in new["fields"]:
        if name not in before and (required or new["strict"]):
            yield f"{path}.{name} is new and has no default, or is refused"


def test_types_only_grow_or_their_format_number_does(home: str, tmp_path: Path) -> None:
    """A field may be added, with a default. Whatever else changes raises the number of its format."""
    theirs = json.loads(python(home, str(SCRIPTS / "stored_shapes.py"), folder=tmp_path))
    ours = json.loads(json.dumps(stored_shapes.shapes()))
    assert theirs.keys() == ours.keys()
    alike = {name: old["shape"] for name, old in theirs.items() if ours[name]["format"] == old["format"]}
    found = [line for name, old in alike.items() for line in broken(old, ours[name]["shape"], name)]
    assert not found, "\n".join(found)
    assert all(ours[name]["format"] - old["format"] in (0, 1) for name, old in theirs.items())


def test_what_a_later_version_adds_is_left_out(written: Path) -> None:
    """Fields that nobody knows here are no error."""

    def body(name: str) -> bytes:
        known = msgspec.json.decode((written / "new" / name).read_bytes())
        return msgspec.json.encode({**known, "of_a_later_version": {"x": [1]}})

    readers: dict[str, Any] = {"reference": decode_reference, "inspection": decode_inspection}
    for name, reader in readers.items():
        assert msgspec.json.encode(reader(body(name))) == (written / "new" / name).read_bytes()
    clock = (written / "new" / "clock").read_text()
    assert decode_clock(body("clock").decode()) == decode_clock(clock)
    state = (written / "new" / "state").read_bytes()
    saved = msgspec.msgpack.decode(state)
    later = {**saved, "new": b"x", "audited": {**saved["audited"], "new": 1}, "policy": {**saved["policy"], "new": 1}}
    assert State.decode(msgspec.msgpack.encode(later)).encode() == state


def test_the_rule_is_seen_to_be_broken() -> None:
    """The comparison above sees what it looks for."""
    ours = json.loads(json.dumps(stored_shapes.shapes()))["profile"]["shape"]
    fields = ours["fields"]
    wrong = {
        "fewer": fields[1:], "more": [*fields, ["late", True, ["IntType", {}]]],
        "retyped": [[*fields[0][:2], ["StrType", {}]], *fields[1:]], "moved": [fields[1], fields[0], *fields[2:]],
    }  # fmt: skip
    for name, changed in wrong.items():
        assert list(broken(ours, {**ours, "fields": changed}, "p")), name
    assert not list(broken(ours, {**ours, "fields": [*fields, ["late", False, ["IntType", {}]]]}, "p"))
