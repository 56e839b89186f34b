"""Profiles: the same integers in whatever order and whatever batches the rows come."""

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.columns import Categories, Embedded, Inferences, Outcomes
from models.profile import (
    MAX_BYTES,
    MAX_CATEGORIES,
    MAX_COUNT,
    MAX_FEATURES,
    MAX_NAME_BYTES,
    MISSING,
    OTHER,
    UNIT,
    WEIGHT,
    Profile,
    short_name,
)
from models.quality import Calibration
from models.reference import EmbeddingReference, NumericFeature, Reference

REFERENCE = Reference(
    "m",
    "1",
    numeric={"age": NumericFeature(edges=(20.0, 40.0, 60.0), shares=(0.25, 0.25, 0.25, 0.25), mean=40.0, sd=20.0)},
    calibration=Calibration(temperature=1.7, atc_threshold=0.6),
    embedding=EmbeddingReference(mean=(0.0, 1.0), sd=(1.0, 2.0), n=100, edges=(0.5, 1.0), shares=(0.3, 0.3, 0.4)),
)


def inferences(n: int, seed: int = 0, **columns: Any) -> Inferences:
    """n rows with every column, broken values among them."""
    rng = np.random.default_rng(seed)
    age = rng.choice([10.0, 25.5, 44.4, 90.0, np.nan, np.inf, -1e300], n)
    scores = rng.dirichlet(np.ones(9), n).astype(np.float32)
    scores[rng.random(n) < 0.2, 0] = rng.choice([np.nan, np.inf, -1.0])
    scores[rng.random(n) < 0.1] = 0.0
    base: dict[str, Any] = {
        "offset": np.arange(n),
        "time": np.arange(n),
        "weight": 1.0 / rng.choice([1.0, 0.5, 0.3, 0.01], n),
        "numeric": {"age": age, "other": rng.normal(size=n) * 10.0 ** rng.integers(-5, 9, n)},
        "missing": {"age": np.isnan(age) & (rng.random(n) < 0.5)},
        "categorical": {"country": names_of(rng.choice(["DE", "FR", ""], n), missing=rng.random(n) < 0.2)},
        "scores": scores,
        "label": names_of(rng.choice(["yes", "no"], n), missing=rng.random(n) < 0.1),
        "value": rng.choice([1.5, np.nan], n),
        "latency_ms": rng.choice([0.1, 3.0, np.nan, 1e9], n),
        "failed": rng.random(n) < 0.1,
        "abstained": rng.random(n) < 0.1,
        "live": rng.random(n) < 0.9,
        "capped": rng.random(n) < 0.1,
    }
    return Inferences(**base | columns)


def names_of(values: Any, missing: Any) -> Categories:
    known, codes = np.unique(values, return_inverse=True)
    return Categories(np.where(missing, -1, codes).astype(np.int32), tuple(known.tolist()))


def embedded(n: int, seed: int) -> Embedded:
    rng = np.random.default_rng(seed)
    return Embedded(
        offset=np.arange(n), time=np.arange(n), weight=1.0 / rng.choice([1.0, 0.05], n),
        embedding=rng.normal(size=(n, 2)).astype(np.float32) * 3,
    )  # fmt: skip


def outcomes(n: int, seed: int) -> Outcomes:
    rng = np.random.default_rng(seed)
    return Outcomes(
        offset=np.arange(n), time=np.arange(n), event_time=np.arange(n), weight=1.0 / rng.choice([1.0, 0.05], n),
        correct=rng.random(n) < 0.7, truth=names_of(rng.choice(["yes", "no"], n), rng.random(n) < 0.2),
        confidence=rng.choice([0.5, 0.91, np.nan], n), feedback=rng.random(n) < 0.3,
    )  # fmt: skip


def profile_of(*columns: Any, reference: Reference = REFERENCE) -> Profile:
    made = Profile()
    for part in columns:
        made.add(part, reference)
    return made


def plain(profile: Profile) -> Any:
    """What the profile says, without what says nothing: empty tables of categories."""
    body = msgspec.msgpack.decode(profile.pack())
    body["categories"] = {name: table for name, table in body["categories"].items() if table}
    return body


# -- order -----------------------------------------------------------------------------------------------------


