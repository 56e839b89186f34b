"""Brings the tables of an event store to the version this code needs, or back.

A migration is one transaction on both databases: it happens as a whole or not at all, and of several processes that
migrate at the same time all but the first find nothing left to do. Workers may run meanwhile: a lock that does not come
soon is given up, so that nobody queues behind it, and asked for again.

Every migration says in `oldest_reader` which revision a program must know to work on its tables: an earlier one where
it only adds. The store keeps the latest of them for workers that are older than its tables.
"""

import time
from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, delete, insert, inspect
from sqlalchemy.exc import DBAPIError

from infra.migrations import roles
from streams.errors import StoreOutdated
from streams.store_engine import answering, open_engine, parse_url, place
from streams.store_schema import compatibility, metadata

SCRIPTS = Path(__file__).parent / "migrations"
PATIENCE = 60.0  # seconds for which locks that others hold are asked for again
_LOCK_TIMEOUT = "1s"  # as long may everyone wait who comes after us
_BUSY = {"55P03", "40P01"}  # lock_not_available, deadlock_detected
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


def upgrade(url: str, revision: str = "head", patience_s: float = PATIENCE) -> str:
    """Migrates the store at `url` up to `revision`; returns the revision reached.

    Raises StoreUnreachable, also where others held a lock for longer than `patience_s`, or StoreOutdated when the store
    was made by a newer version than this one.
    """
    return _migrated(url, lambda config: _upgraded(config, revision), patience_s)


def _upgraded(config: Config, revision: str) -> None:
    command.upgrade(config, revision)
    connection: Connection = config.attributes["connection"]
    if _revision(connection) == head():
        # Again at every run: an administrator may have made the roles since, and a new table has its rights.
        roles.apply(connection)


def downgrade(url: str, revision: str = "base", patience_s: float = PATIENCE) -> str:
    """Migrates the store at `url` back to `revision`, losing what newer tables held; `base` removes everything."""
    return _migrated(url, lambda config: command.downgrade(config, revision), patience_s)


def role_note(url: str) -> str | None:
    """What an administrator has to do so that logins can have few rights; None where nothing is left to do."""
    engine = open_engine(url)
    try:
        with answering(parse_url(url)), engine.execution_options(reading=True).connect() as connection:
            names = roles.missing(connection)
            return None if names is None else roles.for_administrator(names)
    finally:
        engine.dispose()


def current(url: str) -> str | None:
    """The revision the store at `url` is at, None when it has no tables yet."""
    engine = open_engine(url)
    try:
        with answering(parse_url(url)), engine.execution_options(reading=True).connect() as connection:
            return _revision(connection)
    finally:
        engine.dispose()


def _migrated(url: str, run: Callable[[Config], None], patience_s: float) -> str:
    engine, ends = open_engine(url, patient=True), time.monotonic() + patience_s
    try:
        with answering(parse_url(url)):
            while True:
                try:
                    with engine.begin() as connection:
                        return _run(connection, run)
                except DBAPIError as error:
                    if getattr(error.orig, "sqlstate", None) not in _BUSY or time.monotonic() > ends:
                        raise
                time.sleep(0.5)  # those who queued behind the lock go first
    except CommandError as error:
        raise StoreOutdated(f"{place(parse_url(url))}: {error}; migrate with the version that made it") from error
    finally:
        engine.dispose()


def _run(connection: Connection, run: Callable[[Config], None]) -> str:
    if connection.dialect.name == "postgresql":
        # Whoever migrates already may take its time, and so may rewriting a large table.
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
        roles.become_migrator(connection)
    config = _config()
    config.attributes["connection"] = connection
    run(config)
    reached = _revision(connection)
    _mark(connection, reached)
    return reached or "base"


def _mark(connection: Connection, reached: str | None) -> None:
    """Keep which programs may work on these tables, where the tables can keep it."""
    if reached is not None and inspect(connection).has_table(compatibility.name):
        connection.execute(delete(compatibility))
        connection.execute(insert(compatibility).values(id=1, oldest_reader=oldest_reader(reached)))


def oldest_reader(revision: str) -> str:
    """The revision that a program must know to work on the tables at `revision`."""
    scripts = ScriptDirectory.from_config(_config()).walk_revisions("base", revision)
    return max(str(getattr(script.module, "oldest_reader", script.revision)) for script in scripts)


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
