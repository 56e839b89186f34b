"""Orchestrators as processes: started from environments of their own, killed with all that they have started."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.faults.crew import ROOT
from tests.orchestrators.rig import Pipeline

EXAMPLES = ROOT / "examples" / "orchestrators"
TRAIN = """#!/bin/sh
echo "$TRIGGER_ID" >> begun
while [ ! -e go ]; do sleep 0.1; done
echo "$TRIGGER_ID" >> made
echo 2
"""


class Programs:
    """Programs of one environment that run in a folder, and the training that they start there."""

    def __init__(self, running: Pipeline, python: Path, folder: Path, **env: str) -> None:
        self.running, self.python, self.folder = running, python, folder
        train = folder / "train.sh"
        train.write_text(TRAIN.replace("begun", f"{folder}/begun").replace("go ]", f"{folder}/go ]").replace("made", f"{folder}/made"))
        train.chmod(0o755)
        self.env = {
            **os.environ, "PYTHONPATH": str(ROOT / "client"), "BROKERS": running.broker, "PREFIX": running.prefix,
            "STORE": running.dsn, "TRAIN": str(train), "DO_NOT_TRACK": "1", **env,
        }  # fmt: skip

    def call(self, name: str, *arguments: str, patience_s: float = 60) -> str:
        """Run a program to its end; what it printed. The test fails when it does."""
        done = subprocess.run(
            self._command(name, arguments), cwd=self.folder, env=self.env, timeout=patience_s, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout

    @contextmanager
    def started(self, name: str, *arguments: str) -> Iterator[Path]:
        """A program that runs until the end of the block, then it and its children are killed (-9); yields its log."""
        log = self.folder / f"{name}.log"
        with log.open("ab") as file:
            process = subprocess.Popen(
                self._command(name, arguments), cwd=self.folder, env=self.env, stdout=file, stderr=file,
                start_new_session=True,
            )  # fmt: skip
        try:
            yield log
            assert process.poll() is None, f"{name} has ended: {log.read_text(errors='replace')[-3000:]}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def lines(self, name: str) -> list[str]:
        """What the training has noted as `begun` or `made`."""
        path = self.folder / name
        return path.read_text().split() if path.exists() else []

    def train(self) -> None:
        """Let trainings end."""
        (self.folder / "go").touch()

    def _command(self, name: str, arguments: tuple[str, ...]) -> list[str]:
        program = [str(self.python)] if name == "python" else [str(self.python), str(self.python.with_name(name))]
        return [*program, *arguments]


__all__ = ["EXAMPLES", "Mapping", "Programs"]
