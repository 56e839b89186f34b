"""What retraining policies cost, side by side: `python -m benchmarks.policies [--quick] [HISTORY ...]`.

Every policy meets the same traffic and the same models (`models.backtest`): on the real and the synthetic histories
HistGradientBoosting (40 iterations, 15 leaves) on the last 2 000 labelled rows, data cut every 500; windows of 250; on
digits the last layer of the CNN. The first third is for tuning, the costs are those of the rest. Lead time and label
delay are in windows. `errors`: a retraining costs so many wrong answers. `below`: it costs so many windows below the
threshold, which is .85 for digits, .80 for the census and five points below a fresh model elsewhere.

Seeds 0 .. 19; ours was shaped on seeds 1000 .. 1002 (Rain: shifts 0 and 3 of the same history). Rain and the census are one history each: their seeds
(five for Rain) shift windows by 12 days, or draw other people, so they tell of luck and not of other histories. A win
or a loss is a paired difference whose 90% interval over seeds excludes zero; everything else is a tie.
"""

import argparse
import collections
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.policy_worlds import every
from models.backtest import Past, Run, Setting, World
from models.backtest_policies import fresh_error
from models.backtest_table import Row, compare, difference, starting

SEEDS = {"Rain": 5}  # of others: 20
RIVALS = ("never", "periodic", "adwin", "hddm", "cara", "upf", "ours-kalman")
POLICIES = (*RIVALS[:-1], "ours", "ours-kalman", "oracle")
ERRORS, BELOW = (25.0, 100.0, 400.0), (1.0, 4.0, 16.0)
DELAYS = ((0, 0), (2, 2), (8, 8))
DECLARED = {"digits": 0.85, "census": 0.80}


class Case(NamedTuple):
    """One setting of the table."""

    kind: str
    lead: int
    delay: int
    cost: float

    def setting(self, world: World, name: str) -> Setting:
        """As the simulator wants it."""
        if self.kind == "errors":
            return Setting(lead=self.lead, delay=self.delay, cost_retrain=self.cost, cost_error=1.0)
        fresh = 1 - fresh_error(Past(world, starting(world) - self.delay))
        return Setting(
            lead=self.lead, delay=self.delay, cost_retrain=self.cost, cost_degraded_per_day=1.0,
            threshold=DECLARED.get(name, fresh - 0.05),
        )  # fmt: skip


CASES = (
    *(Case("errors", lead, delay, cost) for lead, delay in DELAYS for cost in ERRORS),
    *(Case("below", 2, 2, cost) for cost in BELOW),
)


def history(name: str, seeds: int) -> dict[Case, dict[str, list[Row]]]:
    """Every policy in every case on one history, seed by seed."""
    found: dict[Case, dict[str, list[Row]]] = {case: {p: [] for p in POLICIES} for case in CASES}
    for seed in range(seeds):
        world, known = every()[name](seed), dict[tuple[str, int, int], Run]()
        for case in CASES:
            for row in compare(world, case.setting(world, name), POLICIES, known=known):
                found[case][row.policy].append(row)
    return found


def shown(name: str, found: dict[Case, dict[str, list[Row]]], tally: collections.Counter[tuple[str, str, str]]) -> None:
    """Print the table of one history."""
    print(f"\n{name}: median regret to the oracle, (retrainings); w, t, l: ours wins, ties, loses against it")
    print(f"{'kind lead delay cost':22s}" + "".join(f"{p:>16s}" for p in POLICIES))
    for case, rows in found.items():
        cells = []
        for policy in POLICIES:
            regret = float(np.median([r.regret for r in rows[policy]]))
            count = float(np.mean([r.figures.retrains for r in rows[policy]]))
            mark = " "
            if policy in RIVALS:
                verdict = difference(rows["ours"], rows[policy]).word
                tally[case.kind + (" late" if case.delay else " at once"), policy, verdict] += 1
                mark = verdict[0]
            cells.append(f"{regret:8.1f} ({count:4.1f}) {mark}")
        print(f"{case.kind:7s}{case.lead:4d}{case.delay:5d}{case.cost:6g}" + "".join(cells))
    late = [rows for case, rows in found.items() if case.kind == "errors" and case.delay]
    for policy in POLICIES:
        mine = [r for rows in late for r in rows[policy]]
        error, retrains = np.mean([r.figures.error for r in mine]), np.mean([r.figures.retrains for r in mine])
        below = [r for case, rows in found.items() if case.kind == "below" for r in rows[policy]]
        share, missed = np.mean([r.figures.below for r in below]), np.mean([r.figures.missed for r in below])
        warnings = [r.figures.warning for r in below if r.figures.warning is not None]
        warning = f"{np.median(warnings):+.1f}" if warnings else "-"
        print(
            f"  {policy:12s} late labels: error {100 * error:5.2f}% with {retrains:4.1f} retrainings; threshold: below "
            f"{100 * share:4.1f}% of the time, {missed:.1f} crossings without warning, median warning {warning} windows"
        )


def verdicts(tally: collections.Counter[tuple[str, str, str]]) -> None:
    """Print how often ours wins, ties and loses over all histories."""
    print(
        "\nours against each, over all histories and costs: wins / ties / losses (90% interval of paired differences)"
    )
    kinds = sorted({kind for kind, _, _ in tally})
    print(f"{'':14s}" + "".join(f"{kind:>20s}" for kind in kinds))
    for rival in RIVALS:
        counts = [" / ".join(f"{tally[kind, rival, word]}" for word in ("wins", "ties", "loses")) for kind in kinds]
        print(f"{rival:14s}" + "".join(f"{count:>20s}" for count in counts))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description="What retraining policies cost, side by side.")
    parser.add_argument("histories", nargs="*", default=list(every()), help=f"of {', '.join(every())}")
    parser.add_argument("--quick", action="store_true", help="three seeds instead of twenty")
    chosen = parser.parse_args(arguments)
    started, tally = time.perf_counter(), collections.Counter[tuple[str, str, str]]()
    for name in chosen.histories:
        shown(name, history(name, 3 if chosen.quick else SEEDS.get(name, 20)), tally)
        print(f"  ({time.perf_counter() - started:.0f} s so far)", flush=True)
    verdicts(tally)


if __name__ == "__main__":
    main()
