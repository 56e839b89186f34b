"""What the descriptors say of one feature: moments, quantiles, categories, special values, lengths.

Weighted rows (events sampled with unequal probabilities) count 1 / probability each; `n` is always the rows seen.
"""

import math
import re
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from models.columns import Floats
from models.describing_columns import Numbers, Texts
from models.profile import MAX_CATEGORIES

PROBABILITIES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
# Numbers and texts that stand for "no value" in many systems; the window's profile looks for the same ones.
SPECIAL_NUMBERS = (-9999, -999, -99, -9, -1, 0, 99, 999, 9999, 99999)
SPECIAL_TEXTS = ("", "NA", "N/A", "null", "None", "nan", "unknown", "?")
DIGITS = 6
MANY = 20  # categories of a text feature; more are pointed out to people
LONGEST = 40  # characters of a category; longer values are taken for free text
PERSONAL = re.compile(r"\S+@\S+\.\S+|\+\d[\d ()./-]{5,}\d|\(?(?:\d[ ()./-]{0,2}){9,}")  # e-mail and phone


def rounded(value: float, digits: int = DIGITS) -> float:
    """`value` with that many significant digits.

    >>> rounded(1234.56789), rounded(1 / 3)
    (1234.57, 0.333333)
    """
    return float(f"{float(value):.{digits}g}")


def quantile(values: Floats, probabilities: Any, weight: Floats | None = None) -> Floats:
    """Quantiles: linear between data points as numpy has it, those of the weighted distribution where rows weigh."""
    if weight is None:
        return np.asarray(np.quantile(values, probabilities))
    return np.asarray(np.quantile(values, probabilities, weights=weight, method="inverted_cdf"))


def quantiles(values: Floats, weight: Floats | None = None) -> dict[str, float]:
    """Quantiles at PROBABILITIES, keyed by the probability as text.

    A value that repeats is a step of the distribution function: its height is given as a further key and the value is
    not rounded, so that the shares between quantiles are exact for whole numbers and other lattices, too.

    >>> quantiles(np.array([0.0, 0, 1, 1, 1]))["0.4"]
    0.0
    """
    plain = np.quantile(values, PROBABILITIES, weights=weight, method="inverted_cdf")
    distinct, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    mass = np.bincount(which, weights=weight, minlength=len(distinct)).astype(np.float64)
    below = np.cumsum(mass) / mass.sum()
    place = np.searchsorted(distinct, plain)
    steps = {int(i) for i in place if counts[i] > 1}
    digits = digits_of(values)
    if not steps:
        with np.errstate(over="ignore", invalid="ignore"):  # between numbers as far apart as numbers can be
            found = quantile(values, PROBABILITIES, weight)
        found = found if np.isfinite(found).all() else plain
        return {str(p): rounded(q, digits) for p, q in zip(PROBABILITIES, found, strict=True)}
    points = dict(zip(PROBABILITIES, place.tolist(), strict=True))
    points |= {rounded(below[i]): i for i in steps}
    table = {
        str(p): float(distinct[i]) if i in steps else rounded(distinct[i], digits) for p, i in sorted(points.items())
    }
    if list(table.values()) != sorted(table.values()):  # a rounded neighbour fell on the other side of a step
        table = {str(p): float(distinct[i]) for p, i in sorted(points.items())}
    return table


def digits_of(values: Floats) -> int:
    """Significant digits that keep the values apart: more than DIGITS where the spread is small beside the size."""
    low, high = float(values.min()), float(values.max())
    if high <= low or not math.isfinite(high - low):
        return DIGITS
    return min(15, DIGITS + max(0, math.floor(math.log10(max(abs(low), abs(high)) / (high - low)))))


def moments(values: Floats, weight: Floats | None = None) -> tuple[float, float | None]:
    """Mean and sample standard deviation (None for fewer than two values)."""
    if weight is None:
        return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else None
    total = weight.sum()
    mean = float(values @ weight / total)
    left = total - (weight**2).sum() / total
    return mean, float(math.sqrt(weight @ (values - mean) ** 2 / left)) if left > 0 else None


