"""From complete windows to estimates, verdicts, a forecast and a decision: (state, window) -> (state, notes).

    Assembly ─> Tick ─> evidence ─> filter ─> forecast ─┐
                   └──> distances ─> drift estimators ─┴─> status, mismatches, retrain trigger

Pure and deterministic: ids and times come from the windows, so a replay says the same again.
"""

import zlib
from typing import Any

import msgspec

from models.assembly import Tick
from models.audit_lines import audited_fields, label_fields
from models.audits import mark
from models.change_layer import follow_change
from models.change_told import status as change_status
from models.change_told import verdicts as change_verdicts
from models.checks.catalogue import fleet, live, worst
from models.checks.observed import Observed
from models.checks.quality_and_time_to_threshold import without_threshold
from models.checks.verdict import Verdict
from models.columns import Subject
from models.decision import decision
from models.drift import DETECTORS, selected
from models.drift_streams import drift_streams, followed_by
from models.evidence import Evidence, readings, remember
from models.forecast import Passage, current_quality, filter_quality
from models.forecast_history import due, followed, noted, under
from models.inspection import Inspection
from models.kernel_streams import support_fields
from models.lifecycle import lifecycle_fields, turn
from models.notes import Note, note_id, rounded
from models.outlook import forecast, told
from models.policy import forecast_fields, rfc3339, terms_of
from models.profile import Profile
from models.quality import Estimate
from models.reference import Reference
from models.subject_state import State
from models.watch import causes_of, watch


class Conclusion(msgspec.Struct, frozen=True, kw_only=True):
    """What a window came to, in the columns that dashboards read."""

    subject: Subject
    start_us: int
    end_us: int
    estimate: Estimate
    best_before_us: int | None


