"""What the agents of a worker share: settings, the Faust app, the store's one thread, sending, dead letters, ending."""

import asyncio
import logging
import os
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from faust.exceptions import ProducerSendError
from faust.types import TP

from models.inspection import Inspection
from streams.clock import BrokerClock
from streams.delivery import Frontiers
from streams.errors import BadRecord, BestbeforeError, StoreUnreachable, TooNew
from streams.event_store import EventStore
from streams.metrics import Metrics
from streams.progress import Progress
from streams.registry import Registry
from streams.services import Services
from streams.settings import Settings
from streams.topics import DEAD_LETTERS
from streams.watchdog import Watchdog

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")
EXIT_REFUSED, EXIT_BROKEN = 2, 71
CATCH_UP = 10.0  # seconds for which windows of a worker that starts wait for lifecycle events that lie at the broker
MAX_TRACE = 4096
MAX_HEAD, MAX_NAME, MAX_HEADERS = 4096, 200, 20  # of a record that is too large to be kept: bytes of a part, headers
Headers = list[tuple[str, bytes | None]]


class Runtime:
    """Made once per worker by the composition root.

    `stored` runs a call of the event store in its one thread, for as long as it takes; `send` returns when the broker
    has acknowledged. Neither gives up: while store or broker are away the worker waits, its partitions pause, nothing
    is skipped.
    """

    def __init__(self, settings: Settings, app: Any, store: EventStore, clock: BrokerClock | None = None) -> None:
        self.settings, self.app, self.store = settings, app, store
        self.clock = clock or BrokerClock()
        self.registry = Registry(
            window_us=settings.us("default_window"),
            lateness_us=settings.us("default_lateness"),
            most_unknown=settings.max_unregistered,
        )
        self.inspections: dict[tuple[str, str], Inspection] = {}  # newest of each registered model version's file
        self.frontiers: Frontiers = app.frontiers
        self.services = Services()
        self.progress = Progress(self._end_of, self._due)
        self.metrics = Metrics(self.registry.describes, settings.topic_prefix)
        app.on_commit = lambda done: self.metrics.commit(done=done)
        app.on_lost = self.metrics.lost
        self.assigned = False  # whether the group has given this worker its share, be it none
        self.outbox = 0  # records in the outbox of the store, when last asked
        self.metrics.watch(lambda: self.progress.snapshot, self.services, lambda: self.outbox)
        self.lifecycle_read: Callable[[], bool] = lambda: True  # whether what lay on that topic at the start is read
        self.catch_up = CATCH_UP
        self._waits_until: float | None = None
        self.watchdog = Watchdog(settings.seconds("watchdog_after"), self.progress.signs, self.services.waiting)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")

    def _due(self, tp: TP) -> float | None:
        since: float | None = self.app.consumer.pending.get(tp)
        return since

    def _end_of(self, tp: TP) -> int:
        return int(self.app.consumer.highwater(tp))

    def holds(self, tp: TP, generation: int) -> bool:
        """Whether the partition is this worker's, and no rebalance was, or began, since `generation`."""
        return generation == self.app.consumer_generation_id and tp in self.app.consumer.held

    async def stored(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a store call; waits, however long, while the store is unreachable."""
        loop = asyncio.get_running_loop()

        async def ask() -> T:
            began = time.monotonic()
            with self.progress.calling(call.__name__):
                answer = await loop.run_in_executor(self._thread, partial(call, *args, **kwargs))
            self.metrics.stored(call.__name__, time.monotonic() - began)
            return answer

        return await self._until(ask, (StoreUnreachable,), "store", "waiting for the event store: %s")

    async def answered(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The broker's answer to the consumer; asks, however often, until it comes."""
        return await self._until(ask, (TimeoutError, KafkaError), "broker", "waiting for the broker to answer: %r")

    async def changes_first(self) -> None:
        """Wait until lifecycle events that came before this worker are handed on: its windows must not overtake them.

        No longer than `catch_up` seconds after the first that waits.
        """
        if self._waits_until is None:
            self._waits_until = time.monotonic() + self.catch_up
        while not self.lifecycle_read() and time.monotonic() < self._waits_until:
            await asyncio.sleep(0.05)

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]] | None = None,
    ) -> None:
        """Send to a topic (by its short name) and wait for the broker's acknowledgement, trying until it comes.

        Raises what the producer raised for a record that is too large: trying again would not make it smaller.
        """
        producer = await self.app.maybe_start_producer()

        async def deliver() -> None:
            await (await producer.send(self.settings.topic(topic), key, value, None, None, list(headers or ())))

        told = f"waiting for the broker to take a record for {topic}: %r"
        await self._until(deliver, (TimeoutError, KafkaError, ProducerSendError), "broker", told)

    async def _until(
        self, ask: Callable[[], Awaitable[T]], errors: tuple[type[Exception], ...], whom: str, told: str
    ) -> T:
        """What `ask` returns; asked again, ever more slowly, after `errors`. Meanwhile the service is waited for."""
        pause, began, service = 0.2, None, self.services[whom]
        try:
            while True:
                try:
                    return await ask()
                except errors as error:
                    if isinstance(error.__cause__ or error, MessageSizeTooLargeError):
                        raise
                    log.warning(told, error)
                    began = service.wait() if began is None else began
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, 5.0)
        finally:
            if began is not None:
                service.done(began)

    async def bury(self, message: Any, error: Exception, agent: str) -> None:
        """Put a record that cannot be used into the dead letters: bytes, key and headers as they came, and why."""
        stage = error.stage if isinstance(error, BadRecord) else "unexpected"
        self.metrics.dead_letter(message.topic, stage)
        reason = _reason(message, error, agent, stage)
        # A client sends no record that has neither key nor value, though the protocol has them.
        value = b"" if message.key is None and message.value is None else message.value
        log.warning("dead letter from %s[%s]@%s: %s", message.topic, message.partition, message.offset, told(error))
        try:
            await self.send(DEAD_LETTERS, message.key, value, [*(message.headers or ()), *reason])
        except (MessageSizeTooLargeError, ProducerSendError):
            # The worker may read records that are larger than those it may send; any part may be what is large.
            key = message.key and message.key[:MAX_HEAD]
            size = str(len(message.value or b"")).encode()
            headers = [*_shortened(message.headers or ()), *reason, ("bestbefore.truncated.from", size)]
            await self.send(DEAD_LETTERS, key, (message.value or b"")[:MAX_HEAD], headers)

    def end(self, reason: str, error: BaseException | None = None) -> None:
        """End the worker: it cannot go on without losing something. What it read is read again by the next."""
        if self.app.should_stop:
            # A signal has closed the producer under it. Nothing may be committed past what could not be finished.
            self.frontiers.clear()
            log.info("left unfinished at the end: %s (%r)", reason, error)
            return
        refused = isinstance(error, TooNew)
        if refused:
            log.critical("worker ends: %s", error)
        else:
            log.critical("worker ends: %s", reason, exc_info=error)
        logging.shutdown()
        os._exit(EXIT_REFUSED if refused else EXIT_BROKEN)


