"""What people and programs read from the event store."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from bestbefore_client.triggers import OPEN_TRIGGERS
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Text,
    any_,
    bindparam,
    column,
    func,
    select,
    table,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY

from streams import store_schema as schema
from streams.errors import StoreOutdated
from streams.store_bulk import is_postgres
from streams.store_engine import answering, open_engine, parse_url, place
from streams.store_rows import (
    EventKind,
    LabelRow,
    OutboxRow,
    Prediction,
    Registration,
    StateFormat,
    StoredEvent,
    Window,
)

_VERSION = table("alembic_version", column("version_num"))
_MARKS = (schema.compatibility.name,)  # tables about the tables
_V_STATUS = table("v_status", column("seq"), column("model"))
_V_OPEN_MISMATCHES = table("v_open_mismatches", column("seq"), column("model"))


def among(connection: Connection, wanted: Column[Any], values: Sequence[Any]) -> ColumnElement[bool]:
    """`wanted IN values` as one parameter of any length."""
    if is_postgres(connection):
        kind = BigInteger() if isinstance(wanted.type, BigInteger) else Text()
        return wanted == any_(bindparam(None, list(values), ARRAY(kind), unique=True))
    listed = func.json_each(json.dumps(list(values))).table_valued("value")
    return wanted.in_(select(listed.c.value))


class StoreReader:
    """The reading half of `EventStore`; every method may raise StoreUnreachable or StoreOutdated."""

    def __init__(self, url: str) -> None:
        self._url = parse_url(url)
        self._engine: Engine = open_engine(url)
        self._reader: Engine = self._engine.execution_options(reading=True)

    @property
    def place(self) -> str:
        """The store's name for messages, without credentials."""
        return place(self._url)

    def close(self) -> None:
        """Closes the connections; the store can be used again afterwards."""
        self._engine.dispose()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with answering(self._url), self._reader.begin() as connection:
            yield connection

    def registrations(self, unless: Mapping[tuple[str, str], str] = MappingProxyType({})) -> list[Registration]:
        """The active descriptors of every model version, by model and version.

        Without those whose digest is the one in `unless`: bodies are large, and workers ask every few seconds.
        """
        t = schema.registration
        with self._reading() as connection:
            keys = connection.execute(select(t.c.model, t.c.version, t.c.digest).order_by(t.c.model, t.c.version)).all()
            changed = [(r.model, r.version) for r in keys if unless.get((r.model, r.version)) != r.digest]
            if len(changed) == len(keys):
                rows = connection.execute(select(t).order_by(t.c.model, t.c.version)).all()
            else:
                one = select(t).where(t.c.model == bindparam("m"), t.c.version == bindparam("v"))
                rows = [row for m, v in changed for row in connection.execute(one, {"m": m, "v": v})]
            return [Registration(r.model, r.version, r.digest, bytes(r.body), r.registered_at_us) for r in rows]

    def inspections(self) -> dict[tuple[str, str], bytes]:
        """What was found when each model version's file was last loaded, as it was saved."""
        t = schema.inspection
        with self._reading() as connection:
            return {(row.model, row.version): bytes(row.body) for row in connection.execute(select(t))}

    def find_predictions(self, ids: Sequence[str]) -> dict[str, list[Prediction]]:
        """The kept predictions of these inference ids; ids without one are absent."""
        t = schema.prediction
        found: dict[str, list[Prediction]] = {}
        with self._reading() as connection:
            query = select(t).where(among(connection, t.c.inference_id, ids)).order_by(t.c.model, t.c.version)
            for row in connection.execute(query).mappings() if ids else ():
                found.setdefault(row["inference_id"], []).append(Prediction(**row))
        return found

    def label(self, inference_id: str, source: str) -> LabelRow | None:
        """The label that won for this inference and source."""
        t = schema.label
        query = select(*(t.c[name] for name in LabelRow.__struct_fields__))
        with self._reading() as connection:
            rows = connection.execute(query.where(t.c.inference_id == inference_id, t.c.source == source))
            row = rows.mappings().first()
        return None if row is None else LabelRow(**row)

    def outbox(self, partitions: Sequence[int], limit: int = 1000) -> list[OutboxRow]:
        """The oldest unsent records of these source partitions, in the order they were enqueued."""
        t = schema.outbox
        query = select(t).where(t.c.partition.in_(list(partitions))).order_by(t.c.seq).limit(limit)
        with self._reading() as connection:
            rows = connection.execute(query).mappings()
            return [OutboxRow(**{**row, "value": bytes(row["value"])}) for row in rows]

    def waiting(self) -> int:
        """How many records wait in the outbox, those of all partitions."""
        with self._reading() as connection:
            return int(connection.execute(select(func.count()).select_from(schema.outbox)).scalar_one())

    def latest_status(self, model: str | None = None) -> list[StoredEvent]:
        """The newest status event of every subject, by model, version and segment."""
        t = schema.event
        seqs = select(_V_STATUS.c.seq)
        if model is not None:
            seqs = seqs.where(_V_STATUS.c.model == model)
        query = select(*EVENT_COLUMNS).where(t.c.seq.in_(seqs)).order_by(t.c.model, t.c.version, t.c.segment)
        with self._reading() as connection:
            return [StoredEvent(**row) for row in connection.execute(query).mappings()]

    def open_verdicts(self, models: Sequence[str]) -> list[StoredEvent]:
        """The newest verdict of everything that is open for these models, in ascending `seq`."""
        t, v = schema.event, _V_OPEN_MISMATCHES
        seqs = select(v.c.seq).where(v.c.model.in_(models))
        query = select(*EVENT_COLUMNS).where(t.c.seq.in_(seqs)).order_by(t.c.seq)
        with self._reading() as connection:
            return [StoredEvent(**row) for row in connection.execute(query).mappings()] if models else []

    def events(
        self,
        *,
        kind: EventKind | None = None,
        model: str | None = None,
        check: str | None = None,
        since_us: int | None = None,
        after_seq: int | None = None,
        limit: int = 100,
    ) -> list[StoredEvent]:
        """Events in ascending `seq`: the first `limit` beyond `after_seq`, or without it the newest `limit`.

        Two writers may commit out of `seq` order: a poller reads a little overlap and goes by `event_id`.
        """
        t = schema.event
        equal = ((t.c.kind, kind), (t.c.model, model), (t.c.check_name, check))
        wanted = [name == value for name, value in equal if value is not None]
        query = select(*EVENT_COLUMNS).where(*wanted).limit(limit)
        if since_us is not None:
            query = query.where(t.c.occurred_at_us >= since_us)
        if after_seq is not None:
            query = query.where(t.c.seq > after_seq)
        query = query.order_by(t.c.seq.desc() if after_seq is None else t.c.seq)
        with self._reading() as connection:
            found = [StoredEvent(**row) for row in connection.execute(query).mappings()]
        return sorted(found, key=lambda event: event.seq)

    def triggers(
        self, model: str | None = None, *, since_us: int | None = None, after_seq: int | None = None, limit: int = 100
    ) -> list[StoredEvent]:
        """Retrain triggers; see `events`."""
        return self.events(kind="trigger", model=model, since_us=since_us, after_seq=after_seq, limit=limit)

    def open_triggers(self, model: str | None = None, *, limit: int | None = None) -> list[StoredEvent]:
        """The triggers that nobody has finished and nothing has resolved, the oldest `limit`, in ascending `seq`."""
        with self._reading() as connection:
            rows = connection.execute(text(OPEN_TRIGGERS)).mappings()
            names = [row["trigger_id"] for row in rows if model in (None, row["model"])]
        return sorted(self.by_id(names[:limit]).values(), key=lambda event: event.seq)

    def by_id(self, ids: Sequence[str]) -> dict[str, StoredEvent]:
        """The events with these ids; ids of none are absent."""
        t = schema.event
        with self._reading() as connection:
            query = select(*EVENT_COLUMNS).where(among(connection, t.c.event_id, ids))
            rows = connection.execute(query).mappings() if ids else ()
            return {row["event_id"]: StoredEvent(**row) for row in rows}

    def windows(self, model: str, version: str, segment: str = "", since_us: int | None = None) -> list[Window]:
        """The windows of a subject by start."""
        t = schema.window_total
        query = select(t).where(t.c.model == model, t.c.version == version, t.c.segment == segment)
        if since_us is not None:
            query = query.where(t.c.window_end_us > since_us)
        with self._reading() as connection:
            rows = connection.execute(query.order_by(t.c.window_start_us, t.c.window_end_us))
            return [Window(**row) for row in rows.mappings()]

    def counts(self) -> dict[str, int]:
        """The number of rows of every table that holds what was seen or concluded."""
        with self._reading() as connection:
            return {
                name: connection.execute(select(func.count()).select_from(t)).scalar_one()
                for name, t in schema.metadata.tables.items()
                if name not in _MARKS
            }

    def revision(self) -> str | None:
        """The migration the store is at, None for a store without any."""
        with self._reading() as connection:
            found = connection.execute(select(_VERSION.c.version_num)).scalar()
        return None if found is None else str(found)

    def oldest_reader(self) -> str | None:
        """The oldest newest-known revision of a program that may work on the tables; None where nothing says so."""
        try:
            with self._reading() as connection:
                return connection.execute(select(schema.compatibility.c.oldest_reader)).scalar()
        except StoreOutdated:  # tables from before there was such a mark
            return None

    def newest_state(self) -> StateFormat | None:
        """Whose state has the latest format, and which; None in an empty store."""
        t = schema.estimator_state.c
        query = select(t.model, t.version, t.format_version).order_by(t.format_version.desc()).limit(1)
        with self._reading() as connection:
            row = connection.execute(query).mappings().first()
        return None if row is None else StateFormat(**row)


EVENT_COLUMNS = [
    schema.event.c.check_name.label("check") if name == "check" else schema.event.c[name]
    for name in StoredEvent.__struct_fields__
]
