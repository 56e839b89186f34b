"""Change detection with a promised run length: a Shiryaev-Roberts e-detector over one value per update.

With factors L_t whose conditional mean is at most 1 while nothing changes, the evidence M_t = (M_{t-1} + 1) L_t has
E[M_t] <= E[t] at every stopping time t. So an alarm at M >= A comes after A updates or more on average, whatever
A is: no asymptotics, no tuning (Shiryaev 1963; Roberts 1966; Shin, Ramdas and Rinaldo 2023, arXiv:2203.03532). A
weighted mean over several bets is such evidence too.

What has to hold for the theorem, and what a factor is:

| kind | baseline | holds when, without change | factor |
|---|---|---|---|
| bounded | known | E[x_t given the past] <= centre + tolerance (side up) | 1 + b (x_t - m) |
| bounded | learned | the same, x_1 .. x_learn independent | m bounds the mean at level 1 - risk; limit A / (1 - risk) |
| normal | known | (x_t - centre) / scale is N(<= tolerance, 1) given the past | exp(d z - d^2 / 2) |
| normal | learned | x_t = level of its position in the season + N(0, s^2) | the same of recursive residuals |
| mean | learned | the same with any law instead of N, to first order in 1 / learn | 1 + b u of recursive residuals u |

Recursive residuals, (x_t - mean) / (s sqrt(1 + 1 / n)) with mean and s from the values *before* t, are independent
Student t variables whatever level and s are (Brown, Durbin and Evans 1975); their normal scores are exactly N(0, 1).
So the learned baseline is paid for in full, and goes on learning. A linear bet asks nothing of the tails, which makes
`mean` the choice for skewed values, at the price of small bets. Values that depend on each other break the last two
rows: give block means (`models.blocks`), and see what is achieved (`models.run_length`).
"""

import math
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr

Floats = NDArray[np.float64]
BETS = 4  # shifts per side, each twice the one before
FARTHEST = 8.0  # standard deviations; a normal value beyond them has a chance of 1e-15
SMALLEST = {"bounded": 0.05, "normal": 0.5}
SAFE = 0.9  # of the largest bet that can never be lost altogether


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a detector watches for; everything that is fixed.

    `run_length` is in updates. `smallest` is the smallest shift to be found soon, and `tolerance` the shift that is
    no change: for `bounded` both are in shares of high - low, for `normal` in standard deviations. `learn` values
    come first where the baseline is not known. `positions` in the season have a level each (normal or mean, learned).
    `farthest`, in standard deviations: values beyond count as that far; for `mean` it also sets the bets, which are
    0.9 / farthest and halves of it, unless `smallest` is given: larger bets suit values that never lie far on the side
    that loses, such as errors of 0 or 1 with `up`. Evidence fades by 1 / `memory` per update (default: half the run
    length), so that it never adds up to an alarm by age alone.

    Raises ValueError for a plan that cannot work.
    """

    kind: Literal["bounded", "normal", "mean"]
    run_length: float
    side: Literal["up", "down", "both"] = "both"
    centre: float | None = None
    scale: float | None = None
    low: float = 0.0
    high: float = 1.0
    smallest: float | None = None
    tolerance: float = 0.0
    learn: int = 0
    risk: float = 0.1
    positions: int = 1
    farthest: float = FARTHEST
    memory: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.run_length < math.inf:
            raise ValueError(f"run length {self.run_length} must be at least one update, and finite")
        if not self.low < self.high or not math.isfinite(self.high - self.low):
            raise ValueError(f"range {self.low} to {self.high} is none; low must be below high, both finite")
        if (self.centre is None) != (self.learn > 0):
            raise ValueError("give either `centre` or how many values to `learn` it from")
        if self.centre is not None and not math.isfinite(self.centre):
            raise ValueError(f"centre {self.centre} must be finite")
        if not (0 <= self.tolerance < math.inf and 0 < self.risk < 1 and self.positions >= 1):
            raise ValueError("tolerance must not be negative, risk lies between 0 and 1, positions are at least 1")
        if self.memory is not None and not self.memory > 1:
            raise ValueError(f"memory {self.memory} must be longer than one update")
        if not 1 <= self.farthest < 100:
            raise ValueError(f"farthest {self.farthest} must be from 1 to 100 standard deviations")
        if self.smallest is not None and not 0 < self.smallest < math.inf:
            raise ValueError(f"smallest shift {self.smallest} must be positive")
        self._check_kind()

    def _check_kind(self) -> None:
        if self.kind == "bounded":
            if self.positions > 1:
                raise ValueError("a season needs block means: kind `normal`")
            if self.centre is not None and not self.low <= self.centre <= self.high:
                raise ValueError(f"centre {self.centre} is outside of {self.low} to {self.high}")
        elif self.centre is not None:
            if self.kind == "mean":
                raise ValueError("kind `mean` learns its baseline; with a known one use `bounded`")
            if self.scale is None or not 0 < self.scale < math.inf or self.positions > 1:
                raise ValueError("a known normal baseline needs a positive `scale`; levels by position are learned")
        elif self.tolerance or self.learn < self.positions + 2:
            raise ValueError(
                "a baseline learned by position has no tolerance, and needs two values beyond its positions"
            )

    @property
    def limit(self) -> float:
        """Evidence at which the alarm is raised."""
        return self.run_length / (1 - self.risk) if self.kind == "bounded" and self.learn else self.run_length


class SequentialState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a detector is, in plain numbers; its size is fixed by the plan."""

    plan: Plan
    version: int = 1
    evidence: tuple[float, ...] = ()  # per bet
    ages: tuple[float, ...] = ()  # per bet: sum over start times of evidence * updates since
    counts: tuple[int, ...] = ()  # learned so far, per position
    means: tuple[float, ...] = ()
    squares: float = 0.0
    skipped: int = 0
    alarms: int = 0
    alarm: bool = False


