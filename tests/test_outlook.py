"""The forecast kept up window by window: late labels, restarts, baselines, seasons."""

from typing import Any

import msgspec
import numpy as np
import pytest

from models.columns import Categories, Outcomes
from models.evidence import Evidence
from models.forecast import filter_quality
from models.forecast_history import History
from models.outlook import KEPT, OPEN, Forecast, Outlook, forecast
from models.own_history import Calibration
from models.profile import WEIGHT, Profile
from models.reference import FORECASTERS, Reference, compile_reference
from tests.test_assessor import HOUR, REFERENCE, START, SUBJECT, Run, outcomes, window

LABELS = 100


def audited(number: int, accuracy: float, labels: int = LABELS) -> Evidence:
    """A window with this share of right answers among its labels."""
    made = Profile()
    rows = Outcomes(
        offset=np.arange(labels), time=np.arange(labels), event_time=np.arange(labels),
        correct=np.arange(labels) < round(labels * accuracy),
        truth=Categories(np.zeros(labels, np.int32), ("yes",)), confidence=np.full(labels, 0.9),
        feedback=np.zeros(labels, np.bool_),
    )  # fmt: skip
    made.add(rows, REFERENCE)
    found = Evidence(START + number * HOUR, n=1000, weight=1000 * WEIGHT)
    found.add(made)
    return found


def unlabelled(known: Evidence) -> Evidence:
    """The same window before its labels came."""
    return Evidence(known.start, n=known.n, weight=known.weight)


def told(outlook: Outlook, ring: list[Evidence], reference: Reference = REFERENCE) -> Forecast:
    return forecast(outlook, ring, reference, Calibration(), filter_quality([]), seed=1)


def decaying(windows: int, rng: np.random.Generator, swing: float = 0.0) -> list[Evidence]:
    levels = 0.95 - 0.0008 * np.maximum(np.arange(windows) - 20, 0) + swing * np.sin(np.arange(windows) * 2 * np.pi / 7)
    return [audited(i, float(rng.binomial(LABELS, level) / LABELS)) for i, level in enumerate(levels)]


def features(found: Forecast) -> tuple[float, ...]:
    assert found.made_by is not None
    return found.made_by.features


@pytest.mark.parametrize("late", [3, 30])
def test_late_labels_count_as_if_they_had_come_in_time(late: int) -> None:
    known, outlook, ring = decaying(KEPT + 40, np.random.default_rng(late)), Outlook(), list[Evidence]()
    in_time = Outlook()
    for number, newest in enumerate(known):
        ring = [*ring, unlabelled(newest)][-180:]
        if number >= late:
            ring[-1 - late] = known[number - late]
            outlook.touched(known[number - late].start)
        if number % 7 == 0:  # a forecast is made now and then, so the checkpoints move at odd places
            told(outlook, ring)
        if number % 60 == 0:
            told(in_time, known[max(number - 179, 0) : number + 1])
    for missing in range(late):
        ring[-1 - missing] = known[-1 - missing]
        outlook.touched(known[-1 - missing].start)
    assert features(told(outlook, ring)) == features(told(in_time, known[-180:]))


def test_a_label_later_than_any_before_moves_the_settled_windows_back() -> None:
    known, outlook = decaying(60, np.random.default_rng(1)), Outlook()
    told(outlook, known)
    assert outlook.settled is not None
    assert outlook.settled.until == known[-1 - OPEN].start
    outlook.touched(known[-1 - 20].start)
    told(outlook, known)
    assert outlook.settled.until < known[-1 - 20].start
    assert features(told(outlook, known)) == features(told(Outlook(), known))


def test_what_is_remembered_survives_a_restart_and_is_bounded() -> None:
    known, kept, restarted = decaying(400, np.random.default_rng(2)), Outlook(), Outlook()
    sizes = []
    for number in range(0, 400, 5):
        ring = known[max(number - 179, 0) : number + 1]
        for outlook in (kept, restarted):
            outlook.touched(ring[max(-4, -len(ring))].start)
        assert told(kept, ring).passage == told(restarted, ring).passage
        body = msgspec.msgpack.encode(restarted)
        restarted = msgspec.msgpack.decode(body, type=Outlook)
        sizes.append(len(body))
    assert max(sizes[40:]) < 5_000


