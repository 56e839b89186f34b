"""Heartbeats of the client: how far a recorder has come, what it dropped and left out. They are no inferences.

The decoder raises only the project's errors, so whatever cannot be read becomes a dead letter.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Annotated

import msgspec
import numpy as np

from models.columns import Losses, Subject
from models.window_book import Batch
from streams.errors import Invalid, Undecodable
from streams.records import UNREADABLE, Id, Name, Share, Time, header, time_us

HEARTBEAT = "application/vnd.bestbefore.heartbeat+json"
MAX_RECORDERS = 4096  # whose last heartbeat is remembered, for each partition
Count = Annotated[int, msgspec.Meta(ge=0, le=10**12)]
Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=40, pattern=r"^[^\x00]+$")]


class Heartbeat(msgspec.Struct, kw_only=True):
    """What a recorder tells of itself; the counts are those since its last heartbeat that was acknowledged."""

    recorder: Id
    """Which of the clients."""
    seq: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    """Numbers the heartbeats of one recorder, so that a gap is seen."""
    time: Time
    """No event older than this still waits in the client."""
    model: Name
    """Name of the model."""
    version: Name
    """Version of the model."""
    recorded: Count = 0
    """Events recorded."""
    sampled_out: Count = 0
    """Events left out by sampling."""
    dropped: Annotated[dict[Reason, Count], msgspec.Meta(max_length=16)] = {}
    """Events dropped, by reason."""
    sampling: Share = 1.0
    """Probability with which events are kept; a dropped one stands for its inverse."""


_decoder = msgspec.json.Decoder(Heartbeat)


def is_heartbeat(headers: Iterable[tuple[str, bytes | None]]) -> bool:
    """Whether a record of the topic `inference` is one, by its content type."""
    return header(headers, "content-type").lower().startswith(HEARTBEAT)


def decode_heartbeat(value: bytes | None) -> Heartbeat:
    """A heartbeat from JSON. Raises Undecodable and Invalid."""
    if not value:
        raise Undecodable("the heartbeat is empty; expected a JSON object")
    try:
        return _decoder.decode(value)
    except msgspec.ValidationError as error:
        raise Invalid(f"heartbeat: {error}") from None
    except UNREADABLE as error:
        raise Undecodable(f"the heartbeat is not a JSON object: {error}") from None


def heartbeat_batch(heartbeat: Heartbeat, offset: int, received: int) -> Batch:
    """The batch of one heartbeat: it moves the clock as an event of its time would, and has a row only with losses.

    A heartbeat that tells of no loss opens no window, so a model without traffic stays without windows.
    """
    where, time = np.array([offset], dtype=np.int64), np.array([time_us(heartbeat.time)], dtype=np.int64)
    batch = Batch(where, time, np.array([received], dtype=np.int64), [], offset)
    dropped = {reason: np.array([n], dtype=np.int64) for reason, n in heartbeat.dropped.items() if n}
    if dropped or heartbeat.sampled_out:
        rows = Losses(
            offset=where, time=time, weight=np.array([1.0 / heartbeat.sampling]), dropped=dropped,
            sampled_out=np.array([heartbeat.sampled_out], dtype=np.int64),
        )  # fmt: skip
        batch.groups.append((Subject(heartbeat.model, heartbeat.version), rows, slice(None)))
    return batch


class Recorders:
    """The last heartbeat of each recorder of a partition, of the MAX_RECORDERS that were heard last.

    A recorder that sends without a key numbers its heartbeats over all `partitions`, so here only every so many come.
    """

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._last: OrderedDict[str, tuple[int, int]] = OrderedDict()  # number of the last, and from one to the next

    def missing(self, heartbeat: Heartbeat) -> int:
        """How many heartbeats of this recorder were skipped before this one."""
        last, step = self._last.pop(heartbeat.recorder, (heartbeat.seq, self._partitions))
        further = heartbeat.seq - last
        if further > 0 and further % self._partitions:
            step = 1
        self._last[heartbeat.recorder] = max(last, heartbeat.seq), step
        if len(self._last) > MAX_RECORDERS:
            self._last.popitem(last=False)
        return max(further // step - 1, 0)
