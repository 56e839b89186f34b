"""Records of another server in one partition, in the hands of this worker.

Request and response may be records of their own, so a record may be needed for one that comes much later. A half that
waits holds the frontier, as a window does. A half that has found its other is needed as long as their event is in an
open window, because after a crash both are read again. Were it to hold the frontier, so would the other pairs around
it, and those around them: under load the frontier would never move. So the frontier moves, and what is committed is an
earlier offset with the frontier beside it (`Clock.counted`). Between the two the next owner reads for pairs alone.
"""

from collections.abc import Callable, Mapping
from typing import Any

from models.window_book import Clock, Hold
from streams.adapters.contract import Record, Thing, Unpaired
from streams.adapters.source import Source
from streams.errors import BadRecord
from streams.records import InferenceEvent


class Sourced:
    """The source of a partition with the halves that wait there; `start` and `clock` are what was committed."""

    def __init__(
        self,
        source: Source,
        names: Mapping[str, str],
        admit: Callable[[InferenceEvent], None],
        start: int,
        clock: Clock,
    ) -> None:
        self._source, self._names = source.afresh(admit), names
        self._start, self.counted, self._read = start, max(start, clock.counted), clock.read
        self._newest = start - 1

    def adapt(self, message: Any, mark: Hold) -> list[Thing | BadRecord]:
        """What a record says, and why it is refused; nothing of one that was counted before.

        `mark`: what is to be held while the record waits for its other half.
        """
        self._newest = message.offset
        pairing = self._source.pairing
        record = Record(
            message.topic, message.value, message.key, message.headers or (), message.timestamp * 1000,
            message.partition, message.offset, mark,
        )  # fmt: skip
        found: list[Thing | BadRecord] = []
        try:
            found += self._source.adapt(record, self._names)
        except BadRecord as error:
            found += [*self._source.told(), error]
        if pairing is not None and self._read and self._newest + 1 >= self._read:
            # The other halves of what still waits from before came before the start, and were counted with it.
            pairing.forget(self.counted)
            self._read = 0
        return [thing for thing in found if self._is_new(thing, message.offset)]

    def _is_new(self, thing: Thing | BadRecord, offset: int) -> bool:
        if isinstance(thing, Unpaired) and thing.record is not None:
            offset = thing.record.offset
        return offset >= self.counted

    @property
    def hold(self) -> Hold | None:
        """A claim on the half that has waited for longest, of those that were not settled before the start."""
        pairing = self._source.pairing
        oldest = pairing.oldest(self.counted) if pairing is not None else None
        return None if oldest is None else oldest.mark

    def committed(self, offset: int, clock: Clock) -> tuple[int, Clock]:
        """What to commit where `offset` is the frontier, with the clock before it."""
        pairing = self._source.pairing
        if pairing is None:
            return offset, clock
        if self._read:
            start = self._start  # the first halves are still being read again
        elif offset > pairing.last:
            start = offset
        else:
            start = max(self._start, offset - pairing.longest)
        self._start = start
        if start < offset:
            clock.counted, clock.read = offset, max(self._newest + 1, self._read)
        return start, clock
