"""TEC's schema versions 1.0 and 1.1 as one 1.2 tree, and how the forms of TEC fill what nobody said.

What came in is never changed: `Upgraded.original` is what is written back. The steps follow TEC's own changelog:
1.1 calls business goals goals and joins the success criteria to the metric of the first; 1.2 has an
`item_specification` where items had prose in `expected_values`. Unlike TEC, prose is not thrown away and no bound of
zero is made up: a range is read as one, anything else is kept as `other_value`.
"""

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from models.descriptors.fields import Finding
from models.descriptors.paths import items_at
from models.descriptors.problem import DescriptorProblem
from models.domains import expected_values

VERSIONS = ("1.0", "1.1", "1.2")
_ITEMS = {"data_pipeline": ("input_spec",), "trained_model": ("output_spec", "final_output_spec")}
_GOAL = re.compile(r"BG(\d+)")
# What the forms of TEC send as zeros when nobody filled it in: no domain is a single zero, no image has no pixel.
_UNFILLED = (("min_value", "max_value"), ("min_length", "max_length"), ("resolution_x", "resolution_y"), ("channels",))


class Upgraded(NamedTuple):
    """A tree in schema 1.2 and the one it came from. `moved` gives, for a path of the new tree, that of the old."""

    tree: dict[str, Any]
    original: Mapping[str, Any]
    version: str
    notes: tuple[Finding, ...] = ()
    moved: Mapping[str, str] = {}


class _Draft:
    """A tree on its way to 1.2."""

    def __init__(self, kind: str, tree: Mapping[str, Any]) -> None:
        self.kind = kind
        self.tree = copy.deepcopy(dict(tree))
        self.notes: list[Finding] = []
        self.moved: dict[str, str] = {}

    def note(self, path: str, message: str) -> None:
        """Something that was read in a way people should know of."""
        self.notes.append(Finding(path, message, note=True))

    def items(self, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The objects of a list of the tree, each with its path."""
        for path, item in items_at({self.kind: self.tree}, f"{self.kind}.{key}"):
            yield path, dict_of(item)


def dict_of(item: Mapping[str, Any]) -> dict[str, Any]:
    """The item itself, which is a dict because it was read from a file."""
    assert isinstance(item, dict)  # noqa: S101
    return item


def upgrade(kind: str, tree: Mapping[str, Any]) -> Upgraded:
    """The tree in schema 1.2. Raises DescriptorProblem for a version that is not known.

    >>> upgrade("system_context", {"version": "1.0", "business_goals": [{"id": "BG1"}]}).tree["goals"]
    [{'id': 'G1'}]
    """
    version = _version(kind, tree)
    draft = _Draft(kind, tree)
    step = VERSIONS.index(version)
    if step < 1 and kind in _FROM_1_0:
        _FROM_1_0[kind](draft)
    if step < 2:
        for key in _ITEMS.get(kind, ()):
            _specify(draft, key)
        draft.tree["version"] = "1.2"
        draft.note(f"{kind}.version", f"is TEC {version}, read as 1.2")
    for key in _ITEMS.get(kind, ()):
        _drop_unfilled(draft, key)
    return Upgraded(draft.tree, tree, version, tuple(draft.notes), draft.moved)


def _version(kind: str, tree: Mapping[str, Any]) -> str:
    found = tree.get("version")
    if found is None or found == "":
        return VERSIONS[-1]
    text = "" if isinstance(found, bool | list | Mapping) else str(found).strip().removeprefix("v")
    if text not in VERSIONS:
        known = ", ".join(VERSIONS)
        raise DescriptorProblem(
            f"schema version {repr(found)[:60]} is not known; known are {known} (of the schema, not of the model)",
            0,
            f"{kind}.version",
        )
    return text


def _goals(draft: _Draft) -> None:
    tree = draft.tree
    if "business_goals" in tree and "goals" not in tree:
        draft.tree = tree = {("goals" if key == "business_goals" else key): value for key, value in tree.items()}
        draft.moved["system_context.goals"] = "system_context.business_goals"
    for path, goal in draft.items("goals"):
        _rename_goal(draft, goal, "id", f"{path}.id")
    criteria = tree.get("success_criteria")
    texts = [str(one) for one in criteria if not isinstance(one, list | Mapping)] if isinstance(criteria, list) else []
    first = next(draft.items("goals"), None)
    if texts and first and not first[1].get("metric"):
        first[1]["metric"] = ", ".join(texts)
        del tree["success_criteria"]
        draft.moved[f"{first[0]}.metric"] = "system_context.success_criteria"
        draft.note(f"{first[0]}.metric", "is made of the success criteria of TEC 1.0; give each goal its own metric")


def _rename_goal(draft: _Draft, item: dict[str, Any], key: str, path: str) -> None:
    """TEC 1.1 calls business goal BG1 goal G1; done on both sides, so sets of mixed versions still agree."""
    found = _GOAL.fullmatch(str(item.get(key, "")))
    if found:
        item[key] = f"G{found.group(1)}"
        draft.note(path, f"TEC 1.0 calls this goal BG{found.group(1)}")


def _metrics(draft: _Draft) -> None:
    for path, metric in draft.items("business_metrics"):
        if "business_goal_mapping" in metric and "goal_mapping" not in metric:
            metric["goal_mapping"] = metric.pop("business_goal_mapping")
            draft.moved[f"{path}.goal_mapping"] = f"{path}.business_goal_mapping"
        _rename_goal(draft, metric, "goal_mapping", f"{path}.goal_mapping")


_FROM_1_0: dict[str, Callable[[_Draft], None]] = {"system_context": _goals, "trained_model": _metrics}


def _specify(draft: _Draft, key: str) -> None:
    """`expected_values` of an item becomes its `item_specification`."""
    for path, item in draft.items(key):
        said = item.get("expected_values")
        if "expected_values" not in item or item.get("item_specification") or isinstance(said, list | Mapping):
            continue
        del item["expected_values"]
        domain = expected_values(said)
        specification: dict[str, Any] = {}
        if domain.low is not None or domain.high is not None:
            bounds = (("min_value", domain.low), ("max_value", domain.high))
            specification = {name: bound for name, bound in bounds if bound is not None}
        elif said not in (None, ""):
            specification = {"other_value": str(said)}
        item["item_specification"] = specification
        draft.moved[f"{path}.item_specification"] = f"{path}.expected_values"


def _drop_unfilled(draft: _Draft, key: str) -> None:
    for path, item in draft.items(key):
        specification = item.get("item_specification")
        if not isinstance(specification, dict):
            continue
        where = f"{path}.item_specification"
        # TEC's own upgrade writes the first name where its schema has the second.
        if "expected_value" in specification and "other_value" not in specification:
            specification["other_value"] = specification.pop("expected_value")
            draft.moved[f"{where}.other_value"] = f"{where}.expected_value"
        for names in _UNFILLED:
            values = [specification.get(name) for name in names]
            if all(isinstance(v, int | float) and not isinstance(v, bool) and v == 0 for v in values):
                for name in names:
                    del specification[name]
                draft.note(where, f"{' and '.join(names)} of 0 are read as not filled in")
