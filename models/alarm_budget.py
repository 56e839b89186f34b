"""One budget of false alarms for a whole deployment, in time units, shared by all its streams.

Operators say `1 per 90 days`. With A = 90 days in ticks, weights w_i that sum up to at most 1, and streams that move
once in l_i ticks, the alarm is raised where R = sum w_i l_i M_i reaches A, M_i being the evidence of a stream
(`models.sequential`). While nothing changes E[M_i] grows by at most 1 per move, so E[R] grows by at most 1 per tick,
and the mean time to a false alarm is A or more. That needs no independence of the streams: they may move together
in any way. It does need each stream's promise to hold given the past of *all* streams; where one stream foretells
another, what is certain is only half of A, for an alarm of each stream at A / w_i (Doob's inequality and a union
bound). A bounded stream that learned its baseline keeps its part with probability 1 - risk of its plan.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from models.sequential import SequentialDetector
from models.units import duration_us

_RATE = re.compile(r"\s*((?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+))\s*(?:per|/|in)\s*(\S.*)", re.DOTALL)
HARM = 0.7  # of the budget, for streams that show harm rather than change


class Rate(msgspec.Struct, frozen=True):
    """So many false alarms in such a time."""

    count: float
    period_us: int

    def ticks(self, tick_us: int) -> float:
        """The run length this promises, in ticks of `tick_us`; ValueError where that is less than one."""
        found = self.period_us / self.count / tick_us
        if found < 1:
            raise ValueError(
                f"{self.count:g} false alarms per {self.period_us} us are more than one per tick of {tick_us} us; "
                "allow fewer, or shorten the window"
            )
        return found


def parse_rate(text: str) -> Rate:
    """`1 per 90 days`, `2/week`, `0.5 in 30 days`. Raises ValueError that shows the text and how to write it.

    >>> parse_rate("1 per 90 days").ticks(3_600_000_000)
    2160.0
    """
    found = _RATE.fullmatch(text)
    if found is None or float(found.group(1)) <= 0:
        raise ValueError(f"{text[:100]!r} is no rate; write a count and a duration, as in '1 per 90 days'")
    length = found.group(2).rstrip()
    period = duration_us(length if length[0].isdigit() or length[0] == "." else f"1 {length}")
    if period <= 0:
        raise ValueError(f"{text[:100]!r} is no rate; its duration must be positive, as in '1 per 90 days'")
    return Rate(float(found.group(1)), period)


def shares(harm: Mapping[str, float], change: Mapping[str, float]) -> dict[str, float]:
    """Weights that sum up to 1: streams of harm get 70%, those of change the rest, each in proportion to traffic.

    >>> shares({"errors": 1}, {"x0": 1, "x1": 2})
    {'errors': 0.7, 'x0': 0.1, 'x1': 0.2}
    """
    both = bool(harm) and bool(change)
    found: dict[str, float] = {}
    for streams, part in ((harm, HARM if both else 1.0), (change, 1 - HARM if both else 1.0)):
        total = math.fsum(streams.values())
        if streams and not (0 < total < math.inf and min(streams.values()) >= 0):
            raise ValueError(f"traffic of {', '.join(streams)} must not be negative, and not zero altogether")
        found |= {name: round(part * traffic / total, 15) for name, traffic in streams.items()}
    return found


class Suspect(NamedTuple):
    """A stream and its part of the evidence behind an alarm."""

    stream: str
    part: float


class BudgetState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an `AlarmBudget` is; the detectors keep their own state."""

    run_length: float
    weights: dict[str, float]
    moves: dict[str, int]
    version: int = 1
    alarms: int = 0
    alarm: bool = False
    evidence: float = 0.0
    suspects: tuple[Suspect, ...] = ()


