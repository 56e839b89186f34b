"""Numbers with units as people write them: `50 ms`, `100/minute`, `8 GB`, `36.6 degC`. Source of units: pint."""

import functools
import math
import re
from typing import Any

import pint

_NUMBER = re.compile(r"\s*([-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(%?)(.*)", re.DOTALL)
_PER = re.compile(r"^(?:per |/)\s*")
_UNIT_START = re.compile(r"[^\W\d_]|[/°$€£%_(]|1\s*/")
# What pint is asked to parse: names, products and one-digit powers. `9**9**9` would keep it busy for ever.
_UNIT = re.compile(r"(1/)?[A-Za-z_%°µμΩ]{1,40}(\s*[/*·]\s*[A-Za-z_°µμΩ]{1,40}|(\^|\*\*)-?\d){0,6}")
# Units of our own trade that pint does not know: what is counted has no dimension.
_COUNTED = ("event", "request", "record", "prediction", "item", "label", "pixel")


@functools.cache
def registry() -> Any:
    """pint's unit registry, made on first use because that takes a while."""
    units: Any = pint.UnitRegistry(autoconvert_offset_to_baseunit=True, on_redefinition="ignore")
    for name in _COUNTED:
        units.define(f"{name} = []" if name == "pixel" else f"{name} = 1")
    return units


@functools.lru_cache(maxsize=1024)
def unit_of(text: str) -> Any:
    """The unit `text` names, or None for one that nobody knows (`EUR`); those equal only themselves."""
    cleaned = _PER.sub("1/", text.strip().replace(" per ", "/"))
    if not _UNIT.fullmatch(cleaned):
        return None
    for spelling in (cleaned, cleaned.casefold()):  # TEC writes `Milliseconds`; but mW is not MW, so as written first
        try:
            quantity = registry().Quantity(spelling if spelling.startswith("1/") else f"1 {spelling}")
            return quantity.units if quantity.magnitude == 1 else None
        except Exception:  # noqa: BLE001, S112 -- pint raises some twenty kinds, for texts that are only no unit
            continue
    return None


def converted(value: float, unit: str, to: str) -> float | None:
    """`value` in the unit `to`; None where the two measure different things or one is unknown.

    >>> converted(50, "ms", "s")
    0.05
    >>> converted(50, "ms", "m") is None
    True
    """
    if unit == to or not unit or not to:
        return value
    source, target = unit_of(unit), unit_of(to)
    if source is None or target is None:
        return None
    try:
        return float(registry().Quantity(value, source).to(target).magnitude)
    except pint.errors.PintError:
        return None


def number_of(value: Any) -> tuple[float, str] | None:
    """A number and its unit from 5, "5", "33.3 %", "50 ms", {value: 50, unit: ms}; None where there is no number.

    >>> number_of("50 ms")
    (50.0, 'ms')
    >>> number_of("33.3%")
    (0.333, '')
    >>> number_of("2026-09-01") is number_of("0..100") is None
    True
    """
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return _finite(value, "")
    if isinstance(value, dict):
        inner = number_of(value.get("value"))
        return None if inner is None else (inner[0], str(value.get("unit") or inner[1]))
    found = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return None
    number, percent, unit = float(found.group(1).replace("_", "")), found.group(2), found.group(3).strip()
    if unit and not _UNIT_START.match(unit):
        return None  # a date, a version, a range
    return _finite(round(number / 100, 12) if percent else number, unit)


def _finite(value: float, unit: str) -> tuple[float, str] | None:
    """What is infinite compares with nothing: `1e400` would be within every tolerance, which is a share of it."""
    try:
        number = float(value)
    except OverflowError:  # a whole number beyond every float
        return None
    return (number, unit) if math.isfinite(number) else None
