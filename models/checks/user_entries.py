"""The checks that users write under `system_context.bestbefore.checks`, read strictly: what is unclear is an error."""

import difflib
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from models.checks.observed import MEMORY_SIZE
from models.checks.predicate import Predicate, unit_of_side
from models.checks.telemetry import LONGEST, ROOT, asked, is_telemetry, unit_of_statistic
from models.checks.verdict import Side
from models.descriptors.paths import KINDS, Trees, join, value_at
from models.quantities import converted, number_of
from models.units import duration_us

CHECKS = "system_context.bestbefore.checks"
FEATURES = "training_data.bestbefore.features"
FEWEST = 3  # windows whose spread says something
_LAST = re.compile(r"""(\.[^.\[\]]+|\[\d+\]|\["[^"]*"\])$""")
_PATH = re.compile(r"[A-Za-z_]+(\.|\[)\S.*")


class Entry(NamedTuple):
    """One entry of the list: where it stands, and what it says or why it cannot be understood."""

    path: str
    id: str
    predicate: Predicate | None
    error: str = ""


def entries(trees: Trees) -> Iterator[Entry]:
    """Every entry of `system_context.bestbefore.checks`, in order."""
    found = value_at(trees, CHECKS)
    if found is None:
        return
    if not isinstance(found, list):
        yield Entry(CHECKS, "", None, f"{CHECKS}: expected a list of checks, found {type(found).__name__}")
        return
    names: set[str] = set()
    for i, raw in enumerate(found):
        path, name = f"{CHECKS}[{i}]", str(raw.get("id", "")) if isinstance(raw, Mapping) else ""
        try:
            predicate = _read(raw, trees)
            if predicate.id in names:
                raise ValueError("another check has this id; give it one of its own")
        except ValueError as error:
            yield Entry(path, name, None, f"{path} ({name[:60] or 'no id'}): {error}")
        else:
            yield Entry(path, name, predicate)
        names.add(name)


def predicates(trees: Trees) -> tuple[Predicate, ...]:
    """What the entries say. Raises ValueError that names the first entry that cannot be understood, and why."""
    found = []
    for entry in entries(trees):
        if entry.predicate is None:
            raise ValueError(entry.error)
        found.append(entry.predicate)
    return tuple(found)


def _read(raw: Any, trees: Trees) -> Predicate:
    try:
        predicate = msgspec.convert(raw, Predicate)
    except msgspec.ValidationError as error:
        raise ValueError(f"{str(error)[:300]}; an entry has {', '.join(Predicate.__struct_fields__)}") from None
    for name, value in (("id", predicate.id), ("left", predicate.left), ("right", predicate.right)):
        if isinstance(value, str) and len(value) > LONGEST:
            raise ValueError(f"{name}: has {len(value)} characters, at most {LONGEST} are read; shorten it")
    if not predicate.id.strip():
        raise ValueError("id is empty; it names the check in every event")
    if not _PATH.fullmatch(predicate.left):
        raise ValueError(f"left: {predicate.left!r} is no path; write one such as {ROOT}.latency.p99")
    for name, value in (("left", predicate.left), ("right", predicate.right)):
        if is_telemetry(value):
            asked(value)
        elif name == "left" or _meant_as_path(value):
            _check_kind(name, str(value))
    if predicate.window:
        _check_window(predicate, trees)
    _check_units(predicate, trees)
    return predicate


def is_path(value: Any) -> bool:
    """Whether `value` names a fact rather than being one.

    >>> is_path("production_environment.bestbefore.latency"), is_path("50 ms"), is_path("v1.2")
    (True, False, False)
    """
    return is_telemetry(value) or (isinstance(value, str) and _first(value) in KINDS and bool(_PATH.fullmatch(value)))


def unit_beside(trees: Trees, path: str) -> str:
    """The unit that stands beside a number: that of `rate.mean` is `rate.unit`; empty where there is none."""
    fact = value_at(trees, path)
    parent, found = _LAST.sub("", path), number_of(fact)
    if found is None or found[1] or isinstance(fact, dict) or parent == path:
        return ""
    section = value_at(trees, parent)
    return str(section.get("unit") or "") if isinstance(section, Mapping) else ""


def _meant_as_path(value: Any) -> bool:
    if not isinstance(value, str) or not _PATH.fullmatch(value):
        return False
    return bool(difflib.get_close_matches(_first(value), (*KINDS, ROOT), cutoff=0.8))


def _first(path: str) -> str:
    return re.split(r"[.\[]", path.strip(), maxsplit=1)[0]


def _check_kind(name: str, path: str) -> None:
    first = _first(path)
    if first in KINDS:
        return
    near = difflib.get_close_matches(first, (*KINDS, ROOT), n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(f"{name}: {path} begins with no descriptor; there are {', '.join(KINDS)} and {ROOT}{hint}")


def _check_window(predicate: Predicate, trees: Trees) -> None:
    duration = duration_us(predicate.window)
    sides = [side for side in (predicate.left, predicate.right) if is_telemetry(side)]
    if not sides:
        raise ValueError("window: neither side is telemetry, so there is nothing to average")
    if any(asked(side).statistic.pattern == "quality.accuracy" for side in sides):
        raise ValueError("window: quality.accuracy is a running estimate already; leave it out")
    own = duration_us(value_at(trees, "system_context.bestbefore.window") or "1 hour")
    count = windows_of(duration, own)
    if count == 1 or FEWEST <= count <= MEMORY_SIZE:
        return
    raise ValueError(
        f"window: {predicate.window} is {count} windows; give {FEWEST} to {MEMORY_SIZE} of them, or leave it out"
    )


def windows_of(duration: int, own: int) -> int:
    """How many windows of `own` length make up `duration`, both in microseconds."""
    return max(math.ceil(duration / own), 1)


def _check_units(predicate: Predicate, trees: Trees) -> None:
    """A statistic in ms and a limit in kg never agree; better said now than in every window."""
    if predicate.operator in ("in", "contains", "subset"):
        if is_telemetry(predicate.left) or is_telemetry(predicate.right):
            raise ValueError(
                f"operator: telemetry is a number, which {predicate.operator} says nothing about; use within"
            )
        return

    def unit(value: Any) -> str | None:
        if is_telemetry(value):
            return unit_of_statistic(value, lambda name: str(value_at(trees, f"{join(FEATURES, name)}.unit") or ""))
        if is_path(value) and unit_beside(trees, value):
            return unit_beside(trees, value)
        known = value_at(trees, value) if is_path(value) else value
        first = known[0] if isinstance(known, list) and known else known
        return unit_of_side(Side("", first))

    mine, theirs = unit(predicate.left), unit(predicate.right)
    if mine and theirs and converted(1.0, mine, theirs) is None:
        raise ValueError(
            f"{predicate.left} is in {mine!r}, {predicate.right} in {theirs!r}: they measure different things"
        )
    right = predicate.right if not is_path(predicate.right) else None
    if (
        is_telemetry(predicate.left)
        and predicate.operator != "within"
        and right is not None
        and number_of(right) is None
    ):
        raise ValueError(f"right: {predicate.right!r} is no number, but {predicate.left} is measured as one")
