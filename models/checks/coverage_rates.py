"""Shared by the check of coverage at run time: shares of events with a field, with an error, with a label."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from models.checks.check import Check
from models.checks.distribution import observed_n
from models.checks.observed import Observed
from models.checks.shares import ALPHA, above, at_least, at_most, percent, share_side
from models.checks.verdict import Effect, Side, Verdict
from models.profile import WEIGHT, Profile, short_name
from models.reference import CategoricalFeature, NumericFeature
from models.units import duration_us

COVERAGE = "production_environment.bestbefore.coverage"
ERROR_RATE = "production_environment.bestbefore.expected_error_rate"
HANDLING = "data_pipeline.input_spec"
LABELS = "production_data.bestbefore.labels"
DIGEST, OUTPUTS = "trained_model.bestbefore.digest", "trained_model.bestbefore.outputs"
FEATURES = "training_data.bestbefore.features"
POINT = 0.01  # of share that may be missing beyond what is declared
ENOUGH_LABELS = 100  # predictions old enough to have a label


class Expected(NamedTuple):
    """A field that events should have: where that is said, and whether of answered events only."""

    field: str
    path: str
    answered: bool = False


def field_coverage(check: Check, seen: Observed) -> Iterator[Verdict]:
    """One verdict per expected field, and one per declared feature that no event has."""
    block = seen.block
    if block is None or not block.n or "filled" not in block.categories:
        reason = seen.filling if block is None else "there are no events, or none with any field"
        yield check.unknown(reason, field="fields")
        return
    for one in _expected(check.id, seen, block):
        yield _filled(check, seen, block, one)
    yield from _features(check, seen, block)


def _expected(check: str, seen: Observed, block: Profile) -> Iterator[Expected]:
    answered = block.categories.get("filled.answered") or {}
    if _scored(seen):
        yield Expected("scores", f"{OUTPUTS}.scores", answered=True)
    if _classifies(seen):
        # Scores tell the label, so a server that sends no label at all need not send it.
        if answered.get("label") or not answered.get("scores"):
            yield Expected("label", "system_context.ml_problem_type.ml_problem", answered=True)
    # A model that answers with neither, and of which nobody said what it answers, may well draw pictures.
    elif not answered.get("label") and not answered.get("scores") and _answers(seen, answered):
        yield Expected("value", "trained_model.output_spec", answered=True)
    if seen.reference.latency_limit_ms is not None:
        declared = seen.value("production_environment.bestbefore.latency")
        required = "production_environment.required_inference_time"
        yield Expected("latency_ms", "production_environment.bestbefore.latency" if declared else required)
    if seen.value(DIGEST):
        yield Expected("digest", DIGEST)
    if block.categories["filled"].get("embedding"):
        seen.remember(f"{check}/embedding", 1.0, keep=1)
    if f"{check}/embedding" in seen.memory:
        yield Expected("embedding", f"{COVERAGE}.embedding")


def _answers(seen: Observed, answered: dict[str, int]) -> bool:
    return bool(answered.get("value")) or any(seen.items("trained_model.output_spec"))


def _scored(seen: Observed) -> bool:
    outputs, own = seen.value(OUTPUTS), "trained_model.bestbefore.score_range"
    named = isinstance(outputs, dict) and bool(outputs.get("scores"))
    return named or seen.reference.calibration is not None or seen.value(own) is not None


def _classifies(seen: Observed) -> bool:
    problem = seen.value("system_context.ml_problem_type.ml_problem")
    return bool(seen.reference.classes) or str(problem or "").casefold() == "classification"


def _filled(check: Check, seen: Observed, block: Profile, one: Expected) -> Verdict:
    table = block.categories.get("filled.answered" if one.answered else "filled") or {}
    total = block.counts.get("answered" if one.answered else "weight", 0)
    share, declared = _declared(seen, one.field)
    left = Side(f"{COVERAGE}.{one.field}", share) if declared else Side(one.path, seen.value(one.path))
    if not total:
        return check.unknown("no event was answered", field=one.field, left=left)
    n, missing = observed_n(block, float(total)), 1 - min(table.get(one.field, 0) / total, 1.0)
    limit = min(1 - share + POINT, 1.0)
    right = share_side(f"telemetry.filled.{one.field}.missing", missing, n)
    effect = Effect(
        statistic="share without the field", estimate=float(f"{missing:.6g}"), low=right.low, high=right.high,
        threshold=float(f"{limit:.6g}"), n=float(f"{n:.6g}"),
    )  # fmt: skip
    sides: dict[str, Any] = {"field": one.field, "left": left, "right": right, "effect": effect}
    if right.low is not None and right.low > limit and above(missing, n, limit):
        of = "answered events" if one.answered else "events"
        never = one.field == "digest" and not table.get(one.field)
        return check.mismatch(
            f"{one.field} is missing in {percent(missing)} of {n:.6g} {of} (90% interval {percent(right.low)} to "
            f"{percent(right.high)}), {percent(1 - share)} may be without",
            evidence=block.evidence(), **(sides | ({"severity": "info"} if never else {})),
        )  # fmt: skip
    if round(n) < seen.reference.minimum_n:
        return check.unknown(f"{n:.6g} observations, {seen.reference.minimum_n} are needed", **sides)
    return check.ok(**sides)


def _declared(seen: Observed, name: str) -> tuple[float, bool]:
    """The share of events that must have the field, and whether somebody declared it."""
    table = seen.value(COVERAGE)
    declared = table.get(name) if isinstance(table, dict) else None
    return (1.0, False) if declared is None else (float(declared), True)


def _features(check: Check, seen: Observed, block: Profile) -> Iterator[Verdict]:
    """Features that no event has; nulls are a matter of missing-and-special-values."""
    features: dict[str, NumericFeature | CategoricalFeature] = {**seen.reference.numeric, **seen.reference.categorical}
    names = sorted(name for name, feature in features.items() if feature.n)  # measured ones, so that they did exist
    if not names:
        return
    absent = [name for name in names if not _present(block, short_name(name))]
    n, left = float(block.n), Side(FEATURES, names[:20])
    if absent and block.counts.get("values_beyond_bound"):
        yield check.unknown("there are more features than a profile keeps", field="features", left=left)
    elif absent and round(n) < seen.reference.minimum_n:
        yield check.unknown(f"{n:.6g} observations, {seen.reference.minimum_n} are needed", field="features", left=left)
    elif len(absent) == len(names):
        told = "the declared features" if len(names) > 1 else repr(names[0])
        yield check.mismatch(
            f"not one of {n:.6g} events has {told} ({FEATURES})", field="features", left=left,
            right=Side("telemetry.filled.features", 0.0, n=n), evidence=block.evidence(),
        )  # fmt: skip
    else:
        for name in absent:
            yield check.mismatch(
                f"not one of {n:.6g} events has the declared feature {name!r}: was it renamed?", field=f"feature {name}",
                left=Side(f"{FEATURES}.{name}", "declared"), right=Side(f"telemetry.features.{name}", None, n=n),
                evidence=block.evidence(),
            )  # fmt: skip
        if not absent:
            yield check.ok(field="features", left=left, right=Side("telemetry.filled.features", len(names), n=n))


def _present(block: Profile, short: str) -> bool:
    return f"feature.{short}" in block.histograms or f"feature.{short}" in block.categories


def error_coverage(check: Check, seen: Observed) -> Iterator[Verdict]:
    """Whether errors can be seen at all, where some are declared. Counts on until the first one is seen."""
    rate = seen.value(ERROR_RATE)
    handled = [f"{path}.error_handling" for path, item in seen.items(HANDLING) if _returns(item.get("error_handling"))]
    if rate is None and not handled:
        return
    left = Side(ERROR_RATE, rate) if rate is not None else seen.side(handled[0])
    n, window = 0.0, seen.window
    key = f"{check.id}/errors"
    if not _failures(window):
        n = sum(seen.memory.get(key, [])) + window.n
    seen.remember(key, n, keep=1)
    right = Side("telemetry.failed", _failures(window), n=float(window.n))
    sides: dict[str, Any] = {"field": "errors", "left": left, "right": right}
    if _failures(window):
        yield check.ok(**sides)
    elif rate is None or float(rate) <= 0:
        yield check.unknown(f"no error seen in {n:.6g} events; declare {ERROR_RATE}", **sides)
    elif (chance := n * math.log1p(-min(float(rate), 0.999999))) < math.log(ALPHA):
        yield check.mismatch(
            f"not one of {n:.6g} events failed, although {percent(float(rate))} of them should ({ERROR_RATE}): errors do not "
            "reach the log",
            remedy="log rejected and failed requests too",
            effect=Effect(statistic="log probability", estimate=round(chance, 3), threshold=round(math.log(ALPHA), 3), n=n),
            **sides,
        )  # fmt: skip
    else:
        yield check.unknown(f"no error seen in {n:.6g} events, too few to expect one", **sides)


def _returns(handling: Any) -> bool:
    """Whether an error code is declared: TEC's forms leave 0 where there is none."""
    return isinstance(handling, dict) and bool(handling.get("error_code_value"))


