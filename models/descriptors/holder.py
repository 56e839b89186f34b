"""A set of descriptors: the trees of one model by kind, who they are, until when they hold, and their digests."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from models.descriptors.contradictions import contradictions
from models.descriptors.fields import Finding, findings, instant_us, typed
from models.descriptors.paths import KINDS
from models.descriptors.problem import DescriptorProblem
from models.descriptors.types import Typed
from models.descriptors.versions import upgrade

_IDENTITY = {
    "trained_model": ("model_name", "model_version"),
    "data_pipeline": ("pipeline_identifier", "pipeline_version"),
    "raw_data": ("dataset_identifier", "dataset_version"),
    "training_data": ("dataset_identifier", "dataset_version"),
}


class Identity(NamedTuple):
    """What a descriptor calls the thing it describes; empty where it does not say."""

    name: str
    version: str


def canonical_digest(trees: Mapping[str, Any]) -> str:
    """sha256 (hex) of the facts, whatever their order and format."""
    canonical = json.dumps(trees, sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


class Descriptors:
    """The descriptors of one model, by kind. `trees` are in schema 1.2; `original` is what was given.

    Raises DescriptorProblem for a kind or schema version that is not known, a fact of the wrong type, and facts that
    contradict each other; its `paths` say which.
    """

    def __init__(self, trees: Mapping[str, Mapping[str, Any]]) -> None:
        for kind in trees:
            if kind not in KINDS:
                raise DescriptorProblem(f"{kind!r} is no descriptor; the eight are {', '.join(KINDS)}")
        upgraded = {kind: upgrade(kind, tree) for kind, tree in trees.items()}
        self.original = {kind: one.original for kind, one in upgraded.items()}
        self.trees: dict[str, dict[str, Any]] = {kind: one.tree for kind, one in upgraded.items()}
        self.versions = {kind: one.version for kind, one in upgraded.items()}
        self.moved = {new: old for one in upgraded.values() for new, old in one.moved.items()}
        found = [finding for kind, tree in self.trees.items() for finding in findings(kind, tree)]
        for finding in found:
            if not finding.note:
                raise DescriptorProblem(f"{finding.path}: {finding.message}", 0, finding.path)
        for problem in contradictions(self.trees):
            raise problem
        self.notes: tuple[Finding, ...] = (*(note for one in upgraded.values() for note in one.notes), *found)

    def __iter__(self) -> Iterator[str]:
        return iter(self.trees)

    def of(self, kind: str) -> dict[str, Any]:
        """The tree of a kind; empty where there is none."""
        return self.trees.get(kind, {})

    def typed(self, kind: str) -> Typed:
        """The descriptor of a kind as its type; without a fact where there is no tree."""
        return typed(kind, self.of(kind))

    def digest(self, kind: str | None = None) -> str:
        """sha256 (hex) of what was given for a kind (empty where nothing was), or of the whole set."""
        if kind is None:
            return canonical_digest(self.original)
        return canonical_digest(self.original[kind]) if kind in self.original else ""

    def identity(self, kind: str) -> Identity:
        """Name and version of the thing described; the `descriptor_id` where TEC has no name for it."""
        tree = self.of(kind)
        if kind not in _IDENTITY:
            return Identity(_text((tree.get("bestbefore") or {}).get("descriptor_id")), "")
        name, version = _IDENTITY[kind]
        return Identity(_text(tree.get(name)), _text(tree.get(version)))

    def validity(self, kind: str) -> tuple[int | None, int | None]:
        """From when (included) until when (excluded) a descriptor holds, in microseconds; None is open."""
        own = self.of(kind).get("bestbefore") or {}
        start, end = own.get("valid_from"), own.get("valid_to")
        return (instant_us(start) if start else None), (instant_us(end) if end else None)

    def valid_at(self, us: int) -> bool:
        """Whether every descriptor of the set holds at this time (microseconds since 1970)."""
        return not self.invalid_at(us)

    def invalid_at(self, us: int) -> list[str]:
        """The kinds that do not hold at this time, not yet or no more."""
        periods = {kind: self.validity(kind) for kind in self.trees}
        return [k for k, (start, end) in periods.items() if (start or us) > us or (end is not None and end <= us)]


def _text(value: object) -> str:
    return "" if value is None else str(value)
