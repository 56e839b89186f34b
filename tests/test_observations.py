"""What a profile observes of inference events: domains, stand-ins, wide values, filled fields, outputs, evidence."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.profile import MAX_FEATURES, SAMPLES, WEIGHT, Profile, moments, value_moments
from models.reference import NumericFeature, Reference
from tests.profile_rig import AGE, REFERENCE, counted, mixed, plain, profile_of, rows_of, texts

# -- order -----------------------------------------------------------------------------------------------------


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.integers(1, 60), st.integers(0, 2**32))
def test_observations_do_not_depend_on_batches_or_partitions(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = mixed(n, seed)
    whole = plain(profile_of(rows))
    order = rng.permutation(n)
    parts = [profile_of(rows.take(part)) for part in np.array_split(order, 4) if len(part)]
    merged = Profile()
    for part in parts:
        merged = Profile.unpack(part.pack()).merge(merged)
    assert plain(merged) == whole
    assert plain(profile_of(*(rows.take(np.array([i])) for i in order))) == whole


def test_a_profile_packed_before_there_were_samples_is_read() -> None:
    body = profile_of(mixed(20, 1)).encode()
    del body["samples"]
    assert Profile.decode(body).samples == {}


# -- domains -----------------------------------------------------------------------------------------------------


def test_values_out_of_range_or_of_another_type_are_counted_per_kind() -> None:
    age = np.array([0.0, 120.0, -0.5, 121.0, 30.5, np.nan, np.inf])
    made = profile_of(rows_of(7, numeric={"age": age}, missing={"age": np.isnan(age)}, weight=np.full(7, 2.0)))
    assert counted(made, "violations.age") == {"range": 4.0, "type": 4.0}
    assert made.histograms["feature.age"][-1] == 2 * WEIGHT  # infinity has its own bin


def test_the_mean_that_stands_in_for_a_null_violates_nothing() -> None:
    outside = msgspec.structs.replace(AGE, mean=-1.0, high=50.0, low=10.0)
    rows = rows_of(3, numeric={"age": np.array([np.nan, 20.0, 30.0])}, missing={"age": np.array([True, False, False])})
    made = profile_of(rows, reference=Reference("m", "1", numeric={"age": outside}))
    assert not {name for name in made.categories if name != "filled"}


def test_texts_outside_of_the_set_or_too_long_are_counted() -> None:
    made = profile_of(rows_of(5, categorical={"country": texts(["DE", "de", "GER", None, "GER"])}))
    assert counted(made, "violations.country") == {"category": 3.0, "length": 2.0}


def test_text_where_numbers_were_declared_and_the_reverse_are_of_another_type() -> None:
    rows = rows_of(
        3, categorical={"age": texts(["old", None, "9"])}, numeric={"country": np.array([1.0, np.nan, 2.0])},
        missing={"country": np.array([False, True, False])},
    )  # fmt: skip
    made = profile_of(rows)
    assert counted(made, "violations.age") == counted(made, "violations.country") == {"type": 2.0}


# -- stand-ins ---------------------------------------------------------------------------------------------------


def test_exact_matches_with_usual_and_declared_stand_ins_are_counted() -> None:
    age = np.array([-1.0, -1.0, -1.5, 0.0, 999.0, -7.0, 30.0])
    assert counted(profile_of(rows_of(7, numeric={"age": age})), "special.age") == {
        "-1": 2.0, "0": 1.0, "999": 1.0, "-7": 1.0,
    }  # fmt: skip
    broken = Reference("m", "1", numeric={"age": NumericFeature(special={"-99.9": 0.1})})
    made = profile_of(rows_of(2, numeric={"age": np.array([-99.9, 0.5])}), reference=broken)
    assert counted(made, "special.age") == {"-99.9": 1.0}


def test_texts_that_stand_for_nothing_are_counted() -> None:
    country = texts(["DE", "", "unknown", "n. a.", "unknown", None])
    made = profile_of(rows_of(6, categorical={"country": country, "other": texts(["n. a."] * 6)}))
    assert counted(made, "special.country") == {"": 1.0, "unknown": 2.0, "n. a.": 1.0}
    assert "special.other" not in made.categories


def test_what_is_observed_of_a_feature_beyond_the_bound_goes_with_it() -> None:
    names = [f"f{i}" for i in range(MAX_FEATURES + 50)]
    made = profile_of(rows_of(3, numeric={name: np.array([-1.0, 0.0, 1e9]) for name in names}))
    kept = {name.removeprefix("feature.") for name in made.histograms if name.startswith("feature.")}
    assert len(kept) == MAX_FEATURES
    for table, prefix in ((made.categories, "special."), (made.samples, "special."), (made.sums, "wide.")):
        assert {name.removeprefix(prefix) for name in table if name.startswith(prefix)} == kept


# -- moments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1.0, 1 / 255, 1e-3, 255.0, 1e3, 1e5])
def test_moments_are_exact_after_a_transform(factor: float) -> None:
    values = (np.random.default_rng(0).normal(5.0, 2.0, 3000)) * factor
    made = profile_of(rows_of(3000, numeric={"price": values}))
    found = moments(made, "price", REFERENCE.numeric["price"])
    assert found is not None
    assert found[0] == pytest.approx(3000)
    assert found[1] == pytest.approx(values.mean(), rel=1e-5)
    assert found[2] == pytest.approx(values.std(), rel=1e-3)


def test_absent_values_and_features_have_no_moments() -> None:
    made = profile_of(rows_of(2, numeric={"age": np.array([np.nan, np.inf])}))
    assert moments(made, "age", AGE) is None
    assert moments(made, "price", AGE) is None
    assert value_moments(made) is None


@pytest.mark.parametrize("factor", [1e-2, 1.0, 1e4, 1e9])
def test_moments_of_answers_hold_whatever_their_size(factor: float) -> None:
    values = np.random.default_rng(1).normal(3.0, 1.0, 1000) * factor
    made = profile_of(rows_of(1000, value=values))
    found = value_moments(made)
    assert found is not None
    assert found[0] == pytest.approx(1000)
    assert found[1:] == pytest.approx((values.mean(), values.std()), rel=1e-2)
    assert sum(made.sums[name][0] for name in made.sums if name.endswith("value")) == 1000 * WEIGHT


# -- filled fields, outputs ----------------------------------------------------------------------------------------


def test_filled_fields_are_counted_of_all_rows_and_of_answered_ones() -> None:
    rows = rows_of(
        4, weight=np.array([1.0, 2.0, 4.0, 8.0]), failed=np.array([False, True, False, False]),
        abstained=np.array([False, False, True, False]), label=texts(["a", None, None, None]),
        value=np.array([1.0, 2.0, np.nan, np.nan]), latency_ms=np.array([1.0, np.nan, 1.0, 1.0]),
        scores=np.array([[0.5, 0.5], [1, 0], [np.nan] * 2, [0.1, 0.9]], np.float32),
        digest=texts(["d", "d", None, "d"]), embedded=np.array([True, False, False, False]),
        numeric={"x": np.array([1.0, np.nan, 1.0, 1.0])}, missing={"x": np.array([False, True, False, False])},
        status=texts(["2xx", "5xx", "2xx", "2xx"]),
    )  # fmt: skip
    made = profile_of(rows)
    assert counted(made, "filled") == {
        "label": 1.0, "value": 3.0, "latency_ms": 13.0, "scores": 11.0, "digest": 11.0, "embedding": 1.0,
        "features": 13.0,
    }  # fmt: skip
    assert made.counts["answered"] == 9 * WEIGHT
    assert counted(made, "filled.answered") == {"label": 1.0, "value": 1.0, "scores": 9.0}
    assert counted(made, "status") == {"2xx": 13.0, "5xx": 2.0}
    assert counted(made, "digest") == {"d": 11.0}


@pytest.mark.parametrize("stuck", [True, False])
def test_outputs_that_come_again_are_measured_on_a_sample(stuck: bool) -> None:
    n = 500
    scores = np.random.default_rng(2).dirichlet(np.ones(3), n).astype(np.float32)
    rows = rows_of(n, scores=np.repeat(scores[:1], n, axis=0) if stuck else scores)
    made = profile_of(rows, rows)
    assert made.counts["ids_repeated"] == made.counts["outputs_sampled"] == n  # a repeated id is no repeated output
    assert made.counts.get("outputs_repeated", 0) == (n - 1 if stuck else 0)


def test_the_same_scores_are_the_same_output_in_whatever_columns_they_stand() -> None:
    narrow = rows_of(1, scores=np.array([[0.2, 0.8]], np.float32), label=texts(["b"]), id_hash=np.array([1], np.uint64))
    wide = rows_of(
        1, scores=np.array([[0, 0.2, 0.8]], np.float32), label=texts(["b"]), id_hash=np.array([2], np.uint64)
    )
    assert profile_of(narrow, wide).counts["outputs_repeated"] == 1
    wide.label = texts(["c"])
    assert "outputs_repeated" not in profile_of(narrow, wide).counts


# -- evidence ----------------------------------------------------------------------------------------------------


def test_evidence_is_the_lowest_hashes_of_what_it_shows() -> None:
    n = 400
    age = np.full(n, 30.0)
    age[100:150] = 500.0
    failed = np.zeros(n, np.bool_)
    failed[7] = True
    rows = rows_of(n, numeric={"age": age}, failed=failed, latency_ms=np.where(np.arange(n) < 3, 80.0, 2.0))
    made = profile_of(rows)
    assert rows.id_hash is not None
    lowest = sorted(rows.id_hash[100:150].tolist())[:SAMPLES]
    assert made.evidence("violations.age") == tuple(f"id-{h}" for h in lowest)
    assert made.evidence("failed") == (f"id-{rows.id_hash[7]}",)
    assert len(made.evidence("slow")) == 3
    assert made.evidence() == made.evidence("special.age") == tuple(f"id-{h}" for h in range(SAMPLES))
    assert Profile().evidence("failed") == ()
    long = profile_of(rows_of(2, numeric={"x" * 300: np.array([-1.0, 0.5])}))
    assert len(long.evidence("special." + "x" * 300)) == 1


def test_only_a_sample_of_all_rows_is_kept_as_any() -> None:
    high = np.arange(10, dtype=np.uint64) + np.uint64(1 << 63)
    made = profile_of(rows_of(10, id_hash=high, failed=np.ones(10, np.bool_)))
    assert made.evidence() == ()
    assert len(made.evidence("failed")) == SAMPLES
