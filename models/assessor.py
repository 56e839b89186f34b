"""From complete windows to estimates, verdicts, a forecast and a decision: (state, window) -> (state, notes).

    Assembly ─> Tick ─> evidence ─> filter ─> forecast ─┐
                   └──> distances ─> drift estimators ─┴─> status, mismatches, retrain trigger

Pure and deterministic: ids and times come from the windows, so a replay says the same again.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from models.assembly import Assembly, Tick
from models.causes import recalibrated
from models.change import Change, ChangeState
from models.change_layer import follow_change
from models.change_told import status as change_status
from models.change_told import verdicts as change_verdicts
from models.checks.catalogue import fleet, live, worst
from models.checks.observed import Memory, Observed
from models.checks.quality_and_time_to_threshold import without_threshold
from models.checks.verdict import Verdict
from models.columns import Subject
from models.drift import DETECTORS, DriftEstimator, DriftState, selected
from models.evidence import Evidence, readings, remember
from models.forecast import Passage, current_quality, filter_quality, first_passage
from models.inspection import Inspection
from models.notes import Note, digits, note_id, rounded
from models.policy import PolicyState, Trigger, decide, forecast_fields, rfc3339, terms_of
from models.profile import UNIT, WEIGHT, Profile
from models.quality import Estimate
from models.reference import Reference
from models.watch import Open, causes_of, watch
from models.window_book import NEVER

FORMAT = 1
DIVERGENCE = "jensen-shannon"  # what most of the drift streams are made of


class Conclusion(msgspec.Struct, frozen=True, kw_only=True):
    """What a window came to, in the columns that dashboards read."""

    subject: Subject
    start_us: int
    end_us: int
    estimate: Estimate
    best_before_us: int | None


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
    memory: Memory = {}
    change: ChangeState | None = None


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
    memory: Memory = field(default_factory=dict)
    change: Change | None = None

    def encode(self) -> bytes:
        """The state as msgpack, without pickle."""
        saved = Saved(
            FORMAT, self.assembly, self.ring, self.block.pack() if self.block else None, self.block_start,
            {name: estimator.state for name, estimator in self.drift.items()}, self.open, self.policy,
            self.memory, self.change.state if self.change else None,
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
            saved.open, saved.policy or PolicyState(), saved.memory,
            Change.from_state(saved.change) if saved.change else None,
        )  # fmt: skip


def fresh(reference: Reference, sources: Iterable[str] = ()) -> State:
    """The state of a subject nothing is known about yet; `sources` are waited for from the start."""
    return State(Assembly(reference.window_us, dict.fromkeys(sources, NEVER)))


def assess(
    state: State, subject: Subject, reference: Reference, inspection: Inspection | None = None
) -> tuple[list[Note], list[Conclusion]]:
    """Work off every window that is complete in `state.assembly`. `inspection` is the newest of the model's file."""
    notes: list[Note] = []
    conclusions: list[Conclusion] = []
    # Whoever is described only after the first events gets the declared window from then on.
    state.assembly.length = reference.window_us
    # Whoever was described and falls silent is missed.
    missed = reference.registered and not subject.segment
    for tick in state.assembly.complete(silence=missed):
        for start, profile in tick.revisions:
            remember(state.ring, start, profile)
        if tick.profile is None:
            continue
        if not subject.version:
            notes += _fleet(state, subject, reference, tick)
            continue
        told, conclusion = _window(state, subject, reference, tick, inspection)
        notes += told
        conclusions.append(conclusion)
    return notes, conclusions


