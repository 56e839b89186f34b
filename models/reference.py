"""What a model was accepted on, compiled from its descriptors into what the workers need.

The descriptors are for people; a `Reference` is the same facts as numbers: the window, the threshold,
the histograms of the training data on a fixed quantile grid, the calibration, the embedding profile.
"""

from collections.abc import Mapping
from typing import Any, Literal, get_args

import msgspec
import numpy as np

from models.class_tables import ClassTables, from_descriptor
from models.descriptors.paths import items_at
from models.domains import Domain, domains
from models.label_sampling import Plan, registered_plan
from models.quality import Calibration
from models.quality_estimator import QualityEstimator
from models.quantities import converted, number_of
from models.random_features import KernelReference, compiled
from models.units import DAY_US, duration_us

# Reference grid of a numeric feature nobody described: powers of sixteen on both sides of zero.
_POWERS = [2.0**k for k in range(-16, 33, 4)]
GENERIC_EDGES: tuple[float, ...] = (*(-p for p in reversed(_POWERS)), 0.0, *_POWERS)
ForecasterName = Literal["amortised", "kalman", "holt"]
FORECASTERS: tuple[ForecasterName, ...] = get_args(ForecasterName)
NUMBERS = ("number", "integer")
_KINDS = {"number": "number", "integer": "integer", "category": "text", "text": "text"}  # of measured features


class NumericFeature(msgspec.Struct, frozen=True):
    """A numeric field: `shares[i]` of the reference lies in (edges[i-1], edges[i]], open at both ends."""

    edges: tuple[float, ...] = GENERIC_EDGES
    shares: tuple[float, ...] = ()
    mean: float = 0.0
    sd: float = 1.0
    n: int = 0
    unit: str = ""
    missing: float = 0.0
    low: float | None = None  # allowed range; None is open
    high: float | None = None
    integer: bool = False
    special: dict[str, float] = {}  # declared share of values that stand for something else, such as "-1"
    channel: str = ""  # features of one channel group have the same meaning at another place: r, g, b


class CategoricalFeature(msgspec.Struct, frozen=True):
    """A categorical field and the share of each declared category."""

    shares: dict[str, float] = {}
    n: int = 0
    missing: float = 0.0
    allowed: tuple[str, ...] = ()  # empty: any value
    min_length: int | None = None  # in characters
    max_length: int | None = None
    special: dict[str, float] = {}


class EmbeddingReference(msgspec.Struct, frozen=True):
    """Mean and sd per dimension of the reference embeddings, and the distribution of their distances.

    The distance of one embedding is sqrt(mean(((e - mean) / scale)^2)), scale = sd floored at a thousandth
    of the largest sd: a diagonal Mahalanobis distance per dimension, without unit.
    """

    mean: tuple[float, ...]
    sd: tuple[float, ...]
    n: int
    edges: tuple[float, ...]
    shares: tuple[float, ...]
    # Per predicted class: its share, and the shares of its distances over the same bins.
    classes: dict[str, tuple[float, tuple[float, ...]]] = {}
    kernel: KernelReference | None = None


class ModelFile(msgspec.Struct, frozen=True):
    """Where the ONNX file of this version is, what it must hash to, and which tensors are read."""

    path: str
    sha256: str
    embedding: str
    scores: str = ""


class LabelTerms(msgspec.Struct, frozen=True):
    """What was agreed about labels: when all have come, for which share of events, and for which they are asked."""

    delay_us: int | None = None
    share: float | None = None
    plan: Plan | None = None
    missing_at_random: bool = False


