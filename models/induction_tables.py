"""Fourteen families of shift for tables, five severities each: what happens to columns between a source and a model.

A table is a matrix of floats (n, d), categories as whole numbers; a missing value is NaN only where the model takes
NaN, else what the pipeline puts in its place. After the error types of Schelter et al. 2020
(doi:10.1145/3318464.3380604). Shifts of a column strike a share of the columns that grows with severity, chosen anew
under each condition.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.columns import Floats, Ints
from models.induction import Labelled, Shift

Rng = np.random.Generator
Bools = NDArray[np.bool_]
STRUCK = (0.15, 0.3, 0.45, 0.6, 0.8)  # share of the columns
AMOUNT = (0.25, 0.5, 1.0, 1.5, 2.5)  # in standard deviations, or natural logarithms of a factor


class Facts(NamedTuple):
    """What shifts need to know of the reference: per column, mean, sd, commonest value, quartiles; which are codes."""

    mean: Floats
    sd: Floats
    mode: Floats
    quartiles: Floats
    categorical: Bools


def shifts(
    reference: Floats, categorical: Iterable[int] = (), families: Iterable[str] | None = None
) -> dict[str, Shift]:
    """The families that fit this table (n, d), for `models.induction`; `categorical` numbers the columns of codes.

    >>> table = np.random.default_rng(0).normal(size=(100, 3))
    >>> found = shifts(table)
    >>> shifted, labels = found["noise"](table, np.zeros(100, int), 4, np.random.default_rng(1))
    >>> len(found), shifted.shape
    (13, (100, 3))
    """
    facts = _facts(np.asarray(reference, dtype=np.float64), frozenset(categorical))
    names = FAMILIES if families is None else families
    fitting = [name for name in names if _fits(FAMILIES[name], facts)]
    return {name: partial(_shift, name, facts) for name in fitting}


class Family(NamedTuple):
    """`apply` shifts the struck columns (n, j); `numeric` and `codes` say which kinds of column it is for."""

    apply: Callable[[Floats, "Facts", int, Rng], Floats]
    numeric: bool = True
    codes: bool = False


def _fits(family: Family, facts: Facts) -> bool:
    return bool((family.numeric and (~facts.categorical).any()) or (family.codes and facts.categorical.any()))


def _facts(table: Floats, categorical: frozenset[int]) -> Facts:
    finite = [column[np.isfinite(column)] if np.isfinite(column).any() else np.zeros(1) for column in table.T]
    modes = []
    for column in finite:
        values, counts = np.unique(column, return_counts=True)
        modes.append(values[counts.argmax()])
    return Facts(
        mean=np.array([c.mean() for c in finite]),
        sd=np.array([max(float(c.std()), 1e-9) for c in finite]),
        mode=np.array(modes),
        quartiles=np.stack([np.quantile(c, (0.1, 0.25, 0.5, 0.75, 0.9)) for c in finite], axis=1),
        categorical=np.array([j in categorical for j in range(table.shape[1])]),
    )


def _shift(name: str, facts: Facts, table: Floats, labels: Ints, severity: int, rng: Rng) -> Labelled:
    if name == "subpopulation":
        rows = _subpopulation(table, facts, severity, rng)
        return table[rows], labels[rows]
    family = FAMILIES[name]
    usable = np.flatnonzero((~facts.categorical & family.numeric) | (facts.categorical & family.codes))
    count = max(round(STRUCK[severity] * len(usable)), 1)
    struck = np.sort(rng.choice(usable, count, replace=False))
    shifted = np.array(table, dtype=np.float64)
    known = Facts(
        facts.mean[struck], facts.sd[struck], facts.mode[struck], facts.quartiles[:, struck], facts.categorical[struck]
    )
    shifted[:, struck] = family.apply(shifted[:, struck], known, severity, rng)
    return shifted, labels


def _subpopulation(table: Floats, facts: Facts, severity: int, rng: Rng) -> Ints:
    """Rows drawn again with odds that follow one direction of the table: another part of the population."""
    z = np.nan_to_num((table - facts.mean) / facts.sd)
    z[:, facts.categorical] = 0
    side = z @ (rng.normal(size=z.shape[1]) / np.sqrt(z.shape[1]))
    side = (side - side.mean()) / max(float(side.std()), 1e-9)
    weight = np.exp(np.clip(AMOUNT[severity] * side, -20, 20))
    return rng.choice(len(table), len(table), p=weight / weight.sum())


def _part(shape: tuple[int, ...], severity: int, rng: Rng) -> Bools:
    """Cells that are struck: one in ten to all of them."""
    return np.asarray(rng.random(shape) < (0.1, 0.25, 0.5, 0.75, 1.0)[severity])


def _signs(x: Floats, rng: Rng) -> Floats:
    """One sign per column."""
    return np.where(rng.random(x.shape[1]) < 0.5, -1.0, 1.0)


def _imputed(x: Floats, facts: Facts, severity: int, rng: Rng) -> Floats:
    typical = np.where(facts.categorical, facts.mode, facts.mean)
    return np.where(_part(x.shape, severity, rng), typical, x)


def _zeroed(x: Floats, _: Facts, severity: int, rng: Rng) -> Floats:
    return np.where(_part(x.shape, severity, rng), 0.0, x)


def _scaled(x: Floats, _: Facts, severity: int, rng: Rng) -> Floats:
    return np.asarray(x * np.exp(AMOUNT[severity] * _signs(x, rng)))


def _noisy(x: Floats, facts: Facts, severity: int, rng: Rng) -> Floats:
    return np.asarray(x + AMOUNT[severity] * facts.sd * rng.normal(size=x.shape))


def _offset(x: Floats, facts: Facts, severity: int, rng: Rng) -> Floats:
    return np.asarray(x + AMOUNT[severity] * facts.sd * _signs(x, rng))


def _exchanged(x: Floats, _: Facts, severity: int, rng: Rng) -> Floats:
    """Values of other rows: a join on the wrong key."""
    found = np.where(_part((len(x), 1), severity, rng), x[rng.permutation(len(x))], x)
    return np.asarray(found)


def _swapped(x: Floats, facts: Facts, severity: int, rng: Rng) -> Floats:
    """Values of another column in its own units: the order of features has changed."""
    if x.shape[1] == 1:
        return np.asarray(2 * facts.mean - x)
    order = np.roll(np.arange(x.shape[1]), 1)
    z = (x - facts.mean) / facts.sd
    return np.where(_part((len(x), 1), severity, rng), facts.mean + facts.sd * z[:, order], x)


def _stuck(x: Floats, _: Facts, severity: int, rng: Rng) -> Floats:
    """One row's values over and over: a sensor or a cache that no longer moves."""
    return np.where(_part((len(x), 1), severity, rng), x[rng.integers(len(x))], x)


