"""The references of registered model versions, as the workers hold them in memory."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from models.reference import Reference, unregistered
from streams.errors import Invalid, StoreError
from streams.records import UNREADABLE

T = TypeVar("T")
MOST_UNKNOWN = 1000  # model versions nobody registered; each has profiles, and a state in the store
STAND_INS = 10_000  # references of those, and of names that are only asked for, kept to be given again


class Registry:
    """Looks a reference up by model and version; a model nobody registered gets a stand-in, never an error."""

    def __init__(self, *, window_us: int, lateness_us: int, most_unknown: int = MOST_UNKNOWN) -> None:
        self._window, self._lateness, self._most_unknown = window_us, lateness_us, most_unknown
        self._known: dict[tuple[str, str], Reference] = {}
        self._unknown: dict[tuple[str, str], Reference] = {}
        self._admitted: set[tuple[str, str]] = set()  # of those that nobody registered
        self._newest: dict[str, Reference] = {}  # by model

    def get(self, model: str, version: str) -> Reference:
        """The reference of a model version; with version "" that of the model, which is that of its newest version.

        Newest is the one trained last, and of several the one with the highest version.
        """
        if not version and model in self._newest:
            return self._newest[model]
        key = (model, version)
        found = self._known.get(key) or self._unknown.get(key)
        if found is None:
            found = unregistered(model, version, window_us=self._window, lateness_us=self._lateness)
            if len(self._unknown) < STAND_INS:
                self._unknown[key] = found
        return found

    def admit(self, model: str, version: str) -> None:
        """Watch a model version, registered or not.

        Raises Invalid for one more that nobody registered than are allowed: a defect, or a stranger, that sends ever
        new names must not fill memory and store.
        """
        key = (model, version)
        if key in self._known or key in self._admitted:
            return
        if len(self._admitted) >= self._most_unknown:
            raise Invalid(
                f"nobody registered model {model[:60]!r} version {version[:60]!r}, and {self._most_unknown} others "
                "that nobody registered are watched already (max_unregistered): register it and replay this, or find "
                "out who sends ever new names, and start the worker again"
            )
        self._admitted.add(key)

    def put(self, reference: Reference) -> None:
        """Make a reference known."""
        key = (reference.model, reference.version)
        self._known[key] = reference
        self._unknown.pop(key, None)
        self._admitted.discard(key)
        self._unknown.pop((reference.model, ""), None)
        versions = [known for known in self._known.values() if known.model == reference.model]
        self._newest[reference.model] = msgspec.structs.replace(max(versions, key=_age), version="")

    def describes(self, model: str) -> bool:
        """Whether a version of this model is registered."""
        return model in self._newest

    def temperature(self, model: str, version: str) -> float:
        """What the scores of a model version are tempered with; 1 where that was not measured."""
        calibration = self.get(model, version).calibration
        return calibration.temperature if calibration else 1.0

    def load(self, bodies: list[bytes]) -> list[Reference]:
        """Take in the registrations of the event store; returns those that are new or have changed."""
        changed = []
        for body in bodies:
            reference = decode_reference(body)
            if self._known.get((reference.model, reference.version)) != reference:
                self.put(reference)
                changed.append(reference)
        return changed

    def __iter__(self) -> Iterator[Reference]:
        return iter(list(self._known.values()))


def _age(reference: Reference) -> tuple[float, list[tuple[int, str]]]:
    """Order of versions: when it was trained, then its name with numbers in it by size."""
    text = str(reference.descriptors.get("trained_model", {}).get("training_date") or "")
    try:
        moment = datetime.fromisoformat(text)
        trained = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        trained = float("-inf")  # no date that can be read: older than any that has one
    parts = re.findall(r"\d+|\D+", reference.version)
    # By length and then as text, digits compare as numbers do, however many there are.
    return trained, [(len(digits := p.lstrip("0")), digits) if p.isdecimal() else (-1, p) for p in parts]


def encode_reference(reference: Reference) -> bytes:
    """The reference as the event store keeps it."""
    return msgspec.json.encode(reference)


def decode_reference(body: bytes) -> Reference:
    """The inverse of `encode_reference`. Raises StoreError."""
    return kept_as(body, Reference, "a registration")


def kept_as(body: bytes, kind: type[T], what: str) -> T:
    """What the event store keeps of a registered model version, `what` in messages. Raises StoreError."""
    try:
        return msgspec.json.decode(body, type=kind)
    except UNREADABLE as error:
        raise StoreError(
            f"{what} in the event store cannot be read: {str(error)[:300]!a}; register the model version again"
        ) from None
