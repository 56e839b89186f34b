"""Records in lists, as they were fetched: from the consumer to an agent, and the buffer between them.

To hand over one record costs Faust some 65 us, ten times what it costs to read it. So what travels through its streams
is not a record but a `Chunk` of them, and all that counts records counts those within.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from faust.transport.utils import DefaultSchedulingStrategy
from faust.types import TP
from faust.types.tuples import ConsumerMessage
from mode.utils.queues import ThrowableQueue

MOST_RECORDS, MOST_BYTES = 512, 1 << 20  # of a chunk; one record may be larger


class Chunk(ConsumerMessage):
    """Records of one partition that were fetched one after the other, in the form of aiokafka: `timestamp` is in ms."""

    def __init__(self, tp: TP, records: Sequence[Any], generation: int) -> None:
        first = records[0]
        super().__init__(
            *tp, first.offset, first.timestamp / 1000.0, first.timestamp_type, None, None, None, None,
            tp=tp, generation_id=generation,
        )  # fmt: skip
        self.records, self.generation = records, generation


class Chunked(DefaultSchedulingStrategy):
    """Hands out what was fetched in chunks, the topics and their partitions in turn."""

    def __init__(self) -> None:
        """There is nothing to know: Faust's own declares one and has none."""

    def iterate(self, records: Mapping[TP, list[Any]]) -> Iterator[tuple[TP, Any]]:
        """Each partition with a list of its records."""
        return super().iterate({tp: list(pieces(found)) for tp, found in records.items()})


def pieces(records: list[Any]) -> Iterator[list[Any]]:
    """The records in lists of at most MOST_RECORDS and, where they are more than one, MOST_BYTES."""
    start = size = 0
    for i, record in enumerate(records):
        own = len(record.value or b"")
        if i - start == MOST_RECORDS or (i > start and size + own > MOST_BYTES):
            yield records[start:i]
            start, size = i, 0
        size += own
    if len(records) > start:
        yield records[start:]


class Buffer(ThrowableQueue[Any]):
    """Between consumer and agent. A full one pauses its partitions, but does not block who fills it.

    Faust has one task that fills the buffers of all topics. Were it to wait for an agent that itself waits for another
    (labels for their predictions), both would wait for ever.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._records = 0

    def qsize(self) -> int:
        """Records in it."""
        return self._records

    def full(self) -> bool:
        """Never: what was fetched already is taken."""
        return False

    def put_nowait_enhanced(
        self, value: Any, *, on_pressure_high: Callable[[], None], on_pressure_drop: Callable[[], None]
    ) -> bool:
        """As Faust's, but looks when a chunk is in, which may fill it alone."""
        self.force_put_nowait(value)
        high: bool = self.in_pressure_high_state(on_pressure_drop)
        if high:
            on_pressure_high()
        return high

    def clear(self) -> None:
        """Empty it for a rebalance, after which every partition is active."""
        super().clear()
        self._records = 0
        self._pending_pressure_drop_callbacks.clear()

    def _put(self, item: Any) -> None:
        self._records += len(item.message.records)
        super()._put(item)

    def _get(self) -> Any:
        item = super()._get()
        self._records -= len(item.message.records)
        return item
