"""Readings of the accuracy from audited labels: of closed windows, sharpened by what is known of all traffic.

The proxy f of an answer is its calibrated confidence in steps, 0 without an answer. Its mean over all traffic of a
block is known, so the audits need only tell by how much correctness y differs from it:

    accuracy = lambda F + sum w (y - lambda f) / sum w,    w = 1 / propensity

which is unbiased whatever f is worth, and as sharp as the part of y that f does not explain. lambda is fitted to all
closed windows in memory, with a belief in the registered calibration that counts as much as TRUST audits. Sources:
prediction-powered inference with power tuning, Angelopoulos et al. 2023, arXiv:2311.01453; Hajek 1971 for the ratio.

Labels of windows still open are read too, once the delays of wrong and of right answers are known: each label that
came then stands for 1 / (share of its outcome that has come by now), and the interval holds the error of that, too.
"""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from models.closed_windows import Delays, Mark, closed
from models.distance import Z90
from models.fixed_point import WEIGHT
from models.label_sampling import PROXIES
from models.quality import Estimate, wilson
from models.reference import Reference

if TYPE_CHECKING:
    from models.evidence import Evidence

AUDIT_BLOCK = 20  # labels that make a reading; fewer are joined with those of the following windows
TRUST = 50.0  # audits that the belief in a calibrated proxy counts for
LEAST_ARRIVED = 0.3  # share of either outcome that must have come before labels of an open window are read


class Audited(NamedTuple):
    """Sums over the audits of one or more windows: w = 1 / propensity, y correctness, f proxy, F mean proxy of traffic.

    `missing` is the share of labels, by weight, that were asked for and never came.
    """

    n: float = 0.0
    w: float = 0.0
    wy: float = 0.0
    wf: float = 0.0
    ww: float = 0.0
    wwy: float = 0.0
    wwf: float = 0.0
    wwff: float = 0.0
    wwyf: float = 0.0
    traffic: float = 0.0  # sum of w F
    missing: float = 0.0

    @property
    def kish(self) -> float:
        """What unequal weights leave of the audits."""
        return self.w**2 / self.ww


def audits_of(windows: Sequence["Evidence"]) -> Audited:
    """The audits of these windows together."""
    sums, traffic, asked, came = [0.0] * 9, 0.0, 0, 0
    for window in windows:
        if not window.moments:
            continue
        sums = [a + b / WEIGHT for a, b in zip(sums, window.moments, strict=True)]
        mean = window.proxy / (2 * PROXIES) / window.weight if window.weight else 0.0
        traffic += window.moments[1] / WEIGHT * mean
    for window in windows:
        asked, came = asked + window.asked_weight, came + window.audit_asked_weight
    lost = max(asked - came, 0) / asked if asked else 0.0
    return Audited._make((*sums, traffic, lost))


class Power(NamedTuple):
    """How far the proxy is used, and what an audit is worth beside one of equal weight without a proxy."""

    coefficient: float = 0.0
    worth: float = 1.0


def power(found: Audited) -> Power:
    """Fitted to the audits of all closed windows in memory."""
    n = found.n
    if n < 2:
        return Power()
    y, f = found.wy / found.w, found.wf / found.w
    # What counts is the spread of the weighted mean, so squares weigh by the square of the weight.
    vy = (found.wwy * (1 - 2 * y) + y * y * found.ww) / found.ww
    vf = (found.wwff - 2 * f * found.wwf + f * f * found.ww) / found.ww
    cov = (found.wwyf - y * found.wwf - f * found.wwy + y * f * found.ww) / found.ww
    told = vf > 1e-9
    best = min(max(cov / vf, 0.0), 1.0) if told else 0.0
    used = (found.kish * best + TRUST) / (found.kish + TRUST) if told else 0.0
    left = max(vy - 2 * used * cov + used**2 * vf, 0.0)
    plain = max(y * (1 - y), 0.5 / n)
    if left >= plain:
        used, left = 0.0, max(vy, 0.0)
    # Believed as the audits it rests on, beside TRUST of no gain: few audits show a gain by luck.
    spread = (n * max(left, 0.5 / n) + TRUST * plain) / (n + TRUST) * n / found.kish
    return Power(used, plain / spread)


