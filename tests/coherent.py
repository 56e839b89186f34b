"""Sets of descriptors in which nothing is wrong, for tests that then break one fact.

`coherent_sets()` is a Hypothesis strategy of trees by kind, all eight kinds, every attribute that a design-time check
looks at. References are closed in both directions, types and ranges are those of their counterparts, resources and
times suffice with room, thresholds are met by what was measured, statistics agree on both sides, and what is counted
(`confusion`, `n`) adds up. `coherent(Shape(features=(FLOAT, TEXT)))` is one such set without Hypothesis.
"""

from typing import Any, NamedTuple

from hypothesis import strategies as st

Trees = dict[str, dict[str, Any]]


class FieldType(NamedTuple):
    """How one kind of field is written on every side."""

    tec: str  # item_type and field_type
    measured: str  # bestbefore.features.type
    expected: str  # expected_values
    specification: dict[str, Any]
    unit: str = ""


FLOAT = FieldType("Float", "number", "0..1000", {"min_value": 0, "max_value": 1000}, "EUR")
INTEGER = FieldType("Integer", "integer", "1..99", {"min_value": 1, "max_value": 99}, "year")
TEXT = FieldType("String", "category", "N,S,E,W", {"min_length": 1, "max_length": 1})
FIELD_TYPES = (FLOAT, INTEGER, TEXT)


class Shape(NamedTuple):
    """What differs from set to set; the defaults are a small tabular classifier of two classes."""

    features: tuple[FieldType, ...] = FIELD_TYPES
    percentages: tuple[int, ...] = (20, 80)  # of the labels "0", "1", …; they add up to 100
    outputs: int = 1
    goals: int = 1
    post_processing: bool = False
    accuracy: float = 0.91
    threshold: float = 0.85  # below the accuracy
    baseline: float = 0.8  # not above the threshold
    time_ms: int = 20
    deadline_ms: int = 50  # not below the time
    cpu: int = 4
    rate: int = 100  # events per minute at the 99th percentile
    n: int = 10_000  # multiple of 100
    version: str = "7"


def coherent(shape: Shape = Shape()) -> Trees:  # noqa: B008 -- an immutable tuple
    """The eight trees of this shape."""
    makers = (
        system_context, raw_data, training_data, data_pipeline, trained_model, development_environment,
        production_environment, production_data,
    )  # fmt: skip
    return {maker.__name__: maker(shape) for maker in makers}


