"""Are the shares of predicted and of true classes those the model was trained on?

| | |
|---|---|
| left | `training_data.bestbefore.classes`; for predicted classes seen through `training_data.bestbefore.confusion` |
| right | shares of predicted labels over the last whole season (field `predicted`); shares of audited true labels, weighted (field `truth`) |
| statistic | the largest move of a class share, with an interval that holds for all classes at once; a multinomial test |
| mismatch | the shares differ by more than chance, and the lower end of the largest move exceeds 5 points |
| ok | neither, with at least `minimum_n` labels |
| unknown | no classes declared, no predicted label in the events, fewer than `minimum_n` labels, or a reference too small |

At design time `training_data.distribution` and `production_data.distribution` are compared label by label, as numbers
with the same tolerance, through `mapping_production_data`.

`system_context.bestbefore.prior_tolerance` (a share, default 0.05) is the move that is tolerated,
`system_context.bestbefore.false_alarms` sets the level of the test and `system_context.bestbefore.season` what is
judged as a whole. True labels are collected until there are `minimum_n`; where there are none, nothing is said of
them. With a confusion matrix the message adds what the true shares then are, if the model still confuses the classes
as it did.

What to do: recalibrate the class priors; collect labels of the class that grew. Aliases: `tec:16`. Sources: Newcombe
1998 (interval of a difference of shares), Lipton, Wang and Smola 2018 (true shares from predicted ones).
"""

from collections.abc import Iterator, Mapping

import numpy as np
from scipy.optimize import nnls
from scipy.special import ndtri

from models.checks.check import Check
from models.checks.declared_statistics import declared_distribution
from models.checks.distribution import Array, grouped, most_moved, observed_n, too_little, top_scores
from models.checks.observed import Observed
from models.checks.promise import inflation, level
from models.checks.season import filling, over_season, season_of
from models.checks.verdict import Effect, Side, Verdict
from models.checks.workplace import Workplace
from models.distance import jensen_shannon
from models.profile import MAX_CATEGORIES, MISSING, OTHER, Profile
from models.quantities import number_of
from models.reference import Reference

CLASSES = "training_data.bestbefore.classes"
PRIOR_TOLERANCE = "system_context.bestbefore.prior_tolerance"
POINTS = 0.05
FIELDS = 2  # predicted and true
SEPARATE = 0.1  # smallest singular value of a confusion matrix whose classes can be told apart


def tolerance(declared: object) -> float:
    """The move of a share that is tolerated: 0.05, `5%` and 5 are five points."""
    number = number_of(declared)
    if number is None:
        return POINTS
    return number[0] / 100 if number[0] >= 1 else number[0]


def design(at: Workplace) -> Iterator[Verdict]:
    """One verdict per declared label."""
    yield from declared_distribution(CHECK, at, tolerance(at.value(PRIOR_TOLERANCE)))


def live(seen: Observed) -> Iterator[Verdict]:
    """One verdict about predicted labels, and one about true ones where there are some."""
    reference = seen.reference
    if not reference.classes:
        yield CHECK.unknown(f"{CLASSES} is not declared")
        return
    profile = seen.block if season_of(seen).blockwise else seen.window
    yield CHECK.unknown(seen.filling, field="predicted") if profile is None else _predicted(seen, profile)
    # Labels come late: those that became known with this window, whatever window they are about.
    labels = seen.labels or seen.window
    truth = labels.categories.get("truth", {})
    many = OTHER in truth or len(reference.classes) > MAX_CATEGORIES
    if not many and any(weight for value, weight in truth.items() if value != MISSING):
        yield _true(seen, labels)


def _predicted(seen: Observed, profile: Profile) -> Verdict:
    season, key = season_of(seen), f"{CHECK.id}/predicted"
    table, expected = profile.categories.get("label", {}), predicted_shares(seen.reference)
    if OTHER in table or len(expected) > MAX_CATEGORIES:
        return CHECK.unknown(f"more than {MAX_CATEGORIES} classes are counted together", field="predicted")
    names, counts, shares = grouped(table, expected)
    total = over_season(seen, season, key, counts, observed_n(profile, float(counts.sum())))
    if season.due(seen) and total.part_n > 0:
        scores = top_scores(names, shares)
        sizes = seen.remember(f"{key}/sizes", total.part_n)
        means = seen.remember(f"{key}/means", float(total.part @ scores / total.part.sum()))
        if total.complete:
            spread = inflation(np.array(means), np.array(sizes), season.parts)
            alpha = level(seen, season.span_us(seen), FIELDS)
            seen.memory[f"{key}/judged"] = [total.n, spread.shown(alpha), alpha, *total.counts.tolist()]
    if not table:
        return CHECK.unknown(_absent(profile), field="predicted")
    if not counts.sum():
        return CHECK.unknown("it is missing in every event", field="predicted")
    judged = seen.memory.get(f"{key}/judged")
    if judged is None:
        return CHECK.unknown(filling(season), field="predicted")
    return _verdict(seen, "predicted", names, np.array(judged[3:]), shares, *judged[:3])


def _absent(profile: Profile) -> str:
    return "the events carry no predicted label" if profile.n else "no events in this window"


def _true(seen: Observed, profile: Profile) -> Verdict:
    """True labels are few: they are collected until there are enough, judged, and collected anew."""
    names, counts, shares = grouped(profile.categories["truth"], seen.reference.classes)
    n = observed_n(profile, float(counts.sum()), of="audit.n", weight="audit.weight")
    key = f"{CHECK.id}/truth"
    kept = seen.memory.get(key, [])
    if len(kept) == len(counts) + 1:
        n, counts = n + kept[0], counts + np.array(kept[1:])
    if round(n) < seen.reference.minimum_n:
        seen.memory[key] = [n, *counts.tolist()]
        return CHECK.unknown(
            f"{n:.4g} labels in effect so far, {seen.reference.minimum_n} are needed", field="truth",
            left=Side(CLASSES, n=seen.reference.n),
        )  # fmt: skip
    seen.memory.pop(key, None)
    alpha = level(seen, seen.reference.window_us, FIELDS)
    return _verdict(seen, "truth", names, counts, shares, n, 1.0, alpha)