def told(error: Exception) -> str:
    """What an error says, where it is ours: those of libraries may quote the value they failed on."""
    if isinstance(error, BestbeforeError):
        return str(error)
    return f"{type(error).__name__}: a defect; exception.stacktrace says where"


def trace_of(error: Exception) -> str:
    """Where an error was raised, without what it says unless it is ours; its last lines."""
    where = "".join(traceback.format_tb(error.__traceback__))
    return f"{where}{type(error).__name__}: {told(error)}"[-MAX_TRACE:]


def _shortened(headers: Iterable[tuple[str, bytes | None]]) -> Headers:
    """As many headers as are worth a look, each with as much of it."""
    return [(name[:MAX_NAME], value and value[:MAX_HEAD]) for name, value in list(headers)[:MAX_HEADERS]]


def _reason(message: Any, error: Exception, agent: str, stage: str) -> Headers:
    """The error headers of Kafka Connect, as text."""
    fields = {
        "topic": message.topic,
        "partition": message.partition,
        "offset": message.offset,
        "connector.name": "bestbefore",
        "task.id": agent,
        "stage": stage.upper(),
        "class.name": agent,
        "exception.class.name": type(error).__name__,
        "exception.message": told(error)[:MAX_TRACE],
        "exception.stacktrace": trace_of(error),
    }
    return [(f"__connect.errors.{name}", str(value).encode("utf-8", "replace")) for name, value in fields.items()]
