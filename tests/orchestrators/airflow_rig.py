"""A real Airflow: its four daemons as processes, with a database of their own, on ports of their own."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from tests.environments import environment
from tests.faults.crew import ROOT
from tests.orchestrators.rig import Pipeline

DAGS = ROOT / "examples" / "orchestrators" / "airflow" / "dags"
DAEMONS = {
    "api-server": ["--apps", "execution"], "scheduler": ["--skip-serve-logs"],
    "dag-processor": ["--num-runs", "1"],  # it would read the file again and again
    "triggerer": ["--skip-serve-logs"],
}  # fmt: skip


class Airflow:
    """Airflow with the example's DAGs, its connections to a pipeline, and a training that notes what it was given."""

    def __init__(self, running: Pipeline, folder: Path, database: str) -> None:
        self.folder, self.database = folder, database
        self._airflow = str(environment("airflow").with_name("airflow"))
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self._env = {
            **os.environ,
            **self._settings(running),
            "PATH": f"{Path(self._airflow).parent}:{os.environ['PATH']}",
        }
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    def _settings(self, running: Pipeline) -> dict[str, str]:
        kafka = {
            "bootstrap.servers": running.broker,
            "group.id": "airflow",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": "false",
            "session.timeout.ms": "6000",
        }
        return {
            "AIRFLOW_HOME": str(self.folder), "PYTHONPATH": str(ROOT / "client"), "OMP_NUM_THREADS": "1",
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS), "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False", "AIRFLOW__CORE__PARALLELISM": "2",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{self._port}/execution/",
            "AIRFLOW__API__HOST": "127.0.0.1", "AIRFLOW__API__PORT": str(self._port), "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API_AUTH__JWT_SECRET": "for these tests and no others, and as long as the longest of hash sums",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self.database.replace("postgresql://", "postgresql+psycopg2://"),
            "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1", "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
            "AIRFLOW_CONN_BESTBEFORE": json.dumps({"conn_type": "kafka", "extra": kafka}),
            "AIRFLOW_CONN_BESTBEFORE_STORE": running.dsn.replace("postgresql://", "postgres://"),
            "BESTBEFORE_TOPIC_PREFIX": running.prefix,
            "BESTBEFORE_TRAIN": f"echo $TRIGGER_ID >> {self.folder}/made; echo 2",
        }  # fmt: skip

    def migrate(self) -> None:
        """Make the tables."""
        self.run("db", "migrate")

    def run(self, *arguments: str) -> str:
        """A command of Airflow; what it prints."""
        done = subprocess.run([self._airflow, *arguments], env=self._env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, *names: str) -> None:
        """Start daemons, all by default."""
        for name in names or DAEMONS:
            with (self.folder / f"{name}.log").open("ab") as log:
                self.daemons[name] = subprocess.Popen(
                    [self._airflow, name, *DAEMONS[name]], env=self._env, stdout=log, stderr=log, start_new_session=True
                )

    def kill(self, *names: str) -> None:
        """Kill -9 daemons with their children, all by default."""
        for name in names or list(self.daemons):
            process = self.daemons.pop(name)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What Airflow's own database says."""
        with psycopg.connect(self.database) as connection:
            return connection.execute(query).fetchall()

    @property
    def runs(self) -> dict[str, str]:
        """The runs of the retraining: id and state."""
        return dict(self.rows("SELECT run_id, state FROM dag_run WHERE dag_id = 'bestbefore_retrain'"))

    @property
    def rings(self) -> int:
        """How many runs the asset of the topic has caused."""
        where = "dag_id = 'bestbefore_triggers' AND run_type = 'asset_triggered'"
        return int(self.rows(f"SELECT count(*) FROM dag_run WHERE {where}")[0][0])  # noqa: S608 -- constants

    @property
    def calm(self) -> bool:
        """Whether nothing runs and nothing waits to."""
        return self.rows(
            "SELECT (SELECT count(*) FROM dag_run WHERE state NOT IN ('success', 'failed'))"
            " + (SELECT count(*) FROM asset_dag_run_queue)"
        ) == [(0,)]

    @property
    def made(self) -> list[str]:
        """Triggers that the training was run for."""
        path = self.folder / "made"
        return path.read_text().split() if path.exists() else []


@contextmanager
def airflow(running: Pipeline, folder: Path, database: str) -> Iterator[Airflow]:
    """Airflow with its tables, and none of its daemons left at the end."""
    made = Airflow(running, folder, database)
    made.migrate()
    try:
        yield made
    finally:
        made.kill()
