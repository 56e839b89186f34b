"""A plain loop that acts on retrain triggers: no orchestrator, kafka-python alone.

It catches up with what was missed, calls your function once for each trigger, answers, and only then commits. Killed at
any moment and started again, it goes on with the trigger it was at: your function may then be called again for it,
unless it had returned.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Optional

from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.errors import CommitFailedError, IllegalStateError, RebalanceInProgressError

from bestbefore_client.runs import Runs
from bestbefore_client.security import Security
from bestbefore_client.triggers import (
    LIFECYCLE,
    REFUSED,
    RETRAINED,
    STARTED,
    TOPIC,
    NotATrigger,
    Trigger,
    answer,
    read_trigger,
)

log = logging.getLogger(__name__)
Act = Callable[[Trigger], Optional[str]]
POLL_MS = 500
POLLS_UNTIL_TOLD = 60
SESSION_MS = 10_000  # after which another takes the place of one that was killed


class Refused(Exception):
    """Raise it in your function to say no to a trigger, with the reason: it is answered, and not asked again."""


class Actor:
    """Reads triggers, acts on each once, and answers.

    Args:
        brokers: of Kafka, host:port,host:port.
        act: called with a trigger, in a thread; returns the version that came of it, or None when something else will
            tell of it. It may take hours: the group keeps its place meanwhile. What it raises ends the loop, and the
            trigger comes again with the next start; except `Refused`.
        runs: folder that remembers what was finished; consumers that share the group share it too.
        missed: gives the triggers that are open, such as `open_triggers` over a connection of the store; called at the
            start, and before each act, so that nothing is done for what is resolved already. Without it the group's
            first start reads all triggers that the topic keeps, resolved ones too.
        group: consumer group.
        prefix: of the topics.
        actions: the actions that are acted on; the others are passed over.
        security: TLS and SASL of the brokers.
        options: more for both of kafka-python's clients, the consumer and the producer.
    """

    def __init__(
        self,
        brokers: str,
        act: Act,
        *,
        runs: str = "runs",
        missed: Callable[[], Iterable[Trigger]] | None = None,
        group: str = "retraining",
        prefix: str = "bestbefore.",
        actions: Sequence[str] = ("retrain",),
        security: Security | None = None,
        **options: Any,
    ) -> None:
        """Connect to nothing yet."""
        self._act, self._missed, self._actions, self.group = act, missed, tuple(actions), group
        self._topic, self._lifecycle = prefix + TOPIC, prefix + LIFECYCLE
        self.runs = Runs(runs)
        self._options = {
            "bootstrap_servers": brokers,
            "metrics_enabled": False,
            **(security.kafka_python() if security else {}),
            **options,
        }
        self._waiting: deque[Any] = deque()
        self._consumer: Any = None

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Act until `until` says true, which is asked every half second.

        Raises what `act` and `missed` raise, KafkaError when a broker refuses.
        """
        self._consumer = KafkaConsumer(
            self._topic,
            group_id=self.group,
            enable_auto_commit=False,
            session_timeout_ms=SESSION_MS,
            allow_auto_create_topics=False,
            auto_offset_reset="earliest" if self._missed is None else "latest",
            **self._options,
        )
        try:
            with ThreadPoolExecutor(1) as thread:
                self._take_place(until)
                for trigger in self._missed() if self._missed else ():
                    self._once(trigger, thread)
                while not until():
                    self._poll()
                    while self._waiting:
                        record = self._waiting.popleft()
                        self._record(record, thread)
                        self._commit({place_of(record): record.offset + 1})
        finally:
            self._consumer.close()

    def _take_place(self, until: Callable[[], bool]) -> None:
        """Wait for partitions, and commit where each begins: what comes from now on is read, whatever happens to us."""
        polls = 0
        while not self._consumer.assignment() and not until():
            self._poll()
            polls += 1
            if polls % POLLS_UNTIL_TOLD == 0:
                log.warning(
                    "no partition of %s for this member of %s yet: others have them all, or there is no such topic",
                    self._topic,
                    self.group,
                )
        new = [place for place in self._consumer.assignment() if self._consumer.committed(place) is None]
        held = {place_of(record): record.offset for record in reversed(self._waiting)}  # read, and not done yet
        self._commit({place: held.get(place, self._consumer.position(place)) for place in new})

    def _poll(self) -> None:
        for batch in self._consumer.poll(timeout_ms=POLL_MS).values():
            self._waiting.extend(batch)

    def _commit(self, offsets: dict[Any, int]) -> None:
        if not offsets:
            return
        try:
            self._consumer.commit({place: OffsetAndMetadata(at, "", -1) for place, at in offsets.items()})
        except (CommitFailedError, IllegalStateError, RebalanceInProgressError) as error:
            # Its next owner reads the record again, and finds that it is finished.
            log.warning("not committed, the partition is another's now: %s", error)

    def _record(self, record: Any, thread: ThreadPoolExecutor) -> None:
        try:
            trigger = read_trigger(record.value, record.headers)
        except NotATrigger as error:
            log.warning("passed over %s[%s]@%s: %s", record.topic, record.partition, record.offset, error)
            return
        self._once(trigger, thread)

    def _once(self, trigger: Trigger, thread: ThreadPoolExecutor) -> None:
        """Act in the thread, and keep the place in the group meanwhile."""
        if trigger.action not in self._actions or trigger.advice:
            return
        future = thread.submit(self._finish, trigger)
        while not future.done():
            self._consumer.pause(*self._consumer.assignment())
            self._poll()
        self._consumer.resume(*self._consumer.assignment())
        future.result()

    def _finish(self, trigger: Trigger) -> None:
        name = trigger.trigger_id
        with self.runs.locked(name):
            state = self.runs.read(name)
            if not state.get("finished"):
                if self._missed is not None and name not in {found.trigger_id for found in self._missed()}:
                    log.info("trigger %s is resolved already", name)
                    return
                self._tell(trigger, STARTED)
                self.runs.write(
                    name, state := {"trigger": dict(trigger.body), "attempts": state.get("attempts", 0) + 1}
                )
                self.runs.write(name, state := {**state, "finished": True, **self._outcome(trigger)})
            if not state.get("answered"):
                if state["kind"]:
                    self._tell(trigger, state["kind"], state["version"], state["message"])
                self.runs.write(name, {**state, "answered": True})

    def _outcome(self, trigger: Trigger) -> dict[str, str]:
        try:
            version = self._act(trigger)
        except Refused as error:
            return {"kind": REFUSED, "version": "", "message": str(error)}
        return {"kind": RETRAINED if version else "", "version": version or "", "message": ""}

    def _tell(self, trigger: Trigger, kind: str, version: str = "", message: str = "") -> None:
        key, value, _ = answer(trigger, kind, version, message=message)
        producer = KafkaProducer(acks="all", allow_auto_create_topics=False, **self._options)
        try:
            producer.send(self._lifecycle, key=key, value=value).get(timeout=60)
        finally:
            producer.close()


def place_of(record: Any) -> TopicPartition:
    """Give the partition that a record came from."""
    return TopicPartition(record.topic, record.partition)