def numeric(column: Numbers, special: Collection[float] = ()) -> dict[str, Any]:
    """The description of a numeric feature; `special` are declared values that stand for something else.

    `n` is the number of finite values, `missing` the share of nulls among all rows, and the shares under `special` are
    of the finite values: of declared ones always, of SPECIAL_NUMBERS where the very value repeats.
    """
    present = np.isfinite(column.values)
    values, weight = column.values[present], None if column.weight is None else column.weight[present]
    found: dict[str, Any] = {"n": len(values), "missing": share(column.null, column.weight)}
    if not len(values):
        return found
    with np.errstate(over="ignore", invalid="ignore"):
        figures = zip(("mean", "sd"), moments(values, weight), strict=True)
    digits = digits_of(values)
    low, high = float(values.min()), float(values.max())
    found = {
        "type": "integer" if high > low and bool((values == np.rint(values)).all()) else "number",
        "n": len(values),
        # Numbers near the largest there are have no sum.
        **{name: rounded(v, digits) for name, v in figures if v is not None and math.isfinite(v)},
        "min": rounded(low, digits),
        "max": rounded(high, digits),
        "missing": found["missing"],
        "quantiles": quantiles(values, weight),
    }
    masses = {v: values == v for v in sorted({*special, *SPECIAL_NUMBERS})}
    shares = {f"{v:.15g}": share(hit, weight) for v, hit in masses.items() if v in special or hit.sum() > 1}
    return found | ({"special": shares} if shares else {})


def textual(feature: Texts, special: Collection[str] = ()) -> dict[str, Any]:
    """The description of a feature of texts: a category with the share of each value, or free text.

    Free text: more than half of the rows hold a value that no other row has, which estimates the share of rows to come
    with values never seen (Good 1953, doi:10.1093/biomet/40.3-4.237), so shares would not describe it. A feature with
    values that look personal counts as free text, too: no value of it is written.
    """
    codes, names = feature.column
    present = codes >= 0
    weight = None if feature.weight is None else feature.weight[present]
    n = int(present.sum())
    found: dict[str, Any] = {"n": n, "missing": share(~present, feature.weight)}
    if not n:
        return found
    counts = np.bincount(codes[present], minlength=len(names))
    mass = np.bincount(codes[present], weights=weight, minlength=len(names))
    seen = [i for i in np.argsort(-mass, kind="stable").tolist() if counts[i]]
    lengths = [len(names[i]) for i in seen]
    free = int((counts == 1).sum()) > n / 2 or any(looks_personal(names[i]) for i in seen)
    found = {"type": "text" if free else "category", **found}
    if not free:
        found["categories"] = {names[i]: rounded(mass[i] / mass.sum()) for i in seen[:MAX_CATEGORIES]}
        if len(seen) > MAX_CATEGORIES:
            found["other"] = rounded(sum(mass[i] for i in seen[MAX_CATEGORIES:]) / mass.sum())
    found["lengths"] = {"min": min(lengths), "max": max(lengths)}
    shares = _special_texts(names, mass, counts, special)
    return found | ({"special": shares} if shares else {})


def looks_personal(value: str) -> bool:
    """Whether a text looks like an e-mail address or a phone number, or is longer than a category's name.

    >>> looks_personal("a.b@c.org"), looks_personal("+49 30 1234567"), looks_personal("2024-05-01")
    (True, True, False)
    """
    return len(value) > LONGEST or PERSONAL.fullmatch(value.strip()) is not None


def privacy_note(feature: Texts, found: dict[str, Any]) -> str:
    """What people should look at before they publish the description of a text feature; empty where nothing."""
    codes, names = feature.column
    if any(looks_personal(names[i]) for i in np.unique(codes[codes >= 0]).tolist()):
        return "values look like e-mail addresses, phone numbers or free text; no categories are written"
    if len(found.get("categories") or ()) > MANY:
        return f"{len(found['categories'])} categories are written by name; check that they are no personal data"
    return ""


def _special_texts(names: Iterable[str], mass: Any, counts: Any, special: Collection[str]) -> dict[str, float]:
    of = {name: (float(m), int(c)) for name, m, c in zip(names, mass, counts, strict=True)}
    wanted = dict.fromkeys((*special, *SPECIAL_TEXTS))
    found = {v: of.get(v, (0.0, 0)) for v in wanted}
    return {v: rounded(m / mass.sum()) for v, (m, c) in found.items() if v in special or c > 1}


def share(hit: Any, weight: Floats | None = None) -> float:
    """Share of rows, weighted where they weigh; six digits."""
    return rounded(float(np.average(hit, weights=weight))) if len(hit) else 0.0


def statistics(name: str, found: dict[str, Any]) -> list[dict[str, str]]:
    """The rows of TEC's `statistics` for one described feature: texts, as its schema asks."""
    points = found.get("quantiles") or {}
    figures = {"Mean": found.get("mean"), "Standard Deviation": found.get("sd"), "Median": points.get("0.5")}
    figures |= {"First Quartile": points.get("0.25"), "Third Quartile": points.get("0.75")}
    if points:
        figures["IQR"] = rounded(points["0.75"] - points["0.25"])
    return [{"property": k, "field": name, "value": f"{v:.15g}"} for k, v in figures.items() if v is not None]
