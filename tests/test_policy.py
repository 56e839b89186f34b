"""The decision table of the policy: what triggers, what does not, and that a replay repeats itself."""

from dataclasses import dataclass, field

import msgspec
import pytest

from models.causes import OpenCause, Recalibration
from models.forecast import Passage
from models.policy import (
    PolicyState,
    Terms,
    Trigger,
    close,
    decide,
    forecast_fields,
    rfc3339,
    standing,
    terms_of,
    withheld,
)
from models.quality import Estimate
from models.reference import Reference

HOUR = 3_600_000_000
DAY = 24 * HOUR
START = 1_795_000_000_000_000
# Lead time of a day, windows of an hour: late costs 3 x 1 day, so a trigger is due from P >= 1 / (1 + 3).
TERMS = Terms(threshold=0.85, lead_time_us=DAY, window_us=HOUR, cost_retrain=1.0, cost_degraded_per_day=3.0)
GOOD = Estimate(estimate=0.9, low=0.88, high=0.92, n=500, basis="labels")
DOUBTFUL = Estimate(estimate=0.84, low=0.82, high=0.86, n=500, basis="labels")
BELOW = Estimate(estimate=0.8, low=0.78, high=0.82, n=500, basis="labels")
UNKNOWN = Estimate(reason="no audited labels in this window")


def ahead(probability: float) -> Passage:
    return Passage(
        threshold=0.85,
        low=28.0,
        median=40.0,
        high=None,
        good_for=30.0,
        lead=24.0,
        probability_within_lead=probability,
        censored=0.1,
    )


NO_FORECAST = Passage(threshold=0.85, reason="needs 8 assessed windows, has 3")


@dataclass
class Run:
    """One model version, window after window."""

    subject: tuple[str, str] = ("digits", "3")
    state: PolicyState = field(default_factory=PolicyState)
    now_us: int = START
    triggers: list[Trigger] = field(default_factory=list)

    def window(
        self,
        estimate: Estimate,
        passage: Passage | None,
        times: int = 1,
        mismatches: tuple[str, ...] = (),
        causes: tuple[OpenCause, ...] = (),
        recalibration: Recalibration | None = None,
    ) -> int:
        """How many triggers these windows gave. The state goes through its wire form every time."""
        before = len(self.triggers)
        for _ in range(times):
            self.now_us += HOUR
            self.state = msgspec.json.decode(msgspec.json.encode(self.state), type=PolicyState)
            self.state, trigger = decide(
                self.state,
                TERMS,
                subject=self.subject,
                now_us=self.now_us,
                estimate=estimate,
                passage=passage,
                open_mismatches=mismatches,
                causes=causes,
                recalibration=recalibration,
            )
            self.triggers += [trigger] if trigger is not None else []
        return len(self.triggers) - before


@pytest.mark.parametrize(
    ("estimate", "passage", "severity"),
    [
        (GOOD, ahead(0.25), "warning"),
        (GOOD, ahead(0.99), "warning"),
        (DOUBTFUL, ahead(0.3), "warning"),
        (UNKNOWN, ahead(0.3), "warning"),
        (BELOW, ahead(1.0), "critical"),
        (BELOW, NO_FORECAST, "critical"),
        (BELOW, None, "critical"),
        (GOOD, ahead(0.24), None),
        (GOOD, ahead(0.0), None),
        (DOUBTFUL, ahead(0.2), None),
        (DOUBTFUL, None, None),
        (GOOD, NO_FORECAST, None),
        (UNKNOWN, None, None),
    ],
)
def test_decision_table(estimate: Estimate, passage: Passage | None, severity: str | None) -> None:
    run = Run()
    assert run.window(estimate, passage) == 0, "one window is never enough"
    assert run.window(estimate, passage) == (severity is not None)
    assert [t.severity for t in run.triggers] == ([severity] if severity else [])


def test_two_windows_must_follow_each_other() -> None:
    run = Run()
    for quiet in (ahead(0.1), NO_FORECAST):
        assert run.window(GOOD, ahead(0.5)) == 0
        assert run.window(GOOD, quiet) == 0
    assert run.window(GOOD, ahead(0.5), times=2) == 1


def test_drift_alone_never_triggers_but_is_evidence() -> None:
    run = Run()
    assert run.window(GOOD, ahead(0.01), times=50, mismatches=("m-1", "m-2")) == 0
    assert run.state.incidents == 0
    run.window(BELOW, None, times=2, mismatches=("m-1", "m-2"))
    assert run.triggers[0].evidence == ("m-1", "m-2")


