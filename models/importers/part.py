"""What an importer gives: partial trees, and what it left out and why."""

from collections.abc import Mapping
from typing import Any, NamedTuple

Tree = dict[str, Any]
Trees = dict[str, Tree]


class Imported(NamedTuple):
    """Facts of one artefact. `notes` say what was skipped and why, `format` is the importer's, `name` the file's."""

    trees: Trees
    notes: list[str]
    format: str
    name: str = ""


def without_empty(value: Any) -> Any:
    """`value` without null, empty texts, lists and objects: what an artefact does not say is absent.

    >>> without_empty({"a": None, "b": {"c": ""}, "d": 0})
    {'d': 0}
    """
    if isinstance(value, Mapping):
        kept = {key: without_empty(one) for key, one in value.items()}
        return {key: one for key, one in kept.items() if not _empty(one)}
    if isinstance(value, list):
        return [one for one in map(without_empty, value) if not _empty(one)]
    return value


def stamped(trees: Mapping[str, Mapping[str, Any]], tool: str) -> Trees:
    """The trees without what is empty, and with `bestbefore.provenance` naming the tool for each attribute.

    >>> stamped({"trained_model": {"model_name": "digits"}}, "onnx")["trained_model"]["bestbefore"]
    {'provenance': {'model_name': {'tool': 'onnx'}}}
    """
    found: Trees = {}
    for kind, raw in trees.items():
        tree = without_empty(raw)
        if not tree:
            continue
        own = tree.pop("bestbefore", {})
        paths = [*tree, *(f"bestbefore.{key}" for key in own)]
        found[kind] = {**tree, "bestbefore": {**own, "provenance": {path: {"tool": tool} for path in paths}}}
    return found


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, str | list | Mapping) and not value)
