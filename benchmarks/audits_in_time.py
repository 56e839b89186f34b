"""Late labels and concept drift: the tables of `benchmarks.audits` that follow labels in time."""

import math

import numpy as np

from benchmarks.audit_streams import Deployed
from models.cohorts import Audit, Cohorts
from models.concept import ConceptWatch
from models.induction import Induced
from models.prediction_powered import AuditedAccuracy, Traffic

ALPHA = 0.05
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
    """Print labels to the flag after two classes are swapped, and flags where nothing is."""
    print("\nconcept drift, two classes swapped, promised run length 10,000 audits; target on clean 55, 133 at 95%")
    for name in ("clean", "light fog"):
        delays, before, after, low_ends, each, early = [], [], [], [], [], 0
        for m, found in enumerate(models):
            answers = found.clean if name == "clean" else found.fog
            rng = np.random.default_rng((11, m, len(name)))
            ends = lows(found, answers, rng)
            low_ends += ends
            for number in range(100):
                a, b = SWAPPED[number % len(SWAPPED)]
                truth = answers.labels.copy()
                truth[answers.labels == a], truth[answers.labels == b] = b, a
                wrong = answers.probability.argmax(axis=1) == truth
                before.append(answers.right.mean())
                after.append(wrong.mean())
                watch = ConceptWatch(10_000)
                for n, row in enumerate(rng.integers(len(truth), size=500).tolist()):
                    watch.update(bool(answers.right[row]), ends[n // 25 % 20])
                early += watch.alarms
                delay = 0
                while not watch.flagged and delay < 5000:
                    watch.update(bool(wrong[rng.integers(len(truth))]), ends[delay // 25 % 20])
                    delay += 1
                delays.append(delay)
            each.append(f"{100 * np.mean(ends):.1f}: {np.median(delays[-100:]):.0f}")
        spread = np.quantile(
            [np.median(np.random.default_rng(i).choice(delays, len(delays))) for i in range(400)], (0.05, 0.95)
        )
        print(
            f"{name:10s} accuracy {100 * np.mean(before):.1f} -> {100 * np.mean(after):.1f}, label-free low "
            f"{100 * np.mean(low_ends):.1f} (never says so); labels to the flag: median {np.median(delays):.0f} "
            f"[{spread[0]:.0f}, {spread[1]:.0f}], 95% {np.quantile(delays, 0.95):.0f}; missed "
            f"{sum(d >= 5000 for d in delays)} of {len(delays)}; flags before the swap {early}"
        )
        print(f"{'':10s} by model, label-free low: median labels  " + ", ".join(each))
    quiet(models)


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
