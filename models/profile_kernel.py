"""What a profile keeps of random features: how far the kernel mean is from the reference's, and who pulls it away.

Every input counts by what it differs from the mean of its predicted class, so another mix of the same classes adds
nothing. Beside the sum of these differences stands that of their squares, which makes the squared distance of kernel
means unbiased in linear time: (|sum|^2 - squares) / (n (n - 1)). The sum is kept by class and by segment as well; parts
add up to the whole.

| table | names |
|---|---|
| sums | kernel: differences (features), squares, weight, squared weight, number; kernel.class.<class>, kernel.segment.<segment>: differences, weight |
| counts | supported, embedding_not_finite |
"""  # noqa: E501 -- a table

from typing import NamedTuple

import numpy as np

from models.columns import Categories, Embedded, Floats, Ints
from models.fixed_point import UNIT, WEIGHT
from models.random_features import KernelReference, prepared
from models.tables import Tables, short_name

MOST_WEIGHT = 1e4  # of one input; squares of larger ones would leave no room for a million rows in 64 bits
KERNEL, CLASS, SEGMENT, SUPPORTED = "kernel", "kernel.class.", "kernel.segment.", "supported"


class Part(NamedTuple):
    """A class or segment: its name, its share of the weight, and its summed differences per unit of all weight."""

    name: str
    share: float
    pull: Floats


class KernelSums(NamedTuple):
    """The sums of a window as reals: mean difference (features,), weighted mean of squared lengths, effective n.

    `weight` is the sum of the weights and `squared` that of their squares; `rows` counts inputs.
    """

    mean: Floats
    spread: float
    weight: float
    squared: float
    rows: int

    @property
    def n(self) -> float:
        """What unequal weights leave of the inputs (Kish)."""
        return self.weight**2 / self.squared


def add_kernel(into: Tables, rows: Embedded, z: Floats, weight: Ints | None, known: KernelReference) -> None:
    """Add finite standardised embeddings `z` (n, d)."""
    kernel = prepared(known)
    psi = kernel.psi(z)
    label = rows.label if rows.label is not None else Categories(np.full(len(rows), -1, np.int32), ())
    difference = psi - kernel.means[kernel.rows(label.values, label.codes)]
    real = np.ones(len(rows)) if weight is None else np.minimum(weight / WEIGHT, MOST_WEIGHT)
    # Integers in float64, exact below 2^53: any order of adding gives the same bits, also that of a matrix product.
    scaled = np.rint(difference * (real * UNIT)[:, None])
    squares = np.rint(np.einsum("ij,ij->i", difference, difference) * real**2 * UNIT)
    tail = [squares.sum(), np.rint(real * WEIGHT).sum(), np.rint(real**2 * WEIGHT).sum(), float(len(rows))]
    into.sum(KERNEL, np.concatenate((scaled.sum(axis=0), tail)).astype(np.int64))
    if known.support is not None:
        near = (psi @ kernel.nearest).max(axis=1) >= known.support
        into.count(SUPPORTED, int(np.rint(real[near] * WEIGHT).sum()))
    _add_parts(into, CLASS, _declared(label, known), scaled, real)
    if rows.segment is not None:
        _add_parts(into, SEGMENT, rows.segment, scaled, real)
        into.join_groups()


def _declared(label: Categories, known: KernelReference) -> Categories:
    """Only the labels that the reference has means of, so that there is a bounded number of them."""
    table = np.array([*(known.labels.index(v) if v in known.labels else -1 for v in label.values), -1], np.int32)
    return Categories(table[label.codes], known.labels)


def _add_parts(into: Tables, prefix: str, column: Categories, scaled: Floats, real: Floats) -> None:
    belongs = (column.codes == np.arange(len(column.values))[:, None]).astype(np.float64)
    sums = np.concatenate((belongs @ scaled, (belongs @ np.rint(real * WEIGHT))[:, None]), axis=1).astype(np.int64)
    for name, values, present in zip(column.values, sums, belongs.any(axis=1), strict=True):
        if present:
            into.sum(prefix + short_name(name), values)


def kernel_sums(profile: Tables, features: int) -> KernelSums | None:
    """The sums of a profile; None where it has none, or has them of another number of features."""
    found = profile.sums.get(KERNEL)
    if found is None or len(found) != features + 4 or min(found[-1], found[-2], found[-3]) < 1:
        return None
    weight, squared = int(found[-3]) / WEIGHT, int(found[-2]) / WEIGHT
    spread = int(found[-4]) / UNIT / squared
    return KernelSums(found[:features] / UNIT / weight, spread, weight, squared, int(found[-1]))


def parts(profile: Tables, prefix: str, whole: KernelSums) -> list[Part]:
    """Classes or segments of a profile, by name."""
    found, size = [], len(whole.mean) + 1
    for name, values in sorted(profile.sums.items()):
        if name.startswith(prefix) and len(values) == size:
            share = int(values[-1]) / WEIGHT / whole.weight
            found.append(Part(name.removeprefix(prefix), share, values[:-1] / UNIT / whole.weight))
    return found


def finite(into: Tables, rows: Embedded) -> Embedded:
    """Only rows whose embedding is a number in every dimension; others are counted."""
    good = np.asarray(np.isfinite(rows.embedding).all(axis=1))
    if good.all():
        return rows
    into.count("embedding_not_finite", int((~good).sum()))
    return rows.take(good.nonzero()[0])
