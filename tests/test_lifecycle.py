"""The life of a version: who serves asks, who is replaced is silent; changes count in event time, whenever told."""

import itertools
from typing import Any

import msgspec
import numpy as np
import pytest

from models.assessor import assess
from models.columns import Subject
from models.descriptors.fields import instant_us
from models.forecast_history import again
from models.lifecycle import MOST, Change, Life, lifecycle_fields, recorded, resolution_id, take_in, turn
from models.notes import Note
from models.policy import PolicyState, rfc3339
from models.subject_state import KEPT, State
from tests.test_assessor import HOUR, REFERENCE, START, SUBJECT, Run, decay, window

HALF = HOUR // 2


def change(kind: str, version: str, hour: float, name: str = "", **others: str) -> Change:
    at = START + round(hour * HOUR)
    return Change(id=name or f"{kind}-{version}-{hour}", at_us=at, kind=kind, version=version, **others)


def asking(policy: PolicyState | None = None, trigger: str = "t-1") -> PolicyState:
    return msgspec.structs.replace(
        policy or PolicyState(), incidents=1, open_since_us=START, trigger_id=trigger, alarming=9,
        cooldown_until_us=START + 24 * HOUR,
    )  # fmt: skip


def made(*changes: Change, policy: PolicyState | None = None, upto: int = START + 1000 * HOUR) -> tuple[Life, Any]:
    """A life after these changes, all of which are known at once."""
    life = Life()
    for one in changes:
        take_in(life, one)
    return life, turn(life, policy or PolicyState(), SUBJECT, REFERENCE, upto)


@pytest.mark.parametrize("kind", ["deployed", "promoted", "rolled-back"])
def test_another_version_takes_over(kind: str) -> None:
    life, turned = made(change(kind, "8", 1.5), policy=asking())
    assert (life.serving, life.successor, turned.renewed) == (False, "8", False)
    assert turned.policy.open_triggers == {}
    assert turned.policy.cooldown_until_us == START + 24 * HOUR, "the cool-down stays"
    (note,) = turned.notes
    assert note.kind == "lifecycle"
    assert note.id == note.body["id"] == resolution_id(SUBJECT, "t-1")
    assert note.body["kind"] == "trigger-resolved"
    assert (note.body["trigger_id"], note.body["action"], note.body["resolution"]) == ("t-1", "retrain", "superseded")
    assert (note.body["successor"], note.body["time"]) == ("8", rfc3339(START + HOUR + HALF))
    assert note.body["because"] == f"{kind}-8-1.5"


def test_a_shadow_takes_over_from_nobody() -> None:
    life, turned = made(change("deployed", "8", 1, served="shadow"), policy=asking())
    assert life.serving
    assert turned.policy == asking()


def test_a_retired_version_asks_for_nothing_and_is_not_missed() -> None:
    life, turned = made(change("retired", "7", 1), change("retired", "6", 2), policy=asking())
    assert (life.serving, life.retired, life.successor) == (False, True, "")
    assert [n.body["resolution"] for n in turned.notes] == ["retired"]


def test_what_was_below_the_threshold_in_rehearsal_says_nothing_of_the_life() -> None:
    life = Life(below_since_us=START, below=True)
    take_in(life, change("deployed", "7", 1))
    assert turn(life, PolicyState(), SUBJECT, REFERENCE, START + 2 * HOUR).renewed
    assert (life.below_since_us, life.below) == (None, False)


def test_a_roll_back_lets_it_ask_again_with_what_it_knows() -> None:
    life, turned = made(change("deployed", "8", 1), change("rolled-back", "7", 5, previous="8"), policy=asking())
    assert life.serving
    assert life.successor == ""
    assert not turned.renewed
    assert [n.body["resolution"] for n in turned.notes] == ["superseded"]
    assert (turned.policy.alarming, turned.policy.incidents) == (0, 1)