def _window(
    state: State, subject: Subject, reference: Reference, tick: Tick, inspection: Inspection | None
) -> tuple[list[Note], Conclusion]:
    assert tick.profile is not None  # noqa: S101 -- for the type checker
    end = tick.start + reference.window_us
    evidence = remember(state.ring, tick.start, tick.profile)
    estimate, passage = _forecast(state, subject, reference, tick.start)
    block = _joined(state, reference, tick)
    seen = Observed(
        reference=reference, subject=subject, window=tick.profile, block=block, start_us=tick.start, end_us=end,
        block_start_us=state.block_start, estimate=estimate, inspection=inspection, ring=state.ring,
        memory=state.memory, passage=passage, causes=causes_of(state.open), labels=_labels(tick),
    )  # fmt: skip
    verdicts = live(seen)
    drift = _streams(verdicts, block) if block is not None else {}
    _follow(state, drift, selected(seen.value(DETECTORS)))
    state.change = follow_change(state.change, seen, evidence, drift)
    verdicts += change_verdicts(state.change) if state.change else []
    notes = watch(state.open, subject, reference, tick.start, verdicts)
    trigger = _decision(state, seen)
    if trigger is not None:
        notes.append(_trigger_note(subject, trigger, tick.start, end))
    forecast = _forecast_fields(reference, passage, end)
    body = _status(state, subject, reference, tick.start, evidence, estimate, forecast, verdicts)
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
    return watch(state.open, subject, reference, tick.start, fleet(seen))


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


def _decision(state: State, seen: Observed) -> Trigger | None:
    """Only all traffic of a model version decides: one incident a cause, one trigger, whatever its segments say."""
    terms, subject = terms_of(seen.reference), seen.subject
    if terms is None or subject.segment or not seen.reference.registered:
        return None
    causes = causes_of(state.open)
    state.policy, trigger = decide(
        state.policy, terms, subject=(subject.model, subject.version), now_us=seen.end_us,
        estimate=seen.estimate or Estimate(), passage=seen.passage, open_mismatches=[cause.id for cause in causes],
        causes=causes, recalibration=recalibrated(seen.block, seen.reference),
    )  # fmt: skip
    return trigger


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


def _follow(state: State, streams: dict[str, float], detectors: tuple[str, ...]) -> None:
    """Feed the drift estimators, once per block; those no longer selected are forgotten."""
    state.drift = {name: known for name, known in state.drift.items() if known.name in detectors}
    for stream, value in streams.items():
        for name in detectors:
            state.drift.setdefault(f"{stream}/{name}", DriftEstimator(name)).update(value)


def _streams(verdicts: list[Verdict], block: Profile) -> dict[str, float]:
    """One value per window and stream for the drift estimators."""
    names = {"covariate-drift": "inputs", "label-and-prediction-shift": "outputs", "embedding-drift": "embedding"}
    values: dict[str, float] = {}
    for verdict in verdicts:
        stream, effect = names.get(verdict.check), verdict.effect
        if stream is not None and effect is not None:
            # Divergences and shifts have other units: each is a stream of its own.
            stream = stream if effect.statistic == DIVERGENCE else f"{stream}/{effect.statistic}"
            values[stream] = max(values.get(stream, 0.0), effect.estimate)
    scored = block.counts.get("scored", 0)
    if scored:
        values["confidence"] = float(block.sums["confidence"][0]) / UNIT / (scored / WEIGHT)
    return values


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
            "metric": estimate.metric, "estimate": rounded(estimate.estimate), "low": rounded(estimate.low),
            "high": rounded(estimate.high), "basis": estimate.basis, "n": estimate.n, "reason": estimate.reason,
        },
        "window_quality": {
            "label_free": _reading(own_free), "audited": _reading(own_audit),
            "labels": sum(e.audits for e in state.ring),
        },
        "duplicate_rate": rounded(evidence.duplicate_rate()),
        "forecast": forecast,
        "verdicts": worst(verdicts),
        "drift_alarms": {name: estimator.alarms for name, estimator in sorted(state.drift.items()) if estimator.alarms},
        "change": change_status(state.change) if state.change else None,
        "open_mismatches": sorted(key for key, watched in state.open.items() if watched.id),
        "incident": state.policy.trigger_id,
        "open_triggers": state.policy.open_triggers,
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


def _trigger_note(subject: Subject, trigger: Trigger, start: int, end: int) -> Note:
    return Note(
        id=trigger.trigger_id, kind="trigger", subject=subject, at_us=end, start_us=start, end_us=end,
        body=digits(msgspec.to_builtins(trigger)), severity=trigger.severity,
    )  # fmt: skip
