"""The verdicts of `bestbefore check` for other programs: JUnit XML for build servers, SARIF for code scanning."""

from collections.abc import Iterable
from importlib.metadata import version
from itertools import groupby
from typing import Any
from xml.etree import ElementTree as Xml

from infra.checking import Report
from models.checks.catalogue import CHECKS
from models.checks.verdict import Side, Verdict

_LEVELS = {"info": "note", "warning": "warning", "critical": "error"}
SARIF_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"


def junit(report: Report) -> str:
    """One test suite per check, one test case per fact; unknown is skipped, with the reason."""
    root = Xml.Element("testsuites", name=f"bestbefore check {report.model} {report.version}")
    for name, group in groupby(sorted(report.verdicts, key=lambda v: v.check), key=lambda v: v.check):
        verdicts = list(group)
        suite = Xml.SubElement(
            root, "testsuite", name=name, tests=str(len(verdicts)),
            failures=str(_count(verdicts, "mismatch")), skipped=str(_count(verdicts, "unknown")), errors="0",
        )  # fmt: skip
        for verdict in verdicts:
            case = Xml.SubElement(suite, "testcase", classname=name, name=verdict.field or report.model)
            if verdict.verdict == "mismatch":
                failure = Xml.SubElement(case, "failure", message=verdict.message, type=verdict.severity)
                failure.text = details(verdict)
            elif verdict.verdict == "unknown":
                Xml.SubElement(case, "skipped", message=verdict.reason)
    for key in ("tests", "failures", "skipped", "errors"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in root)))
    Xml.indent(root)
    return Xml.tostring(root, encoding="unicode", xml_declaration=True)


def sarif(report: Report) -> dict[str, Any]:
    """SARIF 2.1.0 with one rule per check; what is unknown is a note, what is ok is left out."""
    rules = [
        {
            "id": check.id,
            "name": check.id.title().replace("-", ""),
            "shortDescription": {"text": check.title},
            "fullDescription": {"text": check.page.splitlines()[0]},
            "help": {"text": check.page, "markdown": check.page},
            "properties": {"tags": list(check.aliases)},
        }
        for check in CHECKS
        if check.design is not None
    ]
    return {
        "$schema": SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "bestbefore", "version": version("bestbefore"), "rules": rules,
                    }
                },
                "results": [_result(v, report) for v in report.verdicts if v.verdict != "ok"],
            }
        ],
    }  # fmt: skip


def details(verdict: Verdict) -> str:
    """Both sides, the owner and the remedy, a line each."""
    lines = [f"{name}: {told(side)}" for name, side in (("left", verdict.left), ("right", verdict.right)) if side]
    return "\n".join([*lines, f"owner: {verdict.owner}", f"remedy: {verdict.remedy}"])


def told(side: Side) -> str:
    """One side in words: path, value with unit, and where it stands."""
    value = "" if side.value is None else f" = {side.value} {side.unit}".rstrip()
    return f"{side.path}{value}" + (f" ({side.place})" if side.place else "")


def _result(verdict: Verdict, report: Report) -> dict[str, Any]:
    text = verdict.message or f"unknown: {verdict.reason}"
    return {
        "ruleId": verdict.check,
        # The standard (3.27.10): what is no failure has no level.
        "level": _LEVELS[verdict.severity] if verdict.verdict == "mismatch" else "none",
        "kind": "fail" if verdict.verdict == "mismatch" else "open",
        "message": {"text": f"{text}. Owner: {verdict.owner}. Remedy: {verdict.remedy}."},
        "locations": list(_locations([side for side in (verdict.left, verdict.right) if side], report)),
        "partialFingerprints": {"fact/v1": f"{report.model}/{report.version}/{verdict.check}/{verdict.field}"},
    }


def _locations(sides: Iterable[Side], report: Report) -> Iterable[dict[str, Any]]:
    for side in sides:
        file, _, line = side.place.rpartition(":")
        if file and line.isdigit():
            yield {
                "physicalLocation": {
                    "artifactLocation": {"uri": (report.folder / file).as_posix()},
                    "region": {"startLine": int(line)},
                },
                "logicalLocations": [{"fullyQualifiedName": side.path}],
            }


def _count(verdicts: Iterable[Verdict], kind: str) -> int:
    return sum(v.verdict == kind for v in verdicts)
