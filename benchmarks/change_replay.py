"""Pages without change, through the real assessor, beside the promise: `python -m benchmarks.change_replay [--quick]`

Windows of six hours with 1, 10 or 100 features, for years: the mean of each feature differs from window to window by
0.3 standard deviations of its rows, independently, as AR(1) .9, with a daily cycle, or in bursts. Two false alarms in
180 days are promised: one for changes in time, one for the checks of drift. Counted are mismatches that open. Then one
feature shifts for good by one standard deviation of its window means, and it is counted how many windows that takes.
Alarms of river's detectors on the same windows stand beside (they are counts only, and page nobody).
"""

import itertools
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from benchmarks.traffic import TRAFFIC, median, rate
from models.assessor import assess
from models.change_layer import follow_change
from models.checks.observed import Observed
from models.columns import Subject
from models.evidence import Evidence
from models.notes import Note
from models.profile import WEIGHT, Profile
from models.reference import NumericFeature, Reference
from models.run_length import counted
from models.subject_state import State, fresh
from models.units import DAY_US

Floats = NDArray[np.float64]
WINDOW = DAY_US // 4
START = 1_795_000_000_000_000 // DAY_US * DAY_US
PROMISED_DAYS = 180
YEARS = 4
SPREAD, ROWS = 0.3, 200  # sd of window means in sd of rows; rows of a window
LONGEST = 600  # windows after the shift
DRIFT = ("covariate-drift", "embedding-drift", "label-and-prediction-shift")
SUBJECT = Subject("replayed", "1")
EDGES = np.linspace(-2.5, 2.5, 13)


class Outcome(NamedTuple):
    """Pages without change, the share of windows in which every stream watched, and the delay of the shift."""

    changes: int
    checks: int
    river: int
    watching: float
    delay: float
    ms: float


def described(features: int) -> Reference:
    """A model whose features are known without sampling error."""
    wide = (1 + SPREAD**2) ** 0.5
    shares = tuple(np.diff([0.0, *ndtr(EDGES / wide), 1.0]).tolist())
    feature = NumericFeature(edges=tuple(EDGES.tolist()), shares=shares, n=50_000, sd=wide)
    promise = {"bestbefore": {"false_alarms": f"2 per {PROMISED_DAYS} days"}}
    return Reference(
        "replayed", "1", window_us=WINDOW, lateness_us=0, minimum_n=50, descriptors={"system_context": promise},
        numeric={f"x{i}": feature for i in range(features)},
    )  # fmt: skip


def profiles(means: Floats, rng: np.random.Generator) -> Iterator[Profile]:
    """One profile per window, of rows around the means given: (windows, features)."""
    for row in means:
        made = Profile()
        made.counts = {"n": ROWS, "weight": ROWS * WEIGHT, "weight_squared": ROWS * WEIGHT}
        below = ndtr(EDGES[:, None] - row)
        shares = np.diff(np.vstack([np.zeros_like(row), below, np.ones_like(row)]), axis=0).T
        for i, counts in enumerate(rng.multinomial(ROWS, shares)):
            made.histograms[f"feature.x{i}"] = np.concatenate([counts * WEIGHT, [0, 0]]).astype(np.int64)
        yield made


class Replay:
    """The assessor, window after window."""

    def __init__(self, reference: Reference) -> None:
        self.reference, self.state = reference, fresh(reference)
        self.window, self.seconds = 0, 0.0

    def take(self, profile: Profile) -> list[Note]:
        """What the next window makes known."""
        start = START + self.window * WINDOW
        self.window += 1
        self.state.assembly.add(start, start, profile)
        self.state.assembly.heard("inference/0", start + WINDOW)
        before = time.perf_counter()
        notes, _ = assess(self.state, SUBJECT, self.reference)
        self.seconds += time.perf_counter() - before
        return notes


def opened(notes: list[Note], change: bool) -> int:
    """Mismatches of drift that these notes open, of changes in time or of differences from what was declared."""
    bodies = [note.body for note in notes if note.kind == "mismatch" and note.body["verdict"] == "mismatch"]
    return sum(body["check"] in DRIFT and (body["field"] == "change") is change for body in bodies)


