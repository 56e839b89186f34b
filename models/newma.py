"""Two forgetting averages of the kernel mean: their distance tells a change since not long ago, with no window kept.

NEWMA (Keriven, Garreau and Poli 2020, doi:10.1109/TSP.2020.2990597): |fast - slow| of averages of random features, the
fast one forgetting faster. It is blind to slow drift, so both are of differences from the frozen reference, which the
check `embedding-drift` compares with. One update per block of windows; the noise of each block goes with 1 / n and is
carried along, so the value is in standard deviations under no change, whatever the traffic.
"""

import math

import msgspec
import numpy as np

from models.columns import Floats

FORMAT = 1
FAST, SLOW = 0.4, 0.05  # weight of the newest block: memories of about 2.5 and 20 blocks
PAIRS = ((FAST, FAST), (SLOW, SLOW), (FAST, SLOW))


class NewmaState(msgspec.Struct, frozen=True):
    """Both averages (features,), and sums of squared weights over n: of fast, of slow, and of their product.

    `skipped` counts blocks whose values were not finite; `key` says what the features were computed with. Only add
    fields, with defaults.
    """

    version: int = FORMAT
    fast: tuple[float, ...] = ()
    slow: tuple[float, ...] = ()
    noise: tuple[float, float, float] = (0.0, 0.0, 0.0)
    seen: int = 0
    skipped: int = 0
    key: str = ""


class Newma:
    """The averages of one subject.

    >>> newma = Newma()
    >>> for mean in (0.0, 0.1, 0.3):
    ...     newma.update(np.full(4, mean), n=100)
    >>> newma.score((0.1, 0.005, 0.0005)) > 10
    True
    """

    __slots__ = ("state",)

    def __init__(self, state: NewmaState | None = None) -> None:
        self.state = state or NewmaState()

    @classmethod
    def from_state(cls, state: NewmaState | None) -> "Newma":
        """Goes on from a stored state. Raises ValueError for one of a later version."""
        if state is not None and not 1 <= state.version <= FORMAT:
            raise ValueError(f"NEWMA state has version {state.version}, this release reads up to {FORMAT}: upgrade")
        return cls(state)

    def update(self, mean: Floats, n: float, key: str = "") -> None:
        """Add a block of `n` inputs whose features differ from the reference by `mean` (features,) on average.

        Averages of other features, by `key` or number, are dropped.
        """
        old = self.state
        if not (math.isfinite(n) and n > 0 and np.isfinite(mean).all()):
            self.state = msgspec.structs.replace(old, skipped=old.skipped + 1)
            return
        if key != old.key or len(mean) != len(old.fast):
            old = NewmaState(fast=(0.0,) * len(mean), slow=(0.0,) * len(mean), skipped=old.skipped, key=key)
        fast, slow = ((1 - rate) * np.array(was) + rate * mean for rate, was in ((FAST, old.fast), (SLOW, old.slow)))
        a, b, c = (v * (1 - x) * (1 - y) + x * y / n for v, (x, y) in zip(old.noise, PAIRS, strict=True))
        self.state = msgspec.structs.replace(
            old, fast=tuple(fast.tolist()), slow=tuple(slow.tolist()), noise=(a, b, c), seen=old.seen + 1
        )

    def score(self, traces: tuple[float, float, float]) -> float | None:
        """|fast - slow|^2 in standard deviations from its mean under no change; None before the second block.

        `traces` are those of the powers of the features' covariance.
        """
        state = self.state
        if state.seen < 2:
            return None
        fast, slow = (1 - (1 - rate) ** state.seen for rate in (FAST, SLOW))  # weights do not add up to 1 at first
        gap = np.array(state.fast) / fast - np.array(state.slow) / slow
        a, b, c = state.noise
        unit = a / fast**2 + b / slow**2 - 2 * c / (fast * slow)
        return (float(gap @ gap) - unit * traces[0]) / (unit * math.sqrt(2 * traces[1])) if unit > 0 else None
