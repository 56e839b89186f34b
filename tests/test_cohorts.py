"""Closed cohorts and delay curves: late labels of wrong answers must not make the model look good."""

import msgspec
import numpy as np
import pytest

from models.cohorts import CAPACITY, Audit, Closed, Cohorts, CohortsState
from models.delays import BINS, DelayCurve, DelayState, bin_of, edge
from models.prediction_powered import AuditedAccuracy, Traffic

LENGTH = 1000


def traffic(n: int = LENGTH, proxy: float = 0.8, propensity: float = 0.05) -> Traffic:
    found = Traffic()
    found.update(np.full(n, proxy), np.full(n, propensity))
    return found


def audits(start: int, n: int = 4) -> list[Audit]:
    return [Audit(start * 1000 + i, 0.8, 0.05) for i in range(n)]


def test_bins_hold_the_ages_they_say() -> None:
    for age in (0, 0.5, 1, 1.2, 2, 3, 1e3, 1e6):
        b = bin_of(age)
        assert age <= edge(b) * (1 + 1e-9)
        assert b == 0 or age > edge(b - 1) * (1 - 1e-9)
    assert bin_of(1e30) == BINS - 1


def test_a_cohort_closes_when_all_labels_came_and_not_before_an_older_one() -> None:
    book = Cohorts(10**9, unit_us=1)
    for start in (0, LENGTH):
        assert book.expect(start, start + LENGTH, traffic(), audits(start))
    for audit in audits(LENGTH):
        assert book.update(LENGTH, audit.key, True, 10)
    assert book.advance(2 * LENGTH) == []
    for audit in audits(0):
        book.update(0, audit.key, False, 10)
    closed = book.advance(2 * LENGTH)
    assert [(c.start, c.reason, c.missing) for c in closed] == [(0, "complete", 0), (LENGTH, "complete", 0)]
    assert closed[0].correct.tolist() == [0.0] * 4
    assert not book.expect(0, LENGTH, traffic(), audits(0))
    assert not book.update(0, 1, True, 10)
    assert book.late == 1


def test_the_oldest_age_ends_the_waiting_and_what_is_missing_is_nan() -> None:
    book = Cohorts(5 * LENGTH, unit_us=1)
    book.expect(0, LENGTH, traffic(), audits(0))
    book.update(0, 2, True, 10)
    assert book.advance(6 * LENGTH - 1) == []
    (closed,) = book.advance(6 * LENGTH)
    assert (closed.reason, closed.missing) == ("age", 3)
    assert np.isnan(closed.correct).sum() == 3


def test_labels_that_nobody_asked_for_and_second_labels_do_not_count() -> None:
    book = Cohorts(10**6, unit_us=1)
    book.expect(0, LENGTH, traffic(), audits(0))
    assert not book.update(0, 999, True, 1)
    assert not book.update(7 * LENGTH, 1, True, 1)
    assert book.update(0, 1, True, 1)
    assert not book.update(0, 1, False, 1)
    assert (book.unasked, book.open[0].arrived, book.open[0].missing) == (2, 1, 3)


def test_too_many_audits_are_thinned_alike_in_any_order() -> None:
    many = [Audit(int(k), 0.8, 0.05) for k in np.random.default_rng(1).integers(0, 2**63, 3 * CAPACITY)]
    kept = []
    for order in (many, many[::-1]):
        book = Cohorts(10**6, unit_us=1)
        for part in range(0, len(order), 500):
            book.expect(0, LENGTH, traffic(), order[part : part + 500])
        kept.append(set(book.open[0].audits))
    assert kept[0] == kept[1]
    assert CAPACITY / 4 < len(kept[0]) <= CAPACITY


def test_delay_curves_are_learned_from_cohorts_that_are_not_complete() -> None:
    rng = np.random.default_rng(2)
    curve = DelayCurve()
    delays = [rng.exponential(mean, 20_000) for mean in (3000, 1000)]
    counts = np.array([np.bincount([bin_of(d) for d in one], minlength=BINS) for one in delays])
    assert curve.share(100.0) is None
    for b in range(bin_of(24_000)):
        curve.update(b, counts)
    shares = curve.share(edge(bin_of(4000)))
    assert shares is not None
    for got, mean in zip(shares, (3000, 1000), strict=True):
        assert got == pytest.approx(1 - np.exp(-edge(bin_of(4000)) / mean), abs=0.02)
    assert curve.share(20_000.0) is None  # not watched to twice that age
    assert DelayCurve.from_state(curve.state).state == curve.state
    with pytest.raises(ValueError, match="has version 3"):
        DelayCurve.from_state(DelayState(version=3))


def stream(seed: int, restart: bool = False) -> tuple[list[Closed], np.ndarray, Cohorts]:
    """60 windows, labels of right answers after 1,000 events, of wrong ones after 3,000 on average."""
    rng = np.random.default_rng(seed)
    n = 60 * LENGTH
    proxy = np.clip(rng.beta(5, 1.1, n), 0.02, 0.99)
    right = rng.random(n) < proxy
    delay = rng.exponential(np.where(right, 1000, 3000)).astype(int)
    asked = np.flatnonzero(rng.random(n) < 0.05)
    by_arrival = asked[np.argsort(asked + delay[asked], kind="stable")].tolist()
    book, closed, given = Cohorts(n, unit_us=50), [], 0
    for now in range(LENGTH, n + 1, LENGTH):
        start, seen = now - LENGTH, Traffic()
        seen.update(proxy[start:now], np.full(LENGTH, 0.05))
        mine = asked[(asked >= start) & (asked < now)].tolist()
        book.expect(start, now, seen, [Audit(i * 0x9E3779B97F4A7C15 % 2**63, float(proxy[i]), 0.05) for i in mine])
        while given < len(by_arrival) and by_arrival[given] + delay[by_arrival[given]] <= now:
            i = by_arrival[given]
            book.update(i // LENGTH * LENGTH, i * 0x9E3779B97F4A7C15 % 2**63, bool(right[i]), int(delay[i]))
            given += 1
        closed += book.advance(now)
        if restart:
            packed = msgspec.msgpack.encode(book.state)
            book = Cohorts.from_state(msgspec.msgpack.decode(packed, type=CohortsState))
    return closed, right, book


def test_closed_cohorts_have_little_bias_where_wrong_answers_are_labelled_late() -> None:
    errors = []
    for seed in range(8):
        closed, right, _ = stream(seed)
        audited = AuditedAccuracy(cells=50)
        for one in closed:
            audited.update(one.traffic, one.correct, one.proxy, one.propensity)
        found = audited.estimate
        assert found.estimate is not None
        errors.append(found.estimate - right[: len(closed) * LENGTH].mean())
        assert [c.start for c in closed] == [i * LENGTH for i in range(len(closed))]
        assert len(closed) > 30
    assert abs(np.mean(errors)) < 0.012  # averages by arrival are off by .018 after 20,000 events


def test_state_goes_on_bit_for_bit() -> None:
    one, _, book = stream(3)
    two, _, again = stream(3, restart=True)
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert (a.start, a.reason, a.traffic) == (b.start, b.reason, b.traffic)
        np.testing.assert_array_equal(a.correct, b.correct)
    assert book.state == again.state
    with pytest.raises(ValueError, match="has version 2"):
        Cohorts.from_state(msgspec.structs.replace(book.state, version=2))
