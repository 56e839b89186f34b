"""The embedded services against real processes: started, found again, crashed, stopped, refused."""

import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psutil  # type: ignore[import-untyped]
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import NewTopic
from sqlalchemy import create_engine, text

from infra.local import daemon
from infra.local.jars import Cache, kafka_jars
from infra.local.kafka import Broker
from infra.local.machine import HOST, free_port, is_open, locked
from infra.local.postgres import Postgres
from infra.local.services import Services, down, ephemeral, running, up
from streams.errors import ServiceError

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with an awkward name; its services are stopped and it is removed, whatever the test did."""
    outer = Path(tempfile.mkdtemp(prefix="bestbefore-local-"))
    made = outer / 'an "odd", näme'
    made.mkdir()
    try:
        yield made
    finally:
        down(made)
        shutil.rmtree(outer)


@contextmanager
def another_program() -> Iterator[psutil.Process]:
    """A live process that is none of ours."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield psutil.Process(process.pid)


@contextmanager
def listener() -> Iterator[int]:
    """A port that another program listens on."""
    with socket.create_server((HOST, free_port())) as server:
        yield server.getsockname()[1]


def produce(address: str, topic: str, *values: bytes) -> None:
    admin = KafkaAdminClient(bootstrap_servers=address)
    if topic not in admin.list_topics():
        admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    admin.close()
    producer = KafkaProducer(bootstrap_servers=address, acks="all")
    for value in values:
        producer.send(topic, value).get(timeout=20)
    producer.close()


def consume(address: str, topic: str, count: int) -> list[bytes]:
    consumer = KafkaConsumer(topic, bootstrap_servers=address, auto_offset_reset="earliest", consumer_timeout_ms=20_000)
    values = [record.value for _, record in zip(range(count), consumer, strict=False)]
    consumer.close()
    return values


def execute(url: str, statement: str) -> list[tuple[object, ...]]:
    engine = create_engine(url)
    with engine.begin() as connection:
        result = connection.execute(text(statement))
        rows = [tuple(row) for row in result] if result.returns_rows else []
    engine.dispose()
    return rows


def pids_of(folder: Path) -> list[int]:
    return [process.pid for server in (Broker(folder), Postgres(folder)) if (process := server.process())]


def python(program: str, *arguments: str) -> str:
    """What another Python process printed."""
    argv = [sys.executable, "-c", program, *arguments]
    return subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, text=True, timeout=120).stdout


def test_up_survives_its_process_and_down_works_from_another(folder: Path) -> None:
    """The whole life: another process starts, this one uses, restarts and crashes them, a third one stops them."""
    python("import sys, pathlib; from infra.local.services import up; up(pathlib.Path(sys.argv[1]))", str(folder))
    services = running(folder)
    assert services is not None
    assert (folder / "bestbefore.toml").read_text() == f'broker = "{services.broker}"\nstore = "{services.store}"\n'
    assert (folder / "bestbefore.toml").stat().st_mode & 0o077 == 0
    assert services.store.startswith("postgresql+psycopg://postgres:")
    pids = pids_of(folder)
    assert up(folder) == services
    assert pids_of(folder) == pids

    produce(services.broker, "kept", b"1", b"2")
    execute(services.store, "CREATE TABLE kept (n int)")
    execute(services.store, "INSERT INTO kept VALUES (1)")
    assert len(down(folder)) == len(pids) == 2
    assert running(folder) is None
    assert down(folder) == []
    assert up(folder) == services

    Broker(folder).kill()
    Postgres(folder).kill()
    assert not Broker(folder).healthy()
    assert not Postgres(folder).healthy()
    assert up(folder) == services
    assert consume(services.broker, "kept", 2) == [b"1", b"2"]
    assert execute(services.store, "SELECT n FROM kept") == [(1,)]

    stop = (
        "import sys, pathlib; from infra.local.services import down; print(*down(pathlib.Path(sys.argv[1])), sep=';')"
    )
    said = python(stop, str(folder))
    assert f"Kafka on {services.broker}" in said
    assert "Postgres on 127.0.0.1:" in said
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_sqlite_stale_pid_reused_and_two_at_once(folder: Path) -> None:
    """With SQLite only the broker runs; a pid file left by a crash harms neither us nor who has the number now."""
    with another_program() as stranger:
        (folder / "kafka.pid").write_text(f"{stranger.pid}\n")
        found: list[Services] = []
        first = threading.Thread(target=lambda: found.append(up(folder, store="sqlite")))
        first.start()
        found.append(up(folder, store="sqlite"))
        first.join()
        assert found[0] == found[1] == running(folder)
        assert tomllib.loads((folder / "bestbefore.toml").read_text()) == msgspec.to_builtins(found[0])
        execute(found[0].store, "CREATE TABLE mine (n int)")
        assert (folder / "bestbefore.db").exists()
        assert (folder / "kafka" / "data" / "meta.properties").exists()
        assert (folder / "kafka.log").exists()
        assert Postgres(folder).process() is None
        with pytest.raises(ServiceError, match=r"already runs on .* `bestbefore down`"):
            up(folder, store="sqlite", kafka_port=free_port())
        (folder / "kafka.pid").write_text(f"{stranger.pid}\n")
        broker = next(p for p in psutil.process_iter() if daemon.is_ours(p, mark=f"-Dbestbefore.home={folder}/kafka"))
        assert down(folder) == []
        assert stranger.is_running()
        daemon.end(broker, mark=f"-Dbestbefore.home={folder}/kafka")


