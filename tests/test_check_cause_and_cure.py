"""One loss, three causes: broken units, exchanged weights, a changed concept. Only the last one is retrained."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import pytest

from models.causes import OpenCause
from models.checks import calibration_and_concept, cause_and_cure, covariate_drift, model_identity, unit_scale_encoding
from models.checks.observed import Memory
from models.checks.verdict import Verdict
from models.evidence import Evidence, remember
from models.forecast import Passage
from models.inspection import GoldenResult, Inspection
from models.notes import Note
from models.policy import PolicyState, Trigger, decide, terms_of
from models.profile import Profile
from models.quality import Calibration, Estimate
from models.watch import CONFIRM, Open, causes_of, watch
from tests.observing import HOUR, START, SUBJECT, labelled, normal_feature, observed, profile_of, small_reference

REFERENCE = small_reference(
    threshold=0.85, lead_time_us=24 * HOUR, cost_degraded_per_day=3.0,
    numeric={"income": normal_feature(unit="EUR")},
    calibration=Calibration(accuracy=0.95, n=5000, residual_low=-0.5, residual_high=0.5),
)  # fmt: skip
CHECKS = (covariate_drift, unit_scale_encoding, model_identity, calibration_and_concept, cause_and_cure)
GOOD = Estimate(estimate=0.95, low=0.93, high=0.97, n=500, basis="labels")
LOST = Estimate(estimate=0.75, low=0.72, high=0.78, n=500, basis="labels")
SOUND = Inspection(golden=(GoldenResult(index=0, error=0.0, label="yes", expected="yes"),))
SWAPPED = Inspection(golden=(GoldenResult(index=0, error=0.9, label="no", expected="yes"),))


def traffic(hour: int, *, factor: float = 1.0, confidence: float = 0.95, accuracy: float = 0.95) -> Profile:
    """An hour of 400 events, 50 of them labelled."""
    rng = np.random.default_rng(hour)
    top = np.clip(rng.normal(confidence, 0.01, 400), 0.5, 1.0)
    made = profile_of(
        REFERENCE, numeric={"income": factor * rng.normal(size=400)}, label=["yes"] * 400,
        scores=np.stack((top, 1 - top), axis=1).astype(np.float32),
    )  # fmt: skip
    right = np.arange(50) < round(50 * accuracy)
    return made.merge(labelled(REFERENCE, ["yes"] * 50, right, confidence=np.full(50, confidence)))


@dataclass
class Loop:
    """What the assessor does per window: verdicts, mismatches, a decision; every state goes through its wire form."""

    state: PolicyState = field(default_factory=PolicyState)
    opened: dict[str, Open] = field(default_factory=dict)
    memory: Memory = field(default_factory=dict)
    ring: list[Evidence] = field(default_factory=list)
    triggers: list[Trigger] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    verdict: Verdict | None = None
    hour: int = 0

    def hours(self, count: int, estimate: Estimate, *, inspection: Inspection = SOUND, **kind: float) -> None:
        """Windows of one kind, each decided twice."""
        for _ in range(count):
            profile, start = traffic(self.hour, **kind), START + self.hour * HOUR
            remember(self.ring, start, profile)
            seen = observed(
                profile, REFERENCE, index=self.hour, estimate=estimate, inspection=inspection, ring=self.ring,
                memory=self.memory, causes=self.causes,
            )  # fmt: skip
            verdicts = [v for module in CHECKS for v in module.live(seen)]
            self.verdict = verdicts[-1]
            self.notes += watch(self.opened, SUBJECT, REFERENCE, start, verdicts)
            self._decide(start + HOUR, estimate)
            self.hour += 1

    @property
    def causes(self) -> tuple[OpenCause, ...]:
        return causes_of(self.opened)

    def _decide(self, now_us: int, estimate: Estimate) -> None:
        terms = terms_of(REFERENCE)
        assert terms is not None
        for _ in range(2):
            self.state = msgspec.msgpack.decode(msgspec.msgpack.encode(self.state), type=PolicyState)
            self.state, trigger = decide(
                self.state, terms, subject=SUBJECT[:2], now_us=now_us, estimate=estimate, passage=None,
                causes=self.causes,
            )  # fmt: skip
            self.triggers += [trigger] if trigger else []

    def actions(self) -> list[str]:
        return [trigger.action for trigger in self.triggers]


def test_a_window_without_events_is_no_evidence_that_a_mismatch_is_gone() -> None:
    """A quiet weekend: the check still finds in order what needs no traffic, and says nothing of the rest."""
    opened: dict[str, Open] = {}
    wrong = Verdict(
        check="observability-coverage", verdict="mismatch", field="digest", severity="info", action="review"
    )
    fine = msgspec.structs.replace(wrong, verdict="ok", field="rate")

    def windows(count: int, verdict: Verdict, *, heard: bool) -> int:
        return sum(len(watch(opened, SUBJECT, REFERENCE, START, [verdict], heard=heard)) for _ in range(count))

    assert windows(CONFIRM, wrong, heard=True) == 1
    assert windows(10 * CONFIRM, fine, heard=False) == 0
    assert windows(CONFIRM, fine, heard=True) == 1
    assert not opened


def unit_bug() -> Loop:
    loop = Loop()
    loop.hours(6, GOOD)
    loop.hours(40, LOST, factor=100.0, accuracy=0.75)
    return loop


def swapped_weights() -> Loop:
    loop = Loop()
    loop.hours(6, GOOD)
    loop.hours(40, LOST, inspection=SWAPPED, accuracy=0.75, confidence=0.75)
    return loop


def concept_drift() -> Loop:
    loop = Loop()
    loop.hours(6, GOOD)
    loop.hours(40, LOST, accuracy=0.75)
    return loop


@pytest.mark.parametrize(
    ("story", "action", "check"),
    [
        (unit_bug, "fix-pipeline", "unit-scale-encoding"),
        (swapped_weights, "roll-back", "model-identity"),
        (concept_drift, "retrain", "calibration-and-concept"),
    ],
)
def test_one_loss_three_causes(story: Callable[[], Loop], action: str, check: str) -> None:
    loop = story()
    assert loop.actions() == [action], "one trigger, and no retraining where it would not help"
    assert check in {cause.check for cause in loop.causes}
    because = loop.triggers[0].reason.get("withheld", {"because": []})["because"]
    assert [c["check"] for c in because] == ([check] if action != "retrain" else [])
    again = story()
    assert (again.triggers, again.notes) == (loop.triggers, loop.notes), "a replay says the same"


def test_the_verdict_names_cause_and_cure_until_it_is_resolved() -> None:
    loop = unit_bug()
    verdict = loop.verdict
    assert verdict is not None
    assert (verdict.verdict, verdict.severity, verdict.action) == ("mismatch", "info", "fix-pipeline")
    assert "unit-scale-encoding of income -> fix-pipeline" in verdict.message
    assert "accuracy is 0.75, below the declared 0.85" in verdict.message
    assert "a retraining is withheld until it is resolved" in verdict.message
    assert "cause-and-cure/decision" in loop.opened
    loop.hours(6, GOOD)
    assert loop.verdict is not None
    assert loop.verdict.verdict == "ok"
    assert "cause-and-cure/decision" not in loop.opened
    assert loop.actions() == ["fix-pipeline"]


def test_a_loss_that_outlasts_its_first_cause_is_retrained_once() -> None:
    loop = unit_bug()
    loop.hours(20, LOST, accuracy=0.75)
    assert loop.actions() == ["fix-pipeline", "retrain"]


WEIGHTS = OpenCause(id="m-3", check="model-identity", field="golden", action="roll-back", severity="critical")
LATER = Passage(
    threshold=0.85, low=2.0, median=9.0, good_for=3.0, lead=24.0, probability_within_lead=0.8, censored=0.1
)  # fmt: skip


def look(estimate: Estimate | None, **facts: Any) -> Verdict:
    return next(iter(cause_and_cure.live(observed(Profile(), REFERENCE, estimate=estimate, **facts))))


def test_it_is_ok_without_a_loss_or_without_another_cause() -> None:
    assert look(GOOD).verdict == look(GOOD, causes=(WEIGHTS,)).verdict == "ok", "the mismatch itself tells of the cause"
    assert look(LOST).verdict == "ok"
    assert look(LOST).reason == "a retraining is due, and no open cause withholds it"


def test_a_loss_that_is_only_foreseen_is_weighed_as_well() -> None:
    found = look(GOOD, causes=(WEIGHTS,), passage=LATER)
    assert (found.verdict, found.action, found.evidence) == ("mismatch", "roll-back", ("m-3",))
    assert "within the lead time with probability 0.8" in found.message
    assert found.effect is not None
    assert found.effect.estimate == 0.8


def test_without_evidence_it_is_unknown() -> None:
    assert look(None).verdict == look(Estimate(reason="no labels")).verdict == "unknown"
    assert look(Estimate(reason="no labels")).reason == "no labels"
    bare = observed(Profile(), small_reference(), estimate=LOST, causes=(WEIGHTS,))
    (found,) = cause_and_cure.live(bare)
    assert (found.verdict, found.reason) == ("unknown", "no threshold is declared in trained_model.algorithm_metrics")


def test_whether_recalibrating_is_enough_waits_for_a_block() -> None:
    shift = OpenCause(id="m-5", check="label-and-prediction-shift", field="label", action="recalibrate")
    found = look(LOST, causes=(shift,), block=None)
    assert (found.verdict, found.reason) == (
        "unknown", "whether recalibrating is enough: fewer than 50 events so far",
    )  # fmt: skip


def test_no_more_causes_are_named_than_can_be_read() -> None:
    many = tuple(msgspec.structs.replace(WEIGHTS, id=f"m-{i}", field=f"golden {i}") for i in range(9))
    assert "and 6 more" in look(LOST, causes=many).message