def replay(kind: str, features: int, years: float, seed: int) -> Outcome:
    """Years without change, then a shift of the first feature."""
    windows = round(years * 365.25 * 4)
    traffic = TRAFFIC[kind]
    rng = np.random.default_rng(seed)
    columns = [traffic.draw(windows + LONGEST, rng, 4) for _ in range(features)]
    means = SPREAD * np.stack(columns, axis=1)
    means[windows:, 0] += SPREAD * traffic.sd
    run = Replay(described(features))
    changes = checks = 0
    watching = 0.0
    for profile in profiles(means[:windows], rng):
        notes = run.take(profile)
        changes, checks = changes + opened(notes, True), checks + opened(notes, False)
        streams = run.state.change.streams.values() if run.state.change else []
        watching += sum(stream.status == "watching" for stream in streams) / max(len(streams), 1) / windows
    river = sum(estimator.alarms for estimator in run.state.drift.values())
    ms = run.seconds / windows * 1e3
    return Outcome(changes, checks, river, watching, _delay(run, means[windows:], rng), ms)


def _delay(run: Replay, means: Floats, rng: np.random.Generator) -> float:
    """Windows until an alarm whose first suspect is the feature that shifted."""
    known: State = run.state
    for number, profile in enumerate(profiles(means, rng), 1):
        run.take(profile)
        change = known.change
        if change is not None and change.alarm and change.last[0].stream == "inputs/x0":
            return float(number)
    return np.inf


def print_replays(quick: bool) -> None:
    """The table."""
    sizes = ((1, YEARS, 1), (10, 1, 1)) if quick else ((1, YEARS, 2), (10, 2, 1), (100, 0.5, 1))
    print(
        f"\nReal assessor, windows of 6 hours without change: one page of changes and one of checks is promised in "
        f"{PROMISED_DAYS} days;\npages per {PROMISED_DAYS} days (95%), then windows until a shift by 1 sd of one "
        "feature's window means is found"
    )
    heads = f"{'changes':22}{'checks':22}{'river alarms':22}{'watching':>9}  delay in windows"
    print(f"{'traffic':14}{'features':>9}{'runs':>12}  {heads}")
    for (features, years, seeds), kind in itertools.product(sizes, TRAFFIC):
        found = [replay(kind, features, years, seed) for seed in range(seeds)]
        periods = seeds * years * 365.25 / PROMISED_DAYS
        told = [rate(counted(sum(of), periods, 1.0, 0.95)) for of in zip(*[f[:3] for f in found], strict=True)]
        watching = float(np.mean([f.watching for f in found]))
        print(
            f"{kind:14}{features:>9}{f'{seeds} x {years} y':>12}  " + "".join(f"{text:22}" for text in told)
            + f"{watching:>8.0%}  {median([f.delay for f in found])}; {np.mean([f.ms for f in found]):.1f} ms a window",
            flush=True,
        )  # fmt: skip


def print_cost() -> None:
    """What the layer adds to a window of a model version with ten features, once they watch."""
    run, rng = Replay(described(10)), np.random.default_rng(1)
    for profile in profiles(SPREAD * rng.standard_normal((1_200, 10)), rng):
        run.take(profile)
    change, spent = run.state.change, []
    seen = list(profiles(SPREAD * rng.standard_normal((1_000, 10)), rng))
    for number, profile in enumerate(seen, run.window):
        start = START + number * WINDOW
        window = Observed(
            reference=run.reference, subject=SUBJECT, window=profile, block=profile, start_us=start,
            end_us=start + WINDOW,
        )  # fmt: skip
        evidence = Evidence(start)
        evidence.add(profile)
        before = time.process_time()
        change = follow_change(change, window, evidence, {})
        spent.append((time.process_time() - before) * 1e3)
    ordered = sorted(spent)
    streams = [] if change is None else [stream.status for stream in change.streams.values()]
    print(
        f"\nChange layer, ms of CPU per window, {streams.count('watching')} of {len(streams)} streams watching: median "
        f"{ordered[500]:.3f}, 95% below {ordered[950]:.3f}, longest {ordered[-1]:.1f} (a plan tried again, or a replay)"
    )


if __name__ == "__main__":
    if "cost" not in sys.argv[1:]:
        print_replays("--quick" in sys.argv[1:])
    print_cost()
