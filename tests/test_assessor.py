"""From windows to notes: deterministic, honest about what it does not know, one trigger for one decay."""

from typing import Any

import msgspec
import numpy as np
import pytest

from models.assembly import Revision
from models.assessor import Conclusion, assess
from models.checks.quality_and_time_to_threshold import CHECK, live
from models.columns import Categories, Inferences, Outcomes, Subject
from models.notes import Note
from models.policy import rfc3339
from models.profile import Profile
from models.quality import Calibration
from models.reference import LabelTerms, NumericFeature, Reference, unregistered
from models.subject_state import FORMAT, State, fresh
from models.watch import CONFIRM
from tests.observing import declared, observed

QUALITY = CHECK.id
HOUR = 3_600_000_000
START = 1_795_000_000_000_000 // HOUR * HOUR
SUBJECT = Subject("loan", "7")
QUARTERS = (-0.6745, 0.0, 0.6745)
REFERENCE = Reference(
    "loan", "7", digest="d", window_us=HOUR, lateness_us=0, lead_time_us=24 * HOUR, threshold=0.85, minimum_n=50,
    cost_degraded_per_day=3.0, owner="lending", n=5000,
    numeric={"income": NumericFeature(edges=QUARTERS, shares=(0.25,) * 4, mean=0.0, sd=1.0, n=5000)},
    classes={"yes": 0.5, "no": 0.5},
    calibration=Calibration(accuracy=0.95, n=5000, residual_low=-0.5, residual_high=0.5),
)  # fmt: skip


def window(
    rng: np.random.Generator, *, n: int = 200, accuracy: float = 0.95, labels: int = 60, shift: float = 0.0
) -> Profile:
    """One hour of traffic whose confidences are calibrated, with some of it labelled."""
    made = Profile()
    top = np.clip(rng.normal(accuracy, 0.02, n), 0.5, 1.0)
    yes = rng.random(n) < 0.5
    scores = np.where(yes[:, None], np.stack((top, 1 - top), 1), np.stack((1 - top, top), 1)).astype(np.float32)
    rows = Inferences(
        offset=np.arange(n), time=np.arange(n), numeric={"income": rng.normal(shift, 1.0, n)}, scores=scores,
        label=Categories((~yes).astype(np.int32), ("yes", "no")),
    )  # fmt: skip
    made.add(rows, REFERENCE)
    return made.merge(outcomes(rng, labels, accuracy))


def outcomes(rng: np.random.Generator, n: int, accuracy: float) -> Profile:
    made = Profile()
    rows = Outcomes(
        offset=np.arange(n), time=np.arange(n), event_time=np.arange(n), correct=rng.random(n) < accuracy,
        truth=Categories(rng.integers(0, 2, n).astype(np.int32), ("yes", "no")), confidence=np.full(n, accuracy),
        feedback=np.zeros(n, np.bool_),
    )  # fmt: skip
    made.add(rows, REFERENCE)
    return made


class Run:
    """One subject, window after window."""

    def __init__(self, reference: Reference = REFERENCE, subject: Subject = SUBJECT, *, saved: bool = False) -> None:
        self.reference, self.subject, self.saved = reference, subject, saved
        self.state = fresh(reference)
        self.notes: list[Note] = []
        self.conclusions: list[Conclusion] = []
        self.hour = 0

    def hours(self, *profiles: Profile) -> list[Note]:
        """What these windows, one after the other, make known."""
        before = len(self.notes)
        for profile in profiles:
            start = START + self.hour * HOUR
            self.hour += 1
            self.state.assembly.add(start, start, profile)
            self.state.assembly.heard("inference/0", start + HOUR)
            if self.saved:
                self.state = State.decode(self.state.encode())
            notes, conclusions = assess(self.state, self.subject, self.reference)
            self.notes += notes
            self.conclusions += conclusions
        return self.notes[before:]

    @property
    def status(self) -> dict[str, Any]:
        return [note.body for note in self.notes if note.kind == "status"][-1]

    def kinds(self, kind: str) -> list[Note]:
        return [note for note in self.notes if note.kind == kind]


def decay(hours: int = 60) -> list[Profile]:
    """Good for a day, then worse by 1.2 points an hour."""
    rng = np.random.default_rng(11)
    fall = [0.95 - 0.012 * max(hour - 24, 0) for hour in range(hours)]
    return [window(rng, accuracy=max(a, 0.55), shift=1.5 * (a < 0.9)) for a in fall]


