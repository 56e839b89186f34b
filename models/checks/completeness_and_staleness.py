"""Is all declared that the other checks need, and is it still true today?

| | |
|---|---|
| left | the fields that checks rest on; `trained_model.training_date` and `bestbefore.max_age`, `raw_data.metadata` (`collection_date`, `timeframe`), `bestbefore.valid_from` and `valid_to` of every descriptor |
| right | the clock at design time, the end of the window at run time |
| statistic | age in days |
| mismatch | a model older than its declared `max_age`; a training date in the future; data collected after the model was trained on it; a descriptor outside of its period |
| unknown | a field that some check needs is absent: the reason names the checks; no clock, or no date that can be read |

An absent field is no mistake, but the checks that need it cannot say ok; this list tells which, and what to write
next. No age is too old by itself: where no `max_age` is declared only impossible dates are found. Set `valid_to` when
another version takes over: a descriptor in use beyond it is flagged.

Tuned by `trained_model.bestbefore.max_age`, and `valid_from` and `valid_to` under `bestbefore` of each descriptor.
"""

import math
import re
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import Any

import msgspec

from models.checks.check import Check
from models.checks.observed import Observed
from models.checks.required_attributes import REQUIRED
from models.checks.verdict import Effect, Side, Verdict
from models.checks.workplace import Workplace
from models.descriptors.fields import findings, instant_us
from models.descriptors.paths import KINDS, Trees, value_at
from models.units import DAY_US, duration_text, duration_us

# Fields, any one of which will do, and the checks that say nothing without them.
NEEDS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("system_context.goals",), ("reference-closure", "observability-coverage")),
    (("raw_data.dataset_identifier",), ("reference-closure",)),
    (("training_data.dataset_identifier",), ("reference-closure",)),
    (("training_data.raw_data_identifier",), ("reference-closure",)),
    (("training_data.schema",), ("reference-closure", "interface-compatibility")),
    (("training_data.statistics",), ("covariate-drift",)),
    (("training_data.distribution",), ("label-and-prediction-shift",)),
    (
        ("training_data.bestbefore.features",),
        ("missing-and-special-values", "unit-scale-encoding", "covariate-drift"),
    ),
    (("training_data.bestbefore.classes",), ("label-and-prediction-shift",)),
    (("training_data.bestbefore.confusion", "training_data.bestbefore.calibration"), ("threshold-coherence",)),
    (("training_data.bestbefore.calibration",), ("quality-and-time-to-threshold", "calibration-and-concept")),
    (("training_data.bestbefore.embedding",), ("embedding-drift",)),
    (("data_pipeline.input_spec",), ("reference-closure", "interface-compatibility")),
    (("data_pipeline.input_spec", "production_data.schema"), ("domain-and-schema",)),
    (("trained_model.training_date",), ("completeness-and-staleness",)),
    (("trained_model.data_pipeline_identifier",), ("reference-closure",)),
    (("trained_model.training_data_identifier",), ("reference-closure",)),
    (("trained_model.model_components",), ("runtime-fingerprint",)),
    (("trained_model.ml_frameworks",), ("runtime-fingerprint",)),
    (
        ("trained_model.output_spec", "trained_model.final_output_spec"),
        ("reference-closure", "interface-compatibility"),
    ),
    (
        ("trained_model.algorithm_metrics",),
        ("threshold-coherence", "observability-coverage", "quality-and-time-to-threshold"),
    ),
    (("trained_model.evaluation_metrics", "trained_model.test_metrics"), ("threshold-coherence",)),
    (("trained_model.log_data",), ("observability-coverage",)),
    (("trained_model.computing_resource_reqs",), ("capacity-and-deadline",)),
    (("trained_model.inference_time", "trained_model.bestbefore.inference_time"), ("capacity-and-deadline",)),
    (("trained_model.bestbefore.digest",), ("runtime-fingerprint", "model-identity")),
    (("trained_model.bestbefore.golden_records",), ("model-identity",)),
    (("trained_model.bestbefore.file",), ("runtime-fingerprint", "pipeline-skew", "embedding-drift")),
    (("development_environment.programming_languages",), ("runtime-fingerprint",)),
    (("development_environment.ml_frameworks",), ("runtime-fingerprint",)),
    (("development_environment.upstream_components",), ("reference-closure", "interface-compatibility")),
    (("development_environment.downstream_components",), ("reference-closure", "interface-compatibility")),
    (("development_environment.computing_resources",), ("capacity-and-deadline",)),
    (("production_environment.computing_resources",), ("capacity-and-deadline",)),
    (
        ("production_environment.required_inference_time", "production_environment.bestbefore.latency"),
        ("capacity-and-deadline", "latency-rate-buffering"),
    ),
    (
        tuple(f"production_environment.{key}" for key in ("algorithm_metrics", "business_metrics", "other_metrics")),
        ("observability-coverage",),
    ),
    (("production_environment.model_logs", "production_environment.other_logs"), ("observability-coverage",)),
    (("production_environment.bestbefore.providers",), ("runtime-fingerprint",)),
    (("production_environment.bestbefore.traffic",), ("model-identity",)),
    (("production_data.schema",), ("reference-closure", "interface-compatibility")),
    (("production_data.statistics",), ("covariate-drift",)),
    (("production_data.distribution",), ("label-and-prediction-shift",)),
    (("production_data.bestbefore.rate",), ("latency-rate-buffering",)),
    (("production_data.bestbefore.labels",), ("observability-coverage",)),
)
TRAINED, MAX_AGE = "trained_model.training_date", "trained_model.bestbefore.max_age"
COLLECTED, TIMEFRAME = "raw_data.metadata.collection_date", "raw_data.metadata.timeframe"
_PERIOD = re.compile(r"(\d{4}(?:-\d\d(?:-\d\d)?)?)(?:\s*(?:-|–|\.\.|to|until|/)\s*(\d{4}(?:-\d\d(?:-\d\d)?)?))?")


