"""Do the features of production traffic look like those of the training data?

| | |
|---|---|
| left | `training_data.bestbefore.features`: quantiles or categories, with n |
| right | each feature's histogram over the last whole season, on the same grid |
| statistic | Jensen-Shannon divergence in nats; a cumulative sum of the season's mean (of normal scores, in sd) for small lasting shifts |
| mismatch | the divergence exceeds its noise and its lower end 0.02 nats (a normal shifted by 0.4 sd); or the cumulative sum exceeds its limit, which only shifts above 0.1 sd feed |
| ok | neither, over a whole season with at least `minimum_n` values |
| unknown | no reference for the feature, the events do not carry it, the first season is not complete, too few values, or a difference that dependence between rows may still explain |

At design time `training_data.statistics` and `production_data.statistics` are compared per field and property, as
numbers: a mean may differ by 0.1 sd where the sd is known, anything by 5%, and both by what sampling noise allows
where n is known. Texts (`Distribution Type`) must agree.

Noise and limit follow from half of `system_context.bestbefore.false_alarms` (default: 1 per 90 days), divided among the
three checks of drift, their fields and statistics; the other half is for changes in time. Rows that depend on others
count less: by how much is learned from the means of past blocks. Until eight differences between blocks are known, a
mismatch must hold even if rows are as dependent as an autocorrelation of 0.9 makes them; what would be one only for
independent rows is unknown so long.
`system_context.bestbefore.season` (default: 1 day where windows are shorter) is judged as a whole, so that a daily
cycle is no drift. What drifts for good over less than 0.1 sd is not reported.

What to do: look at the features named, and at what feeds them. Drift explains; it is never a reason to retrain by
itself: quality decides. Aliases: `tec:15`. Sources: Lin 1991 (divergence), van der Waerden 1952 (normal scores), Page
1954 and Siegmund 1985 (cumulative sum and its run length).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from models.checks.check import Check
from models.checks.declared_statistics import declared_statistics
from models.checks.distribution import (
    TOLERANCE,
    Array,
    effect_of,
    grouped,
    observed_n,
    too_little,
    top_scores,
)
from models.checks.observed import Observed
from models.checks.promise import ALLOWANCE, KNOWN, cusum_limit, inflation, level
from models.checks.public_names import told_shares
from models.checks.season import Season, Sum, coarse, filling, over_season, season_of
from models.checks.verdict import Effect, Side, Verdict
from models.checks.workplace import Workplace
from models.distance import Z90, Distance, jensen_shannon
from models.profile import MAX_CATEGORIES, OTHER, Profile, moments, short_name

FEATURES = "training_data.bestbefore.features"
SMALLEST_SHIFT = 0.1  # sd; below it a lasting shift of the mean is left alone
DOUBT = f"it differs, but {KNOWN + 1} blocks are needed to tell drift from rows that depend on each other"
STATISTICS = 2  # per feature: divergence and cumulative sum


class Described(NamedTuple):
    """One feature over a window: weights and declared shares per bin, a score per bin, n of the reference."""

    names: list[str]  # of the bins; empty for numbers
    counts: Array
    shares: Array
    scores: Array  # mean 0 and variance 1 under the reference
    gain: float  # mean score that a shift by one sd makes
    m: int


def design(at: Workplace) -> Iterator[Verdict]:
    """One verdict per declared statistic of a field."""
    yield from declared_statistics(CHECK, at)


def live(seen: Observed) -> Iterator[Verdict]:
    """One verdict per declared feature."""
    reference = seen.reference
    names = sorted({*reference.numeric, *reference.categorical})
    if not names:
        yield CHECK.unknown(f"{FEATURES} is not declared")
        return
    season = season_of(seen)
    profile = seen.block if season.blockwise else seen.window
    if profile is None:
        yield CHECK.unknown(seen.filling)
        return
    known = [name for name in names if _declared(seen, name)]
    for name in names:
        yield _verdict(seen, season, profile, name, len(known))


def _declared(seen: Observed, name: str) -> bool:
    numeric, categorical = seen.reference.numeric.get(name), seen.reference.categorical.get(name)
    return bool((numeric and numeric.shares) or (categorical and categorical.shares))


def _verdict(seen: Observed, season: Season, profile: Profile, name: str, tests: int) -> Verdict:
    number = name in seen.reference.numeric
    if not _declared(seen, name):
        return CHECK.unknown(f"no reference {'quantiles' if number else 'categories'} are declared", field=name)
    if not number and _too_many(seen, profile, name):
        return CHECK.unknown(f"more than {MAX_CATEGORIES} categories are counted together", field=name)
    described = _number(seen, profile, name) if number else _category(seen, profile, name)
    key = f"{CHECK.id}/{name}"
    total = over_season(seen, season, key, described.counts, observed_n(profile, float(described.counts.sum())))
    if season.due(seen) and total.part_n > 0:
        _judge(seen, season, key, described, total, tests)
    if not described.counts.sum():
        return CHECK.unknown(_absent(profile, name), field=name)
    return _told(seen, season, name, described, total, seen.memory.get(f"{key}/held"))


def _too_many(seen: Observed, profile: Profile, name: str) -> bool:
    """Whether the profile could not hold every category, so that declared ones may be among those added up."""
    table = profile.categories.get(f"feature.{short_name(name)}", {})
    return OTHER in table or len(seen.reference.categorical[name].shares) > MAX_CATEGORIES


def _absent(profile: Profile, name: str) -> str:
    if not profile.n:
        return "no events in this window"
    key = f"feature.{short_name(name)}"
    carried = key in profile.histograms or profile.categories.get(key)
    return "it is missing in every event" if carried else "the events do not carry it"


def _number(seen: Observed, profile: Profile, name: str) -> Described:
    feature = seen.reference.numeric[name]
    shares = np.array(feature.shares)
    histogram = profile.histograms.get(f"feature.{short_name(name)}")
    counts = np.zeros(len(shares)) if histogram is None else histogram[:-2].astype(np.float64)
    if len(counts) != len(shares):
        counts = np.zeros(len(shares))
    counts, shares = coarse(counts, shares)
    scores, gain = normal_scores(shares)
    return Described([], counts, shares, scores, gain, feature.n)


def normal_scores(shares: Array) -> tuple[Array, float]:
    """Mean of a standard normal within each bin, scaled to variance 1, and the mean a shift by one sd would have.

    Scores of ranks see a shift in whatever unit, and one absurd value moves their mean by little.
    """
    below = np.clip(np.concatenate(([0.0], np.cumsum(shares))), 0.0, 1.0)
    heights = np.exp(-(np.clip(ndtri(below), -40, 40) ** 2) / 2) / np.sqrt(2 * np.pi)
    inside = np.divide(heights[:-1] - heights[1:], shares, out=np.zeros_like(shares), where=shares > 0)
    gain = float(np.sqrt(shares @ inside**2)) or 1.0
    return inside / gain, gain


def _category(seen: Observed, profile: Profile, name: str) -> Described:
    feature = seen.reference.categorical[name]
    table = profile.categories.get(f"feature.{short_name(name)}", {})
    names, counts, shares = grouped(table, feature.shares)
    return Described(names, counts, shares, top_scores(names, shares), 1.0, feature.n)


def _judge(seen: Observed, season: Season, key: str, described: Described, total: Sum, tests: int) -> None:
    """Judge the season that ends here, and remember the outcome for the windows until the next judgement."""
    sizes = seen.remember(f"{key}/sizes", total.part_n)
    means = seen.remember(f"{key}/means", float(total.part @ described.scores / total.part.sum()))
    if not total.complete:
        return
    spread = inflation(np.array(means), np.array(sizes), season.parts)
    alpha = level(seen, season.span_us(seen), tests * STATISTICS)
    factor, doubtful = spread.at(alpha), False
    distance = _distance(described, total, factor, alpha)
    if not spread.known and not _drifted(distance):
        # What even independent rows would not make is no drift. What only they would not make may be one, or not.
        free = _distance(described, total, 1.0, alpha)
        doubtful = _drifted(free)
        distance, factor = (distance, factor) if doubtful else (free, 1.0)
    shift: list[float] = []
    if season.whole(seen):
        once = level(seen, season.span_us(seen) * season.parts, tests * STATISTICS)
        shift = _accumulate(seen, key, described, total, spread.at(once), once)
    kept = seen.memory.get(f"{key}/held", [0.0] * 11)[7:]
    seen.memory[f"{key}/held"] = [
        distance.estimate, distance.low, distance.high, distance.threshold, distance.n, factor, float(doubtful),
        *(shift or kept),
    ]  # fmt: skip


def _distance(described: Described, total: Sum, factor: float, alpha: float) -> Distance:
    n, m = max(total.n / factor, 1e-3), max(described.m, 1) / factor
    return jensen_shannon(total.counts, described.shares, n=n, m=m, alpha=alpha)


def _drifted(distance: Distance) -> bool:
    return distance.significant and distance.low > TOLERANCE


def _accumulate(seen: Observed, key: str, described: Described, total: Sum, factor: float, alpha: float) -> list[float]:
    """The cumulative sum of the season's mean score: whether it is out, and the shift since it began to rise."""
    shift = float(total.counts @ described.scores / total.counts.sum()) / described.gain
    error = (factor / total.n) ** 0.5 / described.gain
    # The reference's own error is the same in every season, so it is allowed for and not averaged out.
    allowed = SMALLEST_SHIFT + Z90 * (factor / max(described.m, 1)) ** 0.5 / described.gain
    limit = cusum_limit(alpha)
    up, down, weight, moment, out = seen.memory.get(f"{key}/cusum", [0.0] * 5)
    # Beyond the limit the sum says nothing more; without a ceiling it would take as long to fall as it rose.
    up = min(max(0.0, up + (shift - allowed) / error - ALLOWANCE), limit + 1)
    down = min(max(0.0, down + (-shift - allowed) / error - ALLOWANCE), limit + 1)
    if weight and abs(shift) + Z90 * error < abs(moment / weight) / 2:
        up = down = 0.0  # this season alone shows that most of the shift is gone
    # Once out it is so until the sum has halved, lest noise about the limit opens and closes it.
    out = float(max(up, down) > (limit / 2 if out else limit))
    weight, moment = (weight + 1 / error**2, moment + shift / error**2) if up or down else (0.0, 0.0)
    seen.memory[f"{key}/cusum"] = [up, down, weight, moment, out]
    since = moment / weight if weight else shift
    reach = Z90 / weight**0.5 if weight else Z90 * error
    return [out, since, reach, allowed]


