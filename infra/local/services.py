"""The embedded broker and store as one thing to start, find again and stop: `bestbefore up`, `down`, `demo`, tests.

The folder has `bestbefore.toml` with the two addresses, where every command finds them.
"""

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

import msgspec
from sqlalchemy import URL

from infra.local import daemon
from infra.local.jars import Cache
from infra.local.kafka import Broker
from infra.local.machine import HOST, locked, need_room
from infra.local.postgres import Postgres
from streams.errors import ServiceError

Store = Literal["postgres", "sqlite"]

_LOCK = "services.lock"
_ROOM = 1_000_000_000


class Services(msgspec.Struct, frozen=True):
    """Where the services are: `broker` as "HOST:PORT", `store` as SQLAlchemy URL (with its password)."""

    broker: str
    store: str


def up(
    folder: Path,
    *,
    store: Store = "postgres",
    kafka_port: int | None = None,
    postgres_port: int | None = None,
    report: daemon.Report = daemon.silent,
    room: int = _ROOM,
    cache: Cache | None = None,
) -> Services:
    """Start what does not run yet, wait until it answers, and write `bestbefore.toml`. What runs is kept.

    If anything fails, what this call started is stopped again.

    Args:
        folder: where data, logs and addresses are kept; made if missing.
        store: `postgres`, or `sqlite` for a file in the folder.
        kafka_port: port of the broker; by default the one of the last start, or a free one.
        postgres_port: likewise.
        report: told about progress, one line at a time.
        room: bytes that must be free on the folder's disk.
        cache: where Kafka's jars come from; the user's Maven cache by default.

    Raises:
        ServiceError: a port is taken, the disk is full, the first start has no network, or a service does not start.
    """
    folder = _made(folder)
    with locked(folder / _LOCK, report=report), ExitStack() as undo:
        need_room(folder, room)
        broker = Broker(folder, port=kafka_port, report=report, cache=cache)
        if broker.process() is None:
            undo.callback(broker.stop)
        broker.launch()
        # Postgres starts while the broker does.
        url = _sqlite_url(folder)
        if store == "postgres":
            url = _start_postgres(Postgres(folder, port=postgres_port, report=report), undo)
        broker.wait()
        services = Services(broker=broker.address, store=url)
        _write(folder, services)
        undo.pop_all()
    return services


def down(folder: Path, *, report: daemon.Report = daemon.silent) -> list[str]:
    """Stop what runs in `folder`, from any process; data and addresses are kept for the next `up`.

    Returns:
        What was stopped, as lines for people; empty if nothing ran.

    Raises:
        ServiceError: a service could not be stopped.
    """
    folder = folder.resolve()
    if not folder.exists():
        return []
    stopped = []
    with locked(folder / _LOCK, report=report):
        broker, postgres = Broker(folder), Postgres(folder)
        if broker.stop():
            stopped.append(f"stopped Apache Kafka on {broker.address}")
        if postgres.stop():
            stopped.append(f"stopped Postgres on {HOST}:{postgres.port}")
    return stopped


def running(folder: Path) -> Services | None:
    """The services of `folder` if all of them run and answer, else None."""
    folder = folder.resolve()
    try:
        known = tomllib.loads((folder / "bestbefore.toml").read_text())
        services = Services(broker=known["broker"], store=known["store"])
    except (FileNotFoundError, tomllib.TOMLDecodeError, KeyError):
        return None
    if not Broker(folder).healthy():
        return None
    return services if services.store == _sqlite_url(folder) or Postgres(folder).healthy() else None


@contextmanager
def ephemeral(
    folder: Path, *, store: Store = "postgres", report: daemon.Report = daemon.silent, room: int = _ROOM
) -> Iterator[Services]:
    """Services for the time of a `with` block: stopped at its end, on an exception, on Ctrl-C, and if we are killed.

    The files stay; removing `folder` is the caller's business.

    Raises:
        ServiceError: see `up`; or services already run in `folder`.
    """
    folder = _made(folder)
    if Broker(folder).process() or Postgres(folder).process():
        raise ServiceError(f"services already run in {folder}; stop them with `bestbefore down`, or use another folder")
    with _leash(folder) as leash:
        try:
            yield up(folder, store=store, report=report, room=room)
        finally:
            down(folder)
            leash.communicate(b"done")


@contextmanager
def _leash(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that stops the services of `folder` once the pipe from us closes with nothing said, however we end."""
    program = (
        "import pathlib, sys\n"
        "if not sys.stdin.buffer.read():\n"
        "    sys.path.insert(0, sys.argv[1])\n"
        "    from infra.local.services import down\n"
        "    down(pathlib.Path(sys.argv[2]))"
    )
    argv = [sys.executable, "-c", program, str(Path(__file__).parents[2]), str(folder)]
    with (
        (folder / "leash.log").open("ab") as log,
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True) as leash,  # noqa: S603
    ):
        yield leash


def _start_postgres(postgres: Postgres, undo: ExitStack) -> str:
    if postgres.process() is None:
        undo.callback(postgres.stop)
    postgres.start()
    return postgres.url


def _made(folder: Path) -> Path:
    folder = folder.resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ServiceError(f"cannot make the folder {folder}: {error}; choose another one") from error
    return folder


def _sqlite_url(folder: Path) -> str:
    return URL.create("sqlite", database=str(folder / "bestbefore.db")).render_as_string()


def _write(folder: Path, services: Services) -> None:
    # JSON strings are TOML strings. Only the owner may read it, for the store's URL has the password.
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in msgspec.to_builtins(services).items()]
    fresh = folder / "bestbefore.toml.new"
    fresh.touch(mode=0o600)
    fresh.write_text("".join(lines))
    fresh.replace(folder / "bestbefore.toml")
