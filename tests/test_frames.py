"""Frames: what the client wrote is what is read; whatever else comes is refused with a clear error, never a crash."""

import contextlib
import json
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from bestbefore_client import Repeated, encode_frame, u64
from hypothesis import given, settings
from hypothesis import strategies as st

from models.columns import Categories, Subject
from models.profile import Profile
from models.reference import Reference
from streams.batches import frame_batch, kept_of_frame
from streams.errors import Invalid, Undecodable
from streams.frame_size import MAX_COLUMNS, MAX_ROWS
from streams.frames import Decoded, decode_frame, frame_bytes

START = 1_795_168_800_123_000


def columns(n: int = 2, **more: Any) -> dict[str, Any]:
    """The required columns of n events as pyarrow arrays; None removes one."""
    base = {
        "id": pa.array([f"r-{i}" for i in range(n)]),
        "time": pa.array([START + i for i in range(n)], pa.timestamp("us", "UTC")),
        "model": pa.array(["digits"] * n),
        "version": pa.array(["3"] * n),
    }
    return {name: column for name, column in (base | more).items() if column is not None}


def stream(*batches: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return bytes(sink.getvalue())


def frame(n: int = 2, classes: Any = None, **more: Any) -> bytes:
    batch = pa.record_batch(columns(n, **more))
    return stream(batch if classes is None else batch.replace_schema_metadata({"classes": classes}))


def texts(column: Categories | None) -> list[str | None]:
    assert column is not None
    return [column.values[code] if code >= 0 else None for code in column.codes.tolist()]


# -- what the client writes -----------------------------------------------------------------------------------

NUMBERS = st.floats(width=64, allow_nan=True) | st.none()
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)
PIECES = {
    "features.age": NUMBERS,
    "features.country": TEXTS | st.none(),
    "features.flag": st.booleans(),
    "latency_ms": st.floats(0, 2**20, width=32) | st.none(),
    "value": NUMBERS,
    "label": TEXTS | st.none(),
    "abstained": st.booleans(),
    "status": st.sampled_from([200, 404, 500]),
    "sampling": st.sampled_from([1.0, 0.5, 1e-4]),
    "segment.site": TEXTS,
}


@st.composite
def written(draw: st.DrawFn) -> dict[str, Any]:
    n = draw(st.integers(1, 6))
    lists = {name: st.lists(each, min_size=n, max_size=n) for name, each in PIECES.items()}
    found: dict[str, Any] = draw(st.fixed_dictionaries({}, optional=lists))
    found["id"] = draw(st.lists(TEXTS, min_size=n, max_size=n))
    found["time"] = draw(st.lists(st.integers(-(1 << 60), 1 << 60), min_size=n, max_size=n))
    for name in ("model", "version"):
        found[name] = Repeated(draw(TEXTS)) if draw(st.booleans()) else draw(st.lists(TEXTS, min_size=n, max_size=n))
    if draw(st.booleans()):
        scores = draw(st.lists(st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3), min_size=n, max_size=n))
        found["scores"] = np.array(scores, dtype=np.float32)
    return found


@settings(max_examples=150, derandomize=True, deadline=None)
@given(written())
def test_what_the_client_writes_is_what_is_read(source: dict[str, Any]) -> None:
    decoded = decode_frame(encode_frame(source), 7)
    rows, n = decoded.rows, len(source["id"])
    assert rows.time.tolist() == list(source["time"])
    assert rows.offset.tolist() == [7] * n
    assert rows.id_hash is not None
    assert rows.id_hash.tolist() == [u64(i) for i in source["id"]]
    check_values(rows, source, n)
    weights = [1.0] * n if rows.weight is None else rows.weight.tolist()
    assert weights == [1 / p for p in source.get("sampling", [1.0] * n)]
    check_subjects(decoded, source, n)
    kept = sorted((p.inference_id, p.model, p.version, p.time_us) for p in kept_of_frame(decoded, 1.0))
    models, versions = (spread(source[name], n) for name in ("model", "version"))
    assert kept == sorted(zip(source["id"], models, versions, source["time"], strict=True))
    Profile().add(rows, Reference("m", "1"))


