"""Ever new segments, models and versions take bounded memory, are counted, and leave what is watched as it was."""

import itertools
import json
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from agents.applying import Application, Part
from agents.ingest import Ingest
from infra.migrate import upgrade
from infra.replay import replay
from models.evidence import Evidence
from models.profile import Profile
from models.window_book import BEYOND, Batch, Clock, WindowBook
from streams.batches import Stamped, event_batch, frame_batch
from streams.clock import BrokerClock
from streams.delivery import Cursor
from streams.errors import Invalid
from streams.event_columns import shape_of
from streams.event_store import EventStore
from streams.frames import MAX_SUBJECTS, decode_frame
from streams.lane import ProfileRecord
from streams.records import decode_inference
from streams.registry import Registry
from streams.settings import Settings
from tests.test_frames import frame, stream

HOUR = 3_600_000_000
T0 = 1_795_168_800_000_000 // HOUR * HOUR


def event(i: int, user: str, *, at: int = T0, **more: Any) -> bytes:
    moment = np.datetime64(at + i, "us").astype(str)
    fields = {"id": f"e{i}", "time": f"{moment}Z", "model": "m", "version": "1", "segment": {"user": user}, **more}
    return str(fields).replace("'", '"').encode()


def book(most: int, registry: Registry | None = None) -> WindowBook:
    known = registry or Registry(window_us=HOUR, lateness_us=0)
    return WindowBook(known.get, Clock(), most_segments=most)


def batch_of(users: list[str], first: int, at: int = T0) -> Batch:
    decoded = [decode_inference(event(first + i, user, at=at), ()) for i, user in enumerate(users)]
    return event_batch([Stamped(first + i, at + HOUR, e) for i, e in enumerate(decoded)])


def profiles(opened: WindowBook) -> dict[str, tuple[int, int]]:
    """Events and those beyond, of each subject's closed window."""
    opened.heard(T0 + 2 * HOUR)
    closed = [c for c in opened.close() if c.profile is not None]
    return {c.key.subject.segment: (c.profile.n, c.profile.counts.get(BEYOND, 0)) for c in closed if c.profile}


def test_names_of_features_that_are_ever_new_and_long_are_not_kept() -> None:
    """What is remembered of the shapes of events is bounded in bytes, too."""

    def shape(i: int, size: int) -> tuple[Any, ...]:
        name = f"f{i}".ljust(size, "x")
        return shape_of(decode_inference(event(i, "u", features={name: 1.0, "a": "b"}), ()))

    shape(0, 10)
    tracemalloc.start()
    for i in range(40):
        assert shape(i, 1 << 20)[-1] == (tuple(sorted(("a", f"f{i}".ljust(1 << 20, "x")))), ("a",))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 8 << 20


@given(
    users=st.lists(st.sampled_from([f"u{i}" for i in range(12)]), min_size=1, max_size=40),
    cuts=st.lists(st.integers(1, 39), max_size=4),
    most=st.integers(0, 13),
)
def test_the_same_segments_are_kept_whole_in_any_order_and_the_others_are_counted(
    users: list[str], cuts: list[int], most: int
) -> None:
    found = []
    for order in (users, users[::-1]):
        opened, edges = book(most), sorted({0, len(order), *(c for c in cuts if c < len(order))})
        for low, high in itertools.pairwise(edges):
            opened.add(batch_of(order[low:high], low))
        found.append(profiles(opened))
    assert found[0] == found[1]
    whole, beyond = found[0].pop("")
    counts = Counter(f'{{"user":"{user}"}}' for user in users)
    assert whole == len(users)
    assert len(found[0]) == min(most, len(counts))
    assert all(counts[segment] == n for segment, (n, _) in found[0].items())
    assert beyond == whole - sum(n for n, _ in found[0].values())


def test_a_segment_by_user_takes_no_more_memory_than_the_bound() -> None:
    opened = book(100)
    for first in range(0, 5000, 500):
        opened.add(batch_of([f"user {i}" for i in range(first, first + 500)], first))
        assert len(opened) == 101
        assert len(opened.subjects()) == 101
    found = profiles(opened)
    assert len(found) == 101
    assert found[""] == (5000, 4900)
    assert len(opened) == 0
    opened.add(batch_of(["user 1"], 6000, T0 + 5 * HOUR))
    assert len(opened) == 2, "what was kept of an earlier window takes no place of a later one"


def test_the_whole_says_how_many_are_beyond() -> None:
    profile = Profile()
    profile.counts[BEYOND] = 7
    one = Evidence(0)
    one.add(profile)
    assert one.beyond == 7
    assert one.join(one).beyond == 14


