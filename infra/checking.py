"""`bestbefore check`: every verdict that can be given before a model serves anybody."""

import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from models.checks.catalogue import design
from models.checks.completeness_and_staleness import Missing, completeness
from models.checks.verdict import RANK, Verdict
from models.checks.workplace import Workplace
from models.inspection import Inspection
from models.notes import digits
from streams.descriptor_files import DescriptorSet, load_reference, read_set
from streams.inspecting import inspection_of
from streams.settings import Settings

SEVERITIES = ("info", "warning", "critical")


class Report(NamedTuple):
    """All verdicts about a folder of descriptors, mismatches first, and what TEC asks for that is not there."""

    folder: Path
    model: str
    version: str
    verdicts: list[Verdict]
    missing: list[Missing]
    inspection: Inspection | None

    @property
    def mismatches(self) -> list[Verdict]:
        """Only what does not hold."""
        return [v for v in self.verdicts if v.verdict == "mismatch"]

    def failing(self, least: str) -> list[Verdict]:
        """Mismatches of at least this severity."""
        return [v for v in self.mismatches if SEVERITIES.index(v.severity) >= SEVERITIES.index(least)]

    def summary(self) -> dict[str, int]:
        """How many verdicts of each kind."""
        counts = Counter(v.verdict for v in self.verdicts)
        return {kind: counts.get(kind, 0) for kind in ("mismatch", "ok", "unknown")}


def check(folder: Path, settings: Settings, now_us: int | None = None) -> Report:
    """Read the descriptors of a folder, and the model file they name, and run all design-time checks.

    Raises DescriptorError.
    """
    found = read_set(folder)
    reference = load_reference(folder)
    inspection = inspection_of(reference, settings)
    workplace = Workplace(
        trees=found.trees,
        now_us=time.time_ns() // 1000 if now_us is None else now_us,
        inspection=inspection,
        place=found.place,
    )
    verdicts = sorted(design(workplace), key=_urgent_first)
    return Report(folder, reference.model, reference.version, verdicts, completeness(found.trees), inspection)


def owner(verdict: Verdict, found: DescriptorSet) -> str:
    """The role, or the contact that the system context names for it."""
    context: Any = found.trees.get("system_context", {}).get("bestbefore") or {}
    contacts = context.get("owners") or {}
    return str(contacts.get(verdict.check) or contacts.get(verdict.owner) or verdict.owner)


def as_json(report: Report) -> dict[str, Any]:
    """The document of `--format json`."""
    subject = {"model": report.model, "version": report.version}
    lines = []
    for verdict in report.verdicts:
        line = digits(msgspec.to_builtins(verdict))
        line["subject"] = {**subject, "field": line.pop("field")}
        lines.append(line)
    return {
        "model": report.model,
        "version": report.version,
        "verdicts": lines,
        "summary": report.summary(),
        "missing": [msgspec.to_builtins(one) for one in report.missing],
    }


def _urgent_first(verdict: Verdict) -> tuple[int, int, str, str]:
    return -RANK[verdict.verdict], -SEVERITIES.index(verdict.severity), verdict.check, verdict.field
