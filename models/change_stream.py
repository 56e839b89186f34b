"""One stream of window values: reference traffic first, then block means through a detector that was replayed on it.

A short reference knows nothing of what comes seldom, such as bursts, and underrates how values depend on each other. So
it is young at first: it goes on growing while the stream already watches, the plan is tried again with half as much
more, and an alarm means that a reference twice as long is needed. Once it is as long as the promise, or full, it is
closed; after an alarm only the level is learned anew, unless the last alarm was less than the promise ago: that is no
stream whose promise is kept, and it learns from a longer reference as well.
"""

import math
from typing import Literal

import msgspec
import numpy as np

from models.blocks import Block, BlockMeans, BlockState
from models.distance import Z90
from models.joint_replay import Armed
from models.reference_traffic import ReferenceTraffic, TrafficState
from models.run_length import FEWEST, RunLength, filled, prepare, started
from models.sequential import Plan, SequentialDetector, SequentialState

TESTED = 2_400.0  # units; a longer run length of one stream is not replayed, that of the whole budget is
UNLIMITED = 1e15  # run length of a plan whose alarms are those of the budget alone
AGAIN = 1.5  # times as much reference, before it is tried again whether the promise is kept
LONGER = 2  # times as much, after an alarm that came too soon
MATURE = 200  # blocks at least in a reference that is closed
YOUNG = 20  # a stream watches once its reference is a twentieth of the promised run length, and FEWEST units
SEASONS, FEW = 4, 8  # block means of a new level to learn it from: so many seasons, and so many more
RECENT = 32  # block means kept, to tell how large a change is


