"""Orchestrators as processes: started from environments of their own, killed with all that they have started."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.crew import ROOT
from tests.orchestrators.rig import Pipeline, wait_for

EXAMPLES = ROOT / "examples" / "orchestrators"
PATIENCE_S = 240  # orchestrators start slowly where cores are busy
TRAIN = """#!/bin/sh
cd "$(dirname "$0")"
echo "$TRIGGER_ID" >> begun
while [ ! -e go ]; do sleep 0.1; done
echo "$TRIGGER_ID" >> made
echo 2
"""


class Programs:
    """Programs of one environment, in a folder, and the training that they start there, which waits for `go`."""

    def __init__(self, running: Pipeline, python: Path, folder: Path, **env: str) -> None:
        self.python, self.folder = python, folder
        train = folder / "train.sh"
        train.write_text(TRAIN)
        train.chmod(0o755)
        self.env = {
            **os.environ, "PYTHONPATH": str(ROOT / "client"), "BROKERS": running.broker, "PREFIX": running.prefix,
            "STORE": running.dsn, "TRAIN": str(train), "DO_NOT_TRACK": "1", **env,
        }  # fmt: skip

    def call(self, name: str, *arguments: str) -> str:
        """Run a program to its end, which must be good; what it printed."""
        done = subprocess.run(
            self._command(name, arguments), cwd=self.folder, env=self.env, timeout=PATIENCE_S, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout

    @contextmanager
    def started(self, name: str, *arguments: str, log: str = "", **env: str) -> Iterator[Path]:
        """A program that runs through the block, then is killed (-9) with all its children; yields its log."""
        path = self.folder / f"{log or name}.log"
        with path.open("ab") as file:
            process = subprocess.Popen(
                self._command(name, arguments), cwd=self.folder, env=self.env | env, stdout=file, stderr=file,
                start_new_session=True,
            )  # fmt: skip
        try:
            yield path
            assert process.poll() is None, f"{name} has ended by itself, see {path}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _command(self, name: str, arguments: tuple[str, ...]) -> list[str]:
        return [str(self.python), *([] if name == "python" else [str(self.python.with_name(name))]), *arguments]

    def lines(self, name: str) -> list[str]:
        """The ids of triggers that the training has noted as `begun` or `made`."""
        path = self.folder / name
        return path.read_text().split() if path.exists() else []

    def wait(self, what: Callable[[], object], name: str) -> None:
        """Wait until something is true."""
        wait_for(what, f"{name} (see the logs in {self.folder})", PATIENCE_S)

    def train(self) -> None:
        """Let trainings end from now on."""
        (self.folder / "go").touch()
