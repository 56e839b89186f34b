"""Did a feature change its unit, its scale, or its place?

| | |
|---|---|
| left | `training_data.bestbefore.features.<f>`: mean, sd, unit, channel |
| right | the window's mean and sd of the feature |
| statistic | a and b of x' = a x + b, from both moments: a = sd' / sd, b = mean' - a mean |
| mismatch | the feature moved away, and a known conversion explains the move within 2% and sampling noise: another unit of the same kind (pint), a factor of 100, 255, 1000, a shift of a clock by whole hours; or two features have exchanged their places |
| unknown | no moments in the reference, fewer than 200 values |

Only conversions that are used by mistake are tried, so a world that truly changed is not called a unit error: a shift
leaves the sd as it was, and few shifts are those of Celsius to Kelvin. Features with a declared unit are tried with
conversions of that unit, others with all. A transform has its name, and the event has a, b and their 90% intervals.
"""

import math
from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

from models.checks.check import Check
from models.checks.observed import Observed
from models.checks.verdict import Effect, Side, Verdict
from models.conversions import Conversion, conversions
from models.distance import Z90
from models.profile import Profile, moments
from models.reference import NumericFeature

FEATURES = "training_data.bestbefore.features"
TOLERANCE = 0.02
ENOUGH = 200
MOVED, STRETCHED = 0.5, 1.25  # in sd of the reference, and as a ratio of sds: less is no change of unit
MAX_PAIRS = 30  # features that moved, among which exchanged ones are looked for
KURTOSIS = 2.0  # allowance for tails heavier than a normal's in the error of an sd


class Seen(NamedTuple):
    """Moments of a feature in the window, in its declared unit, and their relative errors."""

    name: str
    feature: NumericFeature
    n: float
    mean: float
    sd: float

    @property
    def mean_error(self) -> float:
        """Standard error of the mean, reference included."""
        m = max(self.feature.n, 2)
        return math.sqrt(self.sd**2 / self.n + (self.ratio * self.feature.sd) ** 2 / m)

    @property
    def sd_error(self) -> float:
        """Relative standard error of the ratio of sds."""
        return math.sqrt(KURTOSIS / (2 * self.n) + KURTOSIS / (2 * max(self.feature.n, 2)))

    @property
    def ratio(self) -> float:
        """a of x' = a x + b."""
        return self.sd / self.feature.sd

    @property
    def offset(self) -> float:
        """b of x' = a x + b."""
        return self.mean - self.ratio * self.feature.mean


def live(seen: Observed) -> Iterator[Verdict]:
    """One verdict per numeric feature with moments, and one per pair that changed places."""
    known = {k: f for k, f in sorted(seen.reference.numeric.items()) if f.n and f.sd > 0 and f.shares}
    if not known:
        yield CHECK.unknown(f"no feature under {FEATURES} has a mean, an sd and an n")
        return
    if seen.block is None:
        yield CHECK.unknown(seen.filling)
        return
    moved: list[Seen] = []
    quiet: list[Verdict] = []
    for name, feature in known.items():
        now = _moments(seen.block, name, feature)
        if now is None or now.n < ENOUGH:
            reason = f"{0 if now is None else now.n:.6g} values, {ENOUGH} are needed"
            yield CHECK.unknown(reason, field=name)
        elif _moved(now):
            moved.append(now)
        else:
            quiet.append(CHECK.ok(field=name, **_sides(now, None)))
    yield from quiet
    exchanged = list(_exchanged(moved[:MAX_PAIRS]))
    taken = {name for pair in exchanged for name in (pair[0].name, pair[1].name)}
    for first, second in exchanged:
        yield _pair(first, second, seen.block)
    for now in moved:
        if now.name not in taken:
            yield _explained(now, seen.block)


def _moments(block: Profile, name: str, feature: NumericFeature) -> Seen | None:
    found = moments(block, name, feature)
    return None if found is None else Seen(name, feature, *found)


