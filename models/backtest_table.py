"""All policies on one history, side by side, and what may be said of their difference."""

import math
from collections.abc import Callable, MutableMapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.backtest import Figures, Past, Policy, Run, Setting, World, costs_served, figures, simulate
from models.backtest_oracle import oracle
from models.backtest_ours import ours
from models.backtest_policies import Detector, Never, cara, periodic, upf
from models.distance import Z90

Maker = Callable[[Past, Setting, int], Policy]
MAKERS: dict[str, Maker] = {
    "never": lambda *_: Never(),
    "periodic": periodic,
    "adwin": lambda *_: Detector("adwin"),
    "hddm": lambda *_: Detector("hddm"),
    "cara": cara,
    "upf": upf,
    "ours": ours("amortised"),
    "ours-kalman": ours("kalman"),
    "ours-holt": ours("holt"),
}
ORACLE = "oracle"
COSTLESS = ("never", "adwin", "hddm")
POLICIES = (*MAKERS, ORACLE)
TUNED_ON = 1 / 3
BLOCK = 5  # windows whose cost differences are taken as one, because neighbours depend on each other


class Row(NamedTuple):
    """One policy on one world: what it did, what it was worth, its cost per window, and its regret to the oracle."""

    policy: str
    run: Run
    figures: Figures
    costs: NDArray[np.float64]
    regret: float


class Difference(NamedTuple):
    """Cost of one policy less that of another, with the half-width of its 90% interval."""

    value: float
    reach: float

    @property
    def word(self) -> str:
        """`wins`, `ties` or `loses`."""
        return "ties" if abs(self.value) <= self.reach else "wins" if self.value < 0 else "loses"


def starting(world: World, share: float = TUNED_ON) -> int:
    """The window in which the comparison starts, after the share of the history that is for tuning."""
    return world.first + math.ceil((world.windows - world.first) * share)


def compare(
    world: World,
    setting: Setting,
    policies: Sequence[str] = POLICIES,
    *,
    known: MutableMapping[tuple[str, int, int], Run] | None = None,
) -> list[Row]:
    """Run every policy on what follows the first third. Raises ValueError for an unknown policy.

    `known` keeps runs of policies that look at no costs, for settings of the same world that differ in costs alone.
    """
    unknown = [name for name in policies if name not in POLICIES]
    if unknown:
        raise ValueError(f"no policy {', '.join(unknown)}; there are {', '.join(POLICIES)}")
    start = starting(world)
    past = Past(world, start - setting.delay)
    best = oracle(world, setting, start=start)
    least = float(costs_served(world, best, setting).sum())
    rows = []
    for name in policies:
        key = (name, setting.lead, setting.delay)
        if name == ORACLE:
            run = best
        elif known is not None and key in known:
            run = known[key]
        else:
            run = simulate(world, MAKERS[name](past, setting, world.windows), setting, start=start)
        if known is not None and name in COSTLESS:
            known[key] = run
        costs = costs_served(world, run, setting)
        rows.append(Row(name, run, figures(world, run, setting), costs, float(costs.sum()) - least))
    return rows


def difference(ours: Sequence[Row], theirs: Sequence[Row]) -> Difference:
    """Mean difference of cost over worlds, paired. Of one world alone: over blocks of windows."""
    if len(ours) > 1:
        paired = np.array([a.costs.sum() - b.costs.sum() for a, b in zip(ours, theirs, strict=True)])
        return Difference(float(paired.mean()), float(Z90 * paired.std(ddof=1) / math.sqrt(len(paired))))
    per_window = ours[0].costs - theirs[0].costs
    blocks = np.add.reduceat(per_window, np.arange(0, len(per_window), BLOCK))
    spread = blocks.std(ddof=1) * math.sqrt(len(blocks)) if len(blocks) > 1 else math.inf
    return Difference(float(per_window.sum()), float(Z90 * spread))
