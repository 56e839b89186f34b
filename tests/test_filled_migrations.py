"""Migrations of a store that is in use: up and down, step by step, interrupted, and under load of the old version."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from click.testing import CliRunner, Result
from sqlalchemy import inspect, text

from infra import migrate
from infra.cli import main
from streams.errors import StoreError, StoreOutdated, StoreUnreachable
from streams.event_store import EventStore
from streams.store_engine import open_engine
from streams.store_rows import Event
from streams.store_schema import OLDEST_TABLES, SCHEMA_REVISION
from tests import artefacts
from tests.previous import ROOT, environment, unpacked

STEPS = sorted(script.revision for script in ScriptDirectory(str(migrate.SCRIPTS)).walk_revisions())
FIRST = STEPS[0]
WRITERS = ("one", "two")
MARKS = ("alembic_version", "compatibility")
Rows = dict[str, list[tuple[Any, ...]]]


def sql(url: str, statement: str) -> list[tuple[Any, ...]]:
    engine = open_engine(url)
    try:
        with engine.begin() as connection:
            result = connection.execute(text(statement))
            return [tuple(row) for row in result] if result.returns_rows else []
    finally:
        engine.dispose()


def rows(url: str) -> Rows:
    """All that tables and views show."""
    engine = open_engine(url)
    try:
        names = [*inspect(engine).get_table_names(), *inspect(engine).get_view_names()]
    finally:
        engine.dispose()
    return {
        name: sorted(sql(url, f"SELECT * FROM {name}"), key=repr)  # noqa: S608 -- our own tables
        for name in names
        if name not in MARKS
    }


def append(url: str, name: str) -> int:
    """Append an event; its number."""
    store = EventStore(url)
    with store.transaction() as tx:
        tx.append_events(
            [Event(event_id=name, kind="registration", model="m", version="1", occurred_at_us=1, body={"a": 1})]
        )
    found = store.by_id([name])[name].seq
    store.close()
    return found


def guarded(url: str) -> bool:
    """Whether the database itself refuses to change an event."""
    store = EventStore(url)
    try:
        for change in ("UPDATE event SET model = 'x'", "DELETE FROM event"):
            with pytest.raises(StoreError, match="append-only"), store._writing() as connection:
                connection.execute(text(change))
    finally:
        store.close()
    return True


def checked(url: str) -> None:
    """Raises what a worker that starts would be told."""
    store = EventStore(url)
    store.check()
    store.close()


@pytest.fixture
def filled(any_store_url: str) -> str:
    """A store of this version with rows in every table."""
    migrate.upgrade(any_store_url)
    store = EventStore(any_store_url, now_us=lambda: artefacts.START)
    artefacts.fill(store, b"{}", b"state")
    store.close()
    assert all(found for name, found in rows(any_store_url).items() if not name.startswith("v_"))
    return any_store_url


def test_every_step_down_and_up_keeps_what_its_tables_hold(filled: str) -> None:
    before, numbers = rows(filled), [append(filled, "first")]
    for step in [*reversed(STEPS[:-1]), *STEPS[1:]]:
        going_down = step < (migrate.current(filled) or "")
        assert (migrate.downgrade if going_down else migrate.upgrade)(filled, step) == step
        now = rows(filled)
        for name in before.keys() & now.keys() - {"event", "inspection"}:
            assert now[name] == before[name], f"{name} at revision {step}"
        assert all(row in now["event"] for row in before["event"])
        assert guarded(filled)
        numbers.append(append(filled, f"at {len(numbers)}"))
    assert now.keys() == before.keys()
    assert [one < other for one, other in pairwise(numbers)] == [True] * (2 * len(STEPS) - 2)
    assert now["inspection"] == [], "what a step down removes is gone, as the documentation says"
    assert migrate.differences(filled) == []


def test_what_fails_in_the_middle_has_changed_nothing(filled: str) -> None:
    migrate.downgrade(filled, FIRST)
    sql(filled, "CREATE TABLE inspection (of_somebody_else INTEGER)")
    before = rows(filled)
    with pytest.raises(StoreError, match="inspection"):
        migrate.upgrade(filled)
    assert migrate.current(filled) == FIRST
    assert rows(filled) == before
    assert guarded(filled)
    sql(filled, "DROP TABLE inspection")
    assert migrate.upgrade(filled) == migrate.head()


def test_the_first_migration_of_all_is_undone_with_those_that_follow(any_store_url: str) -> None:
    sql(any_store_url, "CREATE TABLE inspection (of_somebody_else INTEGER)")
    with pytest.raises(StoreError, match="inspection"):
        migrate.upgrade(any_store_url)
    assert migrate.current(any_store_url) is None
    assert rows(any_store_url) == {"inspection": []}


def test_a_step_down_that_fails_leaves_the_steps_before_it_undone(store_url: str) -> None:
    migrate.upgrade(store_url)
    sql(store_url, "CREATE VIEW of_somebody_else AS SELECT model FROM inspection")
    before = rows(store_url)
    with pytest.raises(StoreError, match="depend"):
        migrate.downgrade(store_url, FIRST)
    assert migrate.current(store_url) == migrate.head()
    assert rows(store_url) == before
    checked(store_url)


# -- under load ----------------------------------------------------------------------------------------------


@contextmanager
def writer(home: str, url: str, name: str, done: dict[str, int]) -> Iterator[None]:
    """A process of the previous version that writes until the block ends; `done` has how often it has written."""
    process = subprocess.Popen(
        [sys.executable, "-P", str(ROOT / "tests" / "store_writer.py"), url, name],
        env=environment(home), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    try:
        yield
    finally:
        said, _ = process.communicate("", timeout=60)
        assert process.returncode == 0
        done[name] = int(said)


def write_on(store: EventStore) -> None:
    """Wait until every writer has written since."""
    for name in WRITERS:
        before = store.windows(name, "1")
        while store.windows(name, "1") == before:
            time.sleep(0.01)


def test_migrating_while_the_previous_version_writes_loses_nothing(any_store_url: str, tmp_path: Path) -> None:
    url, done = any_store_url, dict[str, int]()
    home = unpacked(tmp_path / "previous")
    migrate.upgrade(url, OLDEST_TABLES)
    store = EventStore(url)
    with ExitStack() as stack:
        for name in WRITERS:
            stack.enter_context(writer(home, url, name, done))
        for _ in range(5):
            assert migrate.upgrade(url) == migrate.head()
            write_on(store)
            assert migrate.downgrade(url, OLDEST_TABLES) == OLDEST_TABLES
            write_on(store)
        assert migrate.upgrade(url) == migrate.head()
    store.check()
    for name, steps in done.items():
        with store.transaction() as tx:
            assert tx.load_states([(name, "1", "")])[name, "1", ""].body == b"x" * steps
        assert [window.n for window in store.windows(name, "1")] == [steps]
        assert store.claim(name, "profiles", 0).next_offset == steps
    total = sum(done.values())
    found = store.counts()
    assert {
        name: found[name] for name in ("event", "prediction", "label", "outbox", "applied_profile")
    } == dict.fromkeys(("event", "prediction", "label", "outbox", "applied_profile"), total)
    store.close()


def test_a_lock_that_does_not_come_is_given_up_and_asked_for_again(store_url: str) -> None:
    """Whoever queues behind the migration goes on; it comes through once the lock is free."""
    migrate.upgrade(store_url)
    engine = open_engine(store_url)
    with engine.connect() as reader:
        reader.execute(text("SELECT * FROM inspection"))  # a transaction that somebody forgot to end
        with pytest.raises(StoreUnreachable, match="lock"):
            migrate.downgrade(store_url, FIRST, patience_s=0)
        assert migrate.current(store_url) == migrate.head()
        migrating = threading.Thread(target=migrate.downgrade, args=(store_url, FIRST))
        migrating.start()
        store = EventStore(store_url)
        store.save_inspection("m", "1", b"{}")  # waits for no more than a try of the migration
        store.close()
        assert migrating.is_alive()
        reader.rollback()
    migrating.join(30)
    assert migrate.current(store_url) == FIRST
    engine.dispose()


def test_the_command_goes_back_when_told_twice(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"

    def said(*arguments: str, answer: str | None = None) -> Result:
        return CliRunner().invoke(main, ["--store", url, "migrate", *arguments], input=answer)

    assert said().exit_code == 0
    assert said("--back-to", OLDEST_TABLES, answer="n\n").exit_code == 1
    assert migrate.current(url) == migrate.head()
    assert f"is at revision {OLDEST_TABLES}" in said("--back-to", OLDEST_TABLES, answer="y\n").output
    refused = said("--back-to", "9999", "--yes")
    assert (refused.exit_code, migrate.current(url)) == (2, OLDEST_TABLES)
    assert "9999" in refused.output
    assert f"is at revision {migrate.head()}" in said().output


# -- who may use which tables ----------------------------------------------------------------------------------


def marked(url: str, revision: str, oldest: str | None) -> None:
    """Make the store look as a later version would leave it."""
    sql(url, f"UPDATE alembic_version SET version_num = '{revision}'")  # noqa: S608
    sql(url, "DELETE FROM compatibility")
    if oldest is not None:
        sql(url, f"INSERT INTO compatibility VALUES (1, '{oldest}')")  # noqa: S608


def test_every_migration_says_who_may_use_its_tables() -> None:
    assert all(step.isdecimal() and len(step) == 4 for step in STEPS), "they are compared as text"
    for step in STEPS[1:]:
        assert migrate.oldest_reader(step) <= step


def test_a_worker_starts_on_the_tables_of_the_previous_version(filled: str) -> None:
    migrate.downgrade(filled, OLDEST_TABLES)
    store = EventStore(filled)
    store.check()
    assert store.counts()["event"] > 0
    migrate.downgrade(filled, FIRST)
    with pytest.raises(StoreOutdated, match="bestbefore migrate"):
        store.check()
    store.close()


def test_a_worker_starts_on_later_tables_that_allow_it(filled: str) -> None:
    store = EventStore(filled)
    marked(filled, "0999", SCHEMA_REVISION)
    store.check()
    for oldest in ("0998", None):
        marked(filled, "0999", oldest)
        with pytest.raises(StoreOutdated, match="0999"):
            store.check()
    store.close()
