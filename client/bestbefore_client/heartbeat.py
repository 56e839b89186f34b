"""Heartbeats: what a recorder says of itself in the stream of its events, so that losses are seen and windows close."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from bestbefore_client.events import NEVER, Message
from bestbefore_client.ledger import Ledger
from bestbefore_client.messages import rfc3339

HEARTBEAT = "application/vnd.bestbefore.heartbeat+json"

_HEADERS = [("content-type", HEARTBEAT.encode())]


class Heart:
    """Says every `seconds` how many inferences were recorded, left out and dropped since the last acknowledged beat.

    One round is on its way at a time. A round that is not acknowledged has said nothing: its counts come again. With
    several partitions each gets a beat of its own number, and the counts stand in the first alone.
    """

    def __init__(
        self, ledger: Ledger, seconds: float, clock: Callable[[], int], *, recorder: str, model: str, version: str,
        sampling: float,
    ) -> None:  # fmt: skip
        """`seconds` 0 means never; `clock` gives microseconds since the epoch; the rest is written into each beat."""
        self._ledger, self._seconds, self._clock = ledger, seconds, clock
        self._recorder, self._model, self.version, self._sampling = recorder, model, version, sampling
        self._next = float("inf")
        self._seq = self.acknowledged = self._outstanding = 0
        self._said: dict[str, Any] = {"recorded": 0, "sampled_out": 0, "dropped": {}}
        self._high, self._high_since = -NEVER, 0.0
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Start counting the time to the first beat."""
        if self._seconds > 0:
            self._next = time.monotonic() + self._seconds

    def left(self) -> float:
        """Seconds until the next beat; without end while one is on its way, or before the first inference."""
        if self._outstanding or not self._ledger.recorded:
            return float("inf")
        return max(0.0, self._next - time.monotonic())

    def due(self) -> bool:
        """Whether it is time for a beat, and the last one has been answered."""
        return self.left() <= 0

    def unsaid(self) -> bool:
        """Whether something happened that no acknowledged beat has told."""
        news = self._ledger.recorded > 0 and self._counts() != self._said
        return news and self._seconds > 0 and not self._outstanding

    def beats(self, low: int, high: int, partitions: Sequence[int | None], key: str | None) -> list[Message]:
        """Give the round's messages, one per partition; None is the partition of `key`.

        `low` and `high` are the times of the oldest event still waiting and of the newest ever recorded. The beat's
        time is that of the newest event, moved on by the clock while no newer one comes, and never beyond the oldest
        that waits: so telemetry that is recorded years later closes its windows as live telemetry does.
        """
        self._next = time.monotonic() + self._seconds
        stamp = rfc3339(min(self._moved(high), low, self._clock()))
        counts = self._counts()
        news = _difference(counts, self._said)
        with self._lock:
            self._outstanding = len(partitions)
        messages = []
        for i, partition in enumerate(partitions):
            self._seq += 1
            said = counts if i == 0 else None
            body = {
                "recorder": self._recorder, "seq": self._seq, "time": stamp, "model": self._model,
                "version": self.version, **(news if i == 0 else _NOTHING), "sampling": self._sampling,
            }  # fmt: skip
            value = json.dumps(body, ensure_ascii=False).encode()
            messages.append(
                Message("inference", key, value, _HEADERS, 0, len(value), NEVER, partition, self._answer(said))
            )
        return messages

    def _moved(self, high: int) -> int:
        """Move the newest event's time on by how long no newer one has come; all were left out: the clock's."""
        if high == -NEVER:
            return NEVER
        if high != self._high:
            self._high, self._high_since = high, time.monotonic()
        return high + int((time.monotonic() - self._high_since) * 1e6)

    def _answer(self, said: dict[str, Any] | None) -> Callable[[BaseException | None], None]:
        def landed(error: BaseException | None) -> None:
            with self._lock:
                self._outstanding -= 1
                if error is None:
                    self.acknowledged += 1
                    if said is not None:
                        self._said = said

        return landed

    def _counts(self) -> dict[str, Any]:
        with self._ledger.lock:
            return {
                "recorded": self._ledger.recorded,
                "sampled_out": self._ledger.sampled_out,
                "dropped": dict(self._ledger.dropped),
            }


_NOTHING: dict[str, Any] = {"recorded": 0, "sampled_out": 0, "dropped": {}}


def _difference(now: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    old = before["dropped"]
    dropped = {reason: n - old.get(reason, 0) for reason, n in now["dropped"].items() if n > old.get(reason, 0)}
    return {
        "recorded": now["recorded"] - before["recorded"],
        "sampled_out": now["sampled_out"] - before["sampled_out"],
        "dropped": dropped,
    }
