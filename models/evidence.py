"""What a window says about quality, kept as sums for the last windows, and read as input of the forecast.

Late labels belong to the window of their inference, so a record may still grow after it was assessed.
"""

from collections.abc import Iterator, Sequence

import msgspec

from models.distance import effective
from models.forecast import MEMORY, Reading, reading
from models.induced_evidence import RARE, InducedSums, bound, induced_estimate
from models.profile import UNIT, WEIGHT, Profile
from models.quality import Estimate, audited, label_free
from models.reference import Reference

AUDIT_BLOCK = 20  # labels that make a reading; fewer are joined with those of the following windows


class Evidence(msgspec.Struct):
    """The sums of one window, in the fixed point of `Profile`."""

    start: int
    n: int = 0
    weight: int = 0
    scored: int = 0
    confidence: int = 0
    above: int = 0
    ids_sampled: int = 0
    ids_repeated: int = 0
    audits: int = 0
    audits_correct: int = 0
    audit_weight: int = 0
    audit_correct: int = 0
    audit_squared: int = 0
    failed: int = 0
    abstained: int = 0
    weight_squared: int = 0
    audit_confidence: int = 0  # of the audited predictions, weighted; beside `confidence` of all
    audit_confident: int = 0  # number of audits that have a confidence
    audit_confident_weight: int = 0
    audit_confident_correct: int = 0
    audit_confidence_squared: int = 0
    audit_expanded: int = 0  # labelled inferences that the audits stand for, those not kept included
    unanswered: int = 0  # weight of events without an answer
    inputs: int = 0  # sampled inputs that the registered estimator of quality reads
    induced: InducedSums = InducedSums()

    def add(self, profile: Profile) -> None:
        """Add what a profile of this window says."""
        counts = profile.counts
        self.n += profile.n
        self.weight += counts.get("weight", 0)
        self.scored += counts.get("scored", 0)
        sums = profile.sums.get("confidence")
        if sums is not None:
            self.confidence += int(sums[0])
            self.above += int(sums[1])
        self.ids_sampled += counts.get("ids_sampled", 0)
        self.ids_repeated += counts.get("ids_repeated", 0)
        self.audits += counts.get("audit.n", 0)
        self.audits_correct += counts.get("audit.n_correct", 0)
        self.audit_weight += counts.get("audit.weight", 0)
        self.audit_correct += counts.get("audit.weight_correct", 0)
        self.audit_squared += counts.get("audit.weight_squared", 0)
        self.failed += counts.get("failed", 0)
        self.abstained += counts.get("abstained", 0)
        self.weight_squared += counts.get("weight_squared", 0)
        self.audit_expanded += counts.get("audit.expanded", counts.get("audit.n", 0) * WEIGHT)
        self.audit_confident += counts.get("audit.confident", 0)
        confident = profile.sums.get("audit.confident")
        if confident is not None:
            self.audit_confident_weight += int(confident[0])
            self.audit_confident_correct += int(confident[1])
            self.audit_confidence += int(confident[2])
            self.audit_confidence_squared += int(confident[3])
        self._add_induced(profile)

    def _add_induced(self, profile: Profile) -> None:
        self.unanswered += profile.counts.get("weight", 0) - profile.counts.get("answered", 0)
        found = InducedSums.of(profile)
        self.induced += found
        self.inputs += found.rows

    def join(self, other: "Evidence") -> "Evidence":
        """Both windows as one block that ends with `other`."""
        names = self.__struct_fields__[1:]
        return Evidence(other.start, *(getattr(self, n) + getattr(other, n) for n in names))

    @property
    def free_n(self) -> int:
        """Events that a label-free reading rests on: sampled inputs, unless there are next to none; then all."""
        return self.inputs if self.inputs * RARE > self.n else self.n

    def label_free(self, reference: Reference) -> Estimate:
        """The estimate without labels: that of the registered estimator where it has inputs, else from confidences."""
        return self.induced_reading(reference) or self._confident(reference)

    def induced_reading(self, reference: Reference) -> Estimate | None:
        """What the registered estimator says, be it that it does not know; None where it has too little to read."""
        missing = self.weight - self.scored if self.scored else self.unanswered
        failed = missing / self.weight if self.weight else 0.0
        confidence = self.confidence / UNIT / (self.scored / WEIGHT) if self.scored else None
        return induced_estimate(self.induced, reference, failed, confidence)

    def read_by(self, reference: Reference) -> str:
        """Which estimator `label_free` is of: `induced`, registered under induced drift, or `confidence`."""
        return "confidence" if self.induced_reading(reference) is None else "induced"

    def _confident(self, reference: Reference) -> Estimate:
        """The estimate from confidences; sampled events weigh 1 / probability.

        Without scores there is none, unless every event failed or abstained: an outage needs no scores to be wrong.
        """
        if not self.weight:
            return Estimate(n=0, reason="no predictions in this window")
        if not self.scored and self.failed + self.abstained < self.n:
            return Estimate(n=self.n, reason="the events carry no usable scores")
        n = effective(self.n, self.weight, self.weight_squared, WEIGHT)
        unit = n / (self.weight / WEIGHT)  # shares by weight, noise by the number of events the weights leave
        failed = (self.weight - self.scored) / WEIGHT * unit if self.scored else n
        found = label_free(n, self.confidence / UNIT * unit, self.above / UNIT * unit, failed, reference.calibration)
        return found if n == self.n else msgspec.structs.replace(found, n=self.n, n_effective=n)

    def duplicate_rate(self) -> float | None:
        """Share of events whose id had come before in the same partition and window; None where no id was sampled."""
        return self.ids_repeated / self.ids_sampled if self.ids_sampled else None

    def audited(self) -> Estimate:
        """The estimate from labels."""
        return audited(
            self.audit_weight / WEIGHT, self.audit_correct / WEIGHT, self.audit_squared / WEIGHT, self.audits
        )


