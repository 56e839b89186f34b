"""covariate-drift: quiet under dependence and cycles, quick for real shifts, and honest about what it cannot know."""

from typing import Any

import msgspec
import numpy as np
import pytest

from benchmarks.detection import KINDS, Traffic, delay, described, false_alarms, windows
from models.checks.check import Check
from models.checks.covariate_drift import CHECK, normal_scores
from models.checks.observed import MEMORY_SIZE, Memory
from models.checks.promise import PRIOR, cusum_limit, inflation, level
from models.checks.season import MAX_BINS, coarse, season_of
from models.checks.verdict import Verdict
from models.checks.workplace import Workplace
from models.profile import Profile
from models.reference import CategoricalFeature, NumericFeature, Reference
from tests.observing import (
    DAY,
    HOUR,
    by_field,
    declared,
    normal_feature,
    observed,
    opening,
    over_windows,
    profile_of,
    small_reference,
)  # fmt: skip

RNG = np.random.default_rng(4)


def daily(**features: NumericFeature) -> Reference:
    return small_reference(window_us=DAY, numeric=features)


def told(check: Check, reference: Reference, *profiles: Profile) -> dict[str, Verdict]:
    """What is said of the last window."""
    return list(over_windows(check, reference, profiles))[-1]


# ---- false alarms and delay ----


@pytest.mark.parametrize("kind", KINDS)
def test_no_more_false_alarms_than_promised_in_hourly_windows(kind: str) -> None:
    """Five features, 200 rows an hour, 60 days: 1 per 90 days is promised, for all features together."""
    reference = described(kind, 200)
    assert false_alarms(kind, reference, n=200, count=60 * 24, seed=1) <= 60 // 90


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [24, 200])
def test_no_more_false_alarms_than_promised_in_daily_windows(kind: str, n: int) -> None:
    opened = 0
    for seed in range(2):
        reference = described(kind, n, 1, DAY, seed=900 + seed, minimum_n=24)
        opened += false_alarms(kind, reference, n=n, count=360, seed=seed, per_day=1)
    assert opened <= 2 * 360 // 90


@pytest.mark.parametrize(
    ("kind", "longest"),
    [("iid", (72, 24, 15)), ("AR(1) 0.9", (192, 96, 24)), ("daily cycle", (72, 24, 15))],
)
def test_delay_by_the_size_of_the_shift(kind: str, longest: tuple[int, ...]) -> None:
    """Median over five streams of the hours until a mismatch opens, for shifts of .25, .5 and 1 sd."""
    reference = described(kind, 200)
    medians = [
        np.median([delay(kind, reference, shift, n=200, seed=seed, at=247) for seed in range(5)])
        for shift in (0.25, 0.5, 1.0)
    ]
    assert medians == sorted(medians, reverse=True)
    assert all(found <= limit for found, limit in zip(medians, longest, strict=True)), medians


def test_a_step_of_the_positive_rate_on_day_30_is_seen() -> None:
    """24 values a day, positive with .45 and from day 30 on with .95: where five distances of Augur stay flat."""
    rng = np.random.default_rng(0)
    reference = small_reference(
        window_us=DAY, minimum_n=24, categorical={"ship": CategoricalFeature(shares={"yes": 0.45, "no": 0.55}, n=1604)}
    )
    days = [
        profile_of(reference, categorical={"ship": np.where(rng.random(24) < rate, "yes", "no").tolist()})
        for rate in [0.45] * 30 + [0.95] * 10
    ]
    verdicts = list(over_windows(CHECK, reference, days))
    assert all(window["ship"].verdict != "mismatch" for window in verdicts[:30])
    assert verdicts[29]["ship"].verdict == "ok"
    opened = opening(verdicts)
    assert opened is not None
    assert 32 <= opened <= 34
    effect = verdicts[-1]["ship"].effect
    assert effect is not None
    assert effect.low is not None
    assert effect.threshold is not None
    assert effect.low > effect.threshold > 0


def test_a_shift_below_the_floor_is_left_alone_at_any_n() -> None:
    reference = daily(x=normal_feature(n=10**6))
    days = [profile_of(reference, numeric={"x": RNG.normal(0.07, 1, 200_000)}) for _ in range(30)]
    assert opening(over_windows(CHECK, reference, days)) is None


