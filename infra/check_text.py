"""The verdicts of `bestbefore check` for people: what is wrong first, with both sides, the owner and the remedy."""

from collections import defaultdict

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from infra.check_formats import told
from infra.checking import Report
from models.checks.check import Check
from models.checks.verdict import Verdict

_STYLES = {"critical": "bold red", "warning": "yellow", "info": "cyan"}
LISTED = 12  # fields of the completeness report that are shown by name


def text(report: Report, *, everything: bool = False) -> RenderableType:
    """The whole report."""
    parts: list[RenderableType] = []
    for verdict in report.mismatches:
        parts += [_mismatch(verdict), Text("")]
    parts += _unknown(report, everything)
    if everything:
        parts += [_ok(report), Text("")]
    parts += _missing(report, everything)
    counts = report.summary()
    parts.append(
        Text.from_markup(
            f"[bold]{report.model} {report.version}[/]: {counts['mismatch']} mismatches, {counts['ok']} ok, "
            f"{counts['unknown']} unknown"
        )
    )
    return Group(*parts)


def explanation(check: Check) -> RenderableType:
    """The reference page of a check."""
    from rich.markdown import Markdown  # noqa: PLC0415 -- only here

    head = f"# {check.id}\n\n{check.title}. Phase {check.phases}; owner: {check.owner}; remedy: {check.remedy}.\n\n"
    return Markdown(head + check.page)


def _mismatch(verdict: Verdict) -> RenderableType:
    head = Text.assemble(
        (verdict.severity, _STYLES[verdict.severity]), "  ", (verdict.check, "bold"), f"  {verdict.field}",
        (f"  [{', '.join(verdict.aliases)}]" if verdict.aliases else "", "dim"),
    )  # fmt: skip
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", justify="right", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("", verdict.message)
    for name, side in (("declared", verdict.left), ("against", verdict.right)):
        if side is not None:
            grid.add_row(name, Text(told(side)))
    grid.add_row("owner", Text(verdict.owner))
    grid.add_row("remedy", Text(verdict.remedy))
    return Group(head, grid)


def _unknown(report: Report, everything: bool) -> list[RenderableType]:
    by_check: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in report.verdicts:
        if verdict.verdict == "unknown":
            by_check[verdict.check].append(verdict)
    if not by_check:
        return []
    table = Table(
        box=None, pad_edge=False, title="unknown", title_justify="left", title_style="bold", show_header=False
    )
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, verdicts in by_check.items():
        shown = verdicts if everything else verdicts[:2]
        for verdict in shown:
            table.add_row(name, Text(f"{verdict.field}: {verdict.reason}" if verdict.field else verdict.reason))
        if len(verdicts) > len(shown):
            table.add_row("", f"and {len(verdicts) - len(shown)} more; --all lists them")
    return [table, Text("")]


def _ok(report: Report) -> RenderableType:
    table = Table(box=None, pad_edge=False, title="ok", title_justify="left", title_style="bold", show_header=False)
    for verdict in report.verdicts:
        if verdict.verdict == "ok":
            sides = " / ".join(told(side) for side in (verdict.left, verdict.right) if side)
            table.add_row(verdict.check, verdict.field, Text(sides[:160]))
    return table


def _missing(report: Report, everything: bool) -> list[RenderableType]:
    """What TEC's schema requires and these descriptors lack: no mismatch, but facts that nobody wrote down."""
    if not report.missing:
        return []
    shown = report.missing if everything else report.missing[:LISTED]
    table = Table(
        box=None, pad_edge=False, title="not declared", title_justify="left", title_style="bold", show_header=False
    )
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in shown:
        table.add_row(f"{one.descriptor}.{one.field}", Text(one.rationale))
    if len(report.missing) > len(shown):
        table.add_row("", f"and {len(report.missing) - len(shown)} more; --all lists them")
    return [table, Text("")]
