"""The worker: joins settings, store, Faust app and agents. The only composition root."""

import asyncio
import gc
import logging
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from faust.types import TP

from agents.assess import Assess
from agents.embed import Embed
from agents.ingest import Ingest
from agents.label import Label
from agents.lifecycle import Lifecycle
from infra.health import Health
from infra.stopping import Deadline, Worker
from infra.store_file import require_file
from infra.topic_admin import require_topics
from models.subject_state import FORMAT as STATE_FORMAT
from streams.adapters.config import read_sources
from streams.app import App, create_app
from streams.clock import BrokerClock
from streams.event_store import EventStore
from streams.inspecting import decode_inspection, inspect_forever
from streams.intake import Intake
from streams.log_thinning import thin_out
from streams.runtime import Runtime
from streams.settings import Settings
from streams.spans import spans_of
from streams.topics import INFERENCE, TOPICS

log = logging.getLogger(__name__)
AGENTS: dict[str, type[Intake] | type[Assess]] = {
    "ingest": Ingest, "embed": Embed, "label": Label, "lifecycle": Lifecycle, "assess": Assess,
}  # fmt: skip
TICK, LOOK, REFRESH, PRUNE = 0.5, 1.0, 5.0, 3600.0  # seconds
PRUNE_AT_ONCE = 10_000  # rows of a table
YOUNG_OBJECTS = 50_000  # made between two looks for cycles: a chunk of decoded events is a few thousand, and has none


def create_worker(settings: Settings, agents: Iterable[str] = tuple(AGENTS)) -> tuple[App, Runtime]:
    """A Faust app with the named agents, and their runtime. Raises KeyError for an agent that does not exist."""
    chosen = [name for name in AGENTS if name in set(agents)]
    app = create_app(settings)
    clock = BrokerClock()
    spans = spans_of(settings, version("bestbefore"))
    runtime = Runtime(settings, app, EventStore(settings.store, clock.now_us), clock, spans)
    if settings.sources:
        runtime.sources = read_sources(Path(settings.sources))
        if "ingest" in chosen:
            _subscribe(app, runtime)
    members = [AGENTS[name](runtime) for name in chosen]
    for member in members:
        _join(app, settings, member)
    _wire(app, runtime, members)
    return app, runtime


def _join(app: App, settings: Settings, member: Intake | Assess) -> None:
    topic = app.topic(settings.topic(member.topic), key_type=bytes, value_type=bytes)
    app.agent(topic, name=f"bestbefore.{member.name}")(member.run)


def _subscribe(app: App, runtime: Runtime) -> None:
    """Have `ingest` read the topics of other servers, those that exist now and those that come."""
    inference = runtime.settings.topic(INFERENCE)

    def adopt(assigned: set[TP]) -> None:
        new = {tp.topic for tp in assigned if runtime.source_of(tp.topic) is not None}
        for channel in app.topics._topics:  # type: ignore[attr-defined]
            if inference in channel.topics:
                channel.topics = (*channel.topics, *sorted(new.difference(channel.topics)))

    app.subscribed = lambda topics: runtime.sources.expression(topics, {runtime.settings.topic(t.name) for t in TOPICS})
    app.adopt = adopt