class AlarmBudget:
    """The shared budget: `update` with the detectors after each tick, then read `alarm` and `suspects`.

    `run_length` is in ticks; `moves` says after how many ticks a stream moves (default 1). An alarm restarts every
    detector. Streams that are not given to an update, or are learning, count for nothing.

    >>> from models.sequential import Plan
    >>> budget = AlarmBudget(1000, {"a": 0.5, "b": 0.5})
    >>> plan = Plan(kind="normal", run_length=budget.run_length_of("a"), centre=0.0, scale=1.0)
    >>> streams = {name: SequentialDetector(plan) for name in "ab"}
    >>> for _ in range(10):
    ...     if not budget.alarms:
    ...         streams["a"].update(3.0)
    ...         budget.update(streams)
    >>> budget.alarms, budget.suspects
    (1, (Suspect(stream='a', part=1.0),))
    """

    def __init__(self, run_length: float, weights: Mapping[str, float], moves: Mapping[str, int] | None = None) -> None:
        if not 1 <= run_length < math.inf:
            raise ValueError(f"run length {run_length} must be at least one tick, and finite")
        if min(weights.values(), default=0) < 0 or not math.fsum(weights.values()) <= 1 + 1e-9:
            raise ValueError(f"weights sum up to {math.fsum(weights.values())}; at most 1 and none negative is needed")
        self.run_length = run_length
        self._weights = dict(weights)
        self._moves = dict(moves or {})
        if any(move < 1 for move in self._moves.values()):
            raise ValueError("a stream moves after one tick or more")
        self._alarms, self._alarm, self._evidence = 0, False, 0.0
        self._suspects: tuple[Suspect, ...] = ()

    @property
    def alarm(self) -> bool:
        """Did the last update raise an alarm?"""
        return self._alarm

    @property
    def alarms(self) -> int:
        """Alarms so far."""
        return self._alarms

    @property
    def evidence(self) -> float:
        """The weighted evidence of all streams after the last update, in ticks; the alarm is at `run_length`."""
        return self._evidence

    @property
    def suspects(self) -> tuple[Suspect, ...]:
        """The streams behind the last alarm, most evidence first: together 90% of it. An order, not a test."""
        return self._suspects

    def run_length_of(self, stream: str) -> float:
        """For the plan of a stream: the run length, in its own moves, at which it spends its share of the budget."""
        return max(self.run_length / (self._weights[stream] * self._moves.get(stream, 1)), 1.0)

    def memory_of(self, stream: str) -> float:
        """For the plan of a stream: half the budget's run length, in its own moves.

        Without it the evidence of many independent streams would add up like a clock: their mean has no chance to
        stay far below its expectation, which is the time since the last alarm.
        """
        return max(self.run_length / (2 * self._moves.get(stream, 1)), 2.0)

    def update(self, streams: Mapping[str, SequentialDetector], *, restart: bool = True) -> None:
        """Read the evidence of all streams after a tick. KeyError names a stream without a share of the budget.

        With `restart` False the caller restarts the detectors after an alarm, once it has asked them since when.
        """
        parts = {name: self._part(name, detector) for name, detector in streams.items()}
        self._evidence = math.fsum(parts.values())
        self._alarm = self._evidence >= self.run_length
        if self._alarm:
            self._alarms += 1
            self._suspects = tuple(_most(parts.items(), self._evidence))
            for detector in streams.values() if restart else ():
                detector.restart()

    def reshared(self, weights: Mapping[str, float], moves: Mapping[str, int]) -> "AlarmBudget":
        """The same budget with other shares. No share may grow, or evidence gathered so far would count for more."""
        grown = [name for name, weight in self._weights.items() if weights.get(name, 0.0) > weight + 1e-12]
        if grown:
            raise ValueError(f"the share of {', '.join(grown)} would grow; start the budget afresh")
        return AlarmBudget.from_state(msgspec.structs.replace(self.state, weights=dict(weights), moves=dict(moves)))

    def split(self, parent: str, child: str, part: float) -> None:
        """Give a new stream `part` of its parent's share; what the deployment may see stays the same."""
        if child in self._weights or not 0 < part < 1:
            raise ValueError(f"{child} has a share already, or {part} is no part of {parent}'s; give 0 < part < 1")
        whole = self._weights[parent]
        self._weights |= {parent: whole * (1 - part), child: whole * part}
        self._moves[child] = self._moves.get(parent, 1)

    @property
    def state(self) -> BudgetState:
        """What `from_state` needs to go on exactly where this one stands."""
        return BudgetState(
            run_length=self.run_length,
            weights=dict(self._weights),
            moves=dict(self._moves),
            alarms=self._alarms,
            alarm=self._alarm,
            evidence=self._evidence,
            suspects=self._suspects,
        )

    @classmethod
    def from_state(cls, state: BudgetState) -> "AlarmBudget":
        """The budget whose state this was; ValueError for a version this code does not know."""
        if state.version != 1:
            raise ValueError(f"budget state has version {state.version}, known is 1; start the budget afresh")
        budget = cls(state.run_length, state.weights, state.moves)
        budget._alarms, budget._alarm, budget._evidence = state.alarms, state.alarm, state.evidence
        budget._suspects = state.suspects
        return budget

    def _part(self, name: str, detector: SequentialDetector) -> float:
        if name not in self._weights:
            raise KeyError(f"{name} has no share of the budget; split one off with `split`")
        return self._weights[name] * self._moves.get(name, 1) * detector.evidence


def _most(parts: Iterable[tuple[str, float]], total: float) -> Iterable[Suspect]:
    seen = 0.0
    for name, part in sorted(parts, key=lambda item: (-item[1], item[0])):
        if seen >= 0.9 * total:
            return
        seen += part
        yield Suspect(name, part / total)
