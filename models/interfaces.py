"""Whether what one side gives is what the other side takes: type, unit, range, set, lengths, image, shape.

`fits(producer, consumer)` asks it of two specifications. The consumer's bounds count: what it does not bound it takes.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from models.checks.predicate import Judgement, plain
from models.domains import Domain, domain_of
from models.quantities import converted, number_of
from models.shapes import Axis, unify
from models.types_lattice import OK, Type, type_fits, type_of

_IMAGE = ("resolution_x", "resolution_y", "channels", "image_format")
_MEMBERS = 1000  # of a range of integers, up to which it is compared with a set member by member


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """One end of an interface. `shape` None: not said. `converted_from` is the unit that the consumer converts."""

    path: str = ""
    type: str = ""
    domain: Domain = Domain()
    unit: str = ""
    converted_from: str = ""
    shape: tuple[Axis, ...] | None = None
    image: Mapping[str, Any] = {}


def spec_of(path: str, item: Mapping[str, Any]) -> Spec:
    """The specification of an item or field as TEC writes it. `unit` and `converted_from` may stand beside."""
    inner = item.get("item_specification")
    inner = inner if isinstance(inner, Mapping) else {}
    own = item.get("bestbefore")
    own = own if isinstance(own, Mapping) else {}
    domain = domain_of(path, item)
    unit = next((place["unit"] for place in (item, inner, own) if place.get("unit")), domain.unit)
    shape = item.get("shape")
    return Spec(
        path=path,
        type=str(item.get("item_type") or item.get("field_type") or item.get("dtype") or ""),
        domain=domain,
        unit=str(unit),
        converted_from=str(item.get("converted_from") or own.get("converted_from") or ""),
        shape=tuple(shape) if isinstance(shape, list | tuple) else None,
        image={key: inner[key] for key in _IMAGE if inner.get(key) not in (None, "")},
    )


def fits(producer: Spec, consumer: Spec) -> Judgement:
    """Every facet; what does not fit is told together, what is not said only where everything else fits."""
    found = list(_facets(producer, consumer))
    for outcome in ("mismatch", "unknown"):
        reasons = [one.reason for one in found if one.outcome == outcome]
        if reasons:
            return Judgement("mismatch" if outcome == "mismatch" else "unknown", "; ".join(reasons))
    return OK


def _facets(producer: Spec, consumer: Spec) -> Iterator[Judgement]:
    given, taken = type_of(producer.type), type_of(consumer.type)
    for spec, kind in ((producer, given), (consumer, taken)):
        if kind is None:
            yield Judgement("unknown", f"the type of {spec.path or 'one side'} is not declared")
    typed = _types(producer, given, taken) if given and taken else OK
    yield typed
    if producer.shape is not None and consumer.shape is not None:
        yield unify(producer.shape, consumer.shape)
    if typed.outcome == "mismatch":
        return  # bounds of another type say nothing
    unit, domain = _in_unit(producer, consumer)
    yield unit
    if unit.outcome != "mismatch":
        yield from domain_fits(domain, consumer.domain, producer.path, whole=bool(given and given.family == "integer"))
    yield from _image(producer, consumer)


def _types(producer: Spec, given: Type, taken: Type) -> Judgement:
    domain = producer.domain
    numbers = [number_of(value) for value in domain.allowed]
    low, high = domain.low, domain.high
    if numbers and all(numbers):
        low, high = min(n[0] for n in numbers if n), max(n[0] for n in numbers if n)
    if given.family == "text" and taken.family == "character":
        lengths = _lengths(domain)
        if lengths and lengths[1] is not None and lengths[1] <= 1:
            return OK
    return type_fits(given, taken, low, high)


def _in_unit(producer: Spec, consumer: Spec) -> tuple[Judgement, Domain]:
    """Is the unit the same, or one that the consumer converts? And the producer's domain in the consumer's unit."""
    domain = producer.domain
    if not consumer.unit:
        return OK, domain
    if not producer.unit:
        return Judgement("unknown", f"the unit of {producer.path} is not declared, {consumer.unit} is expected"), domain
    if same_unit(producer.unit, consumer.unit):
        return OK, domain
    if not (consumer.converted_from and same_unit(producer.unit, consumer.converted_from)):
        return Judgement("mismatch", f"{producer.unit} is given, {consumer.unit} is expected"), domain
    low, high = (
        None if end is None else converted(end, producer.unit, consumer.unit) for end in (domain.low, domain.high)
    )
    return OK, msgspec.structs.replace(domain, low=low, high=high)


def same_unit(one: str, other: str) -> bool:
    """Are both spellings of one unit? Zero and one must be the same, as degC and kelvin share only the step.

    >>> same_unit("m", "metre"), same_unit("m", "ft"), same_unit("degC", "kelvin")
    (True, False, False)
    """
    if one.strip().casefold() == other.strip().casefold():
        return one.strip() == other.strip() or converted(1.0, one, other) in (None, 1.0)
    for value in (0.0, 1.0):
        found = converted(value, one, other)
        if found is None or not math.isclose(found, value, abs_tol=1e-12):
            return False
    return True


def domain_fits(producer: Domain, consumer: Domain, path: str = "", *, whole: bool = False) -> Iterator[Judgement]:
    """Range, set and lengths. `whole`: the producer's range holds integers only."""
    if consumer.low is not None or consumer.high is not None:
        yield _range(producer, consumer, path)
    if consumer.allowed:
        yield _set(producer, consumer, path, whole)
    if consumer.min_length is not None or consumer.max_length is not None:
        yield _length(producer, consumer, path)


