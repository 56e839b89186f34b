"""The eight descriptors of TEC, schema 1.2, as types: names of people's facts, each of them optional.

Source: Software Engineering Institute, machine learning mismatch descriptors 1.2 (BSD).
"""

from models.descriptors.own import (
    DataPipelineOwn,
    DevelopmentEnvironmentOwn,
    ProductionDataOwn,
    ProductionEnvironmentOwn,
    RawDataOwn,
    SystemContextOwn,
    TrainedModelOwn,
    TrainingDataOwn,
)  # fmt: skip
from models.descriptors.parts import (
    Component,
    DataSource,
    Documentation,
    EvaluationDataset,
    Feedback,
    Field,
    Flag,
    Goal,
    Item,
    LabelShare,
    Log,
    Metadata,
    Metric,
    MetricLimit,
    MetricResult,
    Milestone,
    MlProblem,
    ModelComponent,
    Number,
    Part,
    PipelineTest,
    Processing,
    Resources,
    Risks,
    Statistic,
    Step,
    TestDataset,
    Text,
    TextOrNumber,
    TimeLimit,
)  # fmt: skip


class SystemContext(Part):
    """Why the model exists. From system owners, for all."""

    version: TextOrNumber = None
    task: Text = None
    ml_problem_type: MlProblem | None = None
    goals: list[Goal] | None = None
    available_data: Text = None
    usage_context: Text = None
    data_rights_policies: Text = None
    risks: Risks | None = None
    documentation: list[Documentation] | None = None
    bestbefore: SystemContextOwn | None = None


class RawData(Part):
    """The data as collected. From data owners, for data engineers and model developers."""

    version: TextOrNumber = None
    dataset_identifier: Text = None
    dataset_version: Text = None
    dataset_name: Text = None
    dataset_description: Text = None
    data_sources: list[DataSource] | None = None
    instance_type: Text = None
    number_of_instances: Number = None
    labels_distribution: list[LabelShare] | None = None
    schema: list[Field] | None = None
    metadata: Metadata | None = None
    restrictions: Text = None
    data_rights: Text = None
    data_policies: Text = None
    anonymization: Text = None
    proxy_data: Text = None
    documentation: list[Documentation] | None = None
    bestbefore: RawDataOwn | None = None


class TrainingData(Part):
    """What the model was trained on. From model developers, for evaluators and integrators."""

    version: TextOrNumber = None
    dataset_identifier: Text = None
    dataset_name: Text = None
    dataset_version: Text = None
    dataset_description: Text = None
    raw_data_identifier: Text = None
    schema: list[Field] | None = None
    statistics: list[Statistic] | None = None
    distribution: list[LabelShare] | None = None
    preparation_process: list[Processing] | None = None
    preparation_code: Text = None
    documentation: list[Documentation] | None = None
    bestbefore: TrainingDataOwn | None = None


class DataPipeline(Part):
    """What happens between the data and the model. From data engineers, for developers, integrators, operations."""

    version: TextOrNumber = None
    pipeline_identifier: Text = None
    pipeline_version: Text = None
    pipeline_description: Text = None
    input_spec: list[Item] | None = None
    test_cases: list[PipelineTest] | None = None
    pipeline_steps: list[Step] | None = None
    pipeline_code: Text = None
    documentation: list[Documentation] | None = None
    bestbefore: DataPipelineOwn | None = None


class TrainedModel(Part):
    """The model. From model developers, for testers, software engineers, integrators and operations."""

    version: TextOrNumber = None
    model_name: Text = None
    model_version: Text = None
    model_description: Text = None
    training_date: Text = None
    ensemble: Flag = None
    model_components: list[ModelComponent] | None = None
    model_composition_details: Text = None
    ml_frameworks: list[str] | None = None
    data_pipeline_identifier: Text = None
    training_data_identifier: Text = None
    output_spec: list[Item] | None = None
    final_output_spec: list[Item] | None = None
    post_processing: Flag = None
    post_processing_process: list[Step | str] | None = None
    evaluation_dataset: EvaluationDataset | None = None
    evaluation_metrics: list[MetricResult] | None = None
    test_metrics: list[MetricResult] | None = None
    test_dataset: TestDataset | None = None
    integration_test_dataset: TestDataset | None = None
    model_output_interpretation: Text = None
    default_model_output: TextOrNumber = None
    algorithm_metrics: list[MetricLimit] | None = None
    business_metrics: list[MetricLimit] | None = None
    user_system_feedback: list[Feedback] | None = None
    log_data: list[Log] | None = None
    data_buffering_reqs: Text = None
    decisions_assumptions: list[str] | None = None
    computing_resource_reqs: Resources | None = None
    inference_time: TimeLimit | None = None
    system_dependencies: list[str] | None = None
    model_training_code: Text = None
    trained_model_code: Text = None
    documentation: list[Documentation] | None = None
    bestbefore: TrainedModelOwn | None = None


class DevelopmentEnvironment(Part):
    """Where the model is integrated. From software engineers, for data engineers and model developers."""

    version: TextOrNumber = None
    programming_languages: list[str] | None = None
    ml_frameworks: list[str] | None = None
    upstream_components: list[Component] | None = None
    downstream_components: list[Component] | None = None
    milestones: list[Milestone] | None = None
    computing_resources: Resources | None = None
    documentation: list[Documentation] | None = None
    bestbefore: DevelopmentEnvironmentOwn | None = None


class ProductionEnvironment(Part):
    """Where the model serves. From operations, for data engineers, developers and software engineers."""

    version: TextOrNumber = None
    required_inference_time: TimeLimit | None = None
    computing_resources: Resources | None = None
    deployment_platform: Text = None
    deployment_mechanism: Text = None
    algorithm_metrics: list[Metric] | None = None
    business_metrics: list[Metric] | None = None
    other_metrics: list[Metric] | None = None
    user_system_feedback: list[Feedback] | None = None
    model_logs: list[Log] | None = None
    other_logs: list[Log] | None = None
    documentation: list[Documentation] | None = None
    bestbefore: ProductionEnvironmentOwn | None = None


class ProductionData(Part):
    """What arrives in production. From system owners and operations, for data engineers and developers."""

    version: TextOrNumber = None
    data_sources: Text = None
    data_rates: Text = None
    schema: list[Field] | None = None
    statistics: list[Statistic] | None = None
    distribution: list[LabelShare] | None = None
    documentation: list[Documentation] | None = None
    bestbefore: ProductionDataOwn | None = None


Typed = (
    SystemContext | RawData | TrainingData | DataPipeline | TrainedModel | DevelopmentEnvironment
    | ProductionEnvironment | ProductionData
)  # fmt: skip
TYPES: dict[str, type[Typed]] = {
    "system_context": SystemContext,
    "raw_data": RawData,
    "training_data": TrainingData,
    "data_pipeline": DataPipeline,
    "trained_model": TrainedModel,
    "development_environment": DevelopmentEnvironment,
    "production_environment": ProductionEnvironment,
    "production_data": ProductionData,
}
