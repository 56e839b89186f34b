"""Airflow 3 with its real daemons: message, asset event, one run for each trigger, also after kill -9 in between."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from infra.local.services import Services
from tests.conftest import _execute
from tests.orchestrators.airflow_rig import Airflow, airflow
from tests.orchestrators.rig import Pipeline, wait_for

PATIENCE_S = 180  # Airflow starts a process for every task


@pytest.fixture
def started(services: Services, running: Pipeline, tmp_path: Path) -> Iterator[Airflow]:
    server = make_url(services.store)
    name = f"airflow_{uuid.uuid4().hex}"
    _execute(server, f"CREATE DATABASE {name}")
    database = server.set(drivername="postgresql", database=name).render_as_string(hide_password=False)
    with airflow(running, tmp_path, database) as made:
        yield made
    _execute(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.timeout(600)
def test_each_trigger_is_run_once_also_after_a_restart(started: Airflow, running: Pipeline) -> None:
    first = running.trigger("loan")
    started.start()
    wait_for(lambda: started.runs.get(first.trigger_id) == "success", f"run, see {started.folder}", PATIENCE_S)
    # A task that is killed blocks its DAG for Airflow's five minutes without a heartbeat; here only daemons are.
    wait_for(lambda: started.calm, "the end of all runs", PATIENCE_S)
    started.kill("scheduler", "triggerer")
    second = running.trigger("fraud")  # while nobody is there
    running.repeat(first)
    started.start("scheduler", "triggerer")
    wait_for(lambda: started.runs.get(second.trigger_id) == "success", f"run, see {started.folder}", PATIENCE_S)
    wait_for(lambda: running.committed("airflow") == 3, "the commit of the repeat", PATIENCE_S)
    wait_for(lambda: started.rings >= 2 and started.calm, "the last ring", PATIENCE_S)
    assert started.runs == {first.trigger_id: "success", second.trigger_id: "success"}
    assert started.made == [first.trigger_id, second.trigger_id]
    for trigger in (first, second):
        assert running.answered(trigger) == ["retraining-started", "retrained"]
        assert [told.id for told in running.answers(trigger)] == [
            f"{trigger.trigger_id}/retraining-started/1", f"{trigger.trigger_id}/retrained/2",
        ]  # fmt: skip
