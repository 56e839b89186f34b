"""What lies on topics, and how far a consumer group has come."""

from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient

from tests.faults.traffic import PARTITIONS


def read_topic(broker: str, topic: str) -> list[Any]:
    """Every record of a topic."""
    consumer = KafkaConsumer(
        bootstrap_servers=broker, enable_auto_commit=False, auto_offset_reset="earliest", fetch_max_wait_ms=100
    )
    try:
        places = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic))]
        ends = consumer.end_offsets(places)
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        found: list[Any] = []
        while any(consumer.position(place) < end for place, end in ends.items()):
            found += [record for batch in consumer.poll(500).values() for record in batch]
        return found
    finally:
        consumer.close()


class Progress:
    """Committed offsets and ends of the partitions of some topics; one connection for many questions."""

    def __init__(self, broker: str, group: str, topics: list[str]) -> None:
        self._group = group
        self._places = [TopicPartition(topic, p) for topic in topics for p in range(PARTITIONS)]
        self._admin = KafkaAdminClient(bootstrap_servers=broker)
        self._consumer = KafkaConsumer(bootstrap_servers=broker)

    def committed(self) -> dict[Any, int]:
        """What the group has committed of each partition, 0 where nothing."""
        found = self._admin.list_group_offsets(self._group)
        found = found.get(self._group, found)
        return {place: max(found[place].offset, 0) if place in found else 0 for place in self._places}

    def ends(self) -> dict[Any, int]:
        """The end of each partition."""
        return dict(self._consumer.end_offsets(self._places))

    def lag(self) -> int:
        """Records that the group has not committed yet."""
        done = self.committed()
        return sum(max(end - done[place], 0) for place, end in self.ends().items())

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()
        self._admin.close()
