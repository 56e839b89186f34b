"""Three logins on a real Postgres: each may do what its commands need, and nothing else."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import ProgrammingError

from infra import migrate
from infra.cli import main
from infra.migrations import roles
from streams.errors import StoreError
from streams.event_store import EventStore
from streams.store_engine import parse_url
from streams.store_rows import Event, LabelRow, OutboxMessage, PredictionColumns, State, WindowCounts, WindowEstimate
from streams.store_schema import SCHEMA_REVISION, metadata

PASSWORD = "of-no-secret"  # noqa: S105 -- of a database that lives as long as a test
T0, HOUR = 1_795_000_000_000_000, 3_600_000_000
DENIED = "permission denied|must be owner"


class Server(NamedTuple):
    """An empty database, and how its administrator and others reach it."""

    admin: str

    @property
    def database(self) -> str:
        return str(parse_url(self.admin).database)

    @property
    def names(self) -> roles.Names:
        return roles.names_of(self.database)

    def run(self, *statements: str) -> None:
        """As the administrator."""
        run(self.admin, *statements)

    def login(self, name: str, *groups: str, rights: str = "") -> str:
        """The URL of a new user who is a member of these groups, and of nothing else."""
        user = f"{self.database}_{name}"
        self.run(f"CREATE ROLE {user} LOGIN {rights} PASSWORD '{PASSWORD}'")
        self.run(*(f"GRANT {roles.quoted(group)} TO {user}" for group in groups))
        url = parse_url(self.admin).set(username=user, password=PASSWORD)
        return url.render_as_string(hide_password=False)


def run(url: str, *statements: str) -> None:
    engine: Engine = create_engine(parse_url(url))
    try:
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))
    finally:
        engine.dispose()


def refused(url: str, statement: str) -> bool:
    try:
        run(url, statement)
    except ProgrammingError as error:
        return any(said in str(error.orig) for said in ("permission denied", "must be owner", "must be able to SET"))
    return False


@pytest.fixture
def server(store_url: str) -> Iterator[Server]:
    made = Server(store_url)
    yield made
    with create_engine(parse_url(store_url), isolation_level="AUTOCOMMIT").connect() as connection:
        found = connection.execute(text("SELECT rolname FROM pg_roles WHERE rolname ^@ :d"), {"d": made.database})
        for name in found.scalars().all():
            connection.execute(text(f"DROP OWNED BY {roles.quoted(name)}"))
            connection.execute(text(f"DROP ROLE {roles.quoted(name)}"))
        connection.engine.dispose()


def work(store: EventStore) -> None:
    """All that workers and `register` write."""
    store.check()
    store.register("digits", "3", "d1", b"{}")
    store.register("digits", "3", "d2", b"{}")
    store.save_inspection("digits", "3", b"{}")
    store.save_inspection("digits", "3", b"{}")
    claim = store.claim("g", "profiles", 0)
    window: dict[str, Any] = {
        "model": "digits",
        "version": "3",
        "segment": "",
        "window_start_us": T0,
        "window_end_us": T0 + HOUR,
    }
    for _ in range(2):
        with store.transaction() as tx:
            tx.advance("g", "profiles", 0, claim.epoch, 5)
            tx.new_profiles("g", ["p"])
            tx.load_states([("digits", "3", "")])
            tx.load_versions("digits")
            tx.append_events(
                [Event(event_id="e", kind="status", model="digits", version="3", occurred_at_us=T0, body={})]
            )
            tx.add_windows([WindowCounts(**window, n=1)])
            tx.set_estimates([WindowEstimate(**window, estimate=0.9)])
            tx.save_states({("digits", "3", ""): State(1, b"s")})
            tx.enqueue([OutboxMessage(partition=0, topic="status", key="k", headers={}, value=b"v")])
    store.rewind("g", "profiles", 0, claim.epoch, 0)
    store.keep_predictions(
        PredictionColumns(model=["digits"], version=["3"], inference_id=["i"], segment=[""], time_us=[T0])
    )
    row = LabelRow(inference_id="i", source="ground-truth", topic="labels", partition=0, offset=1, time_us=T0)
    assert store.add_labels([row]) == [True]
    assert store.release_labels([row]) == 1
    store.add_labels([msgspec.structs.replace(row, offset=2)])
    assert store.find_predictions(["i"])
    assert store.registrations()
    assert store.inspections()
    assert store.sent([m.seq for m in store.outbox([0])]) == 2
    assert sum(store.prune(T0 * 2).values()) >= 2
    assert store.latest_status()


def test_every_table_and_view_has_a_row_of_rights() -> None:
    assert set(roles.WRITER) == {*metadata.tables, "alembic_version"}
    assert set(roles.READER) <= {*roles.WRITER, *roles.VIEWS}


def test_each_login_may_do_its_work_and_nothing_else(server: Server) -> None:
    assert migrate.upgrade(server.admin) == SCHEMA_REVISION
    assert migrate.role_note(server.admin) is None
    writer = server.login("worker", server.names.writer)
    reader = server.login("grafana", server.names.reader)
    nobody = server.login("nobody")

    store = EventStore(writer)
    work(store)
    store.close()
    changes = [
        "CREATE TABLE mine (x int)", "DROP TABLE outbox", "ALTER TABLE event ADD COLUMN x int",
        "UPDATE event SET model = 'x'", "DELETE FROM event", "TRUNCATE event", "TRUNCATE outbox",
        "DELETE FROM registration", "DELETE FROM estimator_state", "UPDATE prediction SET label = '1'",
        "UPDATE alembic_version SET version_num = '0001'", "ALTER TABLE event DISABLE TRIGGER event_append_only",
        "CREATE OR REPLACE FUNCTION event_refuse_change() RETURNS trigger LANGUAGE sql AS ''",
        "CREATE OR REPLACE VIEW v_status AS SELECT 1", "SELECT setval('event_seq_seq', 1)",
        f"SET ROLE {roles.quoted(server.names.migrator)}", "CREATE ROLE another",
    ]  # fmt: skip
    assert [c for c in changes if not refused(writer, c)] == []

    found = EventStore(reader)
    assert [e.event_id for e in found.latest_status()] == ["e"]
    assert found.events(kind="registration")
    assert found.triggers() == []
    found.check()
    with pytest.raises(StoreError, match="permission denied"):
        found.claim("g", "profiles", 0)
    found.close()
    for view in roles.VIEWS:
        run(reader, f"TABLE {view}")
    tables = sorted(set(metadata.tables) - {"event", "compatibility"})
    forbidden = (*(f"TABLE {t}" for t in tables), *("INSERT INTO " + t + " DEFAULT VALUES" for t in tables))
    wanted = [*changes, *forbidden]
    assert [c for c in wanted if not refused(reader, c)] == []
    assert [t for t in (*metadata.tables, *roles.VIEWS) if not refused(nobody, f"TABLE {t}")] == []
    for command in (["status", "--model", "other"], ["events"], ["triggers"]):
        told = CliRunner().invoke(main, ["--store", reader, *command, "--format", "json"])
        assert told.exit_code == 0, told.output


def test_a_migrator_changes_tables_and_takes_back_what_was_granted_by_hand(server: Server) -> None:
    names = server.names
    made = [f"CREATE ROLE {roles.quoted(name)} NOLOGIN" for name in names]
    server.run(*made, f"GRANT USAGE, CREATE ON SCHEMA public TO {roles.quoted(names.migrator)}")
    first, second = (server.login(who, names.migrator) for who in ("deploy1", "deploy2"))
    assert migrate.upgrade(first, "0002") == "0002"
    assert migrate.upgrade(second) == SCHEMA_REVISION, "what one member has made another may change"
    assert migrate.role_note(second) is None
    server.run(f"GRANT ALL ON event, outbox TO {roles.quoted(names.reader)}")
    reader, writer = server.login("grafana", names.reader), server.login("worker", names.writer)
    assert not refused(reader, "SELECT * FROM outbox")
    migrate.upgrade(first)
    assert refused(reader, "SELECT * FROM outbox")
    store = EventStore(writer)
    work(store)
    store.close()
    # What a later migration makes can be used by a worker, and read by nobody else, before it has rights of its own.
    run(first, f"SET ROLE {roles.quoted(names.migrator)}", "CREATE TABLE later (x int)")
    assert not refused(writer, "INSERT INTO later VALUES (1)")
    assert refused(writer, "DELETE FROM later")
    assert refused(reader, "SELECT * FROM later")
    assert migrate.downgrade(second, "0002") == "0002"
    assert refused(reader, "SELECT * FROM v_status")
    assert migrate.upgrade(first) == SCHEMA_REVISION
    assert not refused(reader, "SELECT * FROM v_status")
    assert refused(first, "CREATE ROLE another")


def test_a_user_who_owned_everything_goes_on_as_before(server: Server) -> None:
    """A store of an earlier release with one login, whether that may create roles or not."""
    for name, rights, made in (("plain", "", False), ("able", "CREATEROLE", True)):
        owner = server.login(name, rights=rights)
        server.run(f"GRANT CREATE ON SCHEMA public TO {parse_url(owner).username}")
        migrate.upgrade(owner)
        note = migrate.role_note(owner)
        assert (note is None) == made
        assert made or (note and f'CREATE ROLE "{server.names.writer}" NOLOGIN;' in note)
        store = EventStore(owner)
        work(store)
        store.close()
        assert migrate.upgrade(owner) == SCHEMA_REVISION
        if not made:
            told = CliRunner().invoke(main, ["--store", owner, "migrate"])
            assert told.exit_code == 0
            assert "administrator" in told.output
            migrate.downgrade(owner)
            run(owner, "DROP TABLE alembic_version")


def test_long_and_odd_names_of_databases() -> None:
    names = [*roles.names_of("ü" * 40), *roles.names_of("ü" * 41), *roles.names_of('a"b%c')]
    assert len(set(names)) == 9
    assert max(len(name.encode()) for name in names) <= roles.MOST_BYTES
    assert roles.quoted('a"b') == '"a""b"'
