"""A table that only grows: the database itself refuses to change or remove a row, whoever asks."""

from alembic import op

_MESSAGE = "is append-only: correct a record by appending another one"


def create(table: str) -> None:
    """Guards `table`, which must have the unique columns `seq` and `event_id`."""
    for statement in _postgres(table) if op.get_bind().dialect.name == "postgresql" else _sqlite(table):
        op.execute(statement)


def drop(table: str) -> None:
    """Removes the guard; the triggers go with the table."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"DROP FUNCTION {table}_refuse_change() CASCADE")


def _postgres(table: str) -> list[str]:
    return [
        f"CREATE FUNCTION {table}_refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{table} {_MESSAGE} (% refused)', TG_OP; END $$",
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_refuse_change()",
    ]


def _sqlite(table: str) -> list[str]:
    refuse = f"BEGIN SELECT RAISE(ABORT, '{table} {_MESSAGE}'); END"
    known = f"SELECT 1 FROM {table} WHERE event_id = NEW.event_id OR seq = NEW.seq"  # noqa: S608 -- our own table
    return [
        f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} {refuse}",
        f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {refuse}",
        # INSERT OR REPLACE deletes without firing delete triggers.
        f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} WHEN EXISTS ({known}) "
        "BEGIN SELECT RAISE(IGNORE); END",
    ]
