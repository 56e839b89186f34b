"""CBPE in the pipeline: the registered calibration of a classifier, and what a window adds up with it.

Each answered event adds q, the calibrated probability that its answer is right, and q (1 - q): two sums and their
weight, whatever the number of events. See `models.cbpe` for the method and for what it cannot see.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.cbpe import Calibrator, Floats, Ints, Table, fit, right_of
from models.columns import Categories, Inferences
from models.distance import Z90
from models.fixed_point import fixed
from models.quality import Estimate
from models.tables import Tables

PATH = "training_data.bestbefore.calibration.tables"
SUM = "cbpe"  # of a profile: weight, q, q (1 - q)
LEAST = 500  # labelled, scored answers from which tables are measured
MOST_CLASSES = 50
COVERED = 0.95  # share of scored events that must have been judged by the tables


class ClassTables(msgspec.Struct, frozen=True):
    """A calibrator and the names of the classes its codes stand for."""

    classes: tuple[str, ...]
    calibrator: Calibrator


def from_descriptor(section: Mapping[str, Any]) -> ClassTables:
    """Read `training_data.bestbefore.calibration.tables`. Raises ValueError naming what cannot be used."""
    try:
        classes = tuple(str(name) for name in section["classes"])
        pairs = zip(section["knots"], section["values"], strict=True)
        tables = tuple(Table(tuple(map(float, k)), tuple(map(float, v))) for k, v in pairs)
        residual, n = float(section["residual"]), int(section.get("n", 0))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{PATH}: classes, knots, values and residual are needed ({repr(error)[:200]})") from None
    if len(classes) < 2 or len(tables) != (1 if len(classes) == 2 else len(classes)):
        raise ValueError(
            f"{PATH}: {len(classes)} classes and {len(tables)} tables; two classes have one, more one each"
        )
    for table in tables:
        sound = len(table.knots) == len(table.values) > 0 and list(table.knots) == sorted(table.knots)
        if not sound or not all(0 <= v <= 1 for v in table.values):
            raise ValueError(f"{PATH}: knots must ascend and have a value in [0, 1] each")
    if not 0 <= residual < 1:
        raise ValueError(f"{PATH}.residual: is {residual}, must lie in [0, 1)")
    return ClassTables(classes, Calibrator(tables=tables, residual=residual, n=n))


def measured(classes: Sequence[str], scores: Floats, predicted: Ints, truth: Ints) -> dict[str, Any] | None:
    """The section of the descriptor, from scores (n, classes), and class codes (n,); None where too little is known."""
    rows = np.isfinite(scores).all(axis=1)
    if rows.sum() < LEAST or not 2 <= len(classes) <= MOST_CLASSES:
        return None
    found = fit(scores[rows], predicted[rows], truth[rows])
    rounded = [[[float(f"{x:.6g}") for x in part] for part in (t.knots, t.values)] for t in found.tables]
    return {
        "classes": list(classes), "n": found.n, "residual": float(f"{found.residual:.6g}"),
        "knots": [knots for knots, _ in rounded], "values": [values for _, values in rounded],
    }  # fmt: skip


def add_judged(
    into: Tables,
    rows: Inferences,
    usable: NDArray[np.bool_],
    weight: NDArray[np.int64] | None,
    known: ClassTables | None,
) -> None:
    """Add P(right) of the usable rows; `weight` is of these rows. Rows that name another class are left out."""
    if known is None or rows.scores is None or not usable.any():
        return
    scores, predicted = _aligned(rows, usable, known.classes)
    judged = np.flatnonzero(predicted >= 0)
    if not len(judged):
        return
    q = right_of(known.calibrator(scores[judged]), predicted[judged])
    mine = None if weight is None else weight[judged]
    both = [fixed(values, mine) for values in (np.ones(len(q)), q, q * (1 - q))]
    into.sum(SUM, np.array(both, dtype=np.int64))


def _aligned(rows: Inferences, usable: NDArray[np.bool_], classes: tuple[str, ...]) -> tuple[Floats, Ints]:
    """Scores in the order of `classes`, 0 for one that is absent, and the codes of the answers, -1 for others."""
    assert rows.scores is not None  # noqa: S101 -- the caller has some
    columns = {name: i for i, name in enumerate(rows.classes)}
    given = rows.scores[usable].astype(np.float64)
    scores = np.zeros((len(given), len(classes)))
    for code, name in enumerate(classes):
        if name in columns:
            scores[:, code] = given[:, columns[name]]
    codes = {name: code for code, name in enumerate(classes)}
    if rows.label is None:
        named = np.array([codes.get(name, -1) for name in rows.classes] or [-1])
        return scores, named[given.argmax(axis=1)] if rows.classes else np.full(len(given), -1)
    return scores, _codes(rows.label, codes)[usable]


def _codes(label: Categories, codes: Mapping[str, int]) -> Ints:
    named = np.array([*(codes.get(name, -1) for name in label.values), -1], dtype=np.int64)
    return np.asarray(named[label.codes])


def estimate(sums: Sequence[float], known: ClassTables, n: float, answered: float) -> Estimate:
    """Accuracy of a window from its sums (weight, q, q (1 - q)); `answered` is the share of events with an answer.

    The 90% interval holds sampling noise, for `n` events, and the error seen on parts of the reference.
    """
    weight, right, variance = sums
    share = right / weight
    reach = Z90 * math.sqrt(variance / weight / max(n * answered, 1.0) + known.calibrator.residual**2)
    low, value, high = (min(max(x, 0.0), 1.0) * answered for x in (share - reach, share, share + reach))
    return Estimate(estimate=value, low=low, high=high, n=n, basis="label-free")
