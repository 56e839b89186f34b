"""The event store: what was concluded, what it was concluded from, and how far each partition is applied.

Synchronous: call it in one thread. The same code serves Postgres (production) and SQLite (one machine). Every
write is idempotent or part of a `transaction`, so trying again after StoreUnreachable is always safe.
"""

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Table, delete, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from streams import store_schema as schema
from streams.errors import StoreOutdated, TooNew
from streams.store_bulk import Insert, Lookup, is_postgres
from streams.store_engine import answering
from streams.store_readers import StoreReader, among
from streams.store_rows import (
    Claim,
    Column,
    Event,
    LabelRow,
    Prediction,
    PredictionColumns,
)
from streams.store_transaction import Transaction, append_events, columns_of

DAY_US = 86_400_000_000
_PRUNE_ROWS = 10_000
_PREDICTION = Prediction.__struct_fields__
_LABEL = LabelRow.__struct_fields__
_IDS = uuid.UUID("6f0c4bb5-3f0e-5d0e-9a52-3f3b6a1d2c47")

KEEP_PREDICTIONS = Insert(schema.prediction, _PREDICTION, "(model, version, inference_id) DO NOTHING")
ADD_LABELS = Insert(schema.label, (*_LABEL, "recorded_at_us"), "(inference_id, source) DO NOTHING")
FIND_LABELS = Lookup(
    schema.label, ("inference_id", "source"), ("inference_id", "source", "topic", "partition", "offset")
)


def wall_clock_us() -> int:
    """Now, in microseconds since the epoch."""
    return time.time_ns() // 1000