def test_a_wider_distribution_with_the_same_mean_is_seen() -> None:
    reference = daily(x=normal_feature())
    days = [profile_of(reference, numeric={"x": RNG.normal(0, sd, 500)}) for sd in [1.0] * 12 + [2.0] * 3]
    verdicts = list(over_windows(CHECK, reference, days))
    assert opening(verdicts) == 14
    assert "Jensen-Shannon" in verdicts[-1]["x"].message


def test_one_absurd_value_is_no_drift() -> None:
    reference = daily(x=normal_feature())
    values = [np.append(RNG.normal(0, 1, 199), 1e12) for _ in range(30)]
    assert opening(over_windows(CHECK, reference, (profile_of(reference, numeric={"x": v}) for v in values))) is None


def test_before_dependence_is_known_a_difference_is_no_verdict() -> None:
    """Rows may repeat each other: then 200 of them say little about a shift, and much once it is known that not."""
    reference = daily(x=normal_feature())
    quiet = [profile_of(reference, numeric={"x": RNG.normal(0, 1, 200)}) for _ in range(3)]
    assert told(CHECK, reference, *quiet)["x"].verdict == "ok"
    shifted = [profile_of(reference, numeric={"x": RNG.normal(1.2, 1, 200)}) for _ in range(12)]
    found = [window["x"] for window in over_windows(CHECK, reference, shifted)]
    assert (found[0].verdict, found[0].reason[:15]) == ("unknown", "it differs, but")
    assert found[-1].verdict == "mismatch"


def test_a_mismatch_goes_away_with_its_cause() -> None:
    reference = daily(x=normal_feature())
    shifts = [0.0] * 12 + [0.6] * 10 + [0.0] * 12
    days = [profile_of(reference, numeric={"x": RNG.normal(shift, 1, 500)}) for shift in shifts]
    verdicts = [window["x"].verdict for window in over_windows(CHECK, reference, days)]
    assert verdicts[21] == "mismatch"
    assert verdicts[23:] == ["ok"] * 11


# ---- the season ----


def test_without_a_season_the_daily_cycle_would_be_drift() -> None:
    reference = declared(described("daily cycle", 200), system_context={"season": "1 hour"})
    stream = windows("daily cycle", reference, n=200, count=72, seed=1)
    assert opening(over_windows(CHECK, reference, stream)) is not None


@pytest.mark.parametrize(
    ("window", "season", "parts", "hours"),
    [(HOUR, None, 8, 3), (DAY, None, 1, 0), (DAY, "7 days", 7, 24), (HOUR, "1 week", 8, 21), (5 * HOUR, None, 1, 0)],
)
def test_parts_of_a_season(window: int, season: str | None, parts: int, hours: int) -> None:
    reference = small_reference(window_us=window)
    if season:
        reference = declared(reference, system_context={"season": season})
    found = season_of(observed(Profile(), reference))
    assert (found.parts, found.part_us) == (parts, hours * HOUR)


def test_the_first_season_is_unknown_and_later_windows_keep_its_verdict() -> None:
    reference = small_reference(numeric={"x": normal_feature()})
    hours = [profile_of(reference, numeric={"x": RNG.normal(0, 1, 100)}) for _ in range(30)]
    verdicts = [window["x"] for window in over_windows(CHECK, reference, hours)]
    assert {v.verdict for v in verdicts[:23]} == {"unknown"}
    assert "first season of 1.0 days" in verdicts[0].reason
    assert {v.verdict for v in verdicts[23:]} == {"ok"}


def test_the_message_tells_the_season_and_not_the_last_hour() -> None:
    """A daily cycle of 1 sd around a mean that moved by 2."""
    reference = small_reference(numeric={"x": normal_feature(unit="m")})
    rows = [RNG.normal(2 + np.sin(2 * np.pi * hour / 24), 1, 100) for hour in range(48)]
    verdict = told(CHECK, reference, *(profile_of(reference, numeric={"x": row}) for row in rows))["x"]
    assert verdict.verdict == "mismatch"
    assert verdict.right is not None
    assert verdict.right.value == pytest.approx(2, abs=0.1)
    assert verdict.message.endswith("declared 0 m, in 2400 values")


def test_an_hour_without_events_is_unknown() -> None:
    reference = small_reference(numeric={"x": normal_feature()})
    hours = [profile_of(reference, numeric={"x": RNG.normal(0, 1, 100)}) for _ in range(30)]
    last = told(CHECK, reference, *hours, Profile())["x"]
    assert (last.verdict, last.reason) == ("unknown", "no events in this window")


