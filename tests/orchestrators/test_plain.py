"""The plain loop as a process: killed while it acts, started again, beside another, and told no."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.crew import HERE, ROOT
from tests.orchestrators.rig import Pipeline, wait_for

LOOP = ROOT / "examples" / "orchestrators" / "plain" / "loop.py"
TRAIN = """#!/bin/sh
echo "$TRIGGER_ID" >> {folder}/begun
while [ ! -e {folder}/go ]; do sleep 0.1; done
[ "$MODEL" = refused ] && exit 3
mkdir {folder}/model-"$TRIGGER_ID" && echo "$TRIGGER_ID" >> {folder}/made
echo 2
"""


class Loop:
    """The example, with a training that waits until it may go on."""

    def __init__(self, running: Pipeline, folder: Path) -> None:
        self.running, self.folder, self.group = running, folder, f"retraining-{folder.name}"
        (folder / "train.sh").write_text(TRAIN.format(folder=folder))
        (folder / "train.sh").chmod(0o755)

    @contextmanager
    def process(self) -> Iterator["subprocess.Popen[bytes]"]:
        """One process with its children, killed (-9) at the end of the block."""
        env = {
            **os.environ, "PYTHONPATH": HERE, "BROKERS": self.running.broker, "PREFIX": self.running.prefix,
            "STORE": self.running.dsn, "TRAIN": str(self.folder / "train.sh"), "GROUP": self.group,
        }  # fmt: skip
        with (self.folder / "loop.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, str(LOOP)], cwd=self.folder, env=env, stdout=log, stderr=log, start_new_session=True
            )
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def lines(self, name: str) -> list[str]:
        """What the training has noted."""
        path = self.folder / name
        return path.read_text().split() if path.exists() else []


def test_killed_while_it_acts_it_finishes_once(running: Pipeline, tmp_path: Path) -> None:
    loop = Loop(running, tmp_path)
    with loop.process():
        first = running.trigger("loan")
        wait_for(lambda: loop.lines("begun") == [first.trigger_id], "the training")
    second = running.trigger("fraud")  # while nobody is there
    running.repeat(first)
    (tmp_path / "go").touch()
    with loop.process():
        assert running.answered(first) == ["retraining-started", "retrained"]
        assert running.answered(second) == ["retraining-started", "retrained"]
        wait_for(lambda: running.committed(loop.group) == len(running.published()), "the commit")
    assert loop.lines("begun") == [first.trigger_id, first.trigger_id, second.trigger_id], "killed, so begun again"
    assert loop.lines("made") == [first.trigger_id, second.trigger_id], "and made once"
    told = running.answers(first)
    assert [t.id for t in told if t.kind == "retrained"] == [f"{first.trigger_id}/retrained/2"]
    assert {t.id for t in told if t.kind == "retraining-started"} == {f"{first.trigger_id}/retraining-started"}
    assert [t.kind for t in running.answers(second)] == ["retraining-started", "retrained"]
