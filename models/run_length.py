"""The run length achieved beside the one promised: reference traffic, resampled, goes through blocks and detector.

A theorem holds when its assumptions do. Whether block means of this stream are independent and normal enough is
found by replay: the stationary bootstrap (Politis and Romano 1994, doi:10.1080/01621459.1994.10476870) joins chunks
of the reference of random length, each from the place in the season where it is put, so that autocorrelation, bursts
and the daily cycle stay and changes do not. A stream that does not keep its promise in replay is tried with longer
blocks, and stays in `learning` when none will do.
"""

import itertools
import math
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

from models.blocks import autocorrelation_time, deseasonalised, lengths
from models.sequential import Evidence, Plan, SequentialDetector

Floats = NDArray[np.float64]
Side = Literal["up", "down", "both"]
ROWS = 160  # replays side by side: 40 run lengths at least, so that the interval is a third to either side at most
SETTLED = 600  # blocks, in which the evidence has long forgotten that it started from nothing
FEWEST = 40  # blocks of reference, below which nothing is promised
INDEPENDENT = 5  # autocorrelation times: neighbouring blocks then correlate by about 0.05
NORMAL = 9.21  # Jarque and Bera's statistic has a chance of 1% to be larger for normal values
CHUNKS = 8  # chunks that the reference must hold, or the resampled traffic would be the reference again


class RunLength(msgspec.Struct, frozen=True, kw_only=True):
    """Mean time to a false alarm in replayed reference traffic, in ticks, with its 90% interval.

    The interval is that of the replay; that the reference is itself a sample is not in it. Of a replay with short
    and one with long chunks it is the worse.
    """

    promised: float
    achieved: float | None  # None: no alarm came, so only `low` is known
    low: float
    high: float | None
    alarms: int
    ticks: float

    @property
    def kept(self) -> bool:
        """Was as much achieved as promised?"""
        return self.achieved is None or self.achieved >= self.promised

    def times(self, unit: int) -> "RunLength":
        """The same in ticks, where it was in units of so many."""
        return RunLength(
            promised=self.promised * unit, achieved=None if self.achieved is None else self.achieved * unit,
            low=self.low * unit, high=None if self.high is None else self.high * unit, alarms=self.alarms,
            ticks=self.ticks * unit,
        )  # fmt: skip

    def told(self) -> str:
        """One line: what was achieved beside what is promised."""
        found = f"none in {self.ticks:.4g} ticks" if self.achieved is None else f"one every {self.achieved:.4g} ticks"
        reach = f"{self.low:.4g} or more" if self.high is None else f"{self.low:.4g} to {self.high:.4g}"
        return f"false alarms in replay: {found} (90% interval {reach}), promised one every {self.promised:.4g}"


class Preparation(msgspec.Struct, frozen=True, kw_only=True):
    """How a stream is to be watched. `status` is `learning`, with a reason, where the promise cannot be kept."""

    status: Literal["watching", "learning"]
    reason: str | None = None
    plan: Plan | None = None
    length: int | None = None
    season: int = 1
    autocorrelation_time: float | None = None
    run_length: RunLength | None = None


def counted(alarms: int, ticks: float, promised: float, level: float = 0.9) -> RunLength:
    """Ticks per alarm; false alarms of rare kinds come as a Poisson process (Garwood 1936, for the interval)."""
    outside = (1 - level) / 2
    return RunLength(
        promised=promised,
        achieved=ticks / alarms if alarms else None,
        low=2 * ticks / float(chdtri(2 * alarms + 2, outside)),
        high=2 * ticks / float(chdtri(2 * alarms, 1 - outside)) if alarms else None,
        alarms=alarms,
        ticks=ticks,
    )


