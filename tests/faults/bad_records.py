"""Records as nobody should send them, made from a seed, and what a test needs to see what became of them."""

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient

from streams.settings import Settings


def behind(settings: Settings, topics: tuple[str, ...]) -> int:
    """Offsets of these topics that the group has not committed yet, markers of transactions and all."""
    admin = KafkaAdminClient(bootstrap_servers=settings.broker)
    consumer = KafkaConsumer(bootstrap_servers=settings.broker)
    try:
        committed = admin.list_group_offsets(settings.group)
        committed = committed.get(settings.group, committed)
        places = [TopicPartition(settings.topic(t), p) for t in topics for p in range(settings.partitions)]
        ends = consumer.end_offsets(places)
        return sum(end - max(committed[place].offset if place in committed else 0, 0) for place, end in ends.items())
    finally:
        consumer.close()
        admin.close()
