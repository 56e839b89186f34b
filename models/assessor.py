"""From complete windows to estimates, verdicts, a forecast and a decision: (state, window) -> (state, notes).

    Assembly ─> Tick ─> evidence ─> filter ─> forecast ─┐
                   └──> distances ─> drift estimators ─┴─> status, mismatches, retrain trigger

Pure and deterministic: ids and times come from the windows, so a replay says the same again.
"""

import uuid
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from models.assembly import Assembly, Tick
from models.columns import Subject
from models.drift import ESTIMATORS, DriftEstimator, DriftState
from models.evidence import Evidence, readings, remember
from models.forecast import Passage, current_quality, filter_quality, first_passage
from models.policy import PolicyState, Terms, Trigger, decide, forecast_fields, rfc3339
from models.profile import UNIT, WEIGHT, Profile
from models.quality import Estimate
from models.reference import Reference
from models.verdicts import Verdict, distribution_verdicts, quality_verdict, without_threshold
from models.window_book import NEVER

FORMAT = 1
NAMESPACE = uuid.UUID("5b0e6a0e-93e6-5c3e-8a36-0f1d2a7c9b11")
CONFIRM = 2  # windows that must agree before a mismatch opens, and before it is resolved


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """Something to be told: one line of a topic and one event of the store."""

    id: str
    kind: Literal["status", "mismatch", "trigger"]
    subject: Subject
    at_us: int
    start_us: int
    end_us: int
    body: dict[str, Any]
    check: str | None = None
    severity: str | None = None


class Conclusion(msgspec.Struct, frozen=True, kw_only=True):
    """What a window came to, in the columns that dashboards read."""

    subject: Subject
    start_us: int
    end_us: int
    estimate: Estimate
    best_before_us: int | None


class Open(msgspec.Struct):
    """A mismatch under watch: `bad` and `good` count windows in a row; `id` is set while it is open."""

    bad: int = 0
    good: int = 0
    id: str = ""
    first_seen_us: int = 0


class Saved(msgspec.Struct):
    """The state of a subject on the wire to the store. Only add fields, with defaults."""

    version: int
    assembly: Assembly
    ring: list[Evidence] = []
    block: bytes | None = None
    block_start: int = 0
    drift: dict[str, DriftState] = {}
    open: dict[str, Open] = {}
    policy: PolicyState | None = None


@dataclass(slots=True)
class State:
    """Everything the assessor remembers of one subject."""

    assembly: Assembly
    ring: list[Evidence] = field(default_factory=list)
    block: Profile | None = None
    block_start: int = 0
    drift: dict[str, DriftEstimator] = field(default_factory=dict)
    open: dict[str, Open] = field(default_factory=dict)
    policy: PolicyState = field(default_factory=PolicyState)

    def encode(self) -> bytes:
        """The state as msgpack, without pickle."""
        saved = Saved(
            FORMAT, self.assembly, self.ring, self.block.pack() if self.block else None, self.block_start,
            {name: estimator.state for name, estimator in self.drift.items()}, self.open, self.policy,
        )  # fmt: skip
        return msgspec.msgpack.encode(saved)

    @classmethod
    def decode(cls, body: bytes) -> "State":
        """The inverse of `encode`. Raises ValueError for a state of a newer version."""
        saved = msgspec.msgpack.decode(body, type=Saved)
        if saved.version > FORMAT:
            raise ValueError(f"estimator state has format {saved.version}, this version reads up to {FORMAT}: upgrade")
        return cls(
            saved.assembly, saved.ring, Profile.unpack(saved.block) if saved.block else None, saved.block_start,
            {name: DriftEstimator.from_state(state) for name, state in saved.drift.items()},
            saved.open, saved.policy or PolicyState(),
        )  # fmt: skip


def fresh(reference: Reference, sources: Iterable[str] = ()) -> State:
    """The state of a subject nothing is known about yet; `sources` are waited for from the start."""
    return State(Assembly(reference.window_us, dict.fromkeys(sources, NEVER)))


def assess(state: State, subject: Subject, reference: Reference) -> tuple[list[Note], list[Conclusion]]:
    """Work off every window that is complete in `state.assembly`."""
    notes: list[Note] = []
    conclusions: list[Conclusion] = []
    # Whoever is described only after the first events gets the declared window from then on.
    state.assembly.length = reference.window_us
    for tick in state.assembly.complete():
        for start, profile in tick.revisions:
            remember(state.ring, start, profile)
        if tick.profile is not None:
            told, conclusion = _window(state, subject, reference, tick)
            notes += told
            conclusions.append(conclusion)
    return notes, conclusions