@pytest.mark.parametrize(("kind", "renewed"), [("deployed", True), ("promoted", False), ("rolled-back", False)])
def test_only_the_first_deployment_begins_a_life(kind: str, renewed: bool) -> None:
    life, turned = made(change(kind, "7", 1), policy=asking())
    assert turned.renewed is renewed
    assert (turned.policy.trigger_id is None) is renewed
    again = turn(life, asking(), SUBJECT, REFERENCE, START)
    assert not again.renewed
    take_in(life, change("deployed", "7", 3))
    assert not turn(life, asking(), SUBJECT, REFERENCE, START + 9 * HOUR).renewed, "deployed again: the same model"


def test_a_retraining_on_its_way_holds_the_next_one_back() -> None:
    life, turned = made(change("retrained", "8", 1))
    assert life.candidate == "8"
    assert turned.policy.cooldown_until_us == START + HOUR + REFERENCE.lead_time_us
    _, own = made(change("retrained", "7", 1))
    assert own.policy.cooldown_until_us is None
    later = asking()
    assert made(change("retrained", "8", -100), policy=later)[1].policy == later, "a cool-down never shrinks"


def test_changes_wait_for_their_time() -> None:
    life = Life()
    take_in(life, change("deployed", "8", 2.5))
    assert turn(life, asking(), SUBJECT, REFERENCE, START + 2 * HOUR).policy == asking()
    assert turn(life, asking(), SUBJECT, REFERENCE, START + 3 * HOUR).policy.trigger_id is None


def test_in_whatever_order_changes_come_the_last_in_event_time_holds() -> None:
    told = [
        change("deployed", "7", 0),
        change("deployed", "8", 3),
        change("rolled-back", "7", 5),
        change("promoted", "8", 7),
    ]
    for order in itertools.permutations(told):
        life, policy = Life(), PolicyState()
        for one in order:  # each is made before the next one comes
            take_in(life, one)
            policy = turn(life, policy, SUBJECT, REFERENCE, START + 100 * HOUR).policy
        assert lifecycle_fields(life) | {"since": None} == {
            "serving": False, "since": None, "successor": "8", "retired": False, "candidate": None,
        }  # fmt: skip


def test_what_waits_is_bounded() -> None:
    life, policy = Life(), PolicyState()
    for i in range(10_000):
        take_in(life, change("deployed", "8", 1000 + i))
        policy = turn(life, policy, SUBJECT, REFERENCE, START).policy
    assert len(life.pending) == MOST


def test_a_kind_that_is_not_known_is_recorded_and_changes_nothing() -> None:
    one = change("drill-started", "8", 1, message="a drill")
    life, turned = made(one, policy=asking())
    assert (turned.policy, turned.notes, life.serving) == (asking(), [], True)
    note = recorded(one, "loan")
    assert note.body == {
        "id": one.id, "time": rfc3339(one.at_us), "kind": "drill-started", "model": "loan", "version": "8",
        "message": "a drill",
    }  # fmt: skip
    assert note.subject == Subject("loan", "8")


# -- in the assessor -----------------------------------------------------------------------------------------


def tell(run: Run, one: Change) -> None:
    take_in(run.state.life, one)


def worn(saved: bool = False) -> Run:
    """A version that has decayed and asks for a retraining."""
    run = Run(saved=saved)
    run.hours(*decay(60))
    assert len(run.kinds("trigger")) == 1
    return run


def bad(hours: int) -> list[Any]:
    rng = np.random.default_rng(5)
    return [window(rng, accuracy=0.55) for _ in range(hours)]


def test_a_replaced_version_never_asks_again_until_it_is_rolled_back_to() -> None:
    run = worn()
    asked = run.kinds("trigger")[0].id
    tell(run, change("deployed", "8", 60.2))
    run.hours(*bad(40))
    assert len(run.kinds("trigger")) == 1, "still some traffic, still bad, and nobody is asked"
    (end,) = [n for n in run.kinds("lifecycle") if n.body["kind"] == "trigger-resolved"]
    assert (end.body["trigger_id"], end.body["resolution"], end.body["successor"]) == (asked, "superseded", "8")
    assert run.status["open_triggers"] == {}
    assert run.status["lifecycle"]["successor"] == "8"
    tell(run, change("rolled-back", "7", 100.5))
    run.hours(*bad(2))
    assert len(run.kinds("trigger")) == 2, "it serves again, and is still bad"
    assert run.status["lifecycle"]["serving"] is True


