"""The types of what comes in: inferences, labels, sampled inputs, changes of versions.

Only ever add fields, with a default; never retype one. Unknown fields are ignored. The text under a field is its
description in the published schema (`streams.schemas`). What JSON makes has no cycles, so those that come in masses
are left out of the search for them (`gc=False`).
"""

from datetime import datetime
from typing import Annotated, Any

import msgspec

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]
Time = Annotated[datetime, msgspec.Meta(tz=True)]
Moment = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]  # a time that is text already
# A weight of 1 / probability, and its square, must stay numbers that can be added up exactly.
LEAST_SHARE = 1e-4
Share = Annotated[float, msgspec.Meta(ge=LEAST_SHARE, le=1.0)]
# Subjects and sources are keys of tables, and the index of a database takes no more than some 2700 bytes.
Short = Annotated[str, msgspec.Meta(max_length=200, pattern=r"^[^\x00]*$")]
# NUL may stand in a segment, whose JSON escapes it.
Word = Annotated[str, msgspec.Meta(max_length=200)]
Segment = Annotated[dict[Word, Word], msgspec.Meta(max_length=8)]
MAX_TEXT, MAX_SEGMENT_BYTES = 200, 400
# What is kept for late labels travels into the store, row by row; a label that is longer is no class but a document.
MAX_LABEL, MAX_CLASSES, MAX_FEATURES, MAX_EMBEDDING = 1_000, 10_000, 1_000, 100_000
Label = Annotated[str, msgspec.Meta(max_length=MAX_LABEL)]


class Output(msgspec.Struct, gc=False):
    """What the model answered: a label and/or scores (classification), or a value (regression)."""

    label: Label | None = None
    """The predicted class; without it the class of the highest score."""
    scores: Annotated[dict[Label, float], msgspec.Meta(max_length=MAX_CLASSES)] | None = None
    """Class to probability, in [0, 1]. Classes that are left out count as zero."""
    value: float | None = None
    """The predicted number, in the unit of the target."""


class Reserved(msgspec.Struct, omit_defaults=True, gc=False):
    """Optional fields that are carried along from the first version on; later versions give them meaning."""

    component: str | None = None
    """Part of the system that answered."""
    system: str | None = None
    """System that the model is a part of."""
    request: str | None = None
    """Id of the request that several inferences answered together."""
    served: str | None = None
    """`live` (the default); anything else, such as `shadow` or `holdout`, is counted apart and enters no figure."""
    experiment: Any = None
    """Experiment that chose this version: {name, arm, propensity}."""
    flags: Any = None
    """Feature flags in force: {key: variant}."""
    upstream: Any = None
    """Versions of the components before the model: {component: version}."""
    shadow: Any = None
    """What other versions answered in the shadow: a list of {version, output, latency_ms}."""
    decision: Any = None
    """What was done with the answer: {by, rule, output, mode, undone}."""
    exploration: Any = None
    """Deliberate exploration: {kind, value, propensity}."""
    pipeline: str | None = None
    """Version of the data pipeline that made the features."""
    asof: str | None = None
    """Time that the features are of."""
    entity: str | None = None
    """Pseudonym of whom the inference is about; never a name."""
    consent: str | None = None
    """What the person consented to."""
    cost: float | None = None
    """Cost of this inference, in the currency of the descriptors."""
    deployment: str | None = None
    """Deployment, such as a pod or a region, that answered."""
    traceparent: str | None = None
    """W3C trace context of the request, named by events that it led to; without it that of the record's headers."""
    tracestate: str | None = None
    """W3C trace state beside it."""


class InferenceEvent(Reserved, kw_only=True, gc=False):
    """One inference."""

    id: Id
    """Id of the inference: its label comes back under it, and sampling is a hash of it. A resend keeps it."""
    time: Time
    """When the model answered, RFC 3339 with an offset."""
    model: Name
    """Name of the model."""
    version: Name
    """Version of the model that answered."""
    segment: Segment | None = None
    """Part of the traffic that is watched on its own, such as a site; at most 8 names, 400 bytes as JSON."""
    latency_ms: float | None = None
    """Time from request to answer, in milliseconds."""
    status: Annotated[int, msgspec.Meta(ge=-(1 << 31), lt=1 << 31)] = 200
    """HTTP status of the answer; from 400 on the request failed."""
    features: Annotated[dict[str, float | str | bool | None], msgspec.Meta(max_length=MAX_FEATURES)] = {}
    """What the model was given, by name, in the units of the descriptors; null is a missing value."""
    output: Output | None = None
    """What the model answered."""
    abstained: bool = False
    """The model declined to answer."""
    embedding: Annotated[list[float], msgspec.Meta(max_length=MAX_EMBEDDING)] | None = None
    """Embedding that the server computed itself, compared with ours for skew."""
    digest: Short | None = None
    """`sha256:…` of the model file that served."""
    sampling: Share = 1.0
    """Probability with which this event was kept; every count is weighted with its inverse."""


