"""What the recorder holds, has delivered and has lost: the bound on its memory, and the truth about its losses."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple


class Stats(NamedTuple):
    """A recorder's figures since it began, in this process; counts only grow, apart from what is pending.

    `recorded`: inferences handed to it, whatever became of them. `sampled_out`: those left out by `sampling_rate`.
    `delivered`: events, labels and inputs that a broker has acknowledged. `dropped`: likewise, by reason. `pending`,
    `pending_bytes`: accepted, and neither acknowledged nor dropped. `heartbeats`: acknowledged ones.
    """

    recorder: str
    recorded: int
    sampled_out: int
    delivered: int
    dropped: dict[str, int]
    pending: int
    pending_bytes: int
    heartbeats: int
    connected: bool
    last_error: str | None

    def as_dict(self) -> dict[str, Any]:
        """Give plain values that JSON can hold."""
        return self._asdict()


class Ledger:
    """Counts items (events, labels, inputs) and bytes from acceptance until acknowledged or dropped; thread-safe.

    `lock` guards all state of the recorder, and is never held across I/O; `changed` is notified when something may be
    done or is done. It is reentrant: a signal handler or a finaliser may record while its own thread is just inside.
    """

    def __init__(self, max_items: int, max_bytes: int) -> None:
        """Hold at most `max_items` items and `max_bytes` bytes, estimated, over all stages."""
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.max_items, self.max_bytes = max_items, max_bytes
        self._crowded = max_bytes - min(2048, max_bytes // 100)
        self.items = self.bytes = self.delivered = self.lost = 0
        self.recorded = self.sampled_out = 0
        self.dropped: dict[str, int] = {}
        self.last_error: str | None = None
        self.refusing = False
        self._written_off = False

    @property
    def full(self) -> bool:
        """Whether there is hardly room for an event; read without the lock, to save the work of making one."""
        return self.items >= self.max_items or self.bytes >= self._crowded

    def admit(self, items: int, size: int, share: float = 1.0) -> bool:
        """Take responsibility for `items` of `size` bytes; False, and counted as dropped, when there is no room.

        `share` is the part of `max_bytes` that may be in use afterwards. The lock must be held.
        """
        if self.refusing:
            self.drop("closed", items)
        elif self.items + items > self.max_items or self.bytes + size > share * self.max_bytes:
            self.drop("full", items)
        else:
            self.items += items
            self.bytes += size
            return True
        return False

    def resize(self, difference: int) -> None:
        """Correct the bytes held, for instance when rows became a frame."""
        with self.lock:
            if not self._written_off:
                self.bytes += difference

    def settle(self, items: int, size: int, lost: str | None = None) -> None:
        """Let go of items that were admitted: delivered, or dropped for the reason `lost`."""
        with self.lock:
            if self._written_off:
                return
            self.items -= items
            self.bytes -= size
            if lost is None:
                self.delivered += items
            else:
                self.lost += items
                self.drop(lost, items)
            self.changed.notify_all()

    def drop(self, reason: str, items: int, error: BaseException | None = None) -> None:
        """Count dropped items by reason."""
        with self.lock:
            self.dropped[reason] = self.dropped.get(reason, 0) + items
            if error is not None:
                self.note(reason, error)

    def note(self, where: str, error: BaseException) -> None:
        """Keep the last error for whoever asks."""
        try:
            self.last_error = f"{where}: {type(error).__name__}: {error}"
        except Exception:  # noqa: BLE001 -- an error of the server's own making may fail to say what it is
            self.last_error = f"{where}: {type(error).__name__}"

    def wait_empty(self, timeout: float) -> bool:
        """Wait until nothing is held, at most `timeout` seconds."""
        with self.changed:
            return self.changed.wait_for(lambda: self.items == 0, timeout)

    def write_off(self) -> None:
        """End: count whatever is still held as dropped; later news about it changes nothing."""
        with self.lock:
            if self.items:
                self.lost += self.items
                self.drop("closed", self.items)
            self.items = self.bytes = 0
            self.refusing = self._written_off = True
            self.changed.notify_all()

    def stats(self, recorder: str, heartbeats: int, connected: bool) -> Stats:
        """Give all figures of one moment."""
        with self.lock:
            return Stats(
                recorder, self.recorded, self.sampled_out, self.delivered, dict(self.dropped), self.items, self.bytes,
                heartbeats, connected, self.last_error,
            )  # fmt: skip
