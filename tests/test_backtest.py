"""The simulator of retraining policies: what a policy sees, what it is charged, and that nothing beats the oracle."""

import itertools

import numpy as np
import pytest

from models.age_curves import Reading, age_world
from models.backtest import Bits, Outcome, Past, Policy, Run, Setting, World, costs_served, figures, simulate
from models.backtest_oracle import oracle
from models.backtest_ours import Ours
from models.backtest_policies import Never, Periodic, tuned_period
from models.backtest_table import MAKERS, POLICIES, compare, difference, starting
from models.backtest_terms import Family, family_of, implied_margin

BELOW = Setting(threshold=0.85, lead=2, delay=3, cost_retrain=4.0, cost_degraded_per_day=1.0)
ERRORS = Setting(lead=1, delay=2, cost_retrain=60.0, cost_error=1.0)


def decaying(windows: int = 90, n: int = 200, seed: int = 0, *, poison: int | None = None) -> World:
    """Models that lose a point a window, sooner or later; from window `poison` on all is reversed."""

    def answers(trained: int) -> list[Bits]:
        rng = np.random.default_rng((seed, trained))
        onset = rng.integers(4, 14)
        ages = np.arange(windows - trained)
        quality = 0.93 - 0.01 * np.maximum(ages - onset, 0)
        wrong = rng.random((windows - trained, n)) >= quality[:, None]
        if poison is not None:
            wrong[max(poison - trained, 0) :] ^= True
        return list(wrong)

    return World(windows, answers, first=4)


class Scripted(Never):
    """Asks in given windows and remembers what it was shown."""

    def __init__(self, *windows: int) -> None:
        self.windows, self.shown, self.now = windows, list[tuple[int, Outcome]](), -1

    def learnt(self, outcome: Outcome) -> None:
        self.shown.append((self.now + 1, outcome))

    def asks(self, window: int) -> bool:
        self.now = window
        return window in self.windows


@pytest.mark.parametrize("setting", [BELOW, ERRORS], ids=["below", "errors"])
@pytest.mark.parametrize("name", MAKERS)
def test_no_policy_sees_what_comes_later(name: str, setting: Setting) -> None:
    """Everything from one window on is reversed: what was decided before its labels came stays the same."""
    clean, poison = decaying(), 58
    runs = []
    for world in (clean, decaying(poison=poison)):
        start = starting(world)
        policy = MAKERS[name](Past(world, start - setting.delay), setting, world.windows)
        runs.append(simulate(world, policy, setting, start=start))
    until = poison + setting.delay
    first, second = ([r for r in run.retrainings if r[0] < until] for run in runs)
    assert first == second
    if name not in ("never", "upf"):
        assert first, "a policy that did nothing shows nothing"


def test_labels_come_late_and_models_later() -> None:
    world, policy = decaying(), Scripted(30, 31, 40)
    run = simulate(world, policy, BELOW, start=20)
    # The second request falls into the first retraining: nobody asks while one is under way.
    assert run.retrainings == ((30, 33, 28), (40, 43, 38))
    assert [(now, o.window) for now, o in policy.shown[:3]] == [(23, 20), (24, 21), (25, 22)] or [
        now - o.window for now, o in policy.shown
    ] == [BELOW.delay] * len(policy.shown)
    assert {o.since for _, o in policy.shown} == {20, 33, 43}
    assert run.served[:13].tolist() == [17] * 13
    assert run.served[13:23].tolist() == [28] * 10
    assert np.array_equal(policy.shown[-1][1].wrong, world.wrong(38, policy.shown[-1][1].window))


def test_costs_add_up() -> None:
    world = decaying()
    run = simulate(world, Scripted(30, 50), BELOW, start=20)
    found = figures(world, run, BELOW)
    quality = [world.errors(int(i))[1][20 + k - int(i)] for k, i in enumerate(run.served)]
    days = sum(q < 0.85 for q in quality)
    assert found.cost == pytest.approx(2 * 4.0 + days * 1.0)
    assert found.below == pytest.approx(days / len(quality))
    assert found.retrains == 2
    wrong = sum(int(world.wrong(int(i), 20 + k).sum()) for k, i in enumerate(run.served))
    assert found.error == pytest.approx(wrong / (200 * len(quality)))
    assert float(costs_served(world, run, ERRORS).sum()) == pytest.approx(2 * 60.0 + wrong)


def test_a_retraining_that_comes_after_the_end_costs_nothing() -> None:
    world = decaying()
    late = simulate(world, Scripted(88), BELOW, start=20)
    assert late.retrainings == ()
    assert figures(world, late, BELOW).retrains == 0


def test_warning_and_missed_crossings() -> None:
    """One model that crosses in window 30 + 8: asked for in 35 there are three windows, in 40 there are none."""

    def quality(trained: int, window: int) -> float:
        return 0.9 if window - trained < 8 else 0.8

    world = World(60, lambda i: [np.zeros(10, bool)] * (60 - i), first=1, truth=quality)
    setting = Setting(threshold=0.85, cost_degraded_per_day=1.0)
    early, late = (figures(world, simulate(world, Scripted(w), setting, start=30, end=46), setting) for w in (35, 40))
    assert (early.missed, early.warning) == (1, 3.0)  # the second model crosses in 44, unasked for
    assert (late.missed, late.warning) == (1, -2.0)


