"""Which inferences to ask labels for, and with what probability, so that few labels say much and stay unbiased.

A part of the budget is uniform, so that nothing escapes and no label weighs more than 1 / part; the rest goes where
the answer is in doubt and to segments that have seen little. A `Plan` is made from past windows and fixed for the
next one: the propensity of an inference depends only on the plan, its error probability and its segment, and the
choice only on the hash of its id. So every worker, and every replay, asks for the same labels. The pipeline uses
`registered_plan`, made from declared facts alone: a plan that follows the traffic would have to reach every worker,
and every replay, before the window it is for.
Sampling by uncertainty with exact propensities: Zrnic and Candes 2024, arXiv:2403.03208.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.quantities import converted, number_of

Floats = NDArray[np.float64]
VERSION = 1
STEP = 2.0**-32  # propensities are multiples of it, so that what is logged is exactly what was drawn with
UNIFORM = 0.5
MEMORY = 0.8  # weight of what was known before, per window
SEGMENTS = 256  # segments that are remembered; the largest stay
PROXIES = 64  # steps of P(correct) that are told apart, as in the histogram of confidences in a profile


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How likely each inference of a window is to be asked about; written into the log beside the requests.

    `rate` is the share of traffic to label, `uniform` the part of it spread evenly, `doubt` the mean doubt of the
    traffic, `scarcity` the factor of each known segment (others get 1), `ceiling` the rate at which predictions are
    kept for late labels: what is not kept cannot be joined.
    """

    version: int = VERSION
    rate: float
    uniform: float = UNIFORM
    doubt: float = 0.25
    scarcity: Mapping[str, float] = {}
    ceiling: float = 1.0

    def propensities(
        self, proxy: Floats, segments: Sequence[str] = (), codes: NDArray[np.int64] | None = None
    ) -> Floats:
        """Probability of each inference of being asked about, shape (n,), from its P(correct), NaN where unknown.

        `codes[i]` is the place of inference i's segment in `segments`.
        """
        factor = np.ones(len(proxy))
        if codes is not None and len(segments):
            factor = np.array([self.scarcity.get(name, 1.0) for name in segments])[codes]
        relative = factor * np.where(np.isnan(proxy), 1.0, doubt(proxy) / self.doubt)
        wanted = self.rate * (self.uniform + (1 - self.uniform) * relative)
        return np.asarray(np.clip(np.ceil(wanted / STEP) * STEP, STEP, _whole(self.ceiling)))

    @property
    def least(self) -> float:
        """The smallest probability of being asked about that any inference can have."""
        return float(self._extremes()[1].min())

    def _extremes(self) -> tuple[Floats, Floats]:
        """P(correct) in all its steps, 0 without an answer, and the least propensity at each."""
        steps = np.append((np.arange(PROXIES) + 0.5) / PROXIES, np.nan)
        least = min([1.0, *self.scarcity.values()])
        plan = msgspec.structs.replace(self, scarcity={"": least})
        return np.nan_to_num(steps), plan.propensities(steps, ("",), np.zeros(len(steps), np.int64))

    def surprises(self) -> tuple[float, float]:
        """The largest f / propensity and (1 - f) / propensity there can be: how much a single label can surprise."""
        f, p = self._extremes()
        return float((f / p).max()), float(((1 - f) / p).max())

    def reason(self, hash_: int, proxy: float, segment: str) -> str:
        """Why a chosen inference was chosen: it is in the uniform part, in doubt, or of a scarce segment."""
        if (hash_ >> 32) * STEP < self.rate * self.uniform:
            return "uniform"
        relative = 1.0 if math.isnan(proxy) else float(doubt(np.array([proxy]))[0]) / self.doubt
        factor = self.scarcity.get(segment, 1.0)
        return "scarce" if factor > max(relative, 1.0) else "doubt"

    def chosen(self, hashes: NDArray[np.uint64], propensities: Floats) -> NDArray[np.bool_]:
        """Whose labels are wanted, from the 64-bit hashes of the ids (`bestbefore_client.sampling.u64_many`)."""
        top = (hashes >> np.uint64(32)).astype(np.float64) * STEP
        return np.asarray(top < propensities)


class SamplerState(msgspec.Struct, frozen=True, kw_only=True):
    """What past windows showed: mean doubt, and the traffic of each segment, newest windows weighing most."""

    version: int = VERSION
    rate: float
    uniform: float
    ceiling: float
    doubt: float = 0.25
    windows: int = 0
    segments: Mapping[str, float] = {}


