"""Croissant descriptions of data sets: fields with types and statistics, rights, checksums of the files.

Source: MLCommons Croissant 1.1 (JSON-LD); the statistics are terms of DDI's vocabulary of summary statistics. Plain
keys and those with a prefix (`recordSet`, `cr:recordSet`) are read; JSON-LD is not expanded and nothing is fetched.
"""

from typing import Any

from models.importers.croissant_statistics import feature, rows_of
from models.importers.document import Node
from models.importers.item_types import of_croissant
from models.importers.part import Tree, Trees, stamped

_FORMAT = "Croissant"
_TYPES = {"Integer": "integer", "Float": "number", "String": "text"}


def trees_of(content: bytes, notes: list[str]) -> Trees:
    """raw_data and training_data of one data set. Raises ValueError with the place of what is wrong.

    The statistics are taken as those of the training data: whoever imports the file says so by doing it.
    """
    root = Node.of(_FORMAT, content, as_json=True)
    records = _records(root, notes)
    count = rows_of(records, notes) if records else None
    listed = _list(_key(records, "field")) if records else []
    fields = [(_key(one, "name").text() or _key(one, "@id").name(), one) for one in listed]
    kinds = {name: of_croissant(_types(_key(one, "dataType"))) for name, one in fields}
    features = {name: feature(one, _TYPES.get(kinds[name], ""), count, notes) for name, one in fields}
    identity = {
        "dataset_identifier": _id(_key(root, "identifier")) or _key(root, "@id").text() or _key(root, "url").text(),
        "dataset_name": _key(root, "name").text(),
        "dataset_version": _key(root, "version").text(),
        "dataset_description": _key(root, "description").text(),
    }
    return stamped(
        {
            "raw_data": {
                **identity,
                "number_of_instances": count,
                "schema": [_field(name, one, kinds[name]) for name, one in fields],
                "metadata": {
                    "timeframe": "; ".join(_texts(root, "rai:dataCollectionTimeframe")),
                    "known_issues": "; ".join(_texts(root, "rai:dataLimitations") + _texts(root, "rai:dataBiases")),
                },
                "data_rights": "; ".join(_texts(root, "license")),
                "restrictions": "; ".join(_texts(root, "conditionsOfAccess")),
                "documentation": _files(root, notes),
            },
            "training_data": {
                **{key: identity[key] for key in ("dataset_name", "dataset_version", "dataset_description")},
                "raw_data_identifier": identity["dataset_identifier"],
                "schema": [
                    {**_field(name, one, kinds[name]), "label_field": _is_label(one)} for name, one in fields
                ],
                "statistics": [row for name, found in features.items() for row in _statistics(name, found)],
                "bestbefore": {"features": {name: one for name, one in features.items() if len(one) > 1}},
            },
        },
        "Croissant",
    )  # fmt: skip


def _key(node: Node, name: str) -> Node:
    return node.get(name, f"cr:{name}", f"sc:{name}", f"schema:{name}")


def _list(node: Node) -> list[Node]:
    """Objects of a list, or the object that stands in place of a list of one, as JSON-LD allows."""
    return [node] if isinstance(node.value, dict) else node.objects()


def _id(node: Node) -> str:
    return "" if isinstance(node.value, dict | list) else node.text()


def _types(node: Node) -> list[str]:
    """Types as texts; a type may be written as a text, as an object with an id, or as a list of both."""
    nodes = node.elements() if isinstance(node.value, list) else ([] if node.value is None else [node])
    return [one["@id"].text() if isinstance(one.value, dict) else one.text() for one in nodes]


def _texts(root: Node, name: str) -> list[str]:
    """Texts of a property; objects (a licence with a name) count by their name, id or address."""
    node = _key(root, name)
    nodes = node.elements() if isinstance(node.value, list) else [node]
    named = [one.get("name", "@id", "url") if isinstance(one.value, dict) else one for one in nodes]
    return [text for one in named if (text := one.text())]


def _records(root: Node, notes: list[str]) -> Node | None:
    """The record set with the most fields; lists of labels and of splits are none."""
    sets = [
        one
        for one in _list(_key(root, "recordSet"))
        if not any(text.endswith(("Enumeration", "cr:Split")) for text in _types(_key(one, "dataType")))
    ]
    chosen = max(sets, key=_size, default=None)
    if chosen is None:
        notes.append("recordSet: there is none, so fields and statistics are unknown")
    left = [one.path for one in sets if one is not chosen]
    if left:
        notes.append(f"{', '.join(left)[:200]}: left out; the descriptors have room for one table, the widest")
    return chosen


def _size(records: Node) -> int:
    return len(_list(_key(records, "field")))


def _field(name: str, one: Node, item_type: str) -> Tree:
    described = _key(one, "description").text()
    return {"field_name": name, "field_description": described, "field_type": item_type or "Other"}


def _is_label(one: Node) -> bool:
    return any(text.endswith(("cr:Label", "croissant/Label")) for text in _types(_key(one, "dataType")))


def _statistics(name: str, found: dict[str, Any]) -> list[Tree]:
    known = (("mean", "Mean"), ("sd", "Standard Deviation"), ("median", "Median"))
    median = (found.get("quantiles") or {}).get("0.5")
    values = found | {"median": median}
    return [
        {"property": title, "field": name, "value": str(values[key])}
        for key, title in known
        if values.get(key) is not None
    ]


def _files(root: Node, notes: list[str]) -> list[Tree]:
    """Files with a SHA-256, as documentation: the descriptors of data have no digest of their own."""
    found = []
    for one in _list(_key(root, "distribution")):
        digest = _key(one, "sha256").text().lower()
        name = _key(one, "name").text() or _key(one, "@id").text()
        if digest and (len(digest) != 64 or set(digest) - set("0123456789abcdef")):
            notes.append(f"{one.path}: the sha256 of {name[:60]} is not 64 hexadecimal digits, left out")
        elif digest:
            found.append({"description": f"{name} sha256:{digest}", "location": _key(one, "contentUrl").text()})
    return found
