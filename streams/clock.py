"""The time of day that does not jump: the broker's, carried on by a clock that only goes forward.

The wall clock of a machine may be stepped by hours, by a person, by NTP, by a virtual machine that wakes up. It is
looked at once, when the worker starts. From then on the monotonic clock carries it, and the broker's stamps correct it:
it is never earlier than a stamp that was read, and what came at once after the end of a partition was reached tells it
exactly. So a wrong clock can close windows too late, and not too early.
"""

import time


def _monotonic_us() -> int:
    return time.monotonic_ns() // 1000


class BrokerClock:
    """Microseconds since the epoch, by the broker's clock as far as it is known."""

    def __init__(self) -> None:
        self._ahead = time.time_ns() // 1000 - _monotonic_us()  # of the monotonic clock

    def now_us(self) -> int:
        """Now."""
        return _monotonic_us() + self._ahead

    def stamped(self, received_us: int, *, live: bool) -> None:
        """A record that the broker stamped with this time was read; `live` when it had only just come."""
        seen = received_us - _monotonic_us()
        self._ahead = seen if live else max(self._ahead, seen)
