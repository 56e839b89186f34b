"""Readings from labels: unbiased under any proxy, unequal propensities and delays that depend on the outcome."""

import tracemalloc

import msgspec
import numpy as np
import pytest

from models.audits import AUDIT_BLOCK, audit_readings, audits_of, estimate_of, mark, power
from models.closed_windows import Delays, closed
from models.columns import Categories, Inferences, Outcomes
from models.evidence import Evidence, remember
from models.fixed_point import WEIGHT, fixed
from models.label_sampling import Plan, step_of, stepped
from models.profile import Profile
from models.profile_audits import cells_of
from models.quality import Estimate
from models.reference import LabelTerms, Reference

HOUR = 3_600_000_000
REFERENCE = Reference("m", "1", window_us=HOUR, lateness_us=0)
PLAN = Plan(rate=0.1, doubt=0.25)
Floats = np.ndarray


class Day:
    """One window of traffic: P(correct), what the model claims, correctness, and how likely labels are asked for."""

    def __init__(self, rng: np.random.Generator, n: int = 2000, plan: Plan | None = None, claim: str = "true") -> None:
        self.p = np.clip(rng.beta(5, 0.8, n), 0.05, 0.999)
        self.correct = rng.random(n) < self.p
        claims = {"true": self.p, "noise": rng.random(n), "opposite": 1 - self.p}
        self.confidence = claims[claim]
        proxy = stepped(self.confidence)
        self.propensity = np.full(n, 0.1) if plan is None else plan.propensities(proxy)
        self.asked = rng.random(n) < self.propensity
        self.step = step_of(proxy)

    def traffic(self, *, asking: bool = True) -> Profile:
        n, made = len(self.p), Profile()
        rows = Inferences(offset=np.arange(n), time=np.arange(n))
        made.add(rows, REFERENCE)
        # The histogram of confidences, as `Profile` keeps it of scores; here it may be of nonsense.
        made.histogram("confidence", self.step, 64, None)
        made.count("scored", n * WEIGHT)
        made.sum("confidence", np.array([fixed(self.confidence, None), 0]))
        if asking:
            rows.propensity, rows.asked, rows.step = self.propensity, self.asked, self.step
            made.merge(_only_asked(rows))
        return made

    def labels(self, who: Floats, *, asked: bool = True) -> Profile:
        made, n = Profile(), int(who.sum())
        rows = Outcomes(
            offset=np.arange(n), time=np.arange(n), event_time=np.arange(n), weight=1 / self.propensity[who],
            correct=self.correct[who], truth=Categories(np.zeros(n, np.int32), ("x",)),
            confidence=self.confidence[who], feedback=np.zeros(n, bool), asked=np.full(n, asked),
        )  # fmt: skip
        made.add(rows, REFERENCE)
        return made


def _only_asked(rows: Inferences) -> Profile:
    made = Profile()
    made.add(rows, REFERENCE)
    made.counts = {k: v for k, v in made.counts.items() if k.startswith("asked.")}
    made.categories = {k: v for k, v in made.categories.items() if k.startswith("asked.")}
    made.histograms = {}
    return made


def read(ring: list[Evidence], reference: Reference) -> dict[int, Estimate]:
    mark(ring, reference)
    return audit_readings(ring, reference)


def heard(days: list[Day]) -> list[Evidence]:
    """All labels came at once."""
    ring: list[Evidence] = []
    for i, day in enumerate(days):
        remember(ring, i * HOUR, day.traffic().merge(day.labels(day.asked)))
    return ring


