"""Durations as people write them (`3 days`, `90 s`) in microseconds, and back."""

import re

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
LONGEST_US = 36_525 * DAY_US  # a hundred years; later times do not fit calendars
_UNITS = {
    "us": 1, "ms": 1_000, "s": SECOND_US, "sec": SECOND_US, "second": SECOND_US,
    "m": 60 * SECOND_US, "min": 60 * SECOND_US, "minute": 60 * SECOND_US,
    "h": 3_600 * SECOND_US, "hour": 3_600 * SECOND_US, "d": DAY_US, "day": DAY_US, "week": 7 * DAY_US,
}  # fmt: skip
# Each digit can be read in one way only: else a long text of digits would be tried in as many ways as it has digits.
_DURATION = re.compile(r"\s*((?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+))\s*([a-zA-Z]+)\s*")


def duration_us(text: object) -> int:
    """Microseconds of a duration such as `1 hour`, `2.5 days`, `300 s`.

    Raises ValueError that shows the text and the units it may have.
    """
    found = _DURATION.fullmatch(text) if isinstance(text, str) else None
    unit = found.group(2).lower() if found else ""
    scale = _UNITS.get(unit) or _UNITS.get(unit.removesuffix("s"))
    if found is None or scale is None:
        raise ValueError(
            f"{_shown(text)} is not a duration; write a number and a unit, as in '90 s', '5 minutes', '3 days'"
        )
    us = float(found.group(1)) * scale
    if us > LONGEST_US:
        raise ValueError(f"{str(text)[:40]!r} is longer than 100 years; write a shorter duration")
    return round(us)


def _shown(value: object) -> str:
    """What stands there, cut where it is longer than anybody reads."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"


def duration_text(us: float) -> str:
    """The duration in the largest unit that keeps it readable: `9.5 days`, `3.0 hours`, `40 s`."""
    for name, scale in (("days", DAY_US), ("hours", 3_600 * SECOND_US), ("minutes", 60 * SECOND_US)):
        if abs(us) >= scale:
            return f"{us / scale:.1f} {name}"
    return f"{us / SECOND_US:.0f} s"
