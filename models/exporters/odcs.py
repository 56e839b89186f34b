"""The production data as a data contract: what it must look like, how fast it comes, how soon an answer is due.

Source: Bitol, Open Data Contract Standard 3.1.0.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from models.descriptors.paths import Trees, items_at, value_at
from models.domains import Domain, expected_values, kind_of_type
from models.importers.part import without_empty

API_VERSION = "v3.1.0"
_LOGICAL = {"integer": "integer", "number": "number", "text": "string"}
_LENGTHS = re.compile(r"(-inf|\d+)\.\.(inf|\d+) characters")
_AT_MOST = re.compile(r"at most (\d+(?:\.\d+)?)%")
_UNITS = {"milliseconds": "ms", "seconds": "s", "minutes": "min", "hours": "h"}


def odcs(trees: Trees) -> dict[str, Any]:
    """One contract from production_data, with units and missing rates of training_data and the due time of answers.

    Its status is `draft`: a contract is made by those who sign it. What `models.importers.odcs` reads from it are the
    same names, types, ranges, sets and rates. Nothing is added where the descriptors are silent.
    """
    model = str(value_at(trees, "trained_model.model_name") or "model")
    contract: dict[str, Any] = without_empty(
        {
            "apiVersion": API_VERSION,
            "kind": "DataContract",
            "id": str(value_at(trees, "production_data.bestbefore.descriptor_id") or f"{model}-production-data"),
            "name": f"Production data of {model}",
            "version": str(value_at(trees, "trained_model.model_version") or "1"),
            "status": "draft",
            "dataProduct": _text(value_at(trees, "production_data.data_sources")),
            "description": {"purpose": _text(value_at(trees, "system_context.task"))},
            "schema": _schema(trees, model),
            "slaProperties": [*_rate(trees), *_deadline(trees), *_errors(trees)],
        }
    )
    return contract


def _schema(trees: Trees, model: str) -> list[dict[str, Any]]:
    fields = [one for _, one in items_at(trees, "production_data.schema") if one.get("field_name")]
    if not fields:
        return []
    name = re.sub(r"\W+", "_", model) or "model"
    return [{"name": name, "logicalType": "object", "properties": [_property(one, trees) for one in fields]}]


def _property(field: Mapping[str, Any], trees: Trees) -> dict[str, Any]:
    name = str(field["field_name"])
    kind = kind_of_type(field.get("field_type"))
    text = _text(field.get("expected_values"))
    domain = expected_values(text, kind)
    features = value_at(trees, "training_data.bestbefore.features") or {}
    feature = features.get(name) if isinstance(features, Mapping) else None
    unit = feature.get("unit") if isinstance(feature, Mapping) else None
    missing = _text(field.get("missing_values"))
    return {
        "name": name,
        "description": _text(field.get("field_description")),
        "logicalType": _LOGICAL.get(kind, ""),
        "logicalTypeOptions": _options(kind, domain, text),
        "required": True if missing == "none" else None,
        "quality": [*_allowed(domain), *_lacking(missing)],
        "customProperties": [{"property": "unit", "value": unit}] if unit else [],
    }


def _options(kind: str, domain: Domain, text: str) -> dict[str, Any]:
    """Bounds where the type may have them: ODCS knows minimum and maximum of numbers, lengths of texts."""
    if kind in ("number", "integer"):
        return {"minimum": _plain(domain.low), "maximum": _plain(domain.high)}
    found = _LENGTHS.match(text) if kind == "text" else None
    low, high = found.groups() if found else ("-inf", "inf")
    pattern = re.search(r"(?:^|; )pattern (.+)$", text) if kind == "text" else None
    return {
        "minLength": None if low == "-inf" else int(low),
        "maxLength": None if high == "inf" else int(high),
        "pattern": pattern.group(1) if pattern else None,
    }


def _allowed(domain: Domain) -> list[dict[str, Any]]:
    if not domain.allowed:
        return []
    numbers = domain.kind in ("number", "integer")
    values = [_plain(float(one)) if numbers and _is_number(one) else one for one in domain.allowed]
    rule = {"metric": "invalidValues", "mustBe": 0, "arguments": {"validValues": values}}
    return [{"type": "library", **rule, "dimension": "conformity"}]


def _lacking(missing: str) -> list[dict[str, Any]]:
    found = _AT_MOST.fullmatch(missing)
    if not found:
        return []
    limit = _plain(float(found.group(1)))
    rule = {"metric": "nullValues", "mustBeLessOrEqualTo": limit, "unit": "percent"}
    return [{"type": "library", **rule, "dimension": "completeness"}]


def _rate(trees: Trees) -> list[dict[str, Any]]:
    rate = value_at(trees, "production_data.bestbefore.rate")
    mean = rate.get("mean") if isinstance(rate, Mapping) else None
    if not isinstance(rate, Mapping) or not _number(mean):
        return []
    return [{"property": "throughput", "value": mean, "unit": _text(rate.get("unit")), "driver": "operational"}]


def _deadline(trees: Trees) -> list[dict[str, Any]]:
    limit = value_at(trees, "production_environment.required_inference_time")
    time = limit.get("time") if isinstance(limit, Mapping) else None
    if not isinstance(limit, Mapping) or not _number(time):
        return []
    unit = _UNITS.get(_text(limit.get("unit")).lower(), _text(limit.get("unit")))
    about = "time from request to answer of the model"
    return [{"property": "latency", "value": time, "unit": unit, "driver": "operational", "description": about}]


def _errors(trees: Trees) -> list[dict[str, Any]]:
    share = value_at(trees, "production_environment.bestbefore.error_rate")
    return [{"property": "errorRate", "value": share, "driver": "operational"}] if _number(share) else []


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _plain(value: float | None) -> float | None:
    """Whole numbers without a point, as people write bounds."""
    return int(value) if value is not None and value == int(value) and abs(value) < 1 << 53 else value


def _text(value: Any) -> str:
    return str(value).strip() if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
