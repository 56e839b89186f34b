"""Parts of TEC's descriptors, schema 1.2, as types; every attribute is optional.

Where TEC has a list of allowed texts it is given as `examples`: another text is kept and noted, not refused, because
its schema, its forms and its database do not agree on them. What TEC calls whole (times, memory) may be a fraction.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

Text = str | None
Number = float | None
TextOrNumber = float | str | None
Flag = bool | None

Problem = Annotated[str, Meta(examples=["Alert", "Benchmarking", "Classification", "Clustering", "Content Generation", "Detection", "Forecasting", "Goals", "Summarization", "Trend", "Other"])]  # fmt: skip  # noqa: E501
Source = Annotated[str, Meta(examples=["Enterprise Data", "Public Data Source", "Synthetic Data", "Simulated Data", "Other"])]  # fmt: skip  # noqa: E501
ItemType = Annotated[str, Meta(examples=["Integer", "Float", "String", "Image", "Other", "Text", "Character"])]
ErrorType = Annotated[str, Meta(examples=["Log to console", "Log to file", "Return error code", "Return none"])]
MetricName = Annotated[str, Meta(examples=["Accuracy", "False Positive Rate", "False Negative Rate", "PPV", "NPV", "F1 Score", "Other"])]  # fmt: skip  # noqa: E501
Operator = Annotated[str, Meta(examples=["greater than", "greater or equal than", "less than", "less or equal than", "equal to", "different than"])]  # fmt: skip  # noqa: E501
TimeUnit = Annotated[str, Meta(examples=["Milliseconds", "Seconds", "Minutes", "Hours"])]
Percentage = Annotated[float, Meta(ge=0, le=100)] | None


class Part(msgspec.Struct, kw_only=True):
    """A part of a descriptor."""


class Documentation(Part):
    """Where more is written."""

    description: Text = None
    location: Text = None


class MlProblem(Part):
    """What kind of problem the model solves."""

    ml_problem: Problem | None = None
    other_problem: Text = None


class Goal(Part):
    """A goal of the system, the metric that shows it, and where it stands without the model."""

    id: Text = None
    goal: Text = None
    metric: Text = None
    baseline: TextOrNumber = None


class Risks(Part):
    """What a false positive, a false negative and anything else costs."""

    risk_fp: Text = None
    risk_fn: Text = None
    risk_other: Text = None


class DataSource(Part):
    """Where data comes from."""

    data_source: Source | None = None
    other_source: Text = None


class LabelShare(Part):
    """A label and its share in percent."""

    label: Text = None
    percentage: Percentage = None
    mapping_production_data: Text = None


class Field(Part):
    """One field of a data set. Raw, training and production data each use a part of this."""

    field_name: Text = None
    field_description: Text = None
    field_type: Text = None
    expected_values: TextOrNumber = None
    interpret_missing: Text = None
    interpret_special: Text = None
    label_field: Flag = None
    missing_values: Text = None
    mapping_production_data: Text = None


class Metadata(Part):
    """When and where the data was collected."""

    collection_date: Text = None
    geographic_location: Text = None
    timeframe: Text = None
    known_issues: Text = None


class Statistic(Part):
    """One statistic of one field; TEC writes its value as text."""

    property: Text = None
    field: Text = None
    value: TextOrNumber = None


class Processing(Part):
    """One step of preparing the data."""

    data_processing_step: Text = None
    data_processing_detail: Text = None


class ItemSpecification(Part):
    """Bounds of an item: a range, an image size, or lengths and allowed characters of a text."""

    other_value: Text = None
    min_value: Number = None
    max_value: Number = None
    resolution_x: Number = None
    resolution_y: Number = None
    channels: Number = None
    image_format: Annotated[str, Meta(examples=["JPG", "PNG"])] | None = None
    min_length: Number = None
    max_length: Number = None
    empty: Flag = None
    numeric: Flag = None
    slashes: Flag = None
    spaces: Flag = None
    special: Flag = None


class ErrorHandling(Part):
    """What is done with a bad item."""

    error_type: ErrorType | None = None
    error_code_value: Number = None


class ComponentMapping(Part):
    """Which item of which component this one is."""

    component: Text = None
    data_item: Text = None


class Item(Part):
    """One input of the pipeline or one output of the model."""

    item_name: Text = None
    item_description: Text = None
    item_type: ItemType | None = None
    item_specification: ItemSpecification | None = None
    error_handling: ErrorHandling | None = None
    component_mapping: ComponentMapping | None = None


class PipelineTest(Part):
    """A test case of the pipeline."""

    test_case_name: Text = None
    tested_property: Text = None
    file: Text = None


class Step(Part):
    """A named step and what it does."""

    step: Text = None
    detail: Text = None


class LearningAlgorithm(Part):
    """The algorithm, by TEC's name or another."""

    algorithm: Text = None
    other_algorithm: Text = None


class HyperParameter(Part):
    """A hyper-parameter and its value."""

    parameter_name: Text = None
    parameter_value: TextOrNumber = None


class ModelComponent(Part):
    """One model of an ensemble, or the only one."""

    learning_algorithm: LearningAlgorithm | None = None
    hyper_parameters: list[HyperParameter] | None = None
    programming_languages: list[str] | None = None


class EvaluationDataset(Part):
    """What the model was evaluated on."""

    name: Text = None
    holdout_percentage: Number = None
    seed: TextOrNumber = None
    algorithm: Text = None
    file: Text = None


class TestDataset(Part):
    """A data set for tests and what they gave."""

    name: Text = None
    test_results: Text = None
    file: Text = None


class MetricResult(Part):
    """A metric and what was measured."""

    metric: MetricName | None = None
    other_metric: Text = None
    result: Number = None


class MetricLimit(Part):
    """A metric, and the threshold at which somebody is to be told."""

    metric: Text = None
    operator: Operator | None = None
    threshold: Number = None
    goal_mapping: Text = None


class Feedback(Part):
    """What users or systems report back. The production environment names how (`implementation`)."""

    short_name: Text = None
    details: Text = None
    feedback: Text = None
    implementation: Text = None


class Log(Part):
    """What is logged, in which form, for how long; in production: how (`implementation`)."""

    log: Text = None
    log_data_format: Text = None
    history: Text = None
    implementation: Text = None


class Resources(Part):
    """Processors by number, memory and storage in GB."""

    gpu: Number = None
    cpu: Number = None
    memory: Number = None
    storage: Number = None


class TimeLimit(Part):
    """A time of inference."""

    time: Number = None
    unit: TimeUnit | None = None


class ComponentItem(Part):
    """What a neighbouring component gives or takes."""

    item_name: Text = None
    item_description: Text = None
    item_type: Text = None
    expected_values: TextOrNumber = None


class Component(Part):
    """A component before (`output_spec`) or after (`input_spec`) the model."""

    component_name: Text = None
    output_spec: list[ComponentItem] | None = None
    input_spec: list[ComponentItem] | None = None
    ml_component: Flag = None


class Milestone(Part):
    """What is to be ready when."""

    milestone: Text = None
    milestone_date: Text = None


class Metric(Part):
    """A metric and how production computes it."""

    metric: Text = None
    implementation: Text = None
