"""Does the promised run length hold, and what does it cost? `python -m benchmarks.run_length`

Ours, from models/sequential.py, beside river's detectors on the same streams in the same run:
1. detection delay after the error rate of a model rises, in labels, at a promised run length of 100 000;
2. false alarms per 100 000 values on traffic that depends on itself, with the delay of a lasting shift beside them;
3. the run length of one budget shared by 1, 100 and 1 000 streams, independent or moving together;
4. pages per promise through the real assessor (`benchmarks.change_replay`).
`--quick` takes fewer runs; `delay`, `traffic`, `budget` or `replay` prints that table only. Intervals are 95%: of
medians by order statistics, of rates by Garwood. Won and lost: by a sign
test at 5% over the same streams, else it is a tie.
"""

import itertools
import sys
from collections.abc import Callable, Iterator
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray
from river.drift import ADWIN, KSWIN, PageHinkley
from river.drift.binary import DDM, HDDMA

from benchmarks.change_replay import print_replays
from benchmarks.traffic import TRAFFIC, Kind, median, outcome, rate
from models.blocks import BlockMeans
from models.change_stream import TESTED
from models.run_length import RunLength, counted, prepare, started
from models.sequential import Evidence, Plan, SequentialDetector

Floats = NDArray[np.float64]
PROMISED = 100_000
BEFORE = 4_000  # labels before the change
CENTRE = 0.10
REFERENCE = 9_600  # ticks: 400 days of hours


class Watcher(Protocol):
    """A detector of either make, that says at each value whether it fired."""

    def fired(self, tick: int, value: float) -> bool: ...


class River:
    """One of river's detectors; alarms are counted by us, it resets itself."""

    def __init__(self, detector: "ADWIN | KSWIN | PageHinkley | DDM | HDDMA", binary: bool = False) -> None:
        self.detector, self.binary = detector, binary

    def fired(self, tick: int, value: float) -> bool:  # noqa: ARG002 -- has no clock
        """Feed one value."""
        self.detector.update(bool(value) if self.binary else value)  # type: ignore[no-untyped-call]
        return bool(self.detector.drift_detected)


class Ours:
    """A sequential detector, over block means where `length` is more than 1."""

    def __init__(self, detector: SequentialDetector, length: int = 1, season: int = 1) -> None:
        self.detector = detector
        self.blocks = BlockMeans(length, season) if length > 1 or season > 1 else None

    def fired(self, tick: int, value: float) -> bool:
        """Feed one value; most do not close a block."""
        if self.blocks is None:
            self.detector.update(value)
            return self.detector.alarm
        self.blocks.update(tick, value)
        for block in self.blocks.closed:
            self.detector.update(block.mean, block.position)
            if self.detector.alarm:
                return True
        return False


RIVER: dict[str, Callable[[], Watcher]] = {
    "ADWIN .002": lambda: River(ADWIN(delta=0.002)),  # type: ignore[no-untyped-call]
    "ADWIN .05": lambda: River(ADWIN(delta=0.05)),  # type: ignore[no-untyped-call]
    "PageHinkley 50": lambda: River(PageHinkley(threshold=50)),
    "DDM": lambda: River(DDM(), binary=True),
    "HDDM_A": lambda: River(HDDMA(), binary=True),  # type: ignore[no-untyped-call]
}
# On single labels. The last learns mean and spread from the labels before the change; its bets start at 5 points.
OURS: dict[str, Plan] = {
    "ours, .10 known": Plan(kind="bounded", run_length=PROMISED, side="up", centre=CENTRE),
    "ours, .11 tolerated": Plan(kind="bounded", run_length=PROMISED, side="up", centre=CENTRE, tolerance=0.01),
    "ours, 4000 labels, bound": Plan(kind="bounded", run_length=PROMISED, side="up", learn=BEFORE),
    "ours, 4000 labels, mean": Plan(
        kind="mean", run_length=PROMISED, side="up", learn=BEFORE, smallest=0.05 / (CENTRE * 0.9) ** 0.5
    ),
}
CHANGES: dict[str, tuple[float, int]] = {  # rise, and over how many labels
    "+2": (0.02, 1),
    "+5": (0.05, 1),
    "+10": (0.10, 1),
    "+20": (0.20, 1),
    "+10 over 20k": (0.10, 20_000),
}