def test_a_replay_says_the_same_with_the_same_ids() -> None:
    profiles = decay()
    runs = [Run(), Run(), Run(saved=True)]
    for run in runs:
        run.hours(*(Profile.unpack(p.pack()) for p in profiles))
    assert runs[0].notes == runs[1].notes == runs[2].notes
    assert runs[0].conclusions == runs[1].conclusions == runs[2].conclusions
    assert runs[0].state.encode() == runs[2].state.encode()
    ids = [note.id for note in runs[0].notes]
    assert len(set(ids)) == len(ids)
    msgspec.json.encode([note.body for note in runs[0].notes])


def test_a_falling_accuracy_yields_one_trigger() -> None:
    run = Run()
    run.hours(*decay())
    (trigger,) = run.kinds("trigger")
    assert (trigger.body["model_name"], trigger.body["model_version"]) == ("loan", "7")
    assert START + 24 * HOUR < trigger.at_us < START + 45 * HOUR
    below = [c.end_us for c in run.conclusions if c.estimate.high is not None and c.estimate.high < 0.85]
    assert trigger.at_us <= below[0]
    assert run.status["incident"] == trigger.id
    assert run.status["verdicts"][QUALITY] == "mismatch"
    assert run.status["quality"]["basis"] == "both"


def test_steady_traffic_yields_neither_trigger_nor_mismatch() -> None:
    rng = np.random.default_rng(5)
    run = Run()
    run.hours(*(window(rng) for _ in range(48)))
    assert run.kinds("trigger") == run.kinds("mismatch") == []
    expected = {
        "covariate-drift": "ok", "label-and-prediction-shift": "ok", "embedding-drift": "unknown", QUALITY: "ok",
        "calibration-and-concept": "ok", "failure-and-default-output": "ok", "cause-and-cure": "ok",
        "unit-scale-encoding": "ok", "missing-and-special-values": "ok",
    }  # fmt: skip
    assert {check: run.status["verdicts"][check] for check in expected} == expected
    assert run.status["quality"]["low"] < 0.95 < run.status["quality"]["high"]


def test_a_segment_is_assessed_but_triggers_nothing() -> None:
    run = Run(subject=Subject("loan", "7", '{"site":"A"}'))
    run.hours(*decay())
    assert run.kinds("trigger") == []
    assert run.status["verdicts"][QUALITY] == "mismatch"
    assert run.status["segment"] == '{"site":"A"}'


def test_a_model_nobody_described_is_never_ok() -> None:
    reference = unregistered("loan", "7", window_us=HOUR, lateness_us=0)
    run = Run(reference)
    run.hours(*decay(10))
    assert {note.kind for note in run.notes} == {"status"}
    for note in run.notes:
        quality = note.body["quality"]
        assert (note.body["registered"], quality["basis"], quality["estimate"]) == (False, "none", None)
        assert "no descriptor is registered for loan 7; run `bestbefore register" in quality["reason"]
        assert set(note.body["verdicts"].values()) <= {"unknown"}
        assert note.body["forecast"]["best_before"] is None
        assert note.body["forecast"]["reason"]


def test_a_model_described_later_goes_on_with_its_own_window() -> None:
    minute = HOUR // 60
    run = Run(unregistered("loan", "7", window_us=HOUR, lateness_us=0))
    run.hours(window(np.random.default_rng(0)))
    described = msgspec.structs.replace(REFERENCE, window_us=minute)
    start = START + HOUR
    run.state.assembly.add(start, start, window(np.random.default_rng(1)))
    run.state.assembly.heard("inference/0", start + minute)
    notes, (conclusion,) = assess(run.state, SUBJECT, described)
    assert (conclusion.start_us, conclusion.end_us) == (start, start + minute)
    assert notes[-1].body["registered"] is True


def test_no_evidence_is_unknown_with_the_reason() -> None:
    bare = msgspec.structs.replace(REFERENCE, numeric={}, classes={}, calibration=None)
    run = Run(bare)
    run.hours(window(np.random.default_rng(0), labels=0))
    verdicts = run.status["verdicts"]
    assert verdicts.pop("failure-and-default-output") == "ok", "every event was answered"
    assert set(verdicts.values()) == {"unknown"}
    assert run.status["quality"]["estimate"] is None
    assert "no calibration registered" in run.status["quality"]["reason"]
    assert "needs 20 assessed windows" in run.status["forecast"]["reason"]


def test_without_a_threshold_there_is_an_estimate_but_no_date() -> None:
    run = Run(msgspec.structs.replace(REFERENCE, threshold=None))
    run.hours(*decay(30))
    assert run.status["quality"]["estimate"] is not None
    assert run.status["forecast"]["best_before"] is None
    assert "no threshold is declared" in run.status["forecast"]["reason"]
    assert run.status["verdicts"][QUALITY] == "unknown"