class EventStore(StoreReader):
    """The store at `url`; connects on first use, keeps at most a few connections.

    Raises SettingsError for a URL it cannot use; its methods raise StoreUnreachable (try again), StoreOutdated
    (migrate), Fenced (another worker owns the partition) or StoreError (the database refused a value).
    """

    def __init__(self, url: str, now_us: Callable[[], int] = wall_clock_us) -> None:
        super().__init__(url)
        self._now_us = now_us

    def check(self) -> None:
        """Raises StoreUnreachable, or StoreOutdated unless this version can work on the tables.

        It can on its own ones, on some older ones, and on newer ones whose migrations say so.
        """
        found, own = self.revision(), schema.SCHEMA_REVISION
        if found is not None and found > own:
            oldest = self.oldest_reader()
            if oldest is None or oldest > own:
                raise StoreOutdated(
                    f"{self.place}: tables at revision {found}, for programs that know {oldest or found}; "
                    f"this version knows {own}: start the version that migrated them"
                )
        elif found is None or found < schema.OLDEST_TABLES:
            raise StoreOutdated(
                f"{self.place}: tables at revision {found}, this version needs {schema.OLDEST_TABLES} or later; "
                "run `bestbefore migrate`"
            )

    def check_states(self, newest: int) -> None:
        """Raises TooNew where the state of a subject has a later format than `newest`: who reads no later one."""
        found = self.newest_state()
        if found is not None and found.format_version > newest:
            raise TooNew(
                f"{self.place}: the state of {found.model} {found.version} has format {found.format_version}, this "
                f"version reads up to {newest}; start the newer version that wrote it, here nothing was changed"
            )

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """One transaction: committed when the block ends, rolled back when it raises."""
        with self._writing() as connection:
            yield Transaction(connection, self._now_us)

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with answering(self._url), self._engine.begin() as connection:
            yield connection

    def claim(self, group: str, topic: str, partition: int) -> Claim:
        """Takes the partition over: the epoch grows by one and every older claim is fenced."""
        t = schema.applied_offset
        with self._writing() as connection:
            first = _insert(connection, t).values(grp=group, topic=topic, partition=partition, epoch=1)
            query = first.on_conflict_do_update(
                index_elements=list(t.primary_key.columns), set_={"epoch": t.c.epoch + 1}
            )
            epoch, next_offset = connection.execute(query.returning(t.c.epoch, t.c.next_offset)).one()
        return Claim(epoch, next_offset)

    def rewind(self, group: str, topic: str, partition: int, epoch: int, next_offset: int) -> None:
        """Says that the log begins anew: nothing from `next_offset` on is applied. Nothing changes for an old epoch."""
        t = schema.applied_offset
        mine = (t.c.grp == group, t.c.topic == topic, t.c.partition == partition, t.c.epoch == epoch)
        with self._writing() as connection:
            connection.execute(update(t).where(*mine).values(next_offset=next_offset))

    def register(self, model: str, version: str, digest: str, body: bytes, registered_at_us: int | None = None) -> bool:
        """Activates the descriptors `body` (JSON) of a model version; False when `digest` is already active.

        The same descriptors may be compiled into another body by a newer version; that replaces the older one.
        """
        at_us = self._now_us() if registered_at_us is None else registered_at_us
        t = schema.registration
        mine = (t.c.model == model, t.c.version == version)
        row = {"model": model, "version": version, "digest": digest, "body": body, "registered_at_us": at_us}
        with self._writing() as connection:
            known = connection.execute(select(t.c.digest, t.c.body).where(*mine).with_for_update()).first()
            previous = None if known is None else known.digest
            if known is not None and previous == digest:
                if bytes(known.body) != body:
                    connection.execute(update(t).where(*mine).values(body=body))
                return False
            new = {name: row[name] for name in ("digest", "body", "registered_at_us")}
            query = _insert(connection, t).values(row)
            connection.execute(query.on_conflict_do_update(index_elements=[t.c.model, t.c.version], set_=new))
            append_events(connection, [_registered(model, version, digest, previous, at_us)])
        return True

    def save_inspection(self, model: str, version: str, body: bytes) -> None:
        """Replaces what is known of the model version's file."""
        t = schema.inspection
        row = {"model": model, "version": version, "body": body, "inspected_at_us": self._now_us()}
        new = {name: row[name] for name in ("body", "inspected_at_us")}
        with self._writing() as connection:
            query = _insert(connection, t).values(row)
            connection.execute(query.on_conflict_do_update(index_elements=[t.c.model, t.c.version], set_=new))

    def keep_predictions(self, rows: PredictionColumns) -> int:
        """Keeps predictions for labels that come later; returns how many were new."""
        size = len(rows.inference_id)
        if size == 0:
            return 0
        values = (getattr(rows, name) for name in _PREDICTION)
        columns: list[Column] = [[None] * size if column is None else column for column in values]
        with self._writing() as connection:
            return KEEP_PREDICTIONS.count(connection, columns)

    def add_labels(self, rows: Sequence[LabelRow]) -> list[bool]:
        """Stores labels, the first of (inference_id, source) wins.

        Element i says whether the stored label is this very record (topic, partition, offset): reading a record
        again after a crash answers as the first time, the same label sent again in another record answers False.
        """
        if not rows:
            return []
        ordered = sorted(rows, key=lambda row: (row.inference_id, row.source))
        with self._writing() as connection:
            ADD_LABELS.count(connection, [*columns_of(ordered, _LABEL), [self._now_us()] * len(ordered)])
            keys = sorted({(row.inference_id, row.source) for row in rows})
            stored = {(f[0], f[1]): (f[2], f[3], f[4]) for f in FIND_LABELS.rows(connection, keys)}
        return [stored.get((r.inference_id, r.source)) == (r.topic, r.partition, r.offset) for r in rows]

    def release_labels(self, rows: Sequence[LabelRow]) -> int:
        """Deletes the labels that are these very records, so that a later one of the same source can be the first.

        Returns how many there were.
        """
        records: dict[tuple[str, int], list[LabelRow]] = {}
        for row in rows:
            records.setdefault((row.topic, row.partition), []).append(row)
        t, released = schema.label, 0
        with self._writing() as connection:
            for (topic, partition), mine in sorted(records.items()):
                ids = among(connection, t.c.inference_id, sorted({row.inference_id for row in mine}))
                offsets = among(connection, t.c.offset, sorted({row.offset for row in mine}))
                query = delete(t).where(ids, t.c.topic == topic, t.c.partition == partition, offsets)
                released += connection.execute(query).rowcount
        return released

    def sent(self, seqs: Sequence[int]) -> int:
        """Removes records from the outbox that the broker has acknowledged; returns how many were there."""
        if not seqs:
            return 0
        t = schema.outbox
        with self._writing() as connection:
            return connection.execute(delete(t).where(among(connection, t.c.seq, seqs))).rowcount

    def prune(
        self,
        now_us: int,
        prediction_days: float = 90,
        label_days: float = 90,
        profile_days: float = 30,
        *,
        most: int | None = None,
    ) -> dict[str, int]:
        """Deletes what is older than its retention, a few thousand rows per transaction; returns rows per table.

        Ends with a table once `most` rows or more of it are deleted: call it again then.
        `profile_days` must exceed the retention of the profiles topic, or a replay would count profiles twice.
        """
        limits = {
            "prediction": (schema.prediction.c.time_us, prediction_days),
            "label": (schema.label.c.recorded_at_us, label_days),
            "applied_profile": (schema.applied_profile.c.applied_at_us, profile_days),
        }
        return {
            name: self._prune(time_us.table, time_us < now_us - int(days * DAY_US), most)
            for name, (time_us, days) in limits.items()
        }

    def _prune(self, table: Any, old: Any, most: int | None) -> int:
        keys = list(table.primary_key.columns)
        page = select(*keys).where(old).limit(_PRUNE_ROWS)
        total = 0
        while True:
            with self._writing() as connection:
                deleted = connection.execute(delete(table).where(tuple_(*keys).in_(page))).rowcount
            total += deleted
            if deleted < _PRUNE_ROWS or (most is not None and total >= most):
                return total


def _insert(connection: Connection, table: Table) -> Any:
    return postgresql.insert(table) if is_postgres(connection) else sqlite.insert(table)


def _registered(model: str, version: str, digest: str, previous: str | None, at_us: int) -> Event:
    return Event(
        event_id=str(uuid.uuid5(_IDS, f"{model}\n{version}\n{digest}\n{at_us}")),
        kind="registration",
        model=model,
        version=version,
        occurred_at_us=at_us,
        body={"digest": digest, "previous_digest": previous},
    )
