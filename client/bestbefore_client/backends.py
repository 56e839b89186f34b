"""What a Kafka library must do for the recorder, and which one does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any, Optional, Protocol

from bestbefore_client.events import Message
from bestbefore_client.security import Security

Landed = Callable[[Optional[BaseException]], None]

BACKENDS = ("auto", "kafka-python", "confluent")
PATIENCE = 2.0  # longest that a library may block the recorder's thread, so that close() is heard; seconds
EXPIRY = 120.0  # seconds a record waits for its acknowledgement, or for a topic that the broker does not have
BACKOFF = 2.0  # longest pause before a lost broker is tried again; a library's own default may be half a minute
BATCH = 1 << 19  # a few frames a request: with one each, the broker takes a third of the rate


class Backend(Protocol):
    """One producer; used by one thread, apart from the callbacks."""

    pace: float
    """Seconds between calls of `poll` while something is unacknowledged; infinite when none are needed."""

    def connect(self, topic: str) -> None:
        """Reach a broker, within `PATIENCE`; raises whatever the library raises when there is none."""
        ...

    def send(self, topic: str, message: Message, landed: Landed) -> bool:
        """Hand a record over; False when the topic takes nothing now. Raises for a record that is refused for good."""
        ...

    def partitions(self, topic: str) -> list[int]:
        """Give the partitions of a topic, as far as known."""
        ...

    def poll(self) -> None:
        """Let callbacks run."""
        ...

    def close(self, timeout: float) -> None:
        """Wait for acknowledgements, at most about `timeout` seconds, and let go of everything."""
        ...

    def abandon(self) -> None:
        """In a forked child: never touch again what is shared with the parent."""
        ...


def backend_of(
    name: str, brokers: str, window: int, security: Security | None, options: Mapping[str, Any]
) -> Callable[[], Backend]:
    """Give what makes the backend `name`, when it is needed; "auto" is confluent-kafka where it is installed.

    `options` belong to one library: with "auto", names with underscores mean kafka-python. Raises ValueError for an
    unknown name, ImportError when confluent-kafka is asked for and missing.
    """
    if name not in BACKENDS:
        raise ValueError(f"backend {name!r} is unknown; give one of {', '.join(BACKENDS)}")
    installed = find_spec("confluent_kafka") is not None
    if name == "confluent" and not installed:
        raise ImportError("backend 'confluent' needs confluent-kafka: pip install 'bestbefore-client[confluent]'")
    if name == "confluent" or (name == "auto" and installed and not any("_" in option for option in options)):
        from bestbefore_client.confluent import Confluent  # noqa: PLC0415 -- an extra

        return lambda: Confluent(brokers, window, security, options)
    from bestbefore_client.kafka_python import KafkaPython  # noqa: PLC0415 -- not needed beside the other

    return lambda: KafkaPython(brokers, security, options)
