"""What a profile observes of sampled inputs, audited labels and versions; replay observes what the worker does."""

import base64
from typing import Any, cast

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from bestbefore_client import Repeated, encode_frame

from infra.replay import Engine, Step
from models.columns import Embedded, Outcomes, Served, Subject
from models.profile import AUDIT_BINS, MAX_GROUPS, MISSING, SKEW_EDGES, UNIT, WEIGHT
from models.skew import compared
from models.window_book import Clock, Cut, WindowBook
from streams.batches import Stamped, frame_batch
from streams.embedded import NOTHING, embedded_batch, recomputed
from streams.frames import Decoded, decode_frame
from streams.records import decode_input
from streams.registry import Registry
from streams.settings import Settings
from streams.topics import INFERENCE
from tests.profile_rig import REFERENCE, counted, plain, profile_of, texts

DAY = 86_400_000_000
START = 1_795_168_800_000_000

# -- embeddings of servers -----------------------------------------------------------------------------------------


def embedded(n: int, **columns: Any) -> Embedded:
    vectors = np.random.default_rng(3).normal(size=(n, 2)).astype(np.float32)
    return Embedded(offset=np.arange(n), time=np.arange(n), embedding=vectors, **columns)


def test_a_served_embedding_is_compared_with_the_recomputed_one() -> None:
    mine = np.array([3.0, 4.0], np.float32)
    assert compared(mine.tobytes(), mine) == (0.0, 1.0, False)
    assert compared((mine * 2).tobytes(), mine) == (1.0, 1.0, False)
    assert compared(np.full(2, np.nan, "<f4").tobytes(), mine)[0] == np.inf
    assert compared(mine[:1].tobytes(), mine).misfit
    assert np.isnan(compared(None, mine).error)
    assert not compared(mine.tobytes(), np.empty(0, np.float32)).misfit


