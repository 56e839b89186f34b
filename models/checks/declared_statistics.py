"""Shared by the checks of drift at design time: training data and production data as declared, fact by fact.

TEC compares both as texts (rules 15 and 16). Here numbers are numbers, a statistic is that of its own field, fields
and labels keep their mapping, and what differs by less than a tolerance or than sampling allows is the same.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from models.checks.check import Check
from models.checks.predicate import judge
from models.checks.verdict import Side, Verdict
from models.checks.workplace import Workplace
from models.descriptors.paths import join
from models.distance import Z90
from models.quantities import number_of

TRAINED, PRODUCED = "training_data.statistics", "production_data.statistics"
RELATIVE = 0.05
IN_SD = 0.1
# Standard errors in units of sd / sqrt(n), for a normal law.
_ERROR = {"mean": 1.0, "median": 1.2533, "standard deviation": 0.7071, "trimean": 1.09}


def declared_statistics(check: Check, at: Workplace) -> Iterator[Verdict]:
    """One verdict per statistic that both data sets declare, or that only one does. TEC's rule 15."""
    mapped = _mapping(at)
    trained = {key: found for found in at.items(TRAINED) if (key := _key(found[1], mapped))}
    produced = {key: found for found in at.items(PRODUCED) if (key := _key(found[1], {}))}
    if not trained and not produced:
        return
    for absent, known in ((PRODUCED, produced), (TRAINED, trained)):
        if not known:
            yield check.unknown(f"{absent} is not declared", aliases=check.aliases)
            return
    for key in sorted(trained.keys() | produced.keys()):
        field = f"{key[0]}.{key[1]}"
        if key not in produced or key not in trained:
            absent, side = (PRODUCED, trained[key]) if key not in produced else (TRAINED, produced[key])
            yield check.unknown(
                f"{absent} does not say the {key[1]} of {key[0]}", field=field, aliases=check.aliases,
                **{"left" if absent == PRODUCED else "right": at.side(f"{side[0]}.value")},
            )  # fmt: skip
            continue
        yield _compared(check, at, key, field, trained[key], produced[key])


def _compared(
    check: Check, at: Workplace, key: tuple[str, str], field: str, trained: tuple[str, Mapping[str, Any]],
    produced: tuple[str, Mapping[str, Any]],
) -> Verdict:  # fmt: skip
    left, right = at.side(f"{trained[0]}.value"), at.side(f"{produced[0]}.value")
    tolerance, relative = _tolerance(at, key[1], str(trained[1].get("field", "")), key[0])
    found = judge(left, "==", right, tolerance=tolerance, relative_tolerance=relative)
    sides: dict[str, Any] = {"field": field, "left": left, "right": right, "aliases": check.aliases}
    if found.outcome == "ok":
        return check.ok(**sides)
    if found.outcome == "unknown":
        return check.unknown(found.reason, **sides)
    allowed = f", {tolerance:.3g} apart is allowed" if tolerance else ""
    message = (
        f"the {key[1]} of {key[0]} is {left.value} in the training data ({left.path}) and {right.value} in the "
        f"production data ({right.path}){allowed}{': ' + found.reason if found.reason else ''}"
    )
    return check.mismatch(message, **sides)


def _tolerance(at: Workplace, name: str, trained: str, produced: str) -> tuple[float, float]:
    """Absolute and relative tolerance of a statistic: in sd where it is known, and what n leaves open where it is."""
    known = at.value(join("training_data.bestbefore.features", trained)) or {}
    other = at.value(join("production_data.bestbefore.features", produced)) or {}
    sd, n, m = (number_of(value) for value in (known.get("sd"), known.get("n"), other.get("n")))
    error = _ERROR.get(name)
    if sd is None or error is None:
        return 0.0, RELATIVE
    sampling = sum(1 / size[0] for size in (n, m) if size and size[0] > 0)
    return sd[0] * math.hypot(IN_SD, Z90 * error * math.sqrt(sampling)), 0.0


def _mapping(at: Workplace) -> dict[str, str]:
    """What a field of the training data is called in production."""
    return {
        str(item.get("field_name", "")): str(item.get("mapping_production_data") or item.get("field_name", ""))
        for _, item in at.items("training_data.schema")
    }


def _key(item: Mapping[str, Any], mapped: Mapping[str, str]) -> tuple[str, str] | None:
    """Field and property in one spelling; None where either is not said."""
    field, name = (str(item.get(part) or "").strip() for part in ("field", "property"))
    return (mapped.get(field, field), name.casefold()) if field and name else None


DISTRIBUTED, SERVED = "training_data.distribution", "production_data.distribution"


def declared_distribution(check: Check, at: Workplace, points: float) -> Iterator[Verdict]:
    """One verdict per label of the two declared distributions; `points` (a share) may lie between. TEC's rule 16."""
    trained = {str(i.get("mapping_production_data") or i.get("label", "")): p for p, i in at.items(DISTRIBUTED)}
    produced = {str(i.get("label", "")): p for p, i in at.items(SERVED)}
    if not trained and not produced:
        return
    for absent, known in ((SERVED, produced), (DISTRIBUTED, trained)):
        if not known:
            yield check.unknown(f"{absent} is not declared", aliases=check.aliases)
            return
    units = _percent(at, trained), _percent(at, produced)
    for label in sorted(trained.keys() | produced.keys()):
        if label not in trained or label not in produced:
            absent = DISTRIBUTED if label not in trained else SERVED
            path = (trained.get(label) or produced.get(label) or "") + ".percentage"
            yield check.unknown(
                f"{absent} does not say the share of {label!r}", field=label, aliases=check.aliases,
                **{"left" if absent == SERVED else "right": at.side(path)},
            )  # fmt: skip
            continue
        left, right = (
            at.side(f"{table[label]}.percentage", unit=unit)
            for table, unit in zip((trained, produced), units, strict=True)
        )
        shares = [_share(side) for side in (left, right)]
        found = judge(Side(left.path, shares[0]), "==", Side(right.path, shares[1]), tolerance=points)
        sides: dict[str, Any] = {"field": label, "left": left, "right": right, "aliases": check.aliases}
        if found.outcome == "mismatch":
            yield check.mismatch(
                f"{label!r} is {100 * (shares[0] or 0):.4g}% of the training data ({left.path}) and "
                f"{100 * (shares[1] or 0):.4g}% of the production data ({right.path}), {100 * points:.3g} points apart "
                "is allowed",
                **sides,
            )
        elif found.outcome == "ok":
            yield check.ok(**sides)
        else:
            yield check.unknown(found.reason, **sides)


def _percent(at: Workplace, table: Mapping[str, str]) -> str:
    """`%`, or nothing where the shares add up to about 1 and are therefore no percentages."""
    numbers = [number_of(at.value(f"{path}.percentage")) for path in table.values()]
    return "" if sum(number[0] for number in numbers if number) < 1.5 else "%"


def _share(side: Side) -> float | None:
    number = number_of(side.value)
    if number is None:
        return None
    # `33.3 %` as a text is a share already.
    return (
        number[0] / 100 if side.unit == "%" and not (isinstance(side.value, str) and "%" in side.value) else number[0]
    )
