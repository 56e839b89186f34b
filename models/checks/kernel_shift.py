"""How far apart are the kernel means of a window and of the reference, and who makes the difference?

Under no change the squared distance is a weighted sum of chi-squares whose weights are the eigenvalues of the covariance
of the features within classes; its quantile comes from the first three traces. Sources: Gretton et al. 2012 (maximum
mean discrepancy, MMD); Imhof 1961 (three-moment approximation, after Pearson).
"""

import math
from typing import NamedTuple

from scipy.special import chdtri

from models.distance import Z90
from models.profile import WEIGHT, Profile
from models.profile_kernel import CLASS, SEGMENT, SUPPORTED, KernelSums, Part, kernel_sums, parts
from models.quality import wilson
from models.random_features import KernelReference
from models.usual_segments import Usual

MOST_NAMED, LEAST_NAMED = 3, 0.1  # contributors that a message names, and the least part that is worth it
KNOWN_CLASSES = 0.5  # share of inputs from which their classes are known well enough


class KernelShift(NamedTuple):
    """Distance of kernel means (no unit, 0 to 2): interval, noise level, and from where it matters.

    `squared` is its unbiased square, which may be negative, and `score` that in standard deviations under no change.
    """

    estimate: float
    low: float
    high: float
    noise: float
    limit: float
    n: float
    squared: float
    score: float
    by_class: bool  # whether the classes of most inputs are known, and so are their means

    @property
    def drifted(self) -> bool:
        """Is it beyond chance and the tolerance?"""
        return self.estimate > self.noise and self.low > self.limit


class Support(NamedTuple):
    """Share of inputs whose nearest class is as near as to nineteen of twenty reference inputs, with its interval."""

    share: float
    low: float
    high: float
    n: float


def kernel_shift(
    known: KernelReference, whole: KernelSums, block: Profile, factor: float, alpha: float, mix: float
) -> KernelShift:
    """`factor` is what dependence leaves of n, `mix` the root of the chi-square distance of the class mixes.

    Where the classes of most inputs are not known, the mix may explain `mix` times the spread (Cauchy and Schwarz).
    """
    one, two, three = known.traces
    at_reference, unknown = _penalty(known, block, whole), _unknown(known, block, whole)
    squared = (float(whole.mean @ whole.mean) - whole.spread / whole.n) / max(1 - 1 / whole.n, 1e-9)
    within = max(whole.spread - max(squared, 0.0), 0.0)
    squared -= within * (factor - 1) / whole.n + one * at_reference
    # Inputs that spread wider than the reference's have a noisier mean.
    unit = max(1.0, within / one) * (factor / whole.n + at_reference)
    sd = unit * math.sqrt(2 * two)
    freedom = two**3 / three**2
    noise = sd * (float(chdtri(freedom, alpha)) - freedom) / math.sqrt(2 * freedom)
    reach = Z90 * math.sqrt(sd**2 + 4 * math.sqrt(two) * unit * max(squared, 0.0))
    by_class = unknown <= 1 - KNOWN_CLASSES
    limit = known.tolerance + (0.0 if by_class else mix * math.sqrt(max(whole.spread, one)))
    low, high = max(squared - reach, 0.0), max(squared + reach, 0.0)
    return KernelShift(
        estimate=math.sqrt(max(squared, 0.0)), low=math.sqrt(low), high=math.sqrt(high), noise=math.sqrt(max(noise, 0)),
        limit=limit, n=whole.n, squared=squared, score=squared / sd, by_class=by_class,
    )  # fmt: skip


def _penalty(known: KernelReference, block: Profile, whole: KernelSums) -> float:
    """1 / m of the expected mean: the means of rare classes of the reference are less certain when they are common."""
    m = max(known.n, 1)
    if not known.labels:
        return 1 / m
    now = {part.name: part.share for part in parts(block, CLASS, whole)}
    declared = dict(zip(known.labels, known.shares, strict=True))
    rest_now, rest = max(1 - sum(now.values()), 0.0), max(1 - sum(declared.values()), 0.0)
    spent = sum(share**2 / max(declared.get(name, 0.0), 1 / m) for name, share in now.items())
    return (spent + rest_now**2 / max(rest, 1 / m)) / m


def _unknown(known: KernelReference, block: Profile, whole: KernelSums) -> float:
    """Share of inputs that are compared with the reference as a whole."""
    return 1 - sum(part.share for part in parts(block, CLASS, whole)) if known.labels else 1.0


def support_of(known: KernelReference, block: Profile) -> Support | None:
    """The support share of a block; None without inputs, or without a limit."""
    whole = kernel_sums(block, known.features)
    if whole is None or known.support is None:
        return None
    share = min(block.counts.get(SUPPORTED, 0) / WEIGHT / whole.weight, 1.0)
    low, high = wilson(share, whole.n)
    return Support(share, low, high, whole.n)


def contributions(
    block: Profile, prefix: str, whole: KernelSums, usual: Usual | None = None, key: str = ""
) -> list[tuple[Part, float]]:
    """Parts by what each makes of the squared distance, the largest first; all of them add up to 1.

    |mean|^2 = sum of <pull, mean> over parts. A part's own noise, which its share of the inputs makes, is taken off.
    Where `usual` is known, mean and pulls are what has changed since.
    """
    before = usual.known(key) if usual is not None else None
    mean, known = (whole.mean, {}) if before is None else (whole.mean - before[0], before[1])
    noise = whole.spread / whole.n
    total = float(mean @ mean) - noise
    if total <= 0:
        return []
    made = [
        (part, (float((part.pull - known.get(part.name, 0.0)) @ mean) - part.share * noise) / total)
        for part in parts(block, prefix, whole)
    ]
    return sorted(made, key=lambda found: (-found[1], found[0].name))


def told(block: Profile, whole: KernelSums, usual: Usual | None, key: str) -> str:
    """Which classes and segments make most of it, in words; empty where none stands out."""
    segments = contributions(block, SEGMENT, whole, usual, key)
    named = [
        f"{of} {part.name!r} makes {made:.2g} of it with a share of {part.share:.2g} of the inputs"
        for of, found in (("segment", segments), ("predicted class", contributions(block, CLASS, whole)))
        for part, made in found[:MOST_NAMED]
        if made >= max(LEAST_NAMED, 1.5 * part.share)
    ]
    return f"; {', '.join(named)}" if named else ""