class Missing(msgspec.Struct, frozen=True):
    """An attribute that a descriptor should have: why, and the checks that need it."""

    descriptor: str
    field: str
    rationale: str
    needed_by: tuple[str, ...] = ()


def completeness(trees: Trees) -> list[Missing]:
    """Every required attribute that is absent or empty, descriptor by descriptor.

    A list may be empty where there is nothing to list, and text may not; a descriptor that is not there at all lacks
    everything. Attributes of the objects in a list are named once, with the number of the objects that lack them.
    """
    return [
        Missing(kind, field + note, why, _needed_by(f"{kind}.{field}"))
        for kind in KINDS
        for field, why in REQUIRED[kind].items()
        if (note := _lack(trees.get(kind) or {}, field)) is not None
    ]


def _lack(tree: Mapping[str, Any], field: str) -> str | None:
    """None where the field is there; else what to add to its name."""
    path, _, inner = field.partition("[].")
    found = value_at({"tree": tree}, f"tree.{path}")
    if not inner:
        return "" if found is None or (isinstance(found, str) and not found.strip()) else None
    items = [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []
    without = sum(_empty(item.get(inner)) for item in items)
    return f" ({without} of {len(items)})" if without else None


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip()) or (isinstance(value, dict) and not value)


def _needed_by(path: str) -> tuple[str, ...]:
    base = path.split("[]", maxsplit=1)[0]
    return tuple(dict.fromkeys(check for paths, checks in NEEDS if base in paths for check in checks))


def design(at: Workplace) -> Iterator[Verdict]:
    """One verdict per field that checks rest on, then dates and periods."""
    unreadable = _unreadable(at.trees)
    for paths, checks in NEEDS:
        there, field = [path for path in paths if _given(at.value(path))], " or ".join(paths)
        read = [path for path in there if not any(bad.startswith(path) for bad in unreadable)]
        if read:
            yield CHECK.ok(field=field, severity="info", left=Side(read[0], "declared", place=at.place(read[0])))
        else:
            what = "cannot be read" if there else "is not declared"
            yield CHECK.unknown(
                f"{field} {what}; needed by {', '.join(checks)}", field=field, severity="info",
                remedy="declare it, or let describe measure it",
            )  # fmt: skip
    yield from _trained(at)
    yield from _periods(at, at.now_us)


def live(seen: Observed) -> Iterator[Verdict]:
    """Age and periods at the end of the window."""
    found = [*_age(seen, seen.end_us), *_periods(seen, seen.end_us)]
    yield from found or [CHECK.unknown(f"neither {MAX_AGE} nor a valid_to is declared", field="age")]


def _unreadable(trees: Trees) -> set[str]:
    """Paths of facts that have the wrong type."""
    known = ((kind, tree) for kind, tree in trees.items() if kind in KINDS)
    return {found.path for kind, tree in known for found in findings(kind, tree) if not found.note}


def _given(value: Any) -> bool:
    return not _empty(value) and value != []


# -- dates -------------------------------------------------------------------------------------------------------


def _instant(value: Any) -> int | None:
    try:
        return None if value is None else instant_us(str(value))
    except ValueError:
        return None


