"""Changes as the assessor tells them: what a window gives, what opens, what never triggers, what a status says."""

from typing import Any

import msgspec
import numpy as np
import pytest

from models.assessor import assess
from models.change_layer import follow_change
from models.change_readings import change_readings
from models.columns import Subject
from models.evidence import Evidence
from models.notes import Note
from models.profile import Profile
from models.quality import Calibration
from models.reference import CategoricalFeature, Reference, unregistered
from models.subject_state import State, fresh
from tests.observing import (
    HOUR,
    START,
    SUBJECT,
    declared,
    labelled,
    normal_feature,
    observed,
    profile_of,
    small_reference,
)

MONTHLY = {"false_alarms": "1 per 30 days"}
REFERENCE = declared(
    small_reference(
        numeric={"income": normal_feature(), "age": normal_feature()},
        categorical={"country": CategoricalFeature(shares={"DE": 0.7, "FR": 0.3}, n=5000)},
        classes={"yes": 0.6, "no": 0.4},
    ),
    system_context=MONTHLY,
)


def window(rng: np.random.Generator, shift: float = 0.0, wrong: float = 0.1, n: int = 150) -> Profile:
    made = profile_of(
        REFERENCE,
        numeric={"income": rng.normal(shift, 1.0, n), "age": rng.normal(0.0, 1.0, n)},
        categorical={"country": rng.choice(["DE", "FR"], n, p=[0.7, 0.3]).tolist()},
        label=rng.choice(["yes", "no"], n, p=[0.6, 0.4]).tolist(),
        failed=rng.random(n) < 0.02,
    )
    return made.merge(labelled(REFERENCE, ["yes"] * 40, rng.random(40) >= wrong))


class Run:
    """Hours of one subject; `saved` goes through bytes after every one."""

    def __init__(self, subject: Subject = SUBJECT, reference: Reference = REFERENCE, *, saved: bool = False) -> None:
        self.subject, self.reference, self.saved = subject, reference, saved
        self.state, self.hour = fresh(reference), 0
        self.notes: list[Note] = []

    def hours(self, *profiles: Profile) -> list[dict[str, Any]]:
        """Mismatches about changes that these windows made known."""
        before = len(self.notes)
        for profile in profiles:
            start = START + self.hour * HOUR
            self.hour += 1
            self.state.assembly.add(start, start, profile)
            self.state.assembly.heard("inference/0", start + HOUR)
            if self.saved:
                self.state = State.decode(self.state.encode())
            self.notes += assess(self.state, self.subject, self.reference)[0]
        fresh_notes = [n.body for n in self.notes[before:] if n.kind == "mismatch"]
        return [body for body in fresh_notes if body["field"] == "change"]

    @property
    def change(self) -> Any:
        return self.notes[-1].body["change"]


def test_each_window_gives_one_value_per_stream() -> None:
    seen = observed(window(np.random.default_rng(1)), REFERENCE)
    evidence = Evidence(START)
    evidence.add(seen.window)
    seen.labels = seen.window
    found = change_readings(seen, evidence, {"embedding": 0.3, "inputs": 0.2, "embedding/mmd": 0.1})
    assert {name for name, reading in found.items() if reading.harm} == {"errors", "failures"}
    assert found["errors"].value == pytest.approx(0.1, abs=0.15)
    assert found["failures"].value == pytest.approx(0.02, abs=0.03)
    assert found["inputs/income"].value == pytest.approx(0.5, abs=0.08)
    assert found["inputs/country"].value == pytest.approx(0.7, abs=0.12)
    assert found["outputs"].value == pytest.approx(0.6, abs=0.12)
    assert found["embedding/mmd"].value == 0.1
    assert "inputs" not in found
    assert change_readings(observed(Profile(), REFERENCE), Evidence(START), {}) == {}


def test_drift_without_harm_is_told_once_dated_and_triggers_nothing() -> None:
    rng = np.random.default_rng(2)
    plain, saved = Run(), Run(saved=True)
    quiet = [window(rng) for _ in range(300)]
    moved = [window(rng, shift=0.35) for _ in range(30)]
    for run in (plain, saved):
        assert run.hours(*(Profile.unpack(p.pack()) for p in quiet)) == []
        assert "of replayed reference traffic" in run.change["told"]
        opened = run.hours(*(Profile.unpack(p.pack()) for p in moved))
        (first,) = [body for body in opened if body["verdict"] == "mismatch"]
        assert (first["check"], first["severity"], first["action"]) == ("covariate-drift", "info", "review")
        assert first["message"].startswith("inputs/income rose by 0.")
        assert "one false alarm in 60.0 days is promised" in first["message"]
        (suspect,) = run.change["last_alarm"]
        assert (suspect["stream"], suspect["harm"]) == ("inputs/income", False)
        assert not [note for note in run.notes if note.kind == "trigger"]
    assert plain.notes == saved.notes
    assert plain.state.encode() == saved.state.encode()


def test_more_errors_on_the_same_data_are_harm_and_withhold_nothing() -> None:
    rng = np.random.default_rng(3)
    run = Run()
    run.hours(*(window(rng) for _ in range(420)))
    (opened,) = run.hours(*(window(rng, wrong=0.3) for _ in range(12)))
    assert (opened["check"], opened["severity"]) == ("calibration-and-concept", "warning")
    assert "what the labels mean may have changed" in opened["message"]
    assert not [note for note in run.notes if note.kind == "trigger"]


def test_segments_and_models_nobody_described_have_no_budget_and_other_terms_start_afresh() -> None:
    profile = window(np.random.default_rng(4))
    seen = observed(profile, REFERENCE)
    evidence = Evidence(START)
    change = follow_change(None, seen, evidence, {})
    assert change is not None
    assert change.run_length == pytest.approx(2 * 30 * 24)
    assert change.season == 24
    seen.end_us += HOUR
    assert follow_change(change, seen, evidence, {}) is change
    weekly = declared(REFERENCE, system_context={"season": "7 days"})
    other = follow_change(change, observed(profile, weekly), evidence, {})
    assert other is not None
    assert other.season == 168
    vague = declared(REFERENCE, system_context={"false_alarms": "rarely"})
    assert follow_change(change, observed(profile, vague), evidence, {}) is None
    nobody = unregistered("loan", "7", window_us=HOUR, lateness_us=0)
    assert follow_change(None, observed(profile, nobody), evidence, {}) is None
    seen.subject = Subject("loan", "7", '{"site":"A"}')
    assert follow_change(None, seen, evidence, {}) is None


def test_detectors_are_selected_by_name() -> None:
    chosen = declared(REFERENCE, system_context={"detectors": ["kswin"]})
    for reference, names in ((REFERENCE, {"adwin", "page-hinkley"}), (chosen, {"kswin"})):
        run = Run(reference=msgspec.structs.replace(reference, calibration=Calibration()))
        run.hours(*(window(np.random.default_rng(5)) for _ in range(30)))
        assert {estimator.name for estimator in run.state.drift.values()} == names