class Resampled:
    """Endless traffic that looks like the reference: `rows` stationary bootstraps of whole seasons of it."""

    def __init__(self, reference: Floats, season: int, chunk: int, seed: int, rows: int = ROWS) -> None:
        self._values = reference[: len(reference) // season * season]
        self._season, self._chunk = season, chunk
        self._random = np.random.default_rng(seed)
        self._tick = 0
        self._at = self._anywhere(rows)

    def step(self) -> Floats:
        """The next value of each row."""
        found = self._values[self._at]
        self._tick += 1
        jump = self._random.random(len(self._at)) < 1 / self._chunk
        self._at = np.where(jump, self._anywhere(len(self._at)), (self._at + 1) % len(self._values))
        return np.asarray(found)

    def _anywhere(self, rows: int) -> NDArray[np.int64]:
        """A random place of the reference, in the season where the clock is."""
        season = self._random.integers(0, len(self._values) // self._season, rows)
        return np.asarray(season * self._season + self._tick % self._season)


def replayed(
    plan: Plan, reference: Floats, *, length: int = 1, season: int = 1, chunk: int, seed: int = 1
) -> RunLength:
    """The run length of `plan` (in blocks) over block means of `length` ticks of resampled reference, in ticks.

    Each row first learns its baseline from as much as the plan says; time starts after that. `reference` has one
    finite value per tick, and starts where the season does.
    """
    core = Evidence(plan, ROWS)
    traffic = Resampled(reference, season, chunk, seed)
    learn = math.ceil(plan.learn / plan.positions) * plan.positions
    blocks = math.ceil(min(plan.run_length, max(plan.run_length / 4, SETTLED)))
    alarms, done = 0, 0
    hopeless = 2 * blocks * ROWS / plan.run_length + 20  # twice as many alarms as promised are enough to know
    for number in range(learn + blocks):
        total = traffic.step()
        for _ in range(length - 1):
            total = total + traffic.step()
        core.step(total / length, number % plan.positions)
        fired = core.mean() >= plan.limit
        if fired.any():
            alarms += int(fired.sum())
            core.restart(fired)
        done = number + 1 - learn
        if alarms > hopeless:
            break
    return counted(alarms, float(done * ROWS * length), plan.run_length * length)


def prepare(
    reference: Floats, run_length: float, *, season: int = 1, seed: int = 1, side: Side = "both", share: bool = False,
    unit: int = 1,
) -> Preparation:  # fmt: skip
    """Block length and plan for a stream from its reference: one value per tick, NaN where there was none.

    The reference starts where the season does; `run_length` is in ticks. Blocks are at least five
    autocorrelation times long, and grow until the replayed run length keeps the promise: of `normal` plans where block
    means look normal (Jarque and Bera 1987), else of `mean` plans. A `share` (0 to 1) that never varied is bounded.
    Where the reference has one value per `unit` ticks, run length, season and blocks are in such units as well; only
    what is told, and the run length achieved, are in ticks.
    """
    values = filled(reference, season)
    if len(values) < max(season, 1) * 2:
        return _learning("the reference has no two whole seasons", season)
    residuals = deseasonalised(values, season)
    time = autocorrelation_time(residuals)
    if share and not float(np.ptp(values)) > 0:
        return _constant(values, run_length, season, unit)
    if not float(np.ptp(residuals)) > 0:
        return _learning("the reference never varies, so there is no noise to tell a change from", season, time)
    least = 1.0 if time < 1.5 else INDEPENDENT * time
    found = _learning(f"the reference is too short for {FEWEST} blocks of {least * unit:.0f} ticks", season, time)
    fitting = [k for k in lengths(season, least, len(values) // FEWEST) if len(values) >= CHUNKS * max(season, 5 * k)]
    for kind, length in itertools.product(("normal", "mean"), fitting):
        plan = _plan(kind, values, run_length, length, season, side)
        if plan is None:
            continue
        # Short chunks make much new traffic of a short reference, long ones keep what the autocorrelation time missed.
        chunks = {max(season, 5 * length), max(season, 5 * length, len(values) // FEWEST)}
        achieved = _worst(plan, values, length, season, sorted(chunks), seed).times(unit)
        found = Preparation(
            status="watching" if achieved.kept else "learning",
            reason=None if achieved.kept else f"{achieved.told()}; a longer reference allows longer blocks",
            plan=plan,
            length=length,
            season=season,
            autocorrelation_time=time,
            run_length=achieved,
        )
        if achieved.kept:
            break
    return found


def _worst(plan: Plan, values: Floats, length: int, season: int, chunks: list[int], seed: int) -> RunLength:
    """The replay with the most alarms; none is made after one that does not keep the promise."""
    replays: list[RunLength] = []
    for chunk in chunks:
        if all(replay.kept for replay in replays):
            replays.append(replayed(plan, values, length=length, season=season, chunk=chunk, seed=seed))
    return max(replays, key=lambda found: found.alarms / found.ticks)


def _constant(values: Floats, run_length: float, season: int, unit: int) -> Preparation:
    """For a share that was the same all the time: all that is known of it is a bound."""
    if len(values) < CHUNKS * season or len(values) < FEWEST:
        return _learning(f"the reference is too short for {max(CHUNKS * season, FEWEST) * unit} ticks", season, 1.0)
    away: Side = "up" if values[0] <= 0 else "down" if values[0] >= 1 else "both"
    plan = Plan(kind="bounded", run_length=max(run_length, 1.0), learn=len(values), side=away)
    achieved = replayed(plan, values, length=1, season=season, chunk=max(season, 5)).times(unit)
    return Preparation(
        status="watching", plan=plan, length=1, season=season, autocorrelation_time=1.0, run_length=achieved
    )


def _plan(kind: str, values: Floats, run_length: float, length: int, season: int, side: Side) -> Plan | None:
    """A plan over block means, None where their law is not for this kind or there are too few of them."""
    positions = max(season // length, 1)
    means = values[: len(values) // length * length].reshape(-1, length).mean(axis=1)
    if len(means) < positions * 4:
        return None
    scores = deseasonalised(means, positions)
    scores = scores / max(float(scores.std()), 1e-300)
    skewed = len(means) / 6 * (float((scores**3).mean()) ** 2 + (float((scores**4).mean()) - 3) ** 2 / 4) > NORMAL
    per_block = max(run_length / length, 1.0)
    if kind == "normal":
        normal = Plan(kind="normal", run_length=per_block, learn=len(means), positions=positions, side=side)
        return None if skewed else normal
    # What comes will be farther than what was seen, the more so the heavier the tails.
    # In steps of a quarter, so that streams alike have the same plan.
    beyond = max(1.5 * float(np.abs(scores).max()) / 4, 1.0)
    farthest = min(4 * 1.25 ** math.ceil(math.log(beyond, 1.25)), 99.0)
    return Plan(kind="mean", run_length=per_block, learn=len(means), positions=positions, farthest=farthest, side=side)


def started(preparation: Preparation, reference: Floats) -> SequentialDetector:
    """A detector that has learned its baseline from the reference it was prepared with.

    Raises ValueError where the preparation has no plan.
    """
    plan, length = preparation.plan, preparation.length
    if plan is None or length is None:
        raise ValueError(f"no plan was prepared: {preparation.reason}")
    values = filled(reference, preparation.season)
    detector = SequentialDetector(plan)
    for number, mean in enumerate(values[: len(values) // length * length].reshape(-1, length).mean(axis=1).tolist()):
        detector.update(mean, number % plan.positions)
    return detector


def filled(reference: Floats, season: int) -> Floats:
    """Whole seasons of the reference, with the value of another season where one is missing."""
    whole = np.asarray(reference, np.float64)[: len(reference) // season * season].reshape(-1, season).copy()
    known = np.isfinite(whole)
    if not known.any(axis=0).all():
        return np.zeros(0)
    for column in np.flatnonzero(~known.all(axis=0)):
        rows = np.flatnonzero(known[:, column])
        lost = np.flatnonzero(~known[:, column])
        whole[lost, column] = whole[rows[np.arange(len(lost)) % len(rows)], column]
    return whole.ravel()


def _learning(reason: str, season: int, time: float | None = None) -> Preparation:
    return Preparation(status="learning", reason=reason, season=season, autocorrelation_time=time)
