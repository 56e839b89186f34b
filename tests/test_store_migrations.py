"""The store's tables as the migrations make them, and what is told when the store cannot be used."""

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from infra import migrate
from streams.errors import SettingsError, StoreOutdated, StoreUnreachable
from streams.event_store import EventStore
from streams.store_engine import open_engine, parse_url
from streams.store_schema import SCHEMA_REVISION

SECRET = "s3cr3t-pass"  # noqa: S105 -- a marker that must not appear in any message


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
