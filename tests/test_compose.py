"""The compose file and the image agree with the code: settings, commands, versions; and nothing is exposed."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import click
import pytest
import yaml
from sqlalchemy import create_engine, text

from infra.cli import main
from infra.local import postgres
from infra.local.jars import KAFKA
from infra.migrate import upgrade
from streams import settings
from streams.errors import StoreError
from streams.event_store import EventStore
from streams.settings import Settings
from streams.store_engine import parse_url
from tests.deploy_rig import DEPLOY, found_by_others

ROOT = Path(__file__).parent.parent
COMPOSE_FILE, LOGINS_SH = ROOT / "docker-compose.yml", DEPLOY / "postgres" / "logins.sh"
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text("utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
OURS = [name for name, service in SERVICES.items() if str(service.get("image", "")).startswith("bestbefore:")]
MOUNTED = "/run/secrets/"
# Who connects as whom: the login, and the role whose rights it has.
LOGINS = {
    "setup": ("deploy", "migrator"),
    "worker": ("worker", "writer"),
    "alerts": ("watch", "reader"),
    "page": ("watch", "reader"),
}
SECRET = re.compile("password|secret|token|key$", re.I)


def interpolated(value: Any) -> str:
    """A value as compose would hand it over: defaults put in, required variables as a word."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value))
    return re.sub(r"\$\{\w+:\?[^}]*\}", "given", text)


def own_settings(name: str, folder: Path) -> settings.Settings:
    """The settings with which a service of ours starts, its secrets read from the files that it is given."""
    environment = {key: interpolated(value) for key, value in SERVICES[name]["environment"].items()}
    for key, value in environment.items():
        if key.endswith("_FILE"):
            secret = value.removeprefix(MOUNTED)
            assert secret in SERVICES[name]["secrets"]
            (folder / secret).write_text(f"of-{secret}")
            environment[key] = str(folder / secret)
    return settings.load(environment, folder)


@pytest.mark.parametrize("name", OURS)
def test_settings_are_known_and_load(name: str, tmp_path: Path) -> None:
    """Every BESTBEFORE_* variable is a setting with a value it accepts; passwords come from the mounted files."""
    loaded = own_settings(name, tmp_path)
    assert loaded.broker == "kafka:19092"
    if name == "bridge":
        assert (loaded.bridge_host, loaded.bridge_token) == ("0.0.0.0", "of-bridge_token")  # noqa: S104 -- see there
    else:
        assert (loaded.web_host, loaded.web_token) == ("0.0.0.0", "of-web_token")  # noqa: S104 -- inside the network
    assert loaded.group == own_settings("worker", tmp_path).group


@pytest.mark.parametrize("name", LOGINS)
def test_everybody_connects_with_a_login_of_few_rights(name: str) -> None:
    """Host and database are those of the postgres service; the user is none who owns it; no password is in the URL."""
    url, made = parse_url(SERVICES[name]["environment"]["BESTBEFORE_STORE"]), SERVICES["postgres"]["environment"]
    assert (url.host, url.database) == ("postgres", made["POSTGRES_DB"])
    assert url.username == f"{made['POSTGRES_DB']}_{LOGINS[name][0]}" != made["POSTGRES_USER"]
    assert url.password is None
    assert url.username in login_lines()


def test_nobody_else_reaches_the_store() -> None:
    """Nor has the secrets of its logins."""
    assert {name for name in OURS if "BESTBEFORE_STORE" in SERVICES[name]["environment"]} == set(LOGINS)


def login_lines() -> str:
    """The script that makes the logins, with the name of the database put in."""
    return LOGINS_SH.read_text("utf-8").replace("current_database() || '", "'bestbefore")


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
    """They come from the environment or .env, without which compose refuses to start, and only as files."""
    assert all(set(source) == {"environment"} for source in COMPOSE["secrets"].values())
    given = SERVICES[name].get("secrets", [])
    assert set(given) <= set(COMPOSE["secrets"])
    used = set()
    for key, value in SERVICES[name].get("environment", {}).items():
        if SECRET.search(key):
            assert key.endswith("_FILE"), f"{name}: {key} is seen by whoever may inspect the container"
            used.add(value)
    assert used <= {f"{MOUNTED}{secret}" for secret in given}


