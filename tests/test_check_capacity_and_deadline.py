"""Units, boundaries, percentiles, and a queue that grows although each single answer is in time."""

import copy
from typing import Any

import pytest
from hypothesis import given, settings

from models.checks.capacity_and_deadline import Time, design, meets
from models.checks.verdict import Verdict
from models.checks.workplace import Workplace
from tests.coherent import Trees, coherent, coherent_sets

MS = {
    "us": 1e-3,
    "ms": 1.0,
    "Milliseconds": 1.0,
    "s": 1e3,
    "Seconds": 1e3,
    "minute": 6e4,
    "Minutes": 6e4,
    "h": 3.6e6,
    "Hours": 3.6e6,
}


def told(trees: Trees, field: str = "") -> list[Verdict]:
    return [v for v in design(Workplace(trees)) if v.field.startswith(field)]


def wrong(trees: Trees) -> list[Verdict]:
    return [v for v in told(trees) if v.verdict == "mismatch"]


def changed(**kinds: dict[str, Any]) -> Trees:
    """The coherent set with these attributes, those of `bestbefore` merged."""
    trees = copy.deepcopy(coherent())
    for kind, facts in kinds.items():
        own = trees[kind].get("bestbefore", {}) | facts.pop("bestbefore", {})
        trees[kind] |= facts | {"bestbefore": own}
    return trees


def time(value: float, unit: str = "ms", **more: Any) -> dict[str, Any]:
    return {"value": value, "unit": unit, **more}


@given(coherent_sets())
@settings(max_examples=50, deadline=None)
def test_a_coherent_set_is_ok(trees: Trees) -> None:
    assert {v.verdict for v in told(trees)} == {"ok"}


@pytest.mark.parametrize("given_in", MS)
@pytest.mark.parametrize("asked_in", MS)
def test_times_compare_across_units_and_equal_is_in_time(given_in: str, asked_in: str) -> None:
    equal = {"time": MS[given_in] / MS[asked_in], "unit": asked_in}
    trees = changed(
        trained_model={"inference_time": {"time": 1, "unit": given_in}},
        production_environment={"required_inference_time": equal},
        production_data={"bestbefore": {"rate": None}, "data_rates": ""},
    )
    assert told(trees, "inference_time")[0].verdict == "ok"
    trees["production_environment"]["required_inference_time"]["time"] *= 0.999
    assert [v.aliases for v in wrong(trees)] == [("tec:12",)]


@pytest.mark.parametrize("name", ["gpu", "cpu", "memory", "storage"])
def test_equal_resources_are_enough_and_one_more_is_one_finding(name: str) -> None:
    trees = changed()
    there = trees["production_environment"]["computing_resources"][name]
    trees["trained_model"]["computing_resource_reqs"][name] = there
    assert wrong(trees) == []
    trees["trained_model"]["computing_resource_reqs"][name] = there + 1
    (both,) = wrong(trees)
    assert both.aliases == ("tec:6", "tec:7")
    trees["production_environment"]["computing_resources"][name] = there + 1
    (one,) = wrong(trees)
    assert one.aliases == ("tec:6",)


def test_memory_of_a_gpu_in_its_own_units() -> None:
    trees = changed(
        trained_model={"bestbefore": {"gpu_memory": 16}},
        production_environment={"bestbefore": {"gpu_memory": "16000 MB"}},
    )
    assert told(trees, "gpu_memory")[0].verdict == "ok"
    trees["production_environment"]["bestbefore"]["gpu_memory"] = "15 GB"
    assert "16 GB" in wrong(trees)[0].message
    del trees["production_environment"]["bestbefore"]["gpu_memory"]
    assert told(trees, "gpu_memory")[0].reason == "production_environment.bestbefore.gpu_memory is not declared"
    assert told(changed(), "gpu_memory") == []


@pytest.mark.parametrize(
    ("p", "seconds", "q", "outcome"),
    [
        (None, 0.02, None, "ok"),
        (None, 0.02, 99, "unknown"),
        (None, 0.06, 99, "mismatch"),
        (99, 0.02, 95, "ok"),
        (99, 0.05, 99, "ok"),
        (95, 0.02, 99, "unknown"),
        (95, 0.06, 99, "mismatch"),
        (99, 0.06, 95, "unknown"),
        (99, 0.06, None, "mismatch"),
        (50, 0.02, None, "ok"),
    ],
)
def test_which_percentile_proves_which(p: float | None, seconds: float, q: float | None, outcome: str) -> None:
    assert meets(Time("t", seconds, "", p), Time("limit", 0.05, "", q)).outcome == outcome


