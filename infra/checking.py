"""`bestbefore check`: every verdict that can be given before a model serves anybody."""

import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from models.checks.catalogue import design
from models.checks.completeness_and_staleness import Missing, completeness
from models.checks.owners import addressed
from models.checks.verdict import RANK, Verdict
from models.checks.workplace import Workplace
from models.inspection import Inspection
from models.notes import digits
from models.reference import Reference
from streams.descriptor_files import read_set, reference_of
from streams.inspecting import inspection_of
from streams.settings import Settings

SEVERITIES = ("info", "warning", "critical")


class Report(NamedTuple):
    """All verdicts about a folder of descriptors, mismatches first, and what TEC asks for that is not there."""

    folder: Path
    reference: Reference
    verdicts: list[Verdict]
    missing: list[Missing]
    inspection: Inspection | None

    @property
    def model(self) -> str:
        """The model's name."""
        return self.reference.model

    @property
    def version(self) -> str:
        """The model's version."""
        return self.reference.version

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
    reference = reference_of(found)
    inspection = inspection_of(reference, settings)
    workplace = Workplace(
        trees=found.trees,
        now_us=time.time_ns() // 1000 if now_us is None else now_us,
        inspection=inspection,
        place=found.place,
    )
    verdicts = sorted((addressed(v, found.trees) for v in design(workplace)), key=_urgent_first)
    return Report(folder, reference, verdicts, completeness(found.trees), inspection)


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
