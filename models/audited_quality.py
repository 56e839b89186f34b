"""What all audits since a registration say together: an interval that always holds, and a watch on the concept.

Fed with the closed windows of one subject in their order, and nothing else: a sequence that took labels by arrival
would be as biased as an average of them. The audits of a window are put in an order that knows nothing of the labels.
Where an interval of the label-free estimate is known, labels that contradict its lower end raise the concept's flag.
"""

import math
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.closed_windows import Delays, closed
from models.columns import Subject
from models.concept import ConceptState, ConceptWatch
from models.evidence import Evidence
from models.label_sampling import PROXIES, STEP
from models.prediction_powered import UNIT, AuditedAccuracy, AuditedState, Traffic
from models.profile_audits import cells_of
from models.reference import Reference

Floats = NDArray[np.float64]
MOST = 500  # audits of a window that are used; of more a part drawn at random
CELLS = 500  # candidates of the mean per unit: the interval is rounded outwards to them
USUAL_BET = 0.16  # on a change of middling size, in the sum that tells when it began
CALM = 400  # labels without another flag after which the concept counts as unchanged again


class Flag(msgspec.Struct, frozen=True):
    """Labels that contradict the label-free estimate: how many, how good, and the mean lower end they are beside."""

    n: int
    right: int
    low: float
    start: int  # of the window of the first of them
    end: int  # of the window of the last


class AuditedQuality(msgspec.Struct):
    """The state, one per model version. Only add fields, with defaults."""

    digest: str | None = None  # of the registration it speaks of
    since: int | None = None  # start of the first window with audits
    until: int | None = None  # start of the newest window that is closed, with all before it
    left_out: int = 0  # audits whose probability of being asked for is not known well enough
    missing: int = 0  # of the audits in `sequence`: labels that were asked for and never came
    sequence: AuditedState | None = None
    concept: ConceptState | None = None
    against: Flag | None = None  # the labels behind the evidence that has gathered so far
    flag: Flag | None = None
    calm: int = 0  # labels since the flag
    change: float = 0.0  # cumulative sum that tells when a change began

    def follow(self, ring: Sequence[Evidence], reference: Reference, subject: Subject) -> None:
        """Take the windows that have closed since, and drop their cells; the newest of `ring` tells how late it is.

        Only all traffic of a described version is followed; the cells of others are dropped at once.
        """
        followed = reference.registered and not subject.segment
        if followed:
            self._follow(ring, reference, subject)
        for window in ring:
            if not followed or (self.until is not None and window.start <= self.until):
                window.cells, window.asked_cells = {}, {}

    def _follow(self, ring: Sequence[Evidence], reference: Reference, subject: Subject) -> None:
        if self.digest != reference.digest:
            fresh = AuditedQuality(reference.digest, until=self.until)
            for name in self.__struct_fields__:
                setattr(self, name, getattr(fresh, name))
        if not any(e.audits for e in ring):
            return
        delays, now, length = Delays(ring, ring[-1].start, reference.window_us), ring[-1].start, reference.window_us
        for window in ring:
            if self.until is not None and window.start <= self.until:
                continue
            if not closed(window, delays, now, length, reference.labels.delay_us):
                break
            self.until = window.start
            if window.audits:
                self._take(window, reference, subject)

    def interval(self) -> tuple[float, float, float, float, int] | None:
        """Time-uniform 95% intervals of the accuracy: whatever it did meanwhile, and if it kept its distance from the
        proxy; with the number of audits. None before the first.
        """
        if self.sequence is None:
            return None
        found = AuditedAccuracy.from_state(self.sequence)
        return (*found.interval(steady=False), *found.interval(), found.n)

    def _take(self, window: Evidence, reference: Reference, subject: Subject) -> None:
        found = _cohort(window, reference)
        if found is None:
            self.left_out += window.audits
            return
        self.since = window.start if self.since is None else self.since
        seed = zlib.crc32("\x00".join((*subject, str(window.start))).encode())
        order = np.random.default_rng(seed).permutation(len(found.correct))[:MOST]
        accuracy = AuditedAccuracy(cells=CELLS) if self.sequence is None else AuditedAccuracy.from_state(self.sequence)
        accuracy.update(found.traffic, found.correct[order], found.proxy[order], found.propensity[order])
        self.sequence = accuracy.state
        self.missing += int(np.isnan(found.correct[order]).sum())
        self._watch(window, reference, found, order)

    def _watch(self, window: Evidence, reference: Reference, found: "_Cohort", order: NDArray[np.int64]) -> None:
        low = window.label_free(reference).low if window.n >= reference.minimum_n else None
        watch = ConceptWatch() if self.concept is None else ConceptWatch.from_state(self.concept)
        weight = found.traffic.mean_propensity / found.propensity
        for i in order.tolist():
            # A label that never came counts as right here: it must not raise a flag.
            right = bool(np.isnan(found.correct[i]) or found.correct[i])
            watch.update(right, low, float(weight[i]), found.largest)
            if low is None:
                continue
            self._gather(window, reference, right, low)
            self.calm += 1
            if watch.flagged:
                self.flag, self.against, self.calm, self.change = self.against, None, 0, 0.0
            elif self.calm >= CALM:
                self.flag = None
        self.concept = watch.state

    def _gather(self, window: Evidence, reference: Reference, right: bool, low: float) -> None:
        """Keep the labels since the likeliest beginning of a change: since a cumulative sum was last at zero."""
        gain = (low - right) / (1 - low) if low < 1 else 0.0
        self.change = max(self.change + math.log1p(USUAL_BET * gain), 0.0)
        if self.change == 0.0 or self.against is None:
            self.against = Flag(0, 0, 0.0, window.start, window.start)
        if self.change > 0.0:
            seen, end = self.against, window.start + reference.window_us
            mean = (seen.low * seen.n + low) / (seen.n + 1)
            self.against = Flag(seen.n + 1, seen.right + right, mean, seen.start, end)