def spread(column: Any, n: int) -> list[str]:
    return [column.value] * n if isinstance(column, Repeated) else list(column)


def check_values(rows: Any, source: dict[str, Any], n: int) -> None:
    for name, found in (("latency_ms", rows.latency_ms), ("value", rows.value)):
        if name in source:
            expected = [np.nan if v is None else v for v in source[name]]
            np.testing.assert_array_equal(found, expected)
        else:
            assert found is None
    for name in ("features.age", "features.flag"):
        short = name.removeprefix("features.")
        if name in source:
            given = source[name]
            np.testing.assert_array_equal(rows.numeric[short], [np.nan if v is None else v for v in given])
            assert rows.missing.get(short, np.zeros(n, bool)).tolist() == [v is None for v in given]
    if set(source.get("features.country", [None])) != {None}:
        assert texts(rows.categorical["country"]) == source["features.country"]
    if set(source.get("label", [None])) != {None}:
        assert texts(rows.label) == source["label"]
    if "scores" in source:
        np.testing.assert_array_equal(rows.scores, source["scores"])


def check_subjects(decoded: Decoded, source: dict[str, Any], n: int) -> None:
    expected: Counter[Subject] = Counter()
    models, versions = (spread(source[name], n) for name in ("model", "version"))
    sites = source.get("segment.site", [None] * n)
    for model, version, site in zip(models, versions, sites, strict=True):
        key = json.dumps({"site": site}, separators=(",", ":"), ensure_ascii=False)
        for segment in {"", "" if site is None else key}:
            expected[Subject(model, version, segment)] += 1
    batch = frame_batch(decoded, 7, START)
    assert {subject: len(rows) for subject, rows, _ in batch.groups} == dict(expected)
    assert all(rows.time.tolist() == batch.time[where].tolist() for _, rows, where in batch.groups)


# -- what others write ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_timestamps_of_any_unit_and_zone_become_microseconds(unit: str) -> None:
    time = pa.array([1_795_168_800, 0], pa.timestamp("s", "Europe/Berlin")).cast(pa.timestamp(unit, "Europe/Berlin"))
    assert decode_frame(frame(time=time), 0).rows.time.tolist() == [1_795_168_800_000_000, 0]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_text_may_come_in_any_arrow_layout(kind: pa.DataType) -> None:
    names = pa.array(["a", "b", "a"]).cast(kind)
    decoded = decode_frame(frame(3, id=names, model=names, **{"features.c": names, "label": names}), 0)
    assert [s.model for s, _ in decoded.subjects] == ["a", "b"]
    assert texts(decoded.rows.categorical["c"]) == texts(decoded.rows.label) == ["a", "b", "a"]
    assert decoded.rows.id_hash is not None
    assert decoded.rows.id_hash.tolist() == [u64("a"), u64("b"), u64("a")]


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.bool_()])
def test_numbers_may_come_in_any_width(kind: pa.DataType) -> None:
    values = pa.array([1, None, 0]).cast(pa.float32() if kind == pa.float16() else kind).cast(kind)
    rows = decode_frame(frame(3, **{"features.x": values}), 0).rows
    np.testing.assert_array_equal(rows.numeric["x"], [1.0, np.nan, 0.0])
    assert rows.missing["x"].tolist() == [False, True, False]


def test_rows_without_a_required_value_are_set_apart() -> None:
    decoded = decode_frame(
        frame(
            4, id=pa.array(["a", None, "c", "d"]), model=pa.array(["m", "m", None, "m"]), value=pa.array([1.0, 2, 3, 4])
        ),
        3,
    )
    assert decoded.rows.value is not None
    assert decoded.rows.value.tolist() == [1.0, 4.0]
    assert len(decoded.rows.offset) == 2
    assert decoded.rejected is not None
    again = pa.ipc.open_stream(frame_bytes(decoded.rejected)).read_all()
    assert again["value"].to_pylist() == [2.0, 3.0]
    whole = decode_frame(frame(2, version=pa.array([None, None], pa.string())), 0)
    assert (len(whole.rows), whole.subjects) == (0, [])


