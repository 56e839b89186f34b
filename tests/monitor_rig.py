"""A real Prometheus and a real Alertmanager on ports of their own, and what tests ask them."""

import json
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import yaml

from tests.debian import program
from tests.faults.crew import ROOT
from tests.health_rig import free_port

PROMETHEUS = ROOT / "infra" / "deploy" / "prometheus"
ALERTMANAGER = ROOT / "infra" / "deploy" / "alertmanager"
T = TypeVar("T")


def ask(url: str, body: Any = None) -> Any:
    """The JSON that an address answers."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310 -- on this machine
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        text = answer.read()
    return json.loads(text) if text else None


def wait_for(found: Callable[[], T], patience_s: float = 60) -> T:
    """What `found` returns, once that is true; refused connections count as not yet."""
    ends, value = time.monotonic() + patience_s, None
    while time.monotonic() < ends:
        try:
            value = found()
            if value:
                return value
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pass
        time.sleep(0.1)
    raise AssertionError(f"what was waited for did not come; last: {value!r}")


@contextmanager
def running(log: Path, *command: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process until the block ends."""
    with log.open("ab") as out:
        process = subprocess.Popen([str(part) for part in command], stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def prometheus(folder: Path, targets: dict[str, str], *, token: str = "") -> Iterator[str]:
    """Its address. Rules and scrape job are those that are deployed, but for these targets, by name of the instance."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text("utf-8"))
    job = {one["job_name"]: one for one in config["scrape_configs"]}["bestbefore"]
    config["scrape_configs"] = [job]
    del job["dns_sd_configs"]
    secret = folder / "token"
    secret.write_text(token)
    job["authorization"]["credentials_file"] = str(secret)
    job["static_configs"] = [{"targets": [to], "labels": {"instance": name}} for name, to in targets.items()]
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(PROMETHEUS / "rules.yml")]
    del config["alerting"]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), "utf-8")
    address = f"127.0.0.1:{free_port()}"
    options = (f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}")
    with running(folder / "prometheus.log", program("prometheus"), *options, f"--web.listen-address={address}"):
        url = f"http://{address}"
        wait_for(lambda: urllib.request.urlopen(f"{url}/-/ready", timeout=5).status == 200)  # noqa: S310
        yield url


def asked(url: str, query: str) -> list[dict[str, Any]]:
    """The series that a PromQL query gives at this moment."""
    found = ask(f"{url}/api/v1/query?{urllib.parse.urlencode({'query': query})}")
    assert found["status"] == "success", found
    result: list[dict[str, Any]] = found["data"]["result"]
    return result


class Notices:
    """Takes what Alertmanager sends to a webhook."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        taken = self.taken

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def told(self, status: str, **labels: str) -> list[dict[str, Any]]:
        """The alerts with this status and these labels, in all notices."""
        alerts = [alert for notice in list(self.taken) for alert in notice["alerts"]]
        return [a for a in alerts if a["status"] == status and labels.items() <= a["labels"].items()]

    def close(self) -> None:
        """Take nothing more."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def alertmanager(folder: Path, notices: Notices, port: int) -> Iterator[str]:
    """Its address. The configuration is the deployed one, but quick, and everybody's messages go to `notices`."""
    config = yaml.safe_load((ALERTMANAGER / "alertmanager.yml").read_text("utf-8"))
    config["route"] |= {"group_wait": "0s", "group_interval": "1s"}
    for receiver in config["receivers"]:
        receiver["webhook_configs"] = [{"url": notices.url, "send_resolved": True}]
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(config), "utf-8")
    options = (f"--config.file={folder / 'alertmanager.yml'}", f"--storage.path={folder / 'alerts'}")
    address = f"127.0.0.1:{port}"
    listen = (f"--web.listen-address={address}", "--cluster.listen-address=")
    with running(folder / "alertmanager.log", program("prometheus-alertmanager"), *options, *listen):
        url = f"http://{address}"
        wait_for(lambda: urllib.request.urlopen(f"{url}/-/ready", timeout=5).status == 200)  # noqa: S310
        yield url
