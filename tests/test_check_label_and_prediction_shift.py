"""label-and-prediction-shift: the published prevalence schedules, confusion undone, and no alarm for nothing."""

from typing import Any

import msgspec
import numpy as np
import pytest

from benchmarks.detection import CLASS_WINDOW, SCHEDULES, classifier, prevalence, schedule_delay
from models.checks.label_and_prediction_shift import CHECK, largest_move, predicted_shares, true_shares
from models.checks.verdict import Verdict
from models.checks.workplace import Workplace
from models.columns import Categories
from models.profile import Profile
from models.reference import Reference
from tests.observing import (
    DAY,
    HOUR,
    by_field,
    declared,
    labelled,
    observed,
    over_windows,
    profile_of,
    small_reference,
)  # fmt: skip

SEEDS = 3
COINS = small_reference(window_us=DAY, classes={"heads": 0.5, "tails": 0.5}, n=5000)


def seen_once(reference: Reference, *profiles: Profile) -> dict[str, Verdict]:
    return list(over_windows(CHECK, reference, profiles))[-1]


def coins(heads: int, tails: int) -> Categories:
    return Categories(np.repeat(np.array([0, 1], np.int32), [heads, tails]), ("heads", "tails"))


# ---- the published prevalence schedules ----


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "none"])
def test_every_published_schedule_is_seen_and_none_too_early(name: str) -> None:
    """Within three groups after the first change beyond five points, and never before it."""
    for seed in range(SEEDS):
        delay, early = schedule_delay(name, seed)
        assert early == 0
        assert delay < 3 * SCHEDULES[name][1] / CLASS_WINDOW


def test_no_drift_is_no_mismatch() -> None:
    assert [schedule_delay("none", seed) for seed in range(20)] == [(np.inf, 0)] * 20


def test_schedules_are_as_published() -> None:
    assert len(SCHEDULES) == 9
    assert len(prevalence("none", 0)) == 10_028
    assert len(prevalence("gradual", 0)) == 6 * 1671


@pytest.mark.parametrize("n", [100, 10_000, 3_000_000])
def test_a_hundredth_of_a_point_is_silent_at_any_n(n: int) -> None:
    """33.3% declared, 33.31% seen."""
    reference = small_reference(window_us=DAY, classes={"a": 0.333, "b": 0.333, "c": 0.334}, n=10**7)
    counts = [round(0.3331 * n), round(0.333 * n)]
    codes = np.repeat(np.arange(3, dtype=np.int32), [*counts, n - sum(counts)])
    profile = profile_of(reference, label=Categories(codes, ("a", "b", "c")))
    assert seen_once(reference, profile)["predicted"].verdict == "ok"


