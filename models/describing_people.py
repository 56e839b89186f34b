"""What only people can say: facts that no event holds, with the reason to say them and a line to start from."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from models.descriptors.paths import Trees, entries_at, items_at, join, value_at


class Left(NamedTuple):
    """A fact that is left for people to write: where, what it is for, and an example of the line."""

    path: str
    why: str
    example: str


# Each line is an example of the form, never a value to be taken over.
_ASKED = (  # what a forecast rests on comes first
    Left(
        "trained_model.algorithm_metrics",
        "the threshold that the forecast is about; without it there is none",
        "algorithm_metrics: [{metric: Accuracy, operator: greater or equal than, threshold: 0.85}]",
    ),
    Left("system_context.bestbefore.window", "how much traffic is judged together", "window: 1 day"),
    Left(
        "system_context.bestbefore.lead_time",
        "how long a retraining takes: it is asked for that early",
        "lead_time: 7 days",
    ),
    Left("system_context.bestbefore.owner", "who is told", "owner: digits-team@example.org"),
    Left("system_context.task", "says what the model is for", "task: Read one handwritten digit"),
    Left(
        "system_context.goals",
        "what the metrics are measured for",
        "goals: [{id: G1, goal: Fewer misread digits, metric: accuracy, baseline: '0.80'}]",
    ),
    Left(
        "system_context.risks",
        "what a wrong answer does; sets severities",
        "risks: {risk_fp: A wrong digit is booked, risk_fn: A digit is missed, risk_other: none}",
    ),
    Left("system_context.bestbefore.cost_retrain", "weighed against a degraded model", "cost_retrain: 1.0"),
    Left("system_context.bestbefore.cost_degraded_per_day", "weighed against retraining", "cost_degraded_per_day: 0.5"),
    Left(
        "trained_model.decisions_assumptions",
        "what must stay true for the model to be right",
        "decisions_assumptions: [Images show one digit each]",
    ),
    Left("trained_model.default_model_output", "tells a default from an answer", "default_model_output: 'none'"),
    Left("trained_model.training_date", "tells how old the model is", "training_date: '2026-11-20'"),
    Left(
        "raw_data.schema",
        "what missing and special values mean",
        "schema: [{field_name: income, interpret_missing: not stated, interpret_special: '-1 is refused'}]",
    ),
    Left(
        "production_environment.required_inference_time",
        "the limit of latency",
        "required_inference_time: {time: 50, unit: Milliseconds}",
    ),
    Left(
        "production_environment.bestbefore.latency",
        "the limit of latency with its percentile",
        "latency: {percentile: 99, value: 50, unit: ms}",
    ),
    Left(
        "production_environment.computing_resources",
        "what the model may use",
        "computing_resources: {gpu: 0, cpu: 2, memory: 4, storage: 10}",
    ),
)
_NAMES = (
    Left("trained_model.model_name", "which events are about this model", "model_name: digits"),
    Left("trained_model.model_version", "which events are about this version", "model_version: '1'"),
)


def left_for_people(trees: Trees, inputs: bool) -> list[Left]:
    """Facts absent from `trees` that no measurement gives; `inputs`: whether inputs were sampled."""
    asked = (*_ASKED, *(_NAMES if not value_at(trees, "trained_model.model_name") else ()))
    found = [_seen(item, trees) for item in asked if value_at(trees, item.path) in (None, "", [], {})]
    rules: tuple[Callable[[Trees], Iterator[Left]], ...] = (_units, _ranges, _residuals)
    found += [item for rule in rules for item in rule(trees)]
    if inputs and not value_at(trees, "trained_model.bestbefore.outputs.embedding"):
        why = "which tensor of the ONNX file is the embedding; without it inputs are not compared"
        found.append(Left("trained_model.bestbefore.outputs.embedding", why, "outputs: {embedding: dense_2}"))
    return found


def _seen(item: Left, trees: Trees) -> Left:
    """The item, with the figure that was measured of it."""
    if item.path.endswith("bestbefore.latency"):
        noted = (value_at(trees, "production_environment.bestbefore.provenance") or {}).get("bestbefore.latency") or {}
        if "p99" in noted:
            return item._replace(why=f"{item.why}; observed p99 {noted['p99']:g} ms")
    accuracy = value_at(trees, "training_data.bestbefore.calibration.accuracy")
    if item.path.endswith("algorithm_metrics") and isinstance(accuracy, int | float):
        return item._replace(why=f"{item.why}; measured accuracy {accuracy:g}")
    return item


def _features(trees: Trees) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, name, section in entries_at(trees, "training_data.bestbefore.features"):
        if isinstance(section, dict) and section.get("type") in ("number", "integer"):
            yield path, name, section


def _units(trees: Trees) -> Iterator[Left]:
    for path, _, section in _features(trees):
        if not section.get("unit"):
            yield Left(join(path, "unit"), "tells a change of unit from a change of the world", "unit: EUR")


def _ranges(trees: Trees) -> Iterator[Left]:
    features = {name: section for _, name, section in _features(trees)}
    for path, row in items_at(trees, "production_data.schema"):
        if row.get("expected_values"):
            continue
        section = features.get(str(row.get("field_name"))) or {}
        seen = f"; observed {section['min']:g} to {section['max']:g}" if "min" in section and "max" in section else ""
        yield Left(f"{path}.expected_values", f"which values are allowed{seen}", 'expected_values: "0..100"')


def _residuals(trees: Trees) -> Iterator[Left]:
    known = value_at(trees, "training_data.bestbefore.calibration")
    if isinstance(known, dict) and not known.get("residuals"):
        yield Left(
            "training_data.bestbefore.calibration.residuals",
            "bounds of the label-free estimate, from drift induced on the model; without them quality needs labels",
            "residuals: {low: -1.2, high: 0.8, level: 0.9, families: [blur, noise]}",
        )
