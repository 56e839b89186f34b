"""What a request holds, and what goes to the broker."""

from typing import NamedTuple

OVERHEAD = 400  # bytes that a waiting record takes besides its content, about

Headers = list[tuple[str, bytes]]


class Message(NamedTuple):
    """One record of a request, before it is known where it goes."""

    value: bytes
    headers: Headers


class Outgoing(NamedTuple):
    """One record for the broker; `topic` is its full name."""

    topic: str
    key: bytes | None
    value: bytes
    headers: Headers

    @property
    def size(self) -> int:
        """Bytes as the broker counts them, about."""
        return len(self.value) + len(self.key or b"") + sum(len(name) + len(text) for name, text in self.headers)
