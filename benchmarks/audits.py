"""What few labels say: width of time-uniform intervals, late labels, concept drift, and CBPE beside NannyML.

    python -m benchmarks.audits [--peer PYTHON]

Two to three minutes on one core, the same figures every run. Models are small CNNs on scikit-learn's digits, six of
them because each needs its own registration; streams are many. Choices were made on the first three models only.
`--peer` names a Python that has NannyML (see benchmarks/nannyml_peer.py); without it that table is left out.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.audit_streams import EVENTS, Deployed, Stream, deployed, stream
from benchmarks.audits_cbpe import cbpe
from benchmarks.audits_in_time import concept, late
from models.confidence_sequence import ConfidenceSequence, MovingMean
from models.distance import Z90
from models.label_sampling import LabelSampler
from models.prediction_powered import AuditedAccuracy, Traffic

Floats = NDArray[np.float64]
SEEDS, STREAMS, LOOKS, ALPHA, RATE = (60, 61, 62, 70, 71, 72), 60, (200, 400, 1000), 0.05, 0.06
WINDOW, TARGET = 1000, (11.8, 8.3, 5.4)
Ends = list[tuple[float, float] | None]


def audits_alone(s: Stream, audited: NDArray[np.intp]) -> Ends:
    """Our betting sequence on the labels alone."""
    sequence, found = ConfidenceSequence(alpha=ALPHA), []
    for n, i in enumerate(audited, start=1):
        sequence.update(float(s.correct[i]))
        if n in LOOKS:
            found.append(sequence.interval())
    return found


def bernstein_alone(s: Stream, audited: NDArray[np.intp]) -> Ends:
    """Empirical Bernstein on the labels alone."""
    mean, found = MovingMean(alpha=ALPHA), Ends()
    for n, i in enumerate(audited, start=1):
        mean.update(float(s.correct[i]))
        if n in LOOKS:
            found.append(mean.interval())
    return found


def hedged(values: Floats, shift: float = 0.0, unit: float = 1.0) -> Ends:
    """Hedged betting with the bets of Waudby-Smith and Ramdas 2024 (predictable plug-in), values in [0, 1]."""
    grid = np.linspace(0, 1, 2001)[1:-1]
    up, down, total, squares, found = np.zeros(len(grid)), np.zeros(len(grid)), 0.5, 0.25, Ends()
    for n, x in enumerate(values, start=1):
        bet = math.sqrt(2 * math.log(2 / ALPHA) / (squares / n * n * math.log(1 + n)))
        up += np.log1p(np.minimum(bet, 0.5 / grid) * (x - grid))
        down += np.log1p(-np.minimum(bet, 0.5 / (1 - grid)) * (x - grid))
        total += x
        squares += (x - total / (n + 1)) ** 2
        if n in LOOKS:
            kept = grid[np.maximum(up, down) < math.log(2 / ALPHA)]
            found.append((max(unit * kept[0] + shift, 0.0), min(unit * kept[-1] + shift, 1.0)))
    return found


def hedged_alone(s: Stream, audited: NDArray[np.intp]) -> Ends:
    """The published bets on the labels alone."""
    return hedged(s.correct[audited])


def hedged_with_proxy(s: Stream, audited: NDArray[np.intp]) -> Ends:
    """The published bets on labels minus r(x): what an off-the-shelf sequence makes of the proxy."""
    return hedged((s.correct[audited] - s.proxy[audited] + 1) / 2, float(s.proxy.mean()) - 1, 2.0)


def ours(s: Stream, propensity: Floats, audited: NDArray[np.intp]) -> tuple[Ends, list[float]]:
    """`AuditedAccuracy`, and the widths of its interval for one look, at the level of the sequence (95%)."""
    traffic, whole = Traffic(), AuditedAccuracy(ALPHA)
    traffic.update(s.proxy, propensity)
    found, fixed, seen = Ends(), [], 0
    for look in LOOKS:
        i = audited[seen:look]
        whole.update(traffic, s.correct[i], s.proxy[i], propensity[i])
        found.append(whole.interval())
        one = whole.estimate
        if one.low is not None and one.high is not None:
            fixed.append((one.high - one.low) * 1.96 / Z90)
        seen = look
    return found, fixed


def uniform(s: Stream, rng: np.random.Generator) -> tuple[Floats, NDArray[np.intp]]:
    """Propensities and audits of a uniform sample, in the order of a hash, as a closed cohort gives them."""
    return np.full(len(s.proxy), RATE), rng.permutation(np.flatnonzero(rng.random(len(s.proxy)) < RATE))[: LOOKS[-1]]


def by_doubt(s: Stream, rng: np.random.Generator) -> tuple[Floats, NDArray[np.intp]]:
    """The same by the plan of our sampler, which saw earlier windows of such traffic."""
    sampler = LabelSampler(RATE)
    for _ in range(5):
        sampler.update(rng.choice(s.proxy, 1000))
    plan = sampler.plan
    propensity = plan.propensities(s.proxy)
    chosen = plan.chosen(rng.integers(0, 2**64, len(s.proxy), dtype=np.uint64), propensity)
    return propensity, rng.permutation(np.flatnonzero(chosen))[: LOOKS[-1]]


def widths(models: list[Deployed]) -> None:
    """Print widths and coverage of every method on three kinds of streams."""
    print(f"95% time-uniform intervals: median full width in points after {LOOKS} labels [middle half of the streams]")
    print(f"and the share of streams whose truth lay inside at all three looks; target for mixed: {TARGET}")
    for kind in ("clean", "mixed"):
        print(f"\n{kind} ({STREAMS} streams of {EVENTS} events, {len(models)} models)")
        rows: dict[str, list[Any]] = {}
        truth = []
        for number in range(STREAMS):
            rng = np.random.default_rng((number, len(kind)))
            s = stream(models[number % len(models)], kind, rng)
            truth.append(float(s.correct.mean()))
            flat, audited = uniform(s, rng)
            tilted, chosen = by_doubt(s, rng)
            for name, method in ALONE.items():
                rows.setdefault(name, []).append(method(s, audited))
            for name, (p, a) in {
                "ours, r(x), uniform": (flat, audited),
                "ours, r(x), by doubt": (tilted, chosen),
            }.items():
                both, fixed = ours(s, p, a)
                rows.setdefault(name, []).append(both)
                rows.setdefault(f"  {name}, one look (95%)", []).append(fixed)
        print(f"accuracy {100 * np.mean(truth):.1f}%")
        for name, found in rows.items():
            print(width_row(name, found, truth))
        if kind == "mixed":
            for name in (n for n in rows if n.startswith("ours")):
                got = np.median([[100 * (e[1] - e[0]) for e in ends] for ends in rows[name]], axis=0)
                verdict = ", ".join(
                    "met" if g <= t else f"missed by {g - t:.1f}" for g, t in zip(got, TARGET, strict=True)
                )
                print(f"target of {TARGET}: {name}: {verdict}")


def in_order(models: list[Deployed]) -> None:
    """Print what happens when drift begins half-way and windows of 1,000 events come in order, their audits in each.

    The mean then changes within the span, which the betting sequences do not promise to follow; moving means do.
    """
    found: dict[str, list[Any]] = {name: [] for name in IN_ORDER}
    truth = []
    for number in range(STREAMS):
        rng = np.random.default_rng((number, 23))
        s = stream(models[number % len(models)], "later", rng)
        truth.append(float(s.correct.mean()))
        sampler, whole = LabelSampler(0.05), AuditedAccuracy(ALPHA)
        alone, mean = ConfidenceSequence(alpha=ALPHA), MovingMean(alpha=ALPHA)
        for start in range(0, EVENTS, WINDOW):
            proxy, correct = s.proxy[start : start + WINDOW], s.correct[start : start + WINDOW]
            plan, traffic = sampler.plan, Traffic()
            propensity = plan.propensities(proxy)
            traffic.update(proxy, propensity)
            hashes = rng.integers(0, 2**64, WINDOW, dtype=np.uint64)
            i = rng.permutation(np.flatnonzero(plan.chosen(hashes, propensity)))
            whole.update(traffic, correct[i], proxy[i], propensity[i])
            for label in correct[rng.random(WINDOW) < 0.05]:
                alone.update(float(label))
                mean.update(float(label))
            sampler.update(proxy)
        for name, ends in zip(
            found, (mean.interval(), alone.interval(), whole.interval(), whole.interval(steady=False)), strict=True
        ):
            found[name].append([ends])
    print(f"\ndrift begins half-way, windows of {WINDOW} in order, about 1,000 labels; width and coverage at the end")
    for name, rows in found.items():
        print(width_row(name, rows, truth))


IN_ORDER = (
    "audits only, moving mean",
    "audits only, our bets",
    "ours, r(x), by doubt",
    "ours, r(x), by doubt, not steady",
)
ALONE: dict[str, Callable[[Stream, NDArray[np.intp]], Ends]] = {
    "audits only, empirical Bernstein mixture": bernstein_alone,
    "audits only, published bets": hedged_alone,
    "audits only, our bets": audits_alone,
    "r(x), published bets": hedged_with_proxy,
}


def width_row(name: str, found: list[Any], truth: list[float]) -> str:
    """One line: median widths with quartiles, coverage."""
    if isinstance(found[0][0], float):
        values = 100 * np.array(found)
        inside = ""
    else:
        values = np.array([[100 * (e[1] - e[0]) if e else np.nan for e in ends] for ends in found])
        hits = [all(e is not None and e[0] <= t <= e[1] for e in ends) for ends, t in zip(found, truth, strict=True)]
        inside = f"  inside {100 * np.mean(hits):4.0f}%"
    if np.isnan(values).all():
        return f"{name:42s} none: the labels refute that there is one mean"
    low, middle, high = np.nanquantile(values, (0.25, 0.5, 0.75), axis=0)
    cells = "  ".join(f"{m:5.1f} [{a:4.1f}, {b:4.1f}]" for a, m, b in zip(low, middle, high, strict=True))
    return f"{name:42s} {cells}{inside}"


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="a Python interpreter that has NannyML", default=None)
    peer, started = parser.parse_args().peer, time.perf_counter()
    if peer:
        cbpe(peer)
    else:
        print("CBPE beside NannyML: left out, as --peer names no interpreter that has it")
    late()
    models = []
    for seed in SEEDS:
        models.append(deployed(seed))
        print(f"model {seed} registered after {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    concept(models)
    print()
    widths(models)
    in_order(models)
    print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
