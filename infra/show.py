"""How things look in a terminal: tables, progress, and what of a value may be shown."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Table
from rich.text import Text
from sqlalchemy import make_url

from models.reference import Reference

Shown = tuple[Any, RenderableType]
NARROW = 120  # columns of a terminal below which a row of a status has no room
UNFIT_SHOWN = 5  # records of a topic that are named
NOTHING_YET = (
    "nothing yet: a line comes with the first closed window. Is the model registered, `bestbefore worker` running, and "
    "--model spelt as in events?"
)


def console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal, and wide enough for tables where there is none."""
    width = None if sys.stdout.isatty() else 200
    return Console(stderr=stderr, width=width)


def progress(line: str) -> None:
    """One step of something long."""
    print(f"  {line}", file=sys.stderr, flush=True)  # noqa: T201 -- this is the command line's own output


def without_password(url: str) -> str:
    """The URL of a store, with its passwords hidden: that of the user, and those that libpq takes as parameters."""
    parsed = make_url(url)
    hidden = {name: "***" for name in ("password", "sslpassword") if name in parsed.query}
    return parsed.update_query_dict(hidden).render_as_string(hide_password=True)


class Progress:
    """A bar on stderr for long work; silent where nobody watches."""

    def __init__(self, title: str) -> None:
        self._bar = RichProgress(
            TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            console=Console(stderr=True), disable=not sys.stderr.isatty(),
        )  # fmt: skip
        self._task: Any = None

    def __call__(self, done: int, total: int) -> None:
        """`done` of `total` are worked off."""
        if self._task is None:
            self._bar.start()
            self._task = self._bar.add_task("", total=total)
        self._bar.update(self._task, completed=done, total=total)
        if done >= total:
            self._bar.stop()


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def findings(found: Sequence[Any]) -> Shown:
    """Topics and what is to be said of them."""
    table = _table("", "topic", "")
    for finding in found:
        table.add_row("[green]ok[/]" if finding.ok else "[red]no[/]", finding.topic, finding.message)
    return [finding._asdict() for finding in found], table


def verified(found: Sequence[Any]) -> Shown:
    """What was read of each topic, and the first records that do not fit."""
    table = _table("", "topic", "read", "what it holds, and what does not fit")
    for topic in found:
        kinds = ", ".join(f"{n} {name}" for name, n in topic.messages.items()) or "nothing yet"
        table.add_row("[red]no[/]" if topic.unfit else "[green]ok[/]", topic.topic, str(topic.read), kinds)
        for one in topic.unfit[:UNFIT_SHOWN]:
            where = f"partition {one.partition}, offset {one.offset}"
            table.add_row("", "", "", escape(f"{where}, {one.message}: {one.problem}"))
        if len(topic.unfit) > UNFIT_SHOWN:
            table.add_row("", "", "", f"and {len(topic.unfit) - UNFIT_SHOWN} more; --format json lists them")
    return [msgspec.to_builtins(topic) for topic in found], table


def day(text: str | None) -> str:
    """The day and minute of an RFC 3339 time."""
    return "-" if not text else text[:16].replace("T", " ")


def interval(quality: dict[str, Any]) -> str:
    """An estimate with its interval, or the reason why there is none."""
    if quality.get("estimate") is None:
        return f"unknown: {quality.get('reason')}"
    return f"{quality['estimate']:.3f} [{quality['low']:.3f}, {quality['high']:.3f}]"


def best_before(forecast: dict[str, Any]) -> str:
    """The lower bound first, because that is what one can rely on, then the best-before date.

    >>> best_before({"low": "2026-03-01T00:00:00Z", "best_before": "2026-04-01T00:00:00Z"})
    'good for at least until 2026-03-01 00:00 (90%), best before 2026-04-01 00:00'
    """
    if forecast.get("reason"):
        return f"unknown: {forecast['reason']}"
    low, middle = forecast.get("low"), forecast.get("best_before")
    if not low:
        return "good for at least the whole horizon (90%)"
    date = day(middle) if middle else "beyond the horizon"
    return f"good for at least until {day(low)} (90%), best before {date}"


def status(bodies: Sequence[dict[str, Any]]) -> Shown:
    """One row per model version and segment; with a column more where bodies have a `trend`."""
    trends = any("trend" in body for body in bodies)
    table = _table(
        "model", "version", "segment", "window ends", "n", "quality, 90% interval", *(["trend"] if trends else []),
        "basis", "good for at least, best before", "open mismatches", "asked for",
    )  # fmt: skip
    for body in bodies:
        quality, forecast = body["quality"], body["forecast"]
        mismatches = ", ".join(body.get("open_mismatches") or []) or "-"
        table.add_row(
            body["model"], body["version"], body.get("segment") or "all", day(body["window"]["end"]),
            str(body["window"]["n"]),
            interval(quality), *([body.get("trend", "")] if trends else []), quality["basis"], best_before(forecast),
            mismatches, asked_for(body),
        )  # fmt: skip
    return list(bodies), _Statuses(table, bodies)