def test_the_forecast_is_held_against_what_came() -> None:
    run = worn()
    tell(run, change("deployed", "8", 60.2))
    run.hours(*bad(1))
    found = [n.body for n in run.kinds("lifecycle") if n.body["kind"] == "forecast-outcome"]
    assert [body["stage"] for body in found] == ["crossed", "ended"]
    trigger = run.kinds("trigger")[0].body
    assert {body["trigger_id"] for body in found} == {trigger["trigger_id"]}
    assert found[1]["forecast"]["best_before"] == trigger["forecast"]["best_before"]
    assert found[1]["observed"]["censored"] is False
    # 0.95 falls by 0.012 an hour from hour 24 on: below 0.85 from the window that begins at hour 33.
    assert abs(found[0]["warning_windows"] - (START + 33 * HOUR - instant_us(trigger["created_at"])) / HOUR) <= 8
    assert found[0]["cost"] is None
    assert len({n.id for n in run.notes}) == len(run.notes)


def test_a_deployment_begins_with_no_memory_of_rehearsals() -> None:
    run, plain = Run(), Run()
    run.hours(*bad(20))
    run.hour = plain.hour = 20
    plain.state.assembly.done = run.state.assembly.done
    tell(run, change("deployed", "7", 20.5))
    rng = np.random.default_rng(6)
    profiles = [window(rng) for _ in range(10)]
    run.hours(*(type(p).unpack(p.pack()) for p in profiles))
    plain.hours(*(type(p).unpack(p.pack()) for p in profiles))
    assert run.status["quality"] == plain.status["quality"]
    assert run.status["forecast"] == plain.status["forecast"]
    assert [e.start for e in run.state.ring] == [START + h * HOUR for h in range(20, 30)]
    assert len(run.kinds("trigger")) <= 1


def test_what_is_not_named_begins_anew() -> None:
    """Whoever adds a field to the state decides whether a new life keeps it: by default it does not."""
    run = Run()
    run.hours(*bad(3))
    before = {name: getattr(run.state, name) for name in State.__dataclass_fields__}
    run.state.life.born_us = START + 100 * HOUR
    run.state.renew()
    empty = State(run.state.assembly)
    for name in State.__dataclass_fields__:
        kept, anew = (getattr(part, "state", part) for part in (getattr(s, name) for s in (run.state, empty)))
        assert kept == (before[name] if name in KEPT - {"ring", "history"} else anew), name
    assert run.state.history == again(before["history"])


def test_a_replaced_version_that_falls_silent_is_not_missed() -> None:
    silent, replaced = Run(), Run()
    for run in (silent, replaced):
        run.hours(*decay(10))
    tell(replaced, change("deployed", "8", 10.1))
    for run in (silent, replaced):
        run.state.assembly.heard("inference/0", START + 30 * HOUR)
        notes, _ = assess(run.state, run.subject, run.reference)
        run.notes += notes
    assert len(silent.kinds("status")) == 13, "three empty windows say that it is missed"
    assert len(replaced.kinds("status")) == 10
    assert replaced.state.life.successor == "8", "although no window came any more"


def _notes(profiles: list[Any], at: float, when: int, saved: bool) -> list[Note]:
    run = Run(saved=saved)
    run.hours(*(type(p).unpack(p.pack()) for p in profiles[:when]))
    tell(run, change("deployed", "8", at))
    run.hours(*(type(p).unpack(p.pack()) for p in profiles[when:]))
    return run.notes


def test_a_replay_and_a_restart_between_any_two_windows_say_the_same() -> None:
    profiles = decay(60)[40:] + bad(5)
    once = _notes(profiles, 18.5, 18, False)
    assert once == _notes(profiles, 18.5, 18, True)
    assert once == _notes(profiles, 18.5, 3, True), "known long before, it counts in its window"
    late = _notes(profiles, 18.5, 22, True)
    ids = [n.id for n in late]
    assert len(ids) == len(set(ids))
