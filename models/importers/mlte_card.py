"""Negotiation cards of MLTE: goals, risks, raw data, neighbours and resources as teams agreed on them.

Source: MLTE 2 (mlte-team/mlte), artefact type `card`. MLTE keeps conditions as pickled functions (`bool_exp`); they
are never decoded: a card has none, and any other artefact type is refused.
"""

import math
import re

from models.importers.document import Node
from models.importers.item_types import of_words
from models.importers.mlte_scenarios import limits
from models.importers.part import Tree, Trees, stamped
from models.quantities import converted, number_of

_FORMAT = "MLTE negotiation card"
_SOURCES = ("Enterprise Data", "Public Data Source", "Synthetic Data", "Simulated Data")
_PROBLEMS = ("Alert", "Benchmarking", "Classification", "Clustering", "Content Generation", "Detection", "Forecasting",
             "Goals", "Summarization", "Trend")  # fmt: skip
_RISKS = ("risk_fp", "risk_fn", "risk_other")
_AMOUNTS = {
    "gpu": "gpu", "cpu": "cpu", "main_memory": "memory", "storage": "storage", "gpu_memory": "gpu_memory",
}  # fmt: skip
_CARDS = ("card", "negotiation_card")


def trees_of(content: bytes, notes: list[str]) -> Trees:
    """system_context, raw_data and parts of the environments from one card (JSON).

    Raises ValueError with the place of what is wrong. Requirements whose measure is prose are noted, not guessed.
    """
    root = Node.of(_FORMAT, content, as_json=True)
    body = root["body"]
    if body["artifact_type"].name() not in _CARDS:
        raise body["artifact_type"].wrong("card; no other MLTE artefact is read")
    card = body["nc_data"] if body["nc_data"].value is not None else body
    model = card["model"]
    required, metrics = limits(card["system_requirements"], notes)
    return stamped(
        {
            "system_context": _context(card["system"]),
            "raw_data": _raw_data(card["data"], notes),
            "development_environment": {
                "upstream_components": _components(model["input_specification"], "output_spec"),
                "downstream_components": _components(model["output_specification"], "input_spec"),
                "computing_resources": _resources(model["development_compute_resources"], notes)[0],
            },
            "production_environment": _production(model, notes) | {"required_inference_time": required},
            "trained_model": {"algorithm_metrics": metrics},
        },
        "MLTE",
    )


def _context(system: Node) -> Tree:
    word = system["problem_type"].text().replace("_", " ").title()
    known = word in _PROBLEMS
    problem = {"ml_problem": word if known else "Other", "other_problem": "" if known else word}
    return {
        "task": system["task"].text(),
        "usage_context": system["usage_context"].text(),
        "ml_problem_type": problem if word else {},
        "goals": [row for i, goal in enumerate(system["goals"].objects(), 1) for row in _goals(f"G{i}", goal)],
        "risks": dict(zip(_RISKS, _three(system["risks"].texts()), strict=False)),
    }


def _goals(name: str, goal: Node) -> list[Tree]:
    """One goal of the descriptors per metric, since a goal has one there: G1, G1.2, G1.3."""
    said = {"goal": goal["description"].text()}
    metrics = [
        {"metric": one["description"].text(), "baseline": one["baseline"].text()} for one in goal["metrics"].objects()
    ]
    ids = [name, *(f"{name}.{i}" for i in range(2, len(metrics) + 1))]
    return [{"id": one, **said, **metric} for one, metric in zip(ids, metrics or [{}], strict=True)]


def _three(risks: list[str]) -> list[str]:
    """False positive, false negative, and all others in one text: MLTE has a list in this order."""
    return [*risks[:2], "; ".join(risks[2:])]


