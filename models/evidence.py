"""What a window says about quality, kept as sums for the last windows, and read as input of the forecast.

Late labels belong to the window of their inference, so a record may still grow after it was assessed.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from models.audits import AUDIT_BLOCK, audit_readings
from models.class_tables import COVERED, SUM, estimate
from models.closed_windows import Mark
from models.distance import effective
from models.forecast import MEMORY, Reading, reading
from models.induced_evidence import RARE, InducedSums, bound, induced_estimate
from models.profile import UNIT, WEIGHT, Profile
from models.profile_audits import ASKED_CELLS, CELLS, MOMENTS
from models.quality import Estimate, audited, label_free
from models.reference import Reference


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
    proxy: int = 0  # P(correct) in steps, weighted, of all predictions, in units of WEIGHT / 128
    asked: int = 0  # predictions that a label was asked for
    asked_propensity: int = 0  # sum of the probabilities of being asked for, in units of `label_sampling.STEP`
    audit_asked: int = 0  # labels that answered a request
    asked_weight: int = 0  # predictions that those asked about stand for
    audit_asked_weight: int = 0
    moments: list[int] = []  # sums over audits, see `profile_audits.MOMENTS`
    cells: dict[str, int] = {}  # audits one by one, see `profile_audits`; empty once nobody needs them any more
    asked_cells: dict[str, int] = {}
    cbpe_weight: int = 0  # of events whose answer the registered tables judge
    cbpe_right: int = 0
    cbpe_variance: int = 0
    mark: Mark = Mark()
    ages: dict[int, int] = {}  # audits by the window they came in: 2 * (windows after their own) + (1 if right)
    unanswered: int = 0  # weight of events without an answer
    beyond: int = 0  # events whose segment is not watched on its own, see `window_book.BEYOND`
    inputs: int = 0  # sampled inputs that the registered estimator of quality reads
    induced: InducedSums = InducedSums()
    dropped: int = 0  # events that clients say they could not send
    sampled_out: int = 0  # events that clients left out on purpose

    def add(self, profile: Profile, age: int = 0) -> None:
        """Add what a profile of this window says, which became known `age` windows later."""
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
        self.beyond += counts.get("beyond_segments", 0)
        self.weight_squared += counts.get("weight_squared", 0)
        self.audit_expanded += counts.get("audit.expanded", counts.get("audit.n", 0) * WEIGHT)
        self.audit_confident += counts.get("audit.confident", 0)
        confident = profile.sums.get("audit.confident")
        if confident is not None:
            self.audit_confident_weight += int(confident[0])
            self.audit_confident_correct += int(confident[1])
            self.audit_confidence += int(confident[2])
            self.audit_confidence_squared += int(confident[3])
        self.dropped += counts.get("dropped", 0)
        self.sampled_out += counts.get("sampled_out", 0)
        self._add_induced(profile)
        self._add_cells(profile, age)

    def _add_cells(self, profile: Profile, age: int) -> None:
        counts = profile.counts
        confidences = profile.histograms.get("confidence")
        if confidences is not None:
            self.proxy += sum(n * (2 * i + 1) for i, n in enumerate(confidences.tolist()))
        judged = profile.sums.get(SUM)
        if judged is not None:
            self.cbpe_weight += int(judged[0])
            self.cbpe_right += int(judged[1])
            self.cbpe_variance += int(judged[2])
        self.asked += counts.get("asked.n", 0)
        self.asked_propensity += counts.get("asked.propensity", 0)
        self.audit_asked += counts.get("audit.asked", 0)
        self.asked_weight += counts.get("asked.weight", 0)
        self.audit_asked_weight += counts.get("audit.asked_weight", 0)
        found = profile.sums.get(MOMENTS)
        if found is not None:
            self.moments = _added(self.moments, found.tolist())
        self.cells = _merged(self.cells, profile.categories.get(CELLS, {}))
        self.asked_cells = _merged(self.asked_cells, profile.categories.get(ASKED_CELLS, {}))
        right = counts.get("audit.n_correct", 0)
        came = {2 * age: counts.get("audit.n", 0) - right, 2 * age + 1: right}
        self.ages = _merged(self.ages, {key: n for key, n in came.items() if n})

    def _add_induced(self, profile: Profile) -> None:
        self.unanswered += profile.counts.get("weight", 0) - profile.counts.get("answered", 0)
        found = InducedSums.of(profile)
        self.induced += found
        self.inputs += found.rows

    def join(self, other: "Evidence") -> "Evidence":
        """Both windows as one block that ends with `other`."""
        values: dict[str, Any] = {}
        for name in self.__struct_fields__[1:]:
            mine, its = getattr(self, name), getattr(other, name)
            if isinstance(mine, list):
                values[name] = _added(mine, its)
            elif isinstance(mine, dict):
                values[name] = _merged(mine, its)
            else:
                values[name] = its if name == "mark" else mine + its
        return Evidence(other.start, **values)

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
        """Which estimator `label_free` is of: `induced` (the registered one), `tables` of classes, or `confidence`."""
        if self.induced_reading(reference) is not None:
            return "induced"
        return "tables" if self._judged(reference, 1.0) is not None else "confidence"

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
        judged = self._judged(reference, n)
        if judged is not None:
            return judged if n == self.n else msgspec.structs.replace(judged, n=self.n, n_effective=n)
        found = label_free(n, self.confidence / UNIT * unit, self.above / UNIT * unit, failed, reference.calibration)
        return found if n == self.n else msgspec.structs.replace(found, n=self.n, n_effective=n)

    def _judged(self, reference: Reference, n: float) -> Estimate | None:
        """The estimate by the registered tables; None where there are none, or where induced drift was measured.

        What was measured under induced drift holds under drift too, so it goes first.
        """
        known, calibration = reference.tables, reference.calibration
        induced = calibration is not None and calibration.residual_low is not None
        # Weights and probabilities have the same unit here.
        if known is None or induced or self.cbpe_weight < COVERED * self.scored or not self.cbpe_weight:
            return None
        sums = (float(self.cbpe_weight), float(self.cbpe_right), float(self.cbpe_variance))
        return estimate(sums, known, n, self.scored / self.weight)

    def duplicate_rate(self) -> float | None:
        """Share of events whose id had come before in the same partition and window; None where no id was sampled."""
        return self.ids_repeated / self.ids_sampled if self.ids_sampled else None

    def audited(self) -> Estimate:
        """The estimate from labels."""
        return audited(
            self.audit_weight / WEIGHT, self.audit_correct / WEIGHT, self.audit_squared / WEIGHT, self.audits
        )


def _merged(one: dict[Any, int], other: dict[Any, int]) -> dict[Any, int]:
    return {key: one.get(key, 0) + other.get(key, 0) for key in sorted(one.keys() | other.keys())} if other else one


Begun = tuple[Evidence | None, Evidence | None]  # unfinished blocks of label-free readings, and of audits


def _added(one: list[int], other: list[int]) -> list[int]:
    return [a + b for a, b in zip(one, other, strict=True)] if one and other else one or other


def remember(ring: list[Evidence], start: int, profile: Profile, age: int = 0) -> Evidence:
    """Add a profile to the evidence of its window, keeping the last MEMORY windows in order; `age` as for `add`."""
    for known in reversed(ring):
        if known.start == start:
            known.add(profile, age)
            return known
        if known.start < start:
            break
    fresh = Evidence(start)
    fresh.add(profile, age)
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
    closed = [e for e in ring if e.mark.closed]
    audits = _unfinished(closed, AUDIT_BLOCK, "audits", begun[1])
    return _unfinished(ring, max(reference.minimum_n, 1), "free_n", begun[0]), audits


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
    audits = audit_readings(ring, reference, begun[1])
    last = {ring[-1].start // length} if ring else set()
    nothing = Estimate(reason="nothing in this window")
    # The filter tells sampling noise from bias by n, so it must see what the weights leave of it.
    noisy = {w: msgspec.structs.replace(e, n=e.n_effective or e.n) for w, e in free.items()}
    return [
        reading(w, audits.get(w, nothing), noisy.get(w, nothing)) for w in sorted(free.keys() | audits.keys() | last)
    ]