def test_the_line_that_makes_the_secrets_makes_all_of_them() -> None:
    """As it stands at the top of the file, and in the documentation."""
    for page in (COMPOSE_FILE, ROOT / "docs" / "deployment.md"):
        found = re.search(r"for name in ([A-Z ]+); do echo \"\$\{name\}_PASSWORD=", page.read_text("utf-8"))
        assert found is not None
        assert {f"{name}_PASSWORD" for name in found[1].split()} == {
            s["environment"] for s in COMPOSE["secrets"].values()
        }


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
        known(line)


def known(line: list[str]) -> None:
    """Command and options of a command line exist."""
    command: click.Command = main
    words = [word for word in line if not word.startswith("--")]
    for word in words:
        assert isinstance(command, click.Group), f"{word!r} follows a command"
        assert word in command.commands, f"no command {' '.join(line)!r}"
        command = command.commands[word]
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word.partition("=")[0] for word in line if word.startswith("--")} <= options


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
    for name in ("kafka", "postgres", "prometheus", "alertmanager", "grafana"):
        volumes = [volume.split(":")[0] for volume in SERVICES[name]["volumes"]]
        assert [volume for volume in volumes if not volume.startswith("./")] == [name]
        assert name in COMPOSE["volumes"]
        for volume in volumes:
            assert not volume.startswith("./") or (ROOT / volume).exists(), volume
    assert SERVICES["kafka"]["volumes"][0].endswith(SERVICES["kafka"]["environment"]["KAFKA_LOG_DIRS"])


def test_services_wait_for_what_they_need() -> None:
    """Workers start after the migration, the migration after broker and store are healthy; all that is named exists."""
    assert SERVICES["worker"]["depends_on"]["setup"] == {"condition": "service_completed_successfully"}
    for name in OURS:
        for other, condition in SERVICES[name]["depends_on"].items():
            assert condition["condition"] != "service_healthy" or "healthcheck" in SERVICES[other]
    assert "container_name" not in SERVICES["worker"], "it could not be scaled"


@pytest.mark.parametrize(
    ("name", "port"),
    [("worker", Settings().web_port), ("page", Settings().web_port), ("bridge", Settings().bridge_port)],
)
def test_who_has_pages_is_asked_whether_it_lives(name: str, port: int) -> None:
    """On the port that the settings have by default, with what the image has: Python, and no curl."""
    service = SERVICES[name]
    assert not any(variable.endswith("_PORT") for variable in service["environment"])
    kind, program, _, code = service["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "python")
    assert f"http://127.0.0.1:{port}/live" in code
    compile(code, "healthcheck", "exec")


def test_prometheus_finds_the_workers_and_may_ask_them() -> None:
    """By the name of the service, with the port of the settings and the token that workers have."""
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))
    jobs = {one["job_name"]: one for one in config["scrape_configs"]}
    asked = (("bestbefore", "worker", "web"), ("bestbefore-bridge", "bridge", "bridge"))
    for job, name, kind in asked:
        (found,) = jobs[job]["dns_sd_configs"]
        assert (found["names"], found["port"]) == ([name], getattr(Settings(), f"{kind}_port"))
        token = jobs[job]["authorization"]["credentials_file"]
        assert token == SERVICES[name]["environment"][f"BESTBEFORE_{kind.upper()}_TOKEN_FILE"]
        assert token.removeprefix(MOUNTED) in SERVICES["prometheus"]["secrets"]
    (manager,) = config["alerting"]["alertmanagers"]
    assert manager["static_configs"][0]["targets"] == ["alertmanager:9093"]
    assert "--to=http://alertmanager:9093" in SERVICES["alerts"]["command"]


