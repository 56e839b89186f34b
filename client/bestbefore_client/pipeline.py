"""From the server's threads to Kafka: a bounded queue, and the one daemon thread that encodes and sends."""

from __future__ import annotations

import atexit
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Union

from bestbefore_client.columns import Column
from bestbefore_client.delivery import Delivery
from bestbefore_client.events import Block, Message, Row, frame_message, frames_of_block, frames_of_rows, rows_by_shape
from bestbefore_client.ledger import Ledger

Thing = Union[Row, Block, Message]


class Pipeline:
    """Takes rows, blocks and messages at once, and delivers them later; the ledger bounds all that is held."""

    def __init__(
        self,
        ledger: Ledger,
        delivery: Delivery,
        *,
        frame_rows: int,
        frame_seconds: float,
        shared: Callable[[str], Mapping[str, Column]],
        key: Callable[[str], str | None],
    ) -> None:
        """`shared` gives a version's common columns, `key` its record key; the thread starts with the first offer."""
        self._ledger, self._delivery, self._shared, self._key = ledger, delivery, shared, key
        self._frame_rows, self._frame_seconds = frame_rows, frame_seconds
        self._queue: deque[tuple[Thing, int]] = deque()
        self._queued = self._flushing = 0
        self._oldest = 0.0
        self._idle = False
        self._deadline: float | None = None
        self._thread: threading.Thread | None = None

    def offer(self, thing: Thing, items: int, size: int, share: float = 1.0) -> None:
        """Queue something unless the ledger has no room; constant time, no I/O."""
        with self._ledger.changed:
            if not self._ledger.admit(items, size, share):
                return
            if not self._queue:
                self._oldest = time.monotonic()
            self._queue.append((thing, items))
            self._queued += items
            if self._idle and self._due():
                self._ledger.changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="bestbefore-recorder", daemon=True)
                self._thread.start()
                atexit.register(self._at_exit)

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

    def close(self, timeout: float) -> bool:
        """Refuse more, send what is held, and stop the thread; what is left after `timeout` seconds is written off.

        A second call keeps to the first one's deadline.
        """
        with self._ledger.changed:
            self._ledger.refusing = True
            if self._deadline is None:
                self._deadline = time.monotonic() + timeout
            self._ledger.changed.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.0, self._deadline - time.monotonic()))
        atexit.unregister(self._at_exit)
        self._ledger.write_off()
        return self._ledger.lost == 0

    def _run(self) -> None:
        while not self._finished():
            if not self._delivery.connected:
                self._connect()
            elif not self._delivery.busy:
                for message in self._packed(self._taken()):
                    self._delivery.put(message)
            self._delivery.pump()
            self._sleep()
        self._delivery.close(0.0 if self._deadline is None else self._deadline - time.monotonic())

    def _connect(self) -> None:
        self._delivery.connect()
        if self._delivery.connected:
            # Again: the producer has registered an exit handler too, and the one registered last runs first.
            atexit.unregister(self._at_exit)
            atexit.register(self._at_exit)

    def _at_exit(self) -> None:
        self.close(1.0)

    def _finished(self) -> bool:
        with self._ledger.changed:
            return self._deadline is not None and (self._ledger.items == 0 or time.monotonic() >= self._deadline)

    def _due(self) -> bool:
        if not self._queue:
            return False
        hurried = self._flushing > 0 or self._deadline is not None
        return hurried or self._queued >= self._frame_rows or time.monotonic() - self._oldest >= self._frame_seconds

    def _sleep(self) -> None:
        """Wait for rows, for acknowledgements, or until a failed attempt may be repeated."""
        with self._ledger.changed:
            if self._delivery.connected and not self._delivery.busy:
                if self._due():
                    return
                timeout = self._frame_seconds
                if self._queue:
                    timeout += self._oldest - time.monotonic()
                timeout = min(timeout, self._delivery.wait())
            else:
                timeout = self._delivery.wait()
            if self._deadline is not None:
                timeout = min(timeout, self._deadline - time.monotonic())
            self._idle = True
            self._ledger.changed.wait(max(timeout, 0.001))
            self._idle = False

    def _taken(self) -> list[Thing]:
        """Take about one frame's worth from the queue, if it is time."""
        things: list[Thing] = []
        with self._ledger.changed:
            rows = self._frame_rows if self._due() else 0
            while self._queue and rows > 0:
                thing, items = self._queue.popleft()
                self._queued -= items
                rows -= items
                things.append(thing)
            self._oldest = time.monotonic()
        return things

    def _packed(self, things: list[Thing]) -> Iterator[Message]:
        for shape, rows in rows_by_shape(t for t in things if isinstance(t, Row)).items():
            yield from frames_of_rows(rows, self._shared(shape.version), self._framed, self._lost)
        for thing in things:
            if isinstance(thing, Block):
                yield from frames_of_block(thing, self._framed, self._lost)
            elif isinstance(thing, Message):
                yield thing

    def _framed(self, value: bytes, version: str, items: int, size: int) -> Message:
        message = frame_message(self._key(version), value, items)
        self._ledger.resize(message.size - size)
        return message

    def _lost(self, reason: str, items: int, size: int, error: BaseException) -> None:
        self._ledger.note(reason, error)
        self._ledger.settle(items, size, reason)