def test_one_trigger_per_incident() -> None:
    run = Run()
    assert run.window(GOOD, ahead(0.5), times=200) == 1
    assert run.window(BELOW, ahead(1.0), times=200) == 0
    assert run.state.incidents == 1


def test_an_incident_ends_when_the_quality_is_back_and_the_next_waits_for_the_cool_down() -> None:
    run = Run()
    run.window(BELOW, ahead(1.0), times=2)
    run.window(GOOD, ahead(0.05), times=2)
    assert run.state.open_since_us is not None
    run.window(GOOD, ahead(0.2))  # good, but falling is not unlikely: counting starts again
    run.window(GOOD, ahead(0.05), times=3)
    assert run.state.open_since_us is None
    hours_left = 24 - 6
    assert run.window(BELOW, ahead(1.0), times=hours_left - 1) == 0, "cooling down"
    assert run.window(BELOW, ahead(1.0)) == 1
    assert run.triggers[0].trigger_id != run.triggers[1].trigger_id
    assert [t.dedupe_key for t in run.triggers] == ["digits/3/1", "digits/3/2"]


@pytest.mark.parametrize(("estimate", "passage"), [(UNKNOWN, ahead(0.0)), (GOOD, None), (DOUBTFUL, ahead(0.0))])
def test_missing_evidence_or_doubt_closes_nothing(estimate: Estimate, passage: Passage | None) -> None:
    run = Run()
    run.window(BELOW, ahead(1.0), times=2)
    run.window(estimate, passage, times=10)
    assert run.state.open_since_us is not None


def test_a_lifecycle_event_closes_but_keeps_the_cool_down() -> None:
    run = Run()
    run.window(BELOW, None, times=2)
    run.state = close(run.state)
    assert run.state.trigger_id is None
    assert run.window(BELOW, None, times=23) == 0
    assert run.window(BELOW, None) == 1


def history(run: Run) -> Run:
    run.window(GOOD, ahead(0.1), times=5)
    run.window(GOOD, ahead(0.6), times=5, mismatches=("m-7",))
    run.window(GOOD, ahead(0.01), times=40)
    run.window(BELOW, ahead(1.0), times=5)
    return run


def test_a_replay_gives_the_same_triggers_and_other_subjects_other_ids() -> None:
    once = history(Run())
    assert len(once.triggers) == 2
    assert history(Run()).triggers == once.triggers
    ids = {t.trigger_id for t in once.triggers}
    for subject in (("digits", "4"), ("digit", "s3"), ("loan", "3")):
        ids |= {t.trigger_id for t in history(Run(subject=subject)).triggers}
    ids |= {t.trigger_id for t in history(Run(now_us=START + HOUR)).triggers}
    assert len(ids) == 10


def test_a_window_decided_before_changes_nothing() -> None:
    run = Run()
    run.window(BELOW, None)
    for now_us in (run.now_us, run.now_us - HOUR):
        again = decide(run.state, TERMS, subject=run.subject, now_us=now_us, estimate=BELOW, passage=None)
        assert again == (run.state, None)
    assert run.window(BELOW, None) == 1


def test_the_trigger_says_what_when_and_why() -> None:
    run = Run()
    run.window(GOOD, ahead(0.5), times=2)
    line = msgspec.to_builtins(run.triggers[0])
    now = START + 2 * HOUR
    assert line["created_at"] == rfc3339(now)
    assert line["retrain_by"] == rfc3339(now + 30 * HOUR - DAY), "the lower bound of best-before, less the lead time"
    assert line["cooldown_until"] == rfc3339(now + DAY)
    assert (line["model_name"], line["model_version"], line["action"]) == ("digits", "3", "retrain")
    assert line["reason"]["probability_within_lead_time"] == 0.5
    assert line["reason"]["trigger_probability"] == 0.25
    assert line["forecast"] == {
        "threshold": 0.85,
        "best_before": rfc3339(now + 40 * HOUR),
        "low": rfc3339(now + 30 * HOUR),
        "high": None,
        "probability_within_lead_time": 0.5,
        "censored": False,
        "reason": None,
    }
    assert line["data"]["time_range"] == {"start": rfc3339(now - HOUR), "end": rfc3339(now)}
    assert msgspec.json.decode(msgspec.json.encode(run.triggers[0]), type=Trigger) == run.triggers[0]


