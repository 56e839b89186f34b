"""CBPE in the pipeline: the same figure whatever the batches, an interval, and only where it holds."""

from typing import Any

import msgspec
import numpy as np
import pytest

from models.cbpe import Cbpe, fit
from models.class_tables import LEAST, ClassTables, add_judged, from_descriptor, measured
from models.columns import Categories, Inferences
from models.evidence import Evidence
from models.profile import Profile
from models.quality import Calibration
from models.reference import Reference, compile_reference
from streams.registry import decode_reference, encode_reference

NAMES = ("no", "yes")


def answers(n: int, seed: int, classes: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores that are too sure of themselves, answers and truth."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes)) * 1.5
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = np.array([rng.choice(classes, p=row) for row in p])
    scores = np.exp(2 * logits) / np.exp(2 * logits).sum(axis=1, keepdims=True)
    return scores, scores.argmax(axis=1), truth


def rows(scores: np.ndarray, names: tuple[str, ...], label: np.ndarray | None = None, **more: Any) -> Inferences:
    n = len(scores)
    labels = None if label is None else Categories(label.astype(np.int32), names)
    return Inferences(
        offset=np.arange(n), time=np.arange(n), scores=scores.astype(np.float32), classes=names, label=labels, **more
    )


def reference(classes: int, **calibration: Any) -> Reference:
    names = tuple(f"c{i}" for i in range(classes))
    section = measured(names, *answers(3000, 0, classes))
    trees: dict[str, Any] = {
        "trained_model": {"model_name": "m", "model_version": "1"},
        "training_data": {
            "bestbefore": {"calibration": {"tables": section, "accuracy": 0.6, "n": 3000, **calibration}}
        },
    }
    return decode_reference(encode_reference(compile_reference(trees)))


@pytest.mark.parametrize("classes", [2, 4])
def test_a_window_reads_as_cbpe_does_and_holds_the_truth(classes: int) -> None:
    known = reference(classes)
    assert known.tables is not None
    names = known.tables.classes
    held = []
    for seed in range(1, 21):
        scores, predicted, truth = answers(1000, seed, classes)
        made = Profile()
        for part in np.array_split(np.arange(1000), 7):
            made.add(rows(scores[part], names), known)
        seen = Evidence(0)
        seen.add(made)
        found = seen.label_free(known)
        window = Cbpe(known.tables.calibrator)
        window.update(scores.astype(np.float32).astype(float), predicted)
        assert found.estimate == pytest.approx(window.accuracy.estimate, abs=1e-4)
        assert found.low is not None
        assert found.high is not None
        held.append(found.low <= (predicted == truth).mean() <= found.high)
    assert np.mean(held) >= 0.9


def test_columns_in_another_order_failures_and_strangers() -> None:
    known = reference(4)
    assert known.tables is not None
    names, (scores, predicted, _) = known.tables.classes, answers(400, 5, 4)

    def read(columns: Inferences) -> tuple[float | None, str | None]:
        made, seen = Profile(), Evidence(0)
        made.add(columns, known)
        seen.add(made)
        found = seen.label_free(known)
        return found.estimate, found.reason

    plain = read(rows(scores, names))
    order = [2, 0, 3, 1]
    assert read(rows(scores[:, order], tuple(names[i] for i in order))) == plain
    assert read(rows(scores, names, predicted)) == plain
    half = np.arange(400) % 2 == 0
    failed = read(rows(scores, names, failed=half))
    assert failed[0] is not None
    assert plain[0] is not None
    assert failed[0] == pytest.approx(plain[0] / 2, abs=0.03)
    # Answers that are no registered class cannot be judged: then nothing is said.
    assert read(rows(scores, names, np.full(400, -1)))[0] is None


def test_what_was_measured_under_induced_drift_goes_first() -> None:
    known = reference(2, residuals={"low": -0.3, "high": 0.3})
    assert known.calibration == Calibration(accuracy=0.6, n=3000, residual_low=-0.3, residual_high=0.3)
    scores, _, _ = answers(1000, 7)
    made, seen = Profile(), Evidence(0)
    made.add(rows(scores, ("c0", "c1")), known)
    seen.add(made)
    bare = msgspec.structs.replace(known, tables=None)
    assert seen.label_free(known) == seen.label_free(bare)


def test_tables_are_measured_from_enough_and_refused_when_broken() -> None:
    scores, predicted, truth = answers(LEAST - 1, 1)
    assert measured(NAMES, scores, predicted, truth) is None
    section = measured(NAMES, *answers(LEAST, 1))
    assert section is not None
    assert from_descriptor(section).calibrator.residual == section["residual"] < 0.15
    for broken in ({"residual": 2.0}, {"knots": [[1.0, 0.0]]}, {"classes": ["a", "b", "c"]}, {"values": None}):
        with pytest.raises(ValueError, match=r"calibration\.tables"):
            from_descriptor(section | broken)


def test_nothing_is_added_without_tables_or_usable_rows() -> None:
    made = Profile()
    scores, predicted, truth = answers(LEAST, 1)
    known = ClassTables(NAMES, fit(scores, predicted, truth))
    add_judged(made, rows(scores, NAMES), np.ones(LEAST, bool), None, None)
    add_judged(made, rows(scores, NAMES), np.zeros(LEAST, bool), None, known)
    assert made.sums == {}
