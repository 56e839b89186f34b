"""The plain loop as a process: killed while it acts, started again, beside another, and told no."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from bestbefore_client.acting import Actor, Refused
from bestbefore_client.runs import Runs
from bestbefore_client.triggers import Trigger, answer, open_triggers

from tests.broker_rig import produce
from tests.faults.crew import HERE, ROOT
from tests.faults.topic import read_topic
from tests.orchestrators.rig import Pipeline, wait_for

LOOP = ROOT / "examples" / "orchestrators" / "plain" / "loop.py"
TRAIN = """#!/bin/sh
echo "$TRIGGER_ID" >> {folder}/begun
while [ ! -e {folder}/go ]; do sleep 0.1; done
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
    assert {t.id for t in told if t.kind == "retraining-started"} == {f"{first.trigger_id}/retraining-started/1"}
    assert [t.kind for t in running.answers(second)] == ["retraining-started", "retrained"]


def test_a_failed_act_comes_again_a_refusal_does_not_and_what_is_resolved_is_left_alone(
    running: Pipeline, tmp_path: Path
) -> None:
    called: list[str] = []

    def act(trigger: Trigger) -> str | None:
        called.append(trigger.model)
        if called.count(trigger.model) == 1:
            raise OSError("no GPU is free")
        raise Refused("its labels are wrong; they come again tomorrow")

    def missed() -> list[Trigger]:
        with psycopg.connect(running.dsn) as connection:
            return [trigger for trigger in open_triggers(connection) if trigger.model in ("wine", "tea")]

    def actor() -> Actor:
        group = f"g-{tmp_path.name}"
        return Actor(running.broker, act, missed=missed, runs=str(tmp_path), prefix=running.prefix, group=group)

    wine = running.trigger("wine")
    with pytest.raises(OSError, match="no GPU"):
        actor().run()
    tea = running.trigger("tea")
    deployed = answer(tea, "deployed", "2")
    produce(running.settings, "lifecycle", [deployed.value], deployed.key)
    assert running.answered(tea, "deployed") == ["deployed"]
    running.repeat(tea)
    running.repeat(wine)
    produce(running.settings, "retrain-triggers", [b"{no json"], b"x")
    total = len(read_topic(running.broker, running.topic))
    acting = actor()
    acting.run(until=lambda: running.committed(acting.group) == total)
    assert called == ["wine", "wine"]
    assert running.answered(wine, "retraining-refused") == ["retraining-started", "retraining-refused"]
    assert [told.id for told in running.answers(wine) if told.kind == "retraining-refused"] == [
        f"{wine.trigger_id}/retraining-refused/1"
    ]
    assert Runs(tmp_path).read(wine.trigger_id)["attempts"] == 2


def test_without_the_store_a_new_group_reads_all_that_the_topic_keeps(running: Pipeline, tmp_path: Path) -> None:
    trigger = running.trigger("rice")
    running.repeat(trigger)
    found: list[str] = []
    everything = running.published()
    actor = Actor(
        running.broker, lambda one: found.append(one.trigger_id), runs=str(tmp_path), prefix=running.prefix,
        group=f"g-{tmp_path.name}",
    )  # fmt: skip
    actor.run(until=lambda: len(found) == len(set(everything)) and running.committed(actor.group) >= len(everything))
    assert sorted(found) == sorted(set(everything))
    assert [told.kind for told in running.answers(trigger)] == ["retraining-started"], "somebody else tells of the end"