def _raw_data(sets: Node, notes: list[str]) -> Tree:
    found = sets.objects()
    texts: dict[str, list[str]] = {}
    tree: Tree = {"data_sources": [], "schema": [], "labels_distribution": []}
    for one in found:
        for key, target in (
            ("description", "dataset_description"), ("access", "restrictions"), ("classification", "restrictions"),
            ("rights", "data_rights"), ("policies", "data_policies"),
        ):  # fmt: skip
            texts.setdefault(target, []).append(one[key].text())
        source = one["source"].text()
        known = source.title() in _SOURCES
        if source:
            row = {"data_source": source.title() if known else "Other", "other_source": "" if known else source}
            tree["data_sources"].append(row)
        if one["labels"].objects() and tree["labels_distribution"]:
            notes.append(f"{one['labels'].path}: shares of a second data set are left out; raw_data has room for one")
        elif one["labels"].objects():
            tree["labels_distribution"] = [_label(label) for label in one["labels"].objects()]
        tree["schema"] += [_field(field, notes) for field in one["fields"].objects()]
        if one["labeling_method"].text():
            notes.append(f"{one['labeling_method'].path}: has no place in the descriptors, left out")
    return tree | {key: "; ".join(filter(None, said)) for key, said in texts.items()}


def _label(label: Node) -> Tree:
    percentage = label["percentage"].number()
    if percentage is not None and not 0 <= percentage <= 100:
        raise label["percentage"].wrong("a percentage from 0 to 100")
    return {"label": label["name"].text() or label["description"].text(), "percentage": percentage}


def _field(field: Node, notes: list[str]) -> Tree:
    item_type = of_words(field["type"].text())
    if field["type"].text() and not item_type:
        notes.append(f"{field['type'].path}: {field['type'].text()[:40]!r} is no type known here, taken as Other")
    return {
        "field_name": field["name"].name(),
        "field_description": field["description"].text(),
        "field_type": item_type or ("Other" if field["type"].text() else ""),
        "expected_values": field["expected_values"].text(),
        "interpret_missing": field["missing_values"].text(),
        "interpret_special": field["special_values"].text(),
    }


def _components(items: Node, side: str) -> list[Tree]:
    """Neighbours from items called `component.item`; where no component is named it is `unnamed`."""
    found: dict[str, Tree] = {}
    for one in items.objects():
        component, dot, name = one["name"].name().partition(".")
        if not dot:
            component, name = "unnamed", component
        tree = found.setdefault(component, {"component_name": component, side: []})
        tree[side].append(
            {
                "item_name": name,
                "item_description": one["description"].text(),
                "item_type": of_words(one["type"].text()) or one["type"].text(),
                "expected_values": one["expected_values"].text(),
            }
        )
    return list(found.values())


def _production(model: Node, notes: list[str]) -> Tree:
    resources, gpu_memory = _resources(model["production_compute_resources"], notes)
    return {
        "computing_resources": resources,
        "deployment_platform": model["deployment_platform"].text(),
        "deployment_mechanism": model["capability_deployment_mechanism"].text(),
        "bestbefore": {"gpu_memory": gpu_memory},
    }


def _resources(node: Node, notes: list[str]) -> tuple[Tree, float | None]:
    """Processors by number, memory and storage in GB, and apart from them the memory of the graphics processor."""
    found: Tree = {}
    for key, target in _AMOUNTS.items():
        text = node[key].text()
        unit = "" if key in ("gpu", "cpu") else "GB"
        value = _amount(text, unit) if text else None
        if text and value is None:
            notes.append(f"{node[key].path}: {text[:40]!r} is no number{' of GB' if unit else ''}, left out")
        found[target] = value
    return found, found.pop("gpu_memory")


def _amount(text: str, unit: str) -> float | None:
    said = number_of(re.sub(r"\s*cores?$", "", text))
    if said is None or said[0] < 0:
        return None
    value = said[0] if said[1] in ("", unit) else (converted(*said, unit) if unit else None)
    # Nine digits: a conversion of units leaves 1000.0000000000001 where people mean 1000.
    return float(f"{value:.9g}") if value is not None and math.isfinite(value) else None
