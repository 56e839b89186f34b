"""Closed cohorts: labels count in the window of their inference, and only once nearly all of them have come.

A cohort is the inferences of one window that labels were asked for. It closes when all labels are there, or when the
delay curves say that nearly all are, of wrong answers as well as of right ones, or when it is too old to wait. What is
then missing counts both ways. Cohorts leave in the order of their windows, so a sequence of them may be stopped at.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.delays import BINS, DelayCurve, DelayState, bin_of, edge
from models.prediction_powered import Traffic

Reason = Literal["complete", "delays", "age"]
VERSION = 1
SHARE = 0.95  # of the labels of either outcome that must have come by the delay curves
CAPACITY = 4096  # audits of a cohort that are kept; of more a random half, quarter, ... stays
OPEN = 1024  # cohorts that may be open at once; beyond it the oldest closes
_ODD, _MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1


class Audit(msgspec.Struct, array_like=True):
    """One inference that a label was asked for; `correct` stays None until the label comes."""

    key: int
    proxy: float
    propensity: float
    correct: bool | None = None


class Cohort(msgspec.Struct, kw_only=True):
    """One open window: its traffic, its audits by the hash of their id, and how old the labels were that came."""

    start: int
    end: int
    traffic: Traffic = msgspec.field(default_factory=Traffic)
    audits: dict[int, Audit] = msgspec.field(default_factory=dict)
    ages: list[list[int]] = msgspec.field(default_factory=lambda: [[0] * BINS, [0] * BINS])
    halvings: int = 0
    passed: int = 0
    arrived: int = 0

    @property
    def missing(self) -> int:
        """Audits without a label."""
        return len(self.audits) - self.arrived


class Closed(msgspec.Struct, frozen=True, kw_only=True):
    """A cohort whose labels may be used: audits in an order that knows nothing of them; `correct` NaN where missing."""

    start: int
    end: int
    reason: Reason
    traffic: Traffic
    correct: NDArray[np.float64]
    proxy: NDArray[np.float64]
    propensity: NDArray[np.float64]
    missing: int


class CohortsState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything `Cohorts` is."""

    version: int = VERSION
    unit_us: int
    oldest_us: int
    open: tuple[Cohort, ...] = ()
    delays: DelayState = DelayState()
    closed_until: int | None = None
    late: int = 0
    unasked: int = 0


