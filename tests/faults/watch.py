"""Watches a deployment while it is hurt: offsets that must never move back, and how soon they move on after a fault."""

import threading
import time
from typing import Any

from kafka.errors import KafkaError
from sqlalchemy import text as sql

from streams.errors import StoreUnreachable
from streams.event_store import EventStore
from tests.faults.rig import GROUP, Rig
from tests.faults.topic import Progress

EVERY = 0.3  # seconds


def applied(store: EventStore) -> dict[Any, tuple[int, int]]:
    """(next offset, epoch) of every profiles partition; nothing while the store is away."""
    try:
        with store._reading() as connection:
            rows = connection.execute(sql("SELECT grp, topic, partition, next_offset, epoch FROM applied_offset"))
            return {tuple(row[:3]): (row[3] or 0, row[4]) for row in rows}
    except StoreUnreachable:
        return {}


class Watch:
    """A thread that looks at applied and committed offsets, over connections that no fault of the network touches."""

    def __init__(self, rig: Rig) -> None:
        self._rig, self._store = rig, EventStore(rig.services.store)
        self._stop = threading.Event()
        self._progress: Progress | None = None
        self._applied: dict[Any, tuple[int, int]] = {}
        self._committed: dict[Any, int] = {}
        self._ends: dict[Any, int] = {}
        self._looks = 0  # how often the broker has answered
        self.backwards: list[str] = []
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._store.close()
        self._forget()

    def recovery(self, patience_s: float) -> tuple[float, str]:
        """Seconds from now until every partition was committed further than it is now, or has nothing left to commit.

        Not more than `patience_s`. And the partition that was the last, with its offset and its end.
        """
        began = time.monotonic()
        first = self._next_look(self._looks, began + patience_s)
        last = ""
        while (behind := self._unmoved(first)) and time.monotonic() - began < patience_s:
            last = behind
            time.sleep(EVERY / 3)
        return time.monotonic() - began, last

    def done(self) -> bool:
        """Whether nothing is left to commit, by a look that begins after this call."""
        looks = self._looks
        self._next_look(looks + 1, time.monotonic() + 10)
        return self._looks > looks + 1 and not any(map(self._left, self._committed))

    def _next_look(self, looks: int, until: float) -> dict[Any, int]:
        """What is committed, by the first look after so many."""
        while self._looks <= looks and time.monotonic() < until:
            time.sleep(EVERY / 6)
        return self._committed

    def _unmoved(self, first: dict[Any, int]) -> str:
        """One of the partitions that have something left to commit, and have not committed since."""
        held = [p for p, offset in self._committed.items() if offset <= first[p] and self._left(p)]
        return f"{held[0].topic}/{held[0].partition} at {first[held[0]]} of {self._ends[held[0]]}" if held else ""

    def _left(self, place: Any) -> bool:
        return self._committed[place] < self._ends[place]

    def _watch(self) -> None:
        while not self._stop.wait(EVERY):
            for place, now in applied(self._store).items():
                before = self._applied.get(place, now)
                if now[0] < before[0] or now[1] < before[1]:
                    self.backwards.append(f"{place}: applied {before} -> {now}")
                self._applied[place] = now
            self._look()

    def _look(self) -> None:
        """Ask the broker; nothing is known anew while it is away."""
        try:
            self._progress = self._progress or Progress(self._rig.services.broker, GROUP, self._rig.topics())
            committed = self._progress.committed()
            self._ends = self._progress.ends()
        except KafkaError:
            self._forget()
            return
        for place, offset in committed.items():
            if offset < self._committed.get(place, 0):
                self.backwards.append(f"{place}: committed {self._committed[place]} -> {offset}")
        self._committed = committed
        self._looks += 1

    def _forget(self) -> None:
        if self._progress is not None:
            self._progress.close()
            self._progress = None
