"""Keeps a worker's log readable while its broker is away: aiokafka then says the same some hundred times a second."""

import logging
import time
from collections import Counter
from collections.abc import Callable

LOUD = ("aiokafka", "aiokafka.consumer.fetcher", "aiokafka.consumer.group_coordinator", "aiokafka.producer.sender")
EVERY = 5.0  # seconds


class Thinned(logging.Filter):
    """Lets through one line of a kind, whatever its arguments, in `EVERY` seconds; the next tells how many there were.

    >>> thinned = Thinned(lambda: 0.0)
    >>> [thinned.filter(logging.makeLogRecord({"msg": "no answer from %s", "args": (n,)})) for n in (1, 2)]
    [True, False]
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._told: dict[str, float] = {}
        self._held: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is told."""
        kind, now = str(record.msg), self._clock()
        if now - self._told.get(kind, -EVERY) < EVERY:
            self._held[kind] += 1
            return False
        self._told[kind] = now
        held = self._held.pop(kind, 0)
        if held and isinstance(record.args, tuple):
            record.msg, record.args = f"{kind} (and %d more like it)", (*record.args, held)
        return True


def thin_out() -> None:
    """Thin out what aiokafka says in this process."""
    thinned = Thinned()
    for name in LOUD:
        logging.getLogger(name).addFilter(thinned)