def alarms(watcher: Watcher, values: Floats, first: int = 0) -> Iterator[int]:
    """Where it fires."""
    for tick, value in enumerate(values.tolist(), first):
        if watcher.fired(tick, value):
            yield tick


def errors_of(rate_: Floats, seeds: range) -> Floats:
    """Errors as 0 and 1, a row per seed, at a rate that changes over labels."""
    return np.array([(np.random.default_rng(seed).random(len(rate_)) < rate_).astype(np.float64) for seed in seeds])


def firsts(plan: Plan, errors: Floats, first: int) -> tuple[Floats, int]:
    """Where each row first fires from label `first` on (infinite: never), and how often all rows do in all."""
    core, found, alarmed = Evidence(plan, len(errors)), np.full(len(errors), np.inf), 0
    for number, values in enumerate(np.ascontiguousarray(errors.T)):
        core.step(values)
        fired = core.mean() >= plan.limit
        if fired.any():
            core.restart(fired)
            if number >= first:
                alarmed += int(fired.sum())
                found[fired & np.isinf(found)] = number - first + 1.0
                if np.isfinite(found).all() and first > 0:
                    break
    return found, alarmed


def delays_of(name: str, rise: float, over: int, seeds: int) -> list[float]:
    """Labels from the change to the first alarm after it, a value per seed."""
    rate_ = CENTRE + rise * np.clip((np.arange(BEFORE + (40_000 if rise < 0.05 else 24_000)) - BEFORE + 1) / over, 0, 1)
    errors = errors_of(rate_, range(seeds))
    if name in OURS:
        return list(firsts(OURS[name], errors, BEFORE)[0].tolist())
    return [
        next((tick - BEFORE + 1.0 for tick in alarms(RIVER[name](), row) if tick >= BEFORE), np.inf) for row in errors
    ]


def quiet_alarms(name: str, runs: int) -> int:
    """False alarms on 100 000 labels per run, after those before."""
    errors = errors_of(np.full(BEFORE + PROMISED, CENTRE), range(90_000, 90_000 + runs))
    if name in OURS:
        plan = OURS[name]
        core, found = Evidence(plan, runs), 0
        for number, values in enumerate(np.ascontiguousarray(errors.T)):
            core.step(values)
            fired = core.mean() >= plan.limit
            if fired.any():
                core.restart(fired)
                found += int(fired.sum()) if number >= BEFORE else 0
        return found
    return sum(sum(tick >= BEFORE for tick in alarms(RIVER[name](), row)) for row in errors)


def print_delays(seeds: int, quiet: int) -> None:
    """Row 1: delays, and false alarms on `quiet` times 100 000 labels without change."""
    print(f"Error rate {CENTRE:.0%}, rises after {BEFORE} labels; delay in labels, median of {seeds} seeds (95%)")
    print(f"{'':30}{'false alarms / 100k':22}" + "".join(f"{name:>22}" for name in CHANGES))
    found: dict[str, list[list[float]]] = {}
    for name in (*RIVER, *OURS):
        told = rate(counted(quiet_alarms(name, quiet), quiet * PROMISED, PROMISED, 0.95))
        found[name] = [delays_of(name, rise, over, seeds) for rise, over in CHANGES.values()]
        print(f"{name:30}{told:22}" + "".join(f"{median(values):>22}" for values in found[name]), flush=True)
    mine = found["ours, .10 known"]
    print("ours, .10 known, against each: streams on which it was sooner and later")
    for name in RIVER:
        told = "".join(f"{outcome(own, its):>22}" for own, its in zip(mine, found[name], strict=True))
        print(f"{'  ' + name:30}{'':22}{told}")


PEERS: dict[str, Callable[[], Watcher]] = {
    "ADWIN .002": lambda: River(ADWIN(delta=0.002)),  # type: ignore[no-untyped-call]
    "PageHinkley 50": lambda: River(PageHinkley(threshold=50)),
    "KSWIN .005": lambda: River(KSWIN(seed=1)),
}


