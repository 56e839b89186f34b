"""What the live page reads from the store: how every model stands, what is new since, and one model in detail.

Reads `event` and the views only, so a login of the role `<database>_reader` is enough.
"""

from datetime import UTC, datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import Double, Text, case, column, func, select, table

from streams import store_schema as schema
from streams.records import time_text
from streams.store_readers import EVENT_COLUMNS, StoreReader
from streams.store_rows import EventKind, StoredEvent

SHOWN: tuple[EventKind, ...] = ("status", "mismatch", "trigger", "lifecycle", "registration")
_FIGURES = ("estimate", "low", "high", "threshold")
_STATUS = table(
    "v_status", *(column(name, Text) for name in ("model", "version", "segment", "metric", "basis", "reason")),
    *(column(name) for name in ("seq", "window_start", "window_end")),
    *(column(name, Double) for name in ("n", *_FIGURES)), column("body", schema.DOCUMENT),
)  # fmt: skip
_OPEN = table("v_open_mismatches", column("seq"), column("model", Text), column("body", schema.DOCUMENT))
_POINT = ("window_start", "window_end", "n", "n_labelled", "estimate", "low", "high", "basis", "best_before")
_WINDOWS = table("v_windows", *(column(name) for name in ("model", "version", "segment", *_POINT)))


class Standing(Struct, frozen=True, kw_only=True):
    """The newest status of one subject; of a segment (not '') `body` holds only the fields of the view."""

    model: str
    version: str
    segment: str
    seq: int
    body: dict[str, Any]


class PageReader(StoreReader):
    """The queries of the live page; every method may raise StoreUnreachable or StoreOutdated."""

    def standings(self, limit: int) -> list[Standing]:
        """The newest status of every subject, at most `limit`, by model, version and segment."""
        v = _STATUS.c
        plain = [c for c in v if c.name != "body"]
        whole = case((v.segment == "", v.body)).label("body")
        with self._reading() as connection:
            rows = connection.execute(select(*plain, whole).limit(limit)).mappings()
            return [_standing(dict(row)) for row in rows]

    def registered(self, limit: int) -> dict[tuple[str, str], str]:
        """When each model version was last registered, RFC 3339."""
        t = schema.event.c
        query = select(t.model, t.version, func.max(t.occurred_at_us)).where(t.kind == "registration")
        with self._reading() as connection:
            rows = connection.execute(query.group_by(t.model, t.version).limit(limit))
            return {(model, version): time_text(at_us) for model, version, at_us in rows}

    def open_mismatches(self, limit: int, model: str | None = None) -> list[dict[str, Any]]:
        """The newest `limit` mismatches that are open, newest first."""
        query = select(_OPEN.c.body).order_by(_OPEN.c.seq.desc()).limit(limit)
        if model is not None:
            query = query.where(_OPEN.c.model == model)
        with self._reading() as connection:
            return [body for (body,) in connection.execute(query)]

    def newest(self) -> int:
        """The number of the newest event; 0 in an empty store."""
        with self._reading() as connection:
            return int(connection.execute(select(func.max(schema.event.c.seq))).scalar() or 0)

    def news(self, after_seq: int, limit: int) -> list[StoredEvent]:
        """The first `limit` events beyond `after_seq` that the page shows, in ascending `seq`."""
        t = schema.event.c
        query = select(*EVENT_COLUMNS).where(t.seq > after_seq, t.kind.in_(SHOWN)).order_by(t.seq).limit(limit)
        with self._reading() as connection:
            return [StoredEvent(**row) for row in connection.execute(query).mappings()]

    def status_of(self, model: str, version: str, segment: str) -> dict[str, Any] | None:
        """The newest status of one subject; None where there is none."""
        t = schema.event.c
        mine = (t.kind == "status", t.model == model, t.version == version, t.segment == segment)
        query = select(t.body).where(*mine).order_by(t.until_us.desc(), t.seq.desc()).limit(1)
        with self._reading() as connection:
            found: dict[str, Any] | None = connection.execute(query).scalar()
            return found

    def history(self, kind: EventKind, model: str, version: str, limit: int) -> list[StoredEvent]:
        """The newest `limit` events of one kind about a model version, newest first."""
        t = schema.event.c
        query = select(*EVENT_COLUMNS).where(t.kind == kind, t.model == model, t.version == version)
        with self._reading() as connection:
            rows = connection.execute(query.order_by(t.until_us.desc(), t.seq.desc()).limit(limit)).mappings()
            return [StoredEvent(**row) for row in rows]

    def series(self, model: str, version: str, segment: str, limit: int) -> list[dict[str, Any]]:
        """The newest `limit` windows of a subject, oldest first; times as RFC 3339."""
        v = _WINDOWS.c
        mine = (v.model == model, v.version == version, v.segment == segment)
        query = select(*(v[name] for name in _POINT)).where(*mine).order_by(v.window_start.desc()).limit(limit)
        with self._reading() as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
        return [{name: _plain(value) for name, value in row.items()} for row in reversed(rows)]


def _plain(value: Any) -> Any:
    """Times are timestamps on Postgres and text on SQLite, which always has six digits of seconds."""
    if isinstance(value, datetime):
        return time_text(round(value.astimezone(UTC).timestamp() * 1e6))
    return value.replace(".000000Z", "Z") if isinstance(value, str) else value


def _standing(row: dict[str, Any]) -> Standing:
    body = row["body"] or {
        "window": {"start": _plain(row["window_start"]), "end": _plain(row["window_end"]), "n": row["n"]},
        "quality": {name: row[name] for name in ("metric", "estimate", "low", "high", "basis")},
        "forecast": {"threshold": row["threshold"], "reason": row["reason"]},
    }
    return Standing(model=row["model"], version=row["version"], segment=row["segment"], seq=row["seq"], body=body)
