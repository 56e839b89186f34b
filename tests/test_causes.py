"""Which cure follows from which open mismatches, and when recalibrating would be enough."""

import numpy as np
import pytest

from models.causes import Cure, OpenCause, Recalibration, cure_of, matters, recalibrated
from models.profile import Profile
from models.quality import Estimate
from tests.observing import profile_of, small_reference

WEIGHTS = OpenCause(id="w", check="model-identity", field="golden", action="roll-back", severity="critical")
UNIT = OpenCause(id="u", check="unit-scale-encoding", field="income", action="fix-pipeline", severity="critical")
CLASSES = OpenCause(id="c", check="label-and-prediction-shift", field="label", action="recalibrate")
STRANGE = OpenCause(id="s", check="user:age", action="review")
CONCEPT = OpenCause(id="k", check="calibration-and-concept", field="concept", action="retrain", severity="critical")
DRIFT = OpenCause(id="d", check="covariate-drift", field="income", action="review")
EMBEDDING = OpenCause(id="e", check="embedding-drift", action="fix-pipeline")
QUALITY = OpenCause(id="q", check="quality-and-time-to-threshold", field="accuracy", action="retrain")
OWN = OpenCause(id="o", check="cause-and-cure", field="decision", action="fix-pipeline", severity="info")
SLOW = OpenCause(id="l", check="latency-rate-buffering", field="latency", action="fix-pipeline")
NOTED = OpenCause(id="n", check="user:note", action="review", severity="info")


@pytest.mark.parametrize(
    ("causes", "enough", "action", "because"),
    [
        ((), False, "retrain", ""),
        ((WEIGHTS, UNIT, STRANGE, CLASSES), True, "roll-back", "wus"),
        ((UNIT, STRANGE, CONCEPT), False, "fix-pipeline", "us"),
        ((CLASSES,), True, "recalibrate", "c"),
        ((CLASSES,), False, "retrain", ""),
        ((CLASSES, DRIFT, QUALITY), True, "recalibrate", "c"),
        ((CLASSES, CONCEPT), True, "retrain", ""),
        ((CLASSES, STRANGE), True, "review", "s"),
        ((STRANGE, CONCEPT), False, "review", "s"),
        ((CONCEPT,), False, "retrain", ""),
        ((DRIFT, EMBEDDING, QUALITY, OWN, SLOW, NOTED), True, "retrain", ""),
    ],
)
def test_the_cure_by_precedence(causes: tuple[OpenCause, ...], enough: bool, action: str, because: str) -> None:
    cure = cure_of(causes, recalibration=enough)
    assert (cure.action, "".join(c.id for c in cure.because)) == (action, because)
    assert cure_of(reversed(causes), recalibration=enough) == cure, "the order in which they come does not matter"
    assert all(c.action == action for c in cure.causes)


def test_a_mismatch_that_has_not_opened_withholds_nothing() -> None:
    unopened = OpenCause(id="", check="unit-scale-encoding", action="fix-pipeline")
    assert not matters(unopened)
    assert cure_of([unopened]) == Cure()


# A fever nobody has: in training half of the patients had it, the model errs to both sides.
CONFUSION = {"ill": {"ill": 800.0, "well": 200.0}, "well": {"ill": 400.0, "well": 600.0}}
REFERENCE = small_reference(classes={"ill": 0.5, "well": 0.5}, confusion=CONFUSION, n=2000)


def predictions(ill: float, n: int) -> Profile:
    """Answers of the confused model where this share of cases is ill."""
    said = round(n * (0.8 * ill + 0.4 * (1 - ill)))
    return profile_of(REFERENCE, label=["ill"] * said + ["well"] * (n - said))


def test_recalibrating_to_rare_illness_reads_doubtful_answers_as_well() -> None:
    found = recalibrated(predictions(0.05, 20_000), REFERENCE)
    assert found is not None
    assert found.now.estimate == pytest.approx(0.95 * 0.6 + 0.05 * 0.8, abs=1e-3)
    assert found.after.estimate == pytest.approx(0.95, abs=1e-3), "everything read as well"
    assert found.after.low is not None
    assert found.after.high is not None
    assert found.after.low < 0.95 < found.after.high


def test_the_interval_of_the_recalibrated_accuracy_covers() -> None:
    rng = np.random.default_rng(1)
    covered, rounds, truth = 0, 400, 0.15
    for _ in range(rounds):
        rows = {
            t: dict(zip(("ill", "well"), map(float, rng.multinomial(1000, [a, 1 - a])), strict=True))
            for t, a in (("ill", 0.8), ("well", 0.4))
        }
        said = rng.binomial(3000, 0.8 * truth + 0.4 * (1 - truth))
        reference = small_reference(confusion=rows, classes=REFERENCE.classes, n=2000)
        found = recalibrated(profile_of(reference, label=["ill"] * said + ["well"] * (3000 - said)), reference)
        assert found is not None
        assert found.now.low is not None
        assert found.now.high is not None
        covered += found.now.low <= truth * 0.8 + (1 - truth) * 0.6 <= found.now.high
    assert 0.86 <= covered / rounds <= 0.94


def test_recalibrating_cures_only_what_the_class_shares_explain() -> None:
    found = recalibrated(predictions(0.05, 20_000), REFERENCE)
    assert found is not None
    explained = Estimate(estimate=0.61, low=0.58, high=0.64, n=500, basis="labels")
    worse = Estimate(estimate=0.45, low=0.42, high=0.48, n=500, basis="labels")
    assert found.cures(0.85, explained)
    assert not found.cures(0.99, explained), "not good enough even then"
    assert not found.cures(0.85, worse), "more is lost than the class shares explain"
    assert not Recalibration(Estimate(), Estimate()).cures(0.85, explained)


@pytest.mark.parametrize(
    "confusion",
    [
        {},
        {"ill": {"ill": 5.0}},
        {"ill": {"ill": 500.0, "well": 500.0}, "well": {"ill": 500.0, "well": 500.0}},
        {"ill": {"ill": 0.0}, "well": {"well": 1.0}},
    ],
)
def test_a_confusion_matrix_that_says_nothing(confusion: dict[str, dict[str, float]]) -> None:
    assert recalibrated(predictions(0.5, 100), small_reference(confusion=confusion)) is None


def test_no_window_or_unknown_labels_say_nothing() -> None:
    assert recalibrated(None, REFERENCE) is None
    assert recalibrated(Profile(), REFERENCE) is None
    assert recalibrated(profile_of(REFERENCE, label=["ill", "dead"] * 50), REFERENCE) is None


def test_a_change_in_time_withholds_nothing_whatever_its_check() -> None:
    for check in ("calibration-and-concept", "label-and-prediction-shift"):
        assert not matters(OpenCause(id="1", check=check, field="change", action="review", severity="critical"))
