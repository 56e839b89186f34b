"""Connections to the event store, Postgres or SQLite, and the translation of their failures.

Callers meet only the errors of `streams.errors`, and none of them carries a password: messages name the
store by host, port and database, and never quote the URL.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from streams.errors import SettingsError, StoreError, StoreOutdated, StoreUnreachable
from streams.security import is_loopback
from streams.store_hints import hint
from streams.store_silence import Impatient, resting, working

BUSY_TIMEOUT_MS = 10_000
# A hung server, a forgotten transaction and a silently dropped connection each end in an error instead of a standstill,
# and all of them so soon that work goes on within half a minute: a transaction whose client is gone holds the very lock
# that the next one needs. See also streams/store_silence.py.
POSTGRES_OPTIONS = "-c statement_timeout=20000 -c lock_timeout=10000 -c idle_in_transaction_session_timeout=20000"
POSTGRES_ARGS: dict[str, str] = {
    "application_name": "bestbefore",
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "2",
    "tcp_user_timeout": "20000",
    "options": POSTGRES_OPTIONS,
}
# SQLSTATEs after which the same may succeed: connection, shutdown, want of resources, conflict, lock, timeout, disk.
_PASSING = ("08", "57P", "53", "40", "55P03", "57014", "58")
_UNDEFINED = {"42P01", "42703"}  # undefined_table, undefined_column


def parse_url(text: str) -> URL:
    """The URL with the one supported driver of its database; SettingsError for anything but Postgres and SQLite."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        # The cause is not chained: a parser may quote what it could not read, password included.
        raise SettingsError(
            "the store URL cannot be read; write postgresql://user:password@host:5432/database or sqlite:///file.db"
        ) from None
    backend = url.get_backend_name()
    if backend in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    if backend == "sqlite":
        return url.set(drivername="sqlite")
    raise SettingsError(f"the store cannot be a {backend!r} database; use postgresql:// or sqlite:///")


def place(url: URL) -> str:
    """The store's name for messages and logs, without user, password or options."""
    if url.get_backend_name() == "sqlite":
        return f"sqlite {url.database or 'in memory'}"
    host = url.host or url.query.get("host") or "local socket"
    return f"postgres {host}:{url.port or 5432}/{url.database or ''}"


def open_engine(text: str, *, patient: bool = False) -> Engine:
    """An engine with small pool, timeouts and, on SQLite, WAL and real transactions; connects on first use.

    A `patient` one is for migrations, whose statements take what they take.
    """
    url = parse_url(text)
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, hide_parameters=True)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    args = {name: value for name, value in (POSTGRES_ARGS | _guarded(url)).items() if name not in url.query}
    engine = create_engine(
        url, hide_parameters=True, pool_size=2, max_overflow=2, pool_timeout=30, pool_pre_ping=True, connect_args=args
    )
    if not patient:
        event.listen(engine, "do_connect", _connect_impatiently)
        event.listen(engine, "checkin", resting)
        event.listen(engine, "checkout", working)
    return engine


def _connect_impatiently(_dialect: object, _record: object, args: list[Any], kwargs: dict[str, Any]) -> Impatient:
    return Impatient.connect(*args, **kwargs)


def _guarded(url: URL) -> dict[str, str]:
    """A server that has not proven who it is gets no password in the clear; a digest (SCRAM) is no use to it."""
    proven = url.query.get("sslmode") == "verify-full" or url.query.get("sslrootcert") == "system"
    host = url.host or url.query.get("host") or ""  # several hosts are a tuple; none, or a path, is a local socket
    local = isinstance(host, str) and (host in ("", "localhost") or host.startswith("/") or is_loopback(host))
    return {} if proven or local else {"require_auth": "!password"}


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # sqlite3 would begin transactions only at the first write; the begin event below does it instead.
    connection.isolation_level = None
    for pragma in (f"busy_timeout={BUSY_TIMEOUT_MS}", "journal_mode=WAL", "foreign_keys=ON", "recursive_triggers=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    # A reader that turns writer fails at once when another wrote in between, so writers take the lock first.
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


@contextmanager
def answering(url: URL) -> Iterator[None]:
    """Turns the database's errors into StoreUnreachable, StoreOutdated or StoreError."""
    try:
        yield
    except PoolTimeout:
        raise StoreUnreachable(f"{place(url)}: every connection is in use; try again") from None
    except DBAPIError as error:
        raise _translated(error, url) from None


def _translated(error: DBAPIError, url: URL) -> StoreError:
    # The first line says what; what follows quotes the statement.
    said = without_secrets(str(error.orig), url)
    cause = said.strip().partition("\n")[0]
    state = getattr(error.orig, "sqlstate", None)
    missing = state in _UNDEFINED or "no such table" in cause or "no such col" in cause
    if missing or "has no column" in cause:
        return StoreOutdated(f"{place(url)}: {cause}; run `bestbefore migrate`")
    passing = isinstance(error, OperationalError | InterfaceError) if state is None else state.startswith(_PASSING)
    if error.connection_invalidated or passing:
        return StoreUnreachable(f"{place(url)}: {cause}; {hint(said) or 'trying again is safe'}")
    return StoreError(f"{place(url)}: refused: {cause}")


def without_secrets(text: str, url: URL) -> str:
    """The text without the passwords of the URL."""
    for secret in (url.password, url.query.get("password"), url.query.get("sslpassword")):
        if isinstance(secret, str) and len(secret) > 0:
            text = text.replace(secret, "***")
    return text