class StreamState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a `Stream` is."""

    traffic: TrafficState
    harm: bool = False
    reason: str = ""
    next_try: int = 0
    length: int = 1
    achieved: RunLength | None = None
    blocks: BlockState | None = None
    detector: SequentialState | None = None
    recent: tuple[float, ...] = ()
    alarmed: int | None = None
    version: int = 1


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """How far a stream has moved from its level, with the 90% interval, and since which tick. `sd` of block means."""

    since: int
    size: float
    low: float
    high: float
    level: float
    sd: float
    blocks: int


class Stream:
    """`update` once per tick with a value; while it watches, `detector` holds the evidence."""

    def __init__(self, season: int, *, harm: bool) -> None:
        self.harm = harm
        self.traffic = ReferenceTraffic(season)
        self.reason, self.next_try = "it has only begun", 0
        self.length, self.achieved = 1, None  # type: int, RunLength | None
        self.detector: SequentialDetector | None = None
        self._blocks: BlockMeans | None = None
        self._recent: list[float] = []
        self._alarmed: int | None = None  # at which tick last

    @property
    def status(self) -> Literal["learning", "watching"]:
        """Whether its evidence counts."""
        return "learning" if self.detector is None else self.detector.status

    @property
    def due(self) -> bool:
        """Is there enough reference to try whether the promise can be kept?"""
        return not self.traffic.frozen and self.traffic.ticks >= max(self.next_try, FEWEST)

    @property
    def ticks(self) -> int:
        """Ticks of a block: it moves at most once in so many."""
        return self.traffic.unit * self.length

    def update(self, tick: int, value: float) -> None:
        """Take the value of a tick; ticks ascend. NaN and infinities count as no value."""
        self.traffic.update(tick, value)
        if self._blocks is None or self.detector is None:
            return
        for unit in self.traffic.closed:
            self._blocks.update(unit.number, unit.mean)
            for block in self._blocks.closed:
                self._take(block)

    def prepare(self, run_length: float, memory: float, seed: int) -> bool:
        """Choose block length and plan by replay, and watch if the promise is kept; both lengths in ticks.

        True where something about the plan changed.
        """
        unit, season = self.traffic.unit, max(self.traffic.season // self.traffic.unit, 1)
        values, before = self.traffic.values, self._outline
        tested = min(max(run_length / unit, 1.0), TESTED)
        found = prepare(values, tested, season=season, seed=seed, share=self.harm, unit=unit)
        self.achieved = found.run_length
        self.next_try = math.ceil(self.traffic.ticks * AGAIN)
        if found.status == "learning" or found.plan is None or found.length is None:
            self._stop((found.reason or "").replace("ticks", "windows"))
            return before is not None
        self.length = found.length
        plan = msgspec.structs.replace(found.plan, run_length=UNLIMITED, memory=max(memory / self.ticks, 2.0))
        self.traffic.frozen = self.traffic.ticks >= max(2 * memory, MATURE * self.ticks)
        self.traffic.fixed = True
        if before == _outline(plan, found.length):
            return False  # the detector knows its baseline, and may have evidence
        self.detector = started(msgspec.structs.replace(found, plan=plan), values)
        self.detector.restart()  # what it learned from is no evidence
        self._blocks = BlockMeans(self.length, season if plan.positions > 1 else 1)
        self.reason, self._recent = "", []
        return True

    @property
    def _outline(self) -> tuple[object, ...] | None:
        return None if self.detector is None else _outline(self.detector.plan, self.length)

    def _stop(self, reason: str) -> None:
        self.detector = self._blocks = None
        self.traffic.fixed, self.reason, self.length = False, reason, 1

    def learn_anew(self, tick: int, run_length: float) -> None:
        """After an alarm: learn the new level, or from a longer reference where the promise is not kept so far."""
        if self.detector is None:
            return
        soon = self._alarmed is not None and tick - self._alarmed < run_length
        self._alarmed = tick
        if soon or not self.traffic.frozen:
            self.next_try = self.traffic.ticks * LONGER
            self.traffic = ReferenceTraffic(self.traffic.season)
            why = "the last alarm was not long ago" if soon else "its reference was young"
            self._stop(f"it changed when {why}; a new reference of {self.next_try} windows is needed")
            return
        plan = self._anew(self.detector.plan)
        self.detector, self._recent = SequentialDetector(plan), []
        self.reason = f"its level changed; the new one is known after {plan.learn * self.ticks} windows"

    @staticmethod
    def _anew(plan: Plan) -> Plan:
        """The plan that learns a new level, when everything else is known."""
        least = plan.learn if plan.kind == "bounded" else min(SEASONS * plan.positions + FEW, plan.learn)
        return msgspec.structs.replace(plan, learn=least)

    def more_reference(self, reason: str) -> None:
        """Learn on: the promise is not kept together with the other streams.

        Where the reference was closed before, what comes from now on is a new one, and must be longer than the old.
        """
        self.next_try = math.ceil(self.traffic.ticks * AGAIN)
        if self.traffic.frozen:
            self.traffic = ReferenceTraffic(self.traffic.season)
        self._stop(reason)

    def armed(self, weight: float) -> Armed | None:
        """What the joint replay needs, with the least that it ever learns a level from; None while it learns."""
        if self.detector is None:
            return None
        values = filled(self.traffic.values, max(self.traffic.season // self.traffic.unit, 1))
        return Armed(self._anew(self.detector.plan), self.traffic.unit, self.length, weight, values)

    def moved(self, tick: int) -> Moved:
        """The change that its evidence speaks of; ask before the evidence is forgotten."""
        if self.detector is None:
            raise ValueError("a stream that is learning has no evidence of a change")
        blocks = min(max(round(self.detector.since or 1.0), 1), len(self._recent))
        newest = np.array(self._recent[-blocks:] or [0.0])
        sd = self.detector.spread
        reach = Z90 * sd / math.sqrt(max(blocks, 1))
        size = float(newest.mean())
        since = tick + 1 - max(round((self.detector.since or 1.0) * self.ticks), 1)
        return Moved(
            since=since, size=size, low=size - reach, high=size + reach, level=self.detector.level, sd=sd,
            blocks=blocks,
        )  # fmt: skip

    def _take(self, block: Block) -> None:
        assert self.detector is not None  # noqa: S101 -- for the type checker
        self._recent = [*self._recent[-RECENT + 1 :], block.mean - self.detector.level_at(block.position)]
        self.detector.update(block.mean, block.position)
        if self.reason and self.detector.status == "watching":
            self.reason = ""

    @property
    def state(self) -> StreamState:
        """What `from_state` needs to go on exactly where this one stands."""
        return StreamState(
            traffic=self.traffic.state, harm=self.harm, reason=self.reason, next_try=self.next_try,
            length=self.length, achieved=self.achieved, blocks=self._blocks.state if self._blocks else None,
            detector=self.detector.state if self.detector else None, recent=tuple(self._recent),
            alarmed=self._alarmed,
        )  # fmt: skip

    @classmethod
    def from_state(cls, state: StreamState) -> "Stream":
        """The stream whose state this was; ValueError for a version this code does not know."""
        if state.version != 1:
            raise ValueError(f"stream state has version {state.version}, known is 1; start the stream afresh")
        found = cls(state.traffic.season, harm=state.harm)
        found.traffic = ReferenceTraffic.from_state(state.traffic)
        found.reason, found.next_try, found.length = state.reason, state.next_try, state.length
        found.achieved, found._recent, found._alarmed = state.achieved, list(state.recent), state.alarmed
        if state.blocks is not None and state.detector is not None:
            found._blocks = BlockMeans.from_state(state.blocks)
            found.detector = SequentialDetector.from_state(state.detector)
        return found


def _outline(plan: Plan, length: int) -> tuple[object, ...]:
    """What makes a detector another one; how much it learned from does not."""
    return plan.kind, plan.positions, plan.farthest, length