def estimate_of(found: Audited, use: Power, *, at_random: bool = False) -> Estimate:
    """Accuracy of the traffic that these audits are of, with its 90% interval; what is missing counts both ways."""
    if not found.n:
        return Estimate(n=0, reason="no audited labels in this window")
    n = round(found.n)
    value = (found.wy - use.coefficient * (found.wf - found.traffic)) / found.w
    value = min(max(value, 0.0), 1.0)
    effective = n * use.worth
    low, high = wilson(value, max(effective, 1.0))
    lost = 0.0 if at_random else found.missing
    if lost:
        low, high = low * (1 - lost), high * (1 - lost) + lost
        # What the filter weighs the reading by: the n whose sampling noise is as wide as the interval.
        level = min(max(value, 0.5 / n), 1 - 0.5 / n)
        effective = min(effective, level * (1 - level) * (2 * Z90 / (high - low)) ** 2)
    return Estimate(estimate=value, low=low, high=high, n=n, basis="labels", n_effective=effective)


def open_estimate(found: Audited, arrived: tuple[float, float], known: tuple[float, float]) -> Estimate:
    """Accuracy from a window whose labels are still coming: `arrived` are the shares (wrong, right) that have come.

    `known` counts the labels (wrong, right) that the shares were learned from. The interval is that of the log odds.
    """
    kish, share = found.kish, min(max(found.wy / found.w, 0.0), 1.0)
    right, wrong = kish * share / arrived[1], kish * (1 - share) / arrived[0]
    value = right / (right + wrong)
    # Half a label more of either kind keeps the interval apart from 0 and 1; the value itself needs it not.
    more_right, more_wrong = kish * share + 0.5, kish * (1 - share) + 0.5
    odds = math.log(more_right / arrived[1]) - math.log(more_wrong / arrived[0])
    learned = sum((1 - g) / g / max(n, 1.0) for g, n in zip(arrived, known, strict=True))
    se = math.sqrt(1 / more_wrong + 1 / more_right + learned)
    low, high = (1 / (1 + math.exp(-(odds + d))) for d in (-Z90 * se, Z90 * se))
    level = min(max(value, low), high)
    return Estimate(
        estimate=value, low=min(low, value), high=max(high, value), n=round(found.n), basis="labels",
        n_effective=min(1 / (level * (1 - level) * se**2), kish),
    )  # fmt: skip


def mark(ring: Sequence["Evidence"], reference: Reference) -> None:
    """Note, with every window in memory, whether its labels may be counted and how, when the last one is the newest."""
    if not any(e.audits or e.asked for e in ring):
        return
    length, declared_us, now = reference.window_us, reference.labels.delay_us, ring[-1].start
    delays = Delays(ring, now, length)
    is_closed = [closed(e, delays, now, length, declared_us) for e in ring]
    use = power(audits_of([e for e, so in zip(ring, is_closed, strict=True) if so]))
    declared = None if declared_us is None else -(-declared_us // length)
    wrong, right = delays.labels.tolist()
    for window, so in zip(ring, is_closed, strict=True):
        shares = None if so else delays.arrived((now - window.start) // length, declared)
        window.mark = Mark(so, shares, (wrong, right), use.coefficient, use.worth)


def audit_readings(
    windows: Sequence["Evidence"], reference: Reference, begun: "Evidence | None" = None
) -> dict[int, Estimate]:
    """Readings by number of the window they are for: of closed windows in blocks, of open ones each by itself.

    All windows must have been marked. `begun` is an unfinished block of closed windows before these.
    """
    length, found = reference.window_us, {}
    for block in audit_blocks(windows, begun):
        last = block[-1]
        use = Power(last.mark.coefficient, last.mark.worth)
        found[last.start // length] = estimate_of(audits_of(block), use, at_random=reference.labels.missing_at_random)
    for window in windows:
        shares = window.mark.arrived
        if shares is not None and min(shares) >= LEAST_ARRIVED and window.audits >= AUDIT_BLOCK:
            found[window.start // length] = open_estimate(audits_of([window]), shares, window.mark.learned)
    return found


def audit_blocks(windows: Sequence["Evidence"], begun: "Evidence | None" = None) -> Iterator[list["Evidence"]]:
    """Closed windows in a row that together have AUDIT_BLOCK audits; an unfinished block says nothing yet."""
    block = [] if begun is None else [begun]
    for window in windows:
        if not window.mark.closed:
            continue
        block.append(window)
        if sum(e.audits for e in block) >= AUDIT_BLOCK:
            yield block
            block = []