@pytest.mark.parametrize("setting", [BELOW, ERRORS, Setting(cost_retrain=10.0, cost_error=1.0)])
def test_nothing_beats_the_oracle(setting: Setting) -> None:
    for seed in range(3):
        rows = {row.policy: row for row in compare(decaying(60, 60, seed), setting)}
        assert tuple(rows) == POLICIES
        assert all(row.regret >= -1e-9 for row in rows.values())
        assert rows["oracle"].regret == pytest.approx(0)


def test_the_oracle_is_the_best_of_all_schedules() -> None:
    """Every subset of windows to ask in, tried out."""
    setting = Setting(lead=1, delay=1, cost_retrain=15.0, cost_error=1.0)
    for seed in range(3):
        world = decaying(24, 60, seed)
        plans = itertools.chain.from_iterable(itertools.combinations(range(14, 23), k) for k in range(6))
        costs = [costs_served(world, simulate(world, Scripted(*p), setting, start=14), setting).sum() for p in plans]
        best = oracle(world, setting, start=14)
        assert float(costs_served(world, best, setting).sum()) == pytest.approx(min(costs))
        again = simulate(world, Scripted(*(asked for asked, _, _ in best.retrainings)), setting, start=14)
        assert same(best, again), "the oracle's plan can be carried out"


def same(one: Run, other: Run) -> bool:
    return bool(np.array_equal(one.served, other.served)) and one.retrainings == other.retrainings


def test_the_past_ends_where_labels_do() -> None:
    past = Past(decaying(), 20)
    assert len(past.wrong(10, 19)) == 200
    with pytest.raises(IndexError, match="window 20 is not past"):
        past.wrong(10, 20)
    with pytest.raises(IndexError, match="no answers"):
        past.world().wrong(10, 20)
    assert max(j for _, j, _, _ in past.errors()) == 19
    with pytest.raises(IndexError, match="no answers of a model trained for window 12 in window 11"):
        decaying().wrong(12, 11)


def test_a_schedule_is_kept_whatever_the_lead_time() -> None:
    world = decaying()
    for lead in (0, 3):
        run = simulate(world, Periodic(10, lead), Setting(lead=lead), start=20)
        assert [serves for _, serves, _ in run.retrainings] == [30, 40, 50, 60, 70, 80]


def test_the_schedule_is_tuned_on_the_past_alone() -> None:
    cheap, dear = (Setting(cost_retrain=c, cost_error=1.0) for c in (5.0, 1e6))
    past = Past(decaying(), 40)
    period = tuned_period(past, cheap)
    assert period is not None
    assert 2 <= period <= 20
    assert tuned_period(past, dear) is None


def test_what_the_past_tells_ours() -> None:
    past = Past(decaying(), 40)
    family = family_of(past, 0.85)
    assert 10 < family.life < 40, "models fall below .85 after 12 to 22 windows"
    assert family.within(0, 5) < 0.2 < family.within(10, 5)
    assert Family().within(0, 10) == pytest.approx(1 - np.exp(-10 / 124))
    margins = [implied_margin(past, Setting(cost_retrain=c, cost_error=1.0)) for c in (10.0, 100.0, 1000.0)]
    assert margins == sorted(margins), "the dearer a retraining, the more is put up with"


def test_ours_warns_before_models_like_earlier_ones_fall() -> None:
    rows = {row.policy: row for row in compare(decaying(), BELOW)}
    mine = rows["ours"].figures
    assert mine.missed is not None
    assert mine.warning is not None
    assert mine.warning > 0
    assert mine.cost < min(rows[name].figures.cost for name in ("never", "adwin", "hddm"))


def test_ours_repeats_itself() -> None:
    first, second = (compare(decaying(), ERRORS, ["ours"])[0] for _ in range(2))
    assert same(first.run, second.run)


def test_ours_without_any_label_stays_silent() -> None:
    world = World(60, lambda i: [np.zeros(0, bool)] * (60 - i), first=1)
    made: Policy = MAKERS["ours"](Past(world, 20), BELOW, 60)
    assert isinstance(made, Ours)
    assert simulate(world, made, BELOW, start=21).retrainings == ()


def test_a_difference_knows_its_noise() -> None:
    worlds = [decaying(seed=seed) for seed in range(4)]
    rows = [compare(world, BELOW, ["never", "periodic", "cara"]) for world in worlds]
    never, periodic, cara = ([row[k] for row in rows] for k in range(3))
    assert difference(periodic, never).word == "wins"
    assert difference(never, periodic).word == "loses"
    assert difference(cara, cara).word == "ties"
    assert difference(never[:1], never[:1]) == (0.0, 0.0)


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="no policy often; there are never, periodic"):
        compare(decaying(), BELOW, ["often"])


def test_versions_age_as_they_did() -> None:
    readings = [Reading(age, 0.95 - 0.01 * age, 400) for age in range(20)]
    world = age_world({"1": readings}, seed=3)
    assert world.windows == 60
    _, quality = world.errors(10)
    assert quality[2:18] == pytest.approx([0.95 - 0.01 * age for age in range(2, 18)], abs=1e-9)
    assert quality[19:] == pytest.approx([quality[19]] * 31), "nobody knows how they would have gone on"
    wrong = np.concatenate([world.wrong(i, i + 10) for i in range(30)])
    assert wrong.mean() == pytest.approx(0.15, abs=0.02)
    assert np.array_equal(
        wrong, np.concatenate([age_world({"1": readings}, seed=3).wrong(i, i + 10) for i in range(30)])
    )
    with pytest.raises(ValueError, match="no window with labels"):
        age_world({"1": []})