def test_a_replay_has_the_same_bound(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_bytes(b"\n".join(event(i, f"u{i}", model="digits") for i in range(50)))
    digits = Path("examples/digits/descriptors")
    replay([tmp_path / "events.jsonl"], [digits], tmp_path / "out", Settings(max_segments=3))
    lines = [json.loads(line) for line in (tmp_path / "out/status.jsonl").read_text().splitlines()]
    assert len([line for line in lines if line["segment"]]) == 3
    assert [line["beyond_segments"] for line in lines if not line["segment"]] == [47]


# -- the store ---------------------------------------------------------------------------------------------------


class Assessor:
    """What applying profiles needs of a worker: settings, tables, references."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.settings = Settings(store=url, **settings)
        self.store = EventStore(url)
        self.registry = Registry(window_us=HOUR, lateness_us=0)
        self.inspections: dict[tuple[str, str], Any] = {}
        self.clock = BrokerClock()

    def apply(self, segments: list[str], offset: int, part: Part) -> Application:
        """Apply one closed window of each of these segments."""
        profile = Profile()
        profile.count("n", 3)
        records = [
            ProfileRecord(1, "inference/0", "m", "1", s, T0, T0, HOUR, T0 + HOUR, False, profile.pack())
            for s in segments
        ]
        runtime: Any = self
        call = Application(runtime, part, records, [], offset)
        call.apply()
        return call


def test_the_store_keeps_states_of_so_many_segments_and_windows_of_the_whole_go_on(any_store_url: str) -> None:
    upgrade(any_store_url)
    worker = Assessor(any_store_url, max_segments=2)
    epoch = worker.store.claim(worker.settings.group, "profiles", 0).epoch
    consumer: Any = None
    part = Part(TP("profiles", 0), 1, epoch, Cursor(consumer, TP("profiles", 0), 0))
    first = worker.apply(["", '{"u":"a"}'], 1, part)
    assert not first.refused
    second = worker.apply([f'{{"u":"{c}"}}' for c in "abcd"], 2, part)
    assert sorted(s.segment for s in second.refused) == ['{"u":"c"}', '{"u":"d"}']
    again = Part(TP("profiles", 0), 1, epoch, Cursor(consumer, TP("profiles", 0), 0))
    third = worker.apply(["", '{"u":"b"}', '{"u":"e"}'], 3, again)
    assert [s.segment for s in third.refused] == ['{"u":"e"}'], "a new owner of the partition knows of the bound"
    assert worker.store.counts()["estimator_state"] == 3
    assert len(again.states) == 2
    with worker.store.transaction() as tx:
        assert tx.segments("m", "1", 0) == 2
        assert tx.segments("m", "1", 1 << 60) == 0, "one that has long been silent takes no place"
    worker.store.close()


# -- models ----------------------------------------------------------------------------------------------------


class Worker:
    """The part of a runtime that decoding needs."""

    def __init__(self, **settings: Any) -> None:
        self.settings = Settings(**settings)
        self.registry = Registry(window_us=HOUR, lateness_us=0, most_unknown=self.settings.max_unregistered)


class Record:
    """A Kafka record."""

    offset = 7

    def __init__(self, value: bytes, content_type: str = "application/json") -> None:
        self.value, self.headers = value, [("content-type", content_type.encode())]


def ingest(**settings: Any) -> Any:
    made: Any = Ingest.__new__(Ingest)
    made.runtime = Worker(**settings)
    return made


FRAME = "application/vnd.apache.arrow.stream"


def test_records_of_one_model_too_many_are_refused_and_the_first_ones_go_on() -> None:
    agent = ingest(max_unregistered=3)
    for _ in range(2):
        for name in ("a", "b", "c"):
            agent.decode(Record(event(0, "u", model=name)))
        with pytest.raises(Invalid, match=r"nobody registered model 'd' version '1', and 3 others .*max_unregistered"):
            agent.decode(Record(event(0, "u", model="d")))
    assert agent.runtime.registry.get("d", "1").model == "d", "asking is no watching"


def test_of_a_frame_only_the_rows_of_models_too_many_are_refused() -> None:
    agent = ingest(max_unregistered=2)
    names = pa.array(["a", "b", "c", "a", None])
    found = agent.decode(
        Record(
            stream(
                pa.record_batch(
                    dict(zip(("id", "model"), (pa.array(list("vwxyz")), names), strict=True))
                    | {"time": pa.array([T0] * 5, pa.timestamp("us", "UTC")), "version": pa.array(["1"] * 5)}
                )
            ),
            FRAME,
        )
    )
    assert found.table.column("id").to_pylist() == ["v", "w", "y"]
    assert sorted(found.rejected.column("id").to_pylist()) == ["x", "z"]
    assert "1 of the frame's rows lack id" in found.why
    assert "1 of the frame's rows: nobody registered model 'c'" in found.why
    assert {s.model: len(found.table) if isinstance(w, slice) else len(w) for s, w in found.subjects} == {
        "a": 2,
        "b": 1,
    }
    with pytest.raises(Invalid, match="nobody registered model 'other'"):
        agent.decode(Record(frame(2, model=pa.array(["other"] * 2)), FRAME))


def test_a_registered_model_is_never_one_too_many_and_makes_room() -> None:
    registry = Registry(window_us=HOUR, lateness_us=0, most_unknown=1)
    registry.admit("a", "1")
    reference = registry.get("a", "1")
    registry.put(reference)
    registry.admit("b", "1")
    registry.admit("a", "1")
    with pytest.raises(Invalid, match="max_unregistered"):
        registry.admit("c", "1")


def test_a_frame_of_ever_new_names_is_refused() -> None:
    for column in ("model", "version", "segment.user"):
        names = pa.array([f"n{i}" for i in range(MAX_SUBJECTS + 1)])
        with pytest.raises(Invalid, match="at most 1000 are allowed; a segment is a part of the traffic"):
            decode_frame(frame(len(names), **{column: names}), 0)
    sites = pa.array([f"n{i % 400}" for i in range(4000)])
    decoded = decode_frame(frame(4000, **{"segment.user": sites}), 0)
    groups = frame_batch(decoded, 0, T0).groups
    assert {len(rows) for subject, rows, _ in groups if subject.segment} == {10}
    assert [len(rows) for subject, rows, _ in groups if not subject.segment] == [4000]