@pytest.mark.parametrize("name", ["id", "model", "version"])
def test_a_null_among_the_categories_is_a_missing_value(name: str) -> None:
    hidden = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0]), pa.array(["a", None]))
    assert hidden.null_count == 0
    more = {name: hidden, "label": hidden, "segment.site": hidden, "value": pa.array([1.0, 2.0, 3.0])}
    decoded = decode_frame(frame(3, classes=b"[]", **more), 0)
    assert decoded.rows.value is not None
    assert decoded.rows.value.tolist() == [1.0, 3.0]
    assert decoded.rejected is not None
    assert decoded.rejected["value"].to_pylist() == [2.0]
    assert decoded.table[name].to_pylist() == ["a", "a"]
    assert all(kept.inference_id for kept in kept_of_frame(decoded, 1.0))
    beside = decode_frame(frame(3, label=hidden, **{"segment.site": hidden}), 0)
    assert texts(beside.rows.label) == ["a", None, "a"]
    assert {s.segment for s, _ in beside.subjects} == {"", '{"site":"a"}'}


def test_a_frame_without_rows_is_read() -> None:
    batch = pa.record_batch(columns(2, **{"features.x": pa.array([1.0, 2.0])})).slice(0, 0)
    decoded = decode_frame(stream(batch), 5)
    assert (len(decoded.rows), decoded.subjects, kept_of_frame(decoded, 1.0)) == (0, [], [])
    assert frame_batch(decoded, 5, START).last == 5


def test_slices_of_a_larger_table_are_read_where_they_begin() -> None:
    scores = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(12, dtype=np.float32)), 2)
    batch = pa.record_batch(columns(6, scores=scores)).slice(2, 3)
    decoded = decode_frame(stream(batch), 0)
    assert decoded.rows.scores is not None
    assert decoded.rows.scores.tolist() == [[4, 5], [6, 7], [8, 9]]
    assert decoded.rows.id_hash is not None
    assert decoded.rows.id_hash.tolist() == [u64(f"r-{i}") for i in (2, 3, 4)]


def test_null_scores_are_failures_unless_the_model_abstained() -> None:
    scores = pa.array([[0.5, 0.5], None, None], pa.list_(pa.float32(), 2))
    rows = decode_frame(frame(3, scores=scores, abstained=pa.array([False, True, None])), 0).rows
    assert rows.failed is not None
    assert rows.failed.tolist() == [False, False, True]
    assert texts(rows.label) == ["0", None, None]


def test_only_live_traffic_counts_as_live() -> None:
    rows = decode_frame(frame(4, served=pa.array(["live", "shadow", None, "holdout"])), 0).rows
    assert rows.live is not None
    assert rows.live.tolist() == [True, False, True, False]


def test_a_column_of_nulls_is_missing_everywhere() -> None:
    rows = decode_frame(frame(2, **{"features.x": pa.nulls(2)}), 0).rows
    assert texts(rows.categorical["x"]) == [None, None]


def test_ids_stay_in_the_frame_until_they_are_asked_for() -> None:
    for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())):
        rows = decode_frame(frame(4, id=pa.array(["a", "b", "c", "d"]).cast(kind)), 0).rows
        assert rows.ids is not None
        assert rows.ids.texts(np.array([2, 0])) == ["c", "a"]
        assert rows.ids.take(np.array([3, 1])).take(slice(1, 2)).texts(np.array([0])) == ["b"]


def test_status_digest_and_embedding_are_facts_of_a_row() -> None:
    vectors = pa.array([[0.5], None, [1.0], [1.0], [1.0], [1.0]], pa.list_(pa.float32(), 1))
    status = pa.array([200, 302, None, 404, 503, 7])
    rows = decode_frame(
        frame(6, status=status, digest=pa.array(["d", None, "d", "e", "d", "d"]), embedding=vectors), 0
    ).rows
    assert texts(rows.status) == ["2xx", "3xx", None, "4xx", "5xx", "__other__"]
    assert texts(rows.digest) == ["d", None, "d", "e", "d", "d"]
    assert rows.embedded is not None
    assert rows.embedded.tolist() == [True, False, True, True, True, True]
    usual = decode_frame(frame(2, status=pa.array([200, 204]), digest=pa.nulls(2)), 0).rows
    assert usual.status is not None
    assert usual.status.values == ("2xx",)
    assert usual.digest is None
    assert usual.embedded is None
    with pytest.raises(Invalid, match="column 'digest' must be a string"):
        decode_frame(frame(2, digest=pa.array([1, 2])), 0)