def _trained(at: Workplace) -> Iterator[Verdict]:
    left, trained = at.side(TRAINED), _instant(at.value(TRAINED))
    if trained is None:
        yield CHECK.unknown(f"{TRAINED} is {'no date' if left.value else 'not declared'}", field="training_date")
        return
    if at.now_us is None:
        yield CHECK.unknown("there is no clock to compare dates with", field="training_date", left=left)
    elif trained > at.now_us + DAY_US:  # a date has no zone
        yield CHECK.mismatch(
            f"the model was trained on {left.value} ({TRAINED}), which is yet to come", field="training_date", left=left,
            right=Side("clock", _date(at.now_us)), remedy="declare when the model was trained",
        )  # fmt: skip
        return
    else:
        yield CHECK.ok(field="training_date", left=left, right=Side("clock", _date(at.now_us)))
    yield from _collected(at, left, trained)
    if at.now_us is not None:
        yield from _age(at, at.now_us)


def _collected(at: Workplace, left: Side, trained: int) -> Iterator[Verdict]:
    """The data must have been there before the model."""
    known = {path: when for path in (COLLECTED, TIMEFRAME) if (when := _latest(at.value(path))) is not None}
    if not known:
        yield CHECK.unknown(f"neither {COLLECTED} nor {TIMEFRAME} is a date", field="collection", left=left)
        return
    path = max(known, key=lambda p: known[p])
    sides: dict[str, Any] = {"field": "collection", "left": left, "right": at.side(path)}
    if known[path] > trained + DAY_US:
        yield CHECK.mismatch(
            f"data was collected until {at.value(path)} ({path}), after the model was trained on it on {left.value} "
            f"({TRAINED})",
            remedy="correct the date that is wrong, or name the data that the model was trained on", **sides,
        )  # fmt: skip
    else:
        yield CHECK.ok(**sides)


def _latest(text: Any) -> int | None:
    """The beginning of the last day, month or year of a plain period such as `2024-2025`; None for prose."""
    found = _PERIOD.fullmatch(str(text or "").strip())
    if found is None:
        return _instant(text)
    last = found.group(2) or found.group(1)
    return _instant(last + "-01-01"[len(last) - 4 :] if len(last) < 10 else last)


def _age(at: Workplace | Observed, now_us: int) -> Iterator[Verdict]:
    limit = at.value(MAX_AGE)
    if limit is None:
        return
    path = next((p for p in (TRAINED, COLLECTED, TIMEFRAME) if _latest(at.value(p)) is not None), None)
    if path is None:
        yield CHECK.unknown(f"{TRAINED} is no date", field="age", left=at.side(MAX_AGE))
        return
    age = now_us - (_latest(at.value(path)) or 0)
    allowed = duration_us(limit)
    sides: dict[str, Any] = {
        "field": "age", "left": at.side(MAX_AGE), "right": at.side(path),
        "effect": Effect(statistic="age in days", estimate=_days(age), threshold=_days(allowed)),
    }  # fmt: skip
    if age > allowed:
        yield CHECK.mismatch(
            f"the model is {duration_text(age)} old ({path} is {at.value(path)}), {limit} is allowed ({MAX_AGE})",
            remedy="train it on newer data, or say why it may be older", **sides,
        )  # fmt: skip
    else:
        yield CHECK.ok(**sides)


def _days(us: int) -> float:
    return math.floor(us / DAY_US * 100) / 100


def _periods(at: Workplace | Observed, now_us: int | None) -> Iterator[Verdict]:
    """Descriptors that say when they hold."""
    for kind in KINDS:
        paths = [f"{kind}.bestbefore.{key}" for key in ("valid_from", "valid_to")]
        begin, end = (_instant(at.value(path)) for path in paths)
        if begin is None and end is None:
            continue
        if now_us is None:
            yield CHECK.unknown("there is no clock to compare dates with", field=f"{kind} period")
            continue
        early = begin is not None and now_us < begin
        late = end is not None and now_us >= end
        path = paths[0] if early or end is None else paths[1]
        sides: dict[str, Any] = {
            "field": f"{kind} period", "left": at.side(path), "right": Side("clock", _date(now_us)),
        }  # fmt: skip
        if early or late:
            word = "from" if early else "until"
            yield CHECK.mismatch(
                f"{kind} holds {word} {at.value(path)} ({path}), it is used on {_date(now_us)}",
                remedy="register the descriptors of what is deployed now", **sides,
            )  # fmt: skip
        else:
            yield CHECK.ok(**sides)


def _date(us: int) -> str:
    """The day of an instant, as in 2026-11-20."""
    return str(date(1970, 1, 1) + timedelta(days=us // DAY_US))


CHECK = Check(
    id="completeness-and-staleness",
    title="Complete and up to date",
    owner="data scientist",
    remedy="bring the descriptor up to date",
    action="review",
    design=design,
    live=live,
)