def test_another_threshold_or_window_starts_from_the_ring_again() -> None:
    known, outlook = decaying(60, np.random.default_rng(3)), Outlook()
    told(outlook, known)
    higher = msgspec.structs.replace(REFERENCE, threshold=0.9)
    assert told(outlook, known, higher).passage == told(Outlook(), known, higher).passage
    longer = msgspec.structs.replace(higher, window_us=2 * HOUR)
    assert told(outlook, known, longer).passage == told(Outlook(), known, longer).passage
    outlook.touched(known[0].start)
    told(outlook, known, msgspec.structs.replace(longer, forecaster="kalman"))
    assert told(outlook, known, longer).passage == told(Outlook(), known, longer).passage
    assert outlook.open == OPEN, "labels that came while nothing was forecast say nothing of the delay"
    weekly = msgspec.structs.replace(REFERENCE, season_us=7 * HOUR)
    told(outlook, known, weekly)
    assert told(outlook, known).passage == told(Outlook(), known).passage


def test_a_declared_season_is_learnt_and_taken_out() -> None:
    weekly = msgspec.structs.replace(REFERENCE, season_us=7 * HOUR)
    known, outlook = decaying(70, np.random.default_rng(4), swing=0.04), Outlook()
    first = told(outlook, known[:20], weekly)
    assert (first.season or "").startswith("not removed yet")
    for number in range(21, 71):
        last = told(outlook, known[:number], weekly)
    assert (last.season or "").startswith("removed")
    assert outlook.oldest is not None
    assert max(outlook.oldest.memory.season) > 0.02
    odd = msgspec.structs.replace(REFERENCE, season_us=HOUR * 3 // 2)
    assert told(Outlook(), known, odd).season == "not removed: whole windows do not make it up"


def fallen(hours: int, **facts: Any) -> Run:
    """A model that gets worse by half a point an hour from the hour 30 on."""
    run, rng = Run(msgspec.structs.replace(REFERENCE, **facts)), np.random.default_rng(5)
    run.hours(*(window(rng, accuracy=0.95 - 0.004 * max(0, hour - 30)) for hour in range(hours)))
    return run


@pytest.mark.parametrize("name", FORECASTERS)
def test_every_forecaster_can_be_chosen_and_says_what_its_levels_rest_on(name: str) -> None:
    found = fallen(48, forecaster=name).status["forecast"]
    assert found["forecaster"] == name
    beyond = "9999"
    assert found["low"] <= (found["best_before"] or beyond) <= (found["high"] or beyond)
    assert found["n_resolved"] == 0
    word = "default levels: 0 resolved series, own ones need 50" if name == "amortised" else "levels of a baseline"
    assert found["levels"].startswith(word)


def test_an_unknown_forecaster_is_refused_with_the_names_of_the_others() -> None:
    model = {"model_name": "loan", "model_version": "7"}
    system = {"bestbefore": {"forecaster": "arima"}}
    with pytest.raises(ValueError, match="'arima' is not known; choose one of amortised, kalman, holt"):
        compile_reference({"trained_model": model, "system_context": system})


def test_an_assessor_that_restarts_says_the_same_bit_for_bit() -> None:
    lines = []
    for saved in (False, True):
        run, rng = Run(saved=saved), np.random.default_rng(6)
        for hour in range(45):
            run.hours(window(rng, accuracy=0.95 - 0.002 * max(0, hour - 20), labels=0))
            if hour >= 4:  # labels come four hours late
                start = START + (hour - 4) * HOUR
                run.state.assembly.add(start, START + (hour + 1) * HOUR, outcomes(rng, 60, 0.95))
        lines.append([note.body for note in run.notes])
    assert lines[0] == lines[1]
    assert lines[0][-1]["forecast"]["low"]


def test_forecasts_are_kept_for_the_next_version() -> None:
    run = fallen(75)
    history = run.state.history
    assert [made.window for made in history.made]
    assert history.crossed is not None
    truth = START // HOUR + 30 + 25  # the hour in which the true accuracy reaches the threshold
    assert abs(history.crossed - truth) <= 6
    assert Run(subject=SUBJECT._replace(segment='{"site":"A"}')).state.history == History()