class _Cohort(NamedTuple):
    traffic: Traffic
    correct: Floats
    proxy: Floats
    propensity: Floats
    largest: float  # weight that an audit can have


def _cohort(window: Evidence, reference: Reference) -> _Cohort | None:
    """The audits of a closed window with what a sequence must know beforehand; None where it cannot be known."""
    found, plan = cells_of(window.cells, window.asked_cells), reference.labels.plan
    if found.spilt or not window.weight or not window.n:
        return None
    used = found.asked if window.asked else ~found.asked
    if reference.labels.missing_at_random:
        used &= ~np.isnan(found.correct)
    correct, proxy, propensity = (column[used] for column in found[:3])
    if not len(correct) or len(correct) > window.n:
        return None
    if window.asked and plan is not None:
        rate = window.asked_propensity * STEP / window.n
        # What was asked for at most is no more than what may be asked for: a bound that is too wide, at worst.
        limited = msgspec.structs.replace(plan, ceiling=float(propensity.max()))
        right, wrong = limited.surprises()
        largest = rate / limited.least
    elif np.ptp(propensity) > 1e-9 * propensity[0]:
        return None  # who was more likely to be labelled is not known of the rest of the traffic
    else:
        rate = float(propensity[0])
        right = wrong = 1 / rate
        largest = 1.0
    if ((proxy / propensity) > right * (1 + 1e-9)).any() or (((1 - proxy) / propensity) > wrong * (1 + 1e-9)).any():
        return None  # asked for under another plan than the one that is registered now
    mean = window.proxy / (2 * PROXIES) / window.weight
    traffic = Traffic(
        n=window.n,
        proxy=round(mean * window.n * UNIT),
        propensity=round(rate * window.n * UNIT),
        right=right,
        wrong=wrong,
    )
    return _Cohort(traffic, correct, proxy, propensity, largest)
