"""Who may do what in a Postgres store: three group roles without login, of which logins are made members.

| role | for | may |
|---|---|---|
| `<database>_writer` | workers, `register`, `lifecycle` | read and write rows; `event` only append |
| `<database>_reader` | `status`, `events`, `triggers`, dashboards | read the views and `event` |
| `<database>_migrator` | `migrate` | own the tables, and so change them |

Roles belong to a server, not to a database, so their names carry that of the database: who may write into one store of
a server may not write into the next. All functions here may run any number of times; they do what the connected user
is allowed to do, and `missing` tells what is left for an administrator. Nothing here is SECURITY DEFINER: views read
with the rights of their owner, and no function of ours can be called. On SQLite, whose rights are those of its file,
nothing is done.
"""

import hashlib
from typing import NamedTuple

from sqlalchemy import Connection

READ, APPEND, UPSERT, EXPIRE = "SELECT", "SELECT, INSERT", "SELECT, INSERT, UPDATE", "SELECT, INSERT, DELETE"
WRITER = {
    "registration": UPSERT,
    "inspection": UPSERT,
    "event": APPEND,
    "window_total": UPSERT,
    "estimator_state": UPSERT,
    "applied_offset": UPSERT,
    "applied_profile": EXPIRE,
    "prediction": EXPIRE,
    "label": EXPIRE,
    "outbox": EXPIRE,
    "alembic_version": READ,
    "compatibility": READ,
}
VIEWS = ("v_status", "v_windows", "v_mismatches", "v_open_mismatches", "v_triggers")
# `status`, `events` and `triggers` read `event` itself: it holds what was published, and nothing that was not.
READER = ("event", "alembic_version", "compatibility", *VIEWS)
MOST_BYTES = 63  # of a name in Postgres, which cuts off what is longer


class Names(NamedTuple):
    """The three roles of one database."""

    writer: str
    reader: str
    migrator: str


def names_of(database: str) -> Names:
    """The roles of a database; a long name is cut and told apart by a hash, because Postgres would cut it silently.

    >>> names_of("bestbefore").writer
    'bestbefore_writer'
    """
    stem, longest = database, MOST_BYTES - len("_migrator")
    if len(stem.encode()) > longest:
        mark = hashlib.sha256(database.encode()).hexdigest()[:8]
        stem = f"{stem.encode()[: longest - 9].decode('utf-8', 'ignore')}_{mark}"
    return Names(*(f"{stem}_{role}" for role in Names._fields))


def apply(connection: Connection) -> None:
    """Make the roles where that is allowed, and give those that exist exactly the rights above."""
    if connection.dialect.name != "postgresql":
        return
    names = _named(connection)
    _create(connection, names)
    if set(names) <= _existing(connection, names):
        _hand_over(connection, names.migrator)
        _grant(connection, names)


def revoke(connection: Connection) -> None:
    """Take all rights away again. The roles stay: logins are members of them, and they may serve a later upgrade."""
    if connection.dialect.name != "postgresql":
        return
    names = _named(connection)
    if set(names) <= _existing(connection, names):
        schema, (writer, reader, migrator) = _schema(connection), map(quoted, names)
        _run(connection, f"REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {writer}, {reader}")
        _by_default(connection, names, f"REVOKE ALL ON TABLES FROM {writer}")
        if _may(connection, "schema", "USAGE"):
            _run(connection, f"REVOKE ALL ON SCHEMA {schema} FROM {writer}, {reader}, {migrator}")


def missing(connection: Connection) -> Names | None:
    """The roles, where at least one of them does not exist and could not be made; else None."""
    if connection.dialect.name != "postgresql":
        return None
    names = _named(connection)
    return None if set(names) <= _existing(connection, names) else names


def become_migrator(connection: Connection) -> None:
    """Act as the migrator role for this transaction, so that what one member makes another may change.

    Only a member that is no superuser does, and only where the tables are the role's, or none are there yet.
    """
    migrator = _named(connection).migrator
    able = "SET" if _version(connection) >= 160000 else "MEMBER"
    ready = connection.exec_driver_sql(
        "SELECT pg_has_role(current_user, r.oid, %(able)s) AND NOT u.rolsuper"
        " AND has_schema_privilege(r.oid, current_schema(), 'CREATE')"
        " AND coalesce((SELECT relowner = r.oid FROM pg_class WHERE oid = to_regclass('alembic_version')), true)"
        " FROM pg_roles r, pg_roles u WHERE r.rolname = %(role)s AND u.rolname = current_user",
        {"role": migrator, "able": able},
    ).scalar()
    if ready:
        _run(connection, f"SET LOCAL ROLE {quoted(migrator)}")


def for_administrator(names: Names) -> str:
    """The statements that somebody who may create roles must run once; then `bestbefore migrate` does the rest."""
    made = "\n".join(f"  CREATE ROLE {quoted(name)} NOLOGIN;" for name in names)
    return (
        "this database user may not create roles, so everybody who connects is still the owner of all tables.\n"
        f"For logins with fewer rights let an administrator run, in this database:\n{made}\n"
        f"  GRANT USAGE, CREATE ON SCHEMA public TO {quoted(names.migrator)};\n"
        f"  GRANT {quoted(names.migrator)} TO <the user that migrates>;\n"
        "and then `bestbefore migrate` again; docs/operations.md has the rest."
    )


def quoted(name: str) -> str:
    """A name as an SQL identifier, whatever stands in it."""
    return '"' + name.replace('"', '""') + '"'


