"""A check: what it compares, whom it concerns, and the functions that make its verdicts."""

import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from models.checks.observed import Observed
from models.checks.verdict import Action, Severity, Verdict
from models.checks.workplace import Workplace

Design = Callable[[Workplace], Iterable[Verdict]]
Live = Callable[[Observed], Iterable[Verdict]]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One of the twenty. The docstring of its module is its reference page.

    `owner` is the role that can mend a mismatch, `action` the cure a decision may name, `remedy` the words for it.
    """

    id: str
    title: str
    owner: str
    remedy: str
    action: Action = "review"
    severity: Severity = "warning"
    aliases: tuple[str, ...] = ()
    design: Design | None = None
    live: Live | None = None
    fleet: Live | None = None  # about all versions of a model side by side

    @property
    def phases(self) -> str:
        """`D` at design time, `R` at run time, or both."""
        return " ".join(letter for letter, has in (("D", self.design), ("R", self.live or self.fleet)) if has)

    def ok(self, **sides: Any) -> Verdict:
        """What was declared holds, and there is evidence for it."""
        return self._verdict("ok", sides)

    def mismatch(self, message: str, **sides: Any) -> Verdict:
        """What was declared does not hold."""
        return self._verdict("mismatch", sides | {"message": message})

    def unknown(self, reason: str, **sides: Any) -> Verdict:
        """There is no evidence, or too little."""
        return self._verdict("unknown", sides | {"reason": reason})

    def _verdict(self, outcome: Any, sides: dict[str, Any]) -> Verdict:
        defaults: dict[str, Any] = {
            "severity": self.severity, "owner": self.owner, "action": self.action, "remedy": self.remedy,
        }  # fmt: skip
        return Verdict(check=self.id, verdict=outcome, **(defaults | sides))

    @property
    def page(self) -> str:
        """The text of its reference page: the docstring of the module that defines it."""
        module = sys.modules[(self.design or self.live or self.fleet).__module__]
        return inspect.cleandoc(module.__doc__ or "")