def test_grafana_reads_the_store_as_one_who_only_reads() -> None:
    """What the data sources take from the environment is there, and the login is the reader's."""
    environment, folder = SERVICES["grafana"]["environment"], DEPLOY / "grafana" / "provisioning"
    sources = (folder / "datasources" / "bestbefore.yml").read_text("utf-8")
    assert set(re.findall(r"\$([A-Z]\w+)", sources)) <= set(environment)
    for secret in re.findall(r"\$__file\{/run/secrets/(\w+)\}", sources):
        assert secret in SERVICES["grafana"]["secrets"]
    reader = parse_url(SERVICES["alerts"]["environment"]["BESTBEFORE_STORE"])
    assert (environment["STORE_USER"], environment["STORE_DATABASE"]) == (reader.username, reader.database)
    path = yaml.safe_load((folder / "dashboards" / "bestbefore.yml").read_text("utf-8"))["providers"][0]["options"][
        "path"
    ]
    mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in SERVICES["grafana"]["volumes"]}
    home = Path(environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) == path
    assert (ROOT / mounted[path] / home.name).is_file()
    board = next(word for word in SERVICES["alerts"]["command"] if word.startswith("--board="))
    assert "/d/bestbefore-model?" in board


def test_the_file_follows_the_specification() -> None:
    assert found_by_others("compose", {"docker-compose.yml": filled_in(COMPOSE)}) == []


def filled_in(part: Any) -> Any:
    """The same with all variables put in."""
    if isinstance(part, dict):
        return {key: filled_in(value) for key, value in part.items()}
    if isinstance(part, list):
        return [filled_in(value) for value in part]
    if isinstance(part, str) and re.fullmatch(r"\$\{[^}]*\}", part):
        return yaml.safe_load(interpolated(part))  # a number stays one
    return interpolated(part) if isinstance(part, str) else part


def test_the_logins_have_the_rights_of_their_roles(store_url: str, tmp_path: Path) -> None:
    """On a real Postgres, also when the script runs twice, and when tables are there already."""
    server = parse_url(store_url)
    for name in ("migrator_password", "worker_password", "reader_password"):
        (tmp_path / name).write_text(f"it's {name}\n")
    shell = {
        **os.environ, "SECRETS": str(tmp_path), "POSTGRES_USER": str(server.username), "PGHOST": str(server.host or ""),
        "POSTGRES_DB": str(server.database), "PGPASSWORD": server.password or "", "PGPORT": str(server.port or ""),
        "PATH": f"{postgres._binaries()}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    if host := server.query.get("host"):
        shell["PGHOST"] = str(host)

    def login(name: str, secret: str) -> str:
        url = server.set(username=f"{server.database}_{name}", password=f"it's {secret}_password")
        return url.render_as_string(hide_password=False)

    try:
        for _ in range(2):
            subprocess.run(["sh", LOGINS_SH], env=shell, check=True, capture_output=True)
            upgrade(login("deploy", "migrator"))
        store = EventStore(login("worker", "worker"))
        assert store.register("m", "1", "d", b"{}")
        store.close()
        store = EventStore(login("watch", "reader"))
        assert store.latest_status() == []
        with pytest.raises(StoreError, match="permission denied"):
            store.register("m", "2", "d", b"{}")
        store.close()
    finally:
        engine = create_engine(server, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for name in ("deploy", "worker", "watch", "migrator", "writer", "reader"):
                connection.execute(text(f'DROP OWNED BY "{server.database}_{name}" CASCADE'))
            for name in ("deploy", "worker", "watch", "migrator", "writer", "reader"):
                connection.execute(text(f'DROP ROLE "{server.database}_{name}"'))
        engine.dispose()


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


def test_the_page_answers_its_health_check_and_asks_for_its_token(tmp_path: Path) -> None:
    """The path of the health check is there, without a token, and nothing else is."""
    store = f"sqlite:///{tmp_path}/events.db"
    upgrade(store)
    command = [sys.executable, "-m", "infra.cli", "page", "--port", "0"]
    environment = {**os.environ, "BESTBEFORE_STORE": store, "BESTBEFORE_WEB_TOKEN": "of-the-test"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        try:
            with urllib.request.urlopen(f"{address}live", timeout=10) as answer:  # noqa: S310 -- on this machine
                assert answer.read() == b"live\n"
            with pytest.raises(HTTPError, match="401"):
                urllib.request.urlopen(f"{address}models.json", timeout=10)  # noqa: S310
        finally:
            process.terminate()
