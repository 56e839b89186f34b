"""Statistics that Croissant writes beside fields and record sets, as the numbers of our own keys.

Source: Croissant 1.1, `annotation`; DDI Alliance, SummaryStatisticType 2.1.2, where terms go by a short hash.
"""

import math
import re

from models.importers.document import Node
from models.importers.part import Tree

_DDI = {
    "7975ed0": "mean", "690ab50": "sd", "66851a3": "median", "a1d0ec6": "min", "8321e79": "max",
    "c646dd8": "valid", "6459c62": "invalid", "650be61": "mode",
}  # fmt: skip
_TERMS = {
    "arithmeticmean": "mean", "mean": "mean", "standarddeviation": "sd", "std": "sd", "stdev": "sd", "median": "median",
    "minimum": "min", "min": "min", "minvalue": "min", "maximum": "max", "max": "max", "maxvalue": "max",
    "validcases": "valid", "invalidcases": "invalid", "mode": "mode", "q4049983": "count", "count": "count",
}  # fmt: skip


def feature(field: Node, kind: str, count: float | None, notes: list[str]) -> Tree:
    """`training_data.bestbefore.features` of one field: what its annotations say, and its type where it is known."""
    said = _said(field, notes)
    found: Tree = {"type": kind} if kind else {}
    found |= {key: said[key] for key in ("mean", "sd", "min", "max") if key in said}
    if found.get("sd", 0) < 0:
        notes.append(f"{field.path}: a standard deviation below 0 is left out")
        del found["sd"]
    if "median" in said:
        found["quantiles"] = {"0.5": said["median"]}
    valid, invalid = said.get("valid"), said.get("invalid")
    n = valid + invalid if valid is not None and invalid is not None else (count if valid is None else None)
    if valid is not None and count is not None and n is None:
        n, invalid = count, count - valid
    if n is not None and 1 <= n < math.inf and found.keys() - {"type"}:
        found["n"] = int(n)
        if invalid is not None and 0 <= invalid <= n:
            found["missing"] = invalid / n
    return found


def rows_of(records: Node, notes: list[str]) -> int | None:
    """The number of records of a record set, or None."""
    count = _said(records, notes).get("count")
    return int(count) if count is not None and count >= 0 and count == int(count) else None


def _said(node: Node, notes: list[str]) -> dict[str, float]:
    """Annotated values by our name of the statistic; the first of each counts."""
    annotations = node.get("annotation", "cr:annotation")
    found: dict[str, float] = {}
    listed = [annotations] if isinstance(annotations.value, dict) else annotations.objects()
    for one in listed:
        statistic = _statistic(one)
        value = _value(one.get("value", "cr:value", "sc:value"))
        if statistic in ("", "mode"):
            continue
        if value is None:
            notes.append(f"{one.path}: the value of {statistic} is no finite number, left out")
        else:
            found.setdefault(statistic, value)
    return found


def _statistic(one: Node) -> str:
    """By the term where there is one, else by the property it equals; names such as `malicious count` do not count."""
    words: list[str] = []
    for node in (one.get("dataType", "cr:dataType"), one.get("equivalentProperty", "cr:equivalentProperty")):
        for part in node.elements() if isinstance(node.value, list) else [node]:
            if isinstance(part.value, dict):
                words += [part["termCode"].text(), part["@id"].text()]
            elif isinstance(part.value, str):
                words.append(part.value)
    counted = one.get("name", "sc:name").value in ("count", None)
    for text in words:
        last = re.split(r"[:/#]", text)[-1].lower()
        found = _DDI.get(last) or _TERMS.get(last)
        if found and (found != "count" or counted):
            return found
    name = one.get("name", "sc:name").value
    return _TERMS.get(name.lower(), "") if isinstance(name, str) and not words else ""


def _value(node: Node) -> float | None:
    """A number; texts count because exporters write numbers as texts."""
    if isinstance(node.value, bool) or not isinstance(node.value, int | float | str):
        return None
    try:
        found = float(node.value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None
