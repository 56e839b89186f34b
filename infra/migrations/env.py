"""Run by alembic for every command of `infra.migrate`, which hands over the open connection."""

from alembic import context

from streams.store_schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
