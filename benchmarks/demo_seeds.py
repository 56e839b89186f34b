"""The demo's promise over many seeds: does the forecast hold the true crossing, and is the warning early enough?

Every seed is another decay of the demo's digit reader (`benchmarks.demo_worlds`), played day by day through the engine
of `bestbefore replay` with labels three to five days late. The forecaster of the deployment is judged on what it told
at the time; Kalman and Holt forecast from the very same evidence and decide by the very same rule, and a calendar
retrains every thirty days. A few more seeds never decay, and should not trigger.

    python -m benchmarks.demo_seeds --seeds 100
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from benchmarks.demo_worlds import Decay, Pool, drawn, families, model, steps, true_accuracy
from infra.demo.board import MONTH
from infra.demo.scenario import AUDIT_RATE, DESCRIPTORS, START_US
from infra.replay import Engine
from models.columns import Subject
from models.evidence import readings
from models.forecast import Passage, filter_quality
from models.outlook import Outlook, forecast
from models.own_history import Calibration
from models.passage_network import HORIZON
from models.policy import PolicyState, decide, terms_of
from models.quality import Estimate
from models.reference import FORECASTERS, ForecasterName, Reference
from models.subject_state import State
from models.units import DAY_US
from streams.descriptor_files import load_reference
from streams.settings import load
from streams.topics import LABELS

SUBJECT = Subject("digits", "1")
CALM_SEED = 1_000_000  # seeds of the worlds in which nothing decays start here


class Told(NamedTuple):
    """A forecast at the end of `day`, in days ahead; HORIZON + 1 is beyond."""

    day: int
    low: float
    high: float
    bound: float


class Played(NamedTuple):
    """What one forecaster said of one seed, and when it asked for a retraining (None: never)."""

    decay: Decay
    told: list[Told]
    trigger: int | None
    level_held: float  # share of days whose interval of the current quality held the truth


def play(decay: Decay, pool: Pool, reference: Reference, seed: int) -> dict[ForecasterName, Played]:
    """One seed through the engine, every forecaster on the same evidence."""
    days = list(steps(decay, pool, reference.threshold or 0.0, seed))
    known = {label.inference_id for _, day in days for step in day if step.kind == LABELS for label in step.rows}
    engine = Engine([reference], load({}, Path(), keep_rate=AUDIT_RATE), labelled=known)
    told: dict[ForecasterName, list[Told]] = {name: [] for name in FORECASTERS}
    policies = dict.fromkeys(FORECASTERS, PolicyState())
    triggers: dict[ForecasterName, int | None] = dict.fromkeys(FORECASTERS)
    terms, held = terms_of(reference), []
    if terms is None:
        raise ValueError(f"{DESCRIPTORS} declare no threshold")
    newest = -1
    for _, today in days:
        for step in today:
            engine.take(step)
        state = engine.state(SUBJECT)
        day = newest if state is None else (state.assembly.done - START_US) // DAY_US - 1
        if state is None or day <= newest:
            continue
        if day > newest + 1:
            raise RuntimeError(f"seed {seed}: days {newest + 1} to {day} were assessed at once")
        newest = day
        status = [note.body for note in engine.notes if note.kind == "status"][-1]
        quality = msgspec.convert(status["quality"], Estimate)
        truth = true_accuracy(decay, pool, reference.threshold or 0.0, day + 0.5)
        if quality.low is not None and quality.high is not None:
            held.append(quality.low <= truth <= quality.high)
        for name, passage in _forecasts(state, reference, day):
            own = name == reference.forecaster
            if own and passage.probability_within_lead != status["forecast"]["probability_within_lead_time"]:
                raise RuntimeError(f"seed {seed}, day {day}: this forecast is not the one in the status line")
            if passage.reason is None:
                told[name].append(_told(day, passage))
            policies[name], trigger = decide(
                policies[name], terms, subject=SUBJECT[:2], now_us=START_US + (day + 1) * DAY_US,
                estimate=quality, passage=passage,
            )  # fmt: skip
            asked = trigger is not None if not own else any(note.kind == "trigger" for note in engine.notes)
            if asked and triggers[name] is None:
                triggers[name] = day
    return {name: Played(decay, told[name], triggers[name], float(np.mean(held))) for name in FORECASTERS}


def _forecasts(state: State, reference: Reference, day: int) -> Iterator[tuple[ForecasterName, Passage]]:
    filtered = filter_quality(readings(state.ring, reference))
    for name in FORECASTERS:
        declared = msgspec.structs.replace(reference, forecaster=name)
        outlook, own = (state.outlook, state.history.calibration) if name == "amortised" else (Outlook(), Calibration())
        yield name, forecast(outlook, state.ring, declared, own, filtered, day).passage


def _told(day: int, passage: Passage) -> Told:
    ends = (HORIZON + 1 if v is None else v for v in (passage.low, passage.high, passage.good_for))
    return Told(day, *ends)


def report(name: str, played: Sequence[Played], lead: float) -> None:
    """Print one forecaster's line."""
    decaying = [(p, p.decay.crossing) for p in played if p.decay.crossing is not None]
    calm = [p for p in played if p.decay.crossing is None]
    rows, at_trigger = [], []
    for one, crossing in decaying:
        before = [t for t in one.told if t.day < crossing]
        judged = [(t.low <= crossing - t.day <= t.high, crossing - t.day >= t.bound, t.high - t.low) for t in before]
        if judged:
            rows.append(np.mean(judged, axis=0))
        at_trigger += [j for j, t in zip(judged, before, strict=True) if t.day == one.trigger]
    seeds = np.array(rows)
    error = seeds.std(axis=0, ddof=1) / np.sqrt(len(seeds))
    warned = np.array([c - 1 - p.trigger if p.trigger is not None else -np.inf for p, c in decaying])
    early = np.mean([p.trigger is not None and p.trigger < p.decay.onset for p, _ in decaying])
    q = [f"{v:.0f}" for v in np.percentile(np.maximum(warned, -99), (25, 50, 75))]
    first = np.mean(at_trigger, axis=0) if at_trigger else np.full(3, np.nan)
    print(
        f"{name:10s} {seeds[:, 0].mean():.3f} +-{error[0]:.3f} {seeds[:, 1].mean():.3f} +-{error[1]:.3f}"
        f" {seeds[:, 2].mean():6.1f} | {first[0]:.3f} {first[1]:.3f} {first[2]:5.1f} (n {len(at_trigger)}) |"
        f" {q[1]:>3s} ({q[0]} to {q[2]}) {np.mean(warned >= lead):6.2f} {np.mean(warned < 0):6.2f} {early:6.2f}"
        f" {sum(p.trigger is not None for p in calm)} of {len(calm)}",
        flush=True,
    )


