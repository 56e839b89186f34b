"""Statistics of one window, each with its 90% interval and the number of observations behind it."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.special import bdtrik, gammaincinv

from models.checks.distribution import observed_n
from models.checks.observed import Observed
from models.distance import Z90
from models.evidence import Evidence
from models.profile import (
    CLIP,
    CONFIDENCE_EDGES,
    LATENCY_EDGES,
    MISSING,
    OTHER,
    UNIT,
    WEIGHT,
    Profile,
    moments,
    short_name,
    value_moments,
)
from models.quality import wilson
from models.reference import NumericFeature


class Reading(NamedTuple):
    """A measured value with its 90% interval; `n` counts the observations behind it."""

    value: float
    low: float | None
    high: float | None
    n: float


# -- features ------------------------------------------------------------------------------------------------


def feature_of(seen: Observed, name: str) -> NumericFeature:
    """What was declared of a numeric feature; nothing, where it was not."""
    return seen.reference.numeric.get(name) or NumericFeature()


def mean(seen: Observed, name: str) -> Reading | None:
    """Mean of a numeric feature."""
    found = moments(_block(seen), name, feature_of(seen, name))
    if found is None:
        return None
    return _mean_of(*found)


def _mean_of(n: float, mean: float, sd: float) -> Reading:
    reach = Z90 * sd / math.sqrt(max(n, 1.0))
    return Reading(mean, mean - reach, mean + reach, n)


def sd(seen: Observed, name: str) -> Reading | None:
    """Standard deviation of a numeric feature."""
    found = moments(_block(seen), name, feature_of(seen, name))
    if found is None or found[0] < 2:
        return None
    n, _, sd = found
    # 2 sigma^4 / n is the variance of a normal's variance; doubled, since few features are normal.
    reach = Z90 * sd / math.sqrt(n)
    return Reading(sd, max(sd - reach, 0.0), sd + reach, n)


def _totals(block: Profile, name: str) -> tuple[float, float]:
    """Weight of all events that have the field, and of those in which it is null."""
    short = f"feature.{short_name(name)}"
    counts, table = block.histograms.get(short), block.categories.get(short) or {}
    numbers = (0.0, 0.0) if counts is None else (float(counts.sum()), float(counts[-2]))
    return numbers[0] + sum(table.values()), numbers[1] + table.get(MISSING, 0)


def missing(seen: Observed, name: str) -> Reading | None:
    """Share of events in which a feature is null."""
    total, null = _totals(_block(seen), name)
    return _share(_block(seen), null, total)


def violations(seen: Observed, name: str) -> Reading | None:
    """Share of events whose value of a feature is forbidden; None where nobody said what is allowed."""
    block = _block(seen)
    total, _ = _totals(block, name)
    table = block.categories.get(f"violations.{short_name(name)}") or {}
    if not table and name not in seen.reference.numeric and name not in seen.reference.categorical:
        return None
    return _share(block, min(float(sum(table.values())), total), total)


def category(seen: Observed, name: str, category: str) -> Reading | None:
    """Share of one category among the values of a feature."""
    return _part(_block(seen), f"feature.{short_name(name)}", category)


def quantile(seen: Observed, name: str, p: str) -> Reading | None:
    """Quantile of a numeric feature."""
    counts = _block(seen).histograms.get(f"feature.{short_name(name)}")
    if counts is None or not counts[:-2].sum():
        return None
    feature = feature_of(seen, name)
    # Values may lie anywhere in the outermost bins: their interval ends far away, and their value is the inner edge.
    low, high = feature.mean - CLIP * feature.sd, feature.mean + CLIP * feature.sd
    edges = np.array([min(low, feature.edges[0]), *feature.edges, max(high, feature.edges[-1])])
    n = observed_n(_block(seen), float(counts[:-2].sum()))
    found = _ranked(counts[:-2], edges, float(p), n)
    return found._replace(value=min(max(found.value, feature.edges[0]), feature.edges[-1]))


def _ranked(counts: Any, edges: Any, p: float, n: float) -> Reading:
    """A quantile from a histogram, its interval from the binomial law of its rank: no shape is assumed."""
    below = np.concatenate(([0.0], np.cumsum(counts) / counts.sum()))
    size = max(round(n), 1)
    # X(l) to X(u) holds the quantile in 90% of samples: David and Nagaraja 2003, Order Statistics, 7.1.
    first, last = math.ceil(float(bdtrik(0.05, size, p))), math.ceil(float(bdtrik(0.95, size, p))) + 1

    def bin_of(share: float) -> int:
        return int(np.clip(np.searchsorted(below, share - 1e-12) - 1, 0, len(counts) - 1))

    middle = bin_of(p)
    within = (p - below[middle]) / max(below[middle + 1] - below[middle], 1e-12)
    value = float(edges[middle] + min(max(within, 0.0), 1.0) * (edges[middle + 1] - edges[middle]))
    low = float(edges[bin_of(first / size)]) if first >= 1 else float(edges[0])
    high = float(edges[bin_of(last / size) + 1]) if last <= size else float(edges[-1])
    return Reading(value, low, high, n)


# -- outputs -------------------------------------------------------------------------------------------------


def label(seen: Observed, label: str) -> Reading | None:
    """Share of a predicted class."""
    return _part(_block(seen), "label", label)


def value_mean(seen: Observed) -> Reading | None:
    """Mean of a numeric prediction."""
    found = value_moments(_block(seen))
    return None if found is None else _mean_of(*found)


def confidence_mean(seen: Observed) -> Reading | None:
    """Mean calibrated confidence."""
    block = _block(seen)
    scored, counts = block.counts.get("scored", 0), block.histograms.get("confidence")
    if not scored or counts is None:
        return None
    mean = float(block.sums["confidence"][0]) / UNIT / (scored / WEIGHT)
    edges = np.array([0.0, *CONFIDENCE_EDGES, 1.0])
    variance = float(counts @ ((edges[1:] + edges[:-1]) / 2 - mean) ** 2 / counts.sum())
    n = observed_n(block, float(scored))
    reach = Z90 * math.sqrt(variance / max(n, 1.0))
    return Reading(mean, max(mean - reach, 0.0), min(mean + reach, 1.0), n)


def counted(name: str, of: str) -> Callable[[Observed], Reading | None]:
    """The share of two plain counts."""

    def read(seen: Observed) -> Reading | None:
        counts = _block(seen).counts
        total = counts.get(of, 0)
        return _reading(counts.get(name, 0) / total, total) if total else None

    return read


def filled(seen: Observed, field: str) -> Reading | None:
    """Share of events that carry a field."""
    block = _block(seen)
    table = block.categories.get("filled")
    return None if table is None else _share(block, float(table.get(field, 0)), float(block.counts.get("weight", 0)))


# -- time, number, quality -----------------------------------------------------------------------------------


def latency(seen: Observed, percent: str) -> Reading | None:
    """Percentile of the latency in ms."""
    counts = _block(seen).histograms.get("latency_ms")
    if counts is None or not counts.sum():
        return None
    edges = np.concatenate(([0.0], LATENCY_EDGES, [LATENCY_EDGES[-1] * 2]))
    return _ranked(counts, edges, float(percent) / 100, observed_n(_block(seen), float(counts.sum())))


def rate(seen: Observed) -> Reading | None:
    """Events per second, with the exact interval of a Poisson number."""
    seconds, n = (seen.end_us - seen.start_us) / 1e6, seen.window.n
    each = seen.window.counts.get("weight", 0) / WEIGHT / n if n else 1.0  # events that one record stands for
    low = float(gammaincinv(n, 0.05)) if n else 0.0  # Garwood 1936, doi:10.1093/biomet/28.3-4.437
    high = float(gammaincinv(n + 1, 0.95))
    return Reading(n * each / seconds, low * each / seconds, high * each / seconds, n)


def number(seen: Observed) -> Reading | None:
    """Events in the window; a count has no noise."""
    return Reading(seen.window.n, None, None, seen.window.n)


def quality(seen: Observed) -> Reading | None:
    """The current accuracy."""
    known = seen.estimate
    return None if known is None or known.estimate is None else Reading(known.estimate, known.low, known.high, known.n)


def audited(seen: Observed) -> Reading | None:
    """From the newest windows that together hold enough labels; late ones belong to the window of their event."""
    joined: Evidence | None = None
    for window in reversed(seen.ring):
        if joined is not None and joined.audits >= seen.reference.minimum_n:
            break
        joined = window if joined is None else joined.join(window)
    return audited_reading(joined)


def audited_reading(joined: Evidence | None) -> Reading | None:
    """Accuracy by the audited labels of some windows."""
    found = None if joined is None else joined.audited()
    return None if found is None or found.estimate is None else Reading(found.estimate, found.low, found.high, found.n)


# -- shared --------------------------------------------------------------------------------------------------


def _block(seen: Observed) -> Profile:
    return seen.block if seen.block is not None else Profile()


def _part(block: Profile, table: str, category: str) -> Reading | None:
    """The share of one category among the values that are there."""
    known = {name: w for name, w in (block.categories.get(table) or {}).items() if name != MISSING}
    mine = known.get(short_name(category), 0)
    if not mine and OTHER in known:
        return None  # it may be among those that were only added up
    return _share(block, float(mine), float(sum(known.values())))


def _share(block: Profile, weight: float, total: float) -> Reading | None:
    """A share of weights, in fixed point, that belong to events."""
    return _reading(min(weight / total, 1.0), observed_n(block, total)) if total else None


def _reading(share: float, n: float) -> Reading:
    return Reading(share, *wilson(share, n), n)