def our_watcher(kind: Kind, seed: int) -> tuple[Watcher | None, str]:
    """Prepared from reference traffic of its own; None where it stays in `learning`."""
    season = 24 if kind.cyclic else 1
    reference = kind.draw(REFERENCE, np.random.default_rng(50_000 + seed), 24)
    # As the assessor does: the plan is chosen by a shorter replay, and then has to keep the whole promise.
    found = prepare(reference, TESTED, season=season, seed=seed)
    if found.plan is not None and found.length is not None:
        found = msgspec.structs.replace(
            found, plan=msgspec.structs.replace(found.plan, run_length=PROMISED / found.length)
        )
    told = f"{found.plan.kind if found.plan else None}, blocks of {found.length}"
    if found.run_length is not None:
        told += f", {found.run_length.low:.3g}-{found.run_length.high or np.inf:.3g} in replay"
    if found.status == "learning":
        return None, f"learning: {found.reason}"
    return Ours(started(found, reference), found.length or 1, found.season), told


def print_traffic(seeds: int) -> None:
    """Row 2: false alarms, then the delay of a lasting shift of 1 sd after them."""
    ticks = REFERENCE + PROMISED
    print(f"\nTraffic without change, false alarms per 100k values over {seeds} seeds (KSWIN: 2 x 20k); delay of +1 sd")
    for name, kind in TRAFFIC.items():
        if name == "iid":
            continue
        for peer, make in PEERS.items():
            runs, n = (2, 20_000) if peer.startswith("KSWIN") else (seeds, PROMISED)
            found = sum(
                sum(1 for _ in alarms(make(), kind.draw(n, np.random.default_rng(seed), 24))) for seed in range(runs)
            )
            print(f"{name:14}{peer:18}{rate(counted(found, runs * n, PROMISED, 0.95)):26}")
        found, armed, delays, told = 0, 0, [], ""
        for seed in range(seeds):
            watcher, told = our_watcher(kind, seed)
            if watcher is None:
                print(f"{name:14}ours, seed {seed}: {told}")
                continue
            armed += 1
            values = kind.draw(PROMISED + 9_600, np.random.default_rng(seed), 24)
            found += sum(1 for _ in alarms(watcher, values[:PROMISED], REFERENCE))
            delays.append(next((t - ticks + 1.0 for t in alarms(watcher, values[PROMISED:] + kind.sd, ticks)), np.inf))
        if armed:
            kept = rate(counted(found, armed * PROMISED, PROMISED, 0.95))
            print(f"{name:14}{'ours':18}{kept:26}delay {median(delays)} ticks; {armed}/{seeds} armed; last: {told}")


def shared(streams: int, common: float, run_length: float = 500.0, seed: int = 1) -> RunLength:
    """The run length of the mean over streams; `common` is the part of their variance that all share."""
    rows = 4 if streams > 100 else 20
    plan = Plan(kind="normal", run_length=run_length, memory=run_length / 2, centre=0.0, scale=1.0)
    core = Evidence(plan, rows * streams)
    rng = np.random.default_rng(seed)
    ticks, fired = int((40 if streams > 100 else 200) * run_length / rows), 0
    for _ in range(ticks):
        z = np.sqrt(common) * rng.standard_normal((rows, 1)) + np.sqrt(1 - common) * rng.standard_normal(
            (rows, streams)
        )
        core.step(z.ravel())
        over = core.mean().reshape(rows, streams).mean(axis=1) >= run_length
        fired += int(over.sum())
        core.restart(np.repeat(over, streams))
    return counted(fired, float(ticks * rows), run_length)


def print_budget(most: int) -> None:
    """Row 3: one budget over many streams."""
    print("\nOne budget of 500 ticks shared by streams (weights equal), achieved run length in ticks (90%)")
    for streams, common in itertools.product((1, 100, 1_000), (0.0, 0.5, 1.0)):
        if streams <= most:
            found = shared(streams, common)
            told = "none seen" if found.achieved is None else f"{found.achieved:.0f}"
            high = "" if found.high is None else f"{found.high:.0f}"
            print(f"{streams:6} streams, {common:.0%} common variance: {told} ({found.low:.0f}-{high})")


def main(arguments: list[str]) -> None:
    """Prints the tables, or only those named: delay, traffic, budget, replay."""
    quick = "--quick" in arguments
    named = [name for name in arguments if name != "--quick"] or ["delay", "traffic", "budget", "replay"]
    if "delay" in named:
        print_delays(10 if quick else 40, 3 if quick else 20)
    if "traffic" in named:
        print_traffic(3 if quick else 20)
    if "budget" in named:
        print_budget(100 if quick else 1_000)
    if "replay" in named:
        print_replays(quick)


if __name__ == "__main__":
    main(sys.argv[1:])