@pytest.mark.parametrize("claim", ["true", "noise", "opposite"])
@pytest.mark.parametrize("plan", [None, PLAN])
def test_readings_are_unbiased_and_their_intervals_hold_whatever_the_proxy_is_worth(
    claim: str, plan: Plan | None
) -> None:
    errors, hits, widths, plain = [], [], [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        days = [Day(rng, 1000, plan, claim) for _ in range(12)]
        ring = heard(days)
        for number, found in read(ring, REFERENCE).items():
            truth = days[number].correct.mean()
            assert found.estimate is not None
            assert found.low is not None
            assert found.high is not None
            errors.append(found.estimate - truth)
            hits.append(found.low <= truth <= found.high)
            widths.append(found.high - found.low)
            alone = ring[number].audited()
            assert alone.high is not None
            assert alone.low is not None
            plain.append(alone.high - alone.low)
    assert abs(np.mean(errors)) < 0.004  # standard error .0013; the ratio itself is biased by a fraction of that
    assert np.mean(hits) > 0.84
    assert np.median(widths) < (0.97 if claim == "true" else 1.02) * np.median(plain)


def test_missing_labels_count_both_ways_unless_they_are_declared_to_be_missing_by_chance() -> None:
    rng = np.random.default_rng(1)
    day = Day(rng)
    ring: list[Evidence] = []
    answered = day.asked & (day.correct | (rng.random(len(day.p)) < 0.5))  # half of the wrong ones are never labelled
    remember(ring, 0, day.traffic().merge(day.labels(answered)))
    found = audits_of(ring)
    assert found.missing == pytest.approx((day.asked.sum() - answered.sum()) / day.asked.sum())
    wide, narrow = (estimate_of(found, power(found), at_random=at_random) for at_random in (False, True))
    assert wide.low is not None
    assert narrow.low is not None
    assert wide.low < day.correct.mean() < narrow.low
    assert (wide.n_effective or 0) < (narrow.n_effective or 0)


def test_what_is_missing_is_found_in_the_cells() -> None:
    day = Day(np.random.default_rng(2), plan=PLAN)
    some = day.asked & (np.arange(len(day.p)) % 3 > 0)
    ring: list[Evidence] = []
    remember(ring, 0, day.traffic())
    remember(ring, 0, day.labels(some))
    found = cells_of(ring[0].cells, ring[0].asked_cells)
    came = ~np.isnan(found.correct)
    assert (int(came.sum()), len(came), found.spilt) == (int(some.sum()), int(day.asked.sum()), 0)
    assert sorted(found.propensity[~came]) == pytest.approx(sorted(day.propensity[day.asked & ~some]))
    assert sorted(found.proxy[came]) == pytest.approx(sorted(stepped(day.confidence[some])))


def late(seed: int, windows: int, now: int) -> tuple[list[Evidence], list[Day]]:
    """Labels of right answers come after 3 windows on average, those of wrong ones after 6."""
    rng = np.random.default_rng(seed)
    ring: list[Evidence] = []
    days = [Day(rng, 1500) for _ in range(windows)]
    for i, day in enumerate(days):
        delay = rng.poisson(np.where(day.correct, 3, 6))
        remember(ring, i * HOUR, day.traffic(asking=False))
        for age in range(min(delay.max(), now - i) + 1):
            who = day.asked & (delay == age)
            if who.any():
                remember(ring, i * HOUR, day.labels(who, asked=False), age)
    return ring, days


def test_labels_that_come_by_outcome_bias_neither_closed_nor_open_windows() -> None:
    """An average of what has come is far too good; what is read here is right on average, open windows included."""
    naive, young, old, hits = [], [], [], []
    for seed in range(6):
        ring, days = late(seed, 40, 39)
        delays = Delays(ring, 39 * HOUR, HOUR)
        found = read(ring, REFERENCE)
        for number, one in found.items():
            truth = days[number].correct.mean()
            assert one.estimate is not None
            assert one.low is not None
            assert one.high is not None
            if closed(ring[number], delays, 39 * HOUR, HOUR):
                old.append(one.estimate - truth)
            else:
                young.append(one.estimate - truth)
                naive.append((ring[number].audited().estimate or 0) - truth)
            hits.append(one.low <= truth <= one.high)
    assert len(young) > 30
    assert np.mean(naive) > 0.03
    assert abs(np.mean(young)) < max(3 * np.std(young) / np.sqrt(len(young)), 0.01)
    assert abs(np.mean(old)) < 0.01
    assert np.mean(hits) > 0.85


def test_a_window_closes_as_soon_as_it_can() -> None:
    ring, _ = late(0, 40, 39)
    delays, now = Delays(ring, 39 * HOUR, HOUR), 39 * HOUR
    ages = {number: closed(window, delays, now, HOUR) for number, window in enumerate(ring)}
    first_open = next(number for number, is_so in ages.items() if not is_so)
    assert 39 - first_open in range(8, 13)  # 95% of Poisson(6) is 10
    assert delays.quantile(0.5) in (2, 3)
    # Declared: no longer than that. Complete: at once.
    assert closed(ring[36], delays, now, HOUR, 3 * HOUR)
    assert not closed(ring[36], delays, now, HOUR, 8 * HOUR)
    assert closed(msgspec.structs.replace(ring[39], asked=5, audit_asked=5), delays, now, HOUR, 8 * HOUR)
    # Nothing known: twice the oldest age that a label had, so labels that come at once are read at once.
    early, _ = late(0, 4, 3)
    few = Delays(early, 3 * HOUR, HOUR)
    assert few.arrived(1) is None
    assert not closed(early[0], few, 3 * HOUR, HOUR)
    assert all(closed(e, Delays([e], e.start, HOUR), e.start, HOUR) for e in heard([Day(np.random.default_rng(0))]))


def test_an_open_window_is_read_with_few_labels_missing_only() -> None:
    ring, _ = late(1, 40, 39)
    found = read(ring, msgspec.structs.replace(REFERENCE, labels=LabelTerms(delay_us=30 * HOUR)))
    assert max(found) < 39
    assert min(39 - number for number in found) >= 3
    assert all(ring[number].audits >= AUDIT_BLOCK for number in found)


def test_feedback_never_enters() -> None:
    """Users say "wrong" of twenty times as many wrong answers as of right ones."""
    rng = np.random.default_rng(3)
    days = [Day(rng) for _ in range(4)]
    ring = heard(days)
    for i, day in enumerate(days):
        said = rng.random(len(day.p)) < np.where(day.correct, 0.015, 0.3)
        n, made = int(said.sum()), Profile()
        rows = Outcomes(
            offset=np.arange(n), time=np.arange(n), event_time=np.arange(n), correct=np.zeros(n, bool),
            truth=Categories(np.full(n, -1, np.int32), ()), confidence=day.confidence[said], feedback=np.ones(n, bool),
        )  # fmt: skip
        made.add(rows, REFERENCE)
        remember(ring, i * HOUR, made)
    assert read(ring, REFERENCE) == read(heard(days), REFERENCE)
    assert [e.audited() for e in ring] == [e.audited() for e in heard(days)]


def test_windows_far_apart_cost_no_more_than_others() -> None:
    """One window a day, of a minute each: delays are of the ages that labels had, not of all that there could be."""
    minute, day = 60_000_000, 1_440
    ring = [Evidence(i * day * minute, audits=2, ages={2: 1, 2 * 400_000 + 1: 1}) for i in range(180)]
    tracemalloc.start()
    delays = Delays(ring, ring[-1].start, minute)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20
    assert delays.watched == 179 * day
    assert delays.oldest == delays.watched  # what came later than any window was watched counts as of the last age
    assert delays.quantile(0.4) == 1
    assert delays.arrived(0) == (0.0, 0.0)
    assert delays.arrived(1, delays.watched) == (1.0, 0.0)
