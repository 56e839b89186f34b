"""What the recorded traffic says of its own: rate, latency, failures, and how late and how many labels come."""

from typing import Any

import numpy as np

from models.columns import Floats, Ints
from models.describing_columns import Observations
from models.describing_features import quantile, rounded, share
from models.units import DAY_US, SECOND_US

MINUTE_US = 60 * SECOND_US
PERCENTILES = (50, 95, 99)
LEAST_WINDOWS = 100  # of fewer, the 99th percentile is only the largest
LONGEST_SPAN = 100 * 366 * DAY_US  # beyond it a clock was wrong, not the traffic slow


def rate(time: Ints, weight: Floats | None = None) -> tuple[dict[str, Any], str]:
    """Events per minute, as mean and 99th percentile over whole minutes; nothing, and why, where none can be told."""
    first, last = int(time.min()) // MINUTE_US + 1, int(time.max()) // MINUTE_US  # the minutes at the ends are cut
    minutes = last - first
    if minutes < 1 or int(np.ptp(time)) > LONGEST_SPAN:
        return {}, "rate: the events do not span a whole minute, or a clock is wrong"
    minute = time // MINUTE_US
    inside = (minute >= first) & (minute < last)
    slots, where = np.unique(minute[inside], return_inverse=True)
    counts = np.sort(np.bincount(where, weights=None if weight is None else weight[inside], minlength=len(slots)))
    found: dict[str, Any] = {"mean": rounded(counts.sum() / minutes), "unit": "1/minute"}
    if minutes < LEAST_WINDOWS:
        return found, f"rate.p99: {minutes} whole minutes are recorded, {LEAST_WINDOWS} are needed"
    empty = minutes - len(slots)
    rank = int(np.ceil(0.99 * minutes)) - empty  # rank among the minutes with events
    return {"mean": found["mean"], "p99": rounded(counts[rank - 1]) if rank > 0 else 0.0, "unit": "1/minute"}, ""


def latency(observed: Observations) -> dict[str, float]:
    """p50, p95 and p99 of the latency in ms over the events that carry one; empty where none does."""
    known = np.isfinite(observed.latency_ms)
    if not known.any():
        return {}
    weight = None if observed.weight is None else observed.weight[known]
    points = quantile(observed.latency_ms[known], [p / 100 for p in PERCENTILES], weight)
    return {f"p{p}": rounded(v) for p, v in zip(PERCENTILES, points, strict=True)} | {"n": int(known.sum())}


def labels(observed: Observations) -> dict[str, Any]:
    """Median delay of the labels, and the share of inferences that got one.

    Counted among inferences so old that the slowest label would have come; among all where there are none so old.
    """
    truths = observed.truths
    if truths is None or not len(truths.rows):
        return {}
    end = max(int(observed.time.max()), int((observed.time[truths.rows] + truths.delay_us).max()))
    mature = observed.time <= end - int(truths.delay_us.max())
    if not mature.any():
        mature[:] = True
    has = np.zeros(len(observed), np.bool_)
    has[truths.rows] = True
    weight = None if observed.weight is None else observed.weight[mature]
    found = {"share": share(has[mature], weight), "source": "ground-truth"}
    delay = float(np.median(truths.delay_us))
    return ({"delay": duration(delay)} if delay >= 0 else {}) | found


def duration(us: float) -> str:
    """A duration as descriptors have it, in the largest unit that is reached, six digits.

    >>> duration(7 * DAY_US), duration(90 * SECOND_US)
    ('7 days', '1.5 minutes')
    """
    for name, scale in (("days", DAY_US), ("hours", 60 * MINUTE_US), ("minutes", MINUTE_US)):
        if us >= scale:
            return f"{rounded(us / scale):.15g} {name}"
    return f"{us / SECOND_US:.6f}".rstrip("0").rstrip(".") + " s"
