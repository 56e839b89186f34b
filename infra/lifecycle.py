"""Sending lifecycle events."""

from kafka import KafkaProducer
from kafka.errors import KafkaError

from streams.connection import connected, explained
from streams.errors import ServiceError
from streams.settings import Settings
from streams.topics import LIFECYCLE


def send(settings: Settings, model: str, body: bytes) -> None:
    """Send one event and wait until the broker has it. Raises ServiceError."""
    with connected(settings, KafkaProducer, acks="all") as producer:
        try:
            producer.send(settings.topic(LIFECYCLE), key=model.encode(), value=body).get(timeout=60)
        except KafkaError as error:
            raise ServiceError(f"{explained(settings, error)}, with the same --id") from None