class Evidence:
    """The arithmetic, for `rows` streams that move together: `models.run_length` replays hundreds at once."""

    def __init__(self, plan: Plan, rows: int = 1) -> None:
        self.plan = plan
        sides = {"up": (1.0,), "down": (-1.0,), "both": (1.0, -1.0)}[plan.side]
        smallest = SAFE / plan.farthest / 2 ** (BETS - 1) if plan.kind == "mean" else SMALLEST[plan.kind]
        shifts = (plan.smallest or smallest) * 2.0 ** np.arange(BETS)
        self.shifts = np.concatenate([side * shifts for side in sides])
        # The delay of a bet grows with 1 / shift^2: such weights add the same share to each. By default those of
        # `mean` are all smaller than most shifts worth finding.
        equal = plan.kind == "mean" and plan.smallest is None
        weights = np.ones(len(self.shifts)) if equal else self.shifts**-2.0
        self.weights = weights / weights.sum()
        self.evidence: Floats = np.zeros((rows, len(self.shifts)))
        self.ages: Floats = np.zeros_like(self.evidence)
        self.counts = [0] * plan.positions
        self.means: Floats = np.zeros((rows, plan.positions))
        self.squares: Floats = np.zeros(rows)
        self.kept = 1 - 1 / max(plan.memory or plan.run_length / 2, 2.0)
        self._bets: tuple[Floats, Floats] | None = None

    @property
    def learning(self) -> bool:
        """Is the baseline still unknown?"""
        return sum(self.counts) < self.plan.learn

    def mean(self) -> Floats:
        """The evidence of each row: the weighted mean over its bets."""
        return np.asarray(self.evidence @ self.weights)

    def step(self, values: Floats, position: int = 0) -> None:
        """Take the next value of each row; all finite."""
        factors = self._bounded(values) if self.plan.kind == "bounded" else self._normal(values, position)
        if factors is None:
            return
        factors = factors * self.kept
        self.ages = (self.ages + self.evidence + 1) * factors
        self.evidence = (self.evidence + 1) * factors

    def restart(self, rows: NDArray[np.bool_] | slice = slice(None)) -> None:
        """Forget the evidence, not the baseline."""
        self.evidence[rows] = 0.0
        self.ages[rows] = 0.0

    def _bounded(self, values: Floats) -> Floats | None:
        plan = self.plan
        x = np.clip((values - plan.low) / (plan.high - plan.low), 0.0, 1.0)
        if self.learning:
            self.counts[0] += 1
            self.means[:, 0] += (x - self.means[:, 0]) / self.counts[0]
            return None
        if self._bets is None:
            self._bets = self._sized()
        bets, means = self._bets
        return np.asarray(1 + bets * (x[:, None] - means))

    def _sized(self) -> tuple[Floats, Floats]:
        """Bets and the mean each is against, per row; a bet is the likelihood ratio of 0/1 values after its shift."""
        plan, up = self.plan, self.shifts > 0
        if plan.centre is None:
            risk = plan.risk / (2 if plan.side == "both" else 1)
            ends = [
                (-upper_mean(1 - p, plan.learn, risk) + 1, upper_mean(p, plan.learn, risk)) for p in self.means[:, 0]
            ]
        else:
            p = (plan.centre - plan.low) / (plan.high - plan.low)
            ends = [(p, p)] * len(self.means)
        below, above = np.array(ends).T[:, :, None]
        # A mean of exactly 0 or 1 would allow infinite bets.
        against = np.clip(np.where(up, above + plan.tolerance, below - plan.tolerance), 1e-6, 1 - 1e-6)
        room = SAFE * np.where(up, 1 - against, against)
        shift = np.sign(self.shifts) * np.minimum(np.abs(self.shifts), room)
        return shift / (against * (1 - against)), against

    def _normal(self, values: Floats, position: int) -> Floats | None:
        plan = self.plan
        if plan.centre is not None and plan.scale is not None:
            with np.errstate(over="ignore"):
                z = (values - plan.centre) / plan.scale
        else:
            found = self._residual(values, position)
            if found is None:
                return None
            z = found
        if plan.kind == "mean":
            return np.asarray(1 + np.clip(self.shifts * z[:, None], -SAFE, np.abs(self.shifts) * plan.farthest))
        with np.errstate(over="ignore"):
            gain = self.shifts * z[:, None] - np.abs(self.shifts) * plan.tolerance
        # Cut on the side of gains only: the mean factor can but fall.
        gain = np.clip(gain, -1e6, np.abs(self.shifts) * plan.farthest)
        return np.asarray(np.exp(gain - self.shifts**2 / 2))

    def _residual(self, values: Floats, position: int) -> Floats | None:
        """Recursive residuals, normal scores of them for `normal`; None while learning. The baseline learns on."""
        n, freedom = self.counts[position], sum(max(count - 1, 0) for count in self.counts)
        armed = not self.learning and n > 0 and freedom > 0
        mean = self.means[:, position].copy()
        off = values - mean
        z = None
        if armed:
            # Below the precision of the values themselves there is no spread to speak of.
            spread = np.sqrt(self.squares / freedom + (1e-9 * np.abs(mean)) ** 2 + 1e-300)
            u = off / (spread * math.sqrt(1 + 1 / n))
            z = u
            if self.plan.kind == "normal":
                z = np.asarray(-np.sign(u) * ndtri(np.maximum(stdtr(freedom, -np.abs(u)), 1e-300)))
            # What hardly has a chance without change is learned as if it were the mean, or it would deafen for good.
            off = np.where(np.abs(z) < self.plan.farthest, off, 0.0)
        self.squares += off**2 * (n / (n + 1))
        self.means[:, position] = mean + off / (n + 1)
        self.counts[position] = n + 1
        return z


