"""What became of forecasts, by what is known of the quality, and what new versions inherit."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from bestbefore_client import Repeated, encode_frame

from infra.replay import Engine, Step
from models.columns import Subject
from models.conformal import ENOUGH
from models.forecast import Passage
from models.forecast_features import FEATURES
from models.forecast_history import (
    MOST,
    PER_SERIES,
    History,
    due,
    followed,
    inherited,
    is_family,
    noted,
    outcomes,
    under,
)
from models.passage_network import HORIZON
from models.quality import Estimate
from models.subject_state import State, fresh
from streams.settings import load
from streams.topics import INFERENCE
from tests.test_assessor import HOUR, REFERENCE, START

THRESHOLD = 0.85
FEATURE = tuple(np.linspace(-1, 1, FEATURES).astype(np.float32).astype(float).tolist())
TOLD = Passage(threshold=THRESHOLD, low=10.0, median=30.0, high=50.0, good_for=12.0, probability_within_lead=0.1)


def quality(value: float, reach: float = 0.02) -> Estimate:
    return Estimate(estimate=value, low=value - reach, high=value + reach, n=100, basis="labels")


def lived(values: list[float], told: Passage = TOLD) -> History:
    """A version that was forecast and followed through these qualities, window after window."""
    history = History()
    for window, value in enumerate(values):
        history = followed(history, window, quality(value), THRESHOLD)
        if due(history, window, told):
            history = noted(history, window, told, FEATURE)
    return history


def test_a_crossing_counts_once_the_whole_interval_is_below_and_is_dated_back() -> None:
    history = lived([0.9] * 40 + [0.84] * 3)
    assert history.crossed is None
    assert [o.followed for o in outcomes(history)] == [39, 27, 15, 3]
    assert {o.held for o in outcomes(history)} == {None}
    history = lived([0.9] * 40 + [0.84] * 3 + [0.82])
    assert history.crossed == 40
    assert [o.crossing for o in outcomes(history)] == [40, 28, 16, 4]
    assert [o.held for o in outcomes(history)] == [True, True, True, False]
    assert [o.bound_held for o in outcomes(history)] == [True, True, True, False]


def test_an_estimate_that_comes_back_was_no_crossing() -> None:
    history = lived([0.9] * 40 + [0.84] * 3 + [0.9] + [0.82])
    assert history.crossed == 44


def test_windows_in_which_nothing_is_known_are_not_followed() -> None:
    history = lived([0.9] * 20)
    assert followed(history, 90, Estimate(reason="no labels"), THRESHOLD) == history


def test_another_version_takes_over_before_anything_is_resolved() -> None:
    history = lived([0.9] * 60)
    assert [o.followed for o in outcomes(history, 30)] == [30, 18, 6]
    assert {o.held for o in outcomes(history, 30)} == {None}
    new = inherited({"1": history}, 30)
    assert (new.series, new.versions, len(new.records)) == (0, ("1",), 3)
    assert "0 resolved series" in new.calibration.word


def test_a_horizon_that_passed_resolves() -> None:
    history = lived([0.9] * (HORIZON + 10), msgspec.structs.replace(TOLD, high=None))
    first = outcomes(history)[0]
    assert (first.crossing, first.held, first.bound_held) == (None, True, True)
    assert inherited({"1": history}).series == 1


def test_only_a_few_forecasts_are_kept_however_long_a_version_serves() -> None:
    history = lived([0.9] * 5000)
    assert MOST / 2 <= len(history.made) <= MOST
    assert history.every > 12
    assert len(inherited({"1": history}).records) == PER_SERIES
    assert len(msgspec.msgpack.encode(history)) < 4_000


def test_no_forecast_is_kept_below_the_threshold_or_without_numbers() -> None:
    assert lived([0.8] * 30).made == ()
    assert not due(History(), 1, Passage(threshold=THRESHOLD, reason="needs 20 assessed windows, has 3"))


def test_every_version_is_taken_in_once_along_the_line_of_descent() -> None:
    first = lived([0.9] * 40 + [0.82])
    second = msgspec.structs.replace(inherited({"1": first}), made=first.made, last=40, crossed=40)
    third = inherited({"1": first, "2": second})
    assert third.versions == ("1", "2")
    assert third.series == 2
    assert len(third.records) == 8


def test_enough_resolved_versions_teach_levels_which_every_further_one_moves() -> None:
    crossed = lived([0.9] * 40 + [0.82])
    history = History()
    for version in range(ENOUGH):
        assert history.calibration.source == "default"
        family = msgspec.structs.replace(history, made=crossed.made, last=40, crossed=40)
        history = inherited({str(version): family})
    assert history.series == ENOUGH
    assert history.calibration.word == "levels from 50 resolved series"
    family = msgspec.structs.replace(history, made=crossed.made, last=40, crossed=40)
    moved = inherited({"next": family})
    assert moved.calibration.word == "levels from 51 resolved series, adapted live"
    assert moved.calibration.levels.interval < history.calibration.levels.interval, "one in four was missed"
    assert moved.records == ()
    state = fresh(REFERENCE, history=moved)
    assert State.decode(state.encode()).history == moved


def test_a_replay_hands_on_what_the_version_before_was_told(tmp_path: Path) -> None:
    new = msgspec.structs.replace(REFERENCE, version="8")
    engine = Engine([REFERENCE, new], load({}, tmp_path), labelled=set())
    scores = np.tile(np.array([[0.95, 0.05]], dtype=np.float32), (60, 1))
    for hour in range(40):
        time = START + hour * HOUR + np.arange(60)
        columns: dict[str, Any] = {
            "id": [f"{hour}-{i}" for i in range(60)],
            "time": time,
            "model": Repeated("loan"),
            "scores": scores,
        }
        frame = encode_frame({**columns, "version": Repeated("7" if hour < 30 else "8")}, classes=("yes", "no"))
        with pa.ipc.open_stream(pa.py_buffer(frame)) as reader:
            engine.take(Step(int(time[0]), INFERENCE, next(iter(reader))))
    engine.finish()
    old, state = engine.state(Subject("loan", "7")), engine.state(Subject("loan", "8"))
    assert old is not None
    assert state is not None
    assert old.history.made
    assert state.history.versions == ("7",)
    assert [r.followed for r in state.history.records] == [o.followed for o in outcomes(old.history)]
    statuses = [n.body["forecast"] for n in engine.notes if n.kind == "status" and n.subject.version == "8"]
    assert statuses[-1]["n_resolved"] == 0, "one version that was replaced before anything was resolved"


@pytest.mark.parametrize(
    ("other", "inherits"),
    [
        (Subject("loan", "6"), True),
        (Subject("loan", "7"), False),
        (Subject("loan", ""), False),
        (Subject("loan", "6", '{"site":"A"}'), False),
        (Subject("other", "6"), False),
    ],
)
def test_the_family_is_all_traffic_of_other_versions(other: Subject, inherits: bool) -> None:
    assert is_family(other, Subject("loan", "7")) is inherits


def test_forecasts_made_under_other_terms_are_forgotten() -> None:
    """Windows half as long count twice as fast: an old forecast would seem to have been followed for its horizon."""
    history = under(lived([0.9] * 40), HOUR, THRESHOLD)
    assert history.made == lived([0.9] * 40).made  # a state from before terms were kept goes on
    assert under(history, HOUR, THRESHOLD) is history
    for terms in ((HOUR // 2, THRESHOLD), (HOUR, 0.8)):
        fresh_one = followed(under(history, *terms), 500_000, quality(0.9), terms[1])
        assert outcomes(fresh_one) == []
        assert fresh_one.records == history.records
