"""Nanoseconds per event that a profile takes, and how much of it is what the run-time checks observe.

    python -m benchmarks.checks [--frames 200] [--rounds 9]

Frames of 1 000 events with 10 numeric features and 10 scores; the second line has 2 categorical features besides, the
third also status, digest and embedding of the server, declared domains on every feature, and violations of them in
every frame. "All versions" is a frame of one version once more, for the figures of the model as a whole. The peer is
`bare`: histograms, moments, confidences and latencies alone, as they were before there were checks. Both run in turns
on the same frames, the best of several rounds counts. Decoding is not in it.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import numpy as np
from bestbefore_client import Repeated, encode_frame

from benchmarks.throughput import CLASSES, FEATURES, FRAME_US, ROWS, START_US, reference
from models.columns import Inferences
from models.fixed_point import CLIP, WEIGHT, fixed, squares
from models.grid import Grid
from models.profile import CONFIDENCE_EDGES, LATENCY_EDGES, Profile
from models.quality import top_confidence
from models.reference import CategoricalFeature, Reference
from models.tables import Tables
from streams.frames import Decoded, decode_frame
from streams.served import served_of_frame

LIMIT = 300  # ns per event that observations may take


class Mix(NamedTuple):
    """What the events of one line of the table look like, and what is declared of them."""

    name: str
    frames: list[Decoded]
    reference: Reference


def frames(count: int, **more: Callable[[np.random.Generator], Any]) -> list[Decoded]:
    """Frames as the throughput benchmark sends them, with `more` columns."""
    rng, made = np.random.default_rng(1), []
    for number in range(count):
        columns: dict[str, Any] = {
            "id": [f"e-{number:06d}-{i:04d}" for i in range(ROWS)],
            "time": START_US + number * FRAME_US + np.arange(ROWS) * (FRAME_US // ROWS),
            "model": Repeated("bench"),
            "version": Repeated("1"),
            **{f"features.f{i}": rng.normal(size=ROWS) for i in range(FEATURES)},
            "scores": rng.dirichlet(np.ones(CLASSES) * 0.3, ROWS).astype(np.float32),
            "latency_ms": rng.gamma(9.0, 0.4, ROWS).astype(np.float32),
            **{name.replace("__", "."): make(rng) for name, make in more.items()},
        }
        made.append(decode_frame(encode_frame(columns, classes=[str(i) for i in range(CLASSES)]), number))
    return made


def mixes(count: int) -> list[Mix]:
    """The three lines of the table."""

    def text(rng: np.random.Generator) -> Any:
        return rng.choice(["DE", "FR", "IT", "NA"], ROWS).tolist()

    texts: dict[str, Any] = {f"features__c{i}": text for i in range(2)}
    everything: dict[str, Callable[[np.random.Generator], Any]] = texts | {
        "status": lambda rng: rng.choice([200, 200, 200, 500], ROWS).astype(np.int32),
        "digest": lambda _: Repeated("sha256:" + "0" * 64),
        "embedding": lambda rng: rng.normal(size=(ROWS, 2)).astype(np.float32),
        # A stand-in, integers, and values far out.
        "features__f0": lambda rng: rng.choice([-1.0, 0.0, 0.5, 99.0], ROWS),
        "features__f1": lambda rng: rng.integers(0, 90, ROWS).astype(np.float64),
        "features__f2": lambda rng: rng.normal(size=ROWS) * 1e4,
    }
    plain = reference()
    numeric = {
        name: msgspec.structs.replace(feature, low=-3.0, high=3.0, integer=name == "f1")
        for name, feature in plain.numeric.items()
    }
    categorical = {f"c{i}": CategoricalFeature(allowed=("DE", "FR", "IT"), max_length=2) for i in range(2)}
    declared = msgspec.structs.replace(plain, numeric=numeric, categorical=categorical, latency_limit_ms=8.0)
    return [
        Mix(f"{FEATURES} numbers, {CLASSES} scores", frames(count), plain),
        Mix("  and 2 texts", frames(count, **texts), plain),
        Mix("  and every field, domains, violations", frames(count, **everything), declared),
    ]


def bare(into: Tables, rows: Inferences, known: Reference, grid: Grid) -> None:
    """A profile without observations for checks."""
    into.count("n", len(rows))
    into.count("weight", len(rows) * WEIGHT)
    into.count("weight_squared", squares(None, len(rows)))
    values = np.stack([rows.numeric[name] for name in grid.names])
    assert np.isfinite(values).all()
    counts = grid.count(grid.bins(values), None) * WEIGHT
    z = (values - grid.mean) / grid.scale
    np.clip(z, -CLIP, CLIP, out=z)
    moments = np.stack((fixed(z, None), fixed(z * z, None)), axis=1)
    for i, name in enumerate(grid.names):
        into.into(into.histograms, f"feature.{name}", counts[grid.starts[i] : grid.starts[i + 1]])
        into.into(into.sums, f"feature.{name}", moments[i])
    for name, column in rows.categorical.items():
        into.tally(f"feature.{name}", column, None)
    assert rows.latency_ms is not None
    assert rows.label is not None
    assert rows.scores is not None
    assert known.calibration is not None
    into.histogram("latency_ms", np.searchsorted(LATENCY_EDGES, rows.latency_ms), len(LATENCY_EDGES) + 1, None)
    into.tally("label", rows.label, None)
    confidence = top_confidence(rows.scores, known.calibration.temperature)
    assert np.isfinite(confidence).all()
    above = confidence > (known.calibration.atc_threshold or 1.0)
    into.sum("confidence", np.array([fixed(confidence, None), fixed(above.astype(np.float64), None)]))
    into.histogram("confidence", np.searchsorted(CONFIDENCE_EDGES, confidence), len(CONFIDENCE_EDGES) + 1, None)


def measure(mix: Mix, rounds: int) -> list[float]:
    """Best ns per event of the bare profile, of the whole one, and of all versions side by side, in turns."""
    grid = Grid(tuple(mix.frames[0].rows.numeric), mix.reference.numeric)
    best = [float("inf")] * 3
    for _ in range(rounds):
        tables, profile, model = Tables(), Profile(), Profile()

        def without(frame: Decoded, into: Tables = tables) -> None:
            bare(into, frame.rows, mix.reference, grid)

        def whole(frame: Decoded, into: Profile = profile) -> None:
            into.add(frame.rows, mix.reference)

        def versions(frame: Decoded, into: Profile = model) -> None:
            for _, rows, _ in served_of_frame(frame, lambda _: True):
                into.add(rows, mix.reference)

        for which, call in enumerate((without, whole, versions)):
            started = time.perf_counter_ns()
            for frame in mix.frames:
                call(frame)
            best[which] = min(best[which], (time.perf_counter_ns() - started) / len(mix.frames) / ROWS)
    return best


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    print(f"at most {LIMIT} ns per event are to be added by frames without violations")
    print(f"{'ns per event':<42}{'bare':>8}{'profile':>9}{'all versions':>14}{'added':>8}{'ratio':>7}")
    for mix in mixes(given.frames):
        before, after, versions = measure(mix, given.rounds)
        whole = after + versions
        print(f"{mix.name:<42}{before:>8.0f}{after:>9.0f}{versions:>14.0f}{whole - before:>8.0f}{whole / before:>7.2f}")


if __name__ == "__main__":
    main()
