"""MMD: sees what keeps mean, spread and distances, is quiet as promised, and its interval covers."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.checks.embedding_drift import CHECK
from models.checks.kernel_shift import contributions, kernel_shift
from models.checks.verdict import Verdict
from models.columns import Categories
from models.describing_columns import Embeddings
from models.describing_embedding import embedding_profile
from models.profile import Profile
from models.profile_kernel import SEGMENT, KernelSums, kernel_sums, parts
from models.random_features import KernelReference
from models.reference import Reference, compile_reference
from models.usual_segments import Usual
from tests.observing import by_field, embedded, observed

Batch = NDArray[np.float32]
DIMENSIONS, NAMES = 16, ("a", "b", "c")
DIAGONAL = np.ones(DIMENSIONS) / DIMENSIONS**0.5
OTHER_DIAGONAL = np.where(np.arange(DIMENSIONS) % 2, 1.0, -1.0) / DIMENSIONS**0.5


def modes(rng: np.random.Generator, n: int, diagonal: NDArray[np.float64]) -> Batch:
    """Two modes on one diagonal: mean 0 and sd 1 in every dimension, whichever diagonal it is."""
    sign = rng.choice([-1.0, 1.0], (n, 1))
    shared = 0.8 * DIMENSIONS**0.5
    found: Batch = (sign * shared * diagonal + 0.6 * rng.standard_normal((n, DIMENSIONS))).astype(np.float32)
    return found


def one_mode(rng: np.random.Generator, n: int) -> Batch:
    return rng.standard_normal((n, DIMENSIONS)).astype(np.float32)


def split(rng: np.random.Generator, n: int) -> Batch:
    """One mode split in two: the very distances from the middle of one mode, towards the two ends of a diagonal."""
    length = np.linalg.norm(one_mode(rng, n), axis=1, keepdims=True)
    towards = rng.choice([-1.0, 1.0], (n, 1)) * DIAGONAL + 0.15 * rng.standard_normal((n, DIMENSIONS))
    found: Batch = (length * towards / np.linalg.norm(towards, axis=1, keepdims=True)).astype(np.float32)
    return found


def described(embedding: Batch, predicted: Categories | None = None) -> Reference:
    nobody = Categories(np.full(len(embedding), -1, np.int32), ())
    section = embedding_profile(Embeddings(embedding, predicted or nobody))
    trees: dict[str, dict[str, Any]] = {
        "trained_model": {"model_name": "m", "model_version": "1"},
        "training_data": {"bestbefore": {"embedding": section}},
    }
    return compile_reference(trees)


def judged(known: Reference, profile: Profile) -> dict[str, Verdict]:
    assert CHECK.live is not None
    return by_field(CHECK.live(observed(profile, known)))


def kernel_of(known: Reference) -> KernelReference:
    assert known.embedding is not None
    assert known.embedding.kernel is not None
    return known.embedding.kernel


# ---- what only the kernel mean sees ----


@pytest.mark.parametrize("change", ["modes move to another diagonal", "one mode splits in two"])
def test_drift_that_keeps_mean_spread_and_distances_is_a_mismatch(change: str) -> None:
    rng = np.random.default_rng(3)
    if change == "one mode splits in two":
        known, drifted = described(one_mode(rng, 2000)), split(rng, 300)
    else:
        known, drifted = described(modes(rng, 2000, DIAGONAL)), modes(rng, 300, OTHER_DIAGONAL)
    assert np.abs(drifted.mean(axis=0)).max() < 0.25
    assert np.abs(drifted.std(axis=0) - 1).max() < 0.25
    verdicts = judged(known, embedded(known, drifted))
    assert {name: verdict.verdict for name, verdict in verdicts.items()} == {
        "embedding": "ok", "distances": "ok", "mmd": "mismatch",
    }  # fmt: skip
    found = verdicts["mmd"]
    assert found.effect is not None
    assert found.effect.threshold is not None
    assert found.effect.low is not None
    assert found.effect.low > found.effect.threshold > 0
    assert "tolerated, as a shift of the mean by 0.2 sd makes, and the class mix may)" in found.message
    assert "within the reference's support" in found.message


def test_the_message_names_who_makes_it() -> None:
    """One camera of four, with half of the inputs, turns its modes to the other diagonal."""
    rng = np.random.default_rng(4)
    known = described(modes(rng, 2000, DIAGONAL))
    segment = rng.choice(4, 800, p=[0.2, 0.2, 0.5, 0.1]).astype(np.int32)
    inputs = modes(rng, 800, DIAGONAL)
    inputs[segment == 2] = modes(rng, int((segment == 2).sum()), OTHER_DIAGONAL)
    names = tuple(f'{{"camera":"{i}"}}' for i in range(4))
    found = judged(known, embedded(known, inputs, segment=Categories(segment, names)))["mmd"]
    assert found.verdict == "mismatch"
    assert 'segment \'{"camera":"2"}\' makes' in found.message
    assert 'camera":"1' not in found.message


def test_a_segment_that_always_looked_so_is_not_blamed() -> None:
    """Two cameras whose modes lie apart, as described together; then the first one moves a little."""
    rng = np.random.default_rng(9)
    names = ('{"camera":"0"}', '{"camera":"1"}')

    def draw(n: int, moved: float = 0.0) -> tuple[Batch, Categories]:
        camera = rng.integers(0, 2, n).astype(np.int32)
        found = one_mode(rng, n) + np.where(camera[:, None], -1.5, 1.5) * DIAGONAL.astype(np.float32) * 3
        found[camera == 0] += np.float32(moved) * np.where(np.arange(DIMENSIONS) % 2, 1, -1) - 0.6 * DIAGONAL * moved
        return found.astype(np.float32), Categories(camera, names)

    known = described(draw(2000)[0])
    usual, key = Usual(), kernel_of(known).identity

    def block(moved: float = 0.0) -> tuple[Profile, KernelSums]:
        inputs, segment = draw(1000, moved)
        made = embedded(known, inputs, segment=segment)
        whole = kernel_sums(made, kernel_of(known).features)
        assert whole is not None
        return made, whole

    for _ in range(10):
        made, whole = block()
        usual.update(whole, parts(made, SEGMENT, whole), key)
    made, whole = block(moved=1.0)
    changed = {part.name: share for part, share in contributions(made, SEGMENT, whole, usual, key)}
    assert changed == {names[0]: pytest.approx(1.0, abs=0.1), names[1]: pytest.approx(0.0, abs=0.1)}
    blamed = {part.name: share for part, share in contributions(made, SEGMENT, whole)}
    assert abs(blamed[names[0]] - 1.0) > 0.2


# ---- no change ----


@pytest.mark.parametrize("n", [30, 300])
def test_without_change_the_noise_is_passed_as_often_as_promised(n: int) -> None:
    """400 references and windows of three classes: at a level of 5% between 2% and 8% are beyond the noise."""
    passed, scores = 0, []
    for seed in range(400):
        rng = np.random.default_rng(seed)

        def draw(size: int, rng: np.random.Generator = rng) -> tuple[Batch, Categories]:
            codes = rng.integers(0, 3, size).astype(np.int32)
            return one_mode(rng, size) + 2 * np.eye(DIMENSIONS, dtype=np.float32)[codes], Categories(codes, NAMES)

        known = described(*draw(300))
        inputs, label = draw(n)
        block = embedded(known, inputs, label=label)
        whole = kernel_sums(block, kernel_of(known).features)
        assert whole is not None
        shift = kernel_shift(kernel_of(known), whole, block, factor=1.0, alpha=0.05, mix=0.0)
        passed += shift.estimate > shift.noise
        scores.append(shift.score)
    assert 8 <= passed <= 32
    assert abs(np.mean(scores)) < 0.2
    assert 0.8 < np.std(scores) < 1.25


@pytest.mark.parametrize("moved", [0.0, 0.4])
def test_the_interval_covers_the_distance(moved: float) -> None:
    """The distance of a hundred thousand inputs stands for the truth; 90% is promised."""
    rng = np.random.default_rng(6)
    known = described(one_mode(rng, 20_000))

    def shift_of(n: int) -> Any:
        block = embedded(known, one_mode(rng, n) + np.float32(moved))
        whole = kernel_sums(block, kernel_of(known).features)
        assert whole is not None
        return kernel_shift(kernel_of(known), whole, block, factor=1.0, alpha=0.01, mix=0.0)

    truth = shift_of(100_000).estimate
    found = [shift_of(150) for _ in range(200)]
    assert np.mean([one.low <= truth <= one.high for one in found]) >= 0.9
    assert moved or not any(one.drifted for one in found)


def test_a_reference_without_kernel_is_judged_as_before() -> None:
    rng = np.random.default_rng(8)
    known = described(one_mode(rng, 200))
    trees = {kind: dict(tree) for kind, tree in known.descriptors.items()}
    del trees["training_data"]["bestbefore"]["embedding"]["kernel"]
    assert set(judged(compile_reference(trees), embedded(known, one_mode(rng, 100)))) == {"embedding", "distances"}
    older = embedded(compile_reference(trees), one_mode(rng, 100))  # counted by a worker that knew of no kernel
    assert judged(described(one_mode(rng, 200)), older)["mmd"].reason == "no random features of inputs in this window"
