"""All audits since a registration: an interval that holds at every look, and a flag when the concept changes."""

import msgspec
import numpy as np
import pytest

from models.audit_lines import audited_fields, label_fields
from models.audited_quality import CALM, AuditedQuality
from models.checks.calibration_and_concept import CHECK
from models.columns import Subject
from models.evidence import Evidence, remember
from models.label_sampling import Plan
from models.quality import Calibration
from models.reference import LabelTerms, Reference
from models.subject_state import State
from tests.observing import by_field, observed
from tests.test_assessor import Run, window
from tests.test_audits import HOUR, PLAN, Day

SUBJECT = Subject("m", "1")
BARE = Reference("m", "1", window_us=HOUR, lateness_us=0, minimum_n=50)
ASKING = msgspec.structs.replace(BARE, labels=LabelTerms(plan=PLAN))
BOUNDED = Calibration(accuracy=0.86, n=5000, residual_low=-0.3, residual_high=0.3)


def followed(
    days: list[Day], reference: Reference, *, asked: bool = True, saved: bool = False
) -> tuple[AuditedQuality, list[Evidence], list[tuple[float, float]]]:
    """The state after these windows, all labels at once; with the interval and the true mean at every look."""
    ring: list[Evidence] = []
    audited, looks = AuditedQuality(), []
    for i, day in enumerate(days):
        remember(ring, i * HOUR, day.traffic(asking=asked).merge(day.labels(day.asked, asked=asked)))
        audited.follow(ring, reference, SUBJECT)
        if saved:
            audited = msgspec.msgpack.decode(msgspec.msgpack.encode(audited), type=AuditedQuality)
        found = audited.interval()
        if found is not None:
            truth = float(
                np.average([d.correct.mean() for d in days[: i + 1]], weights=[d.asked.sum() for d in days[: i + 1]])
            )
            looks.append((found[0] - truth, found[1] - truth))
    return audited, ring, looks


@pytest.mark.parametrize("plan", [None, PLAN])
def test_the_interval_holds_at_every_look_and_narrows(plan: Plan | None) -> None:
    held = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        days = [Day(rng, 1000, plan) for _ in range(8)]
        audited, _, looks = followed(days, ASKING if plan else BARE, asked=plan is not None)
        held.append(all(low <= 0 <= high for low, high in looks))
        found = audited.interval()
        assert found is not None
        assert found[4] == sum(int(d.asked.sum()) for d in days)
        assert found[1] - found[0] < 0.16
        assert found[3] - found[2] < found[1] - found[0]
    assert sum(held) >= 5


def test_a_restart_changes_nothing_and_the_state_is_bounded() -> None:
    rng = np.random.default_rng(1)
    days = [Day(rng, 1000, PLAN) for _ in range(6)]
    one, other = followed(days, ASKING)[0], followed(days, ASKING, saved=True)[0]
    assert msgspec.msgpack.encode(one) == msgspec.msgpack.encode(other)
    assert len(msgspec.msgpack.encode(one)) < 40_000
    run = Run(saved=True)
    run.hours(*(window(np.random.default_rng(k)) for k in range(4)))
    assert State.decode(run.state.encode()).audited == run.state.audited
    assert run.state.audited.interval() is not None
    assert run.status["quality_audited"]["n"] == 240
    assert run.status["labels"]["arrived"] == 240


def test_a_new_registration_begins_anew() -> None:
    rng = np.random.default_rng(2)
    days = [Day(rng, 1000, PLAN) for _ in range(4)]
    audited, ring, _ = followed(days, ASKING)
    audited.follow(ring, msgspec.structs.replace(ASKING, digest="other"), SUBJECT)
    assert audited.interval() is None
    assert audited.until == 3 * HOUR  # what was taken before is not taken again


