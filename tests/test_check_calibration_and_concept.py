"""P(y given x) changes at fixed P(x): this check alone sees it, however the labels come; unfair labels are flagged."""

from typing import Any

import msgspec
import numpy as np
import pytest

from models.checks import covariate_drift, label_and_prediction_shift
from models.checks.calibration_and_concept import CHECK
from models.checks.verdict import Verdict
from models.columns import Inferences, Outcomes
from models.evidence import Evidence, remember
from models.profile import Profile
from models.quality import Calibration
from tests.observing import HOUR, START, by_field, normal_feature, observed, small_reference, texts

REFERENCE = small_reference(
    calibration=Calibration(accuracy=0.85, n=2000), numeric={"x": normal_feature()}, classes={"0": 0.5, "1": 0.5},
    n=5000,
)  # fmt: skip
WINDOWS, N = 12, 400
Label = tuple[int, int, bool, float]  # window, event, correct, confidence


class World:
    """A calibrated model on x ~ N(0, 1); from window 6 on the meaning of a share of the labels is turned round."""

    def __init__(self, seed: int, flipped: float) -> None:
        rng = np.random.default_rng(seed)
        self.profiles, self.labels = [], []
        for window in range(WINDOWS):
            x = rng.normal(0, 1, N)
            p = 1 / (1 + np.exp(-2 * x))
            truth = rng.random(N) < p
            if window >= 6:
                truth ^= rng.random(N) < flipped
            scores = np.stack([1 - p, p], axis=1).astype(np.float32)
            guess = p > 0.5
            labels = texts(["1" if g else "0" for g in guess])
            profile = Profile()
            rows = Inferences(offset=np.arange(N), time=np.arange(N), numeric={"x": x}, scores=scores, label=labels)
            profile.add(rows, REFERENCE)
            self.profiles.append(profile)
            self.labels += [(window, i, bool(guess[i] == truth[i]), float(max(p[i], 1 - p[i]))) for i in range(0, N, 8)]


def ring(world: World, labels: list[Label], batch: int = 37) -> list[Evidence]:
    """The evidence when labels come in this order, each counted once."""
    made: list[Evidence] = []
    for window, profile in enumerate(world.profiles):
        remember(made, START + window * HOUR, profile)
    seen: set[tuple[int, int]] = set()
    for start in range(0, len(labels), batch):
        fresh = []
        for label in labels[start : start + batch]:
            if label[:2] not in seen:
                seen.add(label[:2])
                fresh.append(label)
        for window in sorted({label[0] for label in fresh}):
            remember(made, START + window * HOUR, outcomes([label for label in fresh if label[0] == window]))
    return made


def outcomes(labels: list[Label]) -> Profile:
    n, profile = len(labels), Profile()
    columns: dict[str, Any] = {
        "offset": np.arange(n), "time": np.arange(n), "event_time": np.arange(n),
        "correct": np.array([label[2] for label in labels]), "truth": texts(["0"] * n),
        "confidence": np.array([label[3] for label in labels]), "feedback": np.zeros(n, np.bool_),
    }  # fmt: skip
    profile.add(Outcomes(**columns), REFERENCE)
    return profile


def verdicts(world: World, labels: list[Label]) -> dict[str, Verdict]:
    seen = observed(world.profiles[-1], REFERENCE, ring=ring(world, labels))
    return by_field(CHECK.live(seen))  # type: ignore[misc]


@pytest.mark.parametrize("seed", range(5))
def test_a_changed_meaning_fires_here_and_nowhere_else(seed: int) -> None:
    world = World(seed, flipped=0.3)
    found = verdicts(world, world.labels)
    assert (found["concept"].verdict, found["concept"].severity) == ("mismatch", "critical")
    assert found["labels"].verdict == "ok"
    seen = observed(world.profiles[-1], REFERENCE)
    for check in (covariate_drift.CHECK, label_and_prediction_shift.CHECK):
        assert check.live is not None
        assert {v.verdict for v in check.live(seen)} <= {"ok", "unknown"}


@pytest.mark.parametrize("seed", range(20))
def test_a_calibrated_model_is_ok(seed: int) -> None:
    world = World(seed, flipped=0.0)
    assert {f: v.verdict for f, v in verdicts(world, world.labels).items()} == {"concept": "ok", "labels": "ok"}


@pytest.mark.parametrize("flipped", [0.0, 0.3])
def test_late_shuffled_doubled_or_missing_at_random_labels_say_the_same(flipped: float) -> None:
    world = World(3, flipped)
    rng = np.random.default_rng(0)
    shuffled = [world.labels[i] for i in rng.permutation(len(world.labels))]
    thinned = [label for label in world.labels if rng.random() > 0.2]
    whole = verdicts(world, world.labels)
    assert verdicts(world, shuffled) == verdicts(world, [*shuffled, *shuffled]) == whole
    fewer = verdicts(world, thinned)
    assert {f: v.verdict for f, v in fewer.items()} == {f: v.verdict for f, v in whole.items()}


def test_labels_missing_where_the_model_errs_are_flagged() -> None:
    world = World(4, flipped=0.0)
    kept = [label for label in world.labels if label[3] > 0.75]
    found = verdicts(world, kept)["labels"]
    assert found.verdict == "mismatch"
    assert "not missing at random" in found.message


def test_few_labels_and_no_calibration_are_unknown() -> None:
    world = World(5, flipped=0.3)
    assert verdicts(world, world.labels[:90])["concept"].verdict == "unknown"
    bare = msgspec.structs.replace(REFERENCE, calibration=None)
    (only,) = CHECK.live(observed(world.profiles[0], bare, ring=ring(world, world.labels)))  # type: ignore[misc]
    assert only.verdict == "unknown"
