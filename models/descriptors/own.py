"""What stands under the key `bestbefore` of each descriptor: numbers where TEC has prose. Strict about types.

Every key is optional, unknown keys are kept and not looked at, null is the same as absent. Shares are from 0 to 1,
durations are texts such as `3 days`, instants are RFC 3339 texts or dates.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=0)]
Amount = Annotated[float, Meta(ge=0)]
DetectorName = Annotated[str, Meta(pattern="^(adwin|page-hinkley|kswin)$")]
Duration = Annotated[str, Meta(title="duration")]
Instant = Annotated[str, Meta(title="instant")]
FeatureType = Annotated[str, Meta(examples=["number", "integer", "category", "text"])]


class Provenance(msgspec.Struct, kw_only=True):
    """Who or what said a fact, and on which date it was observed."""

    author: str | None = None
    tool: str | None = None
    observed: Instant | None = None


class Own(msgspec.Struct, kw_only=True):
    """What every descriptor may say of itself. `provenance` is by path inside the descriptor."""

    descriptor_id: str | None = None
    valid_from: Instant | None = None
    valid_to: Instant | None = None
    deployment_id: str | None = None
    provenance: dict[str, Provenance] | None = None
    confidence: float | str | None = None


class Latency(msgspec.Struct, kw_only=True):
    """A time with what it holds for: percentile (50 to 100), batch size, device."""

    percentile: Annotated[float, Meta(ge=50, le=100)] | None = None
    value: Amount | None = None
    unit: str | None = None
    batch: Count | None = None
    device: str | None = None


class Tensor(msgspec.Struct, kw_only=True):
    """A named array: dtype as numpy writes it; an open axis is -1 or a name."""

    name: str | None = None
    dtype: str | None = None
    shape: list[int | str] | None = None


class Signature(msgspec.Struct, kw_only=True):
    """What the model file takes and gives; `digest` is of the file it was read from."""

    inputs: list[Tensor] | None = None
    outputs: list[Tensor] | None = None
    digest: str | None = None


class Outputs(msgspec.Struct, kw_only=True):
    """Names of the tensors that are read."""

    scores: str | None = None
    embedding: str | None = None
    label: str | None = None


class GoldenRecord(msgspec.Struct, kw_only=True):
    """Inputs and the outputs they must give, within a relative tolerance."""

    inputs: dict[str, Any] | None = None
    outputs: dict[str, Any] | None = None
    tolerance: Amount | None = None


class SystemContextOwn(Own, kw_only=True):
    """How the system wants to be watched, what degradation costs, and who is asked."""

    window: Duration | None = None
    lateness: Duration | None = None
    lead_time: Duration | None = None
    retrain_every: Duration | None = None
    season: Duration | None = None
    forecaster: Literal["amortised", "kalman", "holt"] | None = None
    cost_retrain: Amount | None = None
    cost_degraded_per_day: Amount | None = None
    false_alarms: str | None = None
    detectors: list[DetectorName] | None = None
    owner: str | None = None
    owners: dict[str, str] | None = None
    checks: list[dict[str, Any]] | None = None
    public_fields: list[str] | None = None
    prior_tolerance: Share | None = None  # points by which a class share may move


class RawDataOwn(Own, kw_only=True):
    """Nothing beyond what every descriptor may say."""


class TrainedModelOwn(Own, kw_only=True):
    """The model file and what it must do."""

    digest: str | None = None
    file: str | None = None
    input: Tensor | None = None
    inputs: list[Tensor] | None = None
    outputs: Outputs | None = None
    signature: Signature | None = None
    opset: int | dict[str, int] | None = None
    ir_version: int | None = None
    producer: str | None = None
    golden_records: list[GoldenRecord] | None = None
    score_range: Annotated[list[float], Meta(min_length=2, max_length=2)] | None = None
    abstains: bool | None = None
    abstention_rate: Share | None = None
    minimum_n: Count | None = None
    max_age: Duration | None = None
    gpu_memory: Amount | None = None
    inference_time: Latency | str | None = None
    metric_polarity: dict[str, str] | None = None


class Lengths(msgspec.Struct, kw_only=True):
    """Characters of a text field."""

    min: Count | None = None
    max: Count | None = None


class Feature(msgspec.Struct, kw_only=True):
    """What was measured of one field of the training data. Values are in `unit`."""

    type: FeatureType | None = None
    unit: str | None = None
    n: Count | None = None
    mean: float | None = None
    sd: Amount | None = None
    min: float | None = None
    max: float | None = None
    missing: Share | None = None
    quantiles: dict[str, float] | None = None
    categories: dict[str, Share] | None = None
    other: Share | None = None
    special: dict[str, Share] | None = None
    lengths: Lengths | None = None
    channel: str | None = None


class Bin(msgspec.Struct, kw_only=True):
    """Confidence and accuracy of the held-out predictions with a confidence in [low, high)."""

    low: float | None = None
    high: float | None = None
    n: Count | None = None
    confidence: Share | None = None
    accuracy: Share | None = None


class CalibratedClasses(msgspec.Struct, kw_only=True):
    """Scores to probabilities: for two classes one table, of the second; else one per class.

    `residual` is the standard deviation of the estimated accuracy's error on parts of the hold-out, beyond sampling.
    """

    classes: list[str] | None = None
    knots: list[list[float]] | None = None
    values: list[list[Share]] | None = None
    residual: Amount | None = None
    n: Count | None = None


class CalibrationTable(msgspec.Struct, kw_only=True):
    """How confidence relates to accuracy on the hold-out."""

    temperature: Positive | None = None
    atc_threshold: float | None = None
    accuracy: Share | None = None
    n: Count | None = None
    bins: list[Bin] | None = None
    tables: CalibratedClasses | None = None


class EmbeddingClass(msgspec.Struct, kw_only=True):
    """Share of one predicted class, and of its distances over the bins of `distance_quantiles`."""

    share: Share | None = None
    distance_shares: list[Share] | None = None
    mean: list[float] | None = None  # of this class's embeddings; then shifts within a class show
    kernel: list[float] | None = None  # mean of the random features


class Kernel(msgspec.Struct, kw_only=True):
    """Mean and spread of random Fourier features of the embeddings. `traces`: of the first powers of the covariance."""

    features: Count | None = None
    seed: Count | None = None
    bandwidth: Positive | None = None
    mean: list[float] | None = None
    traces: list[Amount] | None = None
    tolerance: Amount | None = None
    support: float | None = None


class Embedding(msgspec.Struct, kw_only=True):
    """The embeddings of the training data in short; `digest` is of the model that made them."""

    mean: list[float] | None = None
    sd: list[Amount] | None = None
    n: Count | None = None
    distance_quantiles: dict[str, float] | None = None
    classes: dict[str, EmbeddingClass] | None = None
    kernel: Kernel | None = None
    digest: str | None = None


class Estimator(msgspec.Struct, kw_only=True):
    """The estimator of quality without labels, as `bestbefore induce` writes it; `model` is the model file's digest."""

    file: str | None = None
    digest: str | None = None
    model: str | None = None
    n: Count | None = None
    families: list[str] | None = None
    level: Share | None = None
    error: Share | None = None
    coverage: Share | None = None
    width: Share | None = None


