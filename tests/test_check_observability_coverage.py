"""Names that production does not implement, confidence missing from 30% of events, errors that never reach the log."""

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.checks.observability_coverage import CHECK
from models.checks.observed import Memory
from models.checks.verdict import Verdict
from models.checks.workplace import Workplace
from models.evidence import Evidence
from models.profile import Profile
from models.quality import Calibration
from models.reference import Reference
from tests.coherent import Trees, coherent, coherent_sets
from tests.observing import (
    DAY,
    HOUR,
    START,
    by_field,
    declared,
    normal_feature,
    observed,
    profile_of,
    small_reference,
    texts,
)

N = 2000
RNG = np.random.default_rng(3)
REFERENCE = small_reference(
    classes={"0": 0.3, "1": 0.7}, calibration=Calibration(accuracy=0.9, n=500), numeric={"a": normal_feature()},
    latency_limit_ms=50.0,
)  # fmt: skip


def designed(trees: Trees) -> dict[str, Verdict]:
    return by_field(CHECK.design(Workplace(trees)))  # type: ignore[misc]


def traffic(n: int = N, without: tuple[str, ...] = (), **changes: Any) -> dict[str, Any]:
    p = RNG.uniform(0.5, 1, n).astype(np.float32)
    columns = {
        "scores": np.stack([1 - p, p], axis=1), "label": ["1"] * n, "latency_ms": np.full(n, 10.0),
        "numeric": {"a": RNG.normal(0, 1, n)}, "status": texts(["2xx"] * n),
    } | changes  # fmt: skip
    return {name: column for name, column in columns.items() if name not in without}


def lived(reference: Reference = REFERENCE, **columns: Any) -> dict[str, Verdict]:
    seen = observed(profile_of(reference, **columns), reference)
    return by_field(CHECK.live(seen))  # type: ignore[misc]


def wrong(found: dict[str, Verdict]) -> list[str]:
    return [name for name, v in found.items() if v.verdict == "mismatch"]


@given(coherent_sets())
def test_coherent_sets_are_covered(trees: Trees) -> None:
    found = designed(trees)
    assert {v.verdict for v in found.values()} == {"ok"}
    assert set(found) == {"metric accuracy", "metric default rate", "log inference", "feedback override"}


@given(
    coherent_sets(),
    st.sampled_from(
        [
            ("production_environment", "algorithm_metrics", "metric", "metric accuracy"),
            ("production_environment", "business_metrics", "metric", "metric default rate"),
            ("production_environment", "model_logs", "log", "log inference"),
            ("production_environment", "user_system_feedback", "feedback", "feedback override"),
            ("trained_model", "business_metrics", "metric", "metric other"),
            ("trained_model", "log_data", "log", "log other"),
            ("trained_model", "user_system_feedback", "short_name", "feedback other"),
            ("system_context", "goals", "metric", "metric other"),
        ]
    ),
)
def test_one_changed_name_is_one_finding(trees: Trees, change: tuple[str, str, str, str]) -> None:
    kind, part, key, field = change
    trees[kind][part][0][key] = "Other"
    assert wrong(designed(trees)) == [field]


def test_names_are_compared_without_their_spelling_and_may_stand_in_any_list() -> None:
    trees = coherent()
    environment = trees["production_environment"]
    environment["other_metrics"] = [{"metric": "Default-Rate", "implementation": "warehouse"}]
    environment["business_metrics"] = []
    trees["trained_model"]["algorithm_metrics"][0]["metric"] = "ACC"
    assert not wrong(designed(trees))


@pytest.mark.parametrize(
    ("path", "alias"),
    [
        ("business_metrics", "tec:9"),
        ("algorithm_metrics", "tec:10"),
        ("log_data", "tec:11"),
        ("user_system_feedback", "tec:13"),
    ],
)
def test_what_is_not_declared_is_unknown(path: str, alias: str) -> None:
    trees = coherent()
    del trees["trained_model"][path]
    (found,) = [v for v in designed(trees).values() if v.verdict == "unknown"]
    assert found.reason == f"trained_model.{path} is not declared"
    assert found.aliases == (alias,)
    without = coherent()
    del without["production_environment"]
    assert {v.verdict for v in designed(without).values()} == {"unknown"}


def test_whole_events_are_ok() -> None:
    found = lived(**traffic())
    assert {name: v.verdict for name, v in found.items()} == dict.fromkeys(
        ("scores", "label", "latency_ms", "features"), "ok"
    )


def test_confidence_missing_from_30_percent_of_events() -> None:
    columns = traffic()
    columns["scores"][RNG.random(N) < 0.3] = np.nan
    found = lived(**columns)
    assert wrong(found) == ["scores"]
    effect = found["scores"].effect
    assert effect is not None
    assert (effect.low or 0) < 0.3 < (effect.high or 0)
    assert f"of {N} answered events" in found["scores"].message


def test_a_declared_share_is_enough() -> None:
    columns = traffic()
    columns["scores"][np.arange(N) % 10 < 3] = np.nan
    reference = declared(REFERENCE, production_environment={"coverage": {"scores": 0.7}})
    assert lived(reference, **columns)["scores"].verdict == "ok"
    assert (
        lived(declared(REFERENCE, production_environment={"coverage": {"scores": 0.8}}), **columns)["scores"].verdict
        == "mismatch"
    )