class LabelSampler:
    """Makes the plan of the next window from the windows before it.

    >>> sampler = LabelSampler(rate=0.01)
    >>> sampler.update(np.array([0.99, 0.9, 0.6]))
    >>> sampler.plan.propensities(np.array([0.99, 0.6])).round(4)
    array([0.0067, 0.0133])
    """

    def __init__(self, rate: float, *, uniform: float = UNIFORM, ceiling: float = 1.0) -> None:
        if not 0 < rate <= 1 or not 0 < uniform <= 1 or not 0 < ceiling <= 1:
            raise ValueError(f"rate {rate}, uniform {uniform} and ceiling {ceiling} must lie in (0, 1]")
        self.rate, self.uniform, self.ceiling = rate, uniform, ceiling
        self._doubt, self._windows, self._segments = 0.25, 0, dict[str, float]()

    @property
    def plan(self) -> Plan:
        """The plan of the next window.

        A segment's factor is that of equal numbers of labels per segment, damped by a square root, then scaled so
        that the budget is kept on traffic like that of the past.
        """
        return Plan(
            rate=self.rate,
            uniform=self.uniform,
            doubt=self._doubt,
            scarcity=_scarcity(self._segments),
            ceiling=self.ceiling,
        )

    def update(self, proxy: Floats, counts: Mapping[str, int] | None = None) -> None:
        """Learn from one window: P(correct) of its inferences, shape (n,), and the number of them per segment."""
        known = proxy[~np.isnan(proxy)]
        if len(known):
            seen = max(float(doubt(known).mean()), 1e-3)
            self._doubt = seen if not self._windows else MEMORY * self._doubt + (1 - MEMORY) * seen
            self._windows += 1
        if counts:
            names = self._segments.keys() | counts.keys()
            mixed = {n: MEMORY * self._segments.get(n, 0.0) + (1 - MEMORY) * counts.get(n, 0) for n in names}
            kept = sorted(((v, n) for n, v in mixed.items() if v > 1e-3), reverse=True)[:SEGMENTS]
            self._segments = {name: value for value, name in sorted(kept, key=lambda pair: pair[1])}

    @property
    def state(self) -> SamplerState:
        """What `from_state` needs to go on exactly where this one stands."""
        return SamplerState(
            rate=self.rate,
            uniform=self.uniform,
            ceiling=self.ceiling,
            doubt=self._doubt,
            windows=self._windows,
            segments=dict(self._segments),
        )

    @classmethod
    def from_state(cls, state: SamplerState) -> "LabelSampler":
        """The sampler whose state this was; ValueError for a version this code does not know."""
        if state.version != VERSION:
            raise ValueError(f"sampler state has version {state.version}, known is {VERSION}; start it afresh")
        found = cls(state.rate, uniform=state.uniform, ceiling=state.ceiling)
        found._doubt, found._windows, found._segments = state.doubt, state.windows, dict(state.segments)
        return found


def registered_plan(budget: Mapping[str, Any], *, accuracy: float | None, rate: Any = None) -> Plan:
    """The plan that `production_data.bestbefore.labels.budget` declares; it is the same for every window.

    `per_day` needs the declared `rate` of events. Mean doubt is put at its largest for the registered `accuracy`, so
    that on traffic like the reference no more is asked for than declared. Raises ValueError naming the key.
    """
    path = "production_data.bestbefore.labels.budget"
    share = budget.get("share")
    if share is not None and budget.get("per_day") is not None:
        raise ValueError(f"{path}: share and per_day are both given; keep the one that is meant")
    if share is None and budget.get("per_day") is not None:
        unit = (rate or {}).get("unit") if isinstance(rate, Mapping) else None
        found = number_of({"value": rate.get("mean"), "unit": unit}) if isinstance(rate, Mapping) else number_of(rate)
        events = converted(found[0], found[1], "1/day") if found is not None and found[1] else None
        if not events:
            raise ValueError(
                f"{path}.per_day: needs production_data.bestbefore.rate with a unit of time, such as 1/day"
            )
        share = min(float(budget["per_day"]) / events, 1.0)
    if share is None or not 0 < share <= 1:
        raise ValueError(f"{path}: give share, in (0, 1], or per_day, above 0; found {dict(budget)}")
    mean = math.sqrt(max(accuracy * (1 - accuracy), 1e-4)) if accuracy is not None else 0.5
    return Plan(
        rate=float(share), uniform=float(budget.get("uniform") or UNIFORM), doubt=mean,
        scarcity=_scarcity({_key(s["segment"]): float(s["share"]) for s in budget.get("segments") or ()}),
    )  # fmt: skip


def _key(segment: Mapping[str, str]) -> str:
    return json.dumps(dict(sorted(segment.items())), separators=(",", ":"), ensure_ascii=False)  # as events have it


def _scarcity(shares: Mapping[str, float]) -> dict[str, float]:
    """A segment's factor: that of equal numbers of labels per segment, damped by a square root, budget kept."""
    total = sum(shares.values())
    raw = {name: math.sqrt(total / (len(shares) * n)) for name, n in shares.items() if n > 0}
    spent = sum(raw[name] * shares[name] for name in raw) / total if total else 1.0
    return {name: factor / spent for name, factor in sorted(raw.items())}


def stepped(confidence: Floats) -> Floats:
    """P(correct) in PROXIES steps, each at its middle: what does not depend on the last bits of a confidence.

    >>> stepped(np.array([0.0, 0.99, 1.0])).round(4)
    array([0.0078, 0.9922, 0.9922])
    """
    return np.asarray((np.clip(np.ceil(confidence * PROXIES) - 1, 0, PROXIES - 1) + 0.5) / PROXIES)


def step_of(proxy: Floats) -> NDArray[np.int64]:
    """Numbers of the steps of `stepped` values; -1 for NaN."""
    return np.asarray(np.where(np.isnan(proxy), -1, np.nan_to_num(proxy) * PROXIES), dtype=np.int64)


def doubt(proxy: Floats) -> Floats:
    """Standard deviation of correctness given P(correct), and its largest value, 1/2, for answers more likely wrong.

    The labels of such answers could be cheaper by the same rule; but they are few, and asking for them often keeps the
    largest possible weighted surprise small, on which the sharpness of a confidence sequence depends.
    """
    p = np.clip(proxy, 0.5, 1.0)
    return np.asarray(np.sqrt(p * (1 - p)))


def _whole(ceiling: float) -> float:
    return max(math.floor(ceiling / STEP), 1) * STEP
