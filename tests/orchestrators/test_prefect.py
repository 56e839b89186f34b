"""The Prefect example beside a real server, which starts real flow runs."""

from pathlib import Path

import httpx
import pytest

from infra.local.machine import free_port
from tests.environments import environment
from tests.orchestrators.programs import EXAMPLES, Programs
from tests.orchestrators.rig import Pipeline

CODE = str(EXAMPLES / "prefect" / "retraining.py")


def answers(url: str) -> bool:
    """Whether the server is there."""
    try:
        return httpx.get(url + "/health").is_success
    except httpx.HTTPError:
        return False


@pytest.mark.timeout(900)  # it ends by its own patience
def test_prefect_runs_once_for_each_trigger(running: Pipeline, tmp_path: Path) -> None:
    port = str(free_port())
    url = f"http://127.0.0.1:{port}/api"
    prefect = Programs(
        running, environment("prefect"), tmp_path, PREFECT_HOME=str(tmp_path), PREFECT_API_URL=url,
        PREFECT_SERVER_UI_ENABLED="false", PREFECT_SERVER_ANALYTICS_ENABLED="false",
    )  # fmt: skip
    first = running.trigger("prefect-loan")
    with prefect.started("prefect", "server", "start", "--host", "127.0.0.1", "--port", port, "--no-services"):
        prefect.wait(lambda: answers(url), "the server")
        with prefect.started("python", CODE), prefect.started("python", CODE, log="another"):  # both ask, one run comes
            prefect.wait(lambda: prefect.lines("begun") == [first.trigger_id], "a run")
            prefect.train()
            assert running.answered(first) == ["retraining-started", "retrained"]
        second = running.trigger("prefect-fraud")  # while nobody is there
        running.repeat(first)
        with prefect.started("python", CODE):
            assert running.answered(second) == ["retraining-started", "retrained"]
        runs = httpx.post(url + "/flow_runs/filter", json={}).json()
    assert prefect.lines("begun") == prefect.lines("made") == [first.trigger_id, second.trigger_id]
    assert {run["idempotency_key"] for run in runs} == {first.trigger_id, second.trigger_id}
    assert len(runs) == 2
