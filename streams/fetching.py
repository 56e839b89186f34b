"""What aiokafka's fetcher knows of a log and keeps to itself: offsets at which nothing is, and records it cannot read.

A log has holes: markers of transactions, records of aborted ones, what compaction has taken out. The fetcher passes
over them in silence, so a reader that counts offsets cannot tell a hole from a record that was lost on the way, and
never learns that it has come to an end that is a hole. And the name of a header that is not UTF-8, which a broker takes
from anybody, is an exception there: it would end every worker that comes upon it.
"""

import struct
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from aiokafka.errors import for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.structs import ConsumerRecord, TopicPartition

MOST_HOLES = 10_000  # remembered of one partition; more are found again by asking for what lies in them
_HEAD = struct.Struct(">qi")  # of a batch: its first offset, and how many bytes follow


class Holes:
    """Ranges of offsets with nothing to read in them. Facts about the log: true for ever, wherever one reads.

    Written in the consumer's thread, read in the agents'.
    """

    def __init__(self) -> None:
        self._ends: dict[tuple[str, int], dict[int, int]] = {}

    def note(self, tp: tuple[str, int], start: int, end: int) -> None:
        """Nothing is to be read from `start` up to, and without, `end`."""
        if end > start:
            known = self._ends.setdefault((tp[0], tp[1]), {})
            if len(known) >= MOST_HOLES:
                known.clear()
            known[start] = end

    def until(self, tp: tuple[str, int], start: int) -> int:
        """The first offset from `start` on at which something may be."""
        known = self._ends.get((tp[0], tp[1]), {})
        while (end := known.get(start)) is not None:
            start = end
        return start


class Fetched(OrderedDict[TopicPartition, Any]):
    """The fetcher's store of answers, which watches what is taken out of them.

    `unreadable` has, for a partition, the offset at which a record could not be decoded; the fetcher stays there.
    """

    def __init__(self, holes: Holes) -> None:
        super().__init__()
        self._holes = holes
        self.unreadable: dict[TopicPartition, int] = {}

    def __setitem__(self, tp: TopicPartition, answer: Any) -> None:
        records = getattr(answer, "_partition_records", None)  # an error has none
        if records is not None:
            records._records_iterator = self._watched(tp, records, records._records_iterator)
        super().__setitem__(tp, answer)

    def _watched(self, tp: TopicPartition, records: Any, inner: Iterator[Any]) -> Iterator[Any]:
        at = records.next_fetch_offset
        try:
            for record in inner:
                self._holes.note(tp, at, record.offset)
                at = record.offset + 1
                yield record
        except UnicodeDecodeError:
            self.unreadable[tp] = records.next_fetch_offset
        self._holes.note(tp, at, records.next_fetch_offset)


class Lenient(bytearray):
    """Bytes of a batch whose parts decode whatever they are."""

    def __getitem__(self, part: Any) -> Any:
        found = super().__getitem__(part)
        return LenientText(found) if isinstance(part, slice) else found


class LenientText(bytes):
    """Text with a replacement character for what is not UTF-8."""

    def decode(self, *_: Any) -> str:
        """The text."""
        return bytes.decode(self, "utf-8", "replace")


async def read_batch(consumer: Any, tp: TopicPartition, offset: int) -> tuple[list[ConsumerRecord], int]:
    """Records from `offset` on of the batch that has it, read with patience, and the offset behind the batch.

    Raises KafkaError when the broker does not give them.
    """
    fetcher = consumer._fetcher
    wanted = [(tp.topic, [(tp.partition, offset, fetcher._max_partition_fetch_bytes)])]
    request = FetchRequest(
        fetcher._fetch_max_wait_ms, 1, fetcher._fetch_max_bytes, fetcher._isolation_level, wanted, rack_id=""
    )
    answer = await consumer._client.send(fetcher._select_read_replica(tp), request)
    ((_, ((_, error_code, _, *_, content),)),) = answer.topics
    if error_code:
        raise for_code(error_code)(f"{tp.topic}[{tp.partition}]@{offset}")
    _, size = _HEAD.unpack_from(content)
    batch = _DefaultRecordBatchPy(content[: _HEAD.size + size])
    iter(batch)  # uncompresses it
    batch._buffer = Lenient(batch._buffer)
    return [_record(tp, one) for one in batch if one.offset >= offset], batch.next_offset


def _record(tp: TopicPartition, one: Any) -> ConsumerRecord:
    sizes = [len(part) if part is not None else -1 for part in (one.key, one.value)]
    return ConsumerRecord(
        tp.topic, tp.partition, one.offset, one.timestamp, one.timestamp_type, one.key, one.value, None, *sizes,
        tuple(one.headers),
    )  # fmt: skip