def test_skew_is_kept_per_origin() -> None:
    made = profile_of(
        embedded(
            4, skew=np.array([1e-9, 0.5, np.nan, np.inf]), cosine=np.array([1.0, 0.5, np.nan, 0.0]),
            origin=texts(["cuda|8", "cuda|8", None, "?|?"]), misfit=np.array([False, False, True, False]),
        )
    )  # fmt: skip
    counts = made.histograms["skew.cuda|8"]
    assert (counts[0], counts[np.searchsorted(SKEW_EDGES, 0.5)], counts.sum()) == (WEIGHT, WEIGHT, 2 * WEIGHT)
    assert made.histograms["skew.?|?"][-1] == WEIGHT
    assert made.sums["cosine.cuda|8"].tolist() == [2 * WEIGHT, UNIT * 3 // 2]
    assert made.counts["skew_dimension"] == 1


def test_origins_beyond_the_bound_are_joined_in_whatever_order_they_come() -> None:
    def one(origin: str) -> Embedded:
        return embedded(1, skew=np.array([0.1]), cosine=np.array([1.0]), origin=texts([origin]))

    origins = [f"p{i}|{i}" for i in range(40)]
    forward = profile_of(*map(one, origins))
    backward = profile_of(*map(one, reversed(origins[:20]))).merge(profile_of(*map(one, origins[20:])))
    assert plain(forward)["histograms"] == plain(backward)["histograms"]
    assert plain(forward)["sums"] == plain(backward)["sums"]
    skews = {name: int(v.sum()) // WEIGHT for name, v in forward.histograms.items() if name.startswith("skew.")}
    assert len(skews) == MAX_GROUPS + 1
    assert skews["skew.other"] == 40 - MAX_GROUPS


def test_distances_are_kept_per_predicted_class_that_was_declared() -> None:
    made = profile_of(embedded(5, label=texts(["a", "b", "a", None, "b"])))
    assert made.histograms["embedding.a"].sum() == 2 * WEIGHT
    assert made.histograms["embedding"].sum() == 5 * WEIGHT
    assert "embedding.b" not in made.histograms


class Loaded:
    """An embedder of two features and two classes, by arithmetic."""

    def outputs(self, batch: Any) -> Any:
        """The input itself is the embedding; the larger half of it is the class."""
        return batch.copy(), batch


def test_sampled_inputs_become_columns_with_their_class_and_the_servers_embedding() -> None:
    reference = msgspec.structs.replace(REFERENCE, classes={"a": 0.5, "b": 0.5})
    inputs = np.array([[3.0, 4.0], [4.0, 3.0], [1.0, 0.0]], np.float32)
    found = recomputed(cast(Any, Loaded()), inputs)
    sent: list[dict[str, bytes]] = [
        {"embedding": base64.b64encode(inputs[0].tobytes()), "provider": b"cpu", "batch_size": b"8"},
        {"embedding": base64.b64encode(inputs[0][:1].tobytes())},
        {},
    ]
    base = {
        "inference_id": b"i", "model": b"m", "version": b"1", "time": b"2026-11-20T10:00:00Z", "dtype": b"float32",
        "shape": b"[2]",
    }  # fmt: skip
    stamped = [Stamped(i, 0, decode_input(list((base | more).items()))) for i, more in enumerate(sent)]
    ((_, rows, _),) = embedded_batch(stamped, found, 2, lambda *_: reference).groups
    assert isinstance(rows, Embedded)
    assert rows.label is not None
    assert [rows.label.values[code] for code in rows.label.codes] == ["b", "a", "a"]
    made = profile_of(rows, reference=reference)
    assert made.histograms["skew.cpu|8"][0] == WEIGHT
    assert (made.counts["skew_dimension"], made.histograms["embedding.a"].sum()) == (1, 2 * WEIGHT)
    ((_, bare, _),) = embedded_batch(stamped[2:], [NOTHING], 2, lambda *_: reference).groups
    assert isinstance(bare, Embedded)
    assert (bare.label, bare.skew, bare.embedding.shape) == (None, None, (1, 0))


# -- labels, versions ----------------------------------------------------------------------------------------------


def test_audits_are_kept_by_confidence_and_feedback_is_not() -> None:
    rows = Outcomes(
        offset=np.arange(4), time=np.arange(4), event_time=np.arange(4), weight=np.array([1.0, 10.0, 1.0, 1.0]),
        correct=np.array([True, False, True, True]), truth=texts(["a"] * 4), predicted=texts(["a", "b", "a", "a"]),
        confidence=np.array([0.96, 0.52, np.nan, 0.9]), feedback=np.array([False, False, False, True]),
    )  # fmt: skip
    made = profile_of(rows)
    weight, right, confidence = made.sums["audit.bins"].reshape(3, AUDIT_BINS)
    assert (weight[19], weight[10], weight.sum()) == (WEIGHT, 10 * WEIGHT, 11 * WEIGHT)
    assert (right[19], right.sum()) == (WEIGHT, WEIGHT)
    assert confidence[10] / WEIGHT == pytest.approx(5.2, abs=1e-4)
    assert made.histograms["audit.confidence"].sum() == 11 * WEIGHT
    assert counted(made, "audit.label") == {"a": 2.0, "b": 10.0}
    assert made.counts["audit.confident"] == 2
    assert [x / UNIT for x in made.sums["audit.confident"].tolist()] == pytest.approx(
        [11, 1, 0.96 + 5.2, 0.96**2 + 10 * 0.52**2], abs=1e-3
    )


def test_versions_are_counted_side_by_side() -> None:
    served = Served(
        offset=np.arange(4), time=np.arange(4), weight=np.array([1.0, 1.0, 2.0, 1.0]),
        version=texts(["1", "2", "1", "2"]), digest=texts(["x", "y", None, "z"]),
        failed=np.array([True, False, False, False]),
    )  # fmt: skip
    made = profile_of(served)
    assert made.counts == {"n": 4, "weight": 5 * WEIGHT, "weight_squared": 7 * WEIGHT, "failed": 1}
    assert counted(made, "version") == {"1": 3.0, "2": 2.0}
    assert counted(made, "digest.1") == {"x": 1.0}
    assert counted(made, "digest.2") == {"y": 1.0, "z": 1.0}
    assert MISSING not in made.categories["version"]
    assert plain(profile_of(*(served.take(np.array([i])) for i in (3, 1, 0, 2)))) == plain(made)


def frame(n: int, **more: Any) -> Decoded:
    base: dict[str, Any] = {"id": [f"r-{i}" for i in range(n)], "time": START + np.arange(n)}
    base |= {"model": ["m"] * n, "version": ["3"] * n}
    return decode_frame(encode_frame(base | more), 3)


def test_versions_of_a_registered_model_in_a_frame_are_counted_side_by_side() -> None:
    decoded = frame(
        6, model=["a", "b", "a", "a", "a", "a"], version=["1", "1", "2", "1", "2", "1"],
        digest=["x", "x", "y", None, "y", "x"], served=["live"] * 5 + ["shadow"], **{"segment.site": ["A"] * 6},
    )  # fmt: skip
    batch = frame_batch(decoded, 3, START, {"a"}.__contains__)
    ((subject, rows, where),) = [group for group in batch.groups if isinstance(group[1], Served)]
    assert isinstance(rows, Served)
    assert (subject, batch.time[where].tolist()) == (Subject("a", ""), rows.time.tolist())
    made = profile_of(rows)
    assert (counted(made, "version"), made.n) == ({"1": 2.0, "2": 2.0}, 4)
    assert (counted(made, "digest.1"), counted(made, "digest.2")) == ({"x": 1.0}, {"y": 2.0})
    assert not [g for g in frame_batch(decoded, 3, START).groups if isinstance(g[1], Served)]


def test_one_version_in_a_frame_is_the_whole_frame() -> None:
    batch = frame_batch(frame(3), 3, START, {"m"}.__contains__)
    ((_, rows, where),) = [group for group in batch.groups if isinstance(group[1], Served)]
    assert isinstance(rows, Served)
    assert (where, counted(profile_of(rows), "version")) == (slice(None), {"3": 3.0})


# -- live and replay -----------------------------------------------------------------------------------------------


def recorded(n: int = 300) -> dict[str, Any]:
    rng = np.random.default_rng(5)
    return {
        "id": [f"e-{i}" for i in range(n)], "time": START + np.arange(n) * 1_000_000, "model": Repeated("m"),
        "version": rng.choice(["1", "2"], n).tolist(), "features.age": rng.choice([30.0, -1.0, 500.0, 3.5], n),
        "features.country": rng.choice(["DE", "??", "NA"], n).tolist(), "value": rng.choice([1.0, 4e6], n),
        "latency_ms": rng.choice([1.0, 80.0], n), "status": rng.choice([200, 500], n).astype(np.int32),
        "digest": rng.choice(["x", "y"], n).tolist(), "segment.site": rng.choice(["A", "B"], n).tolist(),
    }  # fmt: skip


def test_replay_observes_what_the_worker_observes() -> None:
    references = [msgspec.structs.replace(REFERENCE, version=version, window_us=DAY) for version in ("1", "2")]
    value = encode_frame(recorded())
    registry = Registry(window_us=DAY, lateness_us=0)
    for reference in references:
        registry.put(reference)
    live = WindowBook(registry.get, Clock())
    live.add(frame_batch(decode_frame(value, 1), 1, START, registry.describes))
    live.apply(Cut(1, START + 2 * DAY))
    found = {closed.key.subject: closed.profile for closed in live.close() if closed.profile is not None}
    assert {subject[1:] for subject in found} == {
        ("", ""), *((version, site) for version in "12" for site in ("", '{"site":"A"}', '{"site":"B"}')),
    }  # fmt: skip
    everything = found[Subject("m", "")].categories
    assert set(everything) == {"version", "digest.1", "digest.2"}

    engine = Engine(references, Settings(), set())
    with pa.ipc.open_stream(value) as reader:
        engine.take(Step(START, INFERENCE, reader.read_next_batch()))
    book = engine._books[INFERENCE]
    again = {key.subject: window.profile for key, window in book._windows.items()}
    assert {s: plain(p) for s, p in again.items()} == {s: plain(p) for s, p in found.items()}
    engine.finish()
    assert {note.subject.version for note in engine.notes if note.kind == "status"} == {"1", "2"}
