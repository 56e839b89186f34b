"""The store's tables as the migrations make them, and what is told when the store cannot be used."""

import threading
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from infra import migrate
from streams.errors import SettingsError, StoreOutdated, StoreUnreachable
from streams.event_store import EventStore
from streams.store_engine import open_engine, parse_url
from streams.store_rows import State
from streams.store_schema import SCHEMA_REVISION

SECRET = "s3cr3t-pass"  # noqa: S105 -- a marker that must not appear in any message

SUBJECT = ("digits", "3", "")


def count_up(store: EventStore, times: int) -> None:
    """Reads, then writes: what SQLite refuses to a transaction that did not begin as a writer."""
    for _ in range(times):
        with store.transaction() as tx:
            body = tx.load_states([SUBJECT]).get(SUBJECT, State(1, b"")).body
            tx.save_states({SUBJECT: State(1, body + b"x")})


class TestMigrations:
    def test_the_code_and_the_scripts_agree_on_the_newest_revision(self) -> None:
        assert migrate.head() == SCHEMA_REVISION

    def test_up_down_up_and_no_difference_to_the_tables(self, any_store_url: str) -> None:
        assert migrate.current(any_store_url) is None
        for _ in range(2):
            assert migrate.upgrade(any_store_url) == migrate.upgrade(any_store_url) == migrate.head()
            assert migrate.differences(any_store_url) == []
            store = EventStore(any_store_url)
            store.check()
            store.close()
            assert migrate.downgrade(any_store_url) == "base"
            assert migrate.current(any_store_url) is None

    def test_downgrade_leaves_nothing_behind(self, store_url: str) -> None:
        migrate.upgrade(store_url)
        migrate.downgrade(store_url)
        engine = open_engine(store_url)
        with engine.begin() as connection:
            relations = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            assert set(connection.execute(text(relations)).scalars()) == {"alembic_version", "alembic_version_pkc"}
            functions = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
            assert connection.execute(text(functions)).scalar() == 0
        engine.dispose()

    def test_a_store_of_a_newer_version_is_left_alone(self, any_store_url: str) -> None:
        migrate.upgrade(any_store_url)
        engine = open_engine(any_store_url)
        with engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
            connection.execute(text("UPDATE compatibility SET oldest_reader = '9999'"))
        engine.dispose()
        store = EventStore(any_store_url)
        with pytest.raises(StoreOutdated, match="9999"):
            store.check()
        store.close()
        with pytest.raises(StoreOutdated, match="9999"):
            migrate.upgrade(any_store_url)


class TestErrors:
    def test_an_empty_database_is_outdated(self, any_store_url: str) -> None:
        store = EventStore(any_store_url)
        with pytest.raises(StoreOutdated, match="bestbefore migrate"):
            store.check()
        with pytest.raises(StoreOutdated, match="bestbefore migrate"):
            store.registrations()
        store.close()

    @pytest.mark.parametrize(
        "url",
        [
            f"postgresql://me:{SECRET}@127.0.0.1:1/db",
            f"postgresql://me@127.0.0.1:1/db?password={SECRET}",
            "sqlite:////nowhere/at/all/store.db",
        ],
    )
    def test_no_answer_is_unreachable_and_tells_no_password(self, url: str) -> None:
        store = EventStore(url)
        for call in (store.check, lambda: store.claim("g", "t", 0), lambda: migrate.upgrade(url)):
            with pytest.raises(StoreUnreachable) as caught:
                call()
            told = f"{caught.value} {caught.value!r} {caught.value.__cause__}"
            assert SECRET not in told
            assert "127.0.0.1:1/db" in told or "store.db" in told
        store.close()

    def test_a_driver_that_quotes_the_password_is_silenced(self) -> None:
        store = EventStore("postgresql://me:refused@127.0.0.1:1/db")
        with pytest.raises(StoreUnreachable) as caught:
            store.check()
        assert "Connection ***" in str(caught.value)
        store.close()

    def test_sqlite_writers_wait_for_each_other(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/store.db"
        migrate.upgrade(url)
        store = EventStore(url)
        threads = [threading.Thread(target=count_up, args=(store, 20)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with store.transaction() as tx:
            assert tx.load_states([SUBJECT]) == {SUBJECT: State(1, b"x" * 60)}
        store.close()

    def test_a_wrong_password_is_not_told(self, store_url: str) -> None:
        url = parse_url(store_url).set(password=SECRET, database="no_such_database")
        store = EventStore(url.render_as_string(hide_password=False))
        with pytest.raises(StoreUnreachable) as caught:
            store.check()
        assert SECRET not in str(caught.value)

    @pytest.mark.parametrize("url", [f"mysql://me:{SECRET}@localhost/db", f"not a url {SECRET}", ""])
    def test_other_databases_are_refused_by_name(self, url: str) -> None:
        with pytest.raises(SettingsError) as caught:
            EventStore(url)
        assert SECRET not in str(caught.value)


def test_another_program_meets_the_guard_too(store_url: str) -> None:
    migrate.upgrade(store_url)
    engine = create_engine(parse_url(store_url))
    with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
        connection.execute(text("DELETE FROM event"))
    engine.dispose()
