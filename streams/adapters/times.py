"""Moments as other servers write them, in microseconds since the epoch."""

import re
from datetime import UTC, datetime
from typing import Any

from streams.errors import Unadaptable
from streams.records import time_us

# The unit of a number is known by its size, for times from 1973 to 2286.
_UNITS = ((1e8, 1e10, 1_000_000), (1e11, 1e13, 1_000), (1e14, 1e16, 1), (1e17, 1e19, 0.001))
_EXPECTED = "expected RFC 3339 text, as in 2026-11-20T10:00:00Z"
_SPACED = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\S+?) ?(UTC|[Zz])?$")
_NANOSECONDS = re.compile(r"(\.\d{6})\d+")


def moment(value: Any, *, naive: bool = False) -> int:
    """RFC 3339 text, or a number of seconds, milli-, micro- or nanoseconds since 1970, which its size tells apart.

    `naive`: a time without a zone is read as UTC. Raises Unadaptable.

    >>> moment("2026-11-20 10:00:00.5 UTC") == moment(1795168800500) == moment("2026-11-20T11:00:00.5+01:00")
    True
    """
    if isinstance(value, datetime) and value.tzinfo is not None:
        return time_us(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        for low, high, scale in _UNITS:
            if low <= value < high:
                return round(value * scale)
    if not isinstance(value, str):
        raise Unadaptable(f"a {type(value).__name__} is no time; {_EXPECTED}, or a number of seconds since 1970")
    if re.fullmatch(r"\d{9,19}(\.\d{1,9})?", value):
        return moment(float(value) if "." in value else int(value))
    found = _SPACED.fullmatch(value)
    text = f"{found[1]}T{found[2]}{'+00:00' if found[3] else ''}" if found else value
    try:
        parsed = datetime.fromisoformat(_NANOSECONDS.sub(r"\1", text))
    except ValueError:
        raise Unadaptable(f"a text of {len(value)} characters is no time; {_EXPECTED}") from None
    if parsed.tzinfo is None:
        if not naive:
            raise Unadaptable(f"a time has no zone; {_EXPECTED}")
        parsed = parsed.replace(tzinfo=UTC)
    return time_us(parsed)
