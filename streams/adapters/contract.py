"""What an adapter is given, and what it makes of it.

An adapter reads records of one server as `Part`s: one request, one response, or both, with whatever stands around them.
A `Source` (source.py) pairs parts and makes events of them, as sources.yaml says. Nothing here ever raises anything but
BadRecord for what a record holds.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from streams.errors import Unadaptable
from streams.records import UNREADABLE, InferenceEvent, LabelEvent

Row = dict[str, Any]  # the columns of one inference: numbers, text, booleans, null, bytes, or lists of these
Side = Literal["request", "response", "both"]

MOST_ROWS = 10_000  # inferences in one record
MOST_PARTS = 10_000  # requests in one record


class Record(NamedTuple):
    """One record of a topic; `timestamp` is the broker's, in microseconds.

    A half that waits keeps its record, with whatever the reader has put into `mark`.
    """

    topic: str
    value: bytes | None
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()
    timestamp: int = 0
    partition: int = 0
    offset: int = -1
    mark: Any = None


class Part(NamedTuple):
    """One request, one response, or both. `id` is unique within `source`; times are in microseconds.

    `trees` is what paths lead into: `envelope` (what stands around the bodies), `request` and `response` (the bodies).
    `truth` has one true label for each row, where the server knows it.
    """

    side: Side
    id: str = ""
    source: str = ""
    time: int | None = None
    model: str = ""
    version: str = ""
    request: list[Row] | None = None
    response: list[Row] | None = None
    trees: Mapping[str, Any] = {}
    status: int = 200
    latency_ms: float | None = None
    sampling: float = 1.0
    truth: list[Any] | None = None


class Unpaired(NamedTuple):
    """A half whose other half did not come; an outcome of its own, to be counted, not an error."""

    id: str
    side: Side
    reason: str
    record: Record | None = None


Thing = InferenceEvent | LabelEvent | Unpaired


class Adapter(NamedTuple):
    """How to read records of one server.

    `read` takes a record and what `load` has made of the file that `option` of the source names (None without one).
    `pairs`: request and response come apart. `whole`: one row holds both, so a source must say which is which.
    """

    name: str
    title: str
    read: Callable[[Record, Any], list[Part]]
    pairs: bool = False
    option: str = ""
    load: Callable[[bytes], Any] | None = None
    needs_option: bool = False
    whole: bool = False


def json_of(value: bytes | str | None, what: str, kind: Any = Any) -> Any:
    """The JSON text as `kind`. Raises Unadaptable that says what it should be."""
    if not value:
        raise Unadaptable(f"the record is empty; expected {what}")
    try:
        return msgspec.json.decode(value, type=kind)
    except msgspec.ValidationError as error:
        raise Unadaptable(f"not {what}: {error}") from None
    except UNREADABLE as error:
        raise Unadaptable(f"not {what}: it is no JSON: {error}") from None


def refused(found: str, expected: str) -> Unadaptable:
    """The error for a record of another server."""
    return Unadaptable(f"{found[:200]}; expected {expected}: is the adapter of this topic the right one?")


def header_of(record: Record, *names: str) -> str:
    """The first of these headers, in any case, with `-` and `_` the same; empty when there is none."""
    wanted = {name.lower().replace("_", "-") for name in names}
    for key, value in record.headers:
        if key.lower().replace("_", "-") in wanted and value:
            return value.decode("utf-8", "replace")
    return ""