def _lagged(x: Floats, _: Facts, severity: int, rng: Rng) -> Floats:
    """Values of rows some way back: features that come too late."""
    return np.where(_part((len(x), 1), severity, rng), np.roll(x, 1 + severity, axis=0), x)


def _merged(x: Floats, facts: Facts, severity: int, rng: Rng) -> Floats:
    """Rarer categories read as the commonest: a new vocabulary."""
    return np.where(_part(x.shape, severity, rng), facts.mode, x)


def _rounded(x: Floats, facts: Facts, severity: int, _: Rng) -> Floats:
    step = 2 * AMOUNT[severity] * facts.sd
    return np.asarray(facts.mean + np.round((x - facts.mean) / step) * step)


def _clipped(x: Floats, facts: Facts, severity: int, _: Rng) -> Floats:
    """Values held within ever narrower quantiles."""
    share = (0.0, 0.35, 0.65, 0.85, 1.0)[severity]
    low = (1 - share) * facts.quartiles[0] + share * facts.quartiles[2]
    high = (1 - share) * facts.quartiles[4] + share * facts.quartiles[2]
    return np.clip(x, low, high)


def _negated(x: Floats, _: Facts, severity: int, rng: Rng) -> Floats:
    return np.where(_part((len(x), 1), severity, rng), -x, x)


def _whole(x: Floats, *_: object) -> Floats:
    return x  # rows are drawn again instead, see _subpopulation


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "imputed": Family(_imputed, codes=True),
        "zeroed": Family(_zeroed),
        "scaled": Family(_scaled),
        "noise": Family(_noisy),
        "offset": Family(_offset),
        "exchanged": Family(_exchanged, codes=True),
        "swapped": Family(_swapped),
        "stuck": Family(_stuck, codes=True),
        "lagged": Family(_lagged, codes=True),
        "merged": Family(_merged, numeric=False, codes=True),
        "rounded": Family(_rounded),
        "clipped": Family(_clipped),
        "negated": Family(_negated),
        "subpopulation": Family(_whole),
    }
)
