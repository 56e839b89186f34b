"""What a profile observes of audits: how many labels were asked for, and what the audited answers were like.

Everything about an audited answer that estimates need is kept in cells: right or wrong, its P(correct) in steps, and
the probability with which its label was asked for. Their counts are integers and bounded, and from them alone any sum
over audits can be made, one by one in any order.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.columns import Inferences, Outcomes
from models.fixed_point import WEIGHT
from models.label_sampling import PROXIES, STEP, stepped
from models.tables import OTHER, Tables

CELLS = "audit.cells"


def add_asked(into: Tables, rows: Inferences) -> None:
    """Live inferences that labels are asked for, and the sum of all probabilities of being asked for."""
    if rows.propensity is None or rows.asked is None:
        return
    p = rows.propensity[rows.asked]
    into.count("asked.n", len(p))
    into.count("asked.weight", int(np.rint(WEIGHT / p).sum()))
    into.count("asked.propensity", int(np.rint(rows.propensity / STEP).astype(np.int64).sum()))


def add_cells(into: Tables, rows: Outcomes) -> None:
    """Audited answers by cell."""
    propensity = np.ones(len(rows)) if rows.weight is None else 1 / rows.weight
    known = np.isfinite(rows.confidence)
    steps = np.where(known, stepped(np.where(known, rows.confidence, 0.0)) * PROXIES, -1).astype(int)
    asked = np.zeros(len(rows), bool) if rows.asked is None else rows.asked
    into.count("audit.asked", int(asked.sum()))
    if asked.any():
        into.count("audit.asked_weight", int(np.rint(WEIGHT / propensity[asked]).sum()))
    for right, step, p in zip(rows.correct.tolist(), steps.tolist(), propensity.tolist(), strict=True):
        into.category(CELLS, f"{int(right)} {step} {p:.9g}", 1)


class Cells(NamedTuple):
    """Audits one by one, in no particular order: correctness, P(correct) in steps (0: no answer), propensity."""

    correct: NDArray[np.float64]
    proxy: NDArray[np.float64]
    propensity: NDArray[np.float64]
    spilt: int  # audits beyond the number of cells that a profile keeps


def cells_of(counts: Mapping[str, int]) -> Cells:
    """The audits that cells stand for, in the order of the cells' names."""
    rows = [(*map(float, name.split(" ")), n) for name, n in sorted(counts.items()) if name != OTHER]
    table = np.array(rows, dtype=float).reshape(-1, 4)
    n = table[:, 3].astype(int)
    proxy = np.where(table[:, 1] < 0, 0.0, (table[:, 1] + 0.5) / PROXIES)
    correct, propensity = np.repeat(table[:, 0], n), np.repeat(table[:, 2], n)
    return Cells(correct, np.repeat(proxy, n), propensity, counts.get(OTHER, 0))


def mean_step(histogram: NDArray[np.int64]) -> float:
    """Sum of P(correct) in steps over a histogram of confidences with PROXIES bins, in the histogram's weights."""
    return math.fsum(n * (i + 0.5) / PROXIES for i, n in enumerate(histogram.tolist()))
