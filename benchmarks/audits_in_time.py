"""Late labels and concept drift: the tables of `benchmarks.audits` that follow labels in time."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.audit_streams import Deployed
from models.cohorts import Audit, Cohorts
from models.concept import ConceptWatch
from models.induction import Induced
from models.prediction_powered import AuditedAccuracy, Traffic

ALPHA = 0.05
STREAMS, MOST = 100, 5000  # streams a model; labels after which a swap counts as missed
SWAPPED = ((3, 8), (4, 9), (1, 7), (2, 5))


def late(streams: int = 20) -> None:
    """Print the bias of averages by arrival and of closed cohorts where labels of wrong answers are slow."""
    length, horizon, marks = 1000, 60_000, (2_000, 5_000, 10_000, 20_000)
    arrival: list[list[float]] = []
    closed, inside, count, ages = [], [], [], []
    for number in range(streams):
        rng = np.random.default_rng((7, number))
        r = np.clip(rng.beta(5, 1.1, horizon), 0.02, 0.99)
        y = rng.random(horizon) < r
        delay = rng.exponential(np.where(y, 1000, 3000)).astype(np.int64)
        asked = np.flatnonzero(rng.random(horizon) < 0.05)
        came = asked + delay[asked]
        # An average by arrival knows the labels that came by then, of inferences up to then.
        arrival.append([float(y[asked[came <= m]].mean() - y[:m].mean()) for m in marks])
        book, whole = Cohorts(60_000, unit_us=50), AuditedAccuracy(ALPHA)
        keys = {int(i): int(k) for i, k in zip(asked, rng.integers(0, 2**63, len(asked)), strict=True)}
        by_arrival = asked[np.argsort(came, kind="stable")]
        given, upto = 0, 0
        for now in range(length, horizon + 1, length):
            start, traffic = now - length, Traffic()
            traffic.update(r[start:now], np.full(length, 0.05))
            mine = asked[(asked >= start) & (asked < now)].tolist()
            book.expect(start, now, traffic, [Audit(keys[i], float(r[i]), 0.05) for i in mine])
            while given < len(by_arrival) and by_arrival[given] + delay[by_arrival[given]] <= now:
                i = int(by_arrival[given])
                book.update(i // length * length, keys[i], bool(y[i]), int(delay[i]))
                given += 1
            for cohort in book.advance(now):
                whole.update(cohort.traffic, cohort.correct, cohort.proxy, cohort.propensity)
                ages.append(now - cohort.end)
                upto = cohort.end
        one, both, truth = whole.estimate, whole.interval(), float(y[:upto].mean())
        if one.estimate is not None and both is not None:
            closed.append(one.estimate - truth)
            inside.append(both[0] <= truth <= both[1])
            count.append(upto)
    print(f"\nlate labels: right after 1,000 events, wrong after 3,000 on average, 5% audited, {streams} streams")
    print(
        "average by arrival after 2k, 5k, 10k, 20k events: "
        + " ".join(f"{100 * b:+.1f}" for b in np.mean(arrival, axis=0))
    )
    print(
        f"closed cohorts, {np.median(count):.0f} of {horizon} events closed: bias {100 * np.mean(closed):+.2f} +- "
        f"{100 * np.std(closed) / math.sqrt(len(closed)):.2f} points; 95% sequence holds in "
        f"{100 * np.mean(inside):.0f}%; age at closing {np.quantile(ages, 0.1):.0f} / {np.median(ages):.0f} / "
        f"{np.quantile(ages, 0.9):.0f} events (10, 50, 90%)"
    )


def lows(found: Deployed, answers: Induced, rng: np.random.Generator) -> list[float]:
    """Lower ends of the label-free 90% interval in windows of 500 such inferences."""
    return found.lows(answers, [rng.choice(len(answers.labels), 500, replace=False) for _ in range(20)])


def concept(models: list[Deployed]) -> None:
    """Print labels to the flag after two classes are swapped, and flags where nothing is.

    The target was measured on the first three models; how soon a swap shows depends on how wide the label-free interval
    of a model is, so the three others are told apart.
    """
    print("\nconcept drift, two classes swapped, promised run length 10,000 audits; target on clean 55, 133 at 95%")
    for name in ("clean", "light fog"):
        found = [_swapped(m, one, name) for m, one in enumerate(models)]
        groups = {"models of the target": found[:3], "other models": found[3:], "all models": found}
        for group, mine in groups.items():
            delays = np.concatenate([one.delays for one in mine])
            rng = np.random.default_rng(5)
            again = rng.choice(delays, (400, len(delays)))
            median, most = (np.quantile(np.quantile(again, q, axis=1), (0.05, 0.95)) for q in (0.5, 0.95))
            low = np.concatenate([one.lows for one in mine])
            print(
                f"{name:10s} {group:21s} label-free low {100 * low.mean():.1f} (never says so); labels to the flag: "
                f"median {np.median(delays):.0f} [{median[0]:.0f}, {median[1]:.0f}], "
                f"95% {np.quantile(delays, 0.95):.0f} [{most[0]:.0f}, {most[1]:.0f}]; "
                f"missed {(delays >= MOST).sum()} of {len(delays)}; flags before it {sum(one.early for one in mine)}"
            )
        each = (
            f"{100 * one.before:.1f} -> {100 * one.after:.1f}, low {100 * one.lows.mean():.1f}: "
            f"{np.median(one.delays):.0f}"
            for one in found
        )
        print(f"{'':10s} by model, accuracy, label-free low and median labels: " + "; ".join(each))
    quiet(models)


class Swapped(NamedTuple):
    """Streams of one model: labels to the flag, label-free lower ends, flags before, accuracy before and after."""

    delays: NDArray[np.float64]
    lows: NDArray[np.float64]
    early: int
    before: float
    after: float


def _swapped(m: int, found: Deployed, name: str) -> Swapped:
    answers = found.clean if name == "clean" else found.fog
    rng = np.random.default_rng((11, m, len(name)))
    ends = lows(found, answers, rng)
    delays, after, early = [], [], 0
    for number in range(STREAMS):
        a, b = SWAPPED[number % len(SWAPPED)]
        truth = answers.labels.copy()
        truth[answers.labels == a], truth[answers.labels == b] = b, a
        right = answers.probability.argmax(axis=1) == truth
        after.append(right.mean())
        watch = ConceptWatch(10_000)
        for n, row in enumerate(rng.integers(len(truth), size=500).tolist()):
            watch.update(bool(answers.right[row]), ends[n // 25 % 20])
        early += watch.alarms
        delay = 0
        while not watch.flagged and delay < MOST:
            watch.update(bool(right[rng.integers(len(truth))]), ends[delay // 25 % 20])
            delay += 1
        delays.append(float(delay))
    return Swapped(np.array(delays), np.array(ends), early, float(answers.right.mean()), float(np.mean(after)))


def quiet(models: list[Deployed], streams: int = 60) -> None:
    """Print how many streams without concept drift are flagged within 1,000 labels; at most a tenth is promised."""
    flagged, held, total = 0, 0, 0
    for m, found in enumerate(models):
        rng = np.random.default_rng((13, m))
        clean = lows(found, found.clean, rng)
        conditions = [(a, lows(found, a, rng)) for a in found.drifted]
        for number in range(streams):
            watch, other = ConceptWatch(10_000), ConceptWatch(10_000)
            answers, ends = conditions[number % len(conditions)]
            for n, row in enumerate(rng.integers(len(answers.labels), size=1000).tolist()):
                watch.update(bool(found.clean.right[row]), clean[n // 50])
                other.update(bool(answers.right[row]), ends[n // 50])
            flagged, held, total = flagged + (watch.alarms > 0), held + (other.alarms > 0), total + 1
    print(
        f"flagged within 1,000 labels without concept drift: clean {flagged}, one held condition {held}, of {total};"
        " promised at most a tenth"
    )
