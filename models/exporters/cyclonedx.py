"""The model in a bill of materials: identity, digest, interface, results of its evaluation, what it is made with.

Source: OWASP CycloneDX 1.7 (ECMA-424), component type `machine-learning-model` with `modelCard`.
"""

import json
import re
import uuid
from collections.abc import Mapping
from typing import Any

from models.descriptors.paths import Trees, items_at, value_at
from models.importers.part import without_empty

SPEC_VERSION = "1.7"
_HEX = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")
_METRICS = (("evaluation_metrics", "evaluation"), ("test_metrics", "test"))


def cyclonedx(trees: Trees) -> dict[str, Any]:
    """A bill of materials (JSON) with the model as its one machine-learning-model component and its frameworks.

    Its serial number follows from its content, so the same descriptors give the same file. Nothing that the
    descriptors do not say is filled in; without a name of the model ValueError is raised, as CycloneDX requires one.
    """
    name = value_at(trees, "trained_model.model_name")
    if not name:
        raise ValueError("trained_model.model_name is missing; a bill of materials needs it, so write it down")
    version = _text(value_at(trees, "trained_model.model_version"))
    reference = f"{name}@{version}" if version else str(name)
    frameworks = _frameworks(trees)
    model: dict[str, Any] = without_empty(
        {
            "type": "machine-learning-model",
            "bom-ref": reference,
            "name": str(name),
            "version": version,
            "description": _text(value_at(trees, "trained_model.model_description")),
            "hashes": _hashes(value_at(trees, "trained_model.bestbefore.digest")),
            "modelCard": {
                "modelParameters": _parameters(trees),
                "quantitativeAnalysis": {"performanceMetrics": _performance(trees)},
                "considerations": _considerations(trees),
            },
            "properties": _properties(trees),
        }
    )
    body = {
        "components": [model, *frameworks],
        "dependencies": [{"ref": reference, "dependsOn": [one["bom-ref"] for one in frameworks]}] if frameworks else [],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(body, sort_keys=True, default=str))
    bill = {"bomFormat": "CycloneDX", "specVersion": SPEC_VERSION, "serialNumber": f"urn:uuid:{serial}", "version": 1}
    return bill | {key: value for key, value in body.items() if value}


def _parameters(trees: Trees) -> dict[str, Any]:
    problem = value_at(trees, "system_context.ml_problem_type")
    problem = problem if isinstance(problem, Mapping) else {}
    kind = _text(problem.get("ml_problem"))
    algorithms = [_text(value_at({"it": one}, "it.learning_algorithm.algorithm")) for _, one in _components(trees)]
    return {
        "task": (_text(problem.get("other_problem")) or kind) if kind == "Other" else kind,
        "architectureFamily": ", ".join(sorted({one for one in algorithms if one})),
        "datasets": _datasets(trees),
        "inputs": _formats(trees, "inputs", "data_pipeline.input_spec"),
        "outputs": _formats(trees, "outputs", "trained_model.output_spec"),
    }


def _components(trees: Trees) -> list[tuple[str, Mapping[str, Any]]]:
    return list(items_at(trees, "trained_model.model_components"))


def _datasets(trees: Trees) -> list[dict[str, Any]]:
    data = value_at(trees, "training_data")
    data = data if isinstance(data, Mapping) else {}
    name = _text(data.get("dataset_name")) or _text(data.get("dataset_identifier"))
    version = _text(data.get("dataset_version"))
    described = {"name": f"{name} {version}".strip(), "description": _text(data.get("dataset_description"))}
    return [{"type": "dataset", **described}] if name else []


def _formats(trees: Trees, side: str, items: str) -> list[dict[str, str]]:
    """`image: float32[batch, 1, 16, 16]` from the signature, else `digit: Integer` from the items."""
    tensors = [one for _, one in items_at(trees, f"trained_model.bestbefore.signature.{side}")]
    if tensors:
        return [{"format": _tensor(one)} for one in tensors]
    return [{"format": f"{one.get('item_name', '')}: {one.get('item_type', '')}"} for _, one in items_at(trees, items)]


def _tensor(one: Mapping[str, Any]) -> str:
    shape = one.get("shape")
    axes = f"[{', '.join(map(str, shape))}]" if isinstance(shape, list) else ""
    return f"{one.get('name', '')}: {one.get('dtype', '')}{axes}"


def _performance(trees: Trees) -> list[dict[str, Any]]:
    found = []
    for key, slice_name in _METRICS:
        for _, row in items_at(trees, f"trained_model.{key}"):
            kind = _text(row.get("metric"))
            name = (_text(row.get("other_metric")) or kind) if kind in ("Other", "") else kind
            if name and row.get("result") is not None:
                found.append({"type": name, "value": _text(row["result"]), "slice": slice_name})
    return found


def _considerations(trees: Trees) -> dict[str, Any]:
    context = value_at(trees, "system_context")
    context = context if isinstance(context, Mapping) else {}
    risks = context.get("risks")
    known = risks if isinstance(risks, Mapping) else {}
    assumptions = value_at(trees, "trained_model.decisions_assumptions")
    return {
        "useCases": [text for text in (_text(context.get("task")), _text(context.get("usage_context"))) if text],
        "technicalLimitations": [
            *(text for key in ("risk_fp", "risk_fn", "risk_other") if (text := _text(known.get(key)))),
            *(_text(one) for one in (assumptions if isinstance(assumptions, list) else [])),
        ],
    }


def _properties(trees: Trees) -> list[dict[str, str]]:
    own = value_at(trees, "trained_model.bestbefore")
    own = own if isinstance(own, Mapping) else {}
    return [
        {"name": f"bestbefore:{key}", "value": own[key] if isinstance(own[key], str) else json.dumps(own[key])}
        for key in ("opset", "ir_version", "producer", "minimum_n", "abstains")
        if own.get(key) is not None
    ]


def _frameworks(trees: Trees) -> list[dict[str, Any]]:
    listed = value_at(trees, "trained_model.ml_frameworks")
    names = dict.fromkeys(map(_text, listed if isinstance(listed, list) else []))
    return [{"type": "framework", "bom-ref": f"framework:{name}", "name": name} for name in names if name]


def _hashes(digest: Any) -> list[dict[str, str]]:
    found = _HEX.fullmatch(digest) if isinstance(digest, str) else None
    return [{"alg": "SHA-256", "content": found.group(1).lower()}] if found else []


def _text(value: Any) -> str:
    return str(value).strip() if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