def _wire(app: App, runtime: Runtime, members: list[Intake | Assess]) -> None:
    async def forget(*args: Any, **_: Any) -> None:
        revoked: set[TP] = args[1]
        for member in members:
            member.revoked(revoked)

    async def note(*_: Any, **__: Any) -> None:
        runtime.assigned = True

    async def watch() -> None:
        runtime.watchdog.beat()
        runtime.watchdog.start()
        while not app.should_stop:
            runtime.watchdog.beat()
            look(app, runtime)
            runtime.app.consumer.knock(lambda: runtime.progress.round("consumer"))
            await asyncio.sleep(LOOK)

    async def refresh() -> None:
        while not app.should_stop:
            await asyncio.sleep(REFRESH)
            await load_registrations(runtime)

    async def prune() -> None:
        while not app.should_stop:
            await asyncio.sleep(PRUNE)
            days = float(runtime.settings.keep_days)
            # In short calls: others wait behind each, and the watchdog takes a long one for a wedge.
            left = PRUNE_AT_ONCE
            while left >= PRUNE_AT_ONCE and not app.should_stop:
                now_us = runtime.clock.now_us()
                found = await runtime.stored(runtime.store.prune, now_us, days, days, most=PRUNE_AT_ONCE)
                left = max(found.values())

    async def inspect() -> None:
        await inspect_forever(runtime)

    app.on_partitions_revoked.connect(forget, weak=False)
    app.on_partitions_assigned.connect(note, weak=False)
    # What is declared about providers is about those that embed: only their worker can tell what is active.
    inspecting = [inspect] if any(isinstance(member, Embed) for member in members) else []
    for task in (watch, refresh, prune, *inspecting, *(loop for m in members for loop in _loops(app, runtime, m))):
        app.task(_guarded(runtime, task))


def look(app: App, runtime: Runtime) -> None:
    """Take a snapshot of how far every partition has come."""
    lateness = [runtime.settings.us("default_lateness"), *(reference.lateness_us for reference in runtime.registry)]
    runtime.progress.look(
        assigned=runtime.assigned and not app.rebalancing,
        lateness_us=max(lateness),
        committed=runtime.app.consumer.reached,
    )


def _loops(app: App, runtime: Runtime, member: Intake | Assess) -> list[Any]:
    progress = runtime.progress
    progress.absent(member.name)  # until Faust has started it

    async def flush() -> None:
        while not app.should_stop:
            progress.round(f"{member.name}.flush")
            await asyncio.sleep(member.flush_every)
            await member.flush()

    async def tick() -> None:
        while not app.should_stop:
            progress.round(f"{member.name}.tick")
            await asyncio.sleep(TICK)
            await member.tick()

    return [flush, tick]


def _guarded(runtime: Runtime, task: Any) -> Any:
    """A background task that fails ends the worker; Faust would only log it."""

    async def guarded() -> None:
        try:
            await task()
        except Exception as error:  # noqa: BLE001 -- reported, and the worker ends
            runtime.end(f"task {task.__name__} failed", error)

    return guarded


async def load_registrations(runtime: Runtime) -> None:
    """Take in what was registered since the last look."""
    known = {(reference.model, reference.version): reference.digest for reference in runtime.registry}
    rows = await runtime.stored(runtime.store.registrations, known)
    for reference in runtime.registry.load([row.body for row in rows]):
        log.info("reference of %s %s is active (digest %s)", reference.model, reference.version, reference.digest[:12])
    saved = await runtime.stored(runtime.store.inspections)
    runtime.inspections = {key: decode_inspection(body) for key, body in saved.items()}


def run_worker(settings: Settings, agents: Iterable[str] = tuple(AGENTS), loglevel: str = "warning") -> None:
    """Run until a signal ends it.

    Broker and store must be reachable and ready for this version at the start: whoever watches over the worker starts
    it again. Later they may come and go. Raises ServiceError, SettingsError, StoreUnreachable, StoreOutdated, TooNew.
    """
    require_file(settings.store)
    thin_out()
    app, runtime = create_worker(settings, agents)
    runtime.store.check()
    if "assess" in set(agents):
        runtime.store.check_states(STATE_FORMAT)
    require_topics(settings)
    runtime.registry.load([row.body for row in runtime.store.registrations()])
    runtime.inspections = {key: decode_inspection(body) for key, body in runtime.store.inspections().items()}
    Health(runtime, [name for name in AGENTS if name in set(agents)]).start()
    deadline = Deadline(app, runtime)
    gc.freeze()  # what is there by now stays; to look through it again and again costs more than decoding does
    gc.set_threshold(YOUNG_OBJECTS)
    worker = Worker(app, deadline, loglevel=loglevel, redirect_stdouts=False, quiet=True, daemon=True)
    try:
        worker.execute_from_commandline()
    finally:
        runtime.spans.close()
