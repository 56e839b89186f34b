"""Everything the assessor remembers of one subject, and how it is written into the store: without pickle, versioned.

A new part is a field with a default in `State` and in `Saved`, and a line in `encode` and `decode`; it is forgotten
when a version begins a new life, unless KEPT names it. Every part is bounded.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields

import msgspec

from models.assembly import Assembly
from models.audited_quality import AuditedQuality
from models.change import Change, ChangeState
from models.checks.observed import Memory
from models.drift import DriftEstimator, DriftState
from models.evidence import Evidence
from models.forecast import MEMORY
from models.forecast_history import History, again
from models.lifecycle import Life
from models.newma import Newma, NewmaState
from models.outlook import Outlook
from models.policy import PolicyState
from models.profile import Profile
from models.reference import Reference
from models.usual_segments import Usual, UsualState
from models.watch import Open
from models.window_book import NEVER

FORMAT = 1  # raised only where the previous version could not read what this one writes
# What a version that begins a new life keeps: where its windows stand, mismatches (evidence resolves them), what checks
# remember of them, cool-downs.
KEPT = frozenset(("assembly", "open", "memory", "policy", "life", "ring", "history"))


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
        """The inverse of `encode`. Raises ValueError for a state of a newer version, and for bytes that are none."""
        try:
            saved = msgspec.msgpack.decode(body, type=Saved)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"estimator state cannot be read: {str(error)[:300]!a}") from None
        if saved.version > FORMAT:
            raise ValueError(f"estimator state has format {saved.version}, this version reads up to {FORMAT}: upgrade")
        try:
            return cls._of(saved)
        except (ValueError, TypeError, ArithmeticError, LookupError) as error:  # numbers that no estimator has written
            raise ValueError(f"estimator state cannot be used: {str(error)[:300]!a}") from None

    @classmethod
    def _of(cls, saved: Saved) -> "State":
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

    def forgets(self, start: int) -> bool:
        """Whether what comes of the window that starts there enters no estimate any more."""
        return not self.concerns(start) or (len(self.ring) >= MEMORY and start < self.ring[0].start)


def fresh(reference: Reference, sources: Iterable[str] = (), history: History | None = None) -> State:
    """The state of a subject nothing is known about yet; `sources` are waited for from the start.

    `history` is what the forecasts of earlier versions of the model taught, see `models.forecast_history.inherited`.
    """
    assembly = Assembly(reference.window_us, dict.fromkeys(sources, NEVER))
    return State(assembly, history=History() if history is None else history)
