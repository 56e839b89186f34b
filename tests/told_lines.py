"""Lines that a version tells: a decay with labels, a replaced version, a broken pipeline, an advice by the calendar.

    python tests/told_lines.py ROOT      (prints JSON: pairs of the schema's name and a line)

Runs under this version and under the previous one, like tests/artefacts.py.
"""

import sys
from typing import Any

import msgspec
import numpy as np

from models.assessor import assess
from models.causes import OpenCause
from models.columns import Categories, Inferences, Outcomes, Subject
from models.forecast import Passage
from models.lifecycle import Change, take_in
from models.policy import PolicyState, Terms, decide
from models.profile import Profile
from models.quality import Calibration, Estimate
from models.reference import NumericFeature, Reference
from models.schedule import Advice, advise
from models.subject_state import fresh

HOUR, DAY = 3_600_000_000, 86_400_000_000
START = 1_795_000_000_000_000 // HOUR * HOUR
N, LABELS = 200, 60
REFERENCE = Reference(
    "loan", "7", digest="d", window_us=HOUR, lateness_us=0, lead_time_us=24 * HOUR, threshold=0.85, minimum_n=50,
    cost_degraded_per_day=3.0, owner="lending", n=5000, retrain_every_us=30 * DAY, registered=True,
    numeric={"income": NumericFeature(edges=(-0.67, 0.0, 0.67), shares=(0.25,) * 4, mean=0.0, sd=1.0, n=5000)},
    classes={"yes": 0.5, "no": 0.5},
    calibration=Calibration(accuracy=0.95, n=5000, residual_low=-0.5, residual_high=0.5),
)  # fmt: skip
NAMES = {"trigger": "retrain-trigger"}


def window(rng: np.random.Generator, accuracy: float, shift: float) -> Profile:
    """An hour of traffic with calibrated confidences, some of it labelled."""
    made = Profile()
    top = np.clip(rng.normal(accuracy, 0.02, N), 0.5, 1.0)
    yes = rng.random(N) < 0.5
    scores = np.where(yes[:, None], np.stack((top, 1 - top), 1), np.stack((1 - top, top), 1)).astype(np.float32)
    label = Categories((~yes).astype(np.int32), ("yes", "no"))
    income = {"income": rng.normal(shift, 1.0, N)}
    made.add(Inferences(offset=np.arange(N), time=np.arange(N), numeric=income, scores=scores, label=label), REFERENCE)
    rows = Outcomes(
        offset=np.arange(LABELS), time=np.arange(LABELS), event_time=np.arange(LABELS),
        correct=rng.random(LABELS) < accuracy, confidence=np.full(LABELS, accuracy),
        truth=Categories(rng.integers(0, 2, LABELS).astype(np.int32), ("yes", "no")),
        feedback=np.zeros(LABELS, np.bool_),
    )  # fmt: skip
    made.add(rows, REFERENCE)
    return made


def decayed() -> list[tuple[str, Any]]:
    """Status, mismatches, a trigger, and what became of it when another version took over."""
    state, rng, found = fresh(REFERENCE), np.random.default_rng(11), []
    take_in(state.life, Change(id="release-7", at_us=START - DAY, kind="promoted", version="7"))
    take_in(state.life, Change(id="release-8", at_us=START + 52 * HOUR, kind="deployed", version="8", previous="7"))
    for hour in range(54):
        start = START + hour * HOUR
        accuracy = max(0.95 - 0.012 * max(hour - 24, 0), 0.55)
        state.assembly.add(start, start, window(rng, accuracy, 1.5 * (accuracy < 0.9)))
        state.assembly.heard("inference/0", start + HOUR)
        notes = assess(state, Subject("loan", "7"), REFERENCE)[0]
        found += [(NAMES.get(note.kind, note.kind), note.body) for note in notes]
    return found


def decided() -> list[tuple[str, Any]]:
    """Another cure than retraining, which is withheld; and a retraining by the calendar that nobody needs."""
    terms = Terms(
        threshold=0.85, lead_time_us=DAY, window_us=HOUR, cost_degraded_per_day=3.0, retrain_every_us=30 * DAY
    )
    cause = OpenCause(id="m-1", check="domain-and-schema", field="income", action="fix-pipeline", severity="critical")
    below = Estimate(estimate=0.8, low=0.78, high=0.82, n=500, basis="labels")
    state, found = PolicyState(), []
    for hour in range(3):
        state, trigger = decide(
            state, terms, subject=("loan", "7"), now_us=START + hour * HOUR, estimate=below, passage=None,
            open_mismatches=["m-1"], causes=[cause], scheduled_us=START + 9 * DAY,
        )  # fmt: skip
        found += [] if trigger is None else [trigger]
    sure = Estimate(estimate=0.93, low=0.91, high=0.95, n=900, basis="labels")
    far = Passage(threshold=0.85, low=80.0, median=600.0, good_for=900.0, lead=24.0, probability_within_lead=0.0)
    advice = Advice()
    for hour in range(3):
        advice, trigger = advise(
            advice, terms, subject=("loan", "7"), now_us=START + hour * HOUR, estimate=sure, passage=far,
            scheduled_us=START + DAY,
        )  # fmt: skip
        found += [] if trigger is None else [trigger]
    assert [trigger.action for trigger in found] == ["fix-pipeline", "review"]
    return [("retrain-trigger", msgspec.to_builtins(trigger)) for trigger in found]


def every() -> list[tuple[str, Any]]:
    """All of them."""
    return [*decayed(), *decided()]


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(every()))
