"""The verdicts of `bestbefore check` for people: what is wrong first, with both sides, the owner and the remedy."""

from collections import defaultdict
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from infra.check_formats import about, named, printable, sides, told
from infra.checking import Report
from models.checks.check import Check
from models.checks.verdict import Verdict

_STYLES = {"critical": "bold red", "warning": "yellow", "info": "cyan"}
LISTED = 12  # fields of the completeness report that are shown by name
FEW = 2  # unknown verdicts of a check that are shown
LONG = 160  # characters of an ok


def text(report: Report, *, everything: bool = False) -> RenderableType:
    """The whole report. All words of descriptors are plain text, never markup."""
    parts: list[RenderableType] = []
    for verdict in report.mismatches:
        parts += [_mismatch(verdict), Text("")]
    parts += _unknown(report, everything)
    if everything:
        parts += _ok(report)
    parts += _missing(report, everything)
    return Group(*parts, _summary(report))


def counted(n: int, noun: str, plural: str = "") -> str:
    """`1 mismatch`, `2 mismatches`.

    >>> counted(1, "mismatch"), counted(0, "note", "notes")
    ('1 mismatch', '0 notes')
    """
    return f"{n} {noun if n == 1 else plural or noun + 'es'}"


def explanation(check: Check) -> RenderableType:
    """The reference page of a check."""
    from rich.markdown import Markdown  # noqa: PLC0415 -- only here

    head = f"# {check.id}\n\n{check.title}. Phase {check.phases}; owner: {check.owner}; remedy: {check.remedy}.\n\n"
    return Markdown(head + check.page)


def _summary(report: Report) -> Text:
    counts = report.summary()
    tail = f": {counted(counts['mismatch'], 'mismatch')}, {counts['ok']} ok, {counts['unknown']} unknown"
    return Text.assemble((printable(f"{report.model} {report.version}"), "bold"), tail)


def _mismatch(verdict: Verdict) -> RenderableType:
    head = Text.assemble(
        (verdict.severity, _STYLES[verdict.severity]), "  ", (printable(verdict.check), "bold"),
        f"  {printable(verdict.field)}" if verdict.field else "",
        (f"  [{', '.join(verdict.aliases)}]" if verdict.aliases else "", "dim"),
    )  # fmt: skip
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", justify="right", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("", Text(printable(verdict.message)))
    for name, side in sides(verdict):
        grid.add_row(name, Text(told(side)))
    grid.add_row("owner", Text(printable(verdict.owner)))
    grid.add_row("remedy", Text(printable(verdict.remedy)))
    return Group(head, grid)


def _unknown(report: Report, everything: bool) -> Iterator[RenderableType]:
    by_check: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in report.verdicts:
        if verdict.verdict == "unknown":
            by_check[verdict.check].append(verdict)
    if not by_check:
        return
    table = _table("unknown: there is no evidence, or too little")
    for check, verdicts in by_check.items():
        shown = verdicts if everything else verdicts[:FEW]
        for i, verdict in enumerate(shown):
            table.add_row(Text("" if i else printable(check)), Text(about(verdict)))
        _rest(table, len(verdicts) - len(shown))
    yield from (table, Text(""))


def _ok(report: Report) -> Iterator[RenderableType]:
    table = _table("ok")
    last = ""
    for verdict in report.verdicts:
        if verdict.verdict == "ok":
            both = " / ".join(told(side) for _, side in sides(verdict))
            words = f"{both[: LONG - 1]}…" if len(both) > LONG else both
            fact = words if named(verdict, words) else f"{verdict.field}: {words}"
            table.add_row(Text("" if verdict.check == last else printable(verdict.check)), Text(printable(fact)))
            last = verdict.check
    if last:
        yield from (table, Text(""))


def _missing(report: Report, everything: bool) -> Iterator[RenderableType]:
    """What TEC's schema requires and these descriptors lack: no mismatch, but facts that nobody wrote down."""
    if not report.missing:
        return
    shown = report.missing if everything else report.missing[:LISTED]
    table = _table("not declared, though TEC 1.2 asks for it")
    for one in shown:
        table.add_row(Text(f"{one.descriptor}.{one.field}"), Text(one.rationale))
    _rest(table, len(report.missing) - len(shown))
    yield from (table, Text(""))


def _table(title: str) -> Table:
    """Two columns without lines: who says it, and what."""
    table = Table(
        box=None, pad_edge=False, title=title, title_justify="left", title_style="bold", show_header=False,
        padding=(0, 2, 0, 0),
    )  # fmt: skip
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _rest(table: Table, n: int) -> None:
    if n > 0:
        table.add_row("", f"and {n} more; --all lists them")
