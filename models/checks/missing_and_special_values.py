"""Are values missing as often as in training, and does nothing else stand for a missing value?

| | |
|---|---|
| left | `training_data.bestbefore.features.<f>.missing` and `.special` {value: share}; categories and quantiles |
| right | null rate; share of events whose value is exactly a usual stand-in: -1, 0, -99, -999, 9999, "", "NA", "unknown", … or a declared one |
| statistic | shares with their 90% intervals |
| mismatch | the null rate, or the mass on one value, differs from its declared share by more than a point and beyond chance |
| unknown | the feature is not carried, or its missing rate was never measured (`n` absent) |

A pipeline that starts to fill nulls with -1 changes no mean that anybody watches: the null rate falls and a spike
grows. A stand-in that was declared, at its declared rate, is silent. Where nothing was declared about a value, what
the reference holds in the same bin of its quantiles is taken for granted, if values there may be exact: for integers,
and for numbers at which quantiles coincide.
"""

import math
from collections.abc import Iterator

import numpy as np

from models.checks.check import Check
from models.checks.distribution import observed_n
from models.checks.observed import Observed
from models.checks.shares import above, below, share_side
from models.checks.verdict import Effect, Side, Verdict
from models.profile import MISSING, Profile, short_name
from models.quantities import number_of
from models.reference import CategoricalFeature, NumericFeature

FEATURES = "training_data.bestbefore.features"
FLOOR = 0.01
Z = 3.29


def live(seen: Observed) -> Iterator[Verdict]:
    """One verdict per feature about nulls, and one per value that stands out."""
    block, reference = seen.block, seen.reference
    features: dict[str, NumericFeature | CategoricalFeature] = {**reference.numeric, **reference.categorical}
    if not features:
        yield CHECK.unknown(f"{FEATURES} is not declared")
        return
    if block is None:
        yield CHECK.unknown(seen.filling)
        return
    for name, feature in sorted(features.items()):
        total, null = _totals(block, name)
        if not total:
            yield CHECK.unknown("the events do not carry it", field=name)
        elif not feature.n:
            yield CHECK.unknown(f"{FEATURES}.{name}.missing was not measured: no n", field=name)
        else:
            yield _nulls(block, name, feature, null / total, observed_n(block, float(total)), reference.minimum_n)
            yield from _special(block, name, feature, total)


def _totals(block: Profile, name: str) -> tuple[int, int]:
    """Weight of all events that have the field, and of those in which it is null."""
    short = short_name(name)
    counts = block.histograms.get(f"feature.{short}")
    table = block.categories.get(f"feature.{short}") or {}
    total = sum(table.values()) + (0 if counts is None else int(counts.sum()))
    return total, table.get(MISSING, 0) + (0 if counts is None else int(counts[-2]))


def _nulls(
    block: Profile, name: str, feature: NumericFeature | CategoricalFeature, share: float, n: float, enough: int
) -> Verdict:
    left = Side(f"{FEATURES}.{name}.missing", feature.missing, n=feature.n)
    noise = Z * math.sqrt(feature.missing * (1 - feature.missing) / feature.n) + FLOOR
    more = above(share, n, feature.missing + noise)
    fewer = feature.missing > noise and below(share, n, feature.missing - noise)
    right = share_side(f"telemetry.features.{name}.missing", share, n)
    effect = Effect(
        statistic="null rate", estimate=share, low=right.low, high=right.high, threshold=feature.missing, n=n
    )
    sides = {"field": name, "left": left, "right": right, "effect": effect}
    if more or fewer:
        told = "more" if more else "fewer; are they filled with something?"
        return CHECK.mismatch(
            f"{name} is null in {share:.3g} of {n:.6g} events, {feature.missing:.3g} are declared: {told}",
            evidence=block.evidence(f"special.{name}" if fewer else "any"), **sides,
        )  # fmt: skip
    if round(n) < enough:
        return CHECK.unknown(f"{n:.6g} observations, {enough} are needed", **sides)
    return CHECK.ok(**sides)


def _special(block: Profile, name: str, feature: NumericFeature | CategoricalFeature, total: int) -> Iterator[Verdict]:
    """Values with more mass than they may have. Those within their share say nothing: their feature is ok."""
    n = observed_n(block, float(total))
    for value, weight in sorted((block.categories.get(f"special.{short_name(name)}") or {}).items()):
        expected, path = _expected(name, feature, value)
        limit = expected + FLOOR + Z * math.sqrt(expected * (1 - expected) / max(feature.n, 1))
        share = weight / total
        if not above(share, n, min(limit, 1.0)):
            continue
        right = share_side(f"telemetry.features.{name}.special", share, n)
        effect = Effect(
            statistic="share of one value", estimate=share, low=right.low, high=right.high, threshold=limit, n=n
        )
        yield CHECK.mismatch(
            f"{name} is exactly {value!r} in {share:.3g} of {n:.6g} events, {expected:.3g} were expected: does it stand "
            "for a missing value?",
            field=f"{name}={value}", left=Side(path, round(expected, 6), n=feature.n), right=right, effect=effect,
            evidence=block.evidence(f"special.{name}"),
        )  # fmt: skip


def _expected(name: str, feature: NumericFeature | CategoricalFeature, value: str) -> tuple[float, str]:
    """The share that a value may have, and where that is declared."""
    for declared, share in feature.special.items():
        if declared == value or (number_of(declared) is not None and number_of(declared) == number_of(value)):
            return share, f"{FEATURES}.{name}.special"
    if isinstance(feature, CategoricalFeature):
        return feature.shares.get(value, 0.0), f"{FEATURES}.{name}.categories"
    number = number_of(value)
    if number is None or not feature.shares:
        return 0.0, f"{FEATURES}.{name}.special"
    edge = int(np.searchsorted(feature.edges, number[0]))
    exact = edge < len(feature.edges) and feature.edges[edge] == number[0]
    # Beyond the outermost quantiles little was seen, and the declared range may say that nothing may be there.
    outside = (feature.low is not None and number[0] < feature.low) or (
        feature.high is not None and number[0] > feature.high
    )
    known = 0.0 if outside or not (feature.integer or exact) else feature.shares[edge]
    return known, f"{FEATURES}.{name}.quantiles"


CHECK = Check(
    id="missing-and-special-values",
    title="Missing as declared",
    owner="data engineer",
    remedy="restore the nulls at their source, or declare the value that stands for them",
    action="fix-pipeline",
    live=live,
)
