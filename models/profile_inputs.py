"""What a profile observes of the features of inference events: values, domains, stand-ins for nulls, moments."""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from models.columns import Categories, Floats, Inferences, Ints
from models.distance import effective
from models.fixed_point import CLIP, COARSER, FINE, NEAR, UNIT, WEIGHT, fixed, of, some
from models.grid import Block, Grid
from models.reference import CategoricalFeature, NumericFeature, Reference
from models.tables import Tables, short_name

# Texts that usually stand for a null.
SPECIAL_TEXTS = frozenset(("", "NA", "N/A", "null", "None", "nan", "unknown", "?"))


def add_numeric(into: Tables, rows: Inferences, weight: Ints | None, reference: Reference, grid: Grid) -> None:
    """Bins, moments and observations of the numeric features, which are those of `grid`."""
    size = len(rows)
    block = grid.block(np.stack([rows.numeric[name] for name in grid.names]))
    bins = grid.bins(block.values)
    if block.finite is not None:
        # The two last bins: null, and not finite although present.
        absent = (grid.sizes - 1)[:, None] - np.stack([_or_false(rows.missing.get(n), size) for n in grid.names])
        bins = np.where(block.finite, bins, absent)
    counts = grid.count(bins, weight) * (WEIGHT if weight is None else 1)
    shorts = [short_name(name) for name in grid.names]
    for i, short in enumerate(shorts):
        into.into(into.histograms, f"feature.{short}", counts[grid.starts[i] : grid.starts[i + 1]])
    # The weight of the finite values, told beside the finest sums: profiles of earlier releases have no such sums.
    finite = [counts[grid.starts[i] : grid.starts[i + 1] - 2].sum() for i in range(len(shorts))]
    _add_moments(into, rows, weight, grid, block, shorts, np.array(finite, np.int64))
    _add_observed(into, rows, weight, reference, grid, block, shorts)


def _add_moments(
    into: Tables, rows: Inferences, weight: Ints | None, grid: Grid, block: Block, shorts: list[str], finite: Ints
) -> None:
    """First and second moments on three scales, so that a transform by a thousand either way leaves them exact."""
    z, beyond, wide = grid.standardised(block)
    far = np.zeros(len(shorts), np.int64)
    near = z
    if beyond:
        near = z.copy()
        for i in beyond:
            found = (np.abs(z[i]) > NEAR).nonzero()[0]
            far[i], near[i, found] = of(weight, found), 0.0
    for i in wide:
        _add_wide(into, f"wide.{shorts[i]}", z[i], rows, weight)
    squared = z * z
    moments = np.stack((fixed(z, weight), fixed(squared, weight)), axis=1)
    square = near * near if beyond else squared
    fine = np.stack((far, fixed(near, weight, FINE), fixed(square, weight, FINE), finite), axis=1)
    for i, short in enumerate(shorts):
        into.into(into.sums, f"feature.{short}", moments[i])
        into.into(into.sums, f"fine.{short}", fine[i])


def _add_wide(into: Tables, name: str, z: Floats, rows: Inferences, weight: Ints | None) -> None:
    """Move values beyond CLIP, in place, to sums on a coarser scale."""
    found = (np.abs(z) > CLIP).nonzero()[0]
    if not len(found):
        return
    coarse = np.clip(z[found] / COARSER, -CLIP, CLIP)
    z[found] = 0.0
    mine = some(weight, found)
    into.sum(name, np.array([of(weight, found), fixed(coarse, mine), fixed(coarse * coarse, mine)], dtype=np.int64))
    into.sample(name, rows, found)


def _add_observed(
    into: Tables, rows: Inferences, weight: Ints | None, reference: Reference, grid: Grid, block: Block,
    shorts: list[str],
) -> None:  # fmt: skip
    for i, kind, found in grid.violations(block):
        _observe(into, f"violations.{shorts[i]}", kind, found, rows, weight)
    for i, value, found in grid.specials(block):
        _observe(into, f"special.{shorts[i]}", short_name(value), found, rows, weight)
    for name in reference.categorical.keys() & rows.numeric.keys():
        # Numbers where text was declared.
        missing = rows.missing.get(name)
        found = np.arange(len(rows)) if missing is None else (~missing).nonzero()[0]
        _observe(into, f"violations.{short_name(name)}", "type", found, rows, weight)


