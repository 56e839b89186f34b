"""How fast are predictions kept? `EventStore.keep_predictions` beside two ways to write the same rows.

    python benchmarks/store.py [--rows 1000] [--batches 60] [--url postgresql://…]

Without `--url` a Postgres of its own is started in a temporary folder. The rivals write the same columns into the same
indexed table over psycopg, skipping known ids as ours does: `executemany` (the driver's pipeline), and `COPY` into a
temporary table followed by one `INSERT … SELECT`. The ways take turns, batch by batch, each batch one transaction;
every batch has new random ids, so that the index grows alike for all. Printed are rows per second and ratios to ours.
"""

import argparse
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from sqlalchemy import create_engine, make_url, text

from infra import migrate
from infra.local.postgres import Postgres
from streams.event_store import EventStore
from streams.store_engine import parse_url
from streams.store_rows import Prediction, PredictionColumns

NAMES = Prediction.__struct_fields__
T0 = 1_795_000_000_000_000
INTO = f"prediction ({', '.join(NAMES)})"

Writer = Callable[[PredictionColumns], object]


def batches(rows: int, seed: int = 7) -> Iterator[PredictionColumns]:
    """Batches of predictions of one model with random ids, in time order."""
    random = np.random.default_rng(seed)
    start = T0
    while True:
        yield PredictionColumns(
            model=["digits"] * rows,
            version=["3"] * rows,
            inference_id=[f"r-{value:016x}" for value in random.integers(0, 2**63, rows).tolist()],
            segment=["site=A"] * rows,
            time_us=np.arange(start, start + rows),
            label=["7"] * rows,
            confidence=random.random(rows),
            propensity=np.full(rows, 0.05),
        )
        start += rows


def tuples(columns: PredictionColumns) -> list[tuple[Any, ...]]:
    """The rows as the rivals want them."""
    size = len(columns.inference_id)
    values = [getattr(columns, name) for name in NAMES]
    lists = [[None] * size if v is None else v.tolist() if isinstance(v, np.ndarray) else v for v in values]
    return list(zip(*lists, strict=True))


def with_executemany(connection: psycopg.Connection) -> Writer:
    """One statement per row, pipelined by the driver."""
    statement = f"INSERT INTO {INTO} VALUES ({', '.join(['%s'] * len(NAMES))}) ON CONFLICT DO NOTHING"  # noqa: S608

    def write(columns: PredictionColumns) -> None:
        with connection.transaction(), connection.cursor() as cursor:
            cursor.executemany(statement, tuples(columns))

    return write


def with_copy(connection: psycopg.Connection) -> Writer:
    """COPY into a temporary table, then one statement that skips what is known."""
    connection.execute("CREATE TEMP TABLE staged (LIKE prediction) ON COMMIT DELETE ROWS")
    connection.commit()

    def write(columns: PredictionColumns) -> None:
        with connection.transaction(), connection.cursor() as cursor:
            with cursor.copy(f"COPY staged ({', '.join(NAMES)}) FROM STDIN") as copy:
                for row in tuples(columns):
                    copy.write_row(row)
            cursor.execute(f"INSERT INTO {INTO} SELECT {', '.join(NAMES)} FROM staged ON CONFLICT DO NOTHING")  # noqa: S608

    return write


def measure(writers: dict[str, Writer], rows: int, count: int) -> dict[str, float]:
    """Rows per second of every writer, taking turns; the first two rounds are not counted."""
    spent = dict.fromkeys(writers, 0.0)
    source = batches(rows)
    for turn in range(count + 2):
        for name, write in writers.items():
            batch = next(source)
            started = time.perf_counter()
            write(batch)
            if turn >= 2:
                spent[name] += time.perf_counter() - started
    return {name: rows * count / seconds for name, seconds in spent.items()}


@contextmanager
def server(url: str | None) -> Iterator[str]:
    """The URL given, or one of a Postgres that lives as long as the benchmark."""
    if url is not None:
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="bestbefore-benchmark-") as folder:
        postgres = Postgres(Path(folder))
        postgres.start()
        try:
            yield postgres.url
        finally:
            postgres.stop()


@contextmanager
def database(url: str) -> Iterator[str]:
    """A database of our own at the server of `url`, dropped at the end."""
    admin = create_engine(parse_url(url), isolation_level="AUTOCOMMIT")
    name = f"benchmark_{uuid.uuid4().hex[:12]}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield parse_url(url).set(database=name).render_as_string(hide_password=False)
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


def compare(url: str, rows: int, count: int) -> dict[str, float]:
    """Rows per second of ours and the rivals, in a database that must be empty."""
    migrate.upgrade(url)
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    store = EventStore(url)
    with psycopg.connect(plain) as many, psycopg.connect(plain) as copy:
        writers: dict[str, Writer] = {
            "keep_predictions": store.keep_predictions,
            "executemany": with_executemany(many),
            "COPY and INSERT": with_copy(copy),
        }
        rates = measure(writers, rows, count)
        assert store.counts()["prediction"] == 3 * rows * (count + 2)
    store.close()
    return rates


def compare_sqlite(rows: int, count: int) -> float:
    """Rows per second of ours on SQLite."""
    with tempfile.TemporaryDirectory(prefix="bestbefore-benchmark-") as folder:
        url = f"sqlite:///{folder}/store.db"
        migrate.upgrade(url)
        store = EventStore(url)
        rate = measure({"sqlite": store.keep_predictions}, rows, count)["sqlite"]
        store.close()
    return rate


def main() -> None:
    """Print rows per second of each way to insert."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000, help="rows per batch (default 1000)")
    parser.add_argument("--batches", type=int, default=60, help="batches per way (default 60)")
    parser.add_argument("--url", help="a Postgres that may create databases; default: one of its own")
    args = parser.parse_args()
    with server(args.url) as at, database(at) as url:
        rates = compare(url, args.rows, args.batches)
    rates["keep_predictions, SQLite"] = compare_sqlite(args.rows, args.batches)
    ours = rates["keep_predictions"]
    for name, rate in rates.items():
        print(f"{name:26} {rate:>9,.0f} rows/s   ours is {ours / rate:.2f} times as fast")


if __name__ == "__main__":
    main()