def _run(connection: Connection, statement: str) -> None:
    connection.exec_driver_sql(statement.replace("%", "%%"))  # the driver looks for parameters


def _named(connection: Connection) -> Names:
    return names_of(str(connection.exec_driver_sql("SELECT current_database()").scalar_one()))


def _schema(connection: Connection) -> str:
    return quoted(str(connection.exec_driver_sql("SELECT current_schema()").scalar_one()))


def _version(connection: Connection) -> int:
    return int(connection.exec_driver_sql("SELECT current_setting('server_version_num')").scalar_one())


def _existing(connection: Connection, names: Names) -> set[str]:
    query = "SELECT rolname FROM pg_roles WHERE rolname = ANY(%(names)s)"
    return {row[0] for row in connection.exec_driver_sql(query, {"names": list(names)})}


def _create(connection: Connection, names: Names) -> None:
    rights = connection.exec_driver_sql("SELECT rolsuper, rolcreaterole FROM pg_roles WHERE rolname = current_user")
    is_super, may_create = rights.one()
    absent = [name for name in names if name not in _existing(connection, names)]
    if not (is_super or may_create):
        return
    for name in absent:
        _run(connection, f"CREATE ROLE {quoted(name)} NOLOGIN")
    if names.migrator in absent and not is_super:
        # The tables become this role's: who has made them so far goes on being able to.
        _run(connection, f"GRANT {quoted(names.migrator)} TO CURRENT_USER")


def _may(connection: Connection, kind: str, privilege: str) -> bool:
    """Whether the user may hand a privilege on the schema or the database on to others."""
    asked = {"schema": "has_schema_privilege(current_schema(), %(p)s)",
             "database": "has_database_privilege(current_database(), %(p)s)"}[kind]  # fmt: skip
    found = connection.exec_driver_sql(f"SELECT {asked}", {"p": f"{privilege} WITH GRANT OPTION"})
    return bool(found.scalar_one())


def _hand_over(connection: Connection, migrator: str) -> None:
    """Give the tables, views and the guard of `event` to the migrator, where the user may."""
    if _may(connection, "schema", "CREATE"):
        _run(connection, f"GRANT USAGE, CREATE ON SCHEMA {_schema(connection)} TO {quoted(migrator)}")
    able = "SET" if _version(connection) >= 160000 else "MEMBER"
    query = (
        "SELECT CASE c.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, c.relname FROM pg_class c, pg_roles r"
        " WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())"
        " AND c.relname = ANY(%(ours)s) AND r.rolname = %(role)s AND c.relowner <> r.oid"
        " AND pg_has_role(current_user, r.oid, %(able)s) AND pg_has_role(current_user, c.relowner, 'USAGE')"
        " AND has_schema_privilege(r.oid, current_schema(), 'CREATE')"
    )
    values = {"ours": [*WRITER, *VIEWS], "role": migrator, "able": able}
    relations = connection.exec_driver_sql(query, values).all()
    changes = [f"ALTER {kind} {quoted(name)} OWNER TO {quoted(migrator)}" for kind, name in relations]
    if any(name == "event" for _, name in relations):
        changes.append(f"ALTER FUNCTION event_refuse_change() OWNER TO {quoted(migrator)}")
    for change in changes:
        _run(connection, change)


def _grant(connection: Connection, names: Names) -> None:
    """Exactly the rights of the tables above: what was granted by hand is taken back."""
    writer, reader, migrator = map(quoted, names)
    schema = _schema(connection)
    known = connection.exec_driver_sql(
        "SELECT relname FROM pg_class WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname ="
        " current_schema()) AND relname = ANY(%(ours)s) AND pg_has_role(current_user, relowner, 'USAGE')",
        {"ours": [*WRITER, *VIEWS]},
    )
    there = {row[0] for row in known}
    if there:
        listed = ", ".join(map(quoted, sorted(there)))
        _run(connection, f"REVOKE ALL ON {listed} FROM {writer}, {reader}")
    rights = {**WRITER, **dict.fromkeys(VIEWS, READ)}
    for privileges in sorted(set(rights.values())):
        tables = [quoted(name) for name, wanted in rights.items() if wanted == privileges and name in there]
        if tables:
            _run(connection, f"GRANT {privileges} ON {', '.join(tables)} TO {writer}")
    readable = [quoted(name) for name in READER if name in there]
    if readable:
        _run(connection, f"GRANT SELECT ON {', '.join(readable)} TO {reader}")
    _by_default(connection, names, f"GRANT SELECT, INSERT ON TABLES TO {writer}")
    if _may(connection, "schema", "USAGE"):
        _run(connection, f"GRANT USAGE ON SCHEMA {schema} TO {writer}, {reader}, {migrator}")
    if _may(connection, "database", "CONNECT"):
        database = quoted(str(connection.exec_driver_sql("SELECT current_database()").scalar_one()))
        _run(connection, f"GRANT CONNECT ON DATABASE {database} TO {writer}, {reader}, {migrator}")


def _by_default(connection: Connection, names: Names, rule: str) -> None:
    """What holds for tables that a later migration makes, until `apply` gives them their own."""
    query = "SELECT pg_has_role(current_user, %(role)s, 'USAGE')"
    if connection.exec_driver_sql(query, {"role": names.migrator}).scalar_one():
        migrator = quoted(names.migrator)
        _run(connection, f"ALTER DEFAULT PRIVILEGES FOR ROLE {migrator} IN SCHEMA {_schema(connection)} {rule}")
