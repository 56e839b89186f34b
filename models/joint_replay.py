"""The run length a shared budget achieves: reference traffic of all streams, resampled together, through all detectors.

The stationary bootstrap of `models.run_length`, with the same days drawn for every stream, so that streams which move
together in the reference do so in replay. Every row first learns each baseline from as much as its plan says.
"""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.run_length import RunLength, counted
from models.sequential import Evidence, Plan

Floats = NDArray[np.float64]
TIMES = 10  # run lengths that are replayed
MOST_STEPS = 3_000  # per row
MOST_VALUES = 4_000_000  # of all streams and rows together
CHUNK = 5  # blocks, the mean length of what is drawn at once


class Armed(NamedTuple):
    """A stream with a plan: `values` per unit of `unit` ticks, whole seasons; blocks are `length` units long."""

    plan: Plan
    unit: int
    length: int
    weight: float
    values: Floats

    @property
    def ticks(self) -> int:
        """Ticks of a block."""
        return self.unit * self.length

    @property
    def learn(self) -> int:
        """Blocks it learns from: whole seasons."""
        return math.ceil(self.plan.learn / self.plan.positions) * self.plan.positions


class Joint(NamedTuple):
    """What was achieved, in ticks, and the share of the alarms that each stream had most evidence for."""

    run_length: RunLength
    blamed: dict[str, float]


class Group:
    """Streams that differ in nothing but in how much they learned step as rows of one `Evidence`; the least counts."""

    def __init__(self, plan: Plan, members: list[tuple[str, Armed]], blocks: list[Floats]) -> None:
        self.names = [name for name, _ in members]
        self.armed = members[0][1]
        self.learned = min(armed.learn for _, armed in members)
        self.rows = len(blocks[0])
        self.core = Evidence(plan, self.rows * len(members))
        self.blocks = np.concatenate(blocks)  # (members x rows, blocks)
        self.shares = np.array([armed.weight * armed.ticks for _, armed in members])
        self.parts: Floats = np.zeros((len(members), self.rows))

    def learn(self) -> None:
        """The first blocks of every row."""
        for number in range(self.learned):
            self.core.step(self.blocks[:, number], number % self.core.plan.positions)

    def step(self, number: int) -> None:
        """Take block `number` of every row."""
        self.core.step(self.blocks[:, number], number % self.core.plan.positions)
        self.parts = self.core.mean().reshape(len(self.names), self.rows) * self.shares[:, None]

    def restart(self, rows: NDArray[np.bool_]) -> None:
        """Forget the evidence of these rows."""
        self.core.restart(np.tile(rows, len(self.names)))
        self.parts[:, rows] = 0.0


def together(streams: Mapping[str, Armed], run_length: float, *, season: int, seed: int) -> Joint:
    """Replay about ten times `run_length` (ticks) through detectors and budget; fewer where that is too much work."""
    slot = max(season, *(armed.unit for armed in streams.values()))
    shortest = min(armed.ticks for armed in streams.values())
    before = math.ceil(max(armed.learn * armed.ticks for armed in streams.values()) / slot) * slot
    per_row = min(max(run_length / 2, 1_000 * shortest), MOST_STEPS * shortest)
    length = math.ceil(per_row / slot) * slot
    density = sum(1 / armed.unit for armed in streams.values())
    affordable = MOST_VALUES / ((before + length) * density)
    rows = max(min(math.ceil(TIMES * run_length / length), int(affordable)), 2)
    chunk = max(season, *(CHUNK * armed.ticks for armed in streams.values()))
    path = _path(rows, (before + length) // slot, slot / chunk, _slots(streams, slot), seed)
    groups = list(_groups(streams, path, slot))
    for group in groups:
        group.learn()
    blamed, alarms = dict.fromkeys(streams, 0), 0
    ends = np.unique(np.concatenate([_ends(group.armed.ticks, before, before + length) for group in groups]))
    for end in ends.tolist():
        for group in groups:
            number, over = divmod(end, group.armed.ticks)
            if not over and group.learned < number <= group.blocks.shape[1]:
                group.step(number - 1)
        fired = sum(group.parts.sum(axis=0) for group in groups) >= run_length
        if fired.any():
            alarms += int(fired.sum())
            _blame(groups, fired, blamed)
            for group in groups:
                group.restart(fired)
    total = max(alarms, 1)
    return Joint(counted(alarms, float(rows * length), run_length), {name: n / total for name, n in blamed.items()})


def _slots(streams: Mapping[str, Armed], slot: int) -> int:
    return max(len(armed.values) * armed.unit // slot for armed in streams.values())


def _ends(ticks: int, after: int, until: int) -> NDArray[np.int64]:
    """When blocks of so many ticks end: after the baseline is learned, until the replay ends."""
    return np.arange((after // ticks + 1) * ticks, until + 1, ticks)


def _path(rows: int, slots: int, leave: float, known: int, seed: int) -> NDArray[np.int64]:
    """Which slot of the reference each row is in: (rows, slots)."""
    random = np.random.default_rng(seed)
    jumps = random.random((rows, slots)) < min(leave, 1.0)
    jumps[:, 0] = True
    drawn = random.integers(0, max(known, 1), (rows, slots))
    at = np.arange(slots)
    last = np.maximum.accumulate(np.where(jumps, at, 0), axis=1)
    return np.asarray(np.take_along_axis(drawn, last, axis=1) + at - last)


def _groups(streams: Mapping[str, Armed], path: NDArray[np.int64], slot: int) -> Iterator[Group]:
    alike: dict[tuple[Plan, int], list[tuple[str, Armed]]] = {}
    for name, armed in streams.items():
        memory = armed.plan.memory or armed.plan.run_length / 2
        plan = _same_learn(armed.plan, armed.plan.positions + 2, memory)
        alike.setdefault((plan, armed.ticks), []).append((name, armed))
    for (plan, _), members in alike.items():
        least = min(armed.plan.learn for _, armed in members)
        blocks = [_blocks(armed, path, slot) for _, armed in members]
        yield Group(_same_learn(plan, least, plan.memory), members, blocks)


def _same_learn(plan: Plan, learn: int, memory: float | None) -> Plan:
    """The plan without what may differ within a group."""
    return msgspec.structs.replace(plan, run_length=1.0, memory=memory, learn=0 if plan.centre is not None else learn)


def _blocks(armed: Armed, path: NDArray[np.int64], slot: int) -> Floats:
    """Block means along the path: (rows, blocks). A reference shorter than a slot, the unit of a rarer stream, goes on
    from its beginning.
    """
    per_slot = slot // armed.unit
    values = np.resize(armed.values, max(len(armed.values), per_slot))
    known = values[: len(values) // per_slot * per_slot].reshape(-1, per_slot)
    units = known[path % len(known)].reshape(len(path), -1)
    whole = units.shape[1] // armed.length * armed.length
    return np.asarray(units[:, :whole].reshape(len(path), -1, armed.length).mean(axis=2))


def _blame(groups: list[Group], fired: NDArray[np.bool_], blamed: dict[str, int]) -> None:
    names = [name for group in groups for name in group.names]
    parts = np.concatenate([group.parts for group in groups])[:, fired]
    for row in parts.argmax(axis=0).tolist():
        blamed[names[row]] += 1
