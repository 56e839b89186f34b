"""What a profile observes of audits: which labels were asked for, and what the audited answers were like.

Estimates of a window need nine sums. A sequence that takes audits one by one needs each of them: they are kept in
cells, right or wrong, P(correct) in steps, and the probability with which the label was asked for. Counts of cells are
integers and bounded, and the audits of a window can be had from them in any order. The same of all inferences that
labels are asked for tells who is missing.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.columns import Inferences, Outcomes
from models.fixed_point import WEIGHT
from models.label_sampling import PROXIES, STEP, step_of, stepped
from models.tables import OTHER, Tables

CELLS, ASKED_CELLS = "audit.cells", "asked.cells"
# Sums over audits of 1, w, w y, w f, w^2, w^2 y, w^2 f, w^2 f^2, w^2 y f in units of 1 / WEIGHT: w = 1 / propensity,
# y correctness, f = P(correct) in steps.
MOMENTS = "audit.moments"


def add_asked(into: Tables, rows: Inferences) -> None:
    """Live inferences that labels are asked for, and the sum of all probabilities of being asked for."""
    if rows.propensity is None or rows.asked is None or rows.step is None:
        return
    into.count("asked.n", int(rows.asked.sum()))
    into.count("asked.weight", int(np.rint(WEIGHT / rows.propensity[rows.asked]).sum()))
    into.count("asked.propensity", int(np.rint(rows.propensity / STEP).astype(np.int64).sum()))
    for step, p in zip(rows.step[rows.asked].tolist(), rows.propensity[rows.asked].tolist(), strict=True):
        into.category(ASKED_CELLS, _cell(step, p), 1)


def add_cells(into: Tables, rows: Outcomes) -> None:
    """Audited answers by cell; those that answer a request apart from others."""
    propensity = np.ones(len(rows)) if rows.weight is None else 1 / rows.weight
    known = np.isfinite(rows.confidence)
    steps = step_of(np.where(known, stepped(np.clip(np.where(known, rows.confidence, 0.0), 0, 1)), np.nan))
    asked = np.zeros(len(rows), bool) if rows.asked is None else rows.asked
    into.count("audit.asked", int(asked.sum()))
    into.count("audit.asked_weight", int(np.rint(WEIGHT / propensity[asked]).sum()))
    proxy, y = np.where(known, (steps + 0.5) / PROXIES, 0.0), rows.correct.astype(float)
    w = 1 / propensity
    moments = (np.ones(len(w)), w, w * y, w * proxy, w**2, w**2 * y, w**2 * proxy, (w * proxy) ** 2, w**2 * y * proxy)
    # Each row is rounded by itself, so that the sums are the same in any order.
    into.sum(MOMENTS, np.array([int(np.rint(m * WEIGHT).astype(np.int64).sum()) for m in moments], dtype=np.int64))
    columns = (c.tolist() for c in (asked, rows.correct, steps, propensity))
    for mine, right, step, p in zip(*columns, strict=True):
        into.category(CELLS, f"{int(mine)} {int(right)} {_cell(step, p)}", 1)


def _cell(step: int, propensity: float) -> str:
    return f"{step} {propensity:.9g}"


class Cells(NamedTuple):
    """Audits one by one, in the order of their cells: correctness (NaN: no label), P(correct) in steps (0 without an
    answer), propensity, and whether the label was asked for.
    """

    correct: NDArray[np.float64]
    proxy: NDArray[np.float64]
    propensity: NDArray[np.float64]
    asked: NDArray[np.bool_]
    spilt: int  # audits beyond the number of cells that a profile keeps


def cells_of(audited: Mapping[str, int], asked: Mapping[str, int] | None = None) -> Cells:
    """The audits that cells stand for; with the cells of what was `asked`, also those whose label has not come."""
    table = [(*map(float, name.split(" ")), float(n)) for name, n in sorted(audited.items()) if name != OTHER]
    spilt = audited.get(OTHER, 0)
    if asked is not None:
        spilt += asked.get(OTHER, 0)
        for name, n in sorted(asked.items()):
            missing = n - sum(audited.get(f"1 {right} {name}", 0) for right in (0, 1))
            if name != OTHER and missing > 0:
                table.append((1.0, np.nan, *map(float, name.split(" ")), float(missing)))
    mine, right, step, p, counts = np.array(table, dtype=float).reshape(-1, 5).T
    repeats = counts.astype(int)
    proxy = np.where(step < 0, 0.0, (step + 0.5) / PROXIES)
    rows = [np.repeat(column, repeats) for column in (right, proxy, p)]
    return Cells(rows[0], rows[1], rows[2], np.repeat(mine > 0, repeats), spilt)
