"""A store whose disk is full, and a machine whose clock jumps by hours and days."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import psycopg
import pytest
from bestbefore_client import Repeated, encode_frame

from infra.dead_letters import read
from infra.local.postgres import Postgres
from streams.errors import StoreUnreachable
from streams.event_store import EventStore
from streams.settings import Settings
from tests.broker_rig import environment, fresh_settings
from tests.faults.bad_records import FRAME, Sent, Wire, behind, inference, label
from tests.faults.crew import ROOT, Worker
from tests.faults.traffic import HOUR_US, window

DISK_BYTES = 160 << 20
ROWS = 10_000
FILL_TABLES = "CREATE TABLE junk AS SELECT repeat('x', 900) FROM generate_series(1, 99999)"
FILL_LOG = "SELECT pg_logical_emit_message(false, 'x', repeat('x', 500000)) FROM generate_series(1, 300)"
CLOSED = 4_000_000  # microseconds of a window in the test of the clock


def wait(true: Callable[[], bool], worker: Worker, seconds: float = 60, what: Callable[[], Any] = str) -> None:
    """Until it is true, for as long as the worker lives."""
    ends = time.monotonic() + seconds
    while not true():
        told = worker.log.read_text(errors="replace")[-3000:]
        assert worker.process.poll() is None, f"the worker ended:\n{told}"
        assert time.monotonic() < ends, f"{what()}\n{told}"
        time.sleep(0.2)


# -- a full disk ---------------------------------------------------------------------------------------------


class Disk(NamedTuple):
    """A folder for the store; `small` when it can be filled. Where it cannot, the store is killed instead."""

    folder: Path
    small: bool

    def fill(self) -> None:
        """To the last byte."""
        with (self.folder / "ballast").open("ab", buffering=0) as ballast:
            for size in (1 << 20, 4096, 1):
                try:
                    while True:
                        ballast.write(b"\0" * size)
                except OSError:
                    continue

    def free(self) -> None:
        """Make room again."""
        (self.folder / "ballast").unlink()


@pytest.fixture
def disk() -> Iterator[Disk]:
    """A small disk of its own, where one may be mounted."""
    folder = Path(tempfile.mkdtemp(prefix="bestbefore-disk-"))
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0755", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False) if shutil.which("mount") else None
    small = done is not None and done.returncode == 0
    yield Disk(folder, small)
    if small:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
    shutil.rmtree(folder)


def events(first: int) -> bytes:
    """Many events in one frame; all their predictions are kept."""
    columns: dict[str, Any] = {
        "id": [f"d-{first}-{i}" for i in range(ROWS)], "time": np.full(ROWS, first, np.int64),
        "model": Repeated("m"), "version": Repeated("1"), "label": ["x"] * ROWS,
    }  # fmt: skip
    return encode_frame(columns)


def counted(settings: Settings) -> int:
    """Events that the store has counted; -1 while it does not answer."""
    store = EventStore(settings.store)
    try:
        return sum(row.n for row in store.windows("m", "1"))
    except StoreUnreachable:
        return -1
    finally:
        store.close()


def refused(url: str, statement: str) -> str:
    """The SQLSTATE with which Postgres refuses a statement; empty when the connection broke."""
    try:
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True, connect_timeout=5) as connection:
            connection.execute(statement)
    except psycopg.Error as error:
        return error.sqlstate or ""
    return "00000"


def whole_again(settings: Settings, postgres: Postgres, rows: int) -> bool:
    """Whether the store has counted so many. Whoever watches over it starts it again when it could not recover."""
    if postgres.process() is None:
        postgres.start()
    return counted(settings) == rows


def break_store(disk: Disk, postgres: Postgres, statement: str) -> None:
    """Fill its disk, and let it find out."""
    if disk.small:
        disk.fill()
        state = refused(postgres.url, statement)
        assert state in ("53100", "57P02", "57P03", ""), state
    else:
        postgres.kill()


@pytest.mark.timeout(240)
def test_a_store_with_a_full_disk_is_waited_for_and_nothing_is_lost(disk: Disk, broker: str, tmp_path: Path) -> None:
    """First the tables cannot grow; then the log of Postgres itself cannot, which ends it."""
    postgres = Postgres(disk.folder)
    postgres.start()
    settings = fresh_settings(broker, postgres.url)
    settings = msgspec.structs.replace(settings, idle_after="1 s", commit_every="500 ms", keep_rate=1.0)
    settings = msgspec.structs.replace(settings, keep_per_window=10 * ROWS)
    wire, worker = Wire(settings), Worker(tmp_path, "one", environment(settings))
    base = time.time_ns() // 1000 // HOUR_US * HOUR_US - 20 * HOUR_US
    told = "waiting for the event store"

    def send(number: int) -> None:
        wire.send(Sent("inference", None, events(base + number * HOUR_US), FRAME), 0)
        wire.flush()

    def waits(before: int) -> bool:
        return worker.log.read_text(errors="replace").count(told) > before

    try:
        send(0)
        wait(lambda: counted(settings) == ROWS, worker)
        for turn, breaking in enumerate((FILL_TABLES, FILL_LOG)):
            before = worker.log.read_text(errors="replace").count(told)
            break_store(disk, postgres, breaking)
            send(1 + turn)
            wait(lambda before=before: waits(before), worker)  # type: ignore[misc]
            assert counted(settings) in (-1, (1 + turn) * ROWS)
            if disk.small:
                disk.free()
            rows = (2 + turn) * ROWS
            wait(lambda rows=rows: whole_again(settings, postgres, rows), worker, 90)  # type: ignore[misc]
        assert ("No space left on device" in worker.log.read_text(errors="replace")) == disk.small
        wait(lambda: behind(settings, ("inference", "profiles")) == 0, worker)
        assert read(settings, None) == []
        assert "worker ends" not in worker.log.read_text(errors="replace")
    finally:
        wire.close()
        worker.kill()
        postgres.stop()


# -- a clock that jumps --------------------------------------------------------------------------------------


class SteppedWorker(Worker):
    """A worker whose clock is off by `step` seconds from now on."""

    def __init__(self, folder: Path, name: str, environment: dict[str, str]) -> None:
        self.name, self.log, self._off = name, folder / f"worker-{name}.log", folder / "off"
        self.step(0)
        env = {**os.environ, **environment, "PYTHONPATH": f"{ROOT}:{ROOT / 'client'}", "OMP_NUM_THREADS": "1"}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.stepped_worker", str(self._off), "worker"],
                cwd=ROOT, env=env, stdout=log, stderr=log,
            )  # fmt: skip

    def step(self, seconds: float) -> None:
        """Set its clock, in one piece."""
        fresh = self._off.with_suffix(".new")
        fresh.write_text(str(seconds))
        fresh.replace(self._off)


@pytest.mark.timeout(120)
def test_a_clock_that_jumps_neither_closes_a_window_early_nor_holds_one_open(
    broker: str, store_url: str, tmp_path: Path
) -> None:
    """Forward, back, and with the last windows still open while it is an hour behind."""
    settings = fresh_settings(broker, store_url)
    settings = msgspec.structs.replace(
        settings, idle_after="800 ms", commit_every="500 ms", keep_rate=1.0, default_window="4 s",
        default_lateness="500 ms", label_patience="5 s", watchdog_after="8 s",
    )  # fmt: skip
    worker, wire, store = SteppedWorker(tmp_path, "one", environment(settings)), Wire(settings), EventStore(store_url)
    expected: Counter[int] = Counter()

    def burst(name: str) -> None:
        for i in range(20):
            at = time.time_ns() // 1000
            expected[window(at, CLOSED)] += 1
            wire.send(Sent("labels", b"k", label(f"{name}-{i}", at), []), 0)
            wire.send(Sent("inference", b"k", inference(f"{name}-{i}", at), []), 0)
            time.sleep(0.01)
        wire.flush()

    def found(what: str) -> Counter[int]:
        return Counter({row.window_start_us: value for row in store.windows("m", "1") if (value := getattr(row, what))})

    try:
        wait(lambda: worker.ready, worker)
        for turn, off in enumerate((0, 3600, 2 * 86_400, 0, -3600)):
            worker.step(off)
            for part in range(2):  # within a window and across its end, with a silence longer than `idle_after` between
                burst(f"{turn}-{part}")
                time.sleep(1.4)
        wait(lambda: found("n") == expected, worker, what=lambda: (found("n"), found("n_late"), expected))
        wait(lambda: found("n_labelled") == expected, worker)
        wait(lambda: behind(settings, ("inference", "labels", "profiles")) == 0, worker)
        assert not found("n_late")
        assert not found("n_capped")
        assert read(settings, None) == []
        assert worker.log.read_text(errors="replace").count("Joined group") == 1, "it never lost its place in the group"
    finally:
        wire.close()
        store.close()
        worker.kill()