def test_other_devices_and_batches_do_not_compare() -> None:
    limit = Time("limit", 0.05, "", 99, 1, "cpu")
    for other in (Time("t", 0.02, "", 99, 1, "gpu"), Time("t", 0.09, "", 99, 8, "cpu")):
        found = meets(other, limit)
        assert found.outcome == "unknown"
        assert "t is for" in found.reason


def test_a_time_that_breaks_both_limits_is_one_finding() -> None:
    trees = changed(production_environment={"bestbefore": {"latency": time(40, percentile=99)}})
    assert [v.verdict for v in told(trees, "inference_time")] == ["ok", "unknown"]
    trees["trained_model"]["inference_time"]["time"] = 80
    (found,) = wrong(trees)
    assert "does not meet the 40 ms" in found.message
    assert "nor the 50 Milliseconds" in found.message


def test_a_queue_grows_although_every_answer_is_in_time() -> None:
    trees = changed(production_data={"bestbefore": {"rate": {"mean": 100, "p99": 400, "unit": "1/s"}}})
    assert told(trees, "inference_time")[0].verdict == "ok"
    (found,) = wrong(trees)
    assert found.effect is not None
    assert (found.field, found.effect.estimate) == ("utilisation/p99", 2.0)
    trees["production_data"]["bestbefore"]["rate"]["p99"] = 200  # exactly all of the time
    assert wrong(trees) == []
    trees["production_data"]["bestbefore"]["rate"]["mean"] = 170  # 0.85, where 0.8 is allowed
    assert [v.field for v in wrong(trees)] == ["utilisation/mean"]
    trees["production_environment"]["bestbefore"]["utilisation"] = 0.9
    assert wrong(trees) == []


def test_batches_and_gpus_share_the_work() -> None:
    busy = {"rate": {"mean": 300, "p99": 400, "unit": "1/s"}}
    batched = {"inference_time": time(20, percentile=50, batch=8)}
    trees = changed(production_data={"bestbefore": dict(busy)}, trained_model={"bestbefore": batched})
    assert told(trees, "utilisation")[0].effect.estimate == 300 * 0.02 / (4 * 8)  # type: ignore[union-attr]
    batched["inference_time"] |= {"batch": 1, "device": "CUDAExecutionProvider"}
    trees = changed(
        trained_model={"inference_time": None, "bestbefore": batched}, production_data={"bestbefore": dict(busy)}
    )
    trees["production_environment"]["computing_resources"]["gpu"] = 2
    assert [v.effect.estimate for v in told(trees, "utilisation")] == [4.0]  # type: ignore[union-attr]


def test_a_p99_of_the_time_proves_room_but_not_its_lack() -> None:
    trees = changed(
        trained_model={"inference_time": None, "bestbefore": {"inference_time": time(20, percentile=99)}},
        production_data={"bestbefore": {"rate": {"mean": 100, "unit": "1/s"}}},
    )
    assert told(trees, "utilisation")[0].verdict == "ok"
    trees["production_data"]["bestbefore"]["rate"]["mean"] = 500
    assert told(trees, "utilisation")[0].verdict == "unknown"


@pytest.mark.parametrize(
    ("prose", "outcome"),
    [
        ("100 per minute", "ok"),
        ("12000 requests per minute", "mismatch"),
        ("500 Hz", "mismatch"),
        ("500/s", "mismatch"),
        ("about a hundred per minute", "unknown"),
        ("100", "unknown"),
        ("", "unknown"),
    ],
)
def test_rates_in_prose_count_where_the_number_is_plain(prose: str, outcome: str) -> None:
    trees = changed(production_data={"data_rates": prose, "bestbefore": {"rate": None}})
    assert [v.verdict for v in told(trees, "utilisation")] == [outcome]


def test_one_slow_model_is_one_finding_even_where_the_queue_grows_too() -> None:
    trees = changed(trained_model={"inference_time": {"time": 60, "unit": "Seconds"}})
    assert [v.aliases for v in wrong(trees)] == [("tec:12",)]
    assert "another mismatch" in told(trees, "utilisation")[0].reason
