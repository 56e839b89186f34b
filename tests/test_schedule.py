"""A retraining by the calendar is advised against only where the model is provably good, once per date."""

from typing import Any

import msgspec
import numpy as np
import pytest

from models.causes import OpenCause
from models.forecast import Passage
from models.policy import CONFIRMATIONS, Terms, rfc3339
from models.quality import Estimate
from models.reference import Reference, compile_reference
from models.schedule import Advice, advise, next_scheduled
from tests.test_assessor import HOUR, REFERENCE, START, Run, window

DAY = 24 * HOUR
TERMS = Terms(threshold=0.85, lead_time_us=2 * DAY, window_us=DAY, retrain_every_us=30 * DAY)
SURE = Estimate(estimate=0.93, low=0.91, high=0.95, n=900, basis="labels")
FAR = Passage(threshold=0.85, low=8.0, median=60.0, good_for=9.0, lead=2.0, probability_within_lead=0.0)
DUE = START + 30 * DAY


def days(first: int, last: int, estimate: Estimate = SURE, passage: Passage | None = FAR, **others: Any) -> list[Any]:
    """The advices of these days; the state goes through its wire form every day."""
    advice, found = Advice(), []
    for day in range(first, last):
        advice = msgspec.json.decode(msgspec.json.encode(advice), type=Advice)
        given: dict[str, Any] = {"scheduled_us": DUE} | others
        advice, trigger = advise(
            advice, TERMS, subject=("loan", "7"), now_us=START + day * DAY, estimate=estimate, passage=passage, **given
        )
        found += [] if trigger is None else [(day, trigger)]
    return found


def test_within_a_lead_time_before_the_date_and_once() -> None:
    ((day, trigger),) = days(0, 30)
    assert day == 28 + CONFIRMATIONS - 1, "from a lead time before on, and two windows must agree"
    assert (trigger.action, trigger.severity) == ("review", "info")
    assert trigger.reason["rule"] == "schedule-not-needed"
    assert trigger.reason["scheduled_at"] == rfc3339(DUE)
    assert trigger.reason["good_until"] == rfc3339(START + (29 + 9) * DAY)
    assert trigger.reason["next_review"] == trigger.retrain_by == rfc3339(START + (29 + 9 - 2) * DAY)
    assert trigger.dedupe_key == f"loan/7/schedule/{rfc3339(DUE)}"
    assert days(0, 30)[0][1].trigger_id == trigger.trigger_id
    assert days(0, 31, scheduled_us=DUE + DAY)[0][1].trigger_id != trigger.trigger_id


CRITICAL = OpenCause(id="m-1", check="domain-and-schema", field="income", action="fix-pipeline", severity="critical")
WARNING = msgspec.structs.replace(CRITICAL, severity="warning")


@pytest.mark.parametrize(
    ("estimate", "passage", "others"),
    [
        (SURE, None, {}),
        (SURE, Passage(threshold=0.85, reason="needs 8 assessed windows, has 3"), {}),
        (SURE, msgspec.structs.replace(FAR, good_for=2.9), {}),  # not until a lead time after the date
        (SURE, msgspec.structs.replace(FAR, good_for=0.0), {}),
        (msgspec.structs.replace(SURE, low=0.849), FAR, {}),
        (Estimate(reason="no labels in this window"), FAR, {}),
        (SURE, FAR, {"causes": (CRITICAL,)}),
        (SURE, FAR, {"idle": False}),
        (SURE, FAR, {"scheduled_us": None}),
        (msgspec.structs.replace(SURE, basis="label-free"), FAR, {"labelled": True}),
    ],
)
def test_what_cannot_be_shown_is_not_said(estimate: Estimate, passage: Passage | None, others: dict[str, Any]) -> None:
    assert days(0, 30, estimate, passage, **others) == []


@pytest.mark.parametrize(
    ("estimate", "others"),
    [(msgspec.structs.replace(SURE, basis="label-free"), {}), (SURE, {"causes": (WARNING,), "labelled": True})],
)
def test_what_does_not_stand_against_it(estimate: Estimate, others: dict[str, Any]) -> None:
    assert len(days(0, 30, estimate, **others)) == 1


def test_beyond_the_horizon_the_horizon_counts() -> None:
    ((_, trigger),) = days(0, 30, passage=msgspec.structs.replace(FAR, good_for=None, horizon=10))
    assert trigger.reason["good_until"] == rfc3339(START + 39 * DAY)


def _declared(**system: Any) -> Reference:
    return compile_reference({
        "system_context": {"bestbefore": system},
        "trained_model": {"model_name": "loan", "model_version": "7", "training_date": "2026-01-10"},
    })  # fmt: skip


def test_dates_follow_from_the_training_of_this_version() -> None:
    monthly = _declared(retrain_every="30 days")
    assert monthly.retrain_every_us == 30 * DAY
    trained = 20463 * DAY
    assert rfc3339(trained) == "2026-01-10T00:00:00Z"
    assert next_scheduled(monthly, trained) == trained + 30 * DAY
    assert next_scheduled(monthly, trained - 99 * DAY) == trained + 30 * DAY
    assert next_scheduled(monthly, trained + 30 * DAY) == trained + 60 * DAY, "a date that has come is the past"
    assert next_scheduled(_declared(), trained) is None
    undated = msgspec.structs.replace(monthly, descriptors={})
    assert next_scheduled(undated, START) is None
    assert next_scheduled(undated, START, START - DAY) == START + 29 * DAY
    nonsense = msgspec.structs.replace(monthly, descriptors={"trained_model": {"training_date": "soon"}})
    assert next_scheduled(nonsense, START) is None
    with pytest.raises(ValueError, match="retrain_every"):
        _declared(retrain_every="0 days")


# -- in the assessor -----------------------------------------------------------------------------------------


def scheduled(hours: int) -> Run:
    """A model that a calendar would retrain at that hour."""
    reference = msgspec.structs.replace(
        REFERENCE, lead_time_us=4 * HOUR, retrain_every_us=hours * HOUR,
        descriptors={"trained_model": {"training_date": rfc3339(START)}},
    )  # fmt: skip
    return Run(reference, saved=True)


def test_a_good_model_is_left_alone() -> None:
    run, rng = scheduled(60), np.random.default_rng(3)
    run.hours(*(window(rng, accuracy=0.97, labels=150, n=400) for _ in range(64)))
    (note,) = run.kinds("trigger")
    assert (note.body["action"], note.body["severity"], note.severity) == ("review", "info", "info")
    assert START + 56 * HOUR < note.at_us <= START + 60 * HOUR
    assert run.status["open_triggers"] == {}
    assert run.state.policy.incidents == 0


def test_a_trigger_says_how_far_it_is_ahead_of_the_calendar() -> None:
    run, rng = scheduled(240), np.random.default_rng(4)
    fall = [max(0.97 - 0.01 * max(hour - 20, 0), 0.6) for hour in range(60)]
    run.hours(*(window(rng, accuracy=a, labels=150, n=400) for a in fall))
    (note,) = run.kinds("trigger")
    assert note.body["action"] == "retrain"
    told = note.body["reason"]["schedule"]
    assert told["scheduled_at"] == rfc3339(START + 240 * HOUR)
    assert told["days_before"] == pytest.approx((START + 240 * HOUR - note.at_us) / DAY, rel=1e-5)
