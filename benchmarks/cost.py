"""What all run-time estimators together cost per event, beside river's detectors on the same columns.

    python -m benchmarks.cost [--frames 200] [--windows 60] [--rounds 5]

Events have 10 numeric features and 10 scores, in frames of 1 000 as in `benchmarks.throughput`. Per event there
is the profile, of a version and of all versions side by side: histograms, moments, observations for the checks,
confidences. Per window, whatever its size, there is the rest: merging, sixteen checks, drift and change detectors,
quality with and without labels, forecast, decision, and the state written as it is into the store. The sum is shown for
windows of several sizes; the limit of 1 us is for windows of 10 000 events and more. Decoding and delivery are not in
it: `benchmarks.throughput` measures them.

Peer: river 0.26 ADWIN (clock 32) and PageHinkley, one per feature and one for the confidence, fed one value at a time,
which is the only way they take them. Both run in turns on the same values; the best round counts.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from river.drift import ADWIN, PageHinkley

from benchmarks.checks import frames
from benchmarks.throughput import CLASSES, ROWS, START_US, reference
from models.assessor import assess
from models.columns import Categories, Outcomes, Subject
from models.profile import Profile
from models.quality import Calibration
from models.reference import Reference
from models.subject_state import fresh
from streams.frames import Decoded
from streams.served import served_of_frame

LIMIT = 1.0  # us per event
SIZES = (1_000, 10_000, 100_000, 1_000_000)
LABELS = 40  # of each window
PER_WINDOW = 5  # frames of the windows that are assessed
WARM = 40  # windows before the clock starts: the forecast is then made, baselines are learned
SUBJECT = Subject("bench", "1")


def declared() -> Reference:
    """The throughput benchmark's model with everything the estimators of quality need."""
    return msgspec.structs.replace(
        reference(),
        threshold=0.8,
        lead_time_us=24 * 3_600_000_000,
        cost_degraded_per_day=3.0,
        lateness_us=0,
        classes={str(i): 1 / CLASSES for i in range(CLASSES)},
        calibration=Calibration(
            temperature=1.2, atc_threshold=0.7, accuracy=0.9, n=1_000, residual_low=-0.5, residual_high=0.5
        ),
    )


def per_event(made: list[Decoded], known: Reference) -> float:
    """us per event of the profiles."""
    version, all_versions = Profile(), Profile()
    started = time.perf_counter()
    for frame in made:
        version.add(frame.rows, known)
        for _, rows, _ in served_of_frame(frame, lambda _: True):
            all_versions.add(rows, known)
    return (time.perf_counter() - started) / len(made) / ROWS * 1e6


def window(made: list[Decoded], known: Reference, rng: np.random.Generator) -> bytes:
    """The profile of a window with some labels, as it arrives."""
    profile = Profile()
    for frame in made:
        profile.add(frame.rows, known)
    right = rng.random(LABELS) < 0.9
    labelled = Profile()
    labelled.add(
        Outcomes(
            offset=np.arange(LABELS), time=np.arange(LABELS), event_time=np.arange(LABELS), correct=right,
            truth=Categories(rng.integers(0, CLASSES, LABELS).astype(np.int32), tuple(str(i) for i in range(CLASSES))),
            confidence=np.full(LABELS, 0.9), feedback=np.zeros(LABELS, np.bool_),
        ),
        known,
    )  # fmt: skip
    return profile.merge(labelled).pack()


def per_window(made: list[Decoded], known: Reference, windows: int) -> float:
    """ms per window of everything behind the profiles, state included."""
    rng = np.random.default_rng(5)
    bodies = [window(made[(i * PER_WINDOW) % len(made) :][:PER_WINDOW], known, rng) for i in range(20)]
    state, spent = fresh(known), 0.0
    for i in range(WARM + windows):
        started = time.perf_counter()
        start = START_US + i * known.window_us
        state.assembly.add(start, start, Profile.unpack(bodies[i % len(bodies)]))
        state.assembly.heard("inference/0", start + known.window_us)
        notes, _ = assess(state, SUBJECT, known)
        state.encode()
        spent += time.perf_counter() - started if i >= WARM else 0.0
        assert any(note.kind == "status" for note in notes)
    return spent / windows * 1e3


def peer(make: Callable[[], Any], made: list[Decoded]) -> float:
    """us per event of one detector per feature and one for the confidence."""
    columns = [np.concatenate([f.rows.numeric[name] for f in made]).tolist() for name in made[0].rows.numeric]
    scores: list[Any] = [f.rows.scores for f in made]
    columns.append(np.concatenate([s.max(axis=1) for s in scores]).tolist())
    started = time.perf_counter()
    for values in columns:
        detector = make()
        for value in values:
            detector.update(value)
    return (time.perf_counter() - started) / len(columns[0]) * 1e6


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--windows", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    made, known = frames(given.frames), declared()
    few = made[: max(len(made) // 10, 1)]
    rounds = [
        (
            per_event(made, known),
            per_window(made, known, given.windows),
            peer(ADWIN, few),
            peer(PageHinkley, few),
        )
        for _ in range(given.rounds)
    ]
    event, close, adwin, hinkley = (min(column) for column in zip(*rounds, strict=True))
    print(f"profiles {event:.3f} us an event; all else {close:.2f} ms a window (best of {given.rounds} rounds)")
    print(f"{'events a window':>16}{'ours, us/event':>16}{'river ADWIN':>13}{'PageHinkley':>13}   limit {LIMIT} us")
    for size in SIZES:
        ours = event + close * 1e3 / size
        word = "kept" if ours <= LIMIT else "exceeded"
        print(f"{size:>16,}{ours:>16.3f}{adwin:>13.2f}{hinkley:>13.2f}   {word}, {ours / adwin:.2f} of ADWIN alone")


if __name__ == "__main__":
    main()
