"""Group roles with few rights: writer, reader, migrator. Postgres only; see `infra.migrations.roles`."""

from alembic import op

from infra.migrations import roles

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None
oldest_reader = "0002"


def upgrade() -> None:
    roles.apply(op.get_bind())


def downgrade() -> None:
    roles.revoke(op.get_bind())
