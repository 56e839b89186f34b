"""Conversions that are made, or forgotten, by mistake: x' = factor x + offset, each with a name."""

import functools
from typing import NamedTuple

from models.quantities import converted, unit_of

KINDS: tuple[tuple[str, ...], ...] = (
    ("degC", "degF", "kelvin"),
    ("mm", "cm", "m", "km", "inch", "ft", "yard", "mile"),
    ("g", "kg", "lb", "oz"),
    ("ms", "s", "min", "hour", "day"),
    ("m/s", "km/hour", "mph", "knot"),
    ("Pa", "hPa", "kPa", "bar", "psi", "mmHg"),
    ("J", "kJ", "kWh", "kcal"),
    ("ml", "l", "gallon"),
    ("degree", "radian"),
)
# Where no unit is declared only these are tried: of all conversions, one would explain nearly any change of scale.
COMMON: tuple[tuple[str, str], ...] = (
    ("degC", "degF"), ("degF", "degC"), ("degC", "kelvin"), ("m", "ft"), ("ft", "m"), ("inch", "cm"), ("cm", "inch"),
    ("kg", "lb"), ("lb", "kg"), ("km", "mile"), ("mile", "km"), ("min", "s"), ("s", "min"), ("hour", "s"),
)  # fmt: skip
# What happens to numbers of any unit: cents, percent, thousands; pixels of eight bits.
FACTORS: tuple[tuple[str, float], ...] = (
    ("in hundredths (or percent)", 100.0), ("in hundreds (or a share instead of percent)", 0.01),
    ("in thousandths", 1000.0), ("in thousands", 0.001), ("in millionths", 1e6), ("in millions", 1e-6),
)  # fmt: skip
PIXELS: tuple[tuple[str, float], ...] = (("multiplied by 255", 255.0), ("divided by 255", 1 / 255))
PLAIN = ("", "share", "pixel", "level", "1")  # units in which a pixel value may be given
HOURS = tuple(k / 2 for k in range(-28, 29) if k)  # time zones, half hours included


class Conversion(NamedTuple):
    """x' = factor x + offset. `name` says how the values arrive."""

    name: str
    factor: float
    offset: float = 0.0


@functools.lru_cache(maxsize=512)
def conversions(unit: str) -> tuple[Conversion, ...]:
    """What values declared in `unit` may have become; the common conversions where no unit is declared.

    >>> [c for c in conversions("degC") if "degF" in c.name][0].offset
    32.0
    """
    found = [Conversion(name, factor) for name, factor in FACTORS]
    if unit in PLAIN:
        found += [Conversion(name, factor) for name, factor in PIXELS]
    if unit in ("hour", "h", "hours"):
        found += [Conversion(f"as the hour of another time zone ({k:+g} h)", 1.0, k) for k in HOURS]
    pairs = [(unit, target) for kind in KINDS if _same_kind(unit, kind[0]) for target in kind] if unit else COMMON
    # The names of units first: of two that explain the same the earlier one is told.
    return (*(c for source, target in pairs if (c := _between(source, target)) is not None), *found)


def _same_kind(unit: str, other: str) -> bool:
    return unit_of(unit) is not None and converted(1.0, unit, other) is not None


def _between(source: str, target: str) -> Conversion | None:
    """From two points of the straight line that every conversion of units is."""
    zero, one = converted(0.0, source, target), converted(1.0, source, target)
    if zero is None or one is None:
        return None
    factor, offset = float(f"{one - zero:.9g}"), float(f"{zero:.9g}")
    same = abs(factor - 1) < 1e-9 and abs(offset) < 1e-9
    return None if same else Conversion(f"in {target} instead of {source}", factor, offset)
