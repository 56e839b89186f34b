"""The type of the lines on the topic `status`: all that is known of a model version at the end of a window."""

from typing import Annotated

import msgspec

from models.checks.verdict import Outcome
from streams.events import Time
from streams.lines import Forecast, Quality, Span

Count = Annotated[int, msgspec.Meta(ge=0)]


class Window(Span, kw_only=True):
    """The window that was assessed, and what came in it."""

    n: Count
    """Inference events of the window."""
    dropped: Count = 0
    """Events that clients dropped; told where there are any."""
    sampled_out: Count = 0
    """Events that clients left out by sampling; told where there are any."""


class Reading(msgspec.Struct, kw_only=True):
    """The metric of this window alone, with its 90% interval."""

    estimate: float | None
    """The metric."""
    low: float | None
    """Lower end of the interval."""
    high: float | None
    """Upper end of the interval."""
    n: float
    """Events or labels behind it."""
    reason: str | None
    """Why there is no number."""


class LabelFree(Reading, kw_only=True):
    """The reading without labels."""

    by: str | None
    """How it is read: `induced`, `tables` or `confidence`."""


class WindowQuality(msgspec.Struct, kw_only=True):
    """The window alone, before the filter."""

    label_free: LabelFree
    """Without labels."""
    audited: Reading
    """From labels."""
    labels: Count
    """Labels over all windows in memory."""


class Bounds(msgspec.Struct, kw_only=True):
    """An interval; null where there is none."""

    low: float | None
    """Its lower end."""
    high: float | None
    """Its upper end."""


class Audited(Bounds, kw_only=True):
    """The metric on average since `since`, from labels: a 95% interval that holds at every moment."""

    steady: Bounds
    """Narrower: supposes that labels and proxy kept their distance."""
    n: Count
    """Labels."""
    missing: Count
    """Labels that were asked for and never came; they count both ways."""
    since: Time | None
    """Start of the first window in it."""
    until: Time | None
    """End of the last window in it."""
    reason: str | None
    """Why there is no interval."""


class Delay(msgspec.Struct, kw_only=True):
    """From the end of an inference's window to its label, in seconds."""

    p50: float | None
    """Median."""
    p95: float | None
    """95th percentile."""


class Labels(msgspec.Struct, kw_only=True):
    """Labels over the windows in memory."""

    expected: Count | None
    """Labels that were asked for; null where none are."""
    arrived: Count
    """Labels that came."""
    missing: Count | None
    """Of closed windows, those that were asked for and never came."""
    closed_until: Time | None
    """Windows that end by then wait for no label any more."""
    delay: Delay
    """How long labels take."""


class Support(msgspec.Struct, kw_only=True):
    """Sampled inputs within the support of the reference, with the 90% interval of their share."""

    share: float | None
    """The share, in [0, 1]."""
    low: float | None
    """Lower end of the interval."""
    high: float | None
    """Upper end of the interval."""
    expected: float
    """The share in the reference."""
    n: float
    """Sampled inputs."""
    reason: str
    """Why there is no number; empty where there is one."""


class RunLength(msgspec.Struct, kw_only=True):
    """How often false alarms came in replay of reference traffic."""

    windows: float | None
    """Mean windows from one to the next; null: none came."""
    low: float | None
    """Lower end of the 90% interval."""
    high: float | None
    """Upper end of the interval."""
    n: Count
    """False alarms."""
    replayed: str
    """How much was replayed, as a duration."""
    promised: float | None
    """Windows that are promised."""


class Promised(msgspec.Struct, kw_only=True):
    """One false alarm in so long, at most."""

    windows: float | None
    """In windows."""
    time: str
    """As a duration."""


class Stream(msgspec.Struct, kw_only=True):
    """One stream of readings that is watched for changes."""

    state: str
    """`learning` or `watching`."""
    reason: str | None
    """Why it is not watched yet."""
    block: str
    """Time that one of its readings takes."""
    achieved: RunLength | None
    """Its own false alarms in replay."""


class Suspect(msgspec.Struct, kw_only=True, rename={"came_from": "from"}):
    """A stream that changed, and by how much, with a 90% interval."""

    stream: str
    """Which stream."""
    part: float | None
    """Its part in the alarm, in [0, 1]."""
    since: Time
    """When the change began, about."""
    raised: Time
    """When the alarm was raised."""
    harm: bool
    """The stream tells of quality itself."""
    came_from: float | None
    """Its mean before."""
    change: float | None
    """By how much the mean changed."""
    low: float | None
    """Lower end of the interval of `change`."""
    high: float | None
    """Upper end of the interval of `change`."""
    n: float
    """Readings since."""


class Change(msgspec.Struct, kw_only=True):
    """Changes in time over all streams, under one budget of false alarms."""

    promised: Promised
    """The budget."""
    achieved: RunLength | None
    """What replay of reference traffic gave; null while nothing is replayed yet."""
    told: str
    """Both in a sentence."""
    evidence: float | None
    """Evidence for a change, as a share of the limit."""
    alarms: Count
    """Alarms so far."""
    streams: dict[str, Stream]
    """By name."""
    last_alarm: list[Suspect] | None
    """Which streams changed at the last alarm."""


class Lifecycle(msgspec.Struct, kw_only=True):
    """The life of the model version, as it was told."""

    serving: bool
    """It answers live traffic."""
    since: Time | None
    """Since when; null: nobody said."""
    successor: str | None
    """The version that took over."""
    retired: bool
    """It was retired."""
    candidate: str | None
    """The version that a retraining gave and that is not deployed yet."""


class Status(msgspec.Struct, kw_only=True):
    """The latest of a subject: a model version, or one of its segments."""

    model: str
    """Name of the model."""
    version: str
    """Version of the model."""
    segment: str | None
    """Canonical JSON of the segment; null: all traffic."""
    registered: bool
    """Descriptors are registered; without them everything is unknown."""
    window: Window
    """The window."""
    quality: Quality
    """The quality now, filtered over the windows."""
    window_quality: WindowQuality
    """The quality of this window alone."""
    quality_audited: Audited
    """The quality on average, from labels alone."""
    labels: Labels
    """How many labels came, and how late."""
    duplicate_rate: float | None
    """Share of events that were sent twice, measured on one in 64 ids."""
    beyond_segments: Count = 0
    """Events whose segment is not watched on its own, because there are more than `max_segments`."""
    forecast: Forecast
    """When it will be too low."""
    verdicts: dict[str, Outcome]
    """The worst verdict of every check."""
    drift_alarms: dict[str, Count]
    """Alarms of detectors of drift, by stream/detector."""
    change: Change | None
    """Changes in time; null where no budget of false alarms is declared."""
    support: Support
    """Sampled inputs within the support of the reference."""
    open_mismatches: list[str]
    """check/field of every mismatch that is open."""
    incident: str | None
    """Id of the trigger of the open retraining."""
    open_triggers: dict[str, str]
    """Action to the id of its open trigger."""
    lifecycle: Lifecycle
    """Whether it serves."""