SEASONLESS = declared(REFERENCE, system_context={"season": "1 hour"})


def test_a_mismatch_opens_after_two_windows_and_is_resolved_after_two() -> None:
    rng = np.random.default_rng(3)
    run = Run(SEASONLESS)
    run.hours(*(window(rng) for _ in range(12)))
    assert [n.kind for n in run.hours(window(rng, shift=1.5))] == ["status"]
    opened = [n for n in run.hours(*(window(rng, shift=1.5) for _ in range(4))) if n.check == "covariate-drift"]
    assert [(n.body["field"], n.start_us) for n in opened] == [("income", START + 13 * HOUR)]
    body = opened[0].body
    assert body["first_seen"] < body["window"]["end"]
    assert body["effect"]["estimate"] > body["effect"]["threshold"]
    assert body["owner"] == "lending"
    assert "covariate-drift/income" in run.status["open_mismatches"]
    closing = [n for n in run.hours(*(window(rng) for _ in range(12))) if n.check == "covariate-drift"]
    assert [(n.body["verdict"], n.body["incident"]) for n in closing] == [("ok", opened[0].id)]
    assert closing[0].id != opened[0].id
    assert closing[0].start_us >= START + (17 + CONFIRM - 1) * HOUR
    assert run.status["open_mismatches"] == []


def test_small_traffic_is_joined_until_there_is_enough() -> None:
    rng = np.random.default_rng(4)
    run = Run()
    told = []
    for _ in range(6):
        run.hours(window(rng, n=20, labels=0))
        told.append(run.status["verdicts"]["failure-and-default-output"])
    assert told == ["unknown", "unknown", "ok"] * 2
    assert run.status["window"]["n"] == 20


def test_a_described_model_that_falls_silent_is_missed_and_never_ok() -> None:
    """Three windows without a row are assessed, and no more: the silence has been told by then."""
    reference = declared(REFERENCE, production_data={"rate": {"mean": 200, "unit": "1/hour"}})
    run, rng = Run(reference), np.random.default_rng(15)
    run.hours(*(window(rng) for _ in range(12)))
    run.state.assembly.heard("inference/0", START + 40 * HOUR)
    told = assess(run.state, SUBJECT, reference)[0]
    silent = [note.body for note in told if note.kind == "status"]
    assert [(body["window"]["n"], body["window"]["start"][11:13]) for body in silent] == [
        (0, "23"),
        (0, "00"),
        (0, "01"),
    ]
    for body in silent:
        assert {body["verdicts"][c] for c in (QUALITY, "failure-and-default-output", "covariate-drift")} == {"unknown"}
    assert [note for note in told if note.kind == "mismatch"] == []
    fleet = Run(reference, Subject("loan", ""))
    fleet.hours(*(window(rng) for _ in range(3)))
    fleet.state.assembly.heard("inference/0", START + 40 * HOUR)
    (opened,) = assess(fleet.state, fleet.subject, reference)[0]
    assert (opened.check, opened.severity, opened.body["version"]) == ("latency-rate-buffering", "critical", None)
    assert "the topic is silent" in opened.body["message"]
    stranger = Run(unregistered("loan", "7", window_us=HOUR, lateness_us=0))
    stranger.hours(window(rng))
    stranger.state.assembly.heard("inference/0", START + 40 * HOUR)
    assert assess(stranger.state, SUBJECT, stranger.reference) == ([], [])


def test_silence_is_told_by_the_wall_clock_where_nobody_is_waited_for() -> None:
    run, rng = Run(), np.random.default_rng(16)
    assert not run.state.assembly.fall_silent(), "nothing was ever there"
    run.hours(window(rng))
    assert not run.state.assembly.fall_silent(), "a source is still waited for"
    run.state.assembly.heard("inference/0", 0, idle=True)
    for _ in range(3):
        assert run.state.assembly.fall_silent()
        assert [n.body["window"]["n"] for n in assess(run.state, SUBJECT, REFERENCE)[0] if n.kind == "status"] == [0]
    assert not run.state.assembly.fall_silent()


def test_late_labels_revise_their_window() -> None:
    rng = np.random.default_rng(6)
    run = Run(msgspec.structs.replace(REFERENCE, labels=LabelTerms(delay_us=HOUR)))
    run.hours(*(window(rng, labels=0) for _ in range(10)))
    unlabelled = run.conclusions[-1].estimate
    assert unlabelled.basis == "label-free"
    for hour in range(10):
        run.state.assembly.add(START + hour * HOUR, START + run.hour * HOUR, outcomes(rng, 60, 0.6))
    run.hours(window(rng, labels=0))
    revised = run.conclusions[-1].estimate
    assert revised.basis == "both"
    assert unlabelled.estimate is not None
    assert revised.estimate is not None
    assert revised.estimate < unlabelled.estimate - 0.05
    assert [e.audits for e in run.state.ring] == [60] * 10 + [0]


