"""What the client writes and chooses: frames as pyarrow reads them, and the sampling by id."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from bestbefore_client import Repeated, Strings, encode_frame, frame, sampled, sampled_many, u64, u64_many, unit
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, chi2_contingency

BASE = {"model": Repeated("digits"), "version": Repeated("3")}


def read(data: bytes) -> pa.Table:
    with pa.ipc.open_stream(data) as reader:
        batches = list(reader)
    assert len(batches) == 1
    table = pa.Table.from_batches(batches)
    table.validate(full=True)
    return table


# --- sampling


def numbered(prefix: str, n: int) -> Strings:
    return Strings.of([f"{prefix}{i}" for i in range(1, n + 1)])


def hashes(ids: Strings) -> Any:
    return u64_many(ids.data, ids.offsets)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", 0), ("r-81", 0x3D0AB24FF202A778), ("é", None), ("x" * 200, None)],
)
def test_the_hash_is_the_documented_one(text: str, expected: int | None) -> None:
    data = text.encode()
    h = len(data) * 0x9E3779B97F4A7C15 % 2**64
    data += bytes(-len(data) % 8)
    for i in range(0, len(data), 8):
        h = (h ^ int.from_bytes(data[i : i + 8], "little")) * 0xFF51AFD7ED558CCD % 2**64
        h ^= h >> 32
    h ^= h >> 33
    h = h * 0xC4CEB9FE1A85EC53 % 2**64
    h ^= h >> 33
    assert u64(text) == h
    assert expected in (None, h)
    assert unit(text) == h / 2**64


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=200)))
def test_many_hashes_equal_single_hashes(ids: list[str]) -> None:
    laid = Strings.of(ids)
    assert hashes(laid).tolist() == [u64(i) for i in ids]


@given(st.lists(st.text("abcé", min_size=3, max_size=3), min_size=2), st.floats(0, 1))
def test_many_decisions_equal_single_decisions(ids: list[str], rate: float) -> None:
    laid = Strings.of(ids)[1:]
    assert hashes(laid).tolist() == [u64(i) for i in ids[1:]]
    assert sampled_many(laid.data, laid.offsets, rate).tolist() == [sampled(i, rate) for i in ids[1:]]


def test_rates_at_their_ends() -> None:
    ids = numbered("r-", 1000)
    assert sampled_many(ids.data, ids.offsets, 1.0).all()
    assert not sampled_many(ids.data, ids.offsets, 0.0).any()
    assert sampled("r-1", 1.0)
    assert not sampled("r-1", 0.0)


@pytest.mark.parametrize("prefix", ["r-", "", "request:", "a-prefix-longer-than-two-words-"])
@pytest.mark.parametrize("shift", [0, 32, 56])
def test_sequential_ids_hash_uniformly(prefix: str, shift: int) -> None:
    counts = np.bincount((hashes(numbered(prefix, 100_000)) >> np.uint64(shift)).astype(np.int64) & 255, minlength=256)
    statistic = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
    assert 1e-4 < chi2.sf(statistic, 255) < 1 - 1e-4


def test_equal_numbers_under_two_prefixes_are_sampled_independently() -> None:
    left, right = ((hashes(numbered(p, 100_000)) >> np.uint64(60)).astype(np.int64) for p in ("r-", "s-"))
    table = np.bincount(left * 16 + right, minlength=256).reshape(16, 16)
    assert chi2_contingency(table).pvalue > 1e-4


# --- frames


def test_a_frame_has_the_types_of_the_format() -> None:
    n = 3
    text = {name: ["{}", None, "x"] for name in frame.RESERVED}
    scores = np.array([[0.25, 0.75], [1, 0], [0.5, 0.5]])
    data = encode_frame(
        {
            "id": ["r-1", "ü", "日本"],
            "time": np.array([1, 2, 1_795_168_800_123_456]),
            **BASE,
            "segment.site": ["A", "B", "A"],
            "features.age": np.array([41.0, np.nan, 3.0]),
            "features.small": np.zeros(n, np.float32),
            "features.count": [1, None, 3],
            "features.new": [True, None, False],
            "features.country": ["DE", None, "FR"],
            "scores": scores,
            "label": np.array([7, 1, 2]),
            "value": [1.5, None, 2.5],
            "latency_ms": [3.2, 1, None],
            "status": [200, 500, 200],
            "abstained": np.array([False, True, False]),
            "sampling": np.full(n, 0.5),
            "embedding": np.ones((n, 4)),
            "digest": Repeated("sha256:0"),
            **text,
        },
        classes=["no", "yes"],
    )
    table = read(data)
    types = {field.name: field.type for field in table.schema}
    vector = {"scores": pa.list_(pa.float32(), 2), "embedding": pa.list_(pa.float32(), 4)}
    assert types == {
        **dict.fromkeys(["id", "model", "version", "segment.site", "features.country", "label", "digest"], pa.string()),
        **dict.fromkeys(frame.RESERVED, pa.string()),
        **dict.fromkeys(["features.age", "features.count", "value", "sampling"], pa.float64()),
        **dict.fromkeys(["features.new", "abstained"], pa.bool_()),
        **dict.fromkeys(["features.small", "latency_ms"], pa.float32()),
        **vector,
        "time": pa.timestamp("us", "UTC"),
        "status": pa.int32(),
    }
    assert json.loads(table.schema.metadata[b"classes"]) == ["no", "yes"]
    assert table["id"].to_pylist() == ["r-1", "ü", "日本"]
    assert table["time"].cast(pa.int64()).to_pylist() == [1, 2, 1_795_168_800_123_456]
    assert table["version"].to_pylist() == ["3"] * n
    assert table["features.age"].null_count == 0
    assert table["features.count"].to_pylist() == [1, None, 3]
    assert table["features.new"].to_pylist() == [True, None, False]
    assert table["features.country"].to_pylist() == ["DE", None, "FR"]
    assert table["label"].to_pylist() == ["7", "1", "2"]
    assert table["status"].to_pylist() == [200, 500, 200]
    assert table["scores"].to_pylist() == scores.tolist()
    assert table["shadow"].to_pylist() == ["{}", None, "x"]


def test_masked_arrays_views_and_mixed_values() -> None:
    table = read(
        encode_frame(
            {
                "id": Strings.of(["a", "b", "c"])[1:],
                "time": np.arange(4)[::2],
                **BASE,
                "features.masked": np.ma.array([1.0, 2.0], mask=[True, False]),
                "features.strided": np.arange(8.0)[::4],
                "features.mixed": [1.5, "x"],
                "features.unknown": [None, None],
                "features.numpy": [np.float32(0.5), np.int64(2)],
                "features.text": np.array(["é", "long"]),
                "scores": np.arange(6.0).reshape(3, 2).T,
            }
        )
    )
    assert table["id"].to_pylist() == ["b", "c"]
    assert table["features.masked"].to_pylist() == [None, 2.0]
    assert table["features.strided"].to_pylist() == [0.0, 4.0]
    assert table["features.mixed"].to_pylist() == ["1.5", "x"]
    assert table["features.unknown"].to_pylist() == [None, None]
    assert table["features.numpy"].to_pylist() == [0.5, 2.0]
    assert table["features.text"].to_pylist() == ["é", "long"]
    assert table["scores"].to_pylist() == [[0.0, 2.0, 4.0], [1.0, 3.0, 5.0]]
    assert json.loads(table.schema.metadata[b"classes"]) == ["0", "1", "2"]


def test_an_empty_frame_is_a_frame() -> None:
    assert read(encode_frame({"id": [], "time": np.zeros(0, np.int64), **BASE, "features.x": []})).num_rows == 0


@pytest.mark.parametrize(
    ("columns", "error", "told"),
    [
        ({"time": [1, 2]}, ValueError, "'time'"),
        ({"featurse.x": [1]}, ValueError, "'featurse.x'"),
        ({"features.x": [[1]]}, TypeError, "'features.x'"),
        ({"features.x": np.array([1j])}, TypeError, "'features.x'"),
        ({"features.x": np.zeros((1, 2))}, ValueError, "'features.x'"),
        ({"label": [{}]}, TypeError, "'label'"),
        ({"scores": np.zeros(1)}, ValueError, "'scores'"),
        ({"segment.site": ["\ud800"]}, UnicodeEncodeError, "'segment.site'"),
        ({"status": [2**40]}, OverflowError, "'status'"),
        ({"id": Repeated("x")}, ValueError, "one id per row"),
    ],
)
def test_a_column_that_does_not_fit_is_named(columns: dict[str, Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        encode_frame({"id": ["a"], "time": [0], **BASE, **columns})


def test_class_names_must_match_the_scores() -> None:
    with pytest.raises(ValueError, match="1 class names for 2 scores"):
        encode_frame({"id": ["a"], "time": [0], **BASE, "scores": np.zeros((1, 2))}, classes=["no"])
