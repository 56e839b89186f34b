"""From recorded events to descriptors: everything about a model that can be measured, and nothing else.

The trees hold no goal, threshold, range or limit: those are decisions of people. What could not be measured is absent,
and a note says why.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np

from models.columns import Categories
from models.describing_columns import Observations
from models.describing_embedding import embedding_profile
from models.describing_features import numeric, privacy_note, share, statistics, textual
from models.describing_outcomes import calibration, class_tables, classes, confusion, errors, judged, metrics
from models.describing_traffic import labels, latency, rate
from models.descriptors.paths import Trees, items_at, value_at
from models.units import SECOND_US

TOOL = "bestbefore describe"
_ITEM_TYPES = {"number": "Float", "integer": "Integer", "category": "String", "text": "String"}
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.])")
Tree = dict[str, Any]


class Measured(NamedTuple):
    """Trees by kind, and why facts are absent from them."""

    trees: dict[str, Tree]
    notes: list[str]


def measure(seen: Observations, declared: Trees | None = None) -> Measured:
    """The measured part of the eight descriptors. `declared` are people's own, for special values and names of labels.

    Raises nothing about the data: a fact that they do not hold is a note.
    """
    known = declared or {}
    notes: list[str] = []
    features = _features(seen, known, notes)
    data, metric = _outcomes(seen, notes)
    environment, traffic = _traffic(seen, known, notes)
    failing = {"abstention_rate": share(seen.abstained, seen.weight)}
    own = {"features": features, **data, **_embedding(seen, notes), **failing}
    label = _label_field(seen, known) if data else []
    figures = [row for name, found in features.items() for row in statistics(name, found)]
    shares = [{"label": k, "percentage": _percent(v)} for k, v in data.get("classes", {}).items()]
    schema = [_field(name, found) for name, found in features.items() if "type" in found]
    trees: dict[str, Tree] = {
        "training_data": {
            "schema": [
                *({**f, "label_field": False, "mapping_production_data": f["field_name"]} for f in schema), *label,
            ],
            "statistics": figures,
            "distribution": [{**row, "mapping_production_data": row["label"]} for row in shares],
            "bestbefore": own,
        },
        "trained_model": {
            "model_name": seen.model,
            "model_version": seen.version,
            "evaluation_metrics": metric,
            "bestbefore": ({"abstains": True} if seen.abstained.any() else {}) | failing,
        },
        "production_environment": environment,
        "production_data": {"schema": schema, "statistics": figures, "distribution": shares, **traffic},
    }  # fmt: skip
    return Measured({kind: without_empty(tree) for kind, tree in trees.items()}, notes)


def day_of(seen: Observations) -> str:
    """The day of the newest event, in UTC: what `observed` says."""
    return datetime.fromtimestamp(int(seen.time.max()) / SECOND_US, UTC).date().isoformat()


def without_empty(tree: Any) -> Any:
    """`tree` without keys that hold an empty list or object: there was no evidence for them."""
    if not isinstance(tree, dict):
        return tree
    kept = {key: without_empty(value) for key, value in tree.items()}
    return {key: value for key, value in kept.items() if not (isinstance(value, dict | list) and not value)}


def _features(seen: Observations, known: Trees, notes: list[str]) -> Tree:
    if not (seen.numbers or seen.texts):
        notes.append("training_data.bestbefore.features: the events carry no features")
    found: Tree = {}
    for name in sorted({*seen.numbers, *seen.texts}):
        path = f"training_data.bestbefore.features.{name}"
        if name in seen.numbers and name in seen.texts and _some(seen.texts[name].column):
            notes.append(f"{path}: a number in some events and a text in others; send one type")
            continue
        section = (value_at(known, "training_data.bestbefore.features") or {}).get(name)
        section = section if isinstance(section, Mapping) else {}
        special = _special(name, section, known)
        if name in seen.numbers:
            found[name] = numeric(seen.numbers[name], {v for v in map(_real, special) if v is not None})
            odd = int((np.isnan(seen.numbers[name].values) & ~seen.numbers[name].null).sum())
            if odd:
                notes.append(f"{path}: {odd} values are not finite and left out; send null for no value")
        else:
            found[name] = textual(seen.texts[name], special)
            if why := privacy_note(seen.texts[name], found[name]):
                notes.append(f"{path}: {why}")
        if not _fits(section.get("type"), found[name].get("type")):
            notes.append(f"{path}: declared as {section['type']}, the events carry {found[name]['type']}; not measured")
            del found[name]
        elif not found[name]["n"]:
            notes.append(f"{path}: null in every event")
    return found


def _some(column: Categories) -> bool:
    return bool((column.codes >= 0).any())


def _fits(declared: Any, measured: str | None) -> bool:
    numbers, texts = ("number", "integer"), ("category", "text")
    return (
        not declared or measured is None or any(declared in kinds and measured in kinds for kinds in (numbers, texts))
    )


def _special(name: str, section: Mapping[str, Any], known: Trees) -> list[str]:
    """Declared values that stand for something else: our own key, and numbers in the prose of raw_data.schema."""
    own = section.get("special")
    found = [str(value) for value in own] if isinstance(own, Mapping) else []
    for _, field in items_at(known, "raw_data.schema"):
        if field.get("field_name") == name:
            found += _NUMBER.findall(str(field.get("interpret_special") or ""))
    return found


def _real(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _outcomes(seen: Observations, notes: list[str]) -> tuple[Tree, list[Tree]]:
    """Classes, confusion and calibration, and the metrics of the reference events."""
    found = judged(seen)
    if found is None:
        regression = errors(seen)
        if not regression:
            notes.append(
                "training_data.bestbefore.classes, confusion, calibration: no ground truth is recorded, so quality "
                "will be unknown: add labels, or fit an estimator on labelled data with `bestbefore induce`"
            )
        return {}, regression
    calibrated, why = calibration(found)
    notes += [f"training_data.bestbefore.{reason}" for reason in why]
    metric = metrics(calibrated["accuracy"]) if calibrated else []
    tabular = bool(seen.numbers or seen.texts) and seen.embeddings is None
    tables = class_tables(found, seen.classes) if tabular and calibrated else None
    if tables is not None:
        calibrated["tables"] = tables
    return {"classes": classes(found), "confusion": confusion(found), "calibration": calibrated}, metric


def _embedding(seen: Observations, notes: list[str]) -> Tree:
    path = "training_data.bestbefore.embedding"
    if seen.embeddings is None:
        return {}
    try:
        return {"embedding": embedding_profile(seen.embeddings)}
    except ValueError as error:
        notes.append(f"{path}: {error}")
        return {}


def _traffic(seen: Observations, known: Trees, notes: list[str]) -> tuple[Tree, Tree]:
    """production_environment with what was observed of it, and the rates of production_data."""
    own: Tree = {"error_rate": share(seen.failed, seen.weight)}
    found = latency(seen)
    limit = value_at(known, "production_environment.bestbefore.latency")
    if found and not limit:
        # Observed, not promised: as `latency` it would be the limit that every hundredth event exceeds.
        own["provenance"] = {"bestbefore.latency": {"tool": TOOL, "observed": day_of(seen), "unit": "ms", **found}}
    elif not found:
        notes.append("production_environment.bestbefore.latency: the events carry no latency_ms")
    per_minute, why = rate(seen.time, seen.weight)
    if why:
        notes.append(f"production_data.bestbefore.{why}")
    late = labels(seen)
    traffic: Tree = {"bestbefore": {"rate": per_minute, "labels": late}}
    if per_minute:
        traffic["data_rates"] = f"{per_minute['mean']:.15g} per minute"
    return {"bestbefore": own}, traffic


def _field(name: str, found: Mapping[str, Any]) -> Tree:
    return {"field_name": name, "field_type": _ITEM_TYPES[found["type"]]}


def _label_field(seen: Observations, known: Trees) -> list[Tree]:
    """The schema's row of the label, under the name people gave it or the model's output has."""
    declared = [f["field_name"] for _, f in items_at(known, "training_data.schema") if f.get("label_field")]
    items = [i for _, i in items_at(known, "trained_model.output_spec")]
    # Scores are no label: an output that is one is text or a whole number.
    outputs = [str(i.get("item_name") or "") for i in items if i.get("item_type") in ("Integer", "String")]
    name = str(next(filter(None, (*declared, *outputs)), "label"))
    if name in seen.numbers or name in seen.texts:
        return []
    whole = all(re.fullmatch(r"-?\d+", value) for value in seen.predicted.values)
    kind = "Integer" if whole and seen.predicted.values else "String"
    return [{"field_name": name, "field_type": kind, "label_field": True, "mapping_production_data": ""}]


def _percent(value: float) -> float:
    return float(f"{100 * value:.6g}")