Begun = tuple[Evidence | None, Evidence | None]  # unfinished blocks of label-free readings, and of audits


def remember(ring: list[Evidence], start: int, profile: Profile) -> Evidence:
    """Add a profile to the evidence of its window, keeping the last MEMORY windows in order."""
    for known in reversed(ring):
        if known.start == start:
            known.add(profile)
            return known
        if known.start < start:
            break
    fresh = Evidence(start)
    fresh.add(profile)
    ring.append(fresh)
    ring.sort(key=lambda e: e.start)
    del ring[:-MEMORY]
    bound(ring)
    return fresh


def blocks(ring: Sequence[Evidence], enough: int, count: str, begun: Evidence | None = None) -> Iterator[Evidence]:
    """Consecutive windows joined until `count` reaches `enough`; an unfinished block says nothing yet.

    `begun` is an unfinished block of the windows before.
    """
    open_block = begun
    for window in ring:
        open_block = window if open_block is None else open_block.join(window)
        if getattr(open_block, count) >= enough:
            yield open_block
            open_block = None


def begun_blocks(ring: Sequence[Evidence], reference: Reference, begun: Begun = (None, None)) -> Begun:
    """What is left unfinished after these windows, for `readings` of those that follow."""
    sizes = ((max(reference.minimum_n, 1), "free_n"), (AUDIT_BLOCK, "audits"))
    free, audits = (_unfinished(ring, *size, block) for size, block in zip(sizes, begun, strict=True))
    return free, audits


def _unfinished(ring: Sequence[Evidence], enough: int, count: str, begun: Evidence | None) -> Evidence | None:
    done = [b.start for b in blocks(ring, enough, count, begun)]
    rest = [e for e in ring if not done or e.start > done[-1]]
    found = None if done else begun
    for window in rest:  # a copy: windows of the ring may still be revised
        found = msgspec.structs.replace(window) if found is None else found.join(window)
    return found


def readings(ring: Sequence[Evidence], reference: Reference, begun: Begun = (None, None)) -> list[Reading]:
    """One reading per window that has something to say, oldest first; `begun` as `begun_blocks` gives it."""
    length = reference.window_us
    enough = max(reference.minimum_n, 1)
    free = {b.start // length: b.label_free(reference) for b in blocks(ring, enough, "free_n", begun[0])}
    audits = {b.start // length: b.audited() for b in blocks(ring, AUDIT_BLOCK, "audits", begun[1])}
    last = {ring[-1].start // length} if ring else set()
    nothing = Estimate(reason="nothing in this window")
    # The filter tells sampling noise from bias by n, so it must see what the weights leave of it.
    noisy = {w: msgspec.structs.replace(e, n=e.n_effective or e.n) for w, e in free.items()}
    return [
        reading(w, audits.get(w, nothing), noisy.get(w, nothing)) for w in sorted(free.keys() | audits.keys() | last)
    ]
