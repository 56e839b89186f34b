"""The worker: joins settings, store, Faust app and agents. The only composition root."""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Iterable
from typing import Any

import faust
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from faust.types import TP

from agents.assess import Assess
from agents.embed import Embed
from agents.ingest import Ingest
from agents.label import Label
from agents.lifecycle import Lifecycle
from infra.store_file import require_file
from models.subject_state import FORMAT as STATE_FORMAT
from streams.app import App, create_app
from streams.errors import ServiceError
from streams.event_store import EventStore
from streams.inspecting import decode_inspection, inspect_forever
from streams.intake import Intake
from streams.log_thinning import thin_out
from streams.runtime import EXIT_BROKEN, Runtime
from streams.settings import Settings
from streams.topics import TOPICS

log = logging.getLogger(__name__)
AGENTS: dict[str, type[Intake] | type[Assess]] = {
    "ingest": Ingest, "embed": Embed, "label": Label, "lifecycle": Lifecycle, "assess": Assess,
}  # fmt: skip
TICK, REFRESH, PRUNE, STOP_PATIENCE = 0.5, 5.0, 3600.0, 8.0  # seconds


def create_worker(settings: Settings, agents: Iterable[str] = tuple(AGENTS)) -> tuple[App, Runtime]:
    """A Faust app with the named agents, and their runtime. Raises KeyError for an agent that does not exist."""
    chosen = [name for name in AGENTS if name in set(agents)]
    app = create_app(settings)
    runtime = Runtime(settings, app, EventStore(settings.store))
    members = [AGENTS[name](runtime) for name in chosen]
    for member in members:
        _join(app, settings, member)
    _wire(app, runtime, members)
    return app, runtime


def _join(app: App, settings: Settings, member: Intake | Assess) -> None:
    topic = app.topic(settings.topic(member.topic), key_type=bytes, value_type=bytes)
    app.agent(topic, name=f"bestbefore.{member.name}")(member.run)


def _wire(app: App, runtime: Runtime, members: list[Intake | Assess]) -> None:
    async def forget(*args: Any, **_: Any) -> None:
        revoked: set[TP] = args[1]
        for member in members:
            member.revoked(revoked)

    async def watch() -> None:
        runtime.watchdog.start()
        while not app.should_stop:
            runtime.watchdog.beat()
            await asyncio.sleep(1.0)

    async def refresh() -> None:
        while not app.should_stop:
            await asyncio.sleep(REFRESH)
            await load_registrations(runtime)

    async def prune() -> None:
        while not app.should_stop:
            await asyncio.sleep(PRUNE)
            days = float(runtime.settings.keep_days)
            await runtime.stored(runtime.store.prune, time.time_ns() // 1000, days, days)

    async def inspect() -> None:
        await inspect_forever(runtime)

    app.on_partitions_revoked.connect(forget, weak=False)
    # What is declared about providers is about those that embed: only their worker can tell what is active.
    inspecting = [inspect] if any(isinstance(member, Embed) for member in members) else []
    for task in (watch, refresh, prune, *inspecting, *(loop for m in members for loop in _loops(app, m))):
        app.task(_guarded(runtime, task))


def _loops(app: App, member: Intake | Assess) -> list[Any]:
    async def flush() -> None:
        while not app.should_stop:
            await asyncio.sleep(member.flush_every)
            await member.flush()

    async def tick() -> None:
        while not app.should_stop:
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


async def _require_topics(settings: Settings) -> None:
    """Raises ServiceError when no broker answers, or one has not the topics: Faust would tell neither in one line."""
    client = AIOKafkaClient(bootstrap_servers=settings.broker.split(","))
    try:
        await client.bootstrap()
        known = (await client.fetch_all_metadata()).topics()
    except KafkaError as error:
        raise ServiceError(
            f"no Kafka broker answers at {settings.broker} ({error!r}); is `bestbefore up` running, is `broker` set?"
        ) from None
    finally:
        await client.close()
    for topic in TOPICS:
        if settings.topic(topic.name) not in known:
            raise ServiceError(f"topic {settings.topic(topic.name)} is missing; run `bestbefore topics create`")


def _end_in_time(app: App) -> None:
    """Ends the process when stopping takes too long: while the broker is away Faust would wait for its consumer."""
    while not app.should_stop:
        time.sleep(0.2)
    time.sleep(STOP_PATIENCE)
    log.warning("the broker does not let go within %.0f s; what is not committed is read again", STOP_PATIENCE)
    logging.shutdown()
    os._exit(EXIT_BROKEN)


def run_worker(settings: Settings, agents: Iterable[str] = tuple(AGENTS), loglevel: str = "warning") -> None:
    """Run until a signal ends it.

    Broker and store must be reachable and ready for this version at the start: whoever watches over the worker starts
    it again. Later they may come and go. Raises ServiceError, StoreUnreachable, StoreOutdated and TooNew.
    """
    require_file(settings.store)
    thin_out()
    app, runtime = create_worker(settings, agents)
    runtime.store.check()
    if "assess" in set(agents):
        runtime.store.check_states(STATE_FORMAT)
    asyncio.run(_require_topics(settings))
    runtime.registry.load([row.body for row in runtime.store.registrations()])
    runtime.inspections = {key: decode_inspection(body) for key, body in runtime.store.inspections().items()}
    threading.Thread(target=_end_in_time, args=(app,), name="end", daemon=True).start()
    worker = faust.Worker(app, loglevel=loglevel, redirect_stdouts=False, quiet=True, daemon=True)
    worker.execute_from_commandline()