def test_only_closed_windows_are_taken_in_their_order() -> None:
    rng = np.random.default_rng(3)
    ring: list[Evidence] = []
    waiting, done = Day(rng, 1000, PLAN), Day(rng, 1000, PLAN)
    remember(ring, 0, waiting.traffic())
    remember(ring, HOUR, done.traffic().merge(done.labels(done.asked)))
    reference = msgspec.structs.replace(ASKING, labels=LabelTerms(plan=PLAN, delay_us=5 * HOUR))
    audited = AuditedQuality()
    audited.follow(ring, reference, SUBJECT)
    assert audited.interval() is None
    half = waiting.asked & (np.arange(1000) % 2 == 0)
    remember(ring, 0, waiting.labels(half), age=1)
    fields = label_fields(ring, reference)
    assert fields["expected"] - fields["arrived"] == int((waiting.asked & ~half).sum())
    assert (fields["missing"], fields["closed_until"]) == (0, None)
    remember(ring, 5 * HOUR, Day(rng, 1000, PLAN).traffic())
    audited.follow(ring, reference, SUBJECT)
    found = audited.interval()
    assert found is not None
    assert found[4] == int(waiting.asked.sum() + done.asked.sum())  # those that never came count both ways
    assert label_fields(ring, reference)["missing"] == int((waiting.asked & ~half).sum())
    told = audited_fields(audited)
    assert (told["n"], told["missing"]) == (int(half.sum() + done.asked.sum()), int((waiting.asked & ~half).sum()))
    assert label_fields(ring, reference)["closed_until"] == "1970-01-01T05:00:00Z"


def test_labels_of_unknown_propensity_are_left_out_with_the_reason() -> None:
    rng = np.random.default_rng(4)
    day = Day(rng, 1000, PLAN)
    audited, _, _ = followed([day], BARE, asked=False)
    assert audited.interval() is None
    assert audited.left_out == int(day.asked.sum())


def test_a_changed_concept_raises_the_flag_and_nothing_else_does() -> None:
    reference = msgspec.structs.replace(BARE, calibration=BOUNDED)
    raised: list[int] = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        quiet = [Day(rng, 1000) for _ in range(8)]
        for day in quiet:
            day.asked &= np.cumsum(day.asked) <= 50
        audited, ring, _ = followed(quiet, reference, asked=False)
        assert audited.flag is None
        for i in range(8, 16):
            day = Day(rng, 1000)
            day.correct &= rng.random(1000) > 0.25  # the same inputs, scores and claims; another truth
            day.asked &= np.cumsum(day.asked) <= 50
            remember(ring, i * HOUR, day.traffic(asking=False).merge(day.labels(day.asked, asked=False)))
            audited.follow(ring, reference, SUBJECT)
            if audited.flag is not None:
                raised.append(i)
                break
        seen = observed(day.traffic(), reference, ring=ring, audited=audited)
        (found,) = [v for v in CHECK.live(seen) if v.field == "concept"]  # type: ignore[misc]
        assert (found.verdict, found.action) == ("mismatch", "retrain")
        assert found.effect is not None
        assert found.effect.n == audited.flag.n if audited.flag else False
        assert found.effect.estimate < 0
        assert "10,000 labels" in found.message
    assert len(raised) == 8
    assert np.median(raised) <= 11


def test_the_flag_goes_down_when_the_labels_agree_again() -> None:
    reference = msgspec.structs.replace(BARE, calibration=BOUNDED)
    rng = np.random.default_rng(5)
    days = [Day(rng, 1000) for _ in range(12)]
    for day in days[:3]:
        day.correct &= rng.random(1000) > 0.4
    audited, _, _ = followed(days[:3], reference, asked=False)
    assert audited.flag is not None
    audited, ring, _ = followed(days, reference, asked=False)
    assert sum(e.audits for e in ring[3:]) > CALM
    assert audited.flag is None
    verdicts = by_field(CHECK.live(observed(days[-1].traffic(), reference, ring=ring[4:], audited=audited)))  # type: ignore[misc]
    assert verdicts["concept"].verdict == "ok"
