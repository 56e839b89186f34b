"""The verdicts of `bestbefore check` for other programs: JUnit XML for build servers, SARIF for code scanning.

Several folders of descriptors give one document: JUnit has suites for each, SARIF one run for each.
"""

from collections.abc import Iterable, Sequence
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree as Xml

from infra.checking import Report
from models.checks.catalogue import BY_ID, CHECKS
from models.checks.check import Check
from models.checks.user_defined import CHECK as USER_DEFINED
from models.checks.verdict import Side, Verdict
from streams.descriptor_files import SUFFIXES

_LEVELS = {"info": "note", "warning": "warning", "critical": "error"}
SARIF_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"


# -- words -------------------------------------------------------------------------------------------------------


def told(side: Side) -> str:
    """One side in words: path, value with unit, and where it stands."""
    value = "" if side.value is None else f" = {side.value} {side.unit}".rstrip()
    return printable(f"{side.path}{value}" + (f" ({side.place})" if side.place else ""))


def details(verdict: Verdict) -> str:
    """Both sides, the owner and the remedy, a line each."""
    lines = [f"{name}: {told(side)}" for name, side in sides(verdict)]
    return "\n".join([*lines, f"owner: {printable(verdict.owner)}", f"remedy: {printable(verdict.remedy)}"])


def sides(verdict: Verdict) -> list[tuple[str, Side]]:
    """What is declared, and what it is held against."""
    return [(name, side) for name, side in (("declared", verdict.left), ("against", verdict.right)) if side]


def about(verdict: Verdict) -> str:
    """Why it is unknown, with what it is about unless the reason begins with that."""
    return printable(verdict.reason if named(verdict, verdict.reason) else f"{verdict.field}: {verdict.reason}")


def named(verdict: Verdict, words: str) -> bool:
    """Whether the words begin with what the verdict is about; a field may be `kind/path`."""
    path = verdict.field.partition("/")[2]
    return words.startswith(verdict.field) or ("." in path and words.startswith(path))


def printable(text: str) -> str:
    """The text with control characters written out.

    Descriptors are other people's: XML cannot hold such characters, and a terminal would obey them.

    >>> printable("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


# -- JUnit -------------------------------------------------------------------------------------------------------


def junit(reports: Sequence[Report]) -> str:
    """One test suite per check, one test case per fact; unknown is skipped, with the reason."""
    names = ", ".join(f"{report.model} {report.version}" for report in reports)
    root = Xml.Element("testsuites", name=printable(f"bestbefore check {names}"))
    for report in reports:
        for name, group in groupby(sorted(report.verdicts, key=lambda v: v.check), key=lambda v: v.check):
            _suite(root, report, name if len(reports) == 1 else f"{report.folder}: {name}", list(group))
    for key in ("tests", "failures", "skipped", "errors"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in root)))
    Xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(root, encoding="unicode")


def _suite(root: Xml.Element, report: Report, name: str, verdicts: list[Verdict]) -> None:
    suite = Xml.SubElement(
        root, "testsuite", name=printable(name), tests=str(len(verdicts)),
        failures=str(_count(verdicts, "mismatch")), skipped=str(_count(verdicts, "unknown")), errors="0",
    )  # fmt: skip
    for verdict in verdicts:
        known = {"classname": printable(verdict.check), "name": printable(verdict.field or report.model)}
        case = Xml.SubElement(suite, "testcase", known)
        if verdict.verdict == "mismatch":
            failure = Xml.SubElement(case, "failure", message=printable(verdict.message), type=verdict.severity)
            failure.text = details(verdict)
        elif verdict.verdict == "unknown":
            Xml.SubElement(case, "skipped", message=printable(verdict.reason))


def _count(verdicts: Iterable[Verdict], kind: str) -> int:
    return sum(v.verdict == kind for v in verdicts)


# -- SARIF -------------------------------------------------------------------------------------------------------


def sarif(reports: Sequence[Report]) -> dict[str, Any]:
    """SARIF 2.1.0 with one rule per check; what is unknown is open, what is ok is left out."""
    return {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [_run(report) for report in reports]}


def _run(report: Report) -> dict[str, Any]:
    """One folder. Checks that users wrote have rules of their own, as every result needs one."""
    told_of = [v for v in report.verdicts if v.verdict != "ok"]
    own = sorted({v.check for v in told_of if v.check not in BY_ID})
    rules = [*(_rule(c.id, c) for c in CHECKS if c.design), *(_rule(name, USER_DEFINED) for name in own)]
    index = {rule["id"]: i for i, rule in enumerate(rules)}
    return {
        "tool": {"driver": {"name": "bestbefore", "version": version("bestbefore"), "rules": rules}},
        "automationDetails": {"id": f"bestbefore/{report.model}/{report.version}"},
        "results": [_result(verdict, report, index[verdict.check]) for verdict in told_of],
    }


def _rule(name: str, check: Check) -> dict[str, Any]:
    return {
        "id": name,
        "name": "".join(part.capitalize() for part in name.replace(":", "-").split("-")),
        "shortDescription": {"text": check.title},
        "fullDescription": {"text": check.page.splitlines()[0]},
        "help": {"text": check.page, "markdown": check.page},
        "defaultConfiguration": {"level": _LEVELS[check.severity]},
        "properties": {"tags": list(check.aliases)},
    }


def _result(verdict: Verdict, report: Report, index: int) -> dict[str, Any]:
    text = (verdict.message or f"unknown: {about(verdict)}").rstrip(".")
    end = "" if text.endswith("?") else "."
    locations = [_location(side.place, report, side.path) for _, side in sides(verdict) if side.place]
    return {
        "ruleId": verdict.check,
        "ruleIndex": index,
        # The standard (3.27.10): what is no failure has no level.
        "level": _LEVELS[verdict.severity] if verdict.verdict == "mismatch" else "none",
        "kind": "fail" if verdict.verdict == "mismatch" else "open",
        "message": {"text": f"{text}{end} Owner: {verdict.owner}. Remedy: {verdict.remedy}."},
        # Code scanning shows nothing without a place: what is absent everywhere is told at the model.
        "locations": locations or [_location(_first(report.folder), report, "")],
        "partialFingerprints": {"fact/v1": f"{report.model}/{report.version}/{verdict.check}/{verdict.field}"},
    }


def _first(folder: Path) -> str:
    names = [f"trained_model{suffix}" for suffix in SUFFIXES]
    return next((name for name in names if (folder / name).is_file()), ".")


def _location(place: str, report: Report, path: str) -> dict[str, Any]:
    file, _, line = place.rpartition(":")
    numbered = bool(file) and line.isdigit()
    physical: dict[str, Any] = {"artifactLocation": {"uri": _uri(report.folder / (file if numbered else place))}}
    if numbered:
        physical["region"] = {"startLine": int(line)}
    return {"physicalLocation": physical} | ({"logicalLocations": [{"fullyQualifiedName": path}]} if path else {})


def _uri(path: Path) -> str:
    """Relative to the working folder, as code scanning wants it; of a file elsewhere the whole URI."""
    whole = path.resolve()
    here = Path.cwd().resolve()
    return quote(whole.relative_to(here).as_posix()) if whole.is_relative_to(here) else whole.as_uri()
