"""Sending lifecycle events."""

from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from streams.errors import ServiceError
from streams.settings import Settings
from streams.topics import LIFECYCLE


def send(settings: Settings, model: str, body: bytes) -> None:
    """Send one event and wait until the broker has it. Raises ServiceError."""
    try:
        producer: Any = KafkaProducer(bootstrap_servers=settings.broker.split(","), acks="all")
    except KafkaError as error:
        raise ServiceError(f"no Kafka broker answers at {settings.broker} ({error!r}); is `broker` set?") from None
    try:
        producer.send(settings.topic(LIFECYCLE), key=model.encode(), value=body).get(timeout=60)
    except KafkaError as error:
        raise ServiceError(
            f"the broker at {settings.broker} did not take the event ({error!r}): run it again with the same --id"
        ) from None
    finally:
        producer.close()
