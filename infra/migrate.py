"""Brings the tables of an event store to the version this code needs, or back.

A migration is one transaction on both databases: it happens as a whole or not at all, and of several processes that
migrate at the same time all but the first find nothing left to do.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from streams.errors import StoreOutdated
from streams.store_engine import answering, open_engine, parse_url, place
from streams.store_schema import metadata

SCRIPTS = Path(__file__).parent / "migrations"
# Any number will do, as long as no other program takes the same advisory lock in this database.
_LOCK = 0x62657374


def _config() -> Config:
    config = Config()
    # A percent sign in the path would be read as interpolation.
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    return config


def head() -> str:
    """The newest revision among the scripts."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    if revision is None:
        raise StoreOutdated(f"{SCRIPTS}: no migration found; install the package again")
    return revision


def upgrade(url: str, revision: str = "head") -> str:
    """Migrates the store at `url` up to `revision`; returns the revision reached.

    Raises StoreUnreachable, or StoreOutdated when the store was made by a newer version than this one.
    """
    with _migrating(url) as (config, connection):
        command.upgrade(config, revision)
        return _revision(connection) or "base"


def downgrade(url: str, revision: str = "base") -> str:
    """Migrates the store at `url` back to `revision`, losing what newer tables held; `base` removes everything."""
    with _migrating(url) as (config, connection):
        command.downgrade(config, revision)
        return _revision(connection) or "base"


def current(url: str) -> str | None:
    """The revision the store at `url` is at, None when it has no tables yet."""
    engine = open_engine(url)
    try:
        with answering(parse_url(url)), engine.execution_options(reading=True).connect() as connection:
            return _revision(connection)
    finally:
        engine.dispose()


@contextmanager
def _migrating(url: str) -> Iterator[tuple[Config, Connection]]:
    engine = open_engine(url, patient=True)
    try:
        with answering(parse_url(url)), engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                # Rewriting a large table may take long; waiting for a lock blocks everyone behind it.
                connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
                connection.exec_driver_sql("SET LOCAL lock_timeout = '10s'")
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
            config = _config()
            config.attributes["connection"] = connection
            yield config, connection
    except CommandError as error:
        raise StoreOutdated(f"{place(parse_url(url))}: {error}; migrate with the version that made it") from error
    finally:
        engine.dispose()


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def differences(url: str) -> list[object]:
    """What separates the tables at `url` from those in `streams.store_schema`: empty when migrations are complete."""
    engine = open_engine(url)
    try:
        with answering(parse_url(url)), engine.execution_options(reading=True).begin() as connection:
            return list(compare_metadata(MigrationContext.configure(connection), metadata))
    finally:
        engine.dispose()
