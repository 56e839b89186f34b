"""A good mean hides a bad tail; a rate that doubles; silence."""

from typing import Any

import msgspec
import numpy as np

from models.checks.latency_rate_buffering import CHECK
from models.checks.observed import Memory
from models.checks.verdict import Verdict
from models.profile import Profile
from models.reference import Reference
from tests.observing import by_field, declared, observed, profile_of, small_reference

BASE = msgspec.structs.replace(small_reference(), latency_limit_ms=50.0)
REFERENCE = declared(
    BASE, production_environment={"latency": {"percentile": 99, "value": 50, "unit": "ms"}},
    production_data={"rate": {"mean": 1000, "unit": "1/hour"}},
)  # fmt: skip


def window(latency: Any, n: int = 1000) -> Profile:
    return profile_of(REFERENCE, latency_ms=np.resize(latency, n).astype(float))


def verdicts(profile: Profile, reference: Reference = REFERENCE) -> dict[str, Verdict]:
    return by_field(CHECK.live(observed(profile, reference)))  # type: ignore[misc]


def test_two_kinds_of_answers_with_a_good_mean_and_a_bad_tail() -> None:
    rng = np.random.default_rng(0)
    bimodal = np.where(rng.random(1000) < 0.05, 300.0, rng.gamma(4, 2, 1000))
    assert bimodal.mean() < 50
    found = verdicts(window(bimodal))["latency"]
    assert found.verdict == "mismatch"
    assert "took longer than 50 ms" in found.message
    assert verdicts(window(rng.gamma(4, 2, 1000)))["latency"].verdict == "ok"


def test_a_limit_within_a_bin_is_unknown_rather_than_guessed() -> None:
    assert verdicts(window(np.full(1000, 49.0)))["latency"].verdict == "unknown"


def rates(reference: Reference, sizes: list[int]) -> list[Verdict]:
    """What is said of the rate, hour after hour."""
    assert CHECK.fleet is not None
    memory: Memory = {}
    profiles = [window([5.0], n) if n else Profile() for n in sizes]
    seen = [observed(p, reference, index=i, memory=memory, block=p or None) for i, p in enumerate(profiles)]
    return [by_field(CHECK.fleet(one))["rate"] for one in seen]


def test_twice_the_declared_rate_and_silence() -> None:
    assert rates(REFERENCE, [1000] * 24)[-1].verdict == "ok"
    twice = rates(REFERENCE, [2000] * 24)
    assert [v.verdict for v in twice] == ["unknown"] * 23 + ["mismatch"]
    assert "on average over 24 windows" in twice[-1].message
    (silent,) = rates(REFERENCE, [0])
    assert (silent.verdict, silent.severity) == ("mismatch", "critical")
    assert "silent" in silent.message


def test_a_daily_cycle_is_no_burst() -> None:
    hours = np.arange(24 * 7)
    sizes = (1000 * (1 + 0.8 * np.sin(2 * np.pi * hours / 24))).astype(int).tolist()
    assert {v.verdict for v in rates(REFERENCE, sizes)} == {"unknown", "ok"}


def test_a_burst_above_the_declared_peak_and_an_average_above_the_declared_mean() -> None:
    reference = declared(BASE, production_data={"rate": {"mean": 1000, "p99": 4000, "unit": "1/hour"}})
    assert [v.verdict for v in rates(reference, [1000, 3500, 900, 1200])] == ["ok"] * 4
    assert rates(reference, [5000])[0].verdict == "mismatch"
    assert rates(reference, [2000] * 24)[-1].verdict == "mismatch"


def test_windows_of_24_where_50_are_declared() -> None:
    reference = declared(BASE, production_data={"window_size": 50})
    assert verdicts(window([5.0], 24), reference)["window_size"].verdict == "mismatch"
    assert verdicts(window([5.0], 50), reference)["window_size"].verdict == "ok"