class TrainingDataOwn(Own, kw_only=True):
    """What the data and the model's answers on the hold-out were like. `confusion` is truth -> predicted -> count."""

    features: dict[str, Feature] | None = None
    classes: dict[str, Share] | None = None
    confusion: dict[str, dict[str, Amount]] | None = None
    calibration: CalibrationTable | None = None
    embedding: Embedding | None = None
    quality_estimator: Estimator | None = None
    abstention_rate: Share | None = None


class Normalise(msgspec.Struct, kw_only=True):
    """Mean and sd that are taken off and divided by, per channel or for all."""

    mean: float | list[float] | None = None
    sd: float | list[float] | None = None


class Preprocessing(msgspec.Struct, kw_only=True):
    """What happens to an image before the model sees it."""

    resize: int | list[int] | str | None = None
    normalise: Normalise | None = None
    channel_order: str | None = None


class Tolerance(msgspec.Struct, kw_only=True):
    """How far a recomputed embedding may be from the served one, and the share that may be farther."""

    relative_error: Amount | None = None
    cosine: float | None = None
    share: Share | None = None


class DataPipelineOwn(Own, kw_only=True):
    """The pipeline as data."""

    digest: str | None = None
    preprocessing: Preprocessing | None = None
    tolerance: Tolerance | None = None


class DevelopmentEnvironmentOwn(Own, kw_only=True):
    """Nothing beyond what every descriptor may say."""


class ProductionEnvironmentOwn(Own, kw_only=True):
    """What serves the model. `traffic` is by model version, `runtimes` by package."""

    latency: Latency | str | None = None
    traffic: dict[str, Share] | None = None
    providers: list[str] | None = None
    gpu_memory: Amount | None = None
    runtimes: dict[str, str] | None = None
    error_rate: Share | None = None
    expected_error_rate: Share | None = None  # of which some must show up, or errors are not logged
    coverage: dict[str, Share] | None = None
    utilisation: Share | None = None
    sampling: Any = None


class Rate(msgspec.Struct, kw_only=True):
    """Events per time, such as 100 and 400 `1/minute`."""

    mean: Amount | None = None
    p99: Amount | None = None
    unit: str | None = None


class SegmentShare(msgspec.Struct, kw_only=True):
    """What part of the traffic a segment is."""

    segment: dict[str, str]
    share: Share


class LabelBudget(msgspec.Struct, kw_only=True):
    """How many labels are asked for: a `share` of events, or `per_day` of them at the declared rate.

    `uniform` of it is spread evenly; `segments` with their shares of traffic get labels by the root of their size.
    """

    share: Share | None = None
    per_day: Amount | None = None
    uniform: Share | None = None
    segments: list[SegmentShare] | None = None


class Labels(msgspec.Struct, kw_only=True):
    """When labels come, for which share of events, from whom, and how many may be asked for.

    `missing` says of labels that were asked for and never come whether they are missing at `random`.
    """

    delay: Duration | None = None
    share: Share | None = None
    source: str | None = None
    budget: LabelBudget | None = None
    missing: str | None = None


class ProductionDataOwn(Own, kw_only=True):
    """How data arrives. `window_size` counts the events that are delivered together."""

    rate: Rate | str | None = None
    burst: Any = None
    window_size: Count | None = None
    lateness: Duration | None = None
    labels: Labels | None = None
    timezone: str | None = None