def _verdict(
    seen: Observed, field: str, names: list[str], counts: Array, shares: Array, n: float, factor: float, alpha: float
) -> Verdict:
    reference, m, worth = seen.reference, max(seen.reference.n, 1), max(n / factor, 1e-3)
    distance = jensen_shannon(counts, shares, n=worth, m=m, alpha=alpha)
    now = {k: round(float(c / counts.sum()), 4) for k, c in zip(names, counts, strict=True) if c or k != OTHER}
    declared = {k: round(float(s), 4) for k, s in zip(names, shares, strict=True) if s}
    left = Side(CLASSES, declared, n=reference.n)
    right = Side(f"telemetry.{'label' if field == 'predicted' else 'truth'}.shares", now, n=float(f"{n:.6g}"))
    reason = too_little(distance, reference.n)
    if round(n) < reference.minimum_n:
        reason = f"{n:.4g} labels in effect, {reference.minimum_n} are needed"
    if reason:
        return CHECK.unknown(reason, field=field, left=left, right=right)
    allowed = tolerance(seen.value(PRIOR_TOLERANCE))
    move, low, high = largest_move(counts / counts.sum(), shares, worth, m)
    effect = Effect(statistic="largest-move-of-a-share", estimate=move, low=low, high=high, threshold=allowed, n=worth)
    sides = {"field": field, "left": left, "right": right, "effect": effect}
    if not (distance.significant and low > allowed):
        return CHECK.ok(**sides)
    message = (
        f"the shares of {'predicted' if field == 'predicted' else 'true'} classes moved by up to {100 * move:.3g} "
        f"points (90% interval {100 * low:.3g} to {100 * high:.3g}, {100 * allowed:.3g} tolerated) in {n:.5g} labels, "
        f"{most_moved(now, declared)}{_corrected(reference, now) if field == 'predicted' else ''}"
    )
    return CHECK.mismatch(message, evidence=seen.window.evidence(), **sides)


def largest_move(p: Array, q: Array, n: float, m: float) -> tuple[float, float, float]:
    """The largest difference of two vectors of shares, with a 90% interval that holds for all of them at once.

    Newcombe 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I, method 10: from Wilson's
    intervals of both shares, here at the level divided by the number of shares.
    """
    z = -float(ndtri(0.05 / max(len(p), 1)))
    at = int(np.argmax(np.abs(p - q)))
    larger, smaller = ((p[at], n), (q[at], m)) if p[at] >= q[at] else ((q[at], m), (p[at], n))
    (a, low_a, high_a), (b, low_b, high_b) = (_wilson(float(s), size, z) for s, size in (larger, smaller))
    move = a - b
    low, high = move - float(np.hypot(a - low_a, high_b - b)), move + float(np.hypot(high_a - a, b - low_b))
    return move, max(low, 0.0), min(high, 1.0)


def _wilson(share: float, n: float, z: float) -> tuple[float, float, float]:
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return share, centre - reach, centre + reach


def predicted_shares(reference: Reference) -> dict[str, float]:
    """Shares of *predicted* classes: the declared classes seen through the confusion matrix."""
    shares: dict[str, float] = dict.fromkeys(reference.classes, 0.0)
    for truth, share in reference.classes.items():
        row = reference.confusion.get(truth) or {truth: 1.0}
        total = sum(row.values()) or 1.0
        for label, count in row.items():
            shares[label] = shares.get(label, 0.0) + share * count / total
    return shares


def true_shares(reference: Reference, predicted: Mapping[str, float]) -> dict[str, float] | None:
    """Shares of true classes that lead to the `predicted` ones through the confusion matrix, if that still holds.

    Black-box shift estimation (Lipton, Wang and Smola 2018, arXiv:1802.03916) with shares >= 0. None without a
    confusion matrix, or where it confuses classes so much that nothing can be said.
    """
    truths = sorted(reference.classes)
    if not all(sum((reference.confusion.get(t) or {}).values()) > 0 for t in truths):
        return None
    labels = sorted({*truths, *predicted, *(p for t in truths for p in reference.confusion[t])})
    table = np.array([[reference.confusion[t].get(p, 0.0) for t in truths] for p in labels])
    table = table / table.sum(axis=0)
    if float(np.linalg.svd(table, compute_uv=False)[-1]) < SEPARATE:
        return None
    found, _ = nnls(table, np.array([predicted.get(p, 0.0) for p in labels]))
    total = float(found.sum())
    return {t: float(s / total) for t, s in zip(truths, found, strict=True)} if total > 0 else None


def _corrected(reference: Reference, now: Mapping[str, float]) -> str:
    found = true_shares(reference, now)
    if found is None:
        return ""
    moved = max(found, key=lambda k: abs(found[k] - reference.classes[k]))
    return (
        f"; corrected for confusion, the true share of {moved!r} is about {found[moved]:.3g}, "
        f"declared {reference.classes[moved]:.3g}"
    )


CHECK = Check(
    id="label-and-prediction-shift",
    title="Classes as in training",
    owner="data scientist",
    remedy="recalibrate the class priors; collect labels of the class that grew",
    action="recalibrate",
    aliases=("tec:16",),
    design=design,
    live=live,
)
