"""From complete windows to estimates, verdicts, a forecast and a decision: (state, window) -> (state, notes).

    Assembly ─> Tick ─> evidence ─> filter ─> forecast ─┐
                   └──> distances ─> drift estimators ─┴─> status, mismatches, retrain trigger

Pure and deterministic: ids and times come from the windows, so a replay says the same again.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

import msgspec

from models.assembly import Assembly, Tick
from models.audit_lines import audited_fields, label_fields
from models.audited_quality import AuditedQuality
from models.audits import mark
from models.change import Change, ChangeState
from models.change_layer import follow_change
from models.change_told import status as change_status
from models.change_told import verdicts as change_verdicts
from models.checks.catalogue import fleet, live, worst
from models.checks.observed import Memory, Observed
from models.checks.quality_and_time_to_threshold import without_threshold
from models.checks.verdict import Verdict
from models.columns import Subject
from models.decision import decision
from models.drift import DETECTORS, DriftEstimator, DriftState, selected
from models.drift_streams import drift_streams, followed_by
from models.evidence import Evidence, readings, remember
from models.forecast import Passage, current_quality, filter_quality
from models.forecast_history import History, again, due, followed, noted
from models.inspection import Inspection
from models.kernel_streams import support_fields
from models.lifecycle import Life, lifecycle_fields, turn
from models.newma import Newma, NewmaState
from models.notes import Note, note_id, rounded
from models.outlook import Outlook, forecast, told
from models.policy import PolicyState, forecast_fields, rfc3339, terms_of
from models.profile import Profile
from models.quality import Estimate
from models.reference import Reference
from models.usual_segments import Usual, UsualState
from models.watch import Open, causes_of, watch
from models.window_book import NEVER

FORMAT = 1
# What a version that begins a new life keeps: where its windows stand, mismatches (evidence resolves them), what checks
# remember of them, cool-downs.
KEPT = frozenset(("assembly", "open", "memory", "policy", "life", "ring", "history"))


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
    newma: NewmaState | None = None
    life: Life | None = None
    outlook: Outlook | None = None
    history: History = History()
    usual: UsualState | None = None
    audited: AuditedQuality | None = None
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
    newma: Newma = field(default_factory=Newma)
    life: Life = field(default_factory=Life)
    outlook: Outlook = field(default_factory=Outlook)
    history: History = field(default_factory=History)
    usual: Usual = field(default_factory=Usual)
    audited: AuditedQuality = field(default_factory=AuditedQuality)
    change: Change | None = None

    def encode(self) -> bytes:
        """The state as msgpack, without pickle."""
        saved = Saved(
            version=FORMAT,
            assembly=self.assembly,
            ring=self.ring,
            block=self.block.pack() if self.block else None,
            block_start=self.block_start,
            drift={name: estimator.state for name, estimator in self.drift.items()},
            open=self.open,
            policy=self.policy,
            memory=self.memory,
            newma=self.newma.state,
            usual=self.usual.state,
            life=self.life,
            outlook=self.outlook,
            history=self.history,
            audited=self.audited,
            change=self.change.state if self.change else None,
        )
        return msgspec.msgpack.encode(saved)

    @classmethod
    def decode(cls, body: bytes) -> "State":
        """The inverse of `encode`. Raises ValueError for a state of a newer version."""
        saved = msgspec.msgpack.decode(body, type=Saved)
        if saved.version > FORMAT:
            raise ValueError(f"estimator state has format {saved.version}, this version reads up to {FORMAT}: upgrade")
        return cls(
            assembly=saved.assembly,
            ring=saved.ring,
            block=Profile.unpack(saved.block) if saved.block else None,
            block_start=saved.block_start,
            drift={name: DriftEstimator.from_state(state) for name, state in saved.drift.items()},
            open=saved.open,
            policy=saved.policy or PolicyState(),
            memory=saved.memory,
            newma=Newma.from_state(saved.newma),
            usual=Usual.from_state(saved.usual),
            life=saved.life or Life(),
            outlook=saved.outlook or Outlook(),
            history=saved.history,
            audited=saved.audited or AuditedQuality(),
            change=Change.from_state(saved.change) if saved.change else None,
        )

    def renew(self) -> None:
        """Forget what was estimated of the version before its present life; what is not KEPT begins anew."""
        anew = State(self.assembly)
        for part in fields(self):
            if part.name not in KEPT:
                setattr(self, part.name, getattr(anew, part.name))
        self.ring = [e for e in self.ring if self.concerns(e.start)]
        self.history = again(self.history)

    def concerns(self, start: int) -> bool:
        """Whether the window that starts there belongs to the present life of the version."""
        return self.life.born_us is None or start + self.assembly.length > self.life.born_us


def fresh(reference: Reference, sources: Iterable[str] = (), history: History | None = None) -> State:
    """The state of a subject nothing is known about yet; `sources` are waited for from the start.

    `history` is what the forecasts of earlier versions of the model taught, see `models.forecast_history.inherited`.
    """
    assembly = Assembly(reference.window_us, dict.fromkeys(sources, NEVER))
    return State(assembly, history=History() if history is None else history)


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
    notes = watch(state.open, subject, reference, tick.start, verdicts)
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
    return watch(state.open, subject, reference, tick.start, fleet(seen))


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
        "window": {"start": rfc3339(start), "end": rfc3339(start + reference.window_us), "n": evidence.n},
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
