"""Shared by the checks of drift: how often they may be wrong, and what n is worth when values depend on each other.

The promise is `system_context.bestbefore.false_alarms`, such as `1 per 90 days` for a whole deployment. Half of it is
for changes in time (`models.change`), half for differences from what was declared: that half is divided equally among
the checks of drift, their fields and their statistics, and from there over time.
"""

import math
import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import chdtri, fdtri, ndtri, stdtrit

from models.checks.observed import Observed
from models.units import DAY_US, duration_us

FALSE_ALARMS = "system_context.bestbefore.false_alarms"
DEFAULT = 1 / (90 * DAY_US)
CHANGE_PART, CHECKS_PART = 0.5, 0.5  # of the promise
CHECKS = 3  # of drift: of features, embeddings and classes
_PROMISE = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*(?:per|/|in)\s*(.+?)\s*")
# Rows with autocorrelation 0.9 are worth (1 + 0.9) / (1 - 0.9) = 19 times fewer independent ones. So dependent they
# are taken to be until KNOWN differences between blocks say otherwise.
PRIOR, KNOWN = 19.0, 8
GROUPS = (1, 2, 4)  # blocks are also joined before they are compared: what depends over one block shows over four


def promised_rate(seen: Observed) -> float:
    """False alarms per microsecond that the deployment may see. Raises ValueError for text that is no rate."""
    text = seen.value(FALSE_ALARMS)
    if text is None:
        return DEFAULT
    found = _PROMISE.fullmatch(str(text))
    if found is None or float(found.group(1)) <= 0:
        raise ValueError(f"{FALSE_ALARMS}: {text!r} is no rate; write a count and a duration, as in '1 per 90 days'")
    length = found.group(2)
    return float(found.group(1)) / duration_us(length if length[0].isdigit() else f"1 {length}")


def level(seen: Observed, span_us: int, tests: int) -> float:
    """Probability of a false alarm that one of `tests` judgements may have, each made once in `span_us`."""
    return min(promised_rate(seen) * CHECKS_PART * span_us / (CHECKS * max(tests, 1)), 0.05)


class Inflation(NamedTuple):
    """Variance of a mean in units of what independent rows give, from `known` differences between blocks."""

    factor: float
    known: int

    @property
    def freedom(self) -> float:
        """Differences of neighbours overlap, which leaves two thirds of them: von Neumann 1941."""
        return 2 * self.known / 3

    def at(self, alpha: float) -> float:
        """The factor to divide n by in a test of level `alpha`: an estimated variance needs Student's quantile."""
        if self.known < KNOWN:
            return max(self.factor, 1.0)
        wider = float(stdtrit(self.freedom, 1 - alpha / 2) / ndtri(1 - alpha / 2))
        return max(self.factor, 1.0) * wider**2

    def shown(self, alpha: float) -> float:
        """`at`, for values that are taken to be independent until blocks differ more than chance lets them (1%)."""
        dependent = self.known >= KNOWN and self.factor * self.freedom > float(chdtri(self.freedom, 0.01))
        return self.at(alpha) if dependent else 1.0


def inflation(means: NDArray[np.float64], sizes: NDArray[np.float64], season: int = 1) -> Inflation:
    """How much more the means of blocks vary than independent rows of unit variance would let them.

    Means are compared with those one season (`season` blocks) earlier, so that neither a cycle nor a lasting shift
    counts; before two seasons are known with their neighbours, where a cycle does count: too large is safe. Joined
    blocks (batch means) show dependence that outlasts one. Squares beyond six times their centre are cut there, so
    that a step hardly counts.
    """
    seasonal = len(means) - season >= KNOWN
    best = Inflation(PRIOR, 0)
    for group in GROUPS:
        lag = season // group if seasonal and season % group == 0 else 1
        if group > 1 and season > 1 and (not seasonal or season % group):
            continue
        squares = _differences(*_joined(means, sizes, group), lag)
        if len(squares) < KNOWN * min(group, 2):
            continue
        centre = float(np.median(squares)) / 0.4549  # the median of chi2 with one degree of freedom
        found = Inflation(float(np.minimum(squares, 6 * max(centre, 1e-12)).mean()), len(squares))
        # The fewer differences of joined blocks are only believed where they differ beyond chance (5%).
        if best.known == 0 or found.factor > best.factor * float(fdtri(found.freedom, best.freedom, 0.95)):
            best = found
    return best


def _joined(
    means: NDArray[np.float64], sizes: NDArray[np.float64], group: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    kept = len(means) // group * group
    if not kept:
        return means[:0], sizes[:0]
    m, s = means[-kept:].reshape(-1, group), sizes[-kept:].reshape(-1, group)
    total = s.sum(1)
    return (m * s).sum(1) / total, total


def _differences(means: NDArray[np.float64], sizes: NDArray[np.float64], lag: int) -> NDArray[np.float64]:
    """Squares of differences that have mean 1 for independent rows of unit variance."""
    found: NDArray[np.float64] = (means[lag:] - means[:-lag]) ** 2 / (1 / sizes[lag:] + 1 / sizes[:-lag])
    return found


ALLOWANCE = 0.5  # of the cumulative sum, in standard errors


def cusum_limit(alpha: float) -> float:
    """The limit that a two-sided cumulative sum exceeds once in 1 / `alpha` steps while nothing changes.

    Siegmund 1985, Sequential Analysis, 2.6: with b = h + 1.166 and allowance k, one side runs
    (exp(2 k b) - 2 k b - 1) / (2 k^2) steps.
    """
    target = 2 * ALLOWANCE**2 * 2 / alpha
    # Below: exp(x) - x - 1 = target has one positive root, and log(target + 2) + 2 is beyond it.
    root = float(brentq(lambda x: math.expm1(x) - x - target, 1e-9, math.log(target + 2) + 2))
    return max(root / (2 * ALLOWANCE) - 1.166, 1.0)