def test_no_window_that_waits_for_labels_is_settled() -> None:
    """Labels come two hours late and twelve; until then the window is open, and the forecast will take it in again."""
    rng = np.random.default_rng(8)
    run = Run(msgspec.structs.replace(REFERENCE, labels=LabelTerms(delay_us=12 * HOUR)))
    for hour in range(40):
        now = START + hour * HOUR
        for age in (2, 12):
            if hour >= age:
                run.state.assembly.add(now - age * HOUR, now, outcomes(rng, 20 - age // 2, 0.95))
        run.hours(window(rng, labels=0))
    settled = run.state.outlook.settled
    assert settled is not None
    waiting = [e.start for e in run.state.ring if e.audits and not e.mark.closed]
    assert len(waiting) == 10
    assert START + 20 * HOUR < settled.until < min(waiting)
    assert run.status["labels"]["closed_until"] == rfc3339(min(waiting))
    assert run.status["labels"]["delay"] == {"p50": 2 * 3600.0, "p95": 12 * 3600.0}


def test_a_revision_alone_is_remembered_and_says_nothing_yet() -> None:
    rng = np.random.default_rng(7)
    site = Subject("loan", "7", '{"site":"A"}')
    run = Run(subject=site)
    run.hours(window(rng, labels=0))
    run.state.assembly.revisions.append(Revision(START, START + HOUR, outcomes(rng, 30, 0.9).pack()))
    run.state.assembly.heard("labels/0", START + 2 * HOUR)
    run.state.assembly.heard("inference/0", START + 2 * HOUR)
    assert assess(run.state, site, REFERENCE) == ([], [])
    assert run.state.ring[0].audits == 30


@pytest.mark.parametrize("start", [0, START + 10**6 * HOUR])
def test_a_window_far_away_does_not_disturb_the_estimate(start: int) -> None:
    rng = np.random.default_rng(8)
    profiles = [window(rng) for _ in range(12)]
    plain, disturbed = Run(), Run()
    disturbed.state.assembly.add(start, START, outcomes(rng, 5, 0.0))
    for run in (plain, disturbed):
        run.hours(*profiles)
    mine, theirs = (run.conclusions[-1].estimate.estimate for run in (plain, disturbed))
    assert mine is not None
    assert theirs == pytest.approx(mine, abs=0.03)


def test_a_state_of_a_newer_version_is_refused() -> None:
    body = msgspec.msgpack.decode(fresh(REFERENCE).encode()) | {"version": FORMAT + 1}
    with pytest.raises(ValueError, match="reads up to 1: upgrade"):
        State.decode(msgspec.msgpack.encode(body))


def test_an_open_quality_mismatch_outlasts_windows_that_do_not_decide() -> None:
    run = Run()
    run.hours(*decay(48))
    assert f"{QUALITY}/accuracy" in run.status["open_mismatches"]
    rng = np.random.default_rng(12)
    seen = []
    for _ in range(30):
        run.hours(window(rng, accuracy=0.95))
        seen.append((run.status["verdicts"][QUALITY], f"{QUALITY}/accuracy" in run.status["open_mismatches"]))
    verdicts = [verdict for verdict, _ in seen]
    assert "unknown" in verdicts
    closed = [is_open for _, is_open in seen].index(False)
    assert verdicts[closed - 1 : closed + 1] == ["ok", "ok"]


def test_another_metric_than_accuracy_is_named_as_the_reason() -> None:
    run = Run(msgspec.structs.replace(REFERENCE, metric="rmse", threshold=None))
    run.hours(*decay(3))
    assert run.status["verdicts"][QUALITY] == "unknown"
    reason = "only accuracy is assessed, trained_model.algorithm_metrics declares rmse"
    (verdict,) = live(observed(Profile(), run.reference, estimate=run.conclusions[-1].estimate))
    assert verdict.reason == reason
    assert run.status["forecast"]["reason"] == reason
    assert run.status["quality"]["metric"] == "accuracy"


def test_a_total_outage_triggers() -> None:
    rng = np.random.default_rng(13)
    outage = Profile()
    outage.add(Inferences(offset=np.arange(200), time=np.arange(200), failed=np.ones(200, np.bool_)), REFERENCE)
    run = Run()
    run.hours(*(window(rng, labels=0) for _ in range(12)), *[outage] * 6)
    assert run.status["verdicts"][QUALITY] == "mismatch"
    assert len(run.kinds("trigger")) == 1