def calendar(played: Sequence[Played], lead: float) -> None:
    """Print what a retraining every MONTH days would have done in the same seeds."""
    crossings = np.array([p.decay.crossing for p in played if p.decay.crossing is not None])
    last = crossings // MONTH * MONTH
    ahead = np.where(last > 0, crossings - last, -1)
    print(
        f"calendar, every {MONTH} days: its last retraining before the crossing is {np.median(ahead):.0f} days ahead"
        f" (quartiles {np.percentile(ahead, 25):.0f}, {np.percentile(ahead, 75):.0f}),"
        f" {np.mean(ahead >= lead):.2f} of seeds at least a lead time;"
        f" {np.mean(last // MONTH):.1f} retrainings a seed until then, and as many in calm ones"
    )


def main() -> None:
    """Play the seeds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100, help="worlds that decay")
    parser.add_argument("--first", type=int, default=0, help="the first seed; 0 to 59 were seen while choosing")
    parser.add_argument("--calm", type=int, default=20, help="worlds in which nothing decays")
    arguments = parser.parse_args()
    started, reference, reader = time.perf_counter(), load_reference(DESCRIPTORS), model()
    threshold, lead = reference.threshold or 0.0, reference.lead_time_us / reference.window_us
    choice = families(reader, threshold)
    numbers = range(arguments.first, arguments.first + arguments.seeds)
    plans = [(drawn(seed, choice), seed) for seed in numbers]
    plans += [
        (drawn(CALM_SEED + arguments.first + i, choice, calm=True), CALM_SEED + arguments.first + i)
        for i in range(arguments.calm)
    ]
    found: dict[ForecasterName, list[Played]] = {name: [] for name in FORECASTERS}
    pool: Pool | None = None
    for decay, seed in sorted(plans, key=lambda plan: (plan[0].family, plan[1])):
        pool = pool if pool is not None and pool.family == decay.family else Pool(decay.family, reader)
        for name, played in play(decay, pool, reference, seed).items():
            found[name].append(played)
    everyone = found["amortised"]
    crossings = [p.decay.crossing for p in everyone if p.decay.crossing is not None]
    print(
        f"{arguments.seeds} seeds over {len(choice)} families, true crossing on day {min(crossings)} to"
        f" {max(crossings)} (median {np.median(crossings):.0f}); lead time {lead:.0f} days, labels 3 to 5 days late;"
        f" the interval of the current quality held the truth on"
        f" {np.mean([p.level_held for p in everyone]):.3f} of days"
    )
    print("every forecast before the crossing: 90% interval holds it, 90% bound holds, width in days | the same at the")
    print("trigger | warning in days: median (quartiles), share of at least a lead time, share too late, share before")
    print("the onset; triggers in calm seeds")
    for name in FORECASTERS:
        report(name, found[name], lead)
    calendar(everyone, lead)
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
