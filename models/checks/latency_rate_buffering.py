"""Do answers come in time, at the declared rate, and in the declared portions?

| | |
|---|---|
| left | `production_environment.bestbefore.latency` {percentile, value, unit}, else `required_inference_time` as a 99th percentile; `production_data.bestbefore.rate` {mean, p99, unit} and `window_size` |
| right | share of answers slower than the limit, events per second, events per window |
| statistic | share above the limit with its 90% interval (bins of a quarter octave); Poisson interval of the rate |
| mismatch | more answers are slow than the percentile allows; a window above the declared p99 rate; an average over a day half above the mean; a silent window where events were due; another number of events per window than declared |
| unknown | nothing declared, no latencies in the events, the limit lies within a bin that decides, less than a day seen where no p99 is declared |

A mean hides a slow tail, so only percentiles are judged. Rates are judged over all versions of a model together, so a
roll-out is no silence. Silence is a window without any event although at least 20
were due at the declared mean. Rates count sampled events with the inverse of their sampling probability.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from models.checks.check import Check
from models.checks.distribution import observed_n
from models.checks.observed import Observed
from models.checks.shares import above, share_side
from models.checks.verdict import Effect, Side, Verdict
from models.distance import Z90
from models.profile import LATENCY_EDGES, WEIGHT
from models.quantities import converted, number_of

LATENCY = "production_environment.bestbefore.latency"
REQUIRED = "production_environment.required_inference_time"
RATE = "production_data.bestbefore.rate"
SIZE = "production_data.bestbefore.window_size"
DUE = 20  # events that must be due in a window before none of them is silence
FACTOR = 1.5  # by which a rate must exceed the declared mean
MOST = 64  # windows over which the mean rate is taken: a day, or as much of it as is remembered
SIZE_TOLERANCE = 0.1
DAY = 86_400.0  # seconds


def live(seen: Observed) -> Iterator[Verdict]:
    """Latency and portion of one window of one version."""
    yield from _latency(seen)
    if not seen.subject.segment:
        yield from _size(seen)


def fleet(seen: Observed) -> Iterator[Verdict]:
    """The rate of all versions of a model together: what is declared is the traffic, whoever answers it."""
    yield from _rate(seen)


def _latency(seen: Observed) -> Iterator[Verdict]:
    limit = seen.reference.latency_limit_ms
    if limit is None:
        yield CHECK.unknown(f"neither {LATENCY} nor {REQUIRED} is declared", field="latency")
        return
    declared = seen.value(LATENCY)
    path = LATENCY if isinstance(declared, dict) else REQUIRED
    percentile = float(declared.get("percentile") or 99) if isinstance(declared, dict) else 99.0
    left = Side(path, f"p{percentile:g} <= {limit:g} ms", "")
    counts = None if seen.block is None else seen.block.histograms.get("latency_ms")
    if counts is None or not counts.sum() or seen.block is None:
        reason = seen.filling if seen.block is None else "the events carry no latency_ms"
        yield CHECK.unknown(reason, field="latency", left=left)
        return
    n, allowed = observed_n(seen.block, float(counts.sum())), 1 - percentile / 100
    # The bin of the limit itself: what lies above it is slow for certain, what lies in it may be.
    cut = int(np.searchsorted(LATENCY_EDGES, limit))
    certain, possible = (float(counts[i:].sum() / counts.sum()) for i in (cut + 1, cut))
    right = Side(f"telemetry.latency.p{percentile:g}", *quantile(counts, percentile / 100, n), n=float(f"{n:.6g}"))
    slow = share_side("telemetry.latency.slow", certain, n)
    effect = Effect(
        statistic="share slower than declared",
        estimate=slow.value,
        low=slow.low,
        high=slow.high,
        threshold=allowed,
        n=n,
    )
    sides: dict[str, Any] = {"field": "latency", "left": left, "right": right, "effect": effect}
    if above(certain, n, allowed):
        yield CHECK.mismatch(
            f"{certain:.3g} of {n:.6g} answers took longer than {limit:g} ms; {path} allows {allowed:.3g}: "
            f"p{percentile:g} is about {right.value:.3g} ms",
            evidence=seen.block.evidence("slow"), **sides,
        )  # fmt: skip
    elif above(possible, n, allowed):
        yield CHECK.unknown(f"p{percentile:g} lies in the same quarter octave as the limit of {limit:g} ms", **sides)
    else:
        yield CHECK.ok(**sides)


def quantile(counts: Any, share: float, n: float) -> tuple[float, str, float, float]:
    """Value, unit and 90% interval of a latency quantile, from the bins its rank and the rank's interval lie in."""
    below = np.cumsum(counts) / counts.sum()
    reach = Z90 * math.sqrt(share * (1 - share) / max(n, 1))
    edges = np.concatenate(([0.0], LATENCY_EDGES, [LATENCY_EDGES[-1] * 2]))

    def bin_of(rank: float) -> int:
        return min(int(np.searchsorted(below, min(max(rank, 0.0), 1.0))), len(counts) - 1)

    middle, low, high = bin_of(share), bin_of(share - reach), bin_of(share + reach)
    value = math.sqrt(max(edges[middle], LATENCY_EDGES[0] / 2) * edges[middle + 1])
    return float(f"{value:.4g}"), "ms", float(edges[low]), float(edges[high + 1])


