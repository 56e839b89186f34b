"""The layer of change as the assessor calls it: once per complete window of a model version, with its own terms.

The promise `system_context.bestbefore.false_alarms` is split: half of it is spent by the checks of drift
(`models.checks.promise`), half here. Segments have no streams of their own: their alarms would come on top.
"""

import zlib
from collections.abc import Mapping

from models.change import Change
from models.change_readings import change_readings
from models.checks.observed import Observed
from models.checks.promise import CHANGE_PART, promised_rate
from models.checks.season import SEASON
from models.evidence import Evidence
from models.units import DAY_US, duration_us


def follow_change(
    change: Change | None, seen: Observed, evidence: Evidence, drift: Mapping[str, float]
) -> Change | None:
    """Take a window; None for a segment, for a model nobody described, and where the promise is no rate.

    Other terms than before, a new promise, season or window, start afresh: the old reference was of other windows.
    """
    if not seen.reference.registered or seen.subject.segment:
        return None
    window = seen.reference.window_us
    try:
        run_length, season = 1 / (promised_rate(seen) * CHANGE_PART * window), _season(seen)
    except (ValueError, ZeroDivisionError):
        return None  # the checks of drift say what is wrong with the text
    terms = (max(run_length, 1.0), season, window)
    if change is None or (change.run_length, change.season, change.window_us) != terms:
        change = Change(*terms)
    seed = zlib.crc32("\x00".join((*seen.subject, str(seen.start_us))).encode())
    change.update(seen.start_us // window, change_readings(seen, evidence, drift), seed)
    return change


def _season(seen: Observed) -> int:
    """The declared season in windows, or a day; 1 where windows do not divide it."""
    window, declared = seen.reference.window_us, seen.value(SEASON)
    length = DAY_US if declared is None else duration_us(declared)
    return 1 if length % window else max(length // window, 1)
