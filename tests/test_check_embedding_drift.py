"""embedding-drift: the more an image is corrupted the higher the score; another mix of the same classes is no drift."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr

from examples.digits.train import Serve, serve
from infra.demo.images import CORRUPTIONS, Digits, Images, Split, corrupt, load
from models.checks.embedding_drift import CHECK
from models.checks.label_and_prediction_shift import CHECK as CLASSES
from models.checks.verdict import Verdict
from models.columns import Categories
from models.describing_columns import Embeddings
from models.describing_embedding import embedding_profile
from models.profile import Profile
from models.reference import Reference, compile_reference
from tests.observing import DAY, by_field, embedded, observed, over_windows, profile_of, small_reference

MODEL = Path(__file__).parents[1] / "examples/digits/digits.onnx"
NAMES = tuple(map(str, range(10)))
SEVERITIES = np.linspace(0, 1, 11)


@functools.cache
def digits() -> Digits:
    return load()


@functools.cache
def served() -> Serve:
    return serve(MODEL.read_bytes())


@functools.cache
def run(which: str, family: str = "", severity: float = 0.0) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Predicted class and embedding of one part of the images, corrupted."""
    part: Split = getattr(digits(), which)
    images: Images = corrupt(part.images, family, severity, np.random.default_rng(1)) if family else part.images
    scores, embedding = served()(images)
    return scores.argmax(1).astype(np.int32), embedding.copy()  # what the session gave keeps all of its memory


@functools.cache
def reference(*, by_class: bool = True, means: bool = False) -> Reference:
    """The digits model as described by its 500 reference images."""
    predicted, embedding = run("reference")
    section = embedding_profile(Embeddings(embedding=embedding, predicted=Categories(predicted, NAMES)))
    if means:
        for code, name in enumerate(NAMES):
            section["classes"][name]["mean"] = embedding[predicted == code].astype(float).mean(0).tolist()
    if not by_class:
        del section["classes"]
    shares = np.bincount(digits().reference.labels, minlength=10) / 500
    trees: dict[str, dict[str, Any]] = {
        "trained_model": {"model_name": "digits", "model_version": "1"},
        "system_context": {"bestbefore": {"window": "1 day"}},
        "training_data": {
            "bestbefore": {
                "embedding": section, "classes": dict(zip(NAMES, shares.tolist(), strict=True)),
                "calibration": {"accuracy": 0.95, "n": 500},
            },
        },
    }  # fmt: skip
    return compile_reference(trees)


def sampled(
    known: Reference, predicted: NDArray[np.int32], embedding: NDArray[np.float32], *, labels: bool = True
) -> Profile:
    column = Categories(predicted, NAMES)
    return embedded(known, embedding, label=column if labels else None).merge(profile_of(known, label=column))


def judged(known: Reference, profile: Profile) -> dict[str, Verdict]:
    assert CHECK.live is not None
    return by_field(CHECK.live(observed(profile, known)))


def outcomes(verdicts: dict[str, Verdict]) -> set[str]:
    return {verdict.verdict for verdict in verdicts.values()}


def scores(known: Reference, family: str) -> list[Verdict]:
    return [judged(known, sampled(known, *run("held_out", family, float(s))))["embedding"] for s in SEVERITIES]


def estimates(verdicts: Sequence[Verdict]) -> list[float]:
    return [v.effect.estimate for v in verdicts if v.effect is not None]


# ---- corruption ----


@pytest.mark.parametrize("family", CORRUPTIONS)
def test_the_score_rises_with_the_severity(family: str) -> None:
    """Eleven severities of every corruption, from none to the worst."""
    found = estimates(scores(reference(), family))
    assert len(found) == len(SEVERITIES)
    assert spearmanr(SEVERITIES, found).statistic >= 0.95


# The rest change the embedding's mean as much as the mix of predicted classes, which could therefore be the reason;
# kernel means by class tell them.
SEEN = ("gauss", "impulse", "blur", "pixelate", "contrast", "brightness", "darkness", "gamma", "rotate")


@pytest.mark.parametrize("family", CORRUPTIONS)
def test_the_worst_corruption_is_a_mismatch_and_none_is_not(family: str) -> None:
    known = reference()
    verdicts = judged(known, sampled(known, *run("held_out", family, 1.0)))
    assert verdicts["mmd"].verdict == "mismatch"
    others = {verdicts["embedding"].verdict, verdicts["distances"].verdict}
    assert ("mismatch" in others) == (family in SEEN)
    assert outcomes(judged(known, sampled(known, *run("held_out")))) == {"ok"}


@pytest.mark.parametrize("family", [*SEEN, "shear"])
def test_with_declared_means_of_the_classes_more_is_seen(family: str) -> None:
    known = reference(means=True)
    assert "mismatch" in outcomes(judged(known, sampled(known, *run("held_out", family, 1.0))))
    assert outcomes(judged(known, sampled(known, *run("held_out")))) == {"ok"}


def test_unchanged_images_stay_ok() -> None:
    """A hundred windows of 300 held-out images."""
    rng, (predicted, embedding) = np.random.default_rng(5), run("held_out")
    for _ in range(100):
        rows = rng.choice(len(predicted), 300, replace=False)
        assert outcomes(judged(reference(), sampled(reference(), predicted[rows], embedding[rows]))) == {"ok"}


# ---- another mix of the same classes ----


