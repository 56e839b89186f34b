"""The Dagster example under a real daemon that launches real runs."""

import json
import shutil
from pathlib import Path

from tests.environments import environment
from tests.orchestrators.programs import EXAMPLES, Programs
from tests.orchestrators.rig import Pipeline, wait_for

CODE = str(EXAMPLES / "dagster" / "retraining.py")


def test_dagster_starts_one_run_for_each_trigger(running: Pipeline, tmp_path: Path) -> None:
    dagster = Programs(running, environment("dagster"), tmp_path, DAGSTER_HOME=str(tmp_path))
    shutil.copy(EXAMPLES / "dagster" / "dagster.yaml", tmp_path)
    first = running.trigger("dagster-loan")
    with dagster.started("dagster-daemon", "run", "-f", CODE):
        wait_for(lambda: dagster.lines("begun") == [first.trigger_id], "a run")
        dagster.train()
        assert running.answered(first) == ["retraining-started", "retrained"]
    second = running.trigger("dagster-fraud")  # while nobody is there
    (tmp_path / "go").unlink()
    with dagster.started("dagster-daemon", "run", "-f", CODE):
        wait_for(lambda: dagster.lines("begun") == [first.trigger_id, second.trigger_id], "its run")
    # Killed before the cursor was written: the sensor will ask again for what it has launched already.
    dagster.call("dagster", "sensor", "cursor", "retrain_triggers", "--delete", "-f", CODE)
    ...
