"""What a run-time check looks at: one window's profile of one subject beside everything that was declared."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.audited_quality import AuditedQuality
from models.causes import OpenCause
from models.checks.verdict import Side
from models.columns import Subject
from models.descriptors.paths import entries_at, items_at, value_at
from models.evidence import Evidence
from models.forecast import Passage
from models.inspection import Inspection
from models.profile import Profile
from models.quality import Estimate
from models.reference import Reference
from models.traces import examples
from models.usual_segments import Usual

Memory = dict[str, list[float]]  # what checks remember across windows, by `check/field`; at most MEMORY_SIZE numbers
MEMORY_SIZE = 64


@dataclass(kw_only=True)
class Observed:
    """One window, complete, of one subject.

    `window` is its profile; `block` joins consecutive windows until they have `reference.minimum_n` events, and is
    None while that takes. Checks of shares and distributions read `block`, checks of rates and silence `window`.
    `estimate` is the current quality with its interval. `ring` holds the sums of the last windows, newest last.
    """

    reference: Reference
    subject: Subject
    window: Profile
    block: Profile | None
    start_us: int
    end_us: int
    block_start_us: int = 0
    estimate: Estimate | None = None
    inspection: Inspection | None = None
    ring: Sequence[Evidence] = ()
    labels: Profile | None = None  # all labels that became known with this window, late ones included
    passage: Passage | None = None  # the forecast made with `estimate`
    causes: tuple[OpenCause, ...] = ()  # mismatches that were open before this window
    memory: Memory = field(default_factory=dict)
    usual: Usual | None = None  # what segments usually add to the difference of embeddings from the reference
    audited: AuditedQuality | None = None  # all audits since the registration, of closed windows

    def value(self, path: str) -> Any:
        """The declared fact at `path`, or None."""
        return value_at(self.reference.descriptors, path)

    def items(self, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """The objects of the declared list at `path`, each with its own path."""
        return items_at(self.reference.descriptors, path)

    def entries(self, path: str) -> Iterator[tuple[str, str, Any]]:
        """Path, key and value of the declared object at `path`."""
        return entries_at(self.reference.descriptors, path)

    def side(self, path: str, value: Any = None, unit: str = "") -> Side:
        """The declared side of a comparison."""
        return Side(path, self.value(path) if value is None else value, unit)

    def remember(self, key: str, value: float, keep: int = MEMORY_SIZE) -> list[float]:
        """Append to what is remembered under `key` and return all of it, newest last."""
        kept = [*self.memory.get(key, []), float(value)][-min(keep, MEMORY_SIZE) :]
        self.memory[key] = kept
        return kept

    def traces(self, evidence: tuple[str, ...] = ()) -> list[str]:
        """Traces of a few requests that show what `evidence` does; of any, without it."""
        return examples(evidence, self.block, self.window)

    @property
    def filling(self) -> str:
        """Why there is no block yet."""
        return f"fewer than {self.reference.minimum_n} events so far"