def test_windows_of_other_sizes_never_alarm_by_themselves() -> None:
    days = [profile_of(COINS, label=coins(n // 2, n // 2)) for n in (50, 24, 200, 24, 2000) * 5]
    reference = msgspec.structs.replace(COINS, minimum_n=20)
    told = {window["predicted"].verdict for window in over_windows(CHECK, reference, days)}
    assert told == {"ok"}


# ---- effect ----


def test_the_largest_move_has_its_interval_and_the_message_its_numbers() -> None:
    verdict = seen_once(COINS, profile_of(COINS, label=coins(650, 350)))["predicted"]
    effect = verdict.effect
    assert verdict.verdict == "mismatch"
    assert effect is not None
    assert effect.estimate == pytest.approx(0.15)
    assert effect.low == pytest.approx(0.115, abs=0.01)
    assert effect.threshold == 0.05
    assert "moved by up to 15 points" in verdict.message
    assert "in 1000 labels" in verdict.message


def test_the_interval_of_the_largest_move_covers_it() -> None:
    """Where one class moved most, the interval covers that in at least 90% of samples."""
    rng = np.random.default_rng(3)
    p, q = np.array([0.5, 0.3, 0.15, 0.05]), np.array([0.35, 0.35, 0.2, 0.1])
    covered = 0
    for _ in range(500):
        _, low, high = largest_move(rng.multinomial(300, p) / 300, rng.multinomial(800, q) / 800, 300, 800)
        covered += low <= 0.15 <= high
    assert covered >= 450


@pytest.mark.parametrize(("tolerated", "outcome"), [(0.2, "ok"), ("20%", "ok"), (20, "ok"), (0.1, "mismatch")])
def test_the_tolerance_may_be_declared(tolerated: object, outcome: str) -> None:
    reference = declared(COINS, system_context={"prior_tolerance": tolerated})
    assert seen_once(reference, profile_of(reference, label=coins(650, 350)))["predicted"].verdict == outcome


def test_sampled_events_count_by_their_weight() -> None:
    """All tails but a tenth of the heads are sent, as declared by their sampling probability."""
    weight = np.repeat([10.0, 1.0], [50, 500])
    verdict = seen_once(COINS, profile_of(COINS, label=coins(50, 500), weight=weight))["predicted"]
    assert verdict.verdict == "ok"
    assert verdict.right is not None
    assert verdict.right.value == {"heads": 0.5, "tails": 0.5}


# ---- confusion ----


def test_true_shares_are_recovered_through_the_confusion_matrix() -> None:
    reference = classifier()
    moved = msgspec.structs.replace(reference, classes={"yes": 0.2, "no": 0.8})
    found = true_shares(reference, predicted_shares(moved))
    assert found == pytest.approx({"yes": 0.2, "no": 0.8})
    days = (
        profile_of(reference, label=["yes"] * round(1000 * share) + ["no"] * round(1000 * (1 - share)))
        for share in [predicted_shares(moved)["yes"]]
    )
    verdict = seen_once(reference, *days)["predicted"]
    assert "the true share of 'yes' is about 0.2, declared 0.65" in verdict.message


def test_a_matrix_that_tells_nothing_apart_corrects_nothing() -> None:
    blind = msgspec.structs.replace(COINS, confusion={k: {"heads": 50.0, "tails": 50.0} for k in ("heads", "tails")})
    assert true_shares(blind, {"heads": 0.7, "tails": 0.3}) is None
    assert true_shares(COINS, {"heads": 0.7, "tails": 0.3}) is None


def test_what_the_model_always_confused_is_no_shift() -> None:
    """The predicted shares differ from those of the classes, but exactly as the confusion matrix says."""
    confusion = {"heads": {"heads": 70.0, "tails": 30.0}, "tails": {"tails": 100.0}}
    reference = msgspec.structs.replace(COINS, confusion=confusion)
    assert seen_once(reference, profile_of(reference, label=coins(3500, 6500)))["predicted"].verdict == "ok"
    assert seen_once(COINS, profile_of(COINS, label=coins(3500, 6500)))["predicted"].verdict == "mismatch"


# ---- true labels ----


def audits(heads: int, tails: int, **columns: Any) -> Profile:
    return labelled(COINS, ["heads"] * heads + ["tails"] * tails, np.ones(heads + tails), **columns)


def test_true_labels_are_collected_until_there_are_enough() -> None:
    days = [profile_of(COINS, label=coins(60, 60)).merge(audits(18, 2)) for _ in range(5)]
    told = [window["truth"] for window in over_windows(CHECK, COINS, days)]
    assert [v.verdict for v in told] == ["unknown", "unknown", "mismatch", "unknown", "unknown"]
    assert told[0].reason == "20 labels in effect so far, 50 are needed"
    assert told[2].effect is not None
    assert told[2].effect.estimate == pytest.approx(0.4)


def test_audits_weigh_by_their_propensity() -> None:
    weight = np.repeat([1.0, 9.0], [90, 10])
    told = seen_once(COINS, profile_of(COINS, label=coins(60, 60)).merge(audits(90, 10, weight=weight)))["truth"]
    assert told.verdict == "unknown"  # 100 labels of such unequal weights are worth 36
    assert "36.0" in told.reason or "36 " in told.reason


def test_feedback_is_no_evidence_of_shares() -> None:
    feedback = audits(100, 0, feedback=np.ones(100, np.bool_))
    assert "truth" not in seen_once(COINS, profile_of(COINS, label=coins(60, 60)).merge(feedback))


# ---- seasons, and what cannot be judged ----


def test_classes_with_a_daily_cycle_are_judged_by_the_day() -> None:
    hourly = msgspec.structs.replace(COINS, window_us=HOUR)
    heads = [round(100 + 60 * np.sin(2 * np.pi * hour / 24)) for hour in range(96)]
    hours = [profile_of(hourly, label=coins(h, 200 - h)) for h in heads]
    told = [window["predicted"].verdict for window in over_windows(CHECK, hourly, hours)]
    assert set(told[:23]) == {"unknown"}
    assert set(told[23:]) == {"ok"}
    single = declared(hourly, system_context={"season": "1 hour"})
    assert "mismatch" in [window["predicted"].verdict for window in over_windows(CHECK, single, hours)]


@pytest.mark.parametrize(
    ("reference", "columns", "reason"),
    [
        (COINS, {"latency_ms": np.ones(80)}, "the events carry no predicted label"),
        (COINS, {"label": [None] * 80}, "missing in every event"),
        (COINS, {"label": ["heads"] * 30}, "30 labels in effect, 50 are needed"),
        (msgspec.structs.replace(COINS, n=0), {"label": ["heads"] * 80}, "a reference n above"),
        (COINS, {}, "no events in this window"),
    ],
)
def test_no_evidence_is_unknown(reference: Reference, columns: dict[str, Any], reason: str) -> None:
    verdict = seen_once(reference, profile_of(reference, **columns))["predicted"]
    assert verdict.verdict == "unknown"
    assert reason in verdict.reason


def test_nothing_declared_and_no_block_yet() -> None:
    assert seen_once(small_reference(), Profile())[""].reason.endswith("classes is not declared")
    assert CHECK.live is not None
    assert (
        by_field(CHECK.live(observed(Profile(), COINS, block=None)))["predicted"].reason
        == "fewer than 50 events so far"
    )


# ---- at design time: TEC's rule 16 ----


def at_design(trained: dict[str, Any], produced: dict[str, Any], **own: Any) -> dict[str, Verdict]:
    assert CHECK.design is not None
    trees: dict[str, Any] = {
        "training_data": {"distribution": [{"label": k, "percentage": v} for k, v in trained.items()]},
        "production_data": {"distribution": [{"label": k, "percentage": v} for k, v in produced.items()]},
        "system_context": {"bestbefore": own},
    }
    return by_field(CHECK.design(Workplace(trees)))


@pytest.mark.parametrize(
    ("left", "right", "outcome"),
    [
        (33.3, 33.31, "ok"), ("33.3", "33.31 %", "ok"), (33.3, 30, "ok"), (33.3, 50, "mismatch"),
        (33.3, "many", "unknown"),
    ],
)  # fmt: skip
def test_declared_shares_are_compared_as_numbers(left: object, right: object, outcome: str) -> None:
    found = at_design({"a": left, "b": 66.7}, {"a": right, "b": 66.7})
    assert [found["a"].verdict, found["b"].verdict] == [outcome, "ok"]


def test_shares_and_percentages_are_the_same() -> None:
    assert at_design({"a": 0.3, "b": 0.7}, {"a": 30, "b": 70})["a"].verdict == "ok"
    assert at_design({"a": 0.3, "b": 0.7}, {"a": 40, "b": 60})["a"].verdict == "mismatch"
    assert at_design({"a": 30, "b": 70}, {"a": 40, "b": 60}, prior_tolerance=0.15)["a"].verdict == "ok"


def test_labels_keep_their_mapping_and_what_one_side_lacks_is_unknown() -> None:
    assert CHECK.design is not None
    trees: dict[str, Any] = {
        "training_data": {"distribution": [{"label": "1", "percentage": 100, "mapping_production_data": "one"}]},
        "production_data": {"distribution": [{"label": "one", "percentage": 98}, {"label": "two", "percentage": 2}]},
    }
    found = by_field(CHECK.design(Workplace(trees)))
    assert found["one"].verdict == "ok"
    assert found["two"].reason == "training_data.distribution does not say the share of 'two'"
    assert at_design({"a": 100}, {})[""].reason == "production_data.distribution is not declared"
    assert at_design({}, {}) == {}