def _told(
    seen: Observed, season: Season, name: str, described: Described, total: Sum, held: list[float] | None
) -> Verdict:
    left, right, told = _sides(seen, season, name, described, total)
    if not total.complete:
        return CHECK.unknown(filling(season), field=name, left=left)
    if held is None:
        return CHECK.unknown("the last season is judged when its part is complete", field=name, left=left)
    distance = Distance("jensen-shannon", *held[:5])
    factor, doubtful, out, shift, reach, allowed = held[5:]
    drifted = _drifted(distance)
    reason = DOUBT if doubtful and not out else too_little(distance, described.m, factor)
    if round(total.n) < seen.reference.minimum_n:
        reason = f"{total.n:.4g} observed values in effect, {seen.reference.minimum_n} are needed"
    if reason and not out:
        return CHECK.unknown(reason, field=name, left=left, right=right)
    if out and not drifted:
        size = abs(shift)
        effect = Effect(
            statistic="mean-shift", estimate=size, low=size - reach, high=size + reach, threshold=allowed, n=total.n
        )
        message = (
            f"{name} has shifted by {shift:.2g} sd (90% interval {shift - reach:.2g} to {shift + reach:.2g}) and stays "
            f"so; up to {allowed:.2g} sd is tolerated; {told}, in {total.n:.5g} values"
        )
    else:
        effect = effect_of(distance)
        message = (
            f"{name} no longer looks as declared: Jensen-Shannon divergence {distance.estimate:.3g} nats (90% interval "
            f"{distance.low:.3g} to {distance.high:.3g}, tolerance {TOLERANCE:.3g}); {told}, in {total.n:.5g} values"
        )
    if not (out or drifted):
        return CHECK.ok(field=name, left=left, right=right, effect=effect)
    evidence = seen.window.evidence()
    return CHECK.mismatch(message, field=name, left=left, right=right, effect=effect, evidence=evidence)