class Cohorts:
    """The open cohorts of one subject. Times are microseconds; `unit_us` is the finest delay that matters.

    `oldest_us` is the age at which a cohort closes whatever is missing. Labels for closed windows are counted `late`,
    labels nobody asked for `unasked`: neither can be used without a bias of unknown size.
    """

    def __init__(self, oldest_us: int, *, unit_us: int = 1_000_000) -> None:
        if not 0 < unit_us <= oldest_us:
            raise ValueError(f"unit {unit_us} us and oldest age {oldest_us} us: 0 < unit <= oldest is needed")
        self.oldest_us, self.unit_us = oldest_us, unit_us
        self.late, self.unasked = 0, 0
        self._open: dict[int, Cohort] = {}
        self._delays = DelayCurve()
        self._closed_until: int | None = None

    @property
    def open(self) -> Mapping[int, Cohort]:
        """The open cohorts by the start of their windows."""
        return self._open

    @property
    def delays(self) -> DelayCurve:
        """How late labels come."""
        return self._delays

    def expect(self, start: int, end: int, traffic: Traffic, audits: list[Audit]) -> bool:
        """Inferences of the window [start, end), and those of them that labels are asked for; may come in parts.

        Tells whether they still count. ValueError when the window ends otherwise than before.
        """
        if self._done(start):
            return False
        cohort = self._open.setdefault(start, Cohort(start=start, end=end))
        if cohort.end != end:
            raise ValueError(f"cohort {start} ends at {cohort.end} and at {end}; a subject has one window length")
        cohort.traffic.merge(traffic)
        for audit in audits:
            if _kept(audit.key, cohort.halvings):
                cohort.audits.setdefault(audit.key, audit)
        while len(cohort.audits) > CAPACITY:
            cohort.halvings += 1
            cohort.audits = {k: a for k, a in cohort.audits.items() if _kept(k, cohort.halvings)}
            cohort.arrived = sum(a.correct is not None for a in cohort.audits.values())
        return True

    def update(self, start: int, key: int, correct: bool, age_us: int) -> bool:
        """A label came for the inference `key` of the window `start`, `age_us` after it. Tells whether it counts."""
        if self._done(start):
            self.late += 1
            return False
        cohort = self._open.get(start)
        if cohort is not None and not _kept(key, cohort.halvings):
            return False
        audit = cohort.audits.get(key) if cohort is not None else None
        if cohort is None or audit is None:
            self.unasked += 1
            return False
        if audit.correct is not None:
            return False  # the first label counts; a second one is a matter of the labellers
        audit.correct = correct
        cohort.arrived += 1
        # Bins that were passed hold what came in time; a clock that ran ahead must not change them.
        cohort.ages[correct][max(bin_of(age_us / self.unit_us), cohort.passed)] += 1
        return True

    def advance(self, now_us: int) -> list[Closed]:
        """All labels up to `now_us` have been given: the cohorts that close now, oldest first."""
        for cohort in self._open.values():
            counts = np.array(cohort.ages)
            while cohort.passed < BINS - 1 and now_us - cohort.end > edge(cohort.passed) * self.unit_us:
                self._delays.update(cohort.passed, counts)
                cohort.passed += 1
        closed = []
        for start in sorted(self._open):
            reason = self._reason(self._open[start], now_us)
            if reason is None:
                break
            closed.append(_closed(self._open.pop(start), reason))
            self._closed_until = start
            self._delays.forget()
        return closed

    @property
    def state(self) -> CohortsState:
        """What `from_state` needs to go on exactly where this one stands; a copy, encoded and decoded."""
        whole = CohortsState(
            unit_us=self.unit_us,
            oldest_us=self.oldest_us,
            open=tuple(self._open[start] for start in sorted(self._open)),
            delays=self._delays.state,
            closed_until=self._closed_until,
            late=self.late,
            unasked=self.unasked,
        )
        return msgspec.msgpack.decode(msgspec.msgpack.encode(whole), type=CohortsState)

    @classmethod
    def from_state(cls, state: CohortsState) -> "Cohorts":
        """The cohorts whose state this was; ValueError for a version this code does not know."""
        if state.version != VERSION:
            raise ValueError(f"cohort state has version {state.version}, known is {VERSION}; start it afresh")
        found = cls(state.oldest_us, unit_us=state.unit_us)
        found._open = {c.start: c for c in state.open}
        found._delays = DelayCurve.from_state(state.delays)
        found._closed_until, found.late, found.unasked = state.closed_until, state.late, state.unasked
        return found

    def _done(self, start: int) -> bool:
        return self._closed_until is not None and start <= self._closed_until

    def _reason(self, cohort: Cohort, now_us: int) -> Reason | None:
        age = now_us - cohort.end
        if age < 0:
            return None
        if not cohort.missing:
            return "complete"
        if age >= self.oldest_us or len(self._open) > OPEN:
            return "age"
        shares = self._delays.share(age / self.unit_us)
        return "delays" if shares is not None and min(shares) >= SHARE else None


def _kept(key: int, halvings: int) -> bool:
    return halvings == 0 or _mixed(key) >> (64 - halvings) == 0


def _mixed(key: int) -> int:
    """Another hash of the key: its own order goes with the propensity, as small hashes are drawn first."""
    h = (key ^ key >> 32) * _ODD & _MASK
    return (h ^ h >> 29) * _ODD & _MASK


def _closed(cohort: Cohort, reason: Reason) -> Closed:
    audits = sorted(cohort.audits.values(), key=lambda a: _mixed(a.key))
    return Closed(
        start=cohort.start,
        end=cohort.end,
        reason=reason,
        traffic=cohort.traffic,
        correct=np.array([np.nan if a.correct is None else float(a.correct) for a in audits]),
        proxy=np.array([a.proxy for a in audits]),
        propensity=np.array([a.propensity for a in audits]),
        missing=cohort.missing,
    )