def _moved(now: Seen) -> bool:
    shift = abs(now.mean - now.feature.mean) / now.feature.sd
    return shift > MOVED or not 1 / STRETCHED < now.ratio < STRETCHED


def fits(now: Seen, conversion: Conversion) -> bool:
    """Whether the conversion explains both moments within TOLERANCE and sampling noise."""
    a, b = conversion.factor, conversion.offset
    mean, sd = a * now.feature.mean + b, abs(a) * now.feature.sd
    slack = TOLERANCE * max(abs(mean - now.feature.mean), sd) + 2 * now.mean_error
    return abs(now.sd / sd - 1) <= TOLERANCE + 2 * now.sd_error and abs(now.mean - mean) <= slack


def _misfit(now: Seen, conversion: Conversion) -> float:
    """How far both moments are from what the conversion makes of the reference, in standard errors."""
    mean, sd = conversion.factor * now.feature.mean + conversion.offset, abs(conversion.factor) * now.feature.sd
    return math.hypot((now.sd / sd - 1) / now.sd_error, (now.mean - mean) / now.mean_error)


def _explained(now: Seen, block: Profile) -> Verdict:
    found = [c for c in conversions(now.feature.unit) if fits(now, c)]
    if not found:
        return CHECK.ok(field=now.name, **_sides(now, None))
    best = min(found, key=lambda c: _misfit(now, c))
    return CHECK.mismatch(
        f"{now.name} arrives {best.name}: its values are {best.factor:.6g} times the declared ones"
        f"{f' plus {best.offset:.6g}' if best.offset else ''} (measured {now.ratio:.4g} and {now.offset:.4g}, "
        f"n {now.n:.6g})",
        field=now.name, evidence=block.evidence(), **_sides(now, best),
    )  # fmt: skip


def _sides(now: Seen, conversion: Conversion | None) -> dict[str, Side | Effect]:
    feature = now.feature
    reach = Z90 * now.sd_error * now.ratio
    declared = {"mean": feature.mean, "sd": feature.sd}
    measured = {"mean": now.mean, "sd": now.sd, "a": now.ratio, "b": now.offset}
    if conversion is not None:
        measured |= {"transform_a": conversion.factor, "transform_b": conversion.offset}
    return {
        "left": Side(f"{FEATURES}.{now.name}", declared, feature.unit, n=feature.n),
        "right": Side(f"telemetry.features.{now.name}", {k: float(f"{v:.6g}") for k, v in measured.items()}, n=now.n),
        "effect": Effect(
            statistic="a of x' = a x + b", estimate=now.ratio, low=now.ratio - reach, high=now.ratio + reach,
            threshold=1.0, n=now.n,
        ),
    }  # fmt: skip


def _exchanged(moved: list[Seen]) -> Iterator[tuple[Seen, Seen]]:
    """Pairs in which each has the moments of the other's reference."""
    taken: set[str] = set()
    for one, other in combinations(moved, 2):
        if one.name in taken or other.name in taken or one.feature.channel != other.feature.channel:
            continue
        if _like(one, other.feature) and _like(other, one.feature):
            taken |= {one.name, other.name}
            yield one, other


def _like(now: Seen, feature: NumericFeature) -> bool:
    near = abs(now.mean - feature.mean) <= TOLERANCE * 5 * feature.sd + 2 * now.mean_error
    return near and abs(now.sd / feature.sd - 1) <= TOLERANCE * 5 + 2 * now.sd_error


def _pair(one: Seen, other: Seen, block: Profile) -> Verdict:
    return CHECK.mismatch(
        f"{one.name} and {other.name} have exchanged their places: each has the mean and sd of the other (channel order, "
        "column order?)",
        field=f"{one.name}<->{other.name}", evidence=block.evidence(), **_sides(one, None),
    )  # fmt: skip


CHECK = Check(
    id="unit-scale-encoding",
    title="The same unit, scale and order",
    owner="data engineer",
    remedy="convert at the source that changed; retraining would learn the mistake",
    action="fix-pipeline",
    severity="critical",
    live=live,
)