# -- what is refused -------------------------------------------------------------------------------------------

TWO_SCORES = pa.array([[0.5, 0.5]] * 2, pa.list_(pa.float32(), 2))
INVALID: list[tuple[dict[str, Any], str]] = [
    *(({name: None}, f"required column '{name}' is absent") for name in ("id", "time", "model", "version")),
    ({"id": pa.array([1, 2])}, "column 'id' must be a string, is int64"),
    ({"model": pa.array([b"a", b"b"])}, "column 'model' must be a string, is binary"),
    ({"time": pa.array(["a", "b"])}, "column 'time' must be a timestamp with time zone, is string"),
    ({"time": pa.array([START, START])}, "column 'time' must be a timestamp"),
    ({"time": pa.array([START, START], pa.timestamp("us"))}, "no time zone"),
    ({"id": pa.array(["x" * 900, "b"])}, "more than 200 characters"),
    ({"version": pa.array(["a\0", "b"])}, "NUL"),
    *(
        ({name: pa.array(["", "b"])}, f"column '{name}' holds a text that is empty")
        for name in ("id", "model", "version")
    ),
    ({"id": pa.array(["", "b"]).dictionary_encode()}, "column 'id' holds a text that is empty"),
    ({"segment.site": pa.array(["A", "x" * 8000])}, "8011 bytes as JSON, at most 400"),
    ({"segment.site": pa.array(["A", "x" * 201])}, "more than 200 characters"),
    ({"sampling": pa.array([1e-6, 1.0])}, "probability outside"),
    ({"sampling": pa.array([0.5, 0.0])}, "probability outside"),
    ({"sampling": pa.array([1.5, 1.0])}, "probability outside"),
    ({"sampling": pa.array([-1.0, np.inf])}, "probability outside"),
    ({"sampling": pa.array(["a", "b"])}, "column 'sampling' must hold numbers, is string"),
    ({"latency_ms": pa.array(["a", "b"])}, "column 'latency_ms' must hold numbers"),
    ({"value": pa.array([[1], [2]])}, "column 'value' must hold numbers"),
    ({"status": pa.array(["200", "404"])}, "column 'status' must hold numbers"),
    ({"abstained": pa.array([0, 1])}, "column 'abstained' must be boolean"),
    ({"served": pa.array([1, 2])}, "column 'served' must be a string"),
    ({"label": pa.array([1, 2])}, "column 'label' must be a string"),
    ({"scores": pa.array([0.5, 0.5])}, "column 'scores' must be a fixed-size list of floats"),
    ({"scores": pa.array([[0.5], [0.5]])}, "column 'scores' must be a fixed-size list of floats"),
    ({"features.x": pa.array([[1], [2]])}, "column 'features.x' must be a string, is list"),
    ({"segment.site": pa.array([1, 2])}, "column 'segment.site' must be a string"),
    ({"asof": pa.array([1, 2], pa.timestamp("ns"))}, "column 'asof' must be text .objects as JSON. or numbers"),
    ({"cost": pa.array([b"a", b"b"])}, "column 'cost' must be text"),
    ({f"segment.{i}": pa.array(["a", "b"]) for i in range(9)}, "at most 8 segment keys"),
    ({"scores": TWO_SCORES, "classes": b'["a", "b", "c"]'}, "3 class names for 2 scores"),
    ({"scores": TWO_SCORES, "classes": b"{"}, "must be a JSON list of names"),
    ({"scores": TWO_SCORES, "classes": b"7"}, "must be a JSON list of names"),
    ({"scores": TWO_SCORES, "classes": b"[" * 100_000}, "must be a JSON list of names"),
]


@pytest.mark.parametrize(("more", "message"), INVALID)
def test_a_column_that_is_wrong_is_named(more: dict[str, Any], message: str) -> None:
    with pytest.raises(Invalid, match=message):
        decode_frame(frame(**more), 0)


