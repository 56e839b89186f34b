"""What became of the forecasts of a model version, and what that teaches the next version of the same model.

A few forecasts of every version are kept, each with the features it was made of. One is resolved when the quality fell
below the threshold, or when its whole horizon passed without that; when another version takes over first it is
right-censored: it was followed so far and no further. Nobody knows the true quality, so a crossing counts only once
the whole 90% interval of the estimate lay below the threshold; it is dated back to the window since which the estimate
itself had been below. Until it is confirmed, a forecast counts as followed up to that window.

All versions of a model are one family. A new version starts with the records of those before it, and from ENOUGH
resolved series on (a version is a series: its forecasts are about one and the same crossing) with corrected hazards
and own levels, which every further series moves. Models are replaced soon after a crossing, so resolved forecasts hold
more short times than there are; that makes levels learnt from them the more careful ones.
"""

from collections.abc import Mapping

import msgspec
import numpy as np

from models.columns import Subject
from models.conformal import ENOUGH, Levels
from models.forecast import Passage
from models.own_history import Calibration, Resolved, learn
from models.passage_network import HORIZON, shipped
from models.quality import Estimate

EVERY = 12  # windows between two forecasts that are kept, to begin with
MOST = 12  # forecasts kept of a version; then every second is dropped and the next ones come half as often
PER_SERIES = 4  # forecasts of an ended version that are kept as records
VERSIONS = 64  # versions whose names are remembered as taken in


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A forecast that was told after `window`; times in windows ahead, HORIZON + 1 where they lay beyond.

    `features` are 42 float32, little-endian.
    """

    window: int
    features: bytes
    low: float
    high: float
    good_for: float
    median: float


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A forecast of an earlier version for `models.own_history.learn`; `features` as in `Made`."""

    version: str
    features: bytes
    crossing: int | None
    followed: int