def _rate(seen: Observed) -> Iterator[Verdict]:
    declared = seen.value(RATE)
    mean = _per_second(declared, "mean")
    if mean is None:
        yield CHECK.unknown(f"{RATE} is not declared", field="rate")
        return
    seconds = (seen.end_us - seen.start_us) / 1e6
    events, n = seen.window.counts.get("weight", 0) / WEIGHT, seen.window.n
    windows = min(max(math.ceil(DAY / seconds), 1), MOST)
    rates = seen.remember("latency-rate-buffering/rate", events / seconds, windows)
    usual = sum(rates) / windows if len(rates) == windows else 0.0
    right = _rate_side("telemetry.rate", events / seconds, n, seconds)
    peak = _per_second(declared, "p99")
    effect = Effect(
        statistic="events per second", estimate=right.value, low=right.low, high=right.high,
        threshold=peak if peak is not None else mean * FACTOR, n=n,
    )  # fmt: skip
    sides: dict[str, Any] = {"field": "rate", "left": Side(RATE, declared), "right": right, "effect": effect}
    told = f"the declared mean of {declared['mean']:g} {declared.get('unit', '1/s')}"
    if n == 0 and mean * seconds >= DUE:
        yield CHECK.mismatch(
            f"no event for {seconds:.6g} s, about {mean * seconds:.3g} were due at {told}: the topic is silent, or its "
            "server", severity="critical", **sides,
        )  # fmt: skip
    elif peak is not None and right.low is not None and right.low > peak:
        yield CHECK.mismatch(f"{right.value:.4g} events/s, above the declared p99 of {declared.get('p99')}", **sides)
    elif usual > mean * FACTOR:
        yield CHECK.mismatch(
            f"{usual:.4g} events/s on average over {windows} windows, more than {FACTOR:g} times {told}", **sides
        )
    elif peak is None and len(rates) < windows:
        yield CHECK.unknown(f"{len(rates)} of the {windows} windows of a day so far", **sides)
    else:
        yield CHECK.ok(**sides)


def _rate_side(path: str, rate: float, n: int, seconds: float) -> Side:
    """The rate with a Poisson interval on the number of records behind it."""
    reach = Z90 * math.sqrt(max(n, 1)) / max(n, 1)
    low, high = max(rate * (1 - reach), 0.0), rate * (1 + reach) if n else 3.0 / seconds
    return Side(path, float(f"{rate:.6g}"), "1/s", float(f"{low:.6g}"), float(f"{high:.6g}"), float(n))


def _per_second(declared: Any, name: str) -> float | None:
    if not isinstance(declared, dict) or declared.get(name) is None:
        return None
    number = number_of(declared[name])
    if number is None:
        return None
    return converted(number[0], str(declared.get("unit") or number[1] or "1/s"), "1/s")


def _size(seen: Observed) -> Iterator[Verdict]:
    declared = number_of(seen.value(SIZE))
    if declared is None or not declared[0] or not seen.window.n:
        return
    n, left = seen.window.n, Side(SIZE, declared[0])
    right = Side("telemetry.n", n, n=n)
    effect = Effect(statistic="events per window", estimate=n, threshold=declared[0], n=n)
    if abs(n - declared[0]) > SIZE_TOLERANCE * declared[0]:
        yield CHECK.mismatch(
            f"{n} events in a window, {declared[0]:g} are declared: figures over windows of another size are not "
            "comparable with the declared ones",
            field="window_size", left=left, right=right, effect=effect,
        )  # fmt: skip
    else:
        yield CHECK.ok(field="window_size", left=left, right=right, effect=effect)


CHECK = Check(
    id="latency-rate-buffering",
    title="In time, at the declared rate",
    owner="operations",
    remedy="scale the service, shed load, or declare what production really is",
    action="fix-pipeline",
    live=live,
    fleet=fleet,
)
