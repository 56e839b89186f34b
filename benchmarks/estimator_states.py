"""What the state of every estimator comes to after a million updates, in bytes, and what an update costs.

    python -m benchmarks.estimator_states [--updates 1000000] [NAME ...]

One row per estimator: bytes of its serialised state after a hundredth of the updates and after all of them, and
microseconds per update. `bounded` is what `tests/test_estimator_states.py` asserts with fewer updates; a restart
every so often is part of the run, so that a state that cannot be read back ends it.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.alarm_budget import AlarmBudget, BudgetState
from models.blocks import BlockMeans, BlockState
from models.cbpe import Calibrator, Cbpe, CbpeState, fit
from models.cohorts import Audit, Cohorts, CohortsState
from models.concept import ConceptState, ConceptWatch
from models.confidence_sequence import ConfidenceSequence, MovingMean, MovingMeanState, SequenceState
from models.delays import BINS, DelayCurve, DelayState
from models.drift import ESTIMATORS, DriftEstimator, DriftState
from models.forecast import Reading
from models.forecaster import Forecaster, Memory
from models.label_sampling import LabelSampler, SamplerState
from models.newma import Newma, NewmaState
from models.prediction_powered import AuditedAccuracy, AuditedState, Traffic
from models.profile_kernel import KernelSums, Part
from models.sequential import Plan, SequentialDetector, SequentialState
from models.usual_segments import Usual, UsualState

Floats = NDArray[np.float64]
DAY = 86_400_000_000
AUDITS = 5  # of each cohort
RESTARTS = 7  # in a run


class Entry(NamedTuple):
    """One estimator: how it is made, fed the i-th of some values in [0, 1], written and read again."""

    name: str
    make: Callable[[], Any]
    feed: Callable[[Any, int, float], None]
    kind: type
    read: Callable[[Any], Any]

    def write(self, estimator: Any) -> bytes:
        """The state on the wire."""
        return msgspec.msgpack.encode(estimator.state)

    def restarted(self, body: bytes) -> Any:
        """The estimator whose state was written as `body`."""
        return self.read(msgspec.msgpack.decode(body, type=self.kind))


def _calibrator() -> Calibrator:
    rng = np.random.default_rng(3)
    scores = rng.random(2000)
    return fit(scores, (scores > 0.5).astype(np.int64), (rng.random(2000) < scores).astype(np.int64))


CALIBRATOR = _calibrator()
PLANS = {
    "known mean": Plan(kind="bounded", run_length=1e5, centre=0.5),
    "learned normal": Plan(kind="normal", run_length=1e5, learn=80, positions=4),
    "learned mean": Plan(kind="mean", run_length=1e5, learn=80),
}


def _cohort(cohorts: Cohorts, i: int, value: float) -> None:
    """A window a day; of its labels all but one come within three days, and some twice."""
    start, now = i * DAY, (i + 1) * DAY
    traffic = Traffic()
    traffic.update(np.full(100, 0.9), np.full(100, AUDITS / 100))
    cohorts.expect(start, now, traffic, [Audit(i * AUDITS + k, 0.9, AUDITS / 100) for k in range(AUDITS)])
    for back in range(min(i + 1, 3)):
        key = (i - back) * AUDITS + back
        cohorts.update((i - back) * DAY, key, value < 0.9, (back + 1) * DAY)
    cohorts.advance(now)


def _audit(audited: AuditedAccuracy, i: int, value: float) -> None:
    traffic = Traffic()
    traffic.update(np.tile([0.9, 0.8], 20), np.full(40, 0.05))
    correct = np.array([float(value < 0.9), np.nan if i % 5 == 0 else 1.0])
    audited.update(traffic, correct, np.array([0.9, 0.8]), np.array([0.05, 0.05]))


def _cbpe(window: Cbpe, _: int, value: float) -> None:
    window.update(np.array([value]), np.array([int(value > 0.5)]))


def _delay(curve: DelayCurve, i: int, value: float) -> None:
    counts = np.zeros((2, BINS), np.int64)
    counts[:, int(value * 10)] = 1 + i % 3
    curve.update(i % 20, counts)
    curve.forget()


def _sample(sampler: LabelSampler, i: int, value: float) -> None:
    # A stream of ever new segments: only the largest are remembered.
    sampler.update(np.array([value, 0.9]), {f"segment-{i}": 1 + i % 5, "always": 10})


def _forecast(forecaster: Forecaster, i: int, value: float) -> None:
    audit = 0.9 + 0.02 * (value - 0.5) if i % 3 else None
    forecaster.update(Reading(window=i, audit=audit, audit_n=200.0, label_free=0.9, label_free_se=0.01))


class _BudgetedState(msgspec.Struct, frozen=True, kw_only=True):
    version: int = 1
    budget: BudgetState
    streams: dict[str, SequentialState]


class _Budgeted:
    """A budget with the detectors it is fed with: they belong together."""

    def __init__(self) -> None:
        self.budget = AlarmBudget(1e5, {"a": 0.5, "b": 0.5})
        self.streams = {n: SequentialDetector(PLANS["known mean"]) for n in "ab"}

    def update(self, value: float) -> None:
        for stream in self.streams.values():
            stream.update(value)
        self.budget.update(self.streams)

    @property
    def state(self) -> _BudgetedState:
        streams = {name: stream.state for name, stream in self.streams.items()}
        return _BudgetedState(version=self.budget.state.version, budget=self.budget.state, streams=streams)

    @classmethod
    def read(cls, state: _BudgetedState) -> "_Budgeted":
        found = cls()
        found.budget = AlarmBudget.from_state(msgspec.structs.replace(state.budget, version=state.version))
        found.streams = {name: SequentialDetector.from_state(stream) for name, stream in state.streams.items()}
        return found


def _segments(usual: Usual, i: int, value: float) -> None:
    """Three segments of forty in every block."""
    pull = np.linspace(-value, value, 32)
    found = [Part(f"segment {(i + k * k) % 40}", 1 / 3, pull / (k + 1)) for k in range(3)]
    usual.update(KernelSums(pull, 1.0, 50.0, 50.0, 50), found, "features")


def entries() -> list[Entry]:
    """Every estimator with a state of its own."""

    def plainly(estimator: Any, _: int, value: float) -> None:
        estimator.update(value)

    found = [
        Entry(f"drift: {name}", lambda name=name: DriftEstimator(name), plainly, DriftState, DriftEstimator.from_state)  # type: ignore[misc]
        for name in ESTIMATORS
    ]
    found += [
        Entry(
            f"Shiryaev-Roberts: {name}", lambda plan=plan: SequentialDetector(plan),  # type: ignore[misc]
            lambda e, i, value: e.update(value, i % e.plan.positions), SequentialState, SequentialDetector.from_state,
        )
        for name, plan in PLANS.items()
    ]  # fmt: skip
    return [
        *found,
        Entry("alarm budget", _Budgeted, plainly, _BudgetedState, _Budgeted.read),
        Entry(
            "block means", lambda: BlockMeans(6, 24), lambda e, i, value: e.update(i, value), BlockState,
            BlockMeans.from_state,
        ),
        Entry("confidence sequence", ConfidenceSequence, plainly, SequenceState, ConfidenceSequence.from_state),
        Entry("moving mean", MovingMean, plainly, MovingMeanState, MovingMean.from_state),
        Entry("audited accuracy", AuditedAccuracy, _audit, AuditedState, AuditedAccuracy.from_state),
        Entry(
            "concept watch", ConceptWatch, lambda e, _, value: e.update(value < 0.9, low=0.8), ConceptState,
            ConceptWatch.from_state,
        ),
        Entry("cohorts", lambda: Cohorts(10 * DAY), _cohort, CohortsState, Cohorts.from_state),
        Entry("delay curve", DelayCurve, _delay, DelayState, DelayCurve.from_state),
        Entry("label sampler", lambda: LabelSampler(0.01), _sample, SamplerState, LabelSampler.from_state),
        Entry(
            "CBPE", lambda: Cbpe(CALIBRATOR), _cbpe, CbpeState, lambda state: Cbpe.from_state(state, CALIBRATOR),
        ),
        Entry(
            "NEWMA", Newma, lambda e, _, value: e.update(np.linspace(-value, value, 32), n=50.0), NewmaState,
            Newma.from_state,
        ),
        Entry("usual segments", Usual, _segments, UsualState, Usual.from_state),
        Entry("forecaster", lambda: Forecaster(0.85), _forecast, Memory, Forecaster.from_state),
    ]  # fmt: skip


def values(n: int, seed: int = 7) -> Floats:
    """What every estimator is fed: uniform, then shifted for a while, with values that are no numbers in between."""
    rng = np.random.default_rng(seed)
    found = rng.random(n)
    found[n // 2 : 3 * n // 4] = 0.5 + found[n // 2 : 3 * n // 4] / 2
    return found


def run(entry: Entry, updates: int) -> tuple[int, int, float]:
    """Bytes after a hundredth of the updates and after all, and microseconds per update."""
    estimator, given, early = entry.make(), values(updates).tolist(), 0
    stops = {round(updates * k / RESTARTS) for k in range(1, RESTARTS)}
    started = time.perf_counter()
    for i, value in enumerate(given):
        entry.feed(estimator, i, value)
        if i == updates // 100:
            early = len(entry.write(estimator))
        if i in stops:
            estimator = entry.restarted(entry.write(estimator))
    seconds = time.perf_counter() - started
    return early, len(entry.write(estimator)), seconds / updates * 1e6


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="only estimators whose name contains one of these")
    parser.add_argument("--updates", type=int, default=1_000_000)
    given = parser.parse_args()
    print(f"{'after updates':<32}{given.updates // 100:>12,}{given.updates:>12,}{'us/update':>12}")
    for entry in entries():
        if given.names and not any(name in entry.name for name in given.names):
            continue
        # KSWIN costs a hundred times as much as the others, and forgets everything but its window.
        updates = given.updates // 50 if "kswin" in entry.name else given.updates
        early, late, cost = run(entry, updates)
        note = f"  ({updates:,} updates)" if updates != given.updates else ""
        print(f"{entry.name:<32}{early:>10} B{late:>10} B{cost:>12.2f}{note}", flush=True)


if __name__ == "__main__":
    main()
