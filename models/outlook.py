"""The forecast of one subject, kept up window by window while labels still revise the last ones.

A forecaster goes forwards only, and labels come late. So two checkpoints of it are kept: `settled` has seen the windows
that no label revises any more, `oldest` those that are about to leave the ring. A forecast runs from `settled` over the
open windows; a label for an older window than ever before moves `settled` back to where such labels no longer reach it.
So a window costs as many steps as there are open windows, and every reading is taken in as if it had come in time.

    ring  [ . . . . . . . . . . . . . . . . . | . . . . . ]
            ^ oldest                          ^ settled   ^ now

A declared season (`system_context.bestbefore.season`) is learnt anew from the ring once per cycle and taken out.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from models.evidence import Begun, Evidence, begun_blocks, readings
from models.forecast import MEMORY, Filtered, Passage, Reading, first_passage
from models.forecaster import Forecaster, Memory, learnt_season
from models.holt import holt_passage
from models.own_history import Calibration
from models.reference import Reference

OPEN = 8  # windows behind the newest that labels may revise, to begin with
BASELINE = "levels of a baseline, from 400 simulated series; own history is not used"
KEPT = MEMORY - 30  # windows behind the newest beyond which a revision comes too late for the forecast


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A forecaster that has seen every window up to the one that starts at `until`, and blocks it has begun."""

    memory: Memory
    until: int = -(1 << 62)
    begun: Begun = (None, None)


class Outlook(msgspec.Struct, kw_only=True):
    """What the forecast of a subject remembers beside the ring of evidence. Only add fields, with defaults."""

    oldest: Checkpoint | None = None
    settled: Checkpoint | None = None
    open: int = OPEN
    length: int = 0  # of the windows it counts
    revised: int | None = None  # start of the oldest window that was revised since the last forecast

    def touched(self, start: int) -> None:
        """Labels for the window that starts at `start` came late."""
        self.revised = start if self.revised is None else min(self.revised, start)


class Forecast(NamedTuple):
    """A forecast, the words that go with it, and who made it (None: a baseline)."""

    passage: Passage
    levels: str
    season: str | None = None
    made_by: Forecaster | None = None


def forecast(
    outlook: Outlook,
    ring: Sequence[Evidence],
    reference: Reference,
    calibration: Calibration,
    filtered: Filtered,
    seed: int,
) -> Forecast:
    """The forecast at the end of the newest window of `ring`, by the forecaster that the deployment declares.

    `reference` must have a threshold. `filtered` is the Kalman filter after `ring`, `seed` is for the baselines' paths.
    """
    assert reference.threshold is not None  # noqa: S101 -- the caller has one
    lead = reference.lead_time_us / reference.window_us
    if reference.forecaster != "amortised":  # a later change of mind starts from the ring
        outlook.oldest = outlook.settled = outlook.revised = None
    if reference.forecaster == "kalman":
        return Forecast(first_passage(filtered, reference.threshold, lead=lead, seed=seed), BASELINE)
    if reference.forecaster == "holt":
        found = holt_passage(readings(ring, reference), reference.threshold, lead=lead, seed=seed)
        return Forecast(found, BASELINE)
    newest = _newest(outlook, ring, reference)
    told = newest.passage(lead=lead, calibration=calibration)
    return Forecast(told, calibration.word, _season_word(outlook, reference), newest)


def told(found: Forecast, reference: Reference, resolved: int) -> dict[str, Any]:
    """What the `forecast` object of a status says beside the dates."""
    words = {"forecaster": reference.forecaster, "levels": found.levels, "n_resolved": resolved}
    return words if found.season is None else {**words, "season": found.season}


def _season_word(outlook: Outlook, reference: Reference) -> str | None:
    if not reference.season_us:
        return None
    if not season_windows(reference):
        return "not removed: whole windows do not make it up"
    known = outlook.oldest is not None and outlook.oldest.memory.season
    return "removed; the date is about its low" if known else "not removed yet: three whole seasons are needed"


def _newest(outlook: Outlook, ring: Sequence[Evidence], reference: Reference) -> Forecaster:
    """The forecaster after every window of `ring`; moves the checkpoints."""
    last = ring[-1].start
    period = season_windows(reference)
    window = last // reference.window_us
    known = outlook.oldest.memory if outlook.oldest is not None else None
    season = known.season if known is not None and period else ()
    if period and (window % period == 0 or not season):
        season = learnt_season(readings(ring, reference), period) or ()
    same = known is not None and (known.threshold, known.season) == (reference.threshold, season)
    if not same or outlook.length != reference.window_us:
        outlook.length = reference.window_us
        fresh = Checkpoint(memory=_fresh(reference, season))
        outlook.oldest = outlook.settled = fresh
        outlook.revised = None
    _settle(outlook, ring, reference)
    assert outlook.settled is not None  # noqa: S101 -- set above
    young = [e for e in ring if e.start > outlook.settled.until]
    found = _run(outlook.settled, young, reference)
    if found.window is None or found.window < window:
        found.update(Reading(window=window))
    return found


def _settle(outlook: Outlook, ring: Sequence[Evidence], reference: Reference) -> None:
    """Move both checkpoints forwards, and `settled` back if labels have come for what it had seen."""
    last, length = ring[-1].start, reference.window_us
    assert outlook.oldest is not None and outlook.settled is not None  # noqa: S101, PT018 -- the caller has set both
    if outlook.revised is not None:
        reach = (last - outlook.revised) // length + 1
        if reach > outlook.open:
            outlook.open = min(reach + reach // 4, KEPT)
        if outlook.revised <= outlook.settled.until:
            outlook.settled = outlook.oldest
        outlook.revised = None
    outlook.oldest = _advanced(outlook.oldest, ring, last - KEPT * length, reference)
    # What still waits for its labels would be passed over for good.
    waiting = min((e.start for e in ring if e.audits and not e.mark.closed), default=last)
    settled = min(last - outlook.open * length, waiting - 1)
    outlook.settled = _advanced(outlook.settled, ring, settled, reference)
    if outlook.settled.until < outlook.oldest.until:
        outlook.settled = outlook.oldest


def _advanced(checkpoint: Checkpoint, ring: Sequence[Evidence], to: int, reference: Reference) -> Checkpoint:
    """The checkpoint after every window that starts at `to` or before."""
    windows = [e for e in ring if checkpoint.until < e.start <= to]
    if not windows:
        return checkpoint
    return Checkpoint(
        memory=_run(checkpoint, windows, reference).state,
        until=windows[-1].start,
        begun=begun_blocks(windows, reference, checkpoint.begun),
    )


def _run(checkpoint: Checkpoint, windows: Sequence[Evidence], reference: Reference) -> Forecaster:
    """The forecaster of a checkpoint after these windows too; what says nothing is left out, so that time adds up."""
    found = Forecaster.from_state(checkpoint.memory)
    for one in readings(windows, reference, checkpoint.begun):
        ahead = found.window is None or one.window > found.window
        if ahead and (one.audit is not None or one.label_free is not None):
            found.update(one)
    return found


def _fresh(reference: Reference, season: tuple[float, ...]) -> Memory:
    assert reference.threshold is not None  # noqa: S101 -- the caller has a threshold
    return Forecaster(reference.threshold, season=season).state


def season_windows(reference: Reference) -> int:
    """Windows of the declared season; 0 where there is none that whole windows make up."""
    windows, rest = divmod(reference.season_us, reference.window_us)
    return windows if windows > 1 and not rest else 0