def test_retrain_by_is_never_in_the_past() -> None:
    run = Run()
    run.window(GOOD, msgspec.structs.replace(ahead(0.9), good_for=2.0), times=2)
    assert run.triggers[0].retrain_by == run.triggers[0].created_at
    run = Run()
    run.window(BELOW, ahead(1.0), times=2)
    assert run.triggers[0].retrain_by == run.triggers[0].created_at


def test_costs_and_lead_time_set_the_probability() -> None:
    assert TERMS.trigger_probability == pytest.approx(0.25)
    assert TERMS.lead_windows == 24
    free = msgspec.structs.replace(TERMS, cost_retrain=0.0, cost_degraded_per_day=0.0)
    assert free.trigger_probability == 0.5
    dear = msgspec.structs.replace(TERMS, cost_retrain=1e6)
    assert dear.trigger_probability > 0.99


def test_a_status_without_a_forecast_says_why() -> None:
    assert forecast_fields(TERMS, None, START)["reason"] == "no forecast was made"
    fields = forecast_fields(TERMS, NO_FORECAST, START)
    assert fields["reason"] == "needs 8 assessed windows, has 3"
    assert (fields["best_before"], fields["low"], fields["high"], fields["censored"]) == (None, None, None, False)


# -- causes that retraining cannot cure ----------------------------------------------------------------------

UNIT_BUG = OpenCause(
    id="m-1", check="unit-scale-encoding", field="income", action="fix-pipeline", first_seen_us=START - HOUR,
    message="income is in cents",
)  # fmt: skip
DOMAIN = OpenCause(id="m-2", check="domain-and-schema", field="income", action="fix-pipeline", first_seen_us=START)
WEIGHTS = OpenCause(id="m-3", check="model-identity", field="golden", action="roll-back", first_seen_us=START)
DRIFT = OpenCause(id="m-4", check="covariate-drift", field="income", first_seen_us=START)


def test_a_cause_that_retraining_cannot_cure_names_its_own_cure() -> None:
    run = Run()
    assert run.window(BELOW, None, times=50, causes=(UNIT_BUG, DRIFT)) == 1
    (trigger,) = run.triggers
    assert (trigger.action, trigger.severity, trigger.dedupe_key) == (
        "fix-pipeline",
        "critical",
        "digits/3/fix-pipeline/1",
    )
    assert trigger.reason["withheld"] == {
        "action": "retrain",
        "because": [{"id": "m-1", "check": "unit-scale-encoding", "field": "income", "message": "income is in cents"}],
        "until": "resolved",
    }
    assert trigger.data["time_range"]["start"] == rfc3339(START - HOUR), "since the cause was first seen"
    assert run.state.incidents == 0, "no retraining was asked for"
    assert run.state.open_triggers == {"fix-pipeline": trigger.trigger_id}


def test_a_cause_alone_triggers_nothing() -> None:
    run = Run()
    assert run.window(GOOD, ahead(0.01), times=30, causes=(UNIT_BUG, WEIGHTS)) == 0


def test_drift_withholds_nothing() -> None:
    plain, drifting = Run(), Run()
    plain.window(BELOW, None, times=2)
    drifting.window(BELOW, None, times=2, causes=(DRIFT,))
    assert plain.triggers == drifting.triggers
    assert "withheld" not in plain.triggers[0].reason


def test_a_second_symptom_of_one_cause_is_no_second_trigger() -> None:
    run = Run()
    run.window(BELOW, None, times=3, causes=(UNIT_BUG,))
    assert run.window(BELOW, None, times=100, causes=(UNIT_BUG, DOMAIN)) == 0


def test_once_the_cause_is_resolved_what_remains_is_trained_again_at_once() -> None:
    run = Run()
    run.window(BELOW, None, times=4, causes=(UNIT_BUG,))
    assert run.window(BELOW, None) == 0, "two windows must say that it was not that alone"
    assert run.window(BELOW, None) == 1
    assert [t.action for t in run.triggers] == ["fix-pipeline", "retrain"]
    assert run.now_us < START + DAY, "the cool-down of the other action does not hold"
    assert run.triggers[1].dedupe_key == "digits/3/1"
    assert run.window(BELOW, None, times=100) == 0


def test_a_quality_that_returns_with_the_fix_needs_no_retraining() -> None:
    run = Run()
    run.window(BELOW, None, times=4, causes=(WEIGHTS,))
    run.window(GOOD, ahead(0.01), times=30)
    assert [t.action for t in run.triggers] == ["roll-back"]
    assert run.state.open_triggers == {}


