"""Samples of other servers' topics, in the shape they are recorded in: one file for each adapter, one sources.yaml."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from infra.source_samples import records_of
from streams.adapters.catalogue import ADAPTERS
from streams.adapters.config import Sources, read_sources
from streams.adapters.contract import Record, Thing, Unpaired
from streams.adapters.source import Source
from streams.records import InferenceEvent, LabelEvent

FOLDER = Path(__file__).parent / "data" / "sources"
CONFIG = FOLDER / "sources.yaml"
SAMPLES: dict[str, list[Record]] = {
    name: [r for _, r in records_of(FOLDER / f"{name}.jsonl", None)] for name in ADAPTERS
}
PAIRED = [name for name, adapter in ADAPTERS.items() if adapter.pairs]


def sources() -> Sources:
    """The sources of the samples, with nothing waiting."""
    return read_sources(CONFIG)


def source_of(name: str) -> tuple[Source, dict[str, str]]:
    """The source of an adapter's samples, with nothing waiting, and what its topic names."""
    found = sources().of(SAMPLES[name][0].topic)
    assert found is not None
    return found


def adapted(records: Iterable[Record]) -> list[Thing]:
    """All that comes of these records, in order, and what is left waiting."""
    every, found = sources(), []
    for record in records:
        fitting = every.of(record.topic)
        assert fitting is not None
        source, names = fitting
        found += source.adapt(record, names)
    for entry in every.entries:
        found += entry.source.rest()
    return found


def told(thing: Thing) -> dict[str, Any]:
    """What an event says, without defaults."""
    if isinstance(thing, Unpaired):
        return {"unpaired": thing.id, "side": thing.side}
    fields = msgspec.to_builtins(thing)
    if isinstance(thing, InferenceEvent):
        output = {k: v for k, v in (fields.pop("output", None) or {}).items() if v is not None}
        fields |= {"output": output} if output else {}
    defaults = (("status", 200), ("sampling", 1.0))
    kept = {k: v for k, v in fields.items() if v not in (None, False, {}) and (k, v) not in defaults}
    return {k: v for k, v in kept.items() if not isinstance(thing, LabelEvent) or k != "source"}