def _sides(seen: Observed, season: Season, name: str, described: Described, total: Sum) -> tuple[Side, Side, str]:
    n = float(f"{total.n:.6g}")
    if described.names:
        sums = zip(described.names, total.counts, strict=True)
        now = {v: round(float(c / total.counts.sum()), 4) for v, c in sums if c or v != OTHER}
        shares = {v: round(float(s), 4) for v, s in zip(described.names, described.shares, strict=True) if s}
        now, shares, told = told_shares(seen, name, now, shares)
        left = Side(f"{FEATURES}.{name}.categories", shares, n=described.m)
        return left, Side(f"telemetry.features.{name}.categories", now, n=n), told
    feature = seen.reference.numeric[name]
    mean = _mean(seen, season, name)
    left = Side(f"{FEATURES}.{name}.mean", feature.mean, feature.unit, n=described.m)
    told = "" if mean is None else f"now {mean:.4g}, declared {feature.mean:.4g} {feature.unit}".rstrip()
    return left, Side(f"telemetry.features.{name}.mean", mean, feature.unit, n=n), told


def _mean(seen: Observed, season: Season, name: str) -> float | None:
    """The mean over the season, or the block, in the feature's unit, six digits."""
    found = moments(seen.block or seen.window if season.blockwise else seen.window, name, seen.reference.numeric[name])
    sums = np.zeros(2) if found is None else np.array([found[0], found[0] * found[1]])
    weight, value = over_season(seen, season, f"{CHECK.id}/{name}/moments", sums, 0.0).counts
    return float(f"{value / weight:.6g}") if weight else None


CHECK = Check(
    id="covariate-drift",
    title="Features as in training",
    owner="data scientist",
    remedy="look at the features named; retrain only if quality falls",
    aliases=("tec:15",),
    design=design,
    live=live,
)