def test_what_is_remembered_is_bounded_and_survives_storage() -> None:
    reference = small_reference(
        numeric={"x": normal_feature()}, categorical={"c": CategoricalFeature({str(k): 0.005 for k in range(200)}, 999)}
    )
    traffic = Traffic("iid", 3, features=1)
    memories: list[Memory] = [{}, {}]
    for index in range(60):
        profile = profile_of(
            reference, numeric={"x": traffic.rows(60)[0]}, categorical={"c": [str(k) for k in range(60)]}
        )
        lines = [list(CHECK.live(observed(profile, reference, index=index, memory=m))) for m in memories if CHECK.live]
        assert lines[0] == lines[1]
        memories[1] = msgspec.msgpack.decode(msgspec.msgpack.encode(memories[1]), type=Memory)
    assert memories[0] == memories[1]
    assert max(map(len, memories[0].values())) <= MEMORY_SIZE


def test_many_bins_are_joined() -> None:
    counts, shares = coarse(np.arange(100.0), np.full(100, 0.01))
    assert len(counts) == len(shares) == MAX_BINS
    assert (counts.sum(), shares.sum()) == (pytest.approx(4950), pytest.approx(1))
    assert coarse(np.ones(14), np.ones(14))[0].shape == (14,)


# ---- what cannot be judged ----


@pytest.mark.parametrize(
    ("feature", "numeric", "reason"),
    [
        (NumericFeature(), {"x": [1.0]}, "no reference quantiles"),
        (normal_feature(), {}, "do not carry it"),
        (normal_feature(), {"x": [np.nan] * 100}, "missing in every event"),
        (normal_feature(), {"x": RNG.normal(size=20)}, "20 observed values in effect, 50 are needed"),
        (normal_feature(n=0), {"x": RNG.normal(size=100)}, "a reference n above"),
    ],
)
def test_no_evidence_is_unknown(feature: NumericFeature, numeric: dict[str, Any], reason: str) -> None:
    reference = daily(x=feature)
    columns = {k: np.asarray(v) for k, v in numeric.items()}
    missing = {k: np.isnan(v) for k, v in columns.items()}
    profile = profile_of(
        reference,
        numeric=columns,
        missing=missing,
        latency_ms=np.ones(100 if not numeric else 0) if not numeric else None,
    )
    verdict = told(CHECK, reference, profile)["x"]
    assert verdict.verdict == "unknown"
    assert reason in verdict.reason


def test_nothing_declared_and_no_block_yet() -> None:
    assert told(CHECK, small_reference(), Profile())[""].reason.endswith("features is not declared")
    assert CHECK.live is not None
    reference = daily(x=normal_feature())
    assert by_field(CHECK.live(observed(Profile(), reference, block=None)))[""].reason == "fewer than 50 events so far"


# ---- the statistics behind it ----


def test_the_promise_is_shared_out() -> None:
    seen = observed(Profile(), small_reference())
    assert level(seen, 90 * DAY, 1) == 0.05  # never more
    assert level(seen, DAY, 10) == pytest.approx(1 / 90 / 2 / 3 / 10)  # half is for changes in time
    yearly = declared(small_reference(), system_context={"false_alarms": "2 per 365 days"})
    assert level(observed(Profile(), yearly), DAY, 10) == pytest.approx(2 / 365 / 2 / 3 / 10)
    daily_text = declared(small_reference(), system_context={"false_alarms": "0.1 per day"})
    assert level(observed(Profile(), daily_text), DAY, 10) == pytest.approx(0.1 / 2 / 3 / 10)
    vague = declared(small_reference(), system_context={"false_alarms": "rarely"})
    with pytest.raises(ValueError, match=r"false_alarms: 'rarely' is no rate"):
        level(observed(Profile(), vague), DAY, 10)


def test_normal_scores_are_standard_and_follow_a_shift() -> None:
    feature = normal_feature()
    scores, gain = normal_scores(np.array(feature.shares))
    assert np.array(feature.shares) @ scores == pytest.approx(0, abs=1e-9)
    assert np.array(feature.shares) @ scores**2 == pytest.approx(1)
    x = np.random.default_rng(2).normal(0.2, 1, 200_000)
    mean = scores[np.searchsorted(feature.edges, x)].mean() / gain
    assert mean == pytest.approx(0.2, abs=0.02)


