"""What drift is induced with: corruptions of images, shifts of tables, contents that are no drift."""

from itertools import product

import numpy as np
import pytest

from models import alien_images, induction_images, induction_tables
from models.induction import SEVERITIES, conditions, inducer

RNG = np.random.default_rng
LABELS = np.arange(40) % 4


@pytest.mark.parametrize("shape", [(40, 16, 16), (40, 3, 24, 20)])
def test_every_corruption_keeps_shape_range_and_gets_worse(shape: tuple[int, ...]) -> None:
    images = np.linspace(-1, 1, int(np.prod(shape))).reshape(shape) ** 2 * 200 - 50  # from -50 to 150
    shifts = induction_images.shifts(-50, 150)
    assert len(shifts) >= 12
    for name, shift in shifts.items():
        harm = []
        for severity in range(SEVERITIES):
            spoilt, labels = shift(images, LABELS, severity, RNG(0))
            assert spoilt.shape == shape, name
            assert -50.01 <= spoilt.min() <= spoilt.max() <= 150.01, name
            assert np.array_equal(labels, LABELS)
            harm.append(float(np.abs(spoilt - images).mean()))
        assert 0 < harm[0] < harm[-1], name


def test_corruptions_are_the_same_for_the_same_seed() -> None:
    images = RNG(1).random((40, 16, 16))
    for shift in induction_images.shifts().values():
        assert np.array_equal(shift(images, LABELS, 2, RNG(3))[0], shift(images, LABELS, 2, RNG(3))[0])


def test_an_unknown_corruption_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="unknown corruption 'rust'"):
        induction_images.corrupt(np.zeros((1, 4, 4)), "rust", 1.0, RNG(0))


@pytest.mark.parametrize("shape", [(40, 16, 16), (40, 3, 24, 21)])
def test_alien_contents_keep_their_shape_and_range(shape: tuple[int, ...]) -> None:
    images = RNG(1).random(shape) * 3 + 2
    for name, shift in alien_images.shifts(2, 5).items():
        found, _ = shift(images, LABELS, 0, RNG(0))
        assert found.shape == shape, name
        assert 1.99 <= found.min() <= found.max() <= 5.01, name
        assert np.abs(found - images).mean() > 0.1, name


def test_every_shift_of_a_table_moves_it() -> None:
    table = np.concatenate([RNG(1).normal(3, 2, size=(40, 6)), RNG(2).integers(0, 4, (40, 3))], axis=1)
    shifts = induction_tables.shifts(table, categorical=(6, 7, 8))
    assert len(shifts) == 14
    for (name, shift), severity in product(shifts.items(), range(SEVERITIES)):
        found, labels = shift(table, LABELS, severity, RNG(4))
        assert (found.shape, labels.shape) == (table.shape, LABELS.shape), name
        assert np.isfinite(found).all(), name
        # Codes stay codes.
        assert set(np.unique(found[:, 6:])) <= {0.0, 1.0, 2.0, 3.0}, name
    moved = {name: np.abs(shift(table, LABELS, 4, RNG(4))[0] - table).mean() for name, shift in shifts.items()}
    assert min(moved.values()) > 0, moved


def test_a_table_of_codes_has_only_the_shifts_that_fit_it() -> None:
    codes = RNG(2).integers(0, 4, (40, 3)).astype(float)
    assert set(induction_tables.shifts(codes, (0, 1, 2))) == {"imputed", "exchanged", "stuck", "lagged", "merged"}


def test_labels_follow_the_rows_of_a_subpopulation() -> None:
    table = np.stack([LABELS.astype(float), RNG(0).normal(size=40)], axis=1)
    found, labels = induction_tables.shifts(table)["subpopulation"](table, LABELS, 4, RNG(1))
    assert np.array_equal(found[:, 0], labels)


def test_conditions_hold_every_family_at_every_severity_and_mixed_pairs() -> None:
    found = conditions(("a", "b", "c"), RNG(0), pairs=30)
    assert found.count(()) >= 4
    assert {c[0] for c in found if len(c) == 1} == set(product(("a", "b", "c"), range(SEVERITIES)))
    pairs = [c for c in found if len(c) == 2]
    assert len(pairs) == 30
    assert all(one[0] != other[0] for one, other in pairs)


def test_steps_of_a_condition_are_taken_in_turn() -> None:
    shifts = {"add": lambda x, y, s, _: (x + s, y), "times": lambda x, y, s, _: (x * s, y)}
    induce = inducer(shifts, np.ones((2, 1)), np.zeros(2, int), lambda x: (x, x))
    assert induce((("add", 2), ("times", 3)), 0).scores.tolist() == [[9.0], [9.0]]