@st.composite
def shapes(
    draw: st.DrawFn,
    *,
    min_features: int = 1,
    max_features: int = 4,
    max_labels: int = 4,
    max_outputs: int = 2,
    max_goals: int = 3,
    types: tuple[FieldType, ...] = FIELD_TYPES,
    post_processing: bool | None = None,
) -> Shape:
    """Shapes within these bounds. `post_processing` None: both."""
    labels = draw(st.integers(2, max_labels))
    cuts = sorted(draw(st.sets(st.integers(1, 99), min_size=labels - 1, max_size=labels - 1)))
    threshold = draw(st.integers(55, 90)) / 100
    time_ms = draw(st.integers(1, 100))
    return Shape(
        features=tuple(draw(st.lists(st.sampled_from(types), min_size=min_features, max_size=max_features))),
        percentages=tuple(high - low for low, high in zip((0, *cuts), (*cuts, 100), strict=True)),
        outputs=draw(st.integers(1, max_outputs)),
        goals=draw(st.integers(1, max_goals)),
        post_processing=draw(st.booleans()) if post_processing is None else post_processing,
        accuracy=round(threshold + draw(st.integers(1, 9)) / 100, 2),
        threshold=threshold,
        baseline=round(threshold - draw(st.integers(0, 20)) / 100, 2),
        time_ms=time_ms,
        deadline_ms=time_ms + draw(st.integers(0, 100)),
        cpu=draw(st.integers(2, 32)),
        # So that rate x time uses at most half of one processor, whatever the declared limit of utilisation.
        rate=draw(st.integers(1, max(1, min(600, 30_000 // time_ms)))),
        n=100 * draw(st.integers(10, 500)),
        version=draw(st.sampled_from(("1", "7", "2026-09", "v2.1"))),
    )


def coherent_sets(**bounds: Any) -> st.SearchStrategy[Trees]:
    """Coherent sets; the bounds are those of `shapes`."""
    return shapes(**bounds).map(coherent)


def names(shape: Shape) -> list[tuple[str, FieldType]]:
    """The features by name: f0, f1, …"""
    return [(f"f{i}", kind) for i, kind in enumerate(shape.features)]


def labels(shape: Shape) -> list[tuple[str, int]]:
    """The labels and their percentages."""
    return [(str(i), percentage) for i, percentage in enumerate(shape.percentages)]


def goals(shape: Shape) -> list[str]:
    """The ids of the goals."""
    return [f"G{i + 1}" for i in range(shape.goals)]


def outputs(shape: Shape) -> list[str]:
    """The names of the outputs; the first is the label."""
    return ["answer", *(f"answer{i}" for i in range(1, shape.outputs))]


def system_context(shape: Shape) -> dict[str, Any]:
    """Goals, each shown by accuracy."""
    return {
        "version": "1.2",
        "task": "Tell the label of an application",
        "ml_problem_type": {"ml_problem": "Classification"},
        "goals": [
            {"id": goal, "goal": f"Fewer errors, {goal}", "metric": "Accuracy", "baseline": f"{shape.baseline}"}
            for goal in goals(shape)
        ],
        "available_data": "Applications",
        "usage_context": "Online",
        "data_rights_policies": "Consent given",
        "risks": {"risk_fp": "A default", "risk_fn": "A lost customer", "risk_other": "none"},
        "documentation": [],
        "bestbefore": {
            "window": "1 hour", "lateness": "5 minutes", "lead_time": "3 days", "cost_retrain": 1.0,
            "cost_degraded_per_day": 4.0, "false_alarms": "1 per 90 days", "owner": "lending",
        },
    }  # fmt: skip


def raw_data(shape: Shape) -> dict[str, Any]:
    """The fields as collected, with the label."""
    fields = [
        *((name, kind.tec, kind.expected) for name, kind in names(shape)),
        ("label", "Integer", label_values(shape)),
    ]
    return {
        "version": "1.2",
        "dataset_identifier": "raw",
        "dataset_version": "3",
        "dataset_name": "Applications",
        "dataset_description": "All applications",
        "data_sources": [{"data_source": "Enterprise Data", "other_source": ""}],
        "instance_type": "application",
        "number_of_instances": 2 * shape.n,
        "labels_distribution": [{"label": label, "percentage": share} for label, share in labels(shape)],
        "schema": [
            {
                "field_name": name, "field_description": name, "field_type": tec, "expected_values": expected,
                "interpret_missing": "never", "interpret_special": "none",
            }
            for name, tec, expected in fields
        ],
        "metadata": {"collection_date": "2026-08-01", "geographic_location": "EU", "timeframe": "2024-2025"},
        "restrictions": "none",
        "data_rights": "owned",
        "data_policies": "none",
        "anonymization": "names removed",
        "proxy_data": "none",
        "documentation": [],
    }  # fmt: skip


def label_values(shape: Shape) -> str:
    """The labels as a set of expected values: `0,1`."""
    return ",".join(label for label, _ in labels(shape))


def statistics(shape: Shape) -> list[dict[str, Any]]:
    """The same text on both sides, from what `feature` declares."""
    return [
        {"property": prop, "field": name, "value": str(feature(kind, shape)[key])}
        for name, kind in names(shape)
        if kind is not TEXT
        for prop, key in (("Mean", "mean"), ("Standard Deviation", "sd"))
    ]


def feature(kind: FieldType, shape: Shape) -> dict[str, Any]:
    """What was measured of a field: uniform over its range, or four categories."""
    found: dict[str, Any] = {"type": kind.measured, "n": shape.n, "missing": 0.0}
    if kind.unit:
        found["unit"] = kind.unit
    if kind is TEXT:
        return found | {"categories": {"N": 0.4, "S": 0.3, "E": 0.2, "W": 0.1}}
    low, high = kind.specification["min_value"], kind.specification["max_value"]
    return found | {
        "mean": (low + high) / 2,
        "sd": round((high - low) / 12**0.5, 3),
        "min": low,
        "max": high,
        "quantiles": {str(p): low + round(p * (high - low)) for p in (0.05, 0.25, 0.5, 0.75, 0.95)},
    }


def training_data(shape: Shape) -> dict[str, Any]:
    """The fields mapped to production, and what was measured of them and of the model's answers."""
    fields = [
        {
            "field_name": name, "label_field": False, "field_description": name, "field_type": kind.tec,
            "expected_values": kind.expected, "missing_values": "none", "mapping_production_data": name,
        }
        for name, kind in names(shape)
    ]  # fmt: skip
    label = {
        "field_name": "label", "label_field": True, "field_description": "the truth", "field_type": "Integer",
        "expected_values": label_values(shape), "missing_values": "none", "mapping_production_data": "",
    }  # fmt: skip
    return {
        "version": "1.2",
        "dataset_identifier": "train",
        "dataset_name": "Applications",
        "dataset_version": "3",
        "dataset_description": "Closed applications",
        "raw_data_identifier": "raw",
        "schema": [*fields, label],
        "statistics": statistics(shape),
        "distribution": [
            {"label": name, "percentage": share, "mapping_production_data": name} for name, share in labels(shape)
        ],
        "preparation_process": [],
        "preparation_code": "https://example.org/preparation",
        "documentation": [],
        "bestbefore": {
            "features": {name: feature(kind, shape) for name, kind in names(shape)},
            "classes": {name: share / 100 for name, share in labels(shape)},
            "confusion": confusion(shape),
            "calibration": {"temperature": 1.0, "accuracy": shape.accuracy, "n": shape.n},
        },
    }


def confusion(shape: Shape) -> dict[str, dict[str, float]]:
    """Counts by truth and prediction: `accuracy` of each class is right, the rest is spread over the others."""
    found = {}
    for truth, share in labels(shape):
        count = shape.n * share / 100
        wrong = count * (1 - shape.accuracy) / (len(shape.percentages) - 1)
        found[truth] = {name: round(count * shape.accuracy if name == truth else wrong, 6) for name, _ in labels(shape)}
    return found


def data_pipeline(shape: Shape) -> dict[str, Any]:
    """One input per feature, each mapped to the item of the form."""
    return {
        "version": "1.2",
        "pipeline_identifier": "pipeline",
        "pipeline_version": "4",
        "pipeline_description": "Scales and encodes",
        "input_spec": [
            {
                "item_name": name,
                "item_description": name,
                "item_type": kind.tec,
                "item_specification": dict(kind.specification),
                "error_handling": {"error_type": "Return none", "error_code_value": 0},
                "component_mapping": {"component": "form", "data_item": name},
            }
            for name, kind in names(shape)
        ],
        "test_cases": [],
        "pipeline_steps": [],
        "pipeline_code": "https://example.org/pipeline",
        "documentation": [],
    }


def output_items(shape: Shape) -> list[dict[str, Any]]:
    """The outputs, each mapped to the item of the decision."""
    return [
        {
            "item_name": name,
            "item_description": name,
            "item_type": "Integer",
            "item_specification": {"min_value": 0, "max_value": len(shape.percentages) - 1},
            "component_mapping": {"component": "decision", "data_item": name},
        }
        for name in outputs(shape)
    ]


def trained_model(shape: Shape) -> dict[str, Any]:
    """A model that is better than its threshold and needs less than there is."""
    items = output_items(shape)
    raw = [item | {"component_mapping": {"component": "", "data_item": ""}} for item in items]
    met = [{"metric": "Accuracy", "other_metric": "", "result": shape.accuracy}]
    limit = {"metric": "Accuracy", "operator": "greater or equal than", "threshold": shape.threshold}
    business = {"metric": "default rate", "operator": "less than", "threshold": 0.05, "goal_mapping": "G1"}
    steps = [{"step": "round", "detail": "to the nearest label"}]
    return {
        "version": "1.2",
        "model_name": "loan",
        "model_version": shape.version,
        "model_description": "Trees",
        "training_date": "2026-09-01",
        "ensemble": False,
        "model_components": [
            {"learning_algorithm": {"algorithm": "Other"}, "hyper_parameters": [], "programming_languages": ["Python"]}
        ],
        "model_composition_details": "",
        "ml_frameworks": ["scikit-learn"],
        "data_pipeline_identifier": "pipeline",
        "training_data_identifier": "train",
        "output_spec": raw if shape.post_processing else items,
        "final_output_spec": items if shape.post_processing else [],
        "post_processing": shape.post_processing,
        "post_processing_process": steps if shape.post_processing else [],
        "evaluation_metrics": met,
        "test_metrics": [dict(one) for one in met],
        "algorithm_metrics": [limit | {"goal_mapping": goal} for goal in goals(shape)],
        "business_metrics": [business],
        "user_system_feedback": [{"short_name": "override", "details": "a clerk decides otherwise"}],
        "log_data": [{"log": "inference", "log_data_format": "JSON", "history": "30 days"}],
        "data_buffering_reqs": "none",
        "model_output_interpretation": "The most probable label",
        "default_model_output": "0",
        "decisions_assumptions": [],
        "computing_resource_reqs": {"gpu": 0, "cpu": 1, "memory": 2, "storage": 1},
        "inference_time": {"time": shape.time_ms, "unit": "Milliseconds"},
        "system_dependencies": [],
        "model_training_code": "https://example.org/training",
        "trained_model_code": "https://example.org/model",
        "documentation": [],
        "bestbefore": {"minimum_n": 80},
    }


def development_environment(shape: Shape) -> dict[str, Any]:
    """The form that gives the features and the decision that takes the outputs."""
    given = [
        {"item_name": name, "item_description": name, "item_type": kind.tec, "expected_values": kind.expected}
        for name, kind in names(shape)
    ]
    taken = [
        {"item_name": name, "item_description": name, "item_type": "Integer", "expected_values": label_values(shape)}
        for name in outputs(shape)
    ]
    return {
        "version": "1.2",
        "programming_languages": ["Python"],
        "ml_frameworks": ["scikit-learn"],
        "upstream_components": [{"component_name": "form", "ml_component": False, "output_spec": given}],
        "downstream_components": [{"component_name": "decision", "ml_component": False, "input_spec": taken}],
        "milestones": [],
        "computing_resources": {"gpu": 0, "cpu": shape.cpu, "memory": 8, "storage": 20},
        "documentation": [],
    }


def production_environment(shape: Shape) -> dict[str, Any]:
    """Enough of everything, and an implementation of each metric, log and feedback."""
    return {
        "version": "1.2",
        "required_inference_time": {"time": shape.deadline_ms, "unit": "Milliseconds"},
        "computing_resources": {"gpu": 0, "cpu": shape.cpu, "memory": 8, "storage": 20},
        "deployment_platform": "Cloud",
        "deployment_mechanism": "API",
        "algorithm_metrics": [{"metric": "Accuracy", "implementation": "bestbefore"}],
        "business_metrics": [{"metric": "default rate", "implementation": "warehouse"}],
        "other_metrics": [],
        "user_system_feedback": [{"feedback": "override", "implementation": "Kafka"}],
        "model_logs": [{"log": "inference", "implementation": "Kafka"}],
        "other_logs": [],
        "documentation": [],
        "bestbefore": {"traffic": {shape.version: 1.0}},
    }


def production_data(shape: Shape) -> dict[str, Any]:
    """The same fields, statistics and distribution as in training."""
    return {
        "version": "1.2",
        "data_sources": "Application form",
        "data_rates": f"{shape.rate} per minute",
        "schema": [
            {"field_name": name, "field_description": name, "field_type": kind.tec, "expected_values": kind.expected}
            for name, kind in names(shape)
        ],
        "statistics": statistics(shape),
        "distribution": [{"label": name, "percentage": share} for name, share in labels(shape)],
        "documentation": [],
        "bestbefore": {
            "rate": {"mean": shape.rate / 2, "p99": shape.rate, "unit": "1/minute"},
            "labels": {"delay": "7 days", "share": 0.05, "source": "ground-truth"},
        },
    }