def test_one_action_after_the_other_by_precedence() -> None:
    run = Run()
    run.window(BELOW, None, times=3, causes=(UNIT_BUG, WEIGHTS))
    run.window(BELOW, None, times=3, causes=(UNIT_BUG,))
    run.window(BELOW, None, times=3)
    assert [t.action for t in run.triggers] == ["roll-back", "fix-pipeline", "retrain"]
    assert [c["id"] for c in run.triggers[0].reason["withheld"]["because"]] == ["m-3", "m-1"]
    assert len({t.trigger_id for t in run.triggers}) == 3


def test_the_same_action_for_another_cause_waits_for_the_cool_down() -> None:
    run = Run()
    run.window(BELOW, None, times=2, causes=(UNIT_BUG,))
    assert run.window(BELOW, None, times=23, causes=(DOMAIN,)) == 0
    assert run.window(BELOW, None, causes=(DOMAIN,)) == 1
    assert [c["id"] for c in run.triggers[1].reason["withheld"]["because"]] == ["m-2"]


def test_a_retraining_that_is_asked_for_is_withheld_with_the_reason() -> None:
    run = Run()
    run.window(BELOW, None, times=3)
    asked = run.triggers[0].trigger_id
    now = standing(TERMS, estimate=BELOW, passage=None)
    told = withheld(run.state, now)
    assert told is not None
    message = f"a retraining was asked for at {rfc3339(START + 2 * HOUR)}"
    assert told["because"] == [{"id": asked, "check": "cause-and-cure", "field": "retrain", "message": message}]
    assert withheld(run.state, standing(TERMS, estimate=GOOD, passage=None)) is None
    assert withheld(PolicyState(), now) is None
    assert run.window(BELOW, None, times=2, causes=(WEIGHTS,)) == 1, "another cause may still be found"
    assert [c["id"] for c in run.triggers[1].reason["withheld"]["because"]] == ["m-3", asked]
    assert run.window(BELOW, None, times=50) == 0


def test_another_version_ends_every_incident() -> None:
    run = Run()
    run.window(BELOW, None, times=3)
    run.window(BELOW, None, times=3, causes=(WEIGHTS,))
    assert set(run.state.open_triggers) == {"retrain", "roll-back"}
    assert close(run.state).open_triggers == {}
    assert close(run.state).cures["roll-back"].cooldown_until_us == run.state.cures["roll-back"].cooldown_until_us


def test_recalibration_where_it_is_enough_also_while_a_block_fills() -> None:
    shift = OpenCause(id="m-5", check="label-and-prediction-shift", field="label", action="recalibrate")
    enough = Recalibration(BELOW, GOOD)
    run = Run()
    run.window(BELOW, None, causes=(shift,), recalibration=enough)
    run.window(BELOW, None, causes=(shift,))
    assert [t.action for t in run.triggers] == ["recalibrate"]
    run = Run()
    run.window(BELOW, None, times=2, causes=(shift,), recalibration=Recalibration(BELOW, DOUBTFUL))
    assert [t.action for t in run.triggers] == ["retrain"]


def test_a_state_from_before_there_were_causes_goes_on() -> None:
    run = Run()
    run.window(BELOW, None, times=2)
    old = msgspec.json.decode(msgspec.json.encode(run.state))
    for name in ("calling", "cures", "recalibration"):
        del old[name]
    assert msgspec.convert(old, PolicyState) == run.state


def test_ids_of_retrainings_are_those_they_always_were() -> None:
    run = Run()
    run.window(BELOW, None, times=2)
    assert run.triggers[0].trigger_id == "c075c54a-0166-5453-8a32-fd24ff74461b"


def test_ids_of_other_triggers_follow_from_action_and_causes() -> None:
    ids = set()
    for causes in ((UNIT_BUG,), (DOMAIN,), (WEIGHTS,), (UNIT_BUG, DOMAIN)):
        runs = [Run(), Run()]
        for run, order in zip(runs, (causes, causes[::-1]), strict=True):
            run.window(BELOW, None, times=2, causes=order)
        assert runs[0].triggers == runs[1].triggers
        ids.add(runs[0].triggers[0].trigger_id)
    assert len(ids) == 4


def test_terms_come_from_the_reference() -> None:
    reference = Reference("digits", "3", window_us=HOUR, lead_time_us=DAY, threshold=0.85, cost_degraded_per_day=3.0)
    assert terms_of(reference) == TERMS
    assert terms_of(msgspec.structs.replace(reference, threshold=None)) is None
