"""A worker that meets what only a later version can read ends, says so in one line, and leaves everything as it is."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from agents.restoring import profile_in, restored
from infra.migrate import downgrade
from models.columns import Subject
from models.profile import Profile
from models.reference import Reference
from models.subject_state import FORMAT, fresh
from models.window_book import Closed, Key
from streams.errors import TooNew
from streams.event_store import EventStore
from streams.lane import PROFILE_FORMAT, decode_profile_record, profile_record
from streams.runtime import EXIT_BROKEN, EXIT_REFUSED
from streams.store_rows import State
from streams.store_schema import OLDEST_TABLES
from tests.broker_rig import BASE, fresh_settings, produce, until
from tests.faults.crew import HERE, Worker
from tests.faults.traffic import HOUR_US
from tests.previous import unpacked

SUBJECT = ("m", "1", "")
RECORD = profile_record("inference/0", Closed(Key(Subject(*SUBJECT), BASE, BASE, HOUR_US), Profile(), BASE + HOUR_US))
KNOWN = ("broker", "store", "group", "topic_prefix", "partitions", "session_timeout", "idle_after", "commit_every")


def later_state() -> State:
    """What a later version might save."""
    saved = msgspec.msgpack.decode(fresh(Reference("m", "1")).encode())
    return State(FORMAT + 1, msgspec.msgpack.encode({**saved, "version": FORMAT + 1, "ring": "told otherwise now"}))


@pytest.mark.parametrize("which", ["this", "previous"])
def test_a_worker_leaves_a_later_state_alone(broker: str, tmp_path: Path, which: str) -> None:
    settings = fresh_settings(broker, f"sqlite:///{tmp_path}/store.db")
    home = HERE if which == "this" else unpacked(tmp_path / "previous")
    if which == "previous":
        downgrade(settings.store, OLDEST_TABLES)
    names = {f"BESTBEFORE_{name.upper()}": str(getattr(settings, name)) for name in KNOWN}
    worker = Worker(tmp_path, "1", names, home=home)
    try:
        asyncio.run(until(lambda: worker.ready))
        store = EventStore(settings.store)
        with store.transaction() as tx:
            tx.save_states({SUBJECT: later_state()})
        produce(settings, "profiles", [msgspec.msgpack.encode(RECORD)], b"m/1")
        assert worker.process.wait(30) == (EXIT_REFUSED if which == "this" else EXIT_BROKEN)
    finally:
        worker.kill()
    with store.transaction() as tx:
        assert tx.load_states([SUBJECT]) == {SUBJECT: later_state()}
        assert tx.new_profiles(settings.group, [RECORD.identity()]) == [True]
    assert not store.claim(settings.group, settings.topic("profiles"), 0).next_offset
    assert store.windows("m", "1") == []
    store.close()
    log = worker.log.read_text()
    (line,) = [line for line in log.splitlines() if "worker ends" in line]
    if which == "this":
        assert (
            f"the state of m 1 in the event store is of a later version of this software (format {FORMAT + 1}" in line
        )
        assert "Traceback" not in log
        again = Worker(tmp_path, "2", names)
        assert again.process.wait(30) == EXIT_REFUSED
        assert again.log.read_text().startswith("bestbefore: sqlite ")
        assert f"has format {FORMAT + 1}" in again.log.read_text()


def test_a_state_whose_parts_are_later_is_told_as_such() -> None:
    saved = msgspec.msgpack.decode(fresh(Reference("m", "1")).encode())
    saved["usual"]["version"] = 99
    with pytest.raises(TooNew, match=r"state of m 1 .*99"):
        restored(Subject(*SUBJECT), State(FORMAT, msgspec.msgpack.encode(saved)))


def test_a_profile_of_a_later_format_is_told_as_such() -> None:
    body = {**Profile().encode(), "format": 99}
    with pytest.raises(TooNew, match=r"profile of m 1 .*99"):
        profile_in(RECORD, msgspec.msgpack.encode(body))
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(RECORD))
    assert decode_profile_record(msgspec.msgpack.encode([*fields, "added since"])) == RECORD
    later = PROFILE_FORMAT + 1
    for changed in ([later, *fields[1:]], [later, "is something else now"]):
        with pytest.raises(TooNew, match=f"format {later}"):
            decode_profile_record(msgspec.msgpack.encode(changed))
    with pytest.raises(msgspec.DecodeError):
        decode_profile_record(msgspec.msgpack.encode([PROFILE_FORMAT, "broken"]))