def test_one_percent_without_is_no_finding_and_failed_answers_need_no_scores() -> None:
    columns = traffic()
    columns["latency_ms"][::100] = np.nan
    assert not wrong(lived(**columns))
    failed = np.arange(N) % 2 == 0
    columns["scores"][failed] = np.nan
    assert lived(**columns, failed=failed)["scores"].verdict == "ok"


@pytest.mark.parametrize("field", ["scores", "latency_ms"])
def test_a_field_that_is_never_sent(field: str) -> None:
    found = lived(**traffic(without=(field,)))
    assert wrong(found) == [field]
    assert found[field].effect is not None


def test_scores_may_stand_for_the_label_but_one_of_them_is_due() -> None:
    assert "label" not in lived(**traffic(without=("label",)))
    assert wrong(lived(**traffic(without=("label", "scores")))) == ["scores", "label"]


def test_a_regression_answers_with_values() -> None:
    plain = small_reference()
    value = RNG.normal(0, 1, N)
    assert lived(plain, value=value)["value"].verdict == "ok"
    value[::3] = np.nan
    assert lived(plain, value=value)["value"].verdict == "mismatch"


def test_a_digest_that_is_never_sent_is_a_note() -> None:
    reference = declared(REFERENCE, trained_model={"digest": "sha256:aa"})
    assert lived(reference, **traffic())["digest"].severity == "info"
    half = texts(["sha256:aa" if i % 2 else None for i in range(N)])
    assert lived(reference, **traffic(digest=half))["digest"].severity == "warning"
    assert lived(reference, **traffic(digest=texts(["sha256:aa"] * N)))["digest"].verdict == "ok"


def test_an_embedding_is_expected_once_one_was_sent() -> None:
    memory: Memory = {}
    fields = []
    for sent in (False, True, False):
        columns = traffic(embedded=np.full(N, sent))
        fields.append(by_field(CHECK.live(observed(profile_of(REFERENCE, **columns), REFERENCE, memory=memory))))  # type: ignore[misc]
    assert "embedding" not in fields[0]
    assert [f["embedding"].verdict for f in fields[1:]] == ["ok", "mismatch"]


def test_a_renamed_feature_and_events_without_any() -> None:
    reference = msgspec.structs.replace(REFERENCE, numeric={"a": normal_feature(), "b": normal_feature()})
    assert wrong(lived(reference, **traffic())) == ["feature b"]
    found = lived(reference, **traffic(without=("numeric",)))
    assert wrong(found) == ["features"]
    assert "the declared features" in found["features"].message


def test_few_events_are_unknown() -> None:
    found = lived(**traffic(20))
    assert {v.verdict for v in found.values() if v.field != "features"} == {"unknown"}
    (only,) = CHECK.live(observed(Profile(), REFERENCE, block=None))  # type: ignore[misc]
    assert only.reason == "fewer than 50 events so far"


def errors(rate: float | None, windows: int, failing: int | None = None) -> list[str]:
    item = {"item_name": "a", "error_handling": {"error_type": "Return error code", "error_code_value": 422}}
    reference = msgspec.structs.replace(REFERENCE, descriptors={"data_pipeline": {"input_spec": [item]}})
    if rate is not None:
        reference = declared(reference, production_environment={"expected_error_rate": rate})
    memory: Memory = {}
    told: list[str] = []
    for window in range(windows):
        columns = traffic(100) | ({"failed": np.arange(100) == 0} if window == failing else {})
        seen = observed(profile_of(reference, **columns), reference, index=window, memory=memory)
        told.append(by_field(CHECK.live(seen))["errors"].verdict)  # type: ignore[misc]
    return told


def test_only_200s_while_errors_are_declared() -> None:
    # (1 - 0.05)^100 = 0.006, (1 - 0.05)^200 = 0.00004
    assert errors(0.05, 3) == ["unknown", "mismatch", "mismatch"]
    assert errors(0.05, 4, failing=1) == ["unknown", "ok", "unknown", "mismatch"]
    assert errors(None, 3) == ["unknown"] * 3
    assert errors(None, 2, failing=0)[0] == "ok"


def test_no_declared_errors_no_verdict_about_them() -> None:
    assert "errors" not in lived(**traffic())


@pytest.mark.parametrize(
    ("audits", "delay", "outcome"),
    [(5, "1 day", "ok"), (2, "1 day", "mismatch"), (0, "1 day", "mismatch"), (0, "7 days", "unknown")],
)
def test_labels_come_for_the_declared_share_after_the_declared_delay(audits: int, delay: str, outcome: str) -> None:
    reference = declared(REFERENCE, production_data={"labels": {"share": 0.05, "delay": delay}})
    ring = [Evidence(START - 2 * DAY + hour * HOUR, n=100, audits=audits if hour <= 24 else 0) for hour in range(49)]
    seen = observed(profile_of(reference, **traffic()), reference, ring=ring)
    found = by_field(CHECK.live(seen))["labels"]  # type: ignore[misc]
    assert found.verdict == outcome
    if outcome == "unknown":
        assert "older than the declared delay" in found.reason
    else:
        assert found.effect is not None
        assert found.effect.n == 2500
