"""Single measurements of `models.describing*` against numpy and known truths."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.columns import Categories, Inferences
from models.describing import measure
from models.describing_columns import Embeddings, Numbers, Part, Truths, gather, texts_of
from models.describing_embedding import embedding_profile
from models.describing_features import numeric, quantiles
from models.describing_outcomes import calibration, judged
from models.describing_traffic import rate
from models.reference import compile_reference

Array = NDArray[Any]


@pytest.mark.parametrize("seed", range(5))
def test_quantiles_give_back_the_shares_of_any_column(seed: int) -> None:
    """Whole numbers, constants, mixtures with a spike: the compiled bins hold what the data hold."""
    rng = np.random.default_rng(seed)
    columns = [
        rng.integers(0, 2, 777).astype(float),
        rng.poisson(0.7, 500).astype(float),
        np.full(50, 0.1 + 0.2),
        np.where(rng.random(900) < 0.4, 1 / 3, rng.normal(size=900)),
        rng.normal(1.7e9, 1e4, 640),
    ]
    for values in columns:
        trees: dict[str, dict[str, Any]] = {
            "trained_model": {"model_name": "m", "model_version": "1"},
            "training_data": {"bestbefore": {"features": {"x": {"type": "number", "quantiles": quantiles(values)}}}},
        }
        feature = compile_reference(trees).numeric["x"]
        counts = np.bincount(np.searchsorted(feature.edges, values), minlength=len(feature.edges) + 1)
        np.testing.assert_allclose(feature.shares, counts / len(values), atol=2 / len(values))


@pytest.mark.parametrize(
    "values", [[1e308, -1e308] * 10, [k * 1e307 for k in range(-10, 11)], [5e-324] * 9, [0.0], [1.0, 2.0]]
)
def test_numbers_at_the_ends_of_the_range_give_finite_figures(values: list[float]) -> None:
    found = numeric(Numbers(np.array(values), np.zeros(len(values), np.bool_)))
    figures = [*found["quantiles"].values(), *(found[k] for k in ("mean", "sd", "min", "max") if k in found)]
    assert np.isfinite(figures).all()
    assert list(found["quantiles"].values()) == sorted(found["quantiles"].values())


def test_unequal_sampling_is_weighted_back() -> None:
    """Rows above zero were kept with probability 1/4: weighted, mean, quantiles and classes are those of all rows."""
    rng = np.random.default_rng(3)
    everything = rng.normal(0, 1, 80_000)
    kept = (everything <= 0) | (rng.random(80_000) < 0.25)
    x = everything[kept]
    weight = np.where(x > 0, 4.0, 1.0)
    n = len(x)
    rows = Inferences(
        offset=np.zeros(n, np.int64), time=np.arange(n, dtype=np.int64) * 1_000_000, weight=weight, numeric={"x": x},
        label=Categories((x > 0).astype(np.int32), ("low", "high")),
    )  # fmt: skip
    seen = gather("m", "1", [Part(rows)])
    seen.truths = Truths(
        np.arange(n), Categories((x > 0).astype(np.int32), ("low", "high")), np.full(n, np.nan), np.zeros(n, np.int64)
    )
    own = measure(seen).trees["training_data"]["bestbefore"]
    assert own["features"]["x"]["mean"] == pytest.approx(0, abs=0.02)
    assert own["features"]["x"]["sd"] == pytest.approx(1, abs=0.02)
    assert own["features"]["x"]["quantiles"]["0.75"] == pytest.approx(0.674, abs=0.03)
    assert own["classes"]["high"] == pytest.approx(0.5, abs=0.01)
    assert sum(own["confusion"]["high"].values()) == pytest.approx(n * 0.5, rel=0.02)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_scores_is_found(temperature: float) -> None:
    rng = np.random.default_rng(8)
    logits = rng.normal(0, 1.5, (20_000, 4))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = (true.cumsum(axis=1) < rng.random(20_000)[:, None]).sum(axis=1)
    served = true**temperature
    served /= served.sum(axis=1, keepdims=True)
    names = tuple("abcd")
    rows = Inferences(
        offset=np.zeros(20_000, np.int64), time=np.arange(20_000, dtype=np.int64), scores=served.astype(np.float32),
        label=Categories(served.argmax(axis=1).astype(np.int32), names),
    )  # fmt: skip
    seen = gather("m", "1", [Part(rows, names)])
    column = Categories(truth.astype(np.int32), names)
    seen.truths = Truths(np.arange(20_000), column, np.full(20_000, np.nan), np.zeros(20_000, np.int64))
    pairs = judged(seen)
    assert pairs is not None
    found, notes = calibration(pairs)
    assert found["temperature"] == pytest.approx(temperature, rel=0.03)
    assert notes == []


def test_labels_that_tell_no_temperature_give_none() -> None:
    n = 200
    names = ("a", "b")
    codes = (np.arange(n) % 2).astype(np.int32)
    scores = np.where(np.arange(2)[None] == codes[:, None], 0.9, 0.1).astype(np.float32)
    rows = Inferences(
        offset=np.zeros(n, np.int64), time=np.arange(n, dtype=np.int64), scores=scores, label=Categories(codes, names)
    )
    seen = gather("m", "1", [Part(rows, names)])
    seen.truths = Truths(np.arange(n), Categories(codes, names), np.full(n, np.nan), np.zeros(n, np.int64))
    pairs = judged(seen)
    assert pairs is not None
    found, notes = calibration(pairs)
    assert "temperature" not in found
    assert found["accuracy"] == 1.0
    assert "do not tell" in notes[0]


def test_a_regression_gets_its_errors() -> None:
    rng = np.random.default_rng(2)
    truth, n = rng.normal(size=500), 500
    answer = truth + rng.normal(0, 0.3, n)
    rows = Inferences(offset=np.zeros(n, np.int64), time=np.arange(n, dtype=np.int64), value=answer)
    seen = gather("m", "1", [Part(rows)])
    seen.truths = Truths(np.arange(n), texts_of([None] * n), truth, np.zeros(n, np.int64))
    found = {row["other_metric"]: row["result"] for row in measure(seen).trees["trained_model"]["evaluation_metrics"]}
    assert found["Mean Absolute Error"] == pytest.approx(np.abs(answer - truth).mean(), rel=1e-5)
    assert found["Root Mean Squared Error"] == pytest.approx(np.sqrt(((answer - truth) ** 2).mean()), rel=1e-5)


def test_the_99th_percentile_of_the_rate_counts_empty_minutes() -> None:
    rng = np.random.default_rng(4)
    counts = rng.poisson(0.5, 500)
    minute = np.repeat(np.arange(500), counts)
    time = minute * 60_000_000 + rng.integers(0, 60_000_000, len(minute))
    found, why = rate(np.sort(time))
    inner = counts[minute.min() + 1 : minute.max()]
    assert why == ""
    assert found["mean"] == pytest.approx(inner.mean(), rel=1e-5)
    assert found["p99"] == np.quantile(inner, 0.99, method="inverted_cdf")


@pytest.mark.parametrize(
    ("embedding", "told"),
    [
        (np.zeros((5, 3), np.float32), "5 sampled inputs are recorded, 20 are needed"),
        (np.ones((30, 3), np.float32), "are the same"),
        (np.full((30, 3), np.nan, np.float32), "not finite"),
    ],
)
def test_embeddings_that_describe_nothing(embedding: Array, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        embedding_profile(Embeddings(embedding, texts_of([None] * len(embedding))))
