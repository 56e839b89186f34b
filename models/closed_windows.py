"""Which windows may have their labels counted: those whose labels have all, or nearly all, come.

Labels of wrong answers often come slower than those of right ones, so a mean over what has arrived is too good (8.8
points where right answers take 1,000 events and wrong ones 3,000). A window is closed when every label that was asked
for is there, when the delays seen so far say that nearly all labels of wrong answers and of right ones have come, or
when the declared delay is over. Delays are counted in windows after the label's own, from the windows in memory,
incomplete ones included: the reverse-time product limit of `models.delays`, with one bin per window.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

SHARE = 0.95  # of the labels of either outcome that must have come, by the delays seen
ENOUGH = 20  # labels of an outcome from which its delays are known
TWICE = 2  # a tail is believed up to an age when windows were watched to this multiple of it
Floats = NDArray[np.float64]


class Mark(msgspec.Struct, frozen=True):
    """What is known of a window's labels beside themselves, at the newest window: see `models.audits.mark`."""

    closed: bool = True
    arrived: tuple[float, float] | None = None  # of an open window: shares (wrong, right) that have come
    learned: tuple[float, float] = (0.0, 0.0)  # labels (wrong, right) that these shares rest on
    coefficient: float = 0.0  # how far the proxy is used
    worth: float = 1.0  # of an audit, beside one of equal weight without a proxy


class Cohort(Protocol):
    """What is asked of a window: its labels by age and outcome, and how many were asked for and came."""

    start: int
    asked: int
    audit_asked: int
    ages: dict[int, int]


class Delays:
    """Share of the labels of wrong and of right answers that have come by an age in windows.

    Beyond the windows in memory nothing is known, and nothing could be counted: a share is one of the labels that come
    within them.
    """

    def __init__(self, ring: Sequence[Cohort], now: int, length: int) -> None:
        watched = np.array([max((now - e.start) // length, 0) for e in ring], dtype=np.int64)
        self.watched = int(watched.max(initial=0))
        # Only ages at which labels came have a hazard, so only they have a place: windows may lie far apart.
        came = [
            (i, min(key // 2, self.watched), key % 2, n) for i, e in enumerate(ring) for key, n in e.ages.items() if n
        ]
        self._ages = np.unique(np.array([age for _, age, _, _ in came], dtype=np.int64))
        counts = np.zeros((len(ring), 2, len(self._ages)))
        for (i, _, outcome, n), place in zip(came, np.searchsorted(self._ages, [c[1] for c in came]), strict=True):
            counts[i, outcome, place] += n
        seen = watched[:, None] >= self._ages  # windows that were watched to this age
        arrived = (counts * seen[:, None, :]).sum(axis=0)
        upto = (counts.cumsum(axis=2) * seen[:, None, :]).sum(axis=0)
        later = 1 - arrived / np.maximum(upto, 1e-12)
        # _share[y, k]: of the labels of outcome y, those that have come before the k-th age with labels; all of the
        # later hazards escaped.
        self._share: Floats = np.concatenate([np.cumprod(later[:, ::-1], axis=1)[:, ::-1], np.ones((2, 1))], axis=1)
        self.labels: Floats = counts.sum(axis=(0, 2))
        self.oldest = int(self._ages[-1]) if len(self._ages) else 0

    def arrived(self, age: int, declared: int | None = None) -> tuple[float, float] | None:
        """Shares (wrong, right) that have come by `age`, at least; None while too little was seen.

        Too little is fewer than ENOUGH labels of an outcome, or no window watched to TWICE the age, or to the
        `declared` one. Beyond the oldest age that is believed the share is that at it.
        """
        if (self.labels < ENOUGH).any():
            return None
        believed = self.watched // TWICE
        if declared is not None and self.watched >= declared:
            believed = max(believed, min(self.watched - 1, declared))
        if believed < 1 and age > 0:
            return None
        age = min(age, believed)
        wrong, right = self._share[:, np.searchsorted(self._ages, age, side="right")].tolist()
        return wrong, right

    def quantile(self, share: float) -> int | None:
        """Age in windows by which this share of labels has come, right or wrong; None without labels."""
        total = self.labels.sum()
        if not total:
            return None
        ages = np.unique(np.append(self._ages, 0))  # between two of them nothing comes
        came = self.labels @ self._share[:, np.searchsorted(self._ages, ages, side="right")]
        reached = np.flatnonzero(came >= (share - 1e-9) * total)
        return int(ages[reached[0]]) if len(reached) else None


def closed(window: Cohort, delays: Delays, now: int, length: int, declared_us: int | None = None) -> bool:
    """Whether the labels of this window may be counted, when the window that starts at `now` is the newest.

    Where nothing is declared and little was seen, the window waits for twice the oldest age that any label had.
    """
    age = (now - window.start) // length
    if window.asked and window.audit_asked >= window.asked:
        return True
    declared = None if declared_us is None else -(-declared_us // length)
    if declared is not None and age >= declared:
        return True
    shares = delays.arrived(age, declared)
    if shares is not None:
        return min(shares) >= SHARE
    return declared is None and age >= TWICE * delays.oldest