def _observe(
    into: Tables, name: str, category: str, found: NDArray[np.intp], rows: Inferences, weight: Ints | None
) -> None:
    into.category(name, category, of(weight, found))
    into.sample(name, rows, found)


def add_categorical(into: Tables, rows: Inferences, weight: Ints | None, reference: Reference) -> None:
    """Shares and observations of the features that are text."""
    for name, column in rows.categorical.items():
        short = short_name(name)
        totals = into.tally(f"feature.{short}", column, weight)
        feature = reference.categorical.get(name)
        for kind, codes in _violating(name, column, feature, reference):
            _observe_codes(into, f"violations.{short}", kind, codes, totals, column, rows)
        stand_ins = SPECIAL_TEXTS.union(feature.special) if feature and feature.special else SPECIAL_TEXTS
        for value in stand_ins.intersection(column.values):
            codes = [code for code, text in enumerate(column.values) if text == value]
            _observe_codes(into, f"special.{short}", short_name(value), codes, totals, column, rows)


def _violating(
    name: str, column: Categories, feature: CategoricalFeature | None, reference: Reference
) -> Iterable[tuple[str, list[int]]]:
    """Kinds of violation and the codes of the values that violate."""
    if name in reference.numeric and feature is None:
        yield "type", list(range(len(column.values)))
    if feature is None:
        return
    if feature.allowed:
        allowed = frozenset(feature.allowed)
        yield "category", [code for code, value in enumerate(column.values) if value not in allowed]
    if feature.min_length is not None or feature.max_length is not None:
        low, high = feature.min_length or 0, math.inf if feature.max_length is None else feature.max_length
        yield "length", [code for code, value in enumerate(column.values) if not low <= len(value) <= high]


def _observe_codes(
    into: Tables, name: str, category: str, codes: list[int], totals: list[int], column: Categories, rows: Inferences
) -> None:
    total = sum(totals[code] for code in codes)
    if not total:
        return
    into.category(name, category, total)
    chosen = np.zeros(len(column.values) + 1, np.bool_)  # the last place is that of -1, a missing value
    chosen[codes] = True
    into.sample(name, rows, chosen[column.codes].nonzero()[0])


def any_feature(rows: Inferences) -> NDArray[np.bool_] | None:
    """Rows with at least one feature that is not null; None: all of them."""
    absent: NDArray[np.bool_] = np.ones(len(rows), np.bool_)
    for name in rows.numeric:
        missing = rows.missing.get(name)
        if missing is None:
            return None
        absent &= missing
    for column in rows.categorical.values():
        absent &= column.codes < 0
    return ~absent


def moments(profile: Tables, name: str, feature: NumericFeature) -> tuple[float, float, float] | None:
    """Effective number of finite values of a numeric feature, their mean and their sd, in the feature's unit.

    Values far out, which the profile adds up on a coarser scale, are in them; where there are none, those of the finest
    scale count, because the sd may be tiny. None where there is no finite value.
    """
    short = short_name(name)
    counts, sums = profile.histograms.get(f"feature.{short}"), profile.sums.get(f"feature.{short}")
    if counts is None or sums is None:
        return None
    weight = float(counts[:-2].sum()) / WEIGHT
    if not weight:
        return None
    first, second = (float(s) / UNIT for s in sums)
    fine, coarse = profile.sums.get(f"fine.{short}"), profile.sums.get(f"wide.{short}")
    # The finest sums count only where they are of every value: an earlier release did not make them.
    if fine is not None and len(fine) == 4 and not fine[0] and fine[3] == counts[:-2].sum():
        first, second = float(fine[1]) / FINE, float(fine[2]) / FINE
    elif coarse is not None:
        first += float(coarse[1]) / UNIT * COARSER
        second += float(coarse[2]) / UNIT * COARSER**2
    mean = first / weight
    scale = feature.sd or 1.0
    sd = math.sqrt(max(second / weight - mean * mean, 0.0)) * scale
    return effective_n(profile, weight), feature.mean + mean * scale, sd


def effective_n(profile: Tables, weight: float) -> float:
    """Effective number of events behind values that weigh `weight` together."""
    counts = profile.counts
    total = counts.get("weight", 0)
    n = effective(counts.get("n", 0), total, counts.get("weight_squared", 0), WEIGHT)
    return n * weight / (total / WEIGHT) if total else 0.0


def _or_false(flags: NDArray[np.bool_] | None, size: int) -> NDArray[np.bool_]:
    return np.zeros(size, np.bool_) if flags is None else flags
