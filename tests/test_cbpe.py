"""CBPE: right where the scores keep their meaning, the same bits in any batches, and never a number from nothing."""

import msgspec
import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from models.cbpe import Calibrator, Cbpe, CbpeState, fit


def binary(n: int, seed: int, a: float = 2.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores that are overconfident, answers and truth."""
    rng = np.random.default_rng(seed)
    true = rng.beta(a, 1.0, n)
    scores = np.clip(0.5 + 1.3 * (true - 0.5), 0, 1)
    return scores, (scores > 0.5).astype(np.int64), (rng.random(n) < true).astype(np.int64)


def test_accuracy_f1_and_auc_follow_a_shift_of_the_inputs() -> None:
    calibrator = fit(*binary(20_000, 1))
    scores, predicted, truth = binary(20_000, 2, a=0.8)
    window = Cbpe(calibrator)
    window.update(scores, predicted)
    found = window.accuracy
    real = float((predicted == truth).mean())
    assert found.low is not None
    assert found.high is not None
    assert found.low <= real <= found.high
    assert found.estimate == pytest.approx(real, abs=0.01)
    assert window.f1 == pytest.approx(f1_score(truth, predicted), abs=0.015)
    assert window.auc == pytest.approx(roc_auc_score(truth, scores), abs=0.015)


def test_many_classes_are_calibrated_one_by_one() -> None:
    def draw(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        true = rng.dirichlet([0.5] * 4, 8000)
        truth = (rng.random((8000, 1)) > np.cumsum(true, axis=1)).sum(axis=1).clip(max=3)
        scores = true**2 / (true**2).sum(axis=1, keepdims=True)
        return scores, scores.argmax(axis=1), truth

    calibrator = fit(*draw(1))
    scores, predicted, truth = draw(2)
    window = Cbpe(calibrator)
    window.update(scores, predicted)
    assert calibrator.classes == 4
    assert np.allclose(calibrator(scores).sum(axis=1), 1)
    assert window.accuracy.estimate == pytest.approx((predicted == truth).mean(), abs=0.02)
    assert scores.max(axis=1).mean() > (predicted == truth).mean() + 0.05  # the raw scores would be wrong
    assert (window.f1, window.auc) == (None, None)


def test_batches_merges_and_restarts_arrive_at_the_same_bits() -> None:
    calibrator = fit(*binary(1000, 3))
    packed = msgspec.json.encode(calibrator)
    assert msgspec.json.decode(packed, type=Calibrator) == calibrator
    scores, predicted, _ = binary(900, 4)
    whole, parts, other = Cbpe(calibrator), Cbpe(calibrator), Cbpe(calibrator)
    whole.update(scores, predicted)
    for start in range(0, 600, 7):
        rows = slice(start, min(start + 7, 600))
        parts.update(scores[rows], predicted[rows])
        restored = msgspec.msgpack.decode(msgspec.msgpack.encode(parts.state), type=CbpeState)
        parts = Cbpe.from_state(restored, calibrator)
    other.update(scores[600:], predicted[600:])
    other.merge(parts)
    assert other.state == whole.state
    with pytest.raises(ValueError, match="different calibrators"):
        whole.merge(Cbpe(fit(*binary(1000, 5))))
    with pytest.raises(ValueError, match="has version 8"):
        Cbpe.from_state(msgspec.structs.replace(whole.state, version=8), calibrator)


def test_scores_that_are_not_numbers_are_unknown_and_nothing_is_no_estimate() -> None:
    calibrator = fit(*binary(1000, 3))
    window = Cbpe(calibrator)
    assert window.accuracy.estimate is None
    assert window.accuracy.reason
    assert (window.f1, window.auc) == (None, None)
    window.update(np.array([np.nan, 0.9, np.inf]), np.array([1, 1, 1]))
    assert (window.state.n, window.state.unknown) == (1, 2)
    window.update(np.array([-3.0, 7.0]), np.array([0, 1]))  # beyond the reference: the ends of the table
    assert window.accuracy.n == 3
    with pytest.raises(ValueError, match="at least 100 rows"):
        fit(*binary(50, 1))
    scores, predicted, truth = binary(200, 1)
    scores[3] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        fit(scores, predicted, truth)