class Reference(msgspec.Struct, frozen=True):
    """Everything the workers know about one model version. `registered` False means: nobody described it."""

    model: str
    version: str
    registered: bool = True
    digest: str = ""
    window_us: int = DAY_US // 24
    lateness_us: int = DAY_US // 288
    lead_time_us: int = 3 * DAY_US
    season_us: int = 0  # declared season of the traffic; 0: none
    forecaster: ForecasterName = "amortised"
    metric: str = "accuracy"  # as declared; only accuracy is assessed, so only its threshold is kept
    threshold: float | None = None
    cost_retrain: float = 1.0
    cost_degraded_per_day: float = 1.0
    retrain_every_us: int | None = None  # the calendar by which it would be retrained
    minimum_n: int = 50
    owner: str = ""
    numeric: dict[str, NumericFeature] = {}
    categorical: dict[str, CategoricalFeature] = {}
    classes: dict[str, float] = {}
    confusion: dict[str, dict[str, float]] = {}
    n: int = 0
    calibration: Calibration | None = None
    tables: ClassTables | None = None  # of a classifier
    embedding: EmbeddingReference | None = None
    quality_estimator: QualityEstimator | None = None
    file: ModelFile | None = None
    latency_limit_ms: float | None = None
    labels: LabelTerms = LabelTerms()
    descriptors: dict[str, dict[str, Any]] = {}  # as declared, for the checks; by kind


def unregistered(model: str, version: str, *, window_us: int, lateness_us: int) -> Reference:
    """The stand-in for a model nobody described: its traffic is counted, nothing is promised about it."""
    return Reference(
        model=model, version=version, registered=False, window_us=window_us, lateness_us=lateness_us, minimum_n=1
    )