def _window(state: State, subject: Subject, reference: Reference, tick: Tick) -> tuple[list[Note], Conclusion]:
    assert tick.profile is not None  # noqa: S101 -- for the type checker
    end = tick.start + reference.window_us
    evidence = remember(state.ring, tick.start, tick.profile)
    estimate, passage = _forecast(state, subject, reference, tick.start)
    verdicts = [*_distributions(state, reference, tick), quality_verdict(reference, estimate)]
    mismatches = _watch(state, subject, reference, tick.start, verdicts)
    notes = [*mismatches]
    trigger = _decision(state, subject, reference, end, estimate, passage)
    if trigger is not None:
        notes.append(_trigger_note(subject, trigger, tick.start, end))
    forecast = _forecast_fields(reference, passage, end)
    body = _status(state, subject, reference, tick.start, evidence, estimate, forecast, verdicts)
    notes.append(
        Note(
            id=_id(subject, tick.start, "status"),
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


# -- quality, forecast, decision -----------------------------------------------------------------------------


def _forecast(state: State, subject: Subject, reference: Reference, start: int) -> tuple[Estimate, Passage | None]:
    if not reference.registered:
        reason = f"no descriptor is registered for {subject.model} {subject.version}; run `bestbefore register DIR`"
        return Estimate(basis="none", reason=reason), None
    known = [e for e in state.ring if e.start <= start]
    filtered = filter_quality(readings(known, reference))
    estimate = current_quality(filtered)
    if estimate.estimate is None:
        own = known[-1].label_free(reference) if known else estimate
        estimate = msgspec.structs.replace(estimate, reason=own.reason or estimate.reason)
    if reference.threshold is None:
        return estimate, Passage(threshold=0.0, reason=without_threshold(reference))
    seed = zlib.crc32("\x00".join((*subject, str(start))).encode())
    lead = reference.lead_time_us / reference.window_us
    return estimate, first_passage(filtered, reference.threshold, lead=lead, seed=seed)


def _terms(reference: Reference) -> Terms | None:
    if reference.threshold is None:
        return None
    return Terms(
        threshold=reference.threshold,
        lead_time_us=reference.lead_time_us,
        window_us=reference.window_us,
        metric=reference.metric,
        cost_retrain=reference.cost_retrain,
        cost_degraded_per_day=reference.cost_degraded_per_day,
    )


def _decision(
    state: State, subject: Subject, reference: Reference, end: int, estimate: Estimate, passage: Passage | None
) -> Trigger | None:
    """Only all traffic of a model version decides: one incident, one trigger, whatever its segments say."""
    terms = _terms(reference)
    if terms is None or subject.segment or not reference.registered:
        return None
    ids = [watched.id for _, watched in sorted(state.open.items()) if watched.id]
    state.policy, trigger = decide(
        state.policy, terms, subject=(subject.model, subject.version), now_us=end, estimate=estimate, passage=passage,
        open_mismatches=ids,
    )  # fmt: skip
    return trigger


# -- drift and mismatches ------------------------------------------------------------------------------------


def _distributions(state: State, reference: Reference, tick: Tick) -> list[Verdict]:
    """Verdicts of the block that this window completes; windows with few events are joined until there are enough."""
    assert tick.profile is not None  # noqa: S101 -- for the type checker
    if state.block is None:
        state.block_start = tick.start
    block = (state.block or Profile()).merge(tick.profile)
    if block.n < reference.minimum_n:
        state.block = block
        reason = f"{block.n} events so far, {reference.minimum_n} are needed"
        return [Verdict(check="covariate-drift", verdict="unknown", reason=reason)] if reference.registered else []
    state.block = None
    verdicts = distribution_verdicts(block, reference)
    for stream, value in _streams(verdicts, block).items():
        for name in ESTIMATORS:
            state.drift.setdefault(f"{stream}/{name}", DriftEstimator(name)).update(value)
    return verdicts


def _streams(verdicts: list[Verdict], block: Profile) -> dict[str, float]:
    """One value per window and stream for the drift estimators."""
    names = {"covariate-drift": "inputs", "label-and-prediction-shift": "outputs", "embedding-drift": "embedding"}
    values: dict[str, float] = {}
    for verdict in verdicts:
        if verdict.distance is not None:
            stream = names[verdict.check]
            values[stream] = max(values.get(stream, 0.0), verdict.distance.estimate)
    scored = block.counts.get("scored", 0)
    if scored:
        values["confidence"] = float(block.sums["confidence"][0]) / UNIT / (scored / WEIGHT)
    return values


def _watch(state: State, subject: Subject, reference: Reference, start: int, verdicts: list[Verdict]) -> list[Note]:
    """Open a mismatch after CONFIRM windows that show it, resolve it after CONFIRM windows that do not.

    What is unknown does neither: an open mismatch stays until there is evidence that it is gone.
    """
    notes = []
    for verdict in verdicts:
        if verdict.verdict == "unknown":
            continue
        watched = state.open.setdefault(f"{verdict.check}/{verdict.field}", Open())
        shown = verdict.verdict == "mismatch"
        watched.bad, watched.good = (watched.bad + 1, 0) if shown else (0, watched.good + 1)
        if shown and watched.bad == 1 and not watched.id:
            watched.first_seen_us = start
        if watched.bad >= CONFIRM and not watched.id:
            watched.id = _id(subject, watched.first_seen_us, verdict.check, verdict.field)
            notes.append(_mismatch(subject, reference, start, verdict, watched, watched.id))
        elif watched.good >= CONFIRM and watched.id:
            resolved = _id(subject, start, verdict.check, verdict.field, "resolved")
            notes.append(_mismatch(subject, reference, start, verdict, watched, resolved))
            watched.id = ""
    return notes


def _mismatch(
    subject: Subject, reference: Reference, start: int, verdict: Verdict, watched: Open, note_id: str
) -> Note:
    end = start + reference.window_us
    distance = verdict.distance
    body = {
        "id": note_id,
        "check": verdict.check,
        "verdict": verdict.verdict,
        "severity": verdict.severity,
        "model": subject.model,
        "version": subject.version,
        "segment": subject.segment or None,
        "field": verdict.field,
        "left": verdict.left,
        "right": verdict.right,
        "effect": None if distance is None else {
            "statistic": distance.statistic, "estimate": _rounded(distance.estimate), "low": _rounded(distance.low),
            "high": _rounded(distance.high), "threshold": _rounded(distance.threshold), "n": _rounded(distance.n),
        },
        "window": {"start": rfc3339(start), "end": rfc3339(end)},
        "first_seen": rfc3339(watched.first_seen_us),
        "message": verdict.message or f"{verdict.field} looks as declared again",
        "owner": reference.owner,
        "evidence": [],
        "incident": watched.id,
    }  # fmt: skip
    return Note(
        id=note_id, kind="mismatch", subject=subject, at_us=end, start_us=start, end_us=end, body=body,
        check=verdict.check, severity=verdict.severity,
    )  # fmt: skip


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
        "window": {"start": rfc3339(start), "end": rfc3339(start + reference.window_us), "n": evidence.n},
        "quality": {
            "metric": estimate.metric, "estimate": _rounded(estimate.estimate), "low": _rounded(estimate.low),
            "high": _rounded(estimate.high), "basis": estimate.basis, "n": estimate.n, "reason": estimate.reason,
        },
        "window_quality": {
            "label_free": _reading(own_free), "audited": _reading(own_audit),
            "labels": sum(e.audits for e in state.ring),
        },
        "duplicate_rate": _rounded(evidence.duplicate_rate()),
        "forecast": forecast,
        "verdicts": _worst(verdicts),
        "drift_alarms": {name: estimator.alarms for name, estimator in sorted(state.drift.items()) if estimator.alarms},
        "open_mismatches": sorted(key for key, watched in state.open.items() if watched.id),
        "incident": state.policy.trigger_id,
    }  # fmt: skip


def _reading(estimate: Estimate) -> dict[str, Any]:
    return {
        "estimate": _rounded(estimate.estimate), "low": _rounded(estimate.low), "high": _rounded(estimate.high),
        "n": estimate.n, "reason": estimate.reason,
    }  # fmt: skip


def _worst(verdicts: list[Verdict]) -> dict[str, str]:
    """One word per check: a mismatch in any field counts, then anything unknown."""
    rank = {"ok": 0, "unknown": 1, "mismatch": 2}
    worst: dict[str, str] = {}
    for verdict in verdicts:
        if rank[verdict.verdict] >= rank[worst.get(verdict.check, "ok")]:
            worst[verdict.check] = verdict.verdict
    return worst


def _forecast_fields(reference: Reference, passage: Passage | None, end: int) -> dict[str, Any]:
    terms = _terms(reference)
    if terms is None or passage is None:
        reason = passage.reason if passage is not None else "no descriptor is registered"
        return {
            "threshold": reference.threshold, "best_before": None, "low": None, "high": None,
            "probability_within_lead_time": None, "censored": False, "reason": reason,
        }  # fmt: skip
    return forecast_fields(terms, passage, end)


def _trigger_note(subject: Subject, trigger: Trigger, start: int, end: int) -> Note:
    return Note(
        id=trigger.trigger_id, kind="trigger", subject=subject, at_us=end, start_us=start, end_us=end,
        body=_digits(msgspec.to_builtins(trigger)), severity=trigger.severity,
    )  # fmt: skip


def _id(subject: Subject, start: int, *parts: str) -> str:
    return str(uuid.uuid5(NAMESPACE, "\x00".join((*subject, str(start), *parts))))


def _digits(value: Any) -> Any:
    """The same with every real number `_rounded`."""
    if isinstance(value, dict):
        return {key: _digits(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_digits(part) for part in value]
    return _rounded(value) if isinstance(value, float) else value


def _rounded(value: float | None) -> float | None:
    """Six significant digits: what is told does not depend on the last bits of a processor."""
    return None if value is None else float(f"{value:.6g}")
