"""What each segment usually adds to the difference from the reference, so that one that always looks so is not blamed.

Nobody describes the reference of a segment: a camera in the dark differs from the average from the first day on. So its
average is kept over blocks in which all traffic was as declared, and a drift is attributed by what has changed since.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from models.columns import Floats
from models.profile_kernel import KernelSums, Part
from models.tables import MAX_GROUPS

FORMAT = 1
RATE = 0.1  # weight of the newest block
ENOUGH = 5  # blocks from which the average is used
MOST = MAX_GROUPS + 1  # segments by name, and the others


class UsualState(msgspec.Struct, frozen=True):
    """Sums of differences per unit of all weight, as little-endian float32: of everything, and by segment.

    They are averages once divided by 1 - (1 - RATE)^seen. Only add fields, with defaults.
    """

    version: int = FORMAT
    seen: int = 0
    key: str = ""
    mean: bytes = b""
    pulls: dict[str, bytes] = {}


class Usual:
    """The averages of one subject; without segments nothing is kept."""

    __slots__ = ("state",)

    def __init__(self, state: UsualState | None = None) -> None:
        self.state = state or UsualState()

    @classmethod
    def from_state(cls, state: UsualState | None) -> "Usual":
        """Goes on from a stored state. Raises ValueError for one of a later version."""
        if state is not None and not 1 <= state.version <= FORMAT:
            raise ValueError(f"segment state has version {state.version}, this release reads up to {FORMAT}: upgrade")
        return cls(state)

    def update(self, whole: KernelSums, segments: Sequence[Part], key: str) -> None:
        """Add a block that was as declared; averages of other features, by `key`, are dropped."""
        if not segments:
            return
        old = self.state if self.state.key == key else UsualState(key=key)
        now = {part.name: (part.share, part.pull) for part in segments}
        nothing = (0.0, np.zeros(len(whole.mean)))
        names = sorted(old.pulls.keys() | now.keys(), key=lambda n: (n not in old.pulls, -now.get(n, nothing)[0], n))
        self.state = UsualState(
            seen=old.seen + 1, key=key, mean=_averaged(old.mean, whole.mean),
            pulls={name: _averaged(old.pulls.get(name, b""), now.get(name, nothing)[1]) for name in names[:MOST]},
        )  # fmt: skip

    def known(self, key: str) -> "tuple[Floats, dict[str, Floats]] | None":
        """The usual difference of everything and by segment; None before ENOUGH blocks."""
        state = self.state
        if state.key != key or state.seen < ENOUGH:
            return None
        unit = 1 - (1 - RATE) ** state.seen
        return _read(state.mean) / unit, {name: _read(pull) / unit for name, pull in state.pulls.items()}


def _read(body: bytes) -> Floats:
    return np.frombuffer(body, "<f4").astype(np.float64)


def _averaged(body: bytes, now: Floats) -> bytes:
    old = _read(body) if body else np.zeros(len(now))
    return ((1 - RATE) * old + RATE * now).astype("<f4").tobytes()
