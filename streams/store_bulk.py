"""Many rows in one round trip: arrays through `unnest` on Postgres, prepared single rows on SQLite.

`executemany` of Postgres drivers goes row by row or compiles thousands of parameters; one statement with an array
per column stays cached and tells which rows were new. SQLite runs in this process and has no round trips to save.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from sqlalchemy import JSON, BigInteger, Boolean, Connection, CursorResult, Double, Integer, LargeBinary, Row, Table
from sqlalchemy.types import TypeEngine

from streams.errors import StoreError
from streams.store_rows import Column
from streams.store_schema import IDENTIFIER

_ARRAYS: tuple[tuple[type[TypeEngine[Any]], str], ...] = (
    (BigInteger, "bigint"),
    (Integer, "integer"),
    (Double, "double precision"),
    (Boolean, "boolean"),
    (LargeBinary, "bytea"),
    (JSON, "jsonb"),
)

# Postgres stores no NUL character. In free text it is replaced: what a client wrote must not stop a partition. In
# identifiers it is refused, because two of them could become one.
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


def _element(type_: TypeEngine[Any]) -> str:
    return next((name for kind, name in _ARRAYS if isinstance(type_, kind)), "text")


def is_postgres(connection: Connection) -> bool:
    """Whether the connection is to Postgres rather than SQLite."""
    return connection.dialect.name == "postgresql"


class Insert:
    """`INSERT` of whole columns into `table`; `conflict` and `returning` are SQL both databases understand."""

    def __init__(self, table: Table, columns: Sequence[str], conflict: str, returning: str = "") -> None:
        self._elements = [_element(table.c[name].type) for name in columns]
        self._free = [table.c[name].type is not IDENTIFIER for name in columns]
        names = ", ".join(f'"{name}"' for name in columns)
        arrays = ", ".join(f"%(c{i})b::{element}[]" for i, element in enumerate(self._elements))
        tail = f"ON CONFLICT {conflict}" + (f" RETURNING {returning}" if returning else "")
        into = f"INSERT INTO {table.name} ({names})"
        self._postgres = f"{into} SELECT * FROM unnest({arrays}) {tail}"  # noqa: S608 -- names of our own tables
        self._sqlite = f"{into} VALUES ({', '.join('?' * len(columns))}) {tail}"

    def count(self, connection: Connection, columns: Sequence[Column]) -> int:
        """Inserts and returns how many rows were written."""
        plain = self._plain(columns)
        if is_postgres(connection):
            return _execute(connection, self._postgres, _named(plain)).rowcount
        rows = list(zip(*plain, strict=True))
        return _execute(connection, self._sqlite, rows).rowcount if rows else 0

    def rows(self, connection: Connection, columns: Sequence[Column]) -> list[Row[*tuple[Any, ...]]]:
        """Inserts and returns the `returning` columns of the rows that were written."""
        plain = self._plain(columns)
        if is_postgres(connection):
            return list(_execute(connection, self._postgres, _named(plain)))
        written: list[Row[*tuple[Any, ...]]] = []
        for row in zip(*plain, strict=True):
            written.extend(_execute(connection, self._sqlite, row))
        return written

    def _plain(self, columns: Sequence[Column]) -> list[list[Any]]:
        plain = [_values(*column) for column in zip(columns, self._elements, self._free, strict=True)]
        lengths = {len(column) for column in plain}
        if len(lengths) > 1:
            raise ValueError(f"columns of unequal length: {sorted(lengths)}")
        return plain


def _execute(connection: Connection, statement: str, values: Any) -> CursorResult[*tuple[Any, ...]]:
    try:
        return connection.exec_driver_sql(statement, values)
    except (OverflowError, UnicodeEncodeError) as error:
        # The driver's, not the database's: the value never left this process.
        raise StoreError(f"{statement.split(' (', maxsplit=1)[0]}: a value does not fit its column: {error}") from error


def _values(column: Column, element: str, free: bool) -> list[Any]:
    values: list[Any] = column.tolist() if isinstance(column, np.ndarray) else list(column)
    if element == "double precision":
        # The driver takes no list of mixed int and float, and NaN means "none" in columns from numpy.
        return [None if x is None or x != x else float(x) for x in values]  # noqa: PLR0124
    if element in ("bigint", "integer"):
        # SQLite would keep a numpy integer as its raw bytes.
        return [None if x is None else int(x) for x in values]
    if element == "jsonb":
        texts = [None if x is None else msgspec.json.encode(x).decode() for x in values]
        return [text if text is None or r"\u0000" not in text else _NUL.sub(r"\1\\ufffd", text) for text in texts]
    if element == "text" and free:
        return [x if x is None or "\0" not in x else x.replace("\0", "\ufffd") for x in values]
    return values


def _named(columns: Sequence[Sequence[Any]]) -> dict[str, Any]:
    return {f"c{i}": column for i, column in enumerate(columns)}


class Lookup:
    """The rows of `table` whose `keys` (text columns) are among those asked for; selects `wanted` columns."""

    def __init__(self, table: Table, keys: Sequence[str], wanted: Sequence[str]) -> None:
        columns = ", ".join(f't."{name}"' for name in wanted)
        names = ", ".join(f'"{name}"' for name in keys)
        arrays = ", ".join(f"%(c{i})b::text[]" for i in range(len(keys)))
        values = ", ".join(f"json_extract(value, '$[{i}]') AS \"{name}\"" for i, name in enumerate(keys))
        on = " AND ".join(f't."{name}" = k."{name}"' for name in keys)
        head, tail = f"SELECT {columns} FROM", f"{table.name} AS t ON {on}"
        self._postgres = f"{head} unnest({arrays}) AS k({names}) JOIN {tail}"
        self._sqlite = f"{head} (SELECT {values} FROM json_each(?)) AS k CROSS JOIN {tail}"  # noqa: S608 -- our own table

    def rows(self, connection: Connection, keys: Sequence[Sequence[str]]) -> list[Row[*tuple[Any, ...]]]:
        """The rows with these keys, in no particular order."""
        if not keys:
            return []
        if is_postgres(connection):
            columns = [list(column) for column in zip(*keys, strict=True)]
            return list(_execute(connection, self._postgres, _named(columns)))
        return list(_execute(connection, self._sqlite, (json.dumps([list(key) for key in keys]),)))
