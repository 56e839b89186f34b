"""The event store: tables, the append-only guard of `event`, and the views dashboards read."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from infra.migrations import append_only
from infra.migrations import views_0001 as views

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_DOCUMENT = sa.JSON().with_variant(JSONB(), "postgresql")
_SUBJECT = ("model", "version", "segment")
_COUNTERS = ("n", "n_late", "n_capped", "n_failed", "n_input", "n_labelled", "n_correct")
_TABLES = (
    "registration",
    "event",
    "window_total",
    "estimator_state",
    "applied_offset",
    "applied_profile",
    "prediction",
    "label",
    "outbox",
)


def upgrade() -> None:
    _concluded()
    _windows()
    _progress()
    _joined()
    _outgoing()
    append_only.create("event")
    views.create()


def downgrade() -> None:
    views.drop()
    append_only.drop("event")
    for name in reversed(_TABLES):
        op.drop_table(name)


def _ids(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, _ID, nullable=False) for name in names]


def _times(*names: str, nullable: bool = False) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=nullable) for name in names]


def _seq() -> sa.Column[int]:
    return sa.Column(
        "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), sa.Identity(), primary_key=True, nullable=False
    )


def _concluded() -> None:
    op.create_table(
        "registration",
        *_ids("model", "version"),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        *_times("registered_at_us"),
        sa.PrimaryKeyConstraint("model", "version"),
    )
    op.create_table(
        "event",
        _seq(),
        *_ids("event_id", "kind", "model", "version"),
        sa.Column("segment", _ID, nullable=False, server_default=""),
        sa.Column("check_name", _ID),
        sa.Column("severity", sa.Text),
        *_times("occurred_at_us"),
        *_times("window_start_us", "window_end_us", nullable=True),
        sa.Column("body", _DOCUMENT, nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("until_us", sa.BigInteger, sa.Computed("coalesce(window_end_us, occurred_at_us)", persisted=True)),
        sa.UniqueConstraint("event_id", name="event_event_id_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("event_subject", "event", ["kind", *_SUBJECT, "until_us", "seq"])
    op.create_index("event_occurred_at_us", "event", ["occurred_at_us"])


def _windows() -> None:
    window = ("window_start_us", "window_end_us")
    op.create_table(
        "window_total",
        *_ids(*_SUBJECT),
        *_times(*window),
        *(sa.Column(name, sa.BigInteger, nullable=False, server_default="0") for name in _COUNTERS),
        sa.Column("weight", sa.Double, nullable=False, server_default="0"),
        *(sa.Column(name, sa.Double) for name in ("estimate", "low", "high")),
        sa.Column("basis", sa.Text),
        *_times("best_before_us", nullable=True),
        sa.PrimaryKeyConstraint(*_SUBJECT, *window),
    )
    op.create_table(
        "estimator_state",
        *_ids(*_SUBJECT),
        sa.Column("format_version", sa.Integer, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        *_times("updated_at_us"),
        sa.PrimaryKeyConstraint(*_SUBJECT),
    )


def _progress() -> None:
    op.create_table(
        "applied_offset",
        *_ids("grp", "topic"),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("next_offset", sa.BigInteger),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("grp", "topic", "partition"),
    )
    op.create_table(
        "applied_profile",
        *_ids("grp", "identity"),
        *_times("applied_at_us"),
        sa.PrimaryKeyConstraint("grp", "identity"),
    )
    op.create_index("applied_profile_applied_at_us", "applied_profile", ["applied_at_us"])


def _joined() -> None:
    op.create_table(
        "prediction",
        *_ids("model", "version", "inference_id", "segment"),
        *_times("time_us"),
        sa.Column("label", sa.Text),
        *(sa.Column(name, sa.Double) for name in ("value", "confidence", "propensity")),
        sa.Column("extra", _DOCUMENT),
        sa.PrimaryKeyConstraint("model", "version", "inference_id"),
    )
    op.create_index("prediction_inference_id", "prediction", ["inference_id"])
    op.create_index("prediction_time_us", "prediction", ["time_us"])
    op.create_table(
        "label",
        *_ids("inference_id", "source", "topic"),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
        *_times("time_us"),
        sa.Column("label", sa.Text),
        sa.Column("value", sa.Double),
        sa.Column("correct", sa.Boolean),
        sa.Column("propensity", sa.Double),
        sa.Column("model", sa.Text),
        sa.Column("version", sa.Text),
        *_times("recorded_at_us"),
        sa.PrimaryKeyConstraint("inference_id", "source"),
    )
    op.create_index("label_recorded_at_us", "label", ["recorded_at_us"])


def _outgoing() -> None:
    op.create_table(
        "outbox",
        _seq(),
        sa.Column("partition", sa.Integer, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("topic", "key")),
        sa.Column("headers", _DOCUMENT, nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("outbox_partition", "outbox", ["partition", "seq"])