@pytest.mark.parametrize("means", [False, True])
@pytest.mark.parametrize("grown", range(10))
def test_another_class_mix_is_label_shift_and_no_embedding_drift(grown: int, *, means: bool) -> None:
    """One digit comes four times as often as in training, each digit looking as it did; a tenth is sampled."""
    known, rng = reference(means=means), np.random.default_rng(grown)
    weight = np.where(digits().held_out.labels == grown, 4.0, 1.0)
    predicted, embedding = run("held_out")
    for _ in range(5):
        events = rng.choice(len(weight), 2000, p=weight / weight.sum())
        rows = rng.choice(len(weight), 200, p=weight / weight.sum(), replace=False)
        inputs = embedded(known, embedding[rows], label=Categories(predicted[rows], NAMES))
        profile = inputs.merge(profile_of(known, label=Categories(predicted[events], NAMES)))
        assert outcomes(judged(known, profile)) == {"ok"}
        assert CLASSES.live is not None
        assert by_field(CLASSES.live(observed(profile, known)))["predicted"].verdict == "mismatch"


@pytest.mark.parametrize("digit", range(10))
def test_one_class_alone_is_no_drift_of_kernel_means(digit: int) -> None:
    """The most extreme mix there is, each input beside the mean of its class."""
    known, (predicted, embedding) = reference(), run("held_out")
    rows = np.flatnonzero(predicted == digit)
    verdict = judged(known, sampled(known, predicted[rows], embedding[rows]))["mmd"]
    assert verdict.effect is not None
    assert (verdict.verdict, verdict.effect.low) == ("ok", 0.0)


def test_without_distances_by_class_the_message_says_so() -> None:
    known = reference(by_class=False)
    verdict = judged(known, sampled(known, *run("held_out", "impulse", 0.5), labels=False))["distances"]
    assert verdict.verdict == "mismatch"
    assert verdict.message.endswith("another class mix is not excluded, as there are no distances by class")
    fine = judged(reference(), sampled(reference(), *run("held_out", "impulse", 0.5)))["distances"]
    assert fine.message.endswith("by class, weighted as in the reference")


def test_the_mix_of_all_events_stands_in_for_that_of_the_sampled_inputs() -> None:
    """Only sevens are sampled, and only sevens are predicted: the mean moved, as that explains."""
    known, (predicted, embedding) = reference(by_class=False), run("held_out")
    rows = np.flatnonzero(predicted == 7)
    verdicts = judged(known, sampled(known, predicted[rows], embedding[rows], labels=False))
    assert (verdicts["embedding"].verdict, verdicts["mmd"].verdict) == ("ok", "ok")


# ---- the interval ----


@pytest.mark.parametrize("common", [0.0, 0.9])
@pytest.mark.parametrize("moved", [0.0, 0.3])
def test_the_interval_covers_the_shift_whatever_the_correlation(common: float, moved: float) -> None:
    """Sixteen dimensions that share a part of their variance; 90% is promised, and quiet at no shift."""
    rng = np.random.default_rng(4)

    def draw(n: int) -> NDArray[np.float32]:
        shared = rng.standard_normal((n, 1)) * np.sqrt(common)
        mixed: NDArray[np.float32] = (shared + rng.standard_normal((n, 16)) * np.sqrt(1 - common)).astype(np.float32)
        return mixed

    nobody = Categories(np.full(5000, -1, np.int32), ())
    section = embedding_profile(Embeddings(embedding=draw(5000), predicted=nobody))
    known = compile_reference(
        {
            "trained_model": {"model_name": "m", "model_version": "1"},
            "training_data": {"bestbefore": {"embedding": section}},
        }
    )
    covered = fired = 0
    for _ in range(200):
        verdict = judged(known, embedded(known, draw(200) + np.float32(moved)))["embedding"]
        assert verdict.effect is not None
        assert verdict.effect.low is not None
        assert verdict.effect.high is not None
        covered += verdict.effect.low <= moved <= verdict.effect.high
        fired += verdict.verdict == "mismatch"
    assert covered >= 180
    assert moved or not fired


# ---- what cannot be judged ----


def test_no_evidence_is_unknown() -> None:
    known, (predicted, embedding) = reference(), run("held_out")
    few = judged(known, sampled(known, predicted[:10], embedding[:10]))["embedding"]
    assert (few.verdict, few.reason) == ("unknown", "10 observed values in effect, 20 are needed")
    assert judged(known, Profile())[""].reason == "no sampled inputs in this window"
    assert judged(small_reference(), Profile())[""].reason.endswith("embedding is not declared")
    broken = judged(known, embedded(known, embedding[:30, :8]))[""]
    assert broken.reason == "30 sampled inputs could not be embedded"
    assert CHECK.live is not None
    assert by_field(CHECK.live(observed(Profile(), known, block=None)))[""].verdict == "unknown"


def test_windows_remember_and_judge_alike() -> None:
    """Forty days of unchanged images: quiet, whatever the check has learned of their dependence."""
    rng, (predicted, embedding) = np.random.default_rng(8), run("held_out")
    rows = [rng.choice(len(predicted), 60, replace=False) for _ in range(40)]
    days = [sampled(reference(), predicted[r], embedding[r]) for r in rows]
    assert reference().window_us == DAY
    for verdicts in over_windows(CHECK, reference(), days):
        assert outcomes(verdicts) <= {"ok", "unknown"}
