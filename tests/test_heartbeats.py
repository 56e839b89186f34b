"""Heartbeats of the client: they move the clock as an event would, count as no inference, and tell losses once."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.recorded_lines import read_lines
from infra.replay import replay
from models.checks.observability_coverage import CHECK
from models.checks.observed import Observed
from models.checks.verdict import Verdict
from models.columns import Subject
from models.evidence import Evidence
from models.profile import WEIGHT, Profile
from models.reference import Reference, unregistered
from models.window_book import Clock, Closed, WindowBook
from streams.batches import Stamped, event_batch
from streams.errors import BadRecord, Invalid, Undecodable
from streams.heartbeats import (
    HEARTBEAT,
    MAX_RECORDERS,
    Heartbeat,
    Recorders,
    decode_heartbeat,
    heartbeat_batch,
    is_heartbeat,
)
from streams.records import InferenceEvent, decode_inference, time_text
from streams.settings import Settings

HOUR = 3_600_000_000
START = 1_795_168_800_000_000 // HOUR * HOUR
ME = Subject("m", "1")


def told(at: int, **fields: Any) -> Heartbeat:
    """A heartbeat at a time."""
    body = {"recorder": "r", "seq": 1, "time": time_text(at), "model": "m", "version": "1"}
    return decode_heartbeat(msgspec.json.encode(body | fields))


def event(at: int) -> InferenceEvent:
    """An inference at a time."""
    return decode_inference(
        msgspec.json.encode({"id": f"{at}", "time": time_text(at), "model": "m", "version": "1"}), []
    )


def book(clock: Clock | None = None) -> WindowBook:
    """A book of hours without lateness."""
    return WindowBook(lambda m, v: unregistered(m, v, window_us=HOUR, lateness_us=0), clock or Clock())


def hear(into: WindowBook, heartbeat: Heartbeat, offset: int, received: int = START + 10 * HOUR) -> None:
    """Add a heartbeat as a record of the log."""
    into.add(heartbeat_batch(heartbeat, offset, received))


def profiles(closed: list[Closed]) -> dict[int, Profile]:
    """The profiles that left a book, by window."""
    return {(c.key.start - START) // HOUR: c.profile for c in closed if c.profile is not None}


# -- decoding ------------------------------------------------------------------------------------------------


def test_a_heartbeat_is_told_by_its_content_type() -> None:
    assert is_heartbeat([("Content-Type", HEARTBEAT.encode())])
    assert not is_heartbeat([("content-type", b"application/json")])
    assert not is_heartbeat([])
    found = told(START, recorded=512, dropped={"full": 3}, sampling=0.5, unknown=[1])
    assert (found.recorded, found.sampled_out, found.dropped, found.sampling) == (512, 0, {"full": 3}, 0.5)


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"seq": -1}, "seq"), ({"recorder": ""}, "recorder"), ({"time": "2026-01-01T00:00:00"}, "time"),
        ({"dropped": {"full": -1}}, "dropped"), ({"dropped": {"full": 1.5}}, "dropped"), ({"sampling": 0}, "sampling"),
        ({"dropped": {str(i): 1 for i in range(17)}}, "dropped"), ({"recorded": 10**13}, "recorded"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_heartbeat_is_named(changed: dict[str, Any], what: str) -> None:
    with pytest.raises(Invalid, match=what):
        told(START, **changed)


def test_what_is_no_heartbeat_is_undecodable() -> None:
    for value in (None, b"", b"{", b"\xff", b'{"x": ' + b"[" * 100_000):
        with pytest.raises(Undecodable):
            decode_heartbeat(value)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.binary() | st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from([*Heartbeat.__struct_fields__, "x"]), inner, max_size=9
    ), max_leaves=20,
).map(msgspec.json.encode))  # fmt: skip
def test_any_bytes_are_a_heartbeat_or_the_projects_own_error(value: bytes) -> None:
    try:
        found = decode_heartbeat(value)
    except BadRecord:
        return
    hear(book(), found, 0)


def test_skipped_heartbeats_of_a_recorder_are_counted() -> None:
    known = Recorders(1)
    assert [known.missing(told(START, seq=seq)) for seq in (5, 6, 9, 9, 7, 10)] == [0, 0, 2, 0, 0, 0]
    spread = Recorders(4)  # without a key every fourth comes here, with one every
    assert [spread.missing(told(START, seq=seq)) for seq in (2, 6, 14)] == [0, 0, 1]
    assert [spread.missing(told(START, recorder="keyed", seq=seq)) for seq in (2, 3, 7)] == [0, 0, 3]
    assert known.missing(told(START, seq=3, recorder="other")) == 0
    for i in range(MAX_RECORDERS + 5):
        known.missing(told(START, recorder=f"r-{i}"))
    assert len(known._last) == MAX_RECORDERS


# -- in the book ---------------------------------------------------------------------------------------------


def test_it_moves_the_clock_and_opens_no_window() -> None:
    into = book()
    into.add(event_batch([Stamped(0, START, event(START))]))
    hear(into, told(START + HOUR - 1, recorded=9), 1)
    assert profiles(into.close()) == {}
    hear(into, told(START + HOUR, recorded=9), 2)
    assert profiles(into.close())[0].counts["n"] == 1
    assert len(into) == 0
    assert into.frontier()[0] == 3


def test_an_absurd_clock_moves_nothing() -> None:
    into = book()
    hear(into, told(START + 99 * HOUR, dropped={"full": 1}), 0, received=START)
    assert into.clock.newest < START
    assert into.now == book().now
    hear(into, told(START + HOUR), 1, received=START + HOUR)
    assert into.clock.newest == START + HOUR
    assert profiles(into.close())[0].counts["dropped"] == 1  # it counts where the broker stood


def test_losses_count_in_the_window_they_fall_in_and_as_no_inference() -> None:
    into = book()
    into.add(event_batch([Stamped(0, START, event(START))]))
    hear(into, told(START + 1, dropped={"full": 3}, sampling=0.5), 1)
    hear(into, told(START + HOUR, dropped={"full": 2, "closed": 5}, sampled_out=4), 2)
    hear(into, told(START + 2, dropped={"full": 7}), 3)  # late: a revision, and not a late event
    hear(into, told(START + 5 * HOUR), 4)
    closed = into.close()
    keys = [(c.key.start, c.key.arrival, c.profile) for c in closed if c.profile is not None]
    first, late, second = sorted(keys, key=lambda item: item[:2])
    assert first[2] is not None
    assert (first[2].n, first[2].counts["dropped"]) == (1, 3)
    assert first[2].counts["dropped_weight"] == 6 * WEIGHT
    assert late[:2] == (START, START + HOUR)
    assert late[2] is not None
    assert late[2].counts == {"dropped": 7, "dropped_weight": 7 * WEIGHT}
    assert second[2] is not None
    assert second[2].counts == {"sampled_out": 4, "dropped": 7, "dropped_weight": 7 * WEIGHT}
    assert second[2].categories["dropped"] == {"full": 2, "closed": 5}


def test_read_again_from_the_frontier_they_count_once() -> None:
    """A worker is killed: the next one reads from the frontier and publishes the same profile again, or another one."""
    log = [told(START + i * HOUR // 4, dropped={"full": i + 1}) for i in range(12)]
    whole = book()
    for offset, one in enumerate(log):
        hear(whole, one, offset)
    expected = {w: p.encode() for w, p in profiles(whole.close()).items()}
    assert len(expected) == 2
    for killed in range(1, len(log)):
        first = book()
        for offset in range(killed):
            hear(first, log[offset], offset)
        found = {w: p.encode() for w, p in profiles(first.close()).items()}
        start, clock = first.frontier()
        second = book(clock)
        for offset in range(start, len(log)):
            hear(second, log[offset], offset)
        again = {w: p.encode() for w, p in profiles(second.close()).items()}
        assert not found.keys() & again.keys()
        assert found | again == expected


def test_they_merge_in_any_order_and_older_profiles_have_none() -> None:
    parts = []
    for i in range(3):
        into = book()
        hear(into, told(START + i, dropped={"full": i + 1}, sampled_out=2), 0)
        hear(into, told(START + HOUR), 1)
        parts.append(profiles(into.close())[0].pack())
    one, other = Profile(), Profile()
    for body in parts:
        one.merge(Profile.unpack(body))
    for body in reversed(parts):
        other.merge(Profile.unpack(body))
    assert one.encode() == other.encode()
    assert one.counts == {"dropped": 6, "dropped_weight": 6 * WEIGHT, "sampled_out": 6}
    evidence = Evidence(START)
    evidence.add(Profile.unpack(Profile().pack()))
    assert (evidence.dropped, evidence.sampled_out) == (0, 0)
    old = msgspec.msgpack.encode({k: v for k, v in msgspec.structs.asdict(evidence).items() if "drop" not in k})
    assert msgspec.msgpack.decode(old, type=Evidence).dropped == 0


# -- what is said --------------------------------------------------------------------------------------------


def observed(n: int, dropped: int, coverage: dict[str, float] | None = None) -> Observed:
    """A window with events and losses."""
    tree = {"production_environment": {"bestbefore": {"coverage": coverage}}} if coverage else {}
    window = Profile()
    window.counts = {"n": n, "weight": n * WEIGHT, "dropped": dropped, "dropped_weight": dropped * WEIGHT}
    window.categories = {"dropped": {"full": dropped}}
    return Observed(
        reference=Reference("m", "1", descriptors=tree, minimum_n=50), subject=ME, window=window, block=None,
        start_us=START, end_us=START + HOUR, block_start_us=START,
    )  # fmt: skip


def said(seen: Observed) -> list[Verdict]:
    """What the check of coverage says."""
    assert CHECK.live is not None
    return list(CHECK.live(seen))


@pytest.mark.parametrize(
    ("n", "dropped", "coverage", "verdict"),
    [
        (1000, 100, None, "mismatch"), (0, 1000, None, "mismatch"), (1000, 5, None, "ok"), (3, 1, None, "unknown"),
        (1000, 100, {"events": 0.85}, "ok"), (1000, 300, {"events": 0.85}, "mismatch"),
    ],
)  # fmt: skip
def test_dropped_telemetry_counts_against_coverage(
    n: int, dropped: int, coverage: dict[str, float] | None, verdict: str
) -> None:
    found = [v for v in said(observed(n, dropped, coverage)) if v.field == "events"]
    assert [v.verdict for v in found] == [verdict]
    if verdict == "mismatch":
        assert f"clients dropped {dropped} events of this window before they were sent (full {dropped})" in (
            found[0].message
        )


def test_without_losses_nothing_is_said() -> None:
    assert not [v for v in said(observed(1000, 0)) if v.field == "events"]


def test_replay_reads_them_from_a_recording(tmp_path: Path) -> None:
    lines = [
        msgspec.json.encode({"id": f"{i}", "time": time_text(START + i * HOUR // 10), "model": "m", "version": "1"})
        for i in range(20)
    ]
    beat = {"recorder": "r", "seq": 1, "time": time_text(START + 5), "model": "m", "version": "1"}
    lines.insert(3, msgspec.json.encode(beat | {"dropped": {"full": 4}, "sampled_out": 2}))
    lines.insert(9, msgspec.json.encode(beat | {"seq": -1}))
    (tmp_path / "events.jsonl").write_bytes(b"\n".join(lines))
    result = replay([tmp_path / "events.jsonl"], [], tmp_path / "out", Settings())
    assert (result.events, result.rejected) == (20, 1)
    windows = [line["window"] for line in read_lines(tmp_path / "out" / "status.jsonl")]
    assert [(w["n"], w.get("dropped"), w.get("sampled_out")) for w in windows] == [(10, 4, 2), (10, None, None)]


def test_counts_in_a_profile_stay_numbers_that_can_be_added() -> None:
    into = book()
    for i in range(5):
        hear(into, told(START + i, dropped={"full": 10**12}, sampling=1e-4), i)
    hear(into, told(START + HOUR), 9)
    found = Profile.unpack(profiles(into.close())[0].pack())
    assert found.counts["dropped"] == 5 * 10**12
    assert found.counts["saturated"] == 1
    assert np.isfinite(found.counts["dropped_weight"])