def upper_mean(mean: float, n: int, risk: float) -> float:
    """The largest mean that `n` independent values in [0, 1] of this average are compatible with at level `risk`.

    Inverts Chernoff's bound, n KL(mean, m) <= log(1 / risk) (Hoeffding 1963, theorem 1), by bisection.

    >>> round(upper_mean(0.1, 4000, 0.1), 4)
    0.1105
    """
    allowed = math.log(1 / risk) / n
    low, high = float(mean), 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _kl(mean, middle) <= allowed else (low, middle)
    return high


def _kl(p: float, q: float) -> float:
    """Kullback-Leibler divergence of two 0/1 laws in nats."""
    return sum(a * math.log(a / b) if b > 0 else math.inf for a, b in ((p, q), (1 - p, 1 - q)) if a > 0)


class SequentialDetector:
    """One stream under a plan: `update` with a value, then read `alarm`.

    >>> detector = SequentialDetector(Plan(kind="bounded", run_length=1000, centre=0.1, side="up"))
    >>> for error in [0.0] * 100 + [1.0] * 10:
    ...     detector.update(error)
    >>> detector.alarms, detector.status
    (1, 'watching')
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._core = Evidence(plan)
        self._skipped = self._alarms = 0
        self._alarm = False

    @property
    def alarm(self) -> bool:
        """Did the last update raise an alarm? The evidence starts anew with the next one."""
        return self._alarm

    @property
    def alarms(self) -> int:
        """Alarms so far."""
        return self._alarms

    @property
    def skipped(self) -> int:
        """Values that were not finite and therefore counted for nothing."""
        return self._skipped

    @property
    def status(self) -> Literal["learning", "watching"]:
        """Whether the baseline is known."""
        return "learning" if self._core.learning else "watching"

    @property
    def evidence(self) -> float:
        """The evidence for a change; an alarm is raised where it reaches `plan.limit`."""
        return float(self._core.mean()[0])

    @property
    def since(self) -> float | None:
        """Updates since the change, if there was one: the mean over start times, by their evidence for `shift`."""
        best = self._best()
        return None if best is None else float(self._core.ages[0, best] / self._core.evidence[0, best])

    @property
    def shift(self) -> float | None:
        """The bet with most evidence, in the unit of `plan.smallest`: its sign says up or down."""
        best = self._best()
        return None if best is None else float(self._core.shifts[best])

    @property
    def level(self) -> float:
        """The learned mean over all positions of the season, or the known centre."""
        return float(np.mean([self.level_at(position) for position in range(self.plan.positions)]))

    def level_at(self, position: int) -> float:
        """The learned mean of a position in the season, or the known centre."""
        plan, mean = self.plan, float(self._core.means[0, position])
        if plan.centre is not None:
            return plan.centre
        return plan.low + mean * (plan.high - plan.low) if plan.kind == "bounded" else mean

    @property
    def spread(self) -> float:
        """The learned standard deviation, or the known scale; of a bounded stream, that of 0 and 1 at its mean."""
        core, plan = self._core, self.plan
        if plan.scale is not None:
            return plan.scale
        if plan.kind == "bounded":
            mean = self.level
            return math.sqrt(max((mean - plan.low) * (plan.high - mean), 0.0))
        freedom = sum(max(count - 1, 0) for count in core.counts)
        return math.sqrt(float(core.squares[0]) / max(freedom, 1))

    def _best(self) -> int | None:
        # Small bets add up some 1 / shift^2 start times that fit as well as the right one.
        held = self._core.evidence[0] * self._core.shifts**2
        return int(held.argmax()) if held.any() else None

    def update(self, value: float, position: int = 0) -> None:
        """Take the next value, at its position in the season. NaN and infinities are counted and skipped."""
        if not 0 <= position < self.plan.positions:
            raise ValueError(f"position {position} is none of the {self.plan.positions} of the season")
        if self._alarm:
            self._core.restart()
        self._alarm = False
        if not abs(value) < 1e150:  # squares of larger ones overflow; NaN fails the comparison too
            self._skipped += 1
            return
        self._core.step(np.array([value], np.float64), position)
        self._alarm = self.evidence >= self.plan.limit
        self._alarms += self._alarm

    def restart(self) -> None:
        """Forget the evidence, as after an alarm of the budget the stream belongs to; the baseline stays."""
        self._core.restart()

    @property
    def state(self) -> SequentialState:
        """What `from_state` needs to go on exactly where this one stands."""
        core = self._core
        return SequentialState(
            plan=self.plan,
            evidence=tuple(core.evidence[0].tolist()),
            ages=tuple(core.ages[0].tolist()),
            counts=tuple(core.counts),
            means=tuple(core.means[0].tolist()),
            squares=float(core.squares[0]),
            skipped=self._skipped,
            alarms=self._alarms,
            alarm=self._alarm,
        )

    @classmethod
    def from_state(cls, state: SequentialState) -> "SequentialDetector":
        """The detector whose state this was; ValueError for a version or a shape this code does not know."""
        if state.version != 1:
            raise ValueError(f"sequential state has version {state.version}, known is 1; start the detector afresh")
        detector = cls(state.plan)
        core = detector._core
        sizes = (len(state.evidence), len(state.ages), len(state.counts), len(state.means))
        if sizes != (len(core.shifts),) * 2 + (state.plan.positions,) * 2:
            raise ValueError(f"sequential state of sizes {sizes} does not fit its plan; start the detector afresh")
        arrays: list[Any] = [np.array([part], np.float64) for part in (state.evidence, state.ages, state.means)]
        core.evidence, core.ages, core.means = arrays
        core.squares, core.counts = np.array([state.squares]), list(state.counts)
        detector._skipped, detector._alarms, detector._alarm = state.skipped, state.alarms, state.alarm
        return detector
