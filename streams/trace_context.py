"""W3C trace context of a record: which request it belongs to, so that an event can name example requests.

https://www.w3.org/TR/trace-context/. Only traces that were sampled are named: of others no backend knows anything.
"""

import re
from collections.abc import Iterable, Mapping

from models.traces import is_traceparent

PARENT, STATE = "traceparent", "tracestate"
SAMPLED = "13579bdf"  # last character of the flags where the trace was sampled
_LENGTHS = (len(PARENT), len("ce_" + PARENT))
_NAMES = {len(before + name): name for name in (PARENT, STATE) for before in ("", "ce_")}  # told apart by length
_STATE = re.compile(r"[\x20-\x7e]{1,512}")  # of a tracestate no more is carried, and nothing that is not printable


def may_be_traced(headers: Iterable[tuple[str, bytes | None]]) -> bool:
    """Whether a header may be a traceparent, by a look at lengths: this is asked of every single event."""
    for key, _ in headers:  # noqa: SIM110 -- a generator would cost more than the loop
        if len(key) in _LENGTHS:
            return True
    return False


def context_of(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    """`traceparent` and `tracestate` of a record: those of its CloudEvent, else those of whoever sent it."""
    found: dict[str, str | None] = {}
    for key, value in headers or ():
        if value and len(key) in _NAMES:
            name = key.lower()
            plain = _NAMES[len(key)]
            if name == plain:
                found.setdefault(plain, value.decode("utf-8", "replace"))
            elif name == "ce_" + plain:
                found[plain] = value.decode("utf-8", "replace")
    return bounded(found)


def bounded(found: Mapping[str, str | None]) -> dict[str, str]:
    """Only a sound traceparent, and a tracestate beside it that is not too long."""
    parent, state = found.get(PARENT), found.get(STATE)
    if not parent or not is_traceparent(parent):
        return {}
    return {PARENT: parent} | ({STATE: state} if state and _STATE.fullmatch(state) else {})
