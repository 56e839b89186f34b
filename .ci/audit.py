"""Looks the locked packages up in an advisory service. Ends with 0 only when every one was looked up and none is known.

Status 1: known vulnerabilities, one line each. Status 3: it could not look, wholly or in part, and says nothing of
what it did not see. `pip-audit` itself calls a package it cannot find "skipped" and ends with 0.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCK = Path(__file__).parent.parent / "constraints.txt"
IF_REACHABLE = "--if-reachable"  # do not fail where it cannot look; it is said all the same
SERVICES = ("osv", "pypi")


def verdict(report: dict[str, Any] | None) -> tuple[int, str]:
    """Exit status and text for what pip-audit wrote; None where it wrote nothing."""
    packages = (report or {}).get("dependencies") or []
    if not packages:
        return 3, "NOT AUDITED: the service was not reached; run this where it can be"
    known = [
        f"{p['name']} {p['version']}: {v['id']}, mended in {', '.join(v.get('fix_versions') or ['no version'])}"
        for p in packages
        for v in p.get("vulns") or []
    ]
    unseen = [p["name"] for p in packages if "skip_reason" in p]
    lines = [*known]
    if unseen:
        lines.append(
            f"NOT AUDITED: {len(unseen)} of {len(packages)} packages could not be looked up: {', '.join(unseen[:10])}"
        )
    if not lines:
        lines.append(f"{len(packages)} of {len(packages)} packages were looked up; none has a known vulnerability")
    return (1 if known else 3 if unseen else 0), "\n".join(lines)


def ask(service: str) -> dict[str, Any] | None:
    """What pip-audit finds with this service; None where it does not answer."""
    argv = [sys.executable, "-m", "pip_audit", "--vulnerability-service", service, "--requirement", str(LOCK)]
    argv += ["--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off", "--timeout", "10"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)  # noqa: S603
    try:
        found = json.loads(done.stdout)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def main() -> int:
    """Ask one service after the other, until one answers for all packages or tells of a vulnerability."""
    status, text = verdict(None)
    for service in SERVICES:
        status, text = verdict(ask(service))
        if status != 3:
            break
    print(text)  # noqa: T201 -- what it is for
    return 0 if status == 3 and IF_REACHABLE in sys.argv else status


if __name__ == "__main__":
    sys.exit(main())