def _failures(window: Profile) -> int:
    status = window.categories.get("status") or {}
    return window.counts.get("failed", 0) or sum(w > 0 for name, w in status.items() if name[:1] in "45")


def label_coverage(check: Check, seen: Observed) -> Iterator[Verdict]:
    """Whether as many predictions get a ground-truth label as declared, among those old enough to have one."""
    declared = seen.value(LABELS)
    if not isinstance(declared, dict) or declared.get("share") is None:
        if any(one.audits for one in seen.ring):
            yield check.unknown(f"labels come, but {LABELS}.share is not declared", field="labels")
        return
    share, delay = float(declared["share"]), declared.get("delay")
    left = Side(f"{LABELS}.share", share)
    wait = (duration_us(delay) if delay else 0) + seen.reference.lateness_us
    old = [one for one in seen.ring if one.start + seen.reference.window_us + wait <= seen.end_us]
    n, labels = sum(one.n for one in old), sum(one.audits for one in old)
    # Only some predictions are kept for their labels: each label stands for as many as its prediction does.
    labelled = sum(one.audit_expanded or one.audits * WEIGHT for one in old) / WEIGHT
    seen_n = n * labels / labelled if labelled else float(n)
    if not n:
        reason = f"no window that is kept is older than the declared delay of labels ({delay})"
        yield check.unknown(reason, field="labels", left=left)
        return
    limit = share - min(POINT, share / 5)
    yield at_least(
        check, "labels", left, "telemetry.labels.share", min(labelled / n, 1.0), seen_n, limit,
        f"fewer predictions get a label within {delay or 'the window'} than the declared {percent(share)}",
        enough=ENOUGH_LABELS, owner="data engineer", remedy="find out where labels are lost, or declare what arrives",
    )  # fmt: skip


def loss_coverage(check: Check, seen: Observed) -> Iterator[Verdict]:
    """Whether clients dropped more events than declared. Where nobody tells of a loss nothing is said."""
    counts = seen.window.counts
    lost, weight = counts.get("dropped_weight", 0), counts.get("weight", 0)
    if not lost:
        return
    share, declared = _declared(seen, "events")
    left = Side(f"{COVERAGE}.events", share if declared else None)
    n = float(counts.get("dropped", 0) + seen.window.n)
    reasons = sorted((seen.window.categories.get("dropped") or {}).items(), key=lambda item: (-item[1], item[0]))
    told = ", ".join(f"{name} {events}" for name, events in reasons[:5])
    yield at_most(
        check, "events", left, "telemetry.dropped", lost / (lost + weight), n, min(1 - share + POINT, 1.0),
        f"clients dropped {counts['dropped']} events of this window before they were sent ({told})",
        enough=seen.reference.minimum_n, evidence=seen.window.evidence(),
        remedy="find out why the broker is slow or away for the clients, give their recorders more room, or let them sample",
    )  # fmt: skip
