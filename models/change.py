"""Has anything changed? Streams of a deployment under one budget of false alarms, promised in time.

 values of a window ─> units ─> block means ─> evidence of each stream ─┐
        └─ reference traffic ─> bootstrap ─> plan, or `learning`        ├─> budget ─> alarm, suspects, since when
                                    └─ joint replay ─> achieved beside promised

A stream learns from its first values, and watches once a replay of them keeps the promise (`models.run_length`). The
budget is `models.alarm_budget`: whatever the streams have to do with each other, the mean time to a false alarm is as
promised. After an alarm the streams behind it learn their new level; an alarm is about a change, not about a state.

One preparation or joint replay per tick at most, so no window costs more than about a second, and most cost nothing.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from models.alarm_budget import AlarmBudget, BudgetState, shares
from models.change_stream import YOUNG, Moved, Stream, StreamState
from models.joint_replay import together
from models.run_length import RunLength

MOST_STREAMS = 128
KEPT = 0.5  # of the promise that the joint replay must achieve, lower end of its interval
PART = 0.25  # of the largest part of the evidence, below which a stream is no suspect
QUIET = 24  # ticks at least without a new stream, before all are replayed together
HELD = 2  # ticks in which it is told that a change is over


class Reading(NamedTuple):
    """The value of a stream in one window. `harm`: it is a share (0 to 1) of bad answers; others show the data."""

    value: float
    harm: bool = False


class Suspected(msgspec.Struct, frozen=True, kw_only=True):
    """A stream behind an alarm: at which tick it was raised, its part of the evidence, and what changed."""

    stream: str
    harm: bool
    alone: bool  # harm without a change of data
    tick: int
    part: float
    moved: Moved


class ChangeState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a `Change` is. Only add fields, with defaults."""

    run_length: float
    season: int
    window_us: int
    budget: BudgetState
    streams: dict[str, StreamState] = {}
    tick: int = -1
    achieved: RunLength | None = None
    replay_at: int | None = None
    held: dict[str, Suspected] = {}
    ended: dict[str, int] = {}
    last: tuple[Suspected, ...] = ()
    version: int = 1


