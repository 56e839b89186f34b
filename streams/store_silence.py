"""A Postgres connection that does not wait for ever for a server that has fallen silent.

Where a firewall has forgotten a connection, or a proxy in between hangs, nothing ever comes back, and TCP sees no
fault: what was sent is acknowledged by whoever is nearest. libpq has no deadline for an answer, so one is added here.
"""

import time
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg

T = TypeVar("T")
ANSWER_WITHIN = 22.0  # seconds; longer than the server's own statement_timeout, so it never cuts off one that works
PING_WITHIN = 5.0  # whether a connection that has rested still lives is told at once


class Impatient(psycopg.Connection[Any]):
    """Closes itself, and raises OperationalError, when an answer takes longer than `within` seconds."""

    within = ANSWER_WITHIN

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **kwargs: Any) -> T:
        """The result of a step of the protocol."""
        try:
            return super().wait(_until(gen, time.monotonic() + self.within), *args, **kwargs)
        except TimeoutError:
            self.close()  # before anybody tries to roll back on it
            raise psycopg.OperationalError(f"no answer within {self.within:g} s, connection given up") from None


def _until(gen: Generator[Any, Any, T], deadline: float) -> Generator[Any, Any, T]:
    """The same steps; psycopg comes by ten times a second, whether the socket is ready or not."""
    try:
        step = next(gen)
        while True:
            ready = yield step
            if not ready and time.monotonic() > deadline:
                raise TimeoutError
            step = gen.send(ready)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def resting(connection: Impatient | None, _record: object) -> None:
    """For the pool: the next that is asked of this connection, if it is none that was given up, is whether it lives."""
    if connection is not None:
        connection.within = PING_WITHIN


def working(connection: Impatient, _record: object, _proxy: object) -> None:
    """For the pool: it lives, and is asked for more than that."""
    connection.within = ANSWER_WITHIN
