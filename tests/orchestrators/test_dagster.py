"""The Dagster example under a real daemon, which launches real runs."""

import shutil
from pathlib import Path

import pytest

from tests.environments import environment
from tests.orchestrators.programs import EXAMPLES, Programs
from tests.orchestrators.rig import Pipeline

CODE = ("-f", str(EXAMPLES / "dagster" / "retraining.py"))
ALREADY = "already completed with run keys"  # the daemon's words for what the sensor has asked for once more


@pytest.mark.timeout(900)  # it ends by its own patience
def test_dagster_runs_once_for_each_trigger(running: Pipeline, tmp_path: Path) -> None:
    dagster = Programs(running, environment("dagster"), tmp_path, DAGSTER_HOME=str(tmp_path))
    shutil.copy(EXAMPLES / "dagster" / "dagster.yaml", tmp_path)
    first = running.trigger("dagster-loan")
    with dagster.started("dagster-daemon", "run", *CODE) as log:
        dagster.wait(lambda: dagster.lines("begun") == [first.trigger_id], "a run")
        # As after a crash between launch and cursor: the sensor asks again for what is open and runs already.
        dagster.call("dagster", "sensor", "cursor", "retrain_triggers", "--delete", *CODE)
        dagster.wait(lambda: ALREADY in log.read_text(), "the sensor asking once more")
        dagster.train()
        assert running.answered(first) == ["retraining-started", "retrained"]
    second = running.trigger("dagster-fraud")  # while nobody is there
    running.repeat(first)
    with dagster.started("dagster-daemon", "run", *CODE):
        dagster.wait(lambda: second.trigger_id in dagster.lines("made"), "its run")
        assert running.answered(second) == ["retraining-started", "retrained"]
    assert dagster.lines("begun") == dagster.lines("made") == [first.trigger_id, second.trigger_id]
    assert [told.version for told in running.answers(first)] == ["1", "2"]
