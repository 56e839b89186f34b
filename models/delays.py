"""How late labels come, learned apart for right and wrong answers, from cohorts that are still incomplete.

A mean over the labels that have come favours the answers whose labels come fast. The delay given the outcome is only
seen once the label is there, so it is truncated from the right: what is slow is missing among young inferences. The
reverse-time product limit corrects for that: of the labels that came up to age b, in cohorts watched beyond b, which
share came just then? Source: Lagakos, Barraj and De Gruttola 1988, doi:10.1093/biomet/75.3.515.
"""

import math

import msgspec
import numpy as np

VERSION = 1
BINS = 52  # ages from one unit to 2^25.5 units, by factors of sqrt 2: 1 second to 550 days
ENOUGH = 20  # labels of an outcome from which its delays are known
TWICE = 2.0  # a tail is believed up to an age when it was watched to this multiple of it
MEMORY = 0.995  # weight of the past, per cohort that was watched to its end


def bin_of(age: float) -> int:
    """The bin of an age in units: bin b holds ages in (2^((b - 1) / 2), 2^(b / 2)], bin 0 all up to one unit."""
    return 0 if age <= 1 else min(math.ceil(2 * math.log2(age) - 1e-9), BINS - 1)


def edge(b: int) -> float:
    """The largest age of bin b, in units."""
    return float(2 ** (b / 2))


class DelayState(msgspec.Struct, frozen=True, kw_only=True):
    """Per outcome (wrong, right) and bin: labels that came in the bin, and up to it, in cohorts watched beyond it."""

    version: int = VERSION
    arrived: tuple[tuple[float, ...], ...] = ((0.0,) * BINS,) * 2
    upto: tuple[tuple[float, ...], ...] = ((0.0,) * BINS,) * 2
    watched: int = -1


class DelayCurve:
    """Share of labels that have come by an age, for wrong and for right answers; 208 numbers."""

    def __init__(self) -> None:
        self._arrived, self._upto = np.zeros((2, BINS)), np.zeros((2, BINS))
        self._watched = -1

    def update(self, b: int, counts: "np.ndarray[tuple[int, int], np.dtype[np.int64]]") -> None:
        """A cohort has grown older than bin b; `counts` of its labels per outcome and bin, shape (2, BINS)."""
        self._arrived[:, b] += counts[:, b]
        self._upto[:, b] += counts[:, : b + 1].sum(axis=1)
        self._watched = max(self._watched, b)

    def forget(self) -> None:
        """Let the past weigh less: called once per cohort that is done, so that delays may change."""
        self._arrived *= MEMORY
        self._upto *= MEMORY

    def share(self, age: float) -> tuple[float, float] | None:
        """Shares (wrong, right) of the labels that have come by `age` units; None while too little was seen.

        Too little is fewer than ENOUGH labels of an outcome, or no cohort watched to TWICE the age.
        """
        # Rounded down to a bin that is over.
        over = bin_of(age) if age >= edge(bin_of(age)) else bin_of(age) - 1
        if over < 0 or self._watched < 0 or edge(self._watched) < TWICE * edge(over):
            return None
        if (self._upto.max(axis=1) < ENOUGH).any():
            return None
        later = slice(over + 1, self._watched + 1)
        hazard = self._arrived[:, later] / np.maximum(self._upto[:, later], 1e-12)
        wrong, right = np.prod(1 - np.minimum(hazard, 1), axis=1).tolist()
        return float(wrong), float(right)

    @property
    def state(self) -> DelayState:
        """What `from_state` needs to go on exactly where this one stands."""
        arrived, upto = (tuple(tuple(row) for row in a.tolist()) for a in (self._arrived, self._upto))
        return DelayState(arrived=arrived, upto=upto, watched=self._watched)

    @classmethod
    def from_state(cls, state: DelayState) -> "DelayCurve":
        """The curve whose state this was; ValueError for a version this code does not know."""
        if state.version != VERSION or len(state.arrived[0]) != BINS:
            raise ValueError(f"delay state has version {state.version}, known is {VERSION}; start it afresh")
        found = cls()
        found._arrived, found._upto = np.array(state.arrived), np.array(state.upto)
        found._watched = state.watched
        return found