@settings(max_examples=150, derandomize=True, deadline=None)
@given(st.sampled_from([inferences, embedded, outcomes]), st.integers(1, 40), st.integers(0, 2**32))
def test_splits_and_merges_in_any_order_give_the_same_bits(make: Any, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = make(n, seed)
    whole = profile_of(rows)
    order = rng.permutation(n)
    cuts = np.sort(rng.integers(0, n + 1, rng.integers(0, 6)))
    parts = [profile_of(rows.take(part)) for part in np.split(order, cuts) if len(part)]
    while len(parts) > 1:
        i, j = rng.choice(len(parts), 2, replace=False)
        mine, theirs = Profile.unpack(parts[i].pack()), parts[j]
        parts = [p for k, p in enumerate(parts) if k not in (i, j)] + [mine.merge(theirs)]
    assert plain(parts[0]) == plain(whole)
    row_by_row = profile_of(*(rows.take(np.array([i])) for i in order))
    assert plain(row_by_row) == plain(whole)


@settings(max_examples=40, derandomize=True, deadline=None)
@given(st.integers(0, 2**32))
def test_what_is_kept_of_too_many_categories_does_not_depend_on_the_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = [f"id-{i}" for i in rng.permutation(900)]
    counts = rng.integers(1, 4, len(names))
    parts = [
        Inferences(
            offset=np.arange(k), time=np.arange(k), categorical={"id": Categories(np.full(k, 0, np.int32), (name,))}
        )
        for name, k in zip(names, counts.tolist(), strict=True)
    ]
    halves = [profile_of(*parts[:450]), profile_of(*parts[450:])]
    ascending = profile_of(*(parts[i] for i in np.argsort(names)))
    for merged in (Profile().merge(halves[0]).merge(halves[1]), Profile().merge(halves[1]).merge(halves[0])):
        assert merged.encode() == ascending.encode()
    table = ascending.categories["feature.id"]
    assert len(table) == MAX_CATEGORIES + 1
    assert sum(table.values()) == int(counts.sum()) * WEIGHT
    exact = {name: int(k) * WEIGHT for name, k in zip(names, counts, strict=True)}
    assert all(exact[name] == total for name, total in table.items() if name != OTHER)


def test_what_is_kept_of_too_many_features_does_not_depend_on_the_order() -> None:
    def rows(names: list[str]) -> Inferences:
        return Inferences(offset=np.zeros(2, int), time=np.zeros(2, int), numeric={n: np.ones(2) for n in names})

    names = [f"f{i}" for i in range(MAX_FEATURES + 100)]
    whole = profile_of(rows(names))
    parts = profile_of(*(rows([name]) for name in reversed(names)))
    # The parts are other rows, of one feature each.
    assert whole.categories.pop("filled") == {"features": 2 * WEIGHT}
    assert parts.categories.pop("filled") == {"features": 2 * len(names) * WEIGHT}
    assert whole.encode() | {"counts": {}} == parts.encode() | {"counts": {}}
    assert whole.counts["values_beyond_bound"] == parts.counts["values_beyond_bound"]
    assert len([name for name in whole.histograms if name.startswith("feature.")]) == MAX_FEATURES
    assert whole.counts["values_beyond_bound"] == 100 * 2 * WEIGHT
    sums = profile_of(rows(names[:150])).merge(profile_of(rows(names[150:]))).sums
    assert len([name for name in sums if name.startswith("feature.")]) == MAX_FEATURES


def test_long_names_become_a_beginning_and_a_digest() -> None:
    for character in ("a", "ü", "語", "\U0001f600", "\ud800"):
        long = character * 30_000
        assert len(short_name(long).encode()) <= MAX_NAME_BYTES
        assert short_name(long) == short_name(short_name(long)) != short_name(long + "b")
    assert short_name("x" * MAX_NAME_BYTES) == "x" * MAX_NAME_BYTES


def test_texts_as_features_stay_small_and_merge() -> None:
    texts = tuple(f"{i} " * 6_000 for i in range(400))
    column = Categories(np.arange(400, dtype=np.int32), texts)
    rows = Inferences(offset=np.zeros(400, int), time=np.zeros(400, int), categorical={"text": column})
    whole = profile_of(rows)
    assert len(whole.pack()) < 50_000
    halves = [profile_of(rows.take(slice(start, start + 200))) for start in (0, 200)]
    assert halves[1].merge(halves[0]).encode() == whole.encode()


def test_a_packed_profile_is_bounded() -> None:
    profile = Profile()
    profile.categories = {
        f"feature.{i}": {f"{j:>{MAX_NAME_BYTES}}": WEIGHT for j in range(MAX_CATEGORIES)} | {MISSING: 1, OTHER: WEIGHT}
        for i in range(MAX_FEATURES)
    }
    profile.categories["label"] = dict(profile.categories["feature.0"])
    body = profile.pack()
    assert MAX_BYTES - 40_000 < len(body) <= MAX_BYTES
    again = Profile.unpack(body)
    assert {name: sum(t.values()) for name, t in again.categories.items()} == {
        name: sum(t.values()) for name, t in profile.categories.items()
    }
    reduced = [t for t in again.categories.values() if len(t) == 2]
    assert reduced[0] == {MISSING: 1, OTHER: (MAX_CATEGORIES + 1) * WEIGHT}
    assert again.counts["values_beyond_bound"] == len(reduced) * MAX_CATEGORIES * WEIGHT
    assert again.categories["label"] == profile.categories["label"]
    profile.categories = dict(reversed(profile.categories.items()))
    assert plain(Profile.unpack(profile.pack())) == plain(again)


# -- what is counted ---------------------------------------------------------------------------------------------


def test_a_row_weighs_one_over_its_probability() -> None:
    rows = Inferences(
        offset=np.arange(3), time=np.arange(3), weight=1 / np.array([1.0, 0.5, 0.1]),
        numeric={"age": np.array([10.0, 30.0, 30.0])}, latency_ms=np.array([1.0, 1.0, 1.0]),
    )  # fmt: skip
    made = profile_of(rows)
    assert made.counts == {"n": 3, "weight": 13 * WEIGHT, "weight_squared": 105 * WEIGHT, "answered": 13 * WEIGHT}
    assert made.histograms["feature.age"].tolist() == [WEIGHT, 12 * WEIGHT, 0, 0, 0, 0]
    assert made.histograms["latency_ms"].sum() == 13 * WEIGHT
    first, second = made.sums["feature.age"].tolist()
    assert first / UNIT == pytest.approx(-1.5 + 12 * -0.5)
    assert second / UNIT == pytest.approx(2.25 + 12 * 0.25)


def test_null_nan_and_infinity_stand_apart_from_values() -> None:
    age = np.array([30.0, np.nan, np.nan, np.inf, -np.inf])
    missing = {"age": np.array([False, True, False, False, False])}
    rows = Inferences(offset=np.arange(5), time=np.arange(5), numeric={"age": age}, missing=missing)
    assert (profile_of(rows).histograms["feature.age"] // WEIGHT).tolist() == [0, 1, 0, 0, 1, 3]
    assert profile_of(rows).sums["feature.age"].tolist() == [-UNIT // 2, UNIT // 4]


def test_an_absent_latency_or_value_is_not_a_large_one() -> None:
    rows = Inferences(
        offset=np.arange(2), time=np.arange(2), latency_ms=np.array([np.nan, 2.0]), value=np.array([np.nan, 2.0])
    )
    made = profile_of(rows)
    for name in ("latency_ms", "value"):
        assert made.histograms[name].sum() == WEIGHT
        assert made.histograms[name][-1] == 0


def test_rows_that_are_not_live_are_only_counted() -> None:
    rows = inferences(20, 1, live=np.zeros(20, np.bool_))
    assert profile_of(rows).encode() | {"counts": {}} == Profile().encode()
    assert profile_of(rows).counts == {"not_live": 20}


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf, -0.5, 0.0])
def test_scores_without_meaning_are_unusable(broken: float) -> None:
    scores = np.array([[0.25, 0.75], [broken, broken], [0.5, 0.5]], dtype=np.float32)
    rows = Inferences(
        offset=np.arange(3), time=np.arange(3), scores=scores, failed=np.array([False, False, True]),
        abstained=np.zeros(3, np.bool_),
    )  # fmt: skip
    made = profile_of(rows, reference=msgspec.structs.replace(REFERENCE, calibration=None))
    assert made.counts == {
        "n": 3, "weight": 3 * WEIGHT, "weight_squared": 3 * WEIGHT, "failed": 1, "scores_unusable": 2, "scored": WEIGHT,
        "failed_weight": WEIGHT, "answered": 2 * WEIGHT,
    }  # fmt: skip
    assert made.sums["confidence"].tolist() == [UNIT * 3 // 4, 0]
    assert made.histograms["confidence"].sum() == WEIGHT


@pytest.mark.parametrize(("n", "classes"), [(1, 3), (2, 3), (3, 1)])
def test_scores_that_may_not_be_written_to_stay_as_they_are(n: int, classes: int) -> None:
    """Columns of a frame are views of the record's bytes; numpy does not copy a single row or class by itself."""
    scores = (np.random.default_rng(0).dirichlet(np.ones(classes) * 2, n) / 2).astype(np.float32)
    before = scores.copy()
    scores.flags.writeable = False
    made = profile_of(Inferences(offset=np.arange(n), time=np.arange(n), scores=scores))
    assert made.counts["scored"] == n * WEIGHT
    np.testing.assert_array_equal(scores, before)


def test_labels_that_audit_and_feedback_are_counted_apart() -> None:
    rows = outcomes(4, 0)
    rows.correct, rows.feedback = np.array([True, True, False, True]), np.array([False, True, True, False])
    rows.weight, rows.confidence = np.array([1.0, 1.0, 1.0, 20.0]), np.array([0.5, 0.5, 0.5, np.nan])
    rows.truth = Categories(np.array([0, 0, 0, -1], np.int32), ("yes",))
    made = profile_of(rows)
    assert {k: v for k, v in made.counts.items() if k.startswith("audit")} == {
        "audit.n": 2, "audit.n_correct": 2, "audit.weight": 21 * WEIGHT, "audit.weight_correct": 21 * WEIGHT,
        "audit.weight_squared": 401 * WEIGHT, "audit.confident": 1, "audit.expanded": 2 * WEIGHT,
    }  # fmt: skip
    assert (made.counts["feedback.n"], made.counts["feedback.n_correct"]) == (2, 1)
    assert made.categories["truth"] == {"yes": WEIGHT, MISSING: 20 * WEIGHT}


def test_weights_beyond_any_table_saturate() -> None:
    rows = outcomes(300, 0)
    rows.weight, rows.feedback = np.full(300, 1e6), np.zeros(300, np.bool_)
    profile = profile_of(rows)
    again = Profile.unpack(profile.merge(profile_of(rows)).pack())
    assert (again.counts["audit.weight_squared"], again.counts["saturated"]) == (MAX_COUNT, 1)


def test_embeddings_of_another_size_or_without_a_reference_are_counted() -> None:
    rows = embedded(3, 0)
    rows.embedding = np.ones((3, 5), np.float32)
    for reference in (REFERENCE, Reference("m", "1")):
        made = profile_of(rows, reference=reference)
        assert made.counts["embedding_without_reference"] == made.counts["n_input"] == 3
        assert not made.sums


def test_nothing_is_nothing() -> None:
    nothing = Inferences(offset=np.zeros(0, int), time=np.zeros(0, int), numeric={"age": np.zeros(0)})
    assert profile_of(nothing).encode() == Profile().encode()
    assert profile_of(embedded(0, 0)).counts == {}
    assert profile_of(outcomes(0, 0)).counts == {}


# -- other references, other versions ------------------------------------------------------------------------------


def test_a_reference_that_changes_in_the_middle_is_counted_and_raises_nothing() -> None:
    finer = NumericFeature(edges=tuple(range(50)), mean=1.0)
    changed = msgspec.structs.replace(REFERENCE, numeric={"age": finer}, calibration=None)
    rows = inferences(30, 3)
    before, after = profile_of(rows), profile_of(rows, reference=changed)
    both = Profile.unpack(before.pack())
    both.add(rows, changed)
    assert both.n == 2 * before.n
    merged = before.merge(after)
    assert merged.counts["grid_changed"] == 1
    assert len(merged.histograms["feature.age"]) == len(REFERENCE.numeric["age"].edges) + 3


def test_a_profile_of_another_format_is_refused() -> None:
    body = profile_of(inferences(3)).encode() | {"format": 99}
    with pytest.raises(ValueError, match="profile format 99 is not 1"):
        Profile.decode(body)


def test_ids_that_come_again_are_measured_within_a_window() -> None:
    hashes = np.random.default_rng(3).integers(0, 1 << 63, 64_000, dtype=np.uint64) * np.uint64(2)
    profile = Profile()
    for part in (hashes, hashes[:16_000]):
        rows = Inferences(offset=np.zeros(len(part), np.int64), time=np.zeros(len(part), np.int64), id_hash=part)
        profile.add(rows, Reference(model="m", version="1"))
    assert profile.counts["n"] == 80_000
    assert profile.counts["ids_repeated"] / profile.counts["ids_sampled"] == pytest.approx(0.2, abs=0.03)
