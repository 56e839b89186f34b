"""The MLflow example beside a real server: its registry, its tags, its signed webhooks."""

import base64
import hashlib
import hmac
import json
import os
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.local.machine import free_port
from tests.environments import environment
from tests.faults.topic import read_topic
from tests.orchestrators.programs import EXAMPLES, Programs
from tests.orchestrators.rig import Pipeline

CODE = str(EXAMPLES / "mlflow" / "bridge.py")
SECRET = "a secret of the test"  # noqa: S105
MODEL = "mlflow-loan"


class Registry:
    """MLflow's registry as people and pipelines use it, over its REST interface."""

    def __init__(self, url: str) -> None:
        self.url = url

    @property
    def ready(self) -> bool:
        """Whether the server is there."""
        try:
            return httpx.get(self.url + "/health").is_success
        except httpx.HTTPError:
            return False

    def post(self, path: str, **body: str) -> Any:
        """Change something."""
        return httpx.post(f"{self.url}/api/2.0/mlflow/{path}", json=body).raise_for_status().json()

    def get(self, path: str, **query: str) -> Any:
        """Look something up."""
        return httpx.get(f"{self.url}/api/2.0/mlflow/{path}", params=query).raise_for_status().json()

    def version(self) -> str:
        """Register one more version, as the end of a training does."""
        return str(
            self.post("model-versions/create", name=MODEL, source="s3://models/loan")["model_version"]["version"]
        )

    def deploy(self, version: str) -> None:
        """Move the alias."""
        self.post("registered-models/alias", name=MODEL, alias="production", version=version)

    def tags(self, version: str) -> dict[str, str]:
        """What the registry shows of a version."""
        found = self.get("model-versions/get", name=MODEL, version=version)["model_version"]
        return {tag["key"].removeprefix("bestbefore."): tag["value"] for tag in found.get("tags", ())}


def told(running: Pipeline) -> dict[str, tuple[str, str, str]]:
    """Kind, version and previous version of each lifecycle event that is not the pipeline's own, by id."""
    records = read_topic(running.broker, running.settings.topic("lifecycle"))
    bodies = [json.loads(r.value) for r in records if all(name != "ce_type" for name, _ in r.headers)]
    return {b["id"]: (b["kind"], b["version"], b.get("previous", "")) for b in bodies}


def delivery(secret: str, at: float) -> dict[str, str]:
    """Headers of a delivery of `{}`, signed as the Standard Webhooks specification and MLflow's documentation say."""
    stamp = str(int(at))
    mac = hmac.new(secret.encode(), f"msg-1.{stamp}.{{}}".encode(), hashlib.sha256).digest()
    signature = "v1," + base64.b64encode(mac).decode()
    return {"X-MLflow-Delivery-Id": "msg-1", "X-MLflow-Timestamp": stamp, "X-MLflow-Signature": signature}


def refuses(url: str) -> None:
    """What is not signed by MLflow, or long ago, does not come in."""

    def status(headers: dict[str, str], body: str = "{}") -> int:
        return httpx.post(url, content=body, headers=headers).status_code

    now = time.time()
    assert status(delivery(SECRET, now)) == 204
    assert status(delivery(SECRET, now), '{"entity": "model_version"}') == 401
    assert status(delivery("another", now)) == 401
    assert status(delivery(SECRET, now - 3600)) == 401
    assert status({}) == 401
    assert status(delivery(SECRET, now), " " * 200_000) == 413


@pytest.mark.timeout(900)  # it ends by its own patience
def test_registry_and_pipeline_know_of_each_other(running: Pipeline, tmp_path: Path) -> None:
    registry = Registry(f"http://127.0.0.1:{free_port()}")
    ports = [str(free_port()) for _ in range(2)]
    urls = [f"http://127.0.0.1:{port}/" for port in ports]
    mlflow = Programs(
        running, environment("mlflow"), tmp_path, MLFLOW_TRACKING_URI=registry.url, MLFLOW_DISABLE_TELEMETRY="true",
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false", MLFLOW_WEBHOOK_ALLOWED_SCHEMES="http",
        MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS="true", MLFLOW_WEBHOOK_CACHE_TTL="1", WEBHOOK_SECRET=SECRET, EVERY_S="3600",
        MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY=base64.urlsafe_b64encode(os.urandom(32)).decode(),
    )  # fmt: skip
    one, other = (
        {"PORT": port, "WEBHOOK_URL": url, "log": f"bridge-{port}"} for port, url in zip(ports, urls, strict=True)
    )
    host, port = registry.url.removeprefix("http://").split(":")
    place = ("--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db", "--host", host, "--port", port)

    soon = mlflow.wait
    with mlflow.started("mlflow", "server", *place, "--workers", "1"):
        trigger = running.trigger(MODEL)
        soon(lambda: registry.ready, "the server")
        registry.post("registered-models/create", name=MODEL)
        registry.deploy(registry.version())
        with mlflow.started("python", CODE, **one):
            soon(lambda: registry.tags("1").get("trigger") == trigger.trigger_id, "the trigger in the registry")
            shown = registry.tags("1")
            refuses(urls[0])
            soon(lambda: registry.get("webhooks").get("webhooks"), "the webhook")
            assert registry.version() == "2"
            assert running.answered(trigger) == ["retrained"]
            registry.deploy("2")
            soon(lambda: len(told(running)) == 3, "the deployment")
        registry.deploy("1")  # back, while no bridge is there
        with mlflow.started("python", CODE, **one), mlflow.started("python", CODE, **other):  # and two at once now
            soon(lambda: len(told(running)) == 4, "the way back")
            soon(lambda: len(running.store.events(kind="lifecycle", model=MODEL)) >= 4, "the pipeline")
    assert shown["asked"] == f"retrain by {trigger.retrain_by}"
    forecasts = [event.body["forecast"] for event in running.store.events(kind="status", model=MODEL)]
    assert shown["bestbefore"] in [
        forecast["best_before"] or f"unknown: {forecast['reason']}" for forecast in forecasts
    ]
    assert shown["quality"].startswith("accuracy 0.")
    assert list(told(running).values()) == [
        ("promoted", "1", ""), ("retrained", "2", ""), ("deployed", "2", "1"), ("rolled-back", "1", "2"),
    ]  # fmt: skip
