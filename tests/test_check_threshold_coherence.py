"""A model that ships violating its own limit, a limit the wrong way round, 0.85 beside 85."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.checks.threshold_coherence import CHECK
from models.checks.verdict import Verdict
from models.checks.workplace import Workplace
from tests.coherent import Shape, Trees, coherent, coherent_sets


def told(trees: Trees) -> list[Verdict]:
    return list(CHECK.design(Workplace(trees)))  # type: ignore[misc]


def wrong(trees: Trees) -> list[Verdict]:
    return [v for v in told(trees) if v.verdict == "mismatch"]


def limit(trees: Trees, **facts: Any) -> Trees:
    trees["trained_model"]["algorithm_metrics"][0] |= facts
    return trees


@given(coherent_sets())
def test_coherent_sets_are_ok_in_all_comparisons(trees: Trees) -> None:
    verdicts = told(trees)
    assert {v.verdict for v in verdicts} == {"ok"}
    kinds = {"direction", "limit", "results", "baseline"}
    assert {kind for kind in kinds if any(f" {kind}" in v.field for v in verdicts)} == kinds


@given(
    coherent_sets(), st.sampled_from(["threshold", "operator", "unit", "evaluation", "test", "baseline", "confusion"])
)
def test_one_wrong_number_is_one_finding(trees: Trees, fact: str) -> None:
    model = trees["trained_model"]
    first = model["algorithm_metrics"][0]
    if fact == "threshold":
        first["threshold"] = 0.999
    elif fact == "operator":
        first["operator"] = "less or equal than"
    elif fact == "unit":
        first["threshold"] *= 100
    elif fact == "evaluation":
        model["evaluation_metrics"][0]["result"] = 0.2
    elif fact == "test":
        model["test_metrics"][0]["result"] = 0.2
    elif fact == "baseline":
        trees["system_context"]["goals"][0]["baseline"] = "0.99"
    else:
        trees["training_data"]["bestbefore"]["confusion"] = {"0": {"0": 500, "1": 500}, "1": {"0": 500, "1": 500}}
    (found,) = wrong(trees)
    kinds = {
        "threshold": "limit",
        "operator": "direction",
        "test": "limit",
        "evaluation": "results",
        "confusion": "results",
    }
    assert f" {kinds.get(fact, fact)}" in found.field
    assert found.message


def test_a_model_that_violates_its_own_limit() -> None:
    trees = coherent(Shape(accuracy=0.8, threshold=0.85, baseline=0.7))
    (found,) = wrong(trees)
    assert found.severity == "critical"
    assert "must be >= 0.85" in found.message
    assert "0.8 (trained_model.evaluation_metrics[0].result)" in found.message


@pytest.mark.parametrize(
    ("metric", "operator", "outcome"),
    [
        ("Accuracy", "less than", "mismatch"),
        ("Accuracy", "greater than", "ok"),
        ("FPR", "greater than", "mismatch"),
        ("False Positive Rate", "less or equal than", "ok"),
        ("F1-Score", "greater or equal than", "ok"),
        ("RMSE", "greater than", "mismatch"),
        ("revenue", "greater than", "unknown"),
    ],
)
def test_an_operator_has_the_direction_of_its_metric(metric: str, operator: str, outcome: str) -> None:
    trees = limit(coherent(), metric=metric, operator=operator)
    assert [v.verdict for v in told(trees) if v.field.endswith("direction")] == [outcome]


def test_a_declared_polarity_has_the_last_word() -> None:
    trees = limit(coherent(), metric="revenue", operator="greater than")
    trees["trained_model"]["bestbefore"]["metric_polarity"] = {"Revenue": "lower"}
    assert [v.field for v in wrong(trees)] == ["revenue direction"]


@pytest.mark.parametrize("value", ["85%", "0.8", "80 %"])
def test_a_written_percent_sign_is_no_clash(value: str) -> None:
    trees = coherent(Shape(threshold=0.85, accuracy=0.91))
    trees["system_context"]["goals"][0]["baseline"] = value
    assert not wrong(trees)


def test_all_in_percent_is_no_clash_but_one_share_among_them_is() -> None:
    trees = coherent()
    model = trees["trained_model"]
    limit(trees, threshold=85)
    for key in ("evaluation_metrics", "test_metrics"):
        model[key][0]["result"] = 91
    trees["system_context"]["goals"][0]["baseline"] = "80"
    assert not wrong(trees)
    model["test_metrics"][0]["result"] = 0.91
    (found,) = wrong(trees)
    assert "one is a share, the other a percentage" in found.message
    assert found.left is not None
    assert found.left.path == "trained_model.test_metrics[0].result"


@pytest.mark.parametrize(("n", "outcome"), [(200, "ok"), (20_000, "mismatch")])
def test_a_result_may_differ_from_the_calibration_by_what_n_leaves_open(n: int, outcome: str) -> None:
    trees = coherent()
    data = trees["training_data"]["bestbefore"]
    data.pop("confusion")
    data["calibration"] = {"accuracy": 0.88, "n": n}
    (found,) = [v for v in told(trees) if v.field == "accuracy results"]
    assert found.verdict == outcome
    assert found.right is not None
    assert found.right.low is not None


@pytest.mark.parametrize("path", ["algorithm_metrics", "results", "calibration"])
def test_what_is_absent_is_unknown(path: str) -> None:
    trees = coherent()
    if path == "algorithm_metrics":
        trees["trained_model"].pop(path)
    elif path == "results":
        trees["trained_model"].pop("evaluation_metrics")
        trees["trained_model"].pop("test_metrics")
    else:
        trees["training_data"].pop("bestbefore")
    verdicts = told(trees)
    assert not wrong(trees)
    assert any(v.verdict == "unknown" and v.reason for v in verdicts)