class History(msgspec.Struct, frozen=True, kw_only=True):
    """Forecasts of one version, and what it inherited. Bounded; only add fields, with defaults."""

    made: tuple[Made, ...] = ()
    every: int = EVERY
    last: int | None = None  # newest window with an estimate
    below_since: int | None = None  # the estimate has been below the threshold since this window
    crossed: int | None = None  # the same, confirmed: its interval was below as a whole
    records: tuple[Record, ...] = ()
    versions: tuple[str, ...] = ()  # whose forecasts are among the records, or were
    series: int = 0  # resolved series so far
    learnt: Calibration | None = None
    terms: tuple[int, float] | None = None  # length of the windows it counts, in us, and the threshold

    @property
    def calibration(self) -> Calibration:
        """How the forecasts of this version are corrected and cut."""
        return self.learnt or Calibration(levels=Levels(series=self.series))


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a forecast was worth. `held` and `bound_held` are None where that is not known (yet)."""

    made: Made
    crossing: int | None  # windows from the forecast to the crossing
    followed: int  # windows that were watched after it, HORIZON at most
    held: bool | None
    bound_held: bool | None


def due(history: History, window: int, passage: Passage) -> bool:
    """Whether the forecast made after `window` is one to keep: now and then, while the quality still holds."""
    told = passage.reason is None and passage.horizon == HORIZON
    if not told or history.below_since is not None or history.crossed is not None:
        return False
    return not history.made or window - history.made[-1].window >= history.every


def noted(history: History, window: int, passage: Passage, features: tuple[float, ...]) -> History:
    """Keep the forecast made after `window` of these features."""
    made = Made(
        window=window, features=np.asarray(features, "<f4").tobytes(), low=_windows(passage.low),
        high=_windows(passage.high), good_for=_windows(passage.good_for), median=_windows(passage.median),
    )  # fmt: skip
    kept, every = (*history.made, made), history.every
    if len(kept) > MOST:
        kept, every = kept[::2], 2 * every
    return msgspec.structs.replace(history, made=kept, every=every)


def followed(history: History, window: int, estimate: Estimate, threshold: float) -> History:
    """Take in what is known of the quality in `window`. Nothing known: nothing was watched."""
    if estimate.estimate is None or estimate.high is None or history.crossed is not None:
        return history
    since = None
    if estimate.estimate < threshold:
        since = window if history.below_since is None else history.below_since
    crossed = since if estimate.high < threshold else None
    return msgspec.structs.replace(history, last=window, below_since=since, crossed=crossed)


def under(history: History, window_us: int, threshold: float) -> History:
    """The history under these terms: forecasts made under others, about other windows or another threshold, are
    forgotten, since what comes now could not tell whether they held.
    """
    terms = (window_us, threshold)
    if history.terms == terms:
        return history
    return msgspec.structs.replace(history if history.terms is None else again(history), terms=terms)


def again(history: History) -> History:
    """The history of a version that is deployed once more: what earlier versions taught, and none of its own."""
    return History(records=history.records, versions=history.versions, series=history.series, learnt=history.learnt)


def outcomes(history: History, until: int | None = None) -> list[Outcome]:
    """What became of the forecasts of this version, by what was known up to the window `until` (None: all)."""
    last = -1 if history.last is None else history.last
    end = last if until is None else min(last, until)
    crossed = history.crossed if history.crossed is not None and history.crossed <= end else None
    if crossed is None and history.below_since is not None:
        end = min(end, history.below_since - 1)
    return [_outcome(made, crossed, end) for made in history.made if made.window < end or crossed is not None]


def is_family(other: Subject, subject: Subject) -> bool:
    """Whether `subject`, all traffic of a version, may inherit from `other`: the same of another version."""
    same = other.model == subject.model and other.version != subject.version
    return same and bool(other.version and subject.version) and not other.segment and not subject.segment


def inherited(families: Mapping[str, History], until: int | None = None) -> History:
    """The history of a new version from those of the earlier versions of its model, by what was known at `until`.

    The longest line of descent is taken over, and versions that it lacks are added, oldest forecasts first.
    """
    if not families:
        return History()
    line = max(sorted(families), key=lambda version: (families[version].series, _age(families[version])))
    ancestor = families[line]
    found = again(ancestor)
    for version in sorted(families.keys() - set(found.versions), key=lambda v: (_age(families[v]), v)):
        found = _ended(found, version, outcomes(families[version], until))
    return found


def _ended(history: History, version: str, became: list[Outcome]) -> History:
    """The history with one more version that has ended."""
    if not became:
        return history
    told = [one for one in became if one.held is not None]
    chosen = became if len(became) <= PER_SERIES else [became[i] for i in _spread(len(became))]
    new = tuple(
        Record(version=version, features=o.made.features, crossing=o.crossing, followed=o.followed) for o in chosen
    )
    series = history.series + bool(told)
    learnt, records = history.learnt, (*history.records, *new)
    if learnt is not None:
        records = ()  # what they taught is kept, and levels go on from it
        if told:
            missed, bound = (sum(not hit for hit in hits) / len(told) for hits in _hits(told))
            learnt = learnt.after(missed, bound)
    elif series >= ENOUGH:
        learnt = learn(shipped(), _resolved(records))
        learnt = learnt if learnt.source != "default" else None
    return msgspec.structs.replace(
        history, records=records, versions=(*history.versions, version)[-VERSIONS:], series=series, learnt=learnt
    )


def _hits(told: list[Outcome]) -> tuple[list[bool], list[bool]]:
    return [bool(one.held) for one in told], [bool(one.bound_held) for one in told]


def _resolved(records: tuple[Record, ...]) -> list[Resolved]:
    number = {version: i for i, version in enumerate(dict.fromkeys(r.version for r in records))}
    return [
        Resolved(
            series=number[r.version], features=tuple(np.frombuffer(r.features, "<f4").astype(float).tolist()),
            crossing=r.crossing, followed=r.followed,
        )
        for r in records
    ]  # fmt: skip


def _outcome(made: Made, crossed: int | None, end: int) -> Outcome:
    if crossed is not None and crossed - made.window <= HORIZON:
        time, watched = crossed - made.window, HORIZON
    else:
        time, watched = HORIZON + 1, min(end - made.window, HORIZON)
    known = watched >= HORIZON
    return Outcome(
        made=made, crossing=time if time <= HORIZON else None, followed=watched,
        held=made.low <= time <= made.high if known else None, bound_held=time >= made.good_for if known else None,
    )  # fmt: skip


def _spread(count: int) -> list[int]:
    """PER_SERIES places of so many, first and last among them."""
    return [round(i * (count - 1) / (PER_SERIES - 1)) for i in range(PER_SERIES)]


def _age(history: History) -> int:
    return history.made[0].window if history.made else -1


def _windows(ahead: float | None) -> float:
    return float(HORIZON + 1) if ahead is None else ahead
