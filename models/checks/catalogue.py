"""All checks, in the order of the data: from what was declared to what is decided."""

from collections.abc import Callable, Iterable
from typing import Any

from models.checks import (
    calibration_and_concept,
    capacity_and_deadline,
    cause_and_cure,
    completeness_and_staleness,
    covariate_drift,
    domain_and_schema,
    embedding_drift,
    failure_and_default_output,
    interface_compatibility,
    label_and_prediction_shift,
    latency_rate_buffering,
    missing_and_special_values,
    model_identity,
    observability_coverage,
    pipeline_skew,
    quality_and_time_to_threshold,
    reference_closure,
    runtime_fingerprint,
    threshold_coherence,
    unit_scale_encoding,
    user_defined,
)
from models.checks.check import Check
from models.checks.observed import Observed
from models.checks.verdict import RANK, Verdict
from models.checks.workplace import Workplace

CHECKS: tuple[Check, ...] = (
    reference_closure.CHECK,
    interface_compatibility.CHECK,
    capacity_and_deadline.CHECK,
    runtime_fingerprint.CHECK,
    observability_coverage.CHECK,
    threshold_coherence.CHECK,
    completeness_and_staleness.CHECK,
    domain_and_schema.CHECK,
    missing_and_special_values.CHECK,
    unit_scale_encoding.CHECK,
    pipeline_skew.CHECK,
    model_identity.CHECK,
    covariate_drift.CHECK,
    embedding_drift.CHECK,
    label_and_prediction_shift.CHECK,
    quality_and_time_to_threshold.CHECK,
    calibration_and_concept.CHECK,
    latency_rate_buffering.CHECK,
    failure_and_default_output.CHECK,
    cause_and_cure.CHECK,
    user_defined.CHECK,
)
BY_ID: dict[str, Check] = {check.id: check for check in CHECKS}
# Whose reference is a mixture of all segments; a site that differs from the others has not drifted.
WHOLE = frozenset(("covariate-drift", "embedding-drift", "label-and-prediction-shift"))
# What unusual but well-typed facts in a descriptor may lead to; one check that fails must not end the others.
_TROUBLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def _segment(check: Check) -> list[Verdict]:
    return [check.unknown("the reference describes all traffic, of which a segment is no fair sample")]


def with_alias(alias: str) -> Check | None:
    """The check that stands for a rule of another tool: `tec:12`."""
    return next((check for check in CHECKS if alias in check.aliases), None)


def design(workplace: Workplace) -> list[Verdict]:
    """Every verdict that can be given from the descriptors alone."""
    return [v for check in CHECKS if check.design for v in _verdicts(check, check.design, workplace)]


def live(seen: Observed) -> list[Verdict]:
    """Every verdict about one window. Nothing was declared about a model that nobody registered."""
    if not seen.reference.registered:
        return []
    return [
        v for check in CHECKS if check.live
        for v in (_segment(check) if seen.subject.segment and check.id in WHOLE else _verdicts(check, check.live, seen))
    ]  # fmt: skip


def fleet(seen: Observed) -> list[Verdict]:
    """Every verdict about all versions of a model side by side."""
    if not seen.reference.registered:
        return []
    return [v for check in CHECKS if check.fleet for v in _verdicts(check, check.fleet, seen)]


def worst(verdicts: Iterable[Verdict]) -> dict[str, str]:
    """One word per check: a mismatch in any field counts, then anything unknown."""
    found: dict[str, Any] = {}
    for verdict in verdicts:
        if RANK[verdict.verdict] >= RANK[found.get(verdict.check, "ok")]:
            found[verdict.check] = verdict.verdict
    return found


def _verdicts(check: Check, call: Callable[[Any], Iterable[Verdict]], subject: Any) -> list[Verdict]:
    try:
        return list(call(subject))
    except _TROUBLE as error:
        # What an error says of live traffic may quote a value, which may be of a person.
        said = f": {error}" if isinstance(subject, Workplace) else ""
        return [check.unknown(f"the check failed ({type(error).__name__}{said}); look at the facts it reads")]
