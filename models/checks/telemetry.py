"""What users may say about live traffic: `telemetry.<statistic>` as the side of a comparison, always with its noise.

Every statistic comes with a 90% interval and the number of observations behind it, so that a predicate over ten events
does not read like one over ten thousand. Names with dots or brackets are quoted: `telemetry.features["a.b"].mean`.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from models.checks.observed import Observed
from models.checks.readings import (
    Reading,
    audited,
    category,
    confidence_mean,
    counted,
    feature_of,
    filled,
    label,
    latency,
    mean,
    missing,
    number,
    quality,
    quantile,
    rate,
    sd,
    value_mean,
    violations,
)
from models.checks.verdict import Side

ROOT = "telemetry"
LONGEST = 300  # characters of a path
_STEP = re.compile(r"""([^.\[\]"]+)|\["([^"]*)"\]""")


Read = Callable[..., Reading | None]


class Statistic(NamedTuple):
    """One kind of statistic: its name with `<placeholders>`, what it is, its unit, and how it is read.

    `joined` says over which events: `block` (as many windows as `minimum_n` needs), `window`, or `running`, a figure
    that spans windows by itself.
    """

    pattern: str
    about: str
    read: Read
    unit: str = ""
    joined: str = "block"


class Asked(NamedTuple):
    """A path that names a statistic, and what stands in the place of its placeholders."""

    statistic: Statistic
    arguments: tuple[str, ...]


def is_telemetry(path: Any) -> bool:
    """Whether `path` is about live traffic."""
    return isinstance(path, str) and re.match(r"telemetry($|[.\[])", path.strip()) is not None


def asked(path: str) -> Asked:
    """The statistic that `path` names. Raises ValueError that lists the names there are."""
    if len(path) > LONGEST:
        raise ValueError(f"{path[:60]!r}… is no statistic: it has {len(path)} characters, at most {LONGEST} are read")
    steps = [plain or quoted for plain, quoted in _STEP.findall(path.strip())]
    for statistic in STATISTICS:
        arguments = _matched(statistic.pattern.split("."), steps[1:])
        if steps[:1] == [ROOT] and arguments is not None:
            _check_arguments(path, statistic, arguments)
            return Asked(statistic, arguments)
    known = ", ".join(statistic.pattern for statistic in STATISTICS)
    raise ValueError(
        f'{path} is no statistic; after `{ROOT}.` there are: {known} (quote names with dots: features["a.b"])'
    )


def _matched(pattern: list[str], steps: list[str]) -> tuple[str, ...] | None:
    """What the placeholders stand for; None where the pattern does not fit. The last may take a number with a dot."""
    if len(steps) > len(pattern) and pattern[-1].endswith(">"):
        steps = [*steps[: len(pattern) - 1], ".".join(steps[len(pattern) - 1 :])]
    if len(steps) != len(pattern):
        return None
    found = []
    for want, step in zip(pattern, steps, strict=True):
        fixed, placeholder, _ = want.partition("<")
        if not placeholder and want != step:
            return None
        if placeholder:
            if not step.startswith(fixed) or step == fixed:
                return None
            found.append(step.removeprefix(fixed))
    return tuple(found)


def _check_arguments(path: str, statistic: Statistic, arguments: tuple[str, ...]) -> None:
    for name, top in (("<p>", 1.0), ("<percent>", 100.0)):
        if statistic.pattern.endswith(name):
            try:
                fits = 0 < float(arguments[-1]) < top
            except ValueError:
                fits = False
            if not fits:
                raise ValueError(f"{path}: {arguments[-1]!r} must be a number between 0 and {top:g}")


def unit_of_statistic(path: str, unit_of_feature: Callable[[str], str]) -> str | None:
    """The unit of what `path` measures; None where it depends on who sends it. Raises ValueError as `asked`."""
    statistic, arguments = asked(path)
    if statistic.unit == "<feature>":
        return unit_of_feature(arguments[0])
    return None if statistic.unit == "<value>" else statistic.unit


def measured(seen: Observed, path: str) -> Side:
    """The statistic `path` as measured; a side without a value where nothing was observed.

    Raises ValueError for a statistic that does not exist.
    """
    statistic, arguments = asked(path)
    unit = unit_of_statistic(path, lambda name: feature_of(seen, name).unit) or ""
    if statistic.joined == "block" and seen.block is None:
        return Side(path, unit=unit)
    return side(path, statistic.read(seen, *arguments), unit)


def side(path: str, reading: Reading | None, unit: str = "") -> Side:
    """A reading as the side of a comparison, six digits."""
    if reading is None:
        return Side(path, unit=unit)
    value, low, high, n = (None if part is None else float(f"{part:.6g}") for part in reading)
    return Side(path, value, unit, low, high, n)


STATISTICS: tuple[Statistic, ...] = (
    Statistic("n", "events in the window", number, joined="window"),
    Statistic(
        "rate", "events per second, each counted with the inverse of its sampling probability", rate, "1/s", "window"
    ),
    Statistic("latency.p<percent>", "percentile of the latency: p50, p95, p99", latency, "ms"),
    Statistic("failed", "share of events with status 400 and above", counted("failed", "n")),
    Statistic("abstained", "share of events in which the model abstained", counted("abstained", "n")),
    Statistic("duplicates", "share of events whose id had come before", counted("ids_repeated", "ids_sampled")),
    Statistic(
        "filled.<field>", "share of events that carry scores, label, value, latency_ms, digest, features", filled
    ),
    Statistic("features.<feature>.mean", "mean of a numeric feature", mean, "<feature>"),
    Statistic("features.<feature>.sd", "standard deviation of a numeric feature", sd, "<feature>"),
    Statistic("features.<feature>.quantile.<p>", "quantile of a numeric feature: quantile.0.5", quantile, "<feature>"),
    Statistic("features.<feature>.missing", "share of events in which a feature is null", missing),
    Statistic("features.<feature>.violations", "share of events whose value the declared domain forbids", violations),
    Statistic("features.<feature>.share.<category>", "share of a category among the values of a feature", category),
    Statistic("label.<class>.share", "share of a predicted class", label),
    Statistic("value.mean", "mean of a numeric prediction", value_mean, "<value>"),
    Statistic("confidence.mean", "mean confidence of the predictions, calibrated", confidence_mean),
    Statistic("quality.accuracy", "current accuracy, from labels and confidences", quality, joined="running"),
    Statistic(
        "audited.accuracy",
        "accuracy of the newest audited predictions, at least `minimum_n`",
        audited,
        joined="running",
    ),
)


def explained() -> Iterator[tuple[str, str, str]]:
    """Name, unit and meaning of every statistic, for the reference pages."""
    units = {"<feature>": "that of the feature", "<value>": "that of the prediction"}
    for statistic in STATISTICS:
        yield f"{ROOT}.{statistic.pattern}", units.get(statistic.unit, statistic.unit), statistic.about
