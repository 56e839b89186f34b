"""What a source says about its records: where model, version, id, time, segment, features and output stand."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from models.descriptors.paths import value_at

ROOTS = ("envelope", "header", "key", "record", "request", "response", "topic")
_STEPS = r"""(?:\.[^.\[\]]+|\[(?:\d+|"[^"]*")\])*"""
_PATH = re.compile(rf"(?:{'|'.join(ROOTS)}){_STEPS}")
_IN_ROW = re.compile(rf"""(?:[^.\[\]]+|\["[^"]*"\]){_STEPS}""")


class Place(NamedTuple):
    """A path into a record, or a value that holds for all records."""

    path: str = ""
    fixed: Any = None


Places = tuple[Place, ...]


class OutputPlan(NamedTuple):
    """The columns of a response that hold label, scores, value; names of classes by position."""

    label: str = ""
    scores: str = ""
    value: str = ""
    classes: tuple[str, ...] = ()

    @property
    def said(self) -> bool:
        """Whether a column is named."""
        return bool(self.label or self.scores or self.value)


class TruthPlan(NamedTuple):
    """The column of a record that holds what was true: a class, or a number. The source's `id` names the inference."""

    label: str = ""
    value: str = ""

    @property
    def said(self) -> bool:
        """Whether records of the source are truths, and no answers."""
        return bool(self.label or self.value)


class Plan(NamedTuple):
    """One source; `features` names the elements of a row without names, or gives each feature its place in the row."""

    where: str = ""
    model: Places = ()
    version: Places = ()
    id: Places = ()
    time: Places = ()
    sampling: Places = ()
    segment: Mapping[str, Places] = {}
    features: tuple[str, ...] | Mapping[str, str] | None = None
    output: OutputPlan = OutputPlan()
    latency_ms: Places = ()
    latency_s: Places = ()
    status: Places = ()
    digest: Places = ()
    truth: TruthPlan = TruthPlan()


def is_path(text: str) -> bool:
    """Whether the text is a path from one of `ROOTS`, such as `header.x-model` or `request.inputs[0].name`."""
    return _PATH.fullmatch(text) is not None


def is_row_path(text: str) -> bool:
    """Whether the text is a path within one row, such as `age`, `person.age`, `["a.b"]`."""
    return _IN_ROW.fullmatch(text) is not None


def at(places: Places, trees: Mapping[str, Any]) -> Any:
    """The first of the places that has something, or None."""
    for place in places:
        found = value_at(trees, place.path) if place.path else place.fixed
        if found is not None and found != "":
            return found
    return None


def told(places: Places) -> str:
    """The places in words."""
    return " or ".join(place.path or repr(place.fixed) for place in places)
