"""Every statistic of live traffic that users may name: value, unit, 90% interval, n."""

import msgspec
import numpy as np
import pytest

from models.checks.observed import Observed
from models.checks.telemetry import STATISTICS, explained, measured
from models.evidence import Evidence, remember
from models.profile import Profile
from models.quality import Estimate
from models.reference import CategoricalFeature
from tests.observing import START, labelled, normal_feature, observed, profile_of, small_reference


def everything(n: int = 1000) -> tuple[Profile, Observed]:
    """A window in which every statistic is known."""
    rng = np.random.default_rng(4)
    reference = small_reference(
        numeric={"income": normal_feature(unit="EUR", low=-2.0, high=2.0)},
        categorical={"site": CategoricalFeature(allowed=("A", "B"), n=5000)},
    )
    top = np.linspace(0.6, 0.9, n)
    income = rng.normal(0.5, 2.0, n)
    income[:100] = np.nan
    failed = np.arange(n) < 20
    profile = profile_of(
        reference, numeric={"income": income}, missing={"income": np.isnan(income)},
        categorical={"site": ["A"] * 700 + ["B"] * 200 + ["C"] * 100}, label=["yes"] * 250 + ["no"] * 750,
        scores=np.stack((top, 1 - top), axis=1).astype(np.float32), latency_ms=np.linspace(1, 100, n),
        value=rng.normal(7.0, 2.0, n), failed=failed, abstained=np.arange(n) >= 900,
        id_hash=np.repeat(np.arange(1, n // 2 + 1, dtype=np.uint64), 2),
    )  # fmt: skip
    profile = profile.merge(labelled(reference, ["yes"] * 100, np.arange(100) < 80))
    ring: list[Evidence] = []
    remember(ring, START, profile)
    estimate = Estimate(estimate=0.82, low=0.78, high=0.86, n=100, basis="labels")
    return profile, observed(profile, reference, ring=ring, estimate=estimate)


@pytest.mark.parametrize(
    ("path", "truth", "unit", "n"),
    [
        ("n", 1000, "", 1000),
        ("rate", 1000 / 3600, "1/s", 1000),
        ("latency.p50", 50.5, "ms", 1000),
        ("latency.p99.5", 99.5, "ms", 1000),
        ("failed", 0.02, "", 1000),
        ("abstained", 0.1, "", 1000),
        ("duplicates", 0.5, "", 1000),
        ("filled.latency_ms", 1.0, "", 1000),
        ("filled.digest", 0.0, "", 1000),
        ("features.income.mean", 0.5, "EUR", 900),
        ("features.income.sd", 2.0, "EUR", 900),
        ("features.income.quantile.0.5", 0.5, "EUR", 900),
        ('features["income"].missing', 0.1, "", 1000),
        ("features.income.violations", 0.9 * 0.332, "", 1000),
        ("features.site.violations", 0.1, "", 1000),
        ("features.site.share.B", 0.2, "", 1000),
        ("features.site.share.Z", 0.0, "", 1000),
        ("label.yes.share", 0.25, "", 1000),
        ("value.mean", 7.0, "", None),
        ("confidence.mean", 0.738, "", None),
        ("quality.accuracy", 0.8, "", 100),
        ("audited.accuracy", 0.8, "", 100),
    ],
)
def test_every_statistic_has_value_unit_interval_and_n(path: str, truth: float, unit: str, n: float | None) -> None:
    _, seen = everything()
    found = measured(seen, f"telemetry.{path}")
    assert found.value == pytest.approx(truth, abs=max(0.12 * abs(truth), 0.02))
    assert found.unit == unit
    assert found.n == n if n is not None else (found.n or 0) > 500
    if path != "n":
        assert found.low is not None
        assert found.high is not None
        assert found.low - 1e-6 <= truth <= found.high + 1e-6
        assert found.low <= found.value <= found.high
    msgspec.json.encode(found)


def test_what_is_not_carried_has_no_value() -> None:
    _, seen = everything()
    for path in ("features.age.mean", "features.age.share.x", "features.site.quantile.0.5", "features.age.violations"):
        assert measured(seen, f"telemetry.{path}").value is None
    nothing = observed(Profile(), small_reference())
    for statistic in STATISTICS:
        path = statistic.pattern.replace("<percent>", "50").replace("<p>", "0.5")
        found = measured(nothing, "telemetry." + path.replace("<", "").replace(">", ""))
        assert found.value in ((0,) if statistic.joined == "window" else (None,)), path


def test_the_interval_of_a_quantile_holds_it() -> None:
    rng = np.random.default_rng(5)
    reference = small_reference(numeric={"x": normal_feature()})
    held = 0
    for _ in range(300):
        seen = observed(profile_of(reference, numeric={"x": rng.normal(size=300)}), reference)
        found = measured(seen, "telemetry.features.x.quantile.0.9")
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 1.2816 <= found.high
    assert held / 300 >= 0.9


def test_a_quantile_beyond_the_grid_stays_at_its_edge() -> None:
    reference = small_reference(numeric={"x": normal_feature()})
    seen = observed(profile_of(reference, numeric={"x": np.full(500, 40.0)}), reference)
    found = measured(seen, "telemetry.features.x.quantile.0.5")
    assert (found.value, found.low) == (2.0, 2.0)
    assert found.high is not None
    assert found.high > 40


def test_every_statistic_is_explained() -> None:
    rows = list(explained())
    assert len(rows) == len(STATISTICS) == len({name for name, _, _ in rows})
    assert all(name.startswith("telemetry.") and about for name, _, about in rows)


def test_sampled_events_weigh_more_and_prove_less() -> None:
    reference = small_reference()
    weight = np.where(np.arange(400) < 200, 1.0, 9.0)
    profile = profile_of(reference, label=["yes"] * 200 + ["no"] * 200, weight=weight)
    found = measured(observed(profile, reference), "telemetry.label.yes.share")
    assert found.value == pytest.approx(0.1)
    assert found.n == pytest.approx(2000**2 / (200 + 200 * 81), rel=0.01)
    rate = measured(observed(profile, reference), "telemetry.rate")
    assert rate.value == pytest.approx(2000 / 3600, rel=1e-3)
