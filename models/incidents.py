"""A trigger for something else than a retraining, from the mismatches it named to their end."""

import msgspec

from models.causes import Cure, OpenCause


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """Open until `causes`, the mismatches it named, are resolved; `facts` are what these are about."""

    number: int = 0
    open_since_us: int | None = None
    trigger_id: str | None = None
    cooldown_until_us: int | None = None
    causes: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()


def ended(incident: Incident) -> Incident:
    """The incident without anything open; number and cool-down stay."""
    return msgspec.structs.replace(incident, open_since_us=None, trigger_id=None, causes=(), facts=())


def fact(cause: OpenCause) -> str:
    """What a cause is about: two checks that fail on one field are symptoms of one fault."""
    return cause.field or cause.check


def outgrown(incident: Incident, cure: Cure) -> bool:
    """Whether the open incident misses a critical cause about something that its trigger did not name.

    Whoever mends what the trigger named would believe to be done. Warnings wait until the incident ends.
    """
    if incident.open_since_us is None or not incident.facts:  # states of older versions do not say what they named
        return False
    return any(
        c.severity == "critical" and c.id not in incident.causes and fact(c) not in incident.facts for c in cure.causes
    )