class _Statuses:
    """The table; in a narrow terminal, where its columns would be a few letters wide, a paragraph for each row."""

    def __init__(self, table: Table, bodies: Sequence[dict[str, Any]]) -> None:
        self._table, self._bodies = table, bodies

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        if options.max_width >= NARROW or not self._bodies:
            yield self._table
            return
        for body in self._bodies:
            segment = f", segment {body['segment']}" if body.get("segment") else ""
            window = f"window to {day(body['window']['end'])}, n {body['window']['n']}"
            yield Text(f"{body['model']} {body['version']}{segment}, {window}", style="bold")
            lines = Table.grid(padding=(0, 2))
            basis = "" if body["quality"].get("estimate") is None else f", {body['quality']['basis']}"
            said = {
                "quality": f"{interval(body['quality'])}{basis}", "trend": body.get("trend"),
                "best before": best_before(body["forecast"]),
                "mismatches": ", ".join(body.get("open_mismatches") or []) or "none open", "asked for": asked_for(body),
            }  # fmt: skip
            for name, text in said.items():
                if text:
                    lines.add_row(f"  {name}", Text(text, overflow="fold"))
            yield lines


def asked_for(body: dict[str, Any]) -> str:
    """The actions whose triggers are open; or why nothing is asked for."""
    life = body.get("lifecycle") or {}
    if life.get("retired"):
        return "nothing: retired"
    if life.get("serving") is False:
        return f"nothing: {life.get('successor')} has taken over"
    asked = ", ".join(sorted(body.get("open_triggers") or {}))
    return f"{asked}; {life['candidate']} is on its way" if asked and life.get("candidate") else asked or "-"


def events(found: Sequence[Any]) -> Shown:
    """One row per event of the store."""
    table = _table("seq", "kind", "model", "version", "check", "severity", "window ends", "what")
    for event in found:
        body = event.body
        what = (
            body.get("message")
            or body.get("kind")
            or (interval(body["quality"]) if "quality" in body else body.get("action") or "")
        )
        end = body.get("window", {}).get("end") or body.get("created_at")
        table.add_row(
            str(event.seq),
            event.kind,
            event.model,
            event.version,
            event.check or "-",
            event.severity or "-",
            day(end),
            str(what),
        )
    return [msgspec.to_builtins(event) for event in found], table


def triggers(found: Sequence[Any], ended: Mapping[str, dict[str, Any]]) -> Shown:
    """One row per trigger; `ended` says, by trigger id, what became of those that are not open any more."""
    names = (
        "created",
        "model",
        "version",
        "action",
        "severity",
        "retrain by",
        "good for at least, best before",
        "state",
        "trigger id",
    )
    table, bodies = _table(*names), []
    for event in found:
        body = event.body
        end = ended.get(body["trigger_id"])
        advice = body.get("reason", {}).get("rule") == "schedule-not-needed"
        state = f"{end['resolution']} {day(end['time'])}" if end else "advice" if advice else "open"
        table.add_row(
            day(body["created_at"]), event.model, event.version, body["action"], body["severity"],
            day(body["retrain_by"]),
            best_before(body["forecast"]), state, body["trigger_id"],
        )  # fmt: skip
        bodies.append({**body, "state": "resolved" if end else state, "resolved": end})
    return bodies, table


def dead_letters(found: Sequence[Any]) -> Shown:
    """One row per dead letter; payloads may be private and are not printed."""
    table = _table("topic", "partition", "offset", "stage", "bytes", "error")
    for letter in found:
        table.add_row(
            letter.topic,
            str(letter.partition),
            str(letter.offset),
            letter.stage,
            str(letter.size),
            f"{letter.error}: {letter.message}",
        )
    names = ("topic", "partition", "offset", "stage", "size", "error", "message", "truncated")
    return [{name: getattr(letter, name) for name in names} for letter in found], table


def lacking(reference: Reference) -> list[str]:
    """What the descriptors do not say, and what therefore stays unknown."""
    facts = {
        "trained_model.algorithm_metrics has no threshold: no forecast, no trigger": reference.threshold,
        "training_data.bestbefore.calibration is missing: quality is known from labels only": reference.calibration,
        "training_data.bestbefore.features is missing: covariate-drift stays unknown": reference.numeric
        or reference.categorical,
        "training_data.bestbefore.classes is missing: label-and-prediction-shift stays unknown": reference.classes,
        "training_data.bestbefore.embedding is missing: embedding-drift stays unknown": reference.embedding,
        "trained_model.bestbefore.file is missing: sampled inputs cannot be embedded": reference.file,
    }
    return [text for text, fact in facts.items() if not fact]
