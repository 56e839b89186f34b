"""One transaction of the event store: all of it is written, or nothing is."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, case, func, or_, select, tuple_, update

from streams import store_schema as schema
from streams.errors import Fenced
from streams.store_bulk import Insert, Lookup
from streams.store_rows import Event, OutboxMessage, State, Subject, WindowCounts, WindowEstimate, WindowKey

_WINDOW = ("model", "version", "segment", "window_start_us", "window_end_us")
_SUMS = (*schema.COUNTERS, "weight")
_CONCLUSION = ("estimate", "low", "high", "basis", "best_before_us")
_STATE = ("format_version", "body", "updated_at_us")
_EVENT = ("event_id", "kind", "model", "version", "segment", "check_name", "severity", "occurred_at_us")
_EVENT_TAIL = ("window_start_us", "window_end_us", "body")
_MESSAGE = ("partition", "topic", "key", "headers", "value")


def _replacing(keys: Sequence[str], columns: Sequence[str]) -> str:
    return f"({', '.join(keys)}) DO UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in columns)


def _adding(keys: Sequence[str], columns: Sequence[str]) -> str:
    sums = ", ".join(f"{name} = window_total.{name} + excluded.{name}" for name in columns)
    return f"({', '.join(keys)}) DO UPDATE SET {sums}"


ADD_PROFILES = Insert(
    schema.applied_profile, ("grp", "identity", "applied_at_us"), "(grp, identity) DO NOTHING", "identity"
)
LOAD_STATES = Lookup(schema.estimator_state, _WINDOW[:3], ("model", "version", "segment", "format_version", "body"))
SAVE_STATES = Insert(schema.estimator_state, _WINDOW[:3] + _STATE, _replacing(_WINDOW[:3], _STATE))
ADD_EVENTS = Insert(schema.event, _EVENT + _EVENT_TAIL, "(event_id) DO NOTHING", "event_id")
ADD_WINDOWS = Insert(schema.window_total, _WINDOW + _SUMS, _adding(_WINDOW, _SUMS))
SET_ESTIMATES = Insert(schema.window_total, _WINDOW + _CONCLUSION, _replacing(_WINDOW, _CONCLUSION))
ENQUEUE = Insert(schema.outbox, _MESSAGE, "DO NOTHING")


def columns_of(rows: Sequence[msgspec.Struct], names: Iterable[str]) -> list[list[Any]]:
    """The attributes `names` of `rows`, each as a column."""
    return [[getattr(row, name) for row in rows] for name in names]


def _claimed(connection: Connection, slot: tuple[str, str, int], epoch: int, next_offset: ColumnElement[Any]) -> None:
    t = schema.applied_offset
    mine = tuple_(t.c.grp, t.c.topic, t.c.partition) == slot
    query = update(t).where(mine, t.c.epoch == epoch).values(next_offset=next_offset)
    if connection.execute(query).rowcount == 0:
        group, topic, partition = slot
        raise Fenced(
            f"{topic}[{partition}] of group {group!r}: epoch {epoch} is not the newest claim; "
            "another worker owns the partition now: drop what is unwritten and claim again if it is assigned"
        )


class Transaction:
    """Reads and writes that succeed or fail together; made by `EventStore.transaction`.

    Rows are written in the order of their keys, so that two workers never wait for each other in a circle.
    """

    def __init__(self, connection: Connection, now_us: Callable[[], int]) -> None:
        self._connection = connection
        self._now_us = now_us

    def advance(self, group: str, topic: str, partition: int, epoch: int, next_offset: int) -> None:
        """Everything below `next_offset` is applied. Never moves back. Raises Fenced, after which nothing is kept."""
        applied = schema.applied_offset.c.next_offset
        behind = or_(applied.is_(None), applied < next_offset)
        further = case((behind, next_offset), else_=applied)
        _claimed(self._connection, (group, topic, partition), epoch, further)

    def new_profiles(self, group: str, identities: Sequence[str]) -> list[bool]:
        """Marks profiles as applied; element i says whether identity i was not applied before (nor earlier in i)."""
        unique = sorted(set(identities))
        if not unique:
            return []
        columns: list[list[Any]] = [[group] * len(unique), unique, [self._now_us()] * len(unique)]
        new = {row[0] for row in ADD_PROFILES.rows(self._connection, columns)}
        return [_taken(new, identity) for identity in identities]

    def load_states(self, subjects: Iterable[Subject]) -> dict[Subject, State]:
        """The saved estimator states; subjects without one are absent."""
        rows = LOAD_STATES.rows(self._connection, sorted(set(subjects)))
        return {(row[0], row[1], row[2]): State(row[3], bytes(row[4])) for row in rows}

    def load_versions(self, model: str, limit: int = 64) -> dict[Subject, State]:
        """The saved states of all traffic of the versions of a model, those that changed last."""
        t = schema.estimator_state.c
        query = select(t.version, t.format_version, t.body).where(t.model == model, t.segment == "", t.version != "")
        rows = self._connection.execute(query.order_by(t.updated_at_us.desc(), t.version).limit(limit))
        return {(model, row[0], ""): State(row[1], bytes(row[2])) for row in rows}

    def segments(self, model: str, version: str, since_us: int) -> int:
        """How many segments of a model version have a state that was saved since then."""
        t = schema.estimator_state.c
        query = select(func.count()).where(t.model == model, t.version == version, t.segment != "")
        return int(self._connection.execute(query.where(t.updated_at_us >= since_us)).scalar_one())

    def save_states(self, states: Mapping[Subject, State]) -> None:
        """Saves states, replacing those of the same subjects."""
        if not states:
            return
        now_us = self._now_us()
        rows = [(*subject, state.format_version, state.body, now_us) for subject, state in sorted(states.items())]
        SAVE_STATES.count(self._connection, list(zip(*rows, strict=True)))

    def append_events(self, events: Sequence[Event]) -> set[str]:
        """Appends events and returns the ids that were new; a known `event_id` is left as it was first written."""
        return append_events(self._connection, events)

    def add_windows(self, windows: Iterable[WindowCounts]) -> None:
        """Adds counts to their windows; a window may occur several times. Not idempotent: see `new_profiles`."""
        totals: dict[tuple[Any, ...], list[float]] = {}
        for window in windows:
            total = totals.setdefault(_key(window), [0] * len(_SUMS))
            for i, name in enumerate(_SUMS):
                total[i] += getattr(window, name)
        if totals:
            rows = [(*key, *total) for key, total in sorted(totals.items())]
            ADD_WINDOWS.count(self._connection, list(zip(*rows, strict=True)))

    def set_estimates(self, estimates: Iterable[WindowEstimate]) -> None:
        """Writes what was concluded of windows, replacing earlier conclusions; makes the window if there is none."""
        rows = list({_key(estimate): estimate for estimate in estimates}.values())
        if rows:
            rows.sort(key=_key)
            SET_ESTIMATES.count(self._connection, columns_of(rows, _WINDOW + _CONCLUSION))

    def enqueue(self, messages: Sequence[OutboxMessage]) -> None:
        """Puts records into the outbox; they are sent in this order per partition."""
        if messages:
            ENQUEUE.count(self._connection, columns_of(messages, _MESSAGE))


def append_events(connection: Connection, events: Sequence[Event]) -> set[str]:
    """See `Transaction.append_events`."""
    if not events:
        return set()
    head = ["check" if name == "check_name" else name for name in _EVENT]
    columns = columns_of(events, (*head, *_EVENT_TAIL))
    return {row[0] for row in ADD_EVENTS.rows(connection, columns)}


def _key(window: WindowKey) -> tuple[Any, ...]:
    return tuple(getattr(window, name) for name in _WINDOW)


def _taken(new: set[str], identity: str) -> bool:
    if identity not in new:
        return False
    new.remove(identity)
    return True