class LabelEvent(msgspec.Struct, kw_only=True, gc=False):
    """Late ground truth, proxy or feedback about one inference; one of `label`, `value`, `correct` must be given."""

    inference_id: Id
    """`id` of the inference that it is about."""
    time: Time
    """When the truth became known, RFC 3339 with an offset."""
    model: Short | None = None
    """Only predictions of this model are meant."""
    version: Short | None = None
    """Only predictions of this version are meant."""
    label: Label | None = None
    """The true class."""
    value: float | None = None
    """The true number, in the unit of the target."""
    correct: bool | None = None
    """Whether the answer was right; alone it is feedback that names no truth."""
    source: Short = "ground-truth"
    """`ground-truth`, `feedback`, or `proxy:<name>`; only ground truth counts as audit."""
    propensity: Share | None = None
    """Probability with which this inference was chosen for labelling; null: that of the request it answers, else 1."""
    loss: float | None = None
    """Loss in [0, 1]; carried along."""
    metric: str | None = None
    """Name of the loss; carried along."""
    severity: str | None = None
    """How bad the mistake was; carried along."""
    tags: Any = None
    """Anything; carried along."""
    channel: str | None = None
    """How the label came about; carried along."""
    part: str | None = None
    """Part of the answer that it is about; carried along."""
    seen_prediction: bool | None = None
    """Whether the annotator saw the model's answer; carried along."""
    annotator: str | None = None
    """Pseudonym of who labelled; carried along."""


class InputSample(msgspec.Struct, kw_only=True):
    """The headers of a sampled input; the tensor is the record's value, or is fetched from `dataref`."""

    inference_id: Id
    """`id` of the inference that had this input."""
    model: Name
    """Name of the model."""
    version: Name
    """Version of the model that answered."""
    time: Time
    """When the model answered, RFC 3339 with an offset."""
    dtype: str
    """Type of the tensor's numbers, as numpy names it, such as `float32`; little-endian."""
    shape: list[int]
    """Lengths of the tensor's axes."""
    segment: Segment | None = None
    """As of the inference."""
    embedding: bytes | None = None
    """Embedding that the server computed itself: float32, little-endian, base64."""
    propensity: Share = 1.0
    """Probability with which this input was sampled."""
    dataref: str | None = None
    """URI of the tensor, where the record's value is empty; it begins with one of the setting `dataref_prefixes`."""
    sha256: str | None = None
    """Digest of what lies at `dataref`, hexadecimal."""
    size: int | None = None
    """Length of what lies at `dataref`, in bytes."""
    # What computed `embedding`: an execution provider, inputs per batch, the digest of the model file.
    provider: Short | None = None
    """Execution provider of ONNX Runtime that computed `embedding`."""
    batch_size: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Inputs per run when `embedding` was computed."""
    digest: Short | None = None
    """`sha256:…` of the model file that computed `embedding`."""


class LifecycleEvent(msgspec.Struct, kw_only=True):
    """What happened to a model version, as CI or a person tells it. Kinds that are not known are only recorded."""

    id: Id
    """Id of the event; the first of an id counts."""
    time: Time
    """When it happened, RFC 3339 with an offset."""
    kind: Annotated[str, msgspec.Meta(min_length=1, max_length=60, pattern=r"^[^\x00]+$")]
    """`deployed`, `promoted`, `rolled-back`, `retrained`, `retired`; others are recorded only."""
    model: Name
    """Name of the model; also the record's key."""
    version: Name
    """For `rolled-back` the version that serves again, for `retrained` the one that came of it."""
    previous: Short = ""
    """Version that served before."""
    served: Short = "live"
    """Anything else than `live`, such as `shadow`, takes over from nobody."""
    message: Annotated[str, msgspec.Meta(max_length=1000, pattern=r"^[^\x00]*$")] = ""
    """For people."""
    trigger_id: Short = ""
    """The retrain trigger that it answers, if one."""
