"""`bestbefore sources test`: what the adapters make of a recorded sample, and what the checks will miss."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from infra.source_samples import records_of
from models.checks.needs import NEEDS
from streams.adapters.config import Sources, read_sources
from streams.adapters.contract import Record, Thing, Unpaired
from streams.errors import BadRecord, Unadaptable
from streams.records import InferenceEvent, LabelEvent

FEW, LONG = 5, 80


class Refused(NamedTuple):
    """A record that would go to the dead letters; `file` is told where there are several."""

    line: int
    topic: str
    stage: str
    reason: str
    file: str = ""


class Result(NamedTuple):
    """All that was made of a sample."""

    records: int
    events: list[InferenceEvent]
    labels: list[LabelEvent]
    unpaired: list[Unpaired]
    refused: list[Refused]

    @property
    def labelled(self) -> int:
        """Inferences whose truth is among the labels."""
        return len({event.id for event in self.events} & {label.inference_id for label in self.labels})

    @property
    def clean(self) -> bool:
        """Whether every record became an event, or a part of one."""
        return not self.unpaired and not self.refused


def try_sources(samples: Sequence[Path], config: Path, topic: str | None) -> Result:
    """Adapt every record of the samples. Raises SettingsError for files that cannot be read.

    The name of a file without its ending is the topic of lines that do not tell one, if a source is for it.
    """
    sources = read_sources(config)
    records = [
        (path.name if len(samples) > 1 else "", line, record)
        for path in samples
        for line, record in records_of(path, topic, path.stem if sources.of(path.stem) else None)
    ]
    found: list[Thing] = []
    refused: list[Refused] = []
    for file, line, record in records:
        try:
            found += _adapted(sources, record)
        except BadRecord as error:
            refused.append(Refused(line, record.topic, error.stage.upper(), str(error), file))
    for entry in sources.entries:
        found += entry.source.rest()
    return Result(
        len(records),
        [one for one in found if isinstance(one, InferenceEvent)],
        [one for one in found if isinstance(one, LabelEvent)],
        [one for one in found if isinstance(one, Unpaired)],
        refused,
    )


def _adapted(sources: Sources, record: Record) -> list[Thing]:
    fitting = sources.of(record.topic)
    if fitting is None:
        patterns = ", ".join(pattern.text for entry in sources.entries for pattern in entry.patterns)
        raise Unadaptable(f"no source is for topic {record.topic!r}; there are {patterns}")
    source, names = fitting
    return source.adapt(record, names)


# -- what it shows -------------------------------------------------------------------------------------------


def fields_of(event: InferenceEvent | LabelEvent) -> Iterator[tuple[str, Any]]:
    """The fields of an event that say something, one by one."""
    for name, value in msgspec.to_builtins(event).items():
        if value is None or (name in ("features", "segment") and not value):
            continue
        if name in ("features", "segment", "output"):
            yield from ((f"{name}.{key}", one) for key, one in value.items() if one is not None or name == "features")
        elif (name, value) not in (("abstained", False), ("source", "ground-truth")):
            yield name, value


def as_json(result: Result) -> dict[str, Any]:
    """The document of `--format json`."""
    return {
        "records": result.records,
        "inferences": len(result.events),
        "labels": len(result.labels),
        "labelled": result.labelled,
        "unpaired": [{"id": one.id, "side": one.side, "reason": one.reason} for one in result.unpaired],
        "refused": [one._asdict() for one in result.refused],
        "fields": [
            {"field": name, "filled": filled, "example": example} for name, filled, example in _fields(result.events)
        ],
        "missing": [
            {"field": need.field, "lacking": lacking, "checks": list(need.checks), "remedy": need.remedy}
            for need, lacking in _missing(result)
        ],
        "events": msgspec.to_builtins([*result.events, *result.labels]),
    }


def _fields(events: Iterable[InferenceEvent | LabelEvent]) -> list[tuple[str, int, Any]]:
    filled: Counter[str] = Counter()
    examples: dict[str, Any] = {}
    for event in events:
        for name, value in fields_of(event):
            filled[name] += 1
            if examples.get(name) is None:
                examples[name] = value
    return [(name, filled[name], example) for name, example in examples.items()]


def _missing(result: Result) -> list[tuple[Any, int]]:
    """What checks need and how many events lack it."""
    n = len(result.events)
    has = {
        "features": sum(bool(e.features) for e in result.events),
        "output": sum(e.output is not None for e in result.events),
        "output.scores": sum(e.output is not None and e.output.scores is not None for e in result.events),
        "latency_ms": sum(e.latency_ms is not None for e in result.events),
        "digest": sum(e.digest is not None for e in result.events),
        "labels": result.labelled,
    }
    return [(need, n - has.get(need.field, 0)) for need in NEEDS if has.get(need.field, 0) < n]


def text_of(result: Result, *, everything: bool) -> RenderableType:
    """The report for a terminal."""
    n = len(result.events)
    parts: list[RenderableType] = []
    line = f"{result.records} records: {n} inferences, {len(result.labels)} labels"
    line += f" ({result.labelled} of these inferences)" if n and result.labels else ""
    line += f", {len(result.unpaired)} halves unpaired, {len(result.refused)} refused"
    parts.append(Text(line, style="bold"))
    kinds = (("field", result.events), ("field of a label", result.labels))
    for kind, things in kinds:
        if things:
            table = _table(kind, "in", "example")
            for name, filled, example in _fields(things):
                table.add_row(Text(_printable(name)), f"{filled} of {len(things)}", Text(_shown(example)))
            parts += [Text(""), table]
    if n:
        table = _table("missing", "in", "so these say unknown", "what to do")
        for need, lacking in _missing(result):
            table.add_row(need.field, f"{lacking} of {n}", ", ".join(need.checks), Text(need.remedy))
        parts += [Text(""), table]
    if result.refused or result.unpaired:
        parts += [Text(""), _trouble(result, everything)]
    return Group(*parts)


def _trouble(result: Result, everything: bool) -> Table:
    table = _table("line or id", "outcome", "because")
    rows = [(f"{one.file}:{one.line}".lstrip(":"), one.stage, one.reason) for one in result.refused]
    rows += [(one.id, "unpaired", f"{one.side}: {one.reason}") for one in result.unpaired]
    shown = rows if everything else rows[:FEW]
    for name, outcome, reason in shown:
        table.add_row(Text(_printable(name)), outcome, Text(_printable(reason)))
    if len(rows) > len(shown):
        table.add_row("", "", f"and {len(rows) - len(shown)} more; --all lists them")
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _shown(value: Any) -> str:
    text = _printable(value if isinstance(value, str) else msgspec.json.encode(value).decode())
    return text if len(text) <= LONG else f"{text[: LONG - 1]}…"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "�" for c in text)
