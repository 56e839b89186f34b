"""Accuracy without labels of tabular models, each family of shift left out in turn: ours beside DoC and a constant.

    python -m benchmarks.label_free_tables       # five seeds, about a minute

Random forests on two tables that come with scikit-learn: handwritten digits as 64 columns (ten classes) and breast
cancer (30 columns, two classes). Drift is induced on one part of the table and tested on another, in windows of 200
rows. The embedding is the standardised row. DoC: Guillory et al. 2021, arXiv:2107.03315.
"""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import RandomForestClassifier

from models import induction, induction_tables
from models.event_features import Answers, freeze
from models.induced_quality import InducedQuality
from models.registrar import Registrar
from models.window_sums import add_up

Floats = NDArray[np.float64]
ROWS, DRAWS = 200, 3


class Errors(NamedTuple):
    """Errors by method in points, and what became of our interval, one entry per window."""

    ours: Floats
    doc: Floats
    constant: Floats
    covered: NDArray[np.bool_]
    unknown: NDArray[np.bool_]
    width: Floats


def study(load: Callable[..., Any], seed: int) -> Errors:
    """One table, one split: every family at every severity, by an estimator that never saw the family."""
    x, y = load(return_X_y=True)
    rng = np.random.default_rng(seed)
    train, held, test = np.split(rng.permutation(len(y)), (int(0.4 * len(y)), int(0.7 * len(y))))
    forest = RandomForestClassifier(100, min_samples_leaf=2, random_state=seed, n_jobs=1).fit(x[train], y[train])
    mean, sd = x[train].mean(axis=0), x[train].std(axis=0) + 1e-3

    def model(rows: Floats) -> tuple[Floats, Floats]:
        return forest.predict_proba(rows), np.clip((rows - mean) / sd, -20, 20)

    frozen = freeze(Answers(*model(x[train]), y[train]), Answers(*model(x[held]), y[held]), rng)
    shifts = induction_tables.shifts(x[train])
    induce = induction.inducer(shifts, x[held], y[held], model)
    found = induction.conditions(shifts, rng, pairs=50)
    registrar = Registrar(induction.draw(induction.run(frozen, induce, found, rng), rng))
    clean = induction.observe(frozen, Answers(*model(x[held]), y[held]))
    tested = induction.inducer(shifts, x[test], y[test], model)
    pieces = []
    for family in shifts:
        quality = InducedQuality(frozen, *registrar.parts(without=frozenset({family})))
        for severity in range(induction.SEVERITIES):
            seen = induction.observe(frozen, tested(((family, severity),), int(rng.integers(2**31))))
            pieces.append(_windows(quality, seen, clean, rng))
    return Errors(*(np.concatenate(parts) for parts in zip(*pieces, strict=True)))


def _windows(
    quality: InducedQuality, seen: induction.Induced, clean: induction.Induced, rng: np.random.Generator
) -> Errors:
    columns = seen.columns(quality.correct_probability(seen.features))
    picked = [rng.choice(len(columns), ROWS) for _ in range(DRAWS)]
    truth = np.array([seen.right[rows].mean() for rows in picked])
    sums = np.stack([add_up(columns[rows], None) for rows in picked])
    reading, strange = quality.reading(sums, np.full(DRAWS, float(ROWS)))
    half, unknown = quality.interval.half_width(reading), strange > 0
    low = np.where(unknown, 0, np.clip(reading.share - half, 0, 1))
    high = np.where(unknown, 1, np.clip(reading.share + half, 0, 1))
    confidence = np.array([seen.probability[rows].max(axis=1).mean() for rows in picked])
    accuracy = clean.right.mean()
    doc = accuracy + confidence - clean.probability.max(axis=1).mean()
    return Errors(
        100 * np.abs(reading.share - truth), 100 * np.abs(doc - truth), 100 * np.abs(accuracy - truth),
        (low <= truth) & (truth <= high), unknown, 100 * (high - low),
    )  # fmt: skip


def main(seeds: int = 5) -> None:
    """Print MAE in points, coverage of the 90% interval, its median width and the share read unknown."""
    print("table           windows   ours MAE      DoC  constant | coverage         width  unknown %")
    for name, load in (("digits", load_digits), ("breast cancer", load_breast_cancer)):
        found = [study(load, seed) for seed in range(seeds)]
        covered = [100 * f.covered.mean() for f in found]
        all_ = Errors(*(np.concatenate(parts) for parts in zip(*found, strict=True)))
        error = np.std([f.ours.mean() for f in found], ddof=1) / np.sqrt(seeds)
        spread = np.std(covered, ddof=1) / np.sqrt(seeds)
        print(
            f"{name:14s} {len(all_.ours):8d} {all_.ours.mean():6.2f} +- {error:.2f} {all_.doc.mean():7.2f} "
            f"{all_.constant.mean():9.2f} | {np.mean(covered):5.1f} +- {spread:4.1f} {np.median(all_.width):9.0f} "
            f"{100 * all_.unknown.mean():10.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