def test_postgres_with_a_pid_file_of_another_program(folder: Path) -> None:
    server = Postgres(folder)
    assert server.start()
    server.kill()
    lock = folder / "postgres" / "data" / "postmaster.pid"
    with another_program() as stranger:
        pid, rest = lock.read_text().split("\n", 1)
        lock.write_text(f"{stranger.pid}\n{rest}")
        assert server.process() is None
        assert server.start()
        assert stranger.is_running()
    assert not daemon.alive(int(pid), mark=str(lock.parent))
    wrong = server.url.replace("postgres:", "postgres:not-", 1)
    with pytest.raises(Exception, match="password authentication failed"):
        execute(wrong, "SELECT 1")


def test_ports_taken(folder: Path) -> None:
    with listener() as port:
        with pytest.raises(ServiceError, match=rf"kafka: port {port} .*--kafka-port"):
            up(folder, store="sqlite", kafka_port=port)
        with pytest.raises(ServiceError, match=rf"postgres: port {port} .*--postgres-port"):
            up(folder, postgres_port=port)
    assert Broker(folder).process() is None, "what a failed `up` started is stopped again"
    assert not (folder / "bestbefore.toml").exists()
    with pytest.raises(ServiceError, match="70000 is not a port"):
        up(folder, kafka_port=70_000)


def test_broker_that_ends_while_starting_shows_its_log(folder: Path) -> None:
    broker = Broker(folder)
    broker.start()
    broker.stop()
    meta = folder / "kafka" / "data" / "meta.properties"
    meta.write_text(meta.read_text().replace("node.id=1", "node.id=7"))
    with pytest.raises(ServiceError, match=r"ended while starting(.|\n)*node"):
        broker.start()


def test_ephemeral_stops_on_an_exception_and_when_killed(folder: Path) -> None:
    def use() -> None:
        with ephemeral(folder, store="sqlite") as services:
            assert Broker(folder).address == services.broker
            with pytest.raises(ServiceError, match="already run"), ephemeral(folder, store="sqlite"):
                pass
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use()
    assert Broker(folder).process() is None

    program = (
        "import os, pathlib, signal, sys; from infra.local.services import ephemeral\n"
        "with ephemeral(pathlib.Path(sys.argv[1]), store='sqlite'): os.kill(os.getpid(), signal.SIGKILL)"
    )
    with pytest.raises(subprocess.CalledProcessError):
        python(program, str(folder))
    # It was killed with the broker running; the process that watches it now stops the broker.
    assert daemon.wait_until(lambda: Broker(folder).process() is None, lambda: True, deadline_s=60)


def test_first_start_without_network(folder: Path) -> None:
    cache = Cache(folder / "m2", folder / "jgo", {"central": f"http://{HOST}:{free_port()}/maven2"})
    with pytest.raises(ServiceError, match=r"needs the network \(Maven Central\)(.|\n)*`broker = "):
        up(folder, store="sqlite", cache=cache)


def test_cut_off_download_is_fetched_again(folder: Path) -> None:
    """The user's own cache stands in for Maven Central, served on loopback."""
    source = Cache.of_user()
    kafka_jars(source, report=daemon.silent)
    serve = [sys.executable, "-m", "http.server", str(port := free_port()), "--bind", HOST, "-d", str(source.jars)]
    with subprocess.Popen(serve, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as server:
        try:
            assert daemon.wait_until(lambda: is_open(port), lambda: True, deadline_s=20)
            cache = Cache(folder / "m2", folder / "jgo", {"central": f"http://{HOST}:{port}"})
            said: list[str] = []
            jars = kafka_jars(cache, report=said.append)
            assert said[0].startswith("first start: fetching Apache Kafka")
            jars[0].write_bytes(jars[0].read_bytes()[:5_000])
            assert kafka_jars(cache, report=said.append) == jars
            assert any("damaged" in line for line in said)
        finally:
            server.terminate()


def test_too_little_room(folder: Path) -> None:
    with pytest.raises(
        ServiceError, match=rf"GB are free on the disk of {re.escape(str(folder))}, .* need 1000000.00 GB"
    ):
        up(folder, room=10**15)


def test_lock_gives_up_with_the_name_of_its_file(tmp_path: Path) -> None:
    said: list[str] = []
    with (
        locked(tmp_path / "lock", report=said.append),
        pytest.raises(ServiceError, match="another command has held"),
        locked(tmp_path / "lock", report=said.append, patience_s=0.2),
    ):
        pass
    assert said == [f"waiting for another command that works in {tmp_path}"]


def test_fixtures_are_separate_databases(store_url: str, any_store_url: str, services: Services, broker: str) -> None:
    assert len({store_url, services.store}) == 2
    execute(any_store_url, "CREATE TABLE mine (n int)")
    produce(broker, "fixtures", b"x")
    assert consume(broker, "fixtures", 1) == [b"x"]