class Change:
    """`update` with the values of each window, in order; then read `alarm`, `held`, `achieved`, `streams`.

    `run_length` is the promised mean time to a false alarm and `season` the length of a cycle, both in windows.
    """

    def __init__(self, run_length: float, season: int, window_us: int) -> None:
        self.season, self.window_us = season, window_us
        self.streams: dict[str, Stream] = {}
        self.budget = AlarmBudget(max(float(run_length), 1.0), {})
        self.achieved: RunLength | None = None
        self.held: dict[str, Suspected] = {}
        self.ended: dict[str, int] = {}
        self.last: tuple[Suspected, ...] = ()
        self._tick, self._replay_at = -1, None  # type: int, int | None

    @property
    def run_length(self) -> float:
        """The promised one, in windows."""
        return self.budget.run_length

    @property
    def alarm(self) -> bool:
        """Did the last update raise an alarm?"""
        return self.budget.alarm

    def update(self, tick: int, readings: Mapping[str, Reading], seed: int = 1) -> None:
        """Take the values of window number `tick`; one that is not after the last is left out."""
        if tick <= self._tick:
            return
        self._tick = tick
        self._admit(readings)
        for name, reading in readings.items():
            if name in self.streams:
                self.streams[name].update(tick, reading.value)
        watching = {name: s.detector for name, s in self.streams.items() if s.detector is not None}
        self.budget.update(watching, restart=False)
        if self.budget.alarm:
            self._alarm()
            for detector in watching.values():
                detector.restart()
        self._end()
        self._learn(seed)

    # -- learning ----------------------------------------------------------------------------------

    def _admit(self, readings: Mapping[str, Reading]) -> None:
        """Give new streams a share; those of older ones only fall."""
        fresh = sorted(readings.keys() - self.streams.keys())[: MOST_STREAMS - len(self.streams)]
        for name in fresh:
            self.streams[name] = Stream(self.season, harm=readings[name].harm)
            self.streams[name].next_try = math.ceil(self.run_length / YOUNG)
        if fresh:
            self._share()

    def _share(self) -> None:
        harm = {name: 1.0 for name, stream in self.streams.items() if stream.harm}
        change = {name: 1.0 for name, stream in self.streams.items() if not stream.harm}
        moves = {name: stream.ticks for name, stream in self.streams.items()}
        self.budget = self.budget.reshared(shares(harm, change), moves)

    def _learn(self, seed: int) -> None:
        """At most one costly thing: prepare the stream that is due, or replay all that watch together."""
        name = min((name for name, s in self.streams.items() if s.due), default=None)
        if name is not None:
            alone = self.run_length / self.budget.state.weights[name]
            if self.streams[name].prepare(alone, self.run_length / 2, seed):
                self._replay_at, self.achieved = self._tick + max(self.season, QUIET), None
                self._share()
        elif self._replay_at is not None and self._tick >= self._replay_at:
            self._replay_at = None
            self._replay(seed)

    def _replay(self, seed: int) -> None:
        weights = self.budget.state.weights
        armed = {name: found for name, s in self.streams.items() if (found := s.armed(weights[name])) is not None}
        if not armed:
            return
        joint = together(armed, self.run_length, season=self.season, seed=seed)
        if joint.run_length.low < KEPT * self.run_length and joint.run_length.alarms:
            worst = max(joint.blamed, key=lambda name: (joint.blamed[name], name))
            told = joint.run_length.told().replace("ticks", "windows")
            self.streams[worst].more_reference(f"together with the other streams, {told}")
            self._replay_at = self._tick + 1
            self._share()
            return
        self.achieved = joint.run_length

    # -- alarms ------------------------------------------------------------------------------------

    def _alarm(self) -> None:
        found = []
        suspects = [s for s in self.budget.suspects if s.part >= PART * self.budget.suspects[0].part]
        data = any(not self.streams[s.stream].harm for s in suspects)
        data = data or any(not held.harm for held in self.held.values())
        for suspect in suspects:
            stream = self.streams[suspect.stream]
            found.append(
                Suspected(
                    stream=suspect.stream, harm=stream.harm, alone=stream.harm and not data, tick=self._tick,
                    part=suspect.part, moved=stream.moved(self._tick),
                )
            )  # fmt: skip
            stream.learn_anew(self._tick, self.run_length)
        self.last = tuple(found)
        self.held |= {suspected.stream: suspected for suspected in found}

    def _end(self) -> None:
        """A change is over when the new level is learned, or when it is too long ago to speak of."""
        self.ended = {name: left - 1 for name, left in self.ended.items() if left > 1 and name not in self.held}
        for name, suspected in list(self.held.items()):
            if self.streams[name].status == "watching" or self._tick - suspected.tick > self.run_length:
                del self.held[name]
                self.ended[name] = HELD

    @property
    def state(self) -> ChangeState:
        """What `from_state` needs to go on exactly where this one stands."""
        return ChangeState(
            run_length=self.run_length, season=self.season, window_us=self.window_us, budget=self.budget.state,
            streams={name: stream.state for name, stream in self.streams.items()}, tick=self._tick,
            achieved=self.achieved, replay_at=self._replay_at, held=dict(self.held), ended=dict(self.ended),
            last=self.last,
        )  # fmt: skip

    @classmethod
    def from_state(cls, state: ChangeState) -> "Change":
        """The one whose state this was; ValueError for a version this code does not know."""
        if state.version != 1:
            raise ValueError(f"change state has version {state.version}, known is 1; upgrade, or start it afresh")
        found = cls(state.run_length, state.season, state.window_us)
        found.budget = AlarmBudget.from_state(state.budget)
        found.streams = {name: Stream.from_state(each) for name, each in state.streams.items()}
        found._tick, found.achieved, found._replay_at = state.tick, state.achieved, state.replay_at
        found.held, found.ended, found.last = dict(state.held), dict(state.ended), state.last
        return found
