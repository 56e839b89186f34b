"""Concept drift: the labels say worse than the label-free estimate allows.

A change of P(y | x) leaves inputs, scores and embeddings as they were, so every label-free estimate goes on saying
that all is well. Where audited labels contradict the lower end of its interval, the concept has changed, or content
has come that the estimate cannot judge. The test is a Shiryaev-Roberts e-detector (Shin, Ramdas and Rinaldo 2024,
arXiv:2203.03532) over bets on errors: as long as each window's accuracy is at least the lower end it is tested
against, the mean number of audited labels between two flags is at least `run_length`, whatever the order or
dependence of the windows.
"""

import math

import msgspec
import numpy as np

VERSION = 1
BETS = (0.04, 0.08, 0.16, 0.32, 0.64)  # a bet of 1 - q / p is best when accuracy falls from the lower end p to q
WEIGHTS = (0.1, 0.2, 0.35, 0.25, 0.1)  # of the bets: most where most changes of a concept lie, a tenth to a third


class ConceptState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a concept watch is: one Shiryaev-Roberts sum per bet."""

    version: int = VERSION
    run_length: float
    sums: tuple[float, ...] = (0.0,) * len(BETS)
    n: int = 0
    skipped: int = 0
    alarms: int = 0
    flagged: bool = False


class ConceptWatch:
    """Flags labels that contradict the label-free interval of their own windows.

    >>> watch = ConceptWatch()
    >>> for correct in [True, True, False] * 12:
    ...     watch.update(correct, low=0.92)
    >>> watch.alarms
    1
    """

    def __init__(self, run_length: float = 10_000.0) -> None:
        if not 1 < run_length < math.inf:
            raise ValueError(f"run length {run_length} must be a number of labels above 1")
        self.run_length = run_length
        self._sums = np.zeros(len(BETS))
        self._n = self._skipped = self._alarms = 0
        self._flagged = False

    @property
    def flagged(self) -> bool:
        """Did the last label raise the flag? The evidence starts from nothing after it."""
        return self._flagged

    @property
    def alarms(self) -> int:
        """Flags so far."""
        return self._alarms

    @property
    def evidence(self) -> float:
        """Weighted mean of the Shiryaev-Roberts sums; the flag is raised at `run_length`."""
        return float(self._sums @ np.array(WEIGHTS))

    @property
    def n(self) -> int:
        """Labels that were used."""
        return self._n

    @property
    def skipped(self) -> int:
        """Labels of windows whose accuracy the label-free estimate does not bound from below."""
        return self._skipped

    def update(self, correct: bool, low: float | None, weight: float = 1.0, largest: float = 1.0) -> None:
        """Take one audited label, in the order of the inferences, with the lower end of its window's interval.

        `weight` is mean propensity / propensity of this label, at most `largest`, a bound known beforehand. Without a
        lower end, or with zero, nothing can contradict: the label is counted and left out.
        """
        self._flagged = False
        if low is None or not 0 < low < 1 or not 0 <= weight <= largest * (1 + 1e-9):
            self._skipped += 1
            return
        # The factor's mean is at most 1 where P(correct) >= low, and it is positive: the least is 1 - bet.
        gain = weight / largest * (low - correct) / (1 - low)
        self._sums = (self._sums + 1) * (1 + np.array(BETS) * gain)
        self._n += 1
        if self.evidence >= self.run_length:
            self._flagged, self._alarms = True, self._alarms + 1
            self._sums = np.zeros(len(BETS))

    @property
    def state(self) -> ConceptState:
        """What `from_state` needs to go on exactly where this one stands."""
        return ConceptState(
            run_length=self.run_length,
            sums=tuple(self._sums.tolist()),
            n=self._n,
            skipped=self._skipped,
            alarms=self._alarms,
            flagged=self._flagged,
        )

    @classmethod
    def from_state(cls, state: ConceptState) -> "ConceptWatch":
        """The watch whose state this was; ValueError for a version, or a number of bets, this code does not know."""
        if state.version != VERSION or len(state.sums) != len(BETS):
            raise ValueError(
                f"concept state has version {state.version} and {len(state.sums)} bets, known are {VERSION} and "
                f"{len(BETS)}; start it afresh"
            )
        found = cls(state.run_length)
        found._sums = np.array(state.sums)
        found._n, found._skipped = state.n, state.skipped
        found._alarms, found._flagged = state.alarms, state.flagged
        return found