def assess(
    state: State, subject: Subject, reference: Reference, inspection: Inspection | None = None
) -> tuple[list[Note], list[Conclusion]]:
    """Work off every window that is complete in `state.assembly`. `inspection` is the newest of the model's file."""
    notes: list[Note] = []
    conclusions: list[Conclusion] = []
    # Whoever is described only after the first events gets the declared window from then on.
    state.assembly.length = reference.window_us
    # Whoever was described and falls silent is missed.
    missed = misses(state, subject, reference)
    for tick in state.assembly.complete(silence=missed):
        for start, profile in tick.revisions:
            if state.concerns(start):
                remember(state.ring, start, profile, (tick.start - start) // reference.window_us)
                state.outlook.touched(start)
        if tick.profile is None:
            continue
        if not subject.version:
            notes += _fleet(state, subject, reference, tick)
            continue
        notes += _turned(state, subject, reference, tick.start + reference.window_us)
        if not tick.profile.counts and not misses(state, subject, reference):
            continue  # nobody expected traffic of it any more
        told, conclusion = _window(state, subject, reference, tick, inspection)
        notes += told
        conclusions.append(conclusion)
    # Also where no window comes any more: every source has passed the time of the change.
    notes += _turned(state, subject, reference, state.assembly.passed)
    return notes, conclusions


def misses(state: State, subject: Subject, reference: Reference) -> bool:
    """Whether traffic of this subject is expected, so that its silence is told."""
    return reference.registered and not subject.segment and state.life.serving


def _turned(state: State, subject: Subject, reference: Reference, upto_us: int) -> list[Note]:
    """Make the lifecycle changes that happened before `upto_us`."""
    if not state.life.pending:
        return []
    turned = turn(state.life, state.policy, subject, reference, upto_us)
    state.policy = turned.policy
    if turned.renewed:
        state.renew()
    return turned.notes


def _window(
    state: State, subject: Subject, reference: Reference, tick: Tick, inspection: Inspection | None
) -> tuple[list[Note], Conclusion]:
    assert tick.profile is not None  # noqa: S101 -- for the type checker
    end = tick.start + reference.window_us
    evidence = remember(state.ring, tick.start, tick.profile)
    known = [e for e in state.ring if e.start <= tick.start]
    mark(known, reference)
    state.audited.follow(known, reference, subject)
    estimate, passage, words = _forecast(state, subject, reference, tick.start)
    block = _joined(state, reference, tick)
    seen = Observed(
        reference=reference, subject=subject, window=tick.profile, block=block, start_us=tick.start, end_us=end,
        block_start_us=state.block_start, estimate=estimate, inspection=inspection, ring=state.ring,
        memory=state.memory, passage=passage, causes=causes_of(state.open), labels=_labels(tick), usual=state.usual,
        audited=state.audited,
    )  # fmt: skip
    verdicts = live(seen)
    drift = drift_streams(verdicts, block, reference, state.usual, state.newma)
    state.drift = followed_by(state.drift, drift, selected(seen.value(DETECTORS)))
    state.change = follow_change(state.change, seen, evidence, drift)
    verdicts += change_verdicts(state.change) if state.change else []
    notes = watch(state.open, subject, reference, tick.start, verdicts, seen.traces, heard=tick.profile.n > 0)
    state.policy, decided = decision(state.life, state.policy, seen, causes_of(state.open))
    notes += decided
    told_of = {**_forecast_fields(reference, passage, end), **words}
    body = _status(state, subject, reference, tick.start, evidence, estimate, told_of, verdicts)
    body["support"] = support_fields(reference, tick.profile)
    notes.append(
        Note(
            id=note_id(subject, tick.start, "status"),
            kind="status",
            subject=subject,
            at_us=end,
            start_us=tick.start,
            end_us=end,
            body=body,
        )
    )
    ahead = passage.median if passage is not None else None
    best_before = None if ahead is None else end + round(ahead * reference.window_us)
    return notes, Conclusion(
        subject=subject, start_us=tick.start, end_us=end, estimate=estimate, best_before_us=best_before
    )


def _fleet(state: State, subject: Subject, reference: Reference, tick: Tick) -> list[Note]:
    """All versions of a model side by side: only what they say together is judged, and no quality."""
    assert tick.profile is not None  # noqa: S101 -- for the type checker
    end = tick.start + reference.window_us
    seen = Observed(
        reference=reference, subject=subject, window=tick.profile, block=_joined(state, reference, tick),
        start_us=tick.start, end_us=end, block_start_us=state.block_start, memory=state.memory,
    )  # fmt: skip
    return watch(state.open, subject, reference, tick.start, fleet(seen), seen.traces, heard=tick.profile.n > 0)


# -- quality, forecast, decision -----------------------------------------------------------------------------


def _forecast(
    state: State, subject: Subject, reference: Reference, start: int
) -> tuple[Estimate, Passage | None, dict[str, Any]]:
    """The quality now, the forecast, and the words that go with it."""
    if not reference.registered:
        reason = f"no descriptor is registered for {subject.model} {subject.version}; run `bestbefore register DIR`"
        return Estimate(basis="none", reason=reason), None, {}
    known = [e for e in state.ring if e.start <= start]
    filtered = filter_quality(readings(known, reference))
    estimate = current_quality(filtered)
    if estimate.estimate is None:
        own = known[-1].label_free(reference) if known else estimate
        estimate = msgspec.structs.replace(estimate, reason=own.reason or estimate.reason)
    if reference.threshold is None:
        return estimate, Passage(threshold=0.0, reason=without_threshold(reference)), {}
    seed = zlib.crc32("\x00".join((*subject, str(start))).encode())
    found = forecast(state.outlook, known, reference, state.history.calibration, filtered, seed)
    if not subject.segment and found.made_by is not None:
        window = start // reference.window_us
        state.history = under(state.history, reference.window_us, reference.threshold)
        if known[-1].n:  # whoever serves nobody is not watched
            state.history = followed(state.history, window, estimate, reference.threshold)
        if due(state.history, window, found.passage):
            state.history = noted(state.history, window, found.passage, found.made_by.features)
    return estimate, found.passage, told(found, reference, state.history.series)


def _labels(tick: Tick) -> Profile:
    """Only what labels say, of this window and of older ones that were revised with it."""
    found = Profile()
    for profile in (tick.profile, *(revised for _, revised in tick.revisions)):
        if profile is not None and profile.counts.get("audit.n"):
            part = Profile()
            part.counts = {k: v for k, v in profile.counts.items() if k.startswith("audit.")}
            part.categories = {k: dict(v) for k, v in profile.categories.items() if k in ("truth", "audit.label")}
            found.merge(part)
    return found


# -- drift ------------------------------------------------------------------------------------


def _joined(state: State, reference: Reference, tick: Tick) -> Profile | None:
    """The block that this window completes: windows with few events are joined until there are enough."""
    assert tick.profile is not None  # noqa: S101 -- for the type checker
    if state.block is None:
        state.block_start = tick.start
    block = (state.block or Profile()).merge(tick.profile)
    state.block = block if block.n < reference.minimum_n else None
    return None if state.block is not None else block


# -- lines ---------------------------------------------------------------------------------------------------


def _status(
    state: State, subject: Subject, reference: Reference, start: int, evidence: Evidence, estimate: Estimate,
    forecast: dict[str, Any], verdicts: list[Verdict],
) -> dict[str, Any]:  # fmt: skip
    own_free, own_audit = evidence.label_free(reference), evidence.audited()
    return {
        "model": subject.model,
        "version": subject.version,
        "segment": subject.segment or None,
        "registered": reference.registered,
        "window": {
            "start": rfc3339(start), "end": rfc3339(start + reference.window_us), "n": evidence.n,
            **{name: n for name in ("dropped", "sampled_out") if (n := getattr(evidence, name))},
        },
        "quality": {
            "metric": estimate.metric, "estimate": rounded(estimate.estimate), "low": rounded(estimate.low),
            "high": rounded(estimate.high), "basis": estimate.basis, "n": estimate.n, "reason": estimate.reason,
        },
        "window_quality": {
            "label_free": _reading(own_free) | {"by": evidence.read_by(reference)}, "audited": _reading(own_audit),
            "labels": sum(e.audits for e in state.ring),
        },
        "quality_audited": audited_fields(state.audited),
        "labels": label_fields([e for e in state.ring if e.start <= start], reference),
        "duplicate_rate": rounded(evidence.duplicate_rate()),
        "beyond_segments": evidence.beyond,
        "forecast": forecast,
        "verdicts": worst(verdicts),
        "drift_alarms": {name: estimator.alarms for name, estimator in sorted(state.drift.items()) if estimator.alarms},
        "change": change_status(state.change) if state.change else None,
        "open_mismatches": sorted(key for key, watched in state.open.items() if watched.id),
        "incident": state.policy.trigger_id,
        "open_triggers": state.policy.open_triggers,
        "lifecycle": lifecycle_fields(state.life),
    }  # fmt: skip


def _reading(estimate: Estimate) -> dict[str, Any]:
    return {
        "estimate": rounded(estimate.estimate), "low": rounded(estimate.low), "high": rounded(estimate.high),
        "n": estimate.n, "reason": estimate.reason,
    }  # fmt: skip


def _forecast_fields(reference: Reference, passage: Passage | None, end: int) -> dict[str, Any]:
    terms = terms_of(reference)
    if terms is None or passage is None:
        reason = passage.reason if passage is not None else "no descriptor is registered"
        return {
            "threshold": reference.threshold, "best_before": None, "low": None, "high": None,
            "probability_within_lead_time": None, "censored": False, "reason": reason,
        }  # fmt: skip
    return forecast_fields(terms, passage, end)
