"""Part of reference-closure: the labels that the training data names in several places."""

from collections.abc import Iterator

from models.checks.check import Check
from models.checks.predicate import plain
from models.checks.verdict import Verdict
from models.checks.workplace import Workplace

DISTRIBUTION = "training_data.distribution"
CLASSES, CONFUSION = "training_data.bestbefore.classes", "training_data.bestbefore.confusion"


def labels(check: Check, at: Workplace) -> Iterator[Verdict]:
    """One verdict per place that names labels, beside those that most places name."""
    places = {
        DISTRIBUTION: {plain(item.get("label")) for _, item in at.items(DISTRIBUTION) if item.get("label") is not None},
        CLASSES: {plain(key) for _, key, _ in at.entries(CLASSES)},
        CONFUSION: {plain(key) for _, key, _ in at.entries(CONFUSION)},
    }
    places = {path: names for path, names in places.items() if names}
    if not places:
        return
    # The first of the most frequent sets; with two that differ the distribution of the data counts.
    sets = list(places.values())
    usual = max(sets, key=sets.count)
    source = next(path for path, names in places.items() if names == usual)
    for path, names in places.items():
        if path != source:
            yield _same(check, at, path, names, source, usual)
    predicted = {plain(key) for _, _, row in at.entries(CONFUSION) if isinstance(row, dict) for key in row}
    rows = places.get(CONFUSION, set())
    if predicted - usual and not predicted - usual <= rows:
        yield _same(check, at, f"{CONFUSION} (predicted)", predicted - rows | (predicted & usual), source, usual)


def _same(check: Check, at: Workplace, path: str, names: set[str], source: str, usual: set[str]) -> Verdict:
    sides = {"left": at.side(source, sorted(usual)), "right": at.side(path, sorted(names))}
    field = f"labels/{path}"
    if names == usual or (path.endswith(")") and names <= usual):
        return check.ok(field=field, **sides)
    more, fewer = ", ".join(sorted(names - usual)[:5]), ", ".join(sorted(usual - names)[:5])
    told = "; ".join(part for part in (f"it has {more}" if more else "", f"it lacks {fewer}" if fewer else "") if part)
    return check.mismatch(f"{path} does not name the labels of {source}: {told}", field=field, **sides)
