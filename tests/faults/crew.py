"""Worker processes to be killed, paused and replaced, each with a log of its own."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[2]
HERE = f"{ROOT}{os.pathsep}{ROOT / 'client'}"  # where this version is imported from
READY = "Worker ready"


class Worker:
    """One worker process, of the version that is imported from `home`, with a log of its own."""

    def __init__(self, folder: Path, name: str, environment: dict[str, str], *options: str, home: str = HERE) -> None:
        self.name, self.log = name, folder / f"worker-{name}.log"
        env = {**os.environ, **environment, "PYTHONPATH": home, "OMP_NUM_THREADS": "1"}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "infra.cli", "worker", *options], cwd=folder, env=env, stdout=log, stderr=log
            )

    @property
    def ready(self) -> bool:
        """Whether it has said that it works."""
        return READY in self.log.read_text(errors="replace")

    def kill(self) -> None:
        """Kill -9."""
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """SIGSTOP."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def stop(self, patience_s: float = 30) -> int:
        """Ask it to end; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(patience_s)

    def memory(self) -> int:
        """Bytes of its resident set; 0 when it is gone."""
        try:
            return int(psutil.Process(self.process.pid).memory_info().rss)
        except psutil.NoSuchProcess:
            return 0


class Crew:
    """The workers of a deployment; one that ended by itself is noted and replaced, as orchestrators do."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder, self._environment = folder, environment
        self.workers: list[Worker] = []
        self.ended: list[tuple[str, int, str]] = []  # worker, exit status, its last words
        self.largest = 0  # bytes of memory of any worker, ever
        self._made = 0
        self._lock = threading.RLock()  # faults and whoever looks after the crew are threads of their own

    def start(self, home: str = HERE) -> Worker:
        """One more worker."""
        with self._lock:
            self._made += 1
            worker = Worker(self._folder, f"{self._made}", self._environment, home=home)
            self.workers.append(worker)
            return worker

    def remove(self, worker: Worker, *, killed: bool = True) -> None:
        """For good, by kill -9, or after it was asked to end."""
        with self._lock:
            if worker in self.workers:  # else it has ended by itself just now
                self.workers.remove(worker)
        if killed:
            worker.kill()
        else:
            worker.stop()

    def replace(self, worker: Worker) -> None:
        """Kill -9 and start a new one."""
        self.remove(worker)
        self.start()

    def look_after(self) -> None:
        """Replace what has ended by itself, and see how large the others are."""
        with self._lock:
            for worker in list(self.workers):
                status = worker.process.poll()
                if status is None:
                    self.largest = max(self.largest, worker.memory())
                    continue
                self.ended.append((worker.name, status, last_words(worker.log)))
                self.workers.remove(worker)
                self.start()

    def logs(self, lines: int = 60) -> str:
        """The ends of all logs."""
        return "\n".join(
            f"--- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
            for path in sorted(self._folder.glob("worker-*.log"))
        )


def last_words(log: Path) -> str:
    """The line that says why a worker ended, or its last one."""
    lines = log.read_text(errors="replace").splitlines()
    told = [line for line in lines if "worker ends" in line or "wedged" in line or "bestbefore: " in line]
    return (told or lines or [""])[-1]


@contextmanager
def crew(folder: Path, environment: dict[str, str]) -> Iterator[Crew]:
    """Workers that are gone at the end of the block."""
    hired = Crew(folder, environment)
    try:
        yield hired
    finally:
        for worker in hired.workers:
            worker.kill()
