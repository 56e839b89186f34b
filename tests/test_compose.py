"""The compose file and the image agree with the code: settings, commands, versions; and nothing is exposed."""

import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from infra.cli import main
from infra.local import postgres
from infra.local.jars import KAFKA
from streams import settings
from streams.settings import Settings
from streams.store_engine import parse_url

ROOT = Path(__file__).parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
OURS = [name for name, service in SERVICES.items() if str(service.get("image", "")).startswith("bestbefore:")]
MOUNTED = "/run/secrets/postgres_password"
SECRET = re.compile("password|secret|token|key$", re.I)


def interpolated(value: Any) -> str:
    """A value as compose would hand it over: defaults put in, required variables as a word."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value))
    return re.sub(r"\$\{\w+:\?[^}]*\}", "given", text)


@pytest.mark.parametrize("name", OURS)
def test_settings_are_known_and_load(name: str, tmp_path: Path) -> None:
    """Every BESTBEFORE_* variable is a setting with a value it accepts; the password comes from the mounted file."""
    environment = {key: interpolated(value) for key, value in SERVICES[name]["environment"].items()}
    assert environment["BESTBEFORE_STORE_PASSWORD_FILE"] == MOUNTED
    (tmp_path / "secret").write_text("given")
    loaded = settings.load({**environment, "BESTBEFORE_STORE_PASSWORD_FILE": str(tmp_path / "secret")}, tmp_path)
    assert loaded.broker == "kafka:19092"
    assert loaded.store == "postgresql+psycopg://bestbefore:given@postgres:5432/bestbefore"


def test_the_store_url_names_the_database_that_is_made() -> None:
    """User, database and host of the workers are those of the postgres service; the password is not in the URL."""
    url, made = parse_url(SERVICES["worker"]["environment"]["BESTBEFORE_STORE"]), SERVICES["postgres"]["environment"]
    assert (url.host, url.username, url.database) == ("postgres", made["POSTGRES_USER"], made["POSTGRES_DB"])
    assert url.password is None


def test_workers_reach_the_listener_that_kafka_advertises() -> None:
    """The broker is advertised inside under the workers' address, outside under the port that is published."""
    kafka = SERVICES["kafka"]["environment"]
    advertised = dict(entry.split("://") for entry in kafka["KAFKA_ADVERTISED_LISTENERS"].split(","))
    assert advertised["INSIDE"] == SERVICES["worker"]["environment"]["BESTBEFORE_BROKER"]
    assert advertised["OUTSIDE"] == settings.Settings().broker
    assert SERVICES["kafka"]["ports"] == [f"{advertised['OUTSIDE']}:9092"]
    listening = {entry.split("://")[0] for entry in kafka["KAFKA_LISTENERS"].split(",")}
    protocols = {entry.split(":")[0] for entry in kafka["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(",")}
    assert listening == protocols == {*advertised, kafka["KAFKA_CONTROLLER_LISTENER_NAMES"]}


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_local_only(name: str) -> None:
    """What is published is published on 127.0.0.1."""
    assert all(str(port).startswith("127.0.0.1:") for port in SERVICES[name].get("ports", ()))
    assert SERVICES[name].get("network_mode") is None


@pytest.mark.parametrize("name", SERVICES)
def test_secrets_have_no_default(name: str) -> None:
    """The password comes from the environment or .env, without which compose refuses to start, and only as a file."""
    assert COMPOSE["secrets"] == {"postgres_password": {"environment": "POSTGRES_PASSWORD"}}
    for key, value in SERVICES[name].get("environment", {}).items():
        if SECRET.search(key):
            assert key.endswith("_FILE"), f"{name}: {key} is seen by whoever may inspect the container"
            assert value == MOUNTED
            assert SERVICES[name]["secrets"] == ["postgres_password"]


@pytest.mark.parametrize("name", OURS)
def test_commands_exist(name: str) -> None:
    """Each `bestbefore …` that a service runs is a command of the command line."""
    service = SERVICES[name]
    if service.get("entrypoint"):
        lines = [shlex.split(line) for line in " ".join(service["command"]).split("&&")]
        assert all(line[0] == "bestbefore" for line in lines)
        lines = [line[1:] for line in lines]
    else:
        lines = [service["command"]]
    for line in lines:
        command: click.Command = main
        for word in line:
            assert isinstance(command, click.Group), f"{name}: {word!r} follows a command"
            assert word in command.commands, f"{name}: no command {' '.join(line)!r}"
            command = command.commands[word]


def test_versions_are_those_of_the_embedded_services() -> None:
    """What is tried on one machine is what runs in containers."""
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{KAFKA}"
    found = re.search(r"\d+", subprocess.run(
        [str(postgres._binaries() / "postgres"), "--version"], capture_output=True, text=True, check=True
    ).stdout)  # fmt: skip
    assert found is not None
    assert SERVICES["postgres"]["image"] == f"postgres:{found[0]}"
    assert all(SERVICES[name]["image"] == f"bestbefore:{PROJECT['project']['version']}" for name in OURS)


def test_data_lie_in_named_volumes() -> None:
    """Broker and store keep their data when their containers are made anew."""
    for name in ("kafka", "postgres"):
        volumes = [volume.split(":")[0] for volume in SERVICES[name]["volumes"]]
        assert volumes == [name]
        assert name in COMPOSE["volumes"]
    assert SERVICES["kafka"]["volumes"][0].endswith(SERVICES["kafka"]["environment"]["KAFKA_LOG_DIRS"])


def test_services_wait_for_what_they_need() -> None:
    """Workers start after the migration, the migration after broker and store are healthy; all that is named exists."""
    assert SERVICES["worker"]["depends_on"]["setup"] == {"condition": "service_completed_successfully"}
    for name in OURS:
        for other, condition in SERVICES[name]["depends_on"].items():
            assert condition["condition"] != "service_healthy" or "healthcheck" in SERVICES[other]
    assert "container_name" not in SERVICES["worker"], "it could not be scaled"


def test_a_worker_is_asked_whether_it_lives() -> None:
    """On the port that the settings have by default, with what the image has: Python, and no curl."""
    service = SERVICES["worker"]
    assert not any(name.startswith("BESTBEFORE_WEB") for name in service["environment"])
    kind, program, _, code = service["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "python")
    assert f"http://{Settings().web_host}:{Settings().web_port}/live" in code
    compile(code, "healthcheck", "exec")


def test_the_image_holds_every_package() -> None:
    """The Dockerfile copies each package that pyproject.toml names, and .dockerignore lets it in."""
    copied = set(re.findall(r"^COPY (\w+) \w+$", DOCKERFILE, re.M))
    packages = {name.split(".")[0] for name in PROJECT["tool"]["setuptools"]["packages"]}
    assert copied == packages | {"client"}
    admitted = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text("utf-8"), re.M))
    assert admitted >= copied | {"pyproject.toml", PROJECT["project"]["readme"], "LICENSE"}


def test_the_image_is_not_root_and_runs_our_command() -> None:
    """A numeric user, the root folder that our imports expect, and a script that the project defines."""
    assert re.search(r"^USER [1-9]\d*$", DOCKERFILE, re.M)
    assert re.search(r"^WORKDIR /app$", DOCKERFILE, re.M)
    entry = re.search(r'^ENTRYPOINT \["(\S+)"\]$', DOCKERFILE, re.M)
    assert entry is not None
    assert entry[1] in PROJECT["project"]["scripts"]
    assert "ARG EXTRAS" in DOCKERFILE
    assert "gpu" in PROJECT["project"]["optional-dependencies"]