def compile_reference(descriptors: Mapping[str, Mapping[str, Any]], digest: str = "") -> Reference:
    """A Reference from the eight descriptors, keyed by kind (`trained_model`, `training_data`, …).

    Absent facts stay unknown. Raises ValueError naming the descriptor and the field that cannot be read.
    """
    model = descriptors.get("trained_model", {})
    name, version = str(model.get("model_name") or ""), str(model.get("model_version") or "")
    if not name or not version:
        raise ValueError("trained_model: model_name and model_version are needed to tell which events it describes")
    system = _own(descriptors, "system_context")
    data = _own(descriptors, "training_data")
    features = _section(data, "features", "training_data.bestbefore.features")
    metric = _quality_metric(model)
    fields = _fields(descriptors, features)
    return Reference(
        model=name,
        version=version,
        digest=digest,
        window_us=_duration(system, "window", DAY_US // 24),
        lateness_us=_duration(system, "lateness", DAY_US // 288),
        lead_time_us=_duration(system, "lead_time", 3 * DAY_US),
        season_us=_duration(system, "season", 0),
        forecaster=_forecaster(system),
        metric=_metric_name(metric),
        threshold=_fraction(metric.get("threshold")) if _metric_name(metric) == "accuracy" else None,
        cost_retrain=float(system.get("cost_retrain", 1.0)),
        cost_degraded_per_day=float(system.get("cost_degraded_per_day", 1.0)),
        retrain_every_us=_duration(system, "retrain_every", 0) or None,
        minimum_n=int(_own(descriptors, "trained_model").get("minimum_n", 50)),
        owner=str(system.get("owner", "")),
        numeric={k: _numeric(k, features.get(k, {}), domain) for k, domain in fields.items() if domain.kind in NUMBERS},
        categorical={
            k: _categorical(features.get(k, {}), domain) for k, domain in fields.items() if domain.kind == "text"
        },
        classes={str(k): float(v) for k, v in (data.get("classes") or {}).items()},
        confusion={
            str(t): {str(p): float(c) for p, c in row.items()} for t, row in (data.get("confusion") or {}).items()
        },
        n=int((data.get("calibration") or {}).get("n", 0)),
        calibration=Calibration.from_descriptor(data["calibration"]) if data.get("calibration") else None,
        tables=from_descriptor(tables) if (tables := (data.get("calibration") or {}).get("tables")) else None,
        embedding=_embedding(data["embedding"]) if (data.get("embedding") or {}).get("mean") else None,
        quality_estimator=_quality_estimator(data),
        file=_file(_own(descriptors, "trained_model")),
        latency_limit_ms=_latency_limit(descriptors),
        labels=_labels(_own(descriptors, "production_data"), data),
        descriptors={kind: dict(tree) for kind, tree in descriptors.items()},
    )


def _quality_estimator(data: Mapping[str, Any]) -> QualityEstimator | None:
    section = _section(data, "quality_estimator", "training_data.bestbefore.quality_estimator")
    return QualityEstimator.from_descriptor(section) if section else None


def _latency_limit(descriptors: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Milliseconds from which an answer counts as slow: the declared latency, else the required inference time."""
    environment = descriptors.get("production_environment", {})
    latency = _own(descriptors, "production_environment").get("latency")
    required = environment.get("required_inference_time") or {}
    for found in (number_of(latency), number_of({"value": required.get("time"), "unit": required.get("unit", "ms")})):
        if found is not None:
            return converted(found[0], found[1] or "ms", "ms")
    return None


def _labels(production: Mapping[str, Any], training: Mapping[str, Any]) -> LabelTerms:
    path = "production_data.bestbefore.labels"
    section = _section(production, "labels", path)
    try:
        delay = duration_us(section["delay"]) if section.get("delay") is not None else None
    except ValueError as error:
        raise ValueError(f"{path}.delay: {error}") from None
    missing = section.get("missing", "unknown")
    if missing not in ("random", "unknown"):
        raise ValueError(f"{path}.missing: is {missing!r}; say random (labels are lost by chance) or unknown")
    accuracy = (training.get("calibration") or {}).get("accuracy")
    budget = section.get("budget")
    return LabelTerms(
        delay_us=delay,
        share=None if section.get("share") is None else float(section["share"]),
        plan=registered_plan(budget, accuracy=accuracy, rate=production.get("rate")) if budget else None,
        missing_at_random=missing == "random",
    )


def _fields(descriptors: Mapping[str, Mapping[str, Any]], features: Mapping[str, Any]) -> dict[str, Domain]:
    """Every field that somebody described, with its kind: measured ones by what was measured, others by their type."""
    found = domains(descriptors)
    labels = {
        str(field.get("field_name")) for _, field in items_at(descriptors, "training_data.schema")
        if field.get("label_field")
    }  # fmt: skip
    for name, section in features.items():
        if not isinstance(section, Mapping):
            raise ValueError(
                f"training_data.bestbefore.features.{name}: expected keys and values, found {type(section).__name__}"
            )
        kind = _KINDS.get(str(section.get("type")), "other")
        known = found.get(name, Domain())
        integer = kind == "number" and known.kind == "integer"
        found[name] = msgspec.structs.replace(known, kind="integer" if integer else kind)
    return {name: domain for name, domain in found.items() if name in features or name not in labels}


def _own(descriptors: Mapping[str, Mapping[str, Any]], kind: str) -> Mapping[str, Any]:
    return _section(descriptors.get(kind, {}), "bestbefore", f"{kind}.bestbefore")


def _section(parent: Mapping[str, Any], key: str, path: str) -> Mapping[str, Any]:
    value = parent.get(key) or {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{path}: expected keys and values, found {type(value).__name__}")
    return value


def _duration(section: Mapping[str, Any], key: str, default: int) -> int:
    if key not in section:
        return default
    try:
        value = duration_us(section[key])
    except ValueError as error:
        raise ValueError(f"system_context.bestbefore.{key}: {error}") from None
    if value <= 0 and key != "lateness":
        raise ValueError(f"system_context.bestbefore.{key}: must be longer than zero, is {section[key]!r}")
    return value


def _forecaster(section: Mapping[str, Any]) -> ForecasterName:
    declared = section.get("forecaster", "amortised")
    for name in FORECASTERS:
        if declared == name:
            return name
    raise ValueError(
        f"system_context.bestbefore.forecaster: {declared!r} is not known; choose one of {', '.join(FORECASTERS)}"
    )


def _quality_metric(model: Mapping[str, Any]) -> Mapping[str, Any]:
    metrics = [m for m in model.get("algorithm_metrics") or [] if isinstance(m, Mapping)]
    return next((m for m in metrics if str(m.get("metric", "")).lower() == "accuracy"), metrics[0] if metrics else {})


def _metric_name(metric: Mapping[str, Any]) -> str:
    return str(metric.get("metric", "accuracy")).lower()


def _fraction(value: object) -> float | None:
    """0.85 and 85 (percent) are the same threshold; accuracy is a share."""
    if value is None:
        return None
    path = "trained_model.algorithm_metrics.threshold"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{path}: expected a number such as 0.85, found {value!r}")
    if not 0 <= value <= 100:
        raise ValueError(f"{path}: accuracy is a share from 0 to 1 or a percentage up to 100, found {value!r}")
    return float(value) / 100 if value > 1 else float(value)


def _quantiles(path: str, declared: Mapping[Any, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Strictly increasing edges and the reference share of each bin; ties are merged into one edge."""
    points = sorted((float(p), float(q)) for p, q in declared.items())
    edges: list[float] = []
    below: list[float] = []
    for probability, value in points:
        if edges and value < edges[-1]:
            raise ValueError(f"{path}: quantiles must not decrease, but {value} follows {edges[-1]}")
        if edges and value == edges[-1]:
            below[-1] = probability
            continue
        edges.append(value)
        below.append(probability)
    shares = np.diff([0.0, *below, 1.0])
    return tuple(edges), tuple(float(s) for s in shares)


def _numeric(name: str, section: Mapping[str, Any], domain: Domain) -> NumericFeature:
    edges: tuple[float, ...] = GENERIC_EDGES
    shares: tuple[float, ...] = ()
    if section.get("quantiles"):
        edges, shares = _quantiles(f"training_data.bestbefore.features.{name}.quantiles", section["quantiles"])
    return NumericFeature(
        edges=edges,
        shares=shares,
        mean=float(section.get("mean", 0.0)),
        sd=float(section.get("sd") or 1.0),
        n=int(section.get("n", 0)),
        unit=str(section.get("unit", "")),
        missing=float(section.get("missing", 0.0)),
        low=domain.low,
        high=domain.high,
        integer=domain.kind == "integer",
        special=_special(section),
        channel=str(section.get("channel", "")),
    )


def _categorical(section: Mapping[str, Any], domain: Domain) -> CategoricalFeature:
    return CategoricalFeature(
        shares={str(k): float(v) for k, v in (section.get("categories") or {}).items()},
        n=int(section.get("n", 0)),
        missing=float(section.get("missing", 0.0)),
        allowed=domain.allowed,
        min_length=domain.min_length,
        max_length=domain.max_length,
        special=_special(section),
    )


def _special(section: Mapping[str, Any]) -> dict[str, float]:
    return {str(value): float(share) for value, share in (section.get("special") or {}).items()}


def _embedding(section: Mapping[str, Any]) -> EmbeddingReference:
    path = "training_data.bestbefore.embedding"
    mean, sd = (tuple(float(v) for v in section.get(key) or ()) for key in ("mean", "sd"))
    if len(mean) != len(sd):
        raise ValueError(f"{path}: mean has {len(mean)} dimensions and sd {len(sd)}; they must agree")
    edges, shares = _quantiles(f"{path}.distance_quantiles", section.get("distance_quantiles") or {})
    classes = {}
    for label, known in (section.get("classes") or {}).items():
        distances = tuple(float(v) for v in known.get("distance_shares") or ())
        if len(distances) != len(shares):
            raise ValueError(
                f"{path}.classes.{label}.distance_shares: {len(distances)} shares, "
                f"distance_quantiles make {len(shares)}"
            )
        classes[str(label)] = (float(known.get("share", 0.0)), distances)
    return EmbeddingReference(
        mean=mean, sd=sd, n=int(section.get("n", 0)), edges=edges, shares=shares, classes=classes,
        kernel=compiled(path, section),
    )  # fmt: skip


def _file(section: Mapping[str, Any]) -> ModelFile | None:
    if not section.get("file"):
        return None
    outputs = section.get("outputs") or {}
    return ModelFile(
        path=str(section["file"]),
        sha256=str(section.get("digest", "")).removeprefix("sha256:"),
        embedding=str(outputs.get("embedding", "embedding")),
        scores=str(outputs.get("scores", "")),
    )
