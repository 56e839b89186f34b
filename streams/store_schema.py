"""Tables of the event store, for Postgres and SQLite alike.

Times are `BIGINT` microseconds since the epoch, UTC: exact and identical in both databases, without a conversion on
the write path; the views `v_*` (made by the migrations, the contract for dashboards) show them as timestamps.
Identifiers collate by byte on Postgres: cheaper to compare, and safe from a change of the system's locale data.
"""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    DateTime,
    Double,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

SCHEMA_REVISION = "0004"
"""The newest migration in `infra/migrations/versions`."""
OLDEST_TABLES = "0002"
"""The oldest revision this code works on as well: workers may be replaced before the tables are migrated."""

metadata = MetaData()
IDENTIFIER: TypeEngine[Any] = Text().with_variant(Text(collation="C"), "postgresql")
DOCUMENT: TypeEngine[Any] = JSON().with_variant(JSONB(), "postgresql")
SEQUENCE: TypeEngine[int] = BigInteger().with_variant(Integer(), "sqlite")


def _key(name: str, type_: TypeEngine[Any] = IDENTIFIER) -> Column[Any]:
    return Column(name, type_, primary_key=True, autoincrement=False)


def _text(name: str) -> Column[str]:
    return Column(name, IDENTIFIER, nullable=False)


def _time(name: str, nullable: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=nullable)


def _sequence() -> Column[int]:
    return Column("seq", SEQUENCE, Identity(), primary_key=True)


# One row: what a program must know at least to work on these tables. `infra.migrate` keeps it.
compatibility = Table(
    "compatibility",
    metadata,
    _key("id", Integer()),
    _text("oldest_reader"),
    CheckConstraint("id = 1", name="compatibility_one_row"),
)

registration = Table(
    "registration",
    metadata,
    _key("model"),
    _key("version"),
    Column("digest", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    _time("registered_at_us"),
)

# What was found when the model's file was last loaded: by `register` first, by a worker from then on.
inspection = Table(
    "inspection",
    metadata,
    _key("model"),
    _key("version"),
    Column("body", LargeBinary, nullable=False),
    _time("inspected_at_us"),
)

# `seq` is the primary key because SQLite numbers rows by no other; identity is the unique `event_id`.
event = Table(
    "event",
    metadata,
    _sequence(),
    _text("event_id"),
    _text("kind"),
    _text("model"),
    _text("version"),
    Column("segment", IDENTIFIER, nullable=False, server_default=""),
    Column("check_name", IDENTIFIER),
    Column("severity", Text),
    _time("occurred_at_us"),
    _time("window_start_us", nullable=True),
    _time("window_end_us", nullable=True),
    Column("body", DOCUMENT, nullable=False),
    Column("recorded_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    # Where the event stands in event time; stored, because the newest one of a subject is looked up by it.
    Column("until_us", BigInteger, Computed("coalesce(window_end_us, occurred_at_us)", persisted=True)),
    UniqueConstraint("event_id", name="event_event_id_key"),
    Index("event_subject", "kind", "model", "version", "segment", "until_us", "seq"),
    Index("event_occurred_at_us", "occurred_at_us"),
    sqlite_autoincrement=True,
)

COUNTERS = ("n", "n_late", "n_capped", "n_failed", "n_input", "n_labelled", "n_correct")

window_total = Table(
    "window_total",
    metadata,
    _key("model"),
    _key("version"),
    _key("segment"),
    _key("window_start_us", BigInteger()),
    _key("window_end_us", BigInteger()),
    *(Column(name, BigInteger, nullable=False, server_default="0") for name in COUNTERS),
    Column("weight", Double, nullable=False, server_default="0"),
    *(Column(name, Double) for name in ("estimate", "low", "high")),
    Column("basis", Text),
    _time("best_before_us", nullable=True),
)

estimator_state = Table(
    "estimator_state",
    metadata,
    _key("model"),
    _key("version"),
    _key("segment"),
    Column("format_version", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
    _time("updated_at_us"),
)

applied_offset = Table(
    "applied_offset",
    metadata,
    _key("grp"),
    _key("topic"),
    _key("partition", Integer()),
    _time("next_offset", nullable=True),
    Column("epoch", BigInteger, nullable=False),
)

applied_profile = Table(
    "applied_profile",
    metadata,
    _key("grp"),
    _key("identity"),
    _time("applied_at_us"),
    Index("applied_profile_applied_at_us", "applied_at_us"),
)

prediction = Table(
    "prediction",
    metadata,
    _key("model"),
    _key("version"),
    _key("inference_id"),
    _text("segment"),
    _time("time_us"),
    Column("label", Text),
    Column("value", Double),
    Column("confidence", Double),
    Column("propensity", Double),
    Column("extra", DOCUMENT),
    Index("prediction_inference_id", "inference_id"),
    Index("prediction_time_us", "time_us"),
)

# `recorded_at_us`, not the label's own time, ends its life: a late truth may be older than the retention.
label = Table(
    "label",
    metadata,
    _key("inference_id"),
    _key("source"),
    _text("topic"),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    _time("time_us"),
    Column("label", Text),
    Column("value", Double),
    Column("correct", Boolean),
    Column("propensity", Double),
    Column("model", Text),
    Column("version", Text),
    _time("recorded_at_us"),
    Index("label_recorded_at_us", "recorded_at_us"),
)

outbox = Table(
    "outbox",
    metadata,
    _sequence(),
    Column("partition", Integer, nullable=False),
    Column("topic", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("headers", DOCUMENT, nullable=False),
    Column("value", LargeBinary, nullable=False),
    Index("outbox_partition", "partition", "seq"),
    sqlite_autoincrement=True,
)