def test_two_columns_of_one_name_are_refused() -> None:
    arrays = [*columns().values(), pa.array(["a", "b"])]
    batch = pa.record_batch(arrays, names=[*columns(), "id"])
    with pytest.raises(Invalid, match="two columns have the same name"):
        decode_frame(stream(batch), 0)


def test_too_many_rows_or_columns_are_refused() -> None:
    for batch in (frame(MAX_ROWS + 1), frame(1, **{f"features.{i}": pa.array([1.0]) for i in range(MAX_COLUMNS)})):
        with pytest.raises(Undecodable, match="send smaller frames"):
            decode_frame(batch, 0)


@pytest.mark.parametrize("name", ["id", "model", "features.x", "label", "unread"])
@pytest.mark.parametrize("wrong", [[0, 4, 2], [0, 4, 10_000], [-8, 0, 2]])
def test_offsets_that_point_elsewhere_are_refused(name: str, wrong: list[int]) -> None:
    for kind, dtype in ((pa.string(), np.int32), (pa.large_string(), np.int64)):
        sound = frame(**{name: pa.array(["abcd", "e"], kind)})
        place = np.array([0, 4, 5], dtype).tobytes()
        assert sound.count(place) == 1
        with pytest.raises(Undecodable, match="not an Arrow IPC stream with sound columns"):
            decode_frame(sound.replace(place, np.array(wrong, dtype).tobytes()), 0)


def test_text_that_is_not_utf8_and_codes_without_a_category_are_refused() -> None:
    latin = pa.array([b"\xe4", b"b"]).view(pa.string())
    wild = pa.DictionaryArray.from_arrays(pa.array([0, 9], pa.int8()), pa.array(["a"]), safe=False)
    for column in (latin, wild):
        with pytest.raises(Undecodable, match="not an Arrow IPC stream with sound columns"):
            decode_frame(frame(model=column), 0)


@pytest.mark.parametrize("value", [b"", b"garbage", b"\xff" * 4096, b'{"id": "json"}', b"ARROW1\0\0"])
def test_what_is_no_arrow_stream_is_undecodable(value: bytes) -> None:
    with pytest.raises(Undecodable):
        decode_frame(value, 0)


def test_none_or_two_batches_are_refused() -> None:
    batch = pa.record_batch(columns())
    with pytest.raises(Undecodable, match="one record batch, this one has 2"):
        decode_frame(stream(batch, batch), 0)
    sink = pa.BufferOutputStream()
    pa.ipc.new_stream(sink, batch.schema).close()
    with pytest.raises(Undecodable, match="one record batch, this one has 0"):
        decode_frame(bytes(sink.getvalue()), 0)


def full_frame() -> bytes:
    names = pa.array(["a", "b", None, "c"] * 5)
    return frame(
        20, classes=b'["x", "y"]', scores=pa.array([[0.5, 0.5]] * 20, pa.list_(pa.float32(), 2)), label=names,
        sampling=pa.array([0.5] * 20), served=names, abstained=pa.array([False] * 20), status=pa.array([200] * 20),
        **{"features.x": pa.array([1.0, None] * 10), "features.c": names.dictionary_encode(), "segment.s": names},
    )  # fmt: skip


def test_truncated_frames_are_undecodable() -> None:
    whole = full_frame()
    for size in range(0, len(whole) - 8, 37):
        with pytest.raises(Undecodable):
            decode_frame(whole[:size], 0)


def test_damaged_frames_are_refused_or_read_but_nothing_else_happens() -> None:
    """500 frames with random bytes changed: an error of ours, or columns that the next step can work with."""
    whole, rng, read = full_frame(), np.random.default_rng(20), 0
    for _ in range(500):
        damaged = bytearray(whole)
        for at in rng.integers(0, len(damaged), rng.integers(1, 6)):
            damaged[at] = int(rng.integers(0, 256))
        with contextlib.suppress(Undecodable, Invalid):
            decoded = decode_frame(bytes(damaged), 0)
            for _, rows, _ in frame_batch(decoded, 0, START).groups:
                Profile().add(rows, Reference("m", "1"))
            kept_of_frame(decoded, 1.0)
            read += 1
    assert 50 < read < 450