def test_the_run_length_of_the_cumulative_sum() -> None:
    """Two-sided, independent standard normal steps: the mean time to a false alarm is what was asked for."""
    rng, limit, runs = np.random.default_rng(5), cusum_limit(1 / 200), []
    for _ in range(600):
        up = down = steps = 0.0
        while max(up, down) <= limit:
            y = rng.standard_normal()
            up, down, steps = max(0.0, up + y - 0.5), max(0.0, down - y - 0.5), steps + 1
        runs.append(steps)
    assert np.mean(runs) == pytest.approx(200, rel=0.15)


def test_dependence_is_found_and_a_step_is_none() -> None:
    rng = np.random.default_rng(6)
    sizes = np.full(60, 500.0)
    independent = rng.standard_normal((60, 500)).mean(1)
    assert inflation(independent, sizes).factor == pytest.approx(1, abs=0.4)
    assert inflation(independent + 2.0 * (np.arange(60) > 40), sizes).factor < 2
    cycle = independent + np.sin(np.arange(60) * 2 * np.pi / 8)
    assert inflation(cycle, sizes, season=8).factor == pytest.approx(1, abs=0.4)
    dependent = np.concatenate([Traffic("AR(1) 0.9", 7, features=1).rows(500 * 60)[0]]).reshape(60, 500).mean(1)
    assert inflation(dependent, sizes).factor == pytest.approx(19, rel=0.5)
    assert inflation(independent[:5], sizes[:5]) == (PRIOR, 0)


# ---- at design time: TEC's rule 15 ----


def statistics(*facts: tuple[str, str, object]) -> list[dict[str, object]]:
    return [{"property": name, "field": field, "value": value} for field, name, value in facts]


def at_design(trained: Any, produced: Any, **training: Any) -> dict[str, Verdict]:
    assert CHECK.design is not None
    trees = {"training_data": {"statistics": trained, **training}, "production_data": {"statistics": produced}}
    return by_field(CHECK.design(Workplace(trees)))


@pytest.mark.parametrize(
    ("left", "right", "outcome"),
    [
        ("1.0", "1", "ok"), ("5.0", "5.1", "ok"), ("5.0", "500.0", "mismatch"), ("Normal", "normal", "ok"),
        ("Normal", "Log-normal", "mismatch"), ("3 km", "3000 m", "ok"), ("3 km", "3000 s", "mismatch"),
        ("-2", "2", "mismatch"), ("", "2", "mismatch"),
    ],
)  # fmt: skip
def test_declared_statistics_are_compared_as_what_they_are(left: str, right: str, outcome: str) -> None:
    found = at_design(statistics(("a", "Mean", left)), statistics(("a", "Mean", right)))
    assert found["a.mean"].verdict == outcome


def test_every_field_is_compared_with_its_own_statistic() -> None:
    """TEC takes the first statistic of that name, so it never compares the second field."""
    trained = statistics(("a", "Mean", "1.0"), ("b", "Mean", "5.0"), ("b", "Median", "5"))
    produced = statistics(("a", "Mean", "1"), ("b", "Mean", "500.0"), ("b", "Median", "5"))
    found = at_design(trained, produced)
    assert [field for field, verdict in found.items() if verdict.verdict == "mismatch"] == ["b.mean"]
    assert "training_data.statistics[1].value" in found["b.mean"].message
    assert "production_data.statistics[1].value" in found["b.mean"].message


def test_fields_keep_their_mapping_and_what_one_side_lacks_is_unknown() -> None:
    schema = [{"field_name": "inc", "mapping_production_data": "income"}]
    trained = statistics(("inc", "Mean", 5), ("inc", "Skew", 1))
    found = at_design(trained, statistics(("income", "mean", 5)), schema=schema)
    assert found["income.mean"].verdict == "ok"
    assert found["income.skew"].reason == "production_data.statistics does not say the skew of income"
    assert at_design(trained, [])[""].reason == "production_data.statistics is not declared"
    assert at_design([], []) == {}


def test_a_known_sd_and_n_set_the_tolerance() -> None:
    features = {"a": {"sd": 10.0, "n": 25}}
    for other, outcome in (("103", "ok"), ("104", "mismatch")):
        found = at_design(
            statistics(("a", "Mean", "100")), statistics(("a", "Mean", other)), bestbefore={"features": features}
        )
        assert found["a.mean"].verdict == outcome
