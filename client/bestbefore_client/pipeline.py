"""From the server's threads to Kafka: a bounded queue, and the one daemon thread that encodes and sends."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from bestbefore_client.courtesy import Courtesy
from bestbefore_client.delivery import Delivery
from bestbefore_client.events import NEVER, Events, Message, Shape, Shared, frame_message, frames_of, lowest
from bestbefore_client.heartbeat import Heart
from bestbefore_client.intake import Chunk, Intake, Thing
from bestbefore_client.ledger import Ledger

log = logging.getLogger("bestbefore_client")

_AFTER_DEFECT = 1.0  # seconds


class Pipeline:
    """Takes rows, blocks and messages at once, and delivers them later; the ledger bounds all that is held."""

    def __init__(
        self,
        ledger: Ledger,
        delivery: Delivery,
        intake: Intake,
        heart: Heart,
        *,
        shared: Shared,
        key: Callable[[str], str | None],
    ) -> None:
        """`shared` gives a version's common columns, `key` its record key; the thread starts with the first record."""
        self._ledger, self._delivery, self._intake, self._heart = ledger, delivery, intake, heart
        self._shared, self._key, self._courtesy = shared, key, Courtesy()
        self._flushing = 0
        self._idle = False
        self._encoding = NEVER  # time of the oldest event between the queue and the delivery
        self._deadline: float | None = None
        self._thread: threading.Thread | None = None

    def row(self, shape: Shape, values: tuple[Any, ...], size: int, at: int) -> None:
        """Queue a row unless the ledger has no room; constant time, no I/O."""
        ledger = self._ledger
        with ledger.lock:
            ledger.recorded += 1
            if ledger.refusing or ledger.items >= ledger.max_items or ledger.bytes + size > ledger.max_bytes:
                ledger.admit(1, size)  # which counts the drop
                return
            ledger.items += 1
            ledger.bytes += size
            if self._intake.row(shape, values, size, at) and self._idle:
                ledger.changed.notify_all()
            if self._thread is None:
                self._start()

    def thing(self, thing: Thing, size: int, events: int, share: float = 1.0, high: int = -NEVER) -> None:
        """Queue a block of `events`, or a message, likewise; `share` is the part of all room that it may use up to."""
        items = events or 1
        with self._ledger.lock:
            self._ledger.recorded += events
            if self._ledger.admit(items, size, share):
                if self._intake.thing(thing, items, high) and self._idle:
                    self._ledger.changed.notify_all()
                if self._thread is None:
                    self._start()

    def left_out(self, events: int, reason: str | None = None, error: BaseException | None = None) -> None:
        """Count inferences that were recorded and not queued: sampled out, or dropped for a reason."""
        with self._ledger.lock:
            self._ledger.recorded += events
            if reason is not None:
                self._ledger.drop(reason, events, error)
            else:
                self._ledger.sampled_out += events
                if self._thread is None and not self._ledger.refusing:
                    self._start()

    def flush(self, timeout: float) -> bool:
        """Send partly filled frames as well, and wait until nothing is held; False if late or something was lost."""
        with self._ledger.changed:
            lost = self._ledger.lost
            self._flushing += 1
            self._ledger.changed.notify_all()
            try:
                return self._ledger.wait_empty(timeout) and self._ledger.lost == lost
            finally:
                self._flushing -= 1

    def begin_close(self, deadline: float) -> None:
        """Refuse more and send what is held until `deadline`, of `time.monotonic()`; the first deadline given holds."""
        with self._ledger.changed:
            self._ledger.refusing = True
            if self._deadline is None:
                self._deadline = deadline
            self._ledger.changed.notify_all()

    def close(self, timeout: float) -> bool:
        """Refuse more, send what is held, and stop the thread; what is left after `timeout` seconds is written off.

        A second call keeps to the first one's deadline.
        """
        self.begin_close(time.monotonic() + timeout)
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.0, (self._deadline or 0.0) - time.monotonic()))
        self._ledger.write_off()
        return self._ledger.lost == 0

    def abandon(self) -> None:
        """In a forked child: let go of what belongs to the parent, without touching it."""
        self._delivery.abandon()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="bestbefore-recorder", daemon=True)
        try:
            thread.start()
            self._thread = thread
        except RuntimeError as error:  # no more threads now; the next record tries again
            self._ledger.note("thread", error)

    def _run(self) -> None:
        self._heart.begin()
        while self._awake():
            try:
                self._step()
            except Exception as error:  # noqa: PERF203 -- the thread must go on, and says so
                self._ledger.note("recorder", error)
                log.exception("the recorder goes on after a defect of its own; please report it")
                time.sleep(_AFTER_DEFECT)
        self._farewell()

    def _step(self) -> None:
        if not self._delivery.connected:
            self._delivery.connect()
        elif not self._delivery.busy:
            chunk = self._taken()
            if chunk is not None:
                for message in self._packed(chunk):
                    self._delivery.put(message)
                self._encoding = NEVER
        if self._delivery.connected and self._heart.due():
            self._beat()
        self._delivery.pump()

    def _beat(self) -> None:
        partitions: list[int | None] = [None]
        if self._key(self._heart.version) is None:
            partitions = [*self._delivery.partitions("inference")]
        with self._ledger.lock:
            low = min(self._intake.low(), self._encoding, self._delivery.low())
            high = self._intake.high
        for message in self._heart.beats(low, high, partitions, self._key(self._heart.version)):
            self._delivery.put(message)

    def _farewell(self) -> None:
        """Say what has not been said yet, if there is time, and end."""
        left = 0.0 if self._deadline is None else self._deadline - time.monotonic()
        if self._delivery.connected and left > 0 and self._heart.unsaid():
            self._beat()
            self._delivery.pump()
        self._delivery.close(0.0 if self._deadline is None else self._deadline - time.monotonic())

    def _finished(self) -> bool:
        """Whether to end; with the ledger's lock held."""
        return self._deadline is not None and (self._ledger.items == 0 or time.monotonic() >= self._deadline)

    def _hurried(self) -> bool:
        return self._flushing > 0 or self._deadline is not None

    def _awake(self) -> bool:
        """Wait for rows, acknowledgements, a heartbeat, or until a failed attempt may be repeated; False at the end."""
        with self._ledger.changed:
            if self._finished():
                return False
            timeout = self._delivery.wait()
            if self._delivery.connected:
                timeout = min(timeout, self._heart.left())
                if not self._delivery.busy:
                    timeout = min(timeout, self._intake.due(self._hurried()))
            if self._deadline is not None:
                timeout = min(timeout, self._deadline - time.monotonic())
            if timeout > 0:
                self._idle = True
                self._ledger.changed.wait(max(timeout, 0.001))
                self._idle = False
            return not self._finished()

    def _taken(self) -> Chunk | None:
        with self._ledger.lock:
            chunk = self._intake.take(self._hurried())
            self._encoding = NEVER if chunk is None else chunk.low
            return chunk

    def _packed(self, chunk: Chunk) -> Iterator[Message]:
        frames: list[Events] = [*chunk.batches.values(), *(t for t in chunk.things if not isinstance(t, Message))]
        for events in frames:
            yield from frames_of(events, self._shared, self._framed, self._lost, self._courtesy)
        for thing in chunk.things:
            if isinstance(thing, Message):
                yield thing

    def _framed(self, value: bytes, version: str, events: Events) -> Message:
        message = frame_message(self._key(version), value, events.n, lowest([events]))
        self._ledger.resize(message.size - events.size)
        return message

    def _lost(self, reason: str, items: int, size: int, error: BaseException) -> None:
        self._ledger.note(reason, error)
        self._ledger.settle(items, size, reason)