def _unsaid(path: str) -> Judgement:
    return Judgement("unknown", f"{path or 'the producer'} does not say which values it gives")


def _range(producer: Domain, consumer: Domain, path: str) -> Judgement:
    bounds = (producer.low, producer.high)
    if producer.allowed:
        numbers = [number_of(value) for value in producer.allowed]
        if not all(numbers):
            return Judgement("mismatch", f"{_said(producer)} is given, {_said(consumer)} is expected")
        bounds = min(n[0] for n in numbers if n), max(n[0] for n in numbers if n)
    elif bounds == (None, None):
        return _unsaid(path)
    low = -math.inf if bounds[0] is None else bounds[0]
    high = math.inf if bounds[1] is None else bounds[1]
    noise = 1e-9 * max(1.0, *(abs(v) for v in (low, high, consumer.low, consumer.high) if v and math.isfinite(v)), 0.0)
    below = consumer.low is not None and low < consumer.low - noise
    above = consumer.high is not None and high > consumer.high + noise
    return Judgement("mismatch", f"{_said(producer)} is given, {_said(consumer)} is expected") if below or above else OK


def _set(producer: Domain, consumer: Domain, path: str, whole: bool) -> Judgement:
    given: tuple[str, ...] | None = producer.allowed or None
    low, high = producer.low, producer.high
    if given is None and low is None and high is None:
        return _unsaid(path)
    if given is None and low is not None and high is not None and (whole or low == high) and high - low < _MEMBERS:
        given = (
            tuple(f"{value:.12g}" for value in range(math.ceil(low), math.floor(high) + 1)) if whole else (str(low),)
        )
    known = {plain(value) for value in consumer.allowed}
    strange = None if given is None else [value for value in given if plain(value) not in known]
    if strange == []:
        return OK
    told = _said(producer) if strange is None else ", ".join(strange[:5])
    return Judgement("mismatch", f"{told} may be given, {_said(consumer)} is expected")


def _lengths(domain: Domain) -> tuple[int | None, int | None] | None:
    """Shortest and longest text; None where nothing is said. A set says it by its members."""
    if domain.allowed:
        return min(map(len, domain.allowed)), max(map(len, domain.allowed))
    if domain.min_length is None and domain.max_length is None:
        return None
    return domain.min_length or 0, domain.max_length


def _length(producer: Domain, consumer: Domain, path: str) -> Judgement:
    given = _lengths(producer)
    if given is None:
        return Judgement("unknown", f"{path or 'the producer'} does not say how long its texts are")
    short, long = given[0] or 0, math.inf if given[1] is None else given[1]
    least, most = consumer.min_length or 0, math.inf if consumer.max_length is None else consumer.max_length
    if least <= short and long <= most:
        return OK
    return Judgement("mismatch", f"texts of {short} to {long:g} characters are given, {least} to {most:g} are expected")


def _image(producer: Spec, consumer: Spec) -> Iterator[Judgement]:
    """Resolution, channels and format, as far as the consumer says them."""
    for key, wanted in consumer.image.items():
        told, given = key.replace("_", " "), producer.image.get(key)
        if given is None:
            yield Judgement(
                "unknown", f"{producer.path or 'the producer'} does not say its {told}, {wanted} is expected"
            )
        elif plain(given).replace("jpeg", "jpg") != plain(wanted).replace("jpeg", "jpg"):
            yield Judgement("mismatch", f"{told} {given} is given, {wanted} is expected")


def _said(domain: Domain) -> str:
    if domain.allowed:
        more = ", …" if len(domain.allowed) > 5 else ""
        return "{" + ", ".join(domain.allowed[:5]) + more + "}"
    low = "-inf" if domain.low is None else f"{domain.low:g}"
    return f"{low}..{'inf' if domain.high is None else f'{domain.high:g}'}"
