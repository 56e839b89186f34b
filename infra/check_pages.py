"""Writes the reference pages of the checks, docs/reference/checks/*.md, from the docstrings of their modules."""

import sys
from pathlib import Path

from models.checks.catalogue import CHECKS
from models.checks.check import Check

PHASES = {"D": "design time (`bestbefore check`)", "R": "run time (workers, `bestbefore replay`)"}


def page(check: Check) -> str:
    """The page of one check."""
    facts = [
        ("phase", " and ".join(PHASES[letter] for letter in check.phases.split())),
        ("owner", check.owner),
        ("severity", check.severity),
        ("remedy", check.remedy),
        ("action", f"`{check.action}`"),
    ]
    if check.aliases:
        facts.append(("aliases", ", ".join(f"`{alias}`" for alias in check.aliases)))
    head = "\n".join(f"| {name} | {value} |" for name, value in facts)
    return f"# {check.id}: {check.title}\n\n| | |\n|---|---|\n{head}\n\n{check.page}\n"


def index() -> str:
    """The list of all checks."""
    rows = "\n".join(
        f"| [{c.id}](checks/{c.id}.md) | {c.phases} | {c.page.splitlines()[0]} | {', '.join(c.aliases)} |"
        for c in CHECKS
    )
    return (
        "# Checks\n\nD: at design time, by `bestbefore check`. R: at run time, in the workers and in "
        "`bestbefore replay`. A verdict is ok, mismatch or unknown with a reason; without evidence it is never ok.\n"
        "These pages are written by `python -m infra.check_pages` from the checks themselves.\n\n"
        f"| check | phase | asks | aliases |\n|---|---|---|---|\n{rows}\n"
    )


def pages() -> dict[str, str]:
    """Every page by its path below docs/reference."""
    return {"checks.md": index(), **{f"checks/{check.id}.md": page(check) for check in CHECKS}}


def main() -> None:
    """Write all pages into the folder given, docs/reference by default."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/reference")
    for name, text in pages().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
