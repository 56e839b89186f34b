"""Requests and responses that come as records of their own, paired by id in bounded memory.

The clock is that of the records: a half waits until a record comes that is younger by `within`. What is given up is
told as `Unpaired`, never silently dropped.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from models.units import duration_text
from streams.adapters.contract import Part, Record, Unpaired

WITHIN_US = 600_000_000
MOST = 20_000  # halves that wait
MOST_BYTES = 16 * 2**20  # of the records they came in; decoded they take several times as much


class _Waiting(NamedTuple):
    part: Part
    size: int
    since: int
    record: Record | None


class Pairing:
    """The halves that wait for their other half."""

    def __init__(self, within_us: int = WITHIN_US, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self.within_us, self.most, self.most_bytes = within_us, most, most_bytes
        self._waiting: OrderedDict[tuple[str, str], _Waiting] = OrderedDict()
        self._bytes = 0
        self._now = 0
        self.first: Record | None = None  # of the pair that was made last
        self.last = self.longest = -1  # offset of the newest second half, and the longest way back to a first one

    def __len__(self) -> int:
        """Halves that wait."""
        return len(self._waiting)

    def oldest(self, first: int) -> Record | None:
        """The record of the half that has waited for longest, of those from offset `first` on."""
        records = (waiting.record for waiting in self._waiting.values())
        return next((record for record in records if record is not None and record.offset >= first), None)

    def forget(self, before: int) -> None:
        """Say no more of halves of records with lower offsets."""
        gone = [key for key, one in self._waiting.items() if one.record is not None and one.record.offset < before]
        for key in gone:
            self._forget(key)

    def take(self, part: Part, size: int, now: int, record: Record | None = None) -> Iterator[Part | Unpaired]:
        """What is complete, or given up, now that `part` has come in a `record` of `size` bytes at `now` (us)."""
        self._now = max(self._now, now)
        yield from self._expired()
        if part.side == "both":
            yield part
            return
        if not part.id:
            yield Unpaired("", part.side, "it has no id, so its other half cannot be found", record)
            return
        key = (part.source, part.id)
        other = self._waiting.get(key)
        if other is not None and other.part.side == part.side:
            why = f"a {part.side} with the same id waits already; the first counts"
            yield Unpaired(part.id, part.side, why, record)
        elif other is not None:
            self._forget(key)
            self.first = other.record
            if record is not None and other.record is not None:
                self.last, self.longest = record.offset, max(self.longest, record.offset - other.record.offset)
            yield _joined(part, other.part)
        else:
            self._waiting[key] = _Waiting(part, size, self._now, record)
            self._bytes += size
            yield from self._overflow()

    def rest(self) -> Iterator[Unpaired]:
        """Give up all that waits: nothing comes any more."""
        yield from self._given_up(len(self._waiting), "the records ended before its {other} came")

    def _expired(self) -> Iterator[Unpaired]:
        old = 0
        for waiting in self._waiting.values():
            if self._now - waiting.since <= self.within_us:
                break
            old += 1
        yield from self._given_up(
            old, f"its {{other}} did not come within {duration_text(self.within_us)} in the same partition"
        )

    def _overflow(self) -> Iterator[Unpaired]:
        while len(self._waiting) > self.most or self._bytes > self.most_bytes:
            yield from self._given_up(1, "too many others wait; its {other} had not come")

    def _given_up(self, n: int, reason: str) -> Iterator[Unpaired]:
        for key in list(self._waiting)[:n] if n > 1 else [next(iter(self._waiting))] if n else []:
            part, record = self._waiting[key].part, self._waiting[key].record
            self._forget(key)
            other = "response" if part.side == "request" else "request"
            yield Unpaired(part.id, part.side, reason.format(other=other), record)

    def _forget(self, key: tuple[str, str]) -> None:
        self._bytes -= self._waiting.pop(key).size


def _joined(one: Part, other: Part) -> Part:
    request, response = (one, other) if one.side == "request" else (other, one)
    took = (response.time or 0) - (request.time or 0) if request.time and response.time else -1
    return request._replace(
        side="both",
        time=response.time or request.time,
        # Of the answer, where it says so: a request may name no version, or ask for `latest`.
        model=response.model or request.model,
        version=response.version or request.version,
        response=response.response,
        trees=_merged(request.trees, response.trees),
        status=response.status,
        latency_ms=took / 1000 if took >= 0 else None,
        sampling=min(request.sampling, response.sampling),
        truth=request.truth or response.truth,
    )


def _merged(request: Mapping[str, Any], response: Mapping[str, Any]) -> dict[str, Any]:
    """Both sides' trees; where both have a header or attribute, that of the request, which the caller sent."""
    merged = {**response, **request}
    for name in response.keys() & request.keys():
        if isinstance(response[name], dict) and isinstance(request[name], dict):
            merged[name] = {**response[name], **request[name]}
    return merged
