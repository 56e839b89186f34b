"""A real Prometheus scrapes a real worker, and its rules say what they should."""

import re
import subprocess
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import yaml

from infra.topic_admin import create_topics
from streams.bridge.buffer import Buffer
from streams.bridge.metrics import BridgeMetrics
from streams.services import Service
from streams.settings import Settings
from tests.broker_rig import produce
from tests.debian import program
from tests.faults.crew import ROOT, Worker
from tests.health_rig import get, workplace
from tests.monitor_rig import PROMETHEUS, ask, asked, prometheus, wait_for
from tests.test_boards import PROMQL
from tests.test_metrics import filled as filled_metrics

TOKEN = "open-sesame"  # noqa: S105 -- of a test
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((PROMETHEUS / "rules.yml").read_text("utf-8"))["groups"] for rule in group["rules"]
]
PAGE = (ROOT / "docs" / "monitoring.md").read_text("utf-8")


class Scraped(NamedTuple):
    """A Prometheus, and the two workers that it scrapes."""

    url: str
    ports: dict[str, int]
    workers: dict[str, Worker]


@pytest.fixture(scope="module")
def scraped(broker: str, filled_store: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    """Two workers of one group on the filled store, and a Prometheus that has seen both."""
    folder = tmp_path_factory.mktemp("scraped")
    settings = Settings(
        broker=broker, store=filled_store, group=folder.name, topic_prefix=f"{folder.name}.", partitions=2,
        web_token=TOKEN, session_timeout="6 s",
    )  # fmt: skip
    create_topics(settings)
    places = {name: workplace(settings) for name in ("one", "two")}
    workers = {name: Worker(folder, name, environment) for name, (environment, _) in places.items()}
    ports = {name: port for name, (_, port) in places.items()}
    try:
        targets = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
        with prometheus(folder, targets, token=TOKEN) as url:
            wait_for(lambda: len(asked(url, "bestbefore_ready == 1")) == 2)
            produce(settings, "inference", [b"{no json"])
            wait_for(lambda: asked(url, "bestbefore_models_read_timestamp_seconds"))
            wait_for(lambda: asked(url, "bestbefore_dead_letters_total"))
            yield Scraped(url, ports, workers)
    finally:
        for worker in workers.values():
            worker.kill()


def test_every_metric_of_a_worker_is_there_with_its_type_and_text(scraped: Scraped) -> None:
    known = ask(f"{scraped.url}/api/v1/metadata")["data"]
    for family in filled_metrics().registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert known[name] == [{"type": family.type, "help": family.documentation, "unit": ""}], name
    assert "process_resident_memory_bytes" in known
    assert {one["metric"]["instance"] for one in asked(scraped.url, "up == 1")} == {"one", "two"}


def test_one_worker_of_a_group_tells_how_the_models_stand(scraped: Scraped) -> None:
    quality = asked(scraped.url, "bestbefore_model_quality")
    assert {one["metric"]["model"] for one in quality} == {"digits", "faces", "letters"}
    assert all(one["metric"]["metric"] == "accuracy" for one in quality)
    assert len({one["metric"]["instance"] for one in quality}) == 1
    assert len(quality) == 3
    (digits,) = asked(scraped.url, '(bestbefore_model_best_before_timestamp_seconds{model="digits"} - time()) / 86400')
    assert -30 < float(digits["value"][1]) < 60
    severities = asked(scraped.url, 'sum by (severity) (bestbefore_model_open_mismatches{model="faces"})')
    assert {one["metric"]["severity"]: one["value"][1] for one in severities}["warning"] > "0"
    assert asked(scraped.url, 'bestbefore_model_open_triggers{model="digits"} == 1')
    assert not asked(scraped.url, 'bestbefore_model_open_triggers{model="letters"}')


def test_every_rule_is_evaluated_without_an_error(scraped: Scraped) -> None:
    def evaluated() -> list[dict[str, Any]]:
        groups = ask(f"{scraped.url}/api/v1/rules")["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        return rules if all(rule["health"] != "unknown" for rule in rules) else []

    found = wait_for(evaluated)
    assert {rule["name"]: rule["health"] for rule in found} == {rule["alert"]: "ok" for rule in RULES}
    assert wait_for(lambda: asked(scraped.url, 'ALERTS{alertname="BestbeforeDeadLetters", alertstate="firing"}'))


def test_the_page_asks_for_its_token(scraped: Scraped) -> None:
    assert get(scraped.ports["one"], "/metrics")[0] == 401


def test_promtool_finds_nothing_to_say_about_the_metrics() -> None:
    """Units, suffixes, help, names of labels."""
    said = subprocess.run(
        [program("promtool"), "check", "metrics"], input=filled_metrics().text(), capture_output=True, check=False
    )
    assert (said.returncode, said.stdout + said.stderr) == (0, b"")


@pytest.mark.parametrize("arguments", [
    ("check", "rules", "rules.yml"),
    ("test", "rules", "rules_test.yml"),
    ("check", "config", "--syntax-only", "prometheus.yml"),
], ids=" ".join)  # fmt: skip
def test_rules_and_configuration_hold_under_promtool(arguments: tuple[str, ...]) -> None:
    said = subprocess.run([program("promtool"), *arguments], cwd=PROMETHEUS, capture_output=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr


def test_every_rule_uses_metrics_that_exist_and_has_a_unit_test() -> None:
    bridge = BridgeMetrics(Buffer(1, 1), Service("broker"), str)
    families = [*filled_metrics().registry.collect(), *bridge.registry.collect()]
    known = {f"{f.name}_total" if f.type == "counter" else f.name for f in families}
    for rule in RULES:
        used = set(re.findall(r"\bbestbefore_\w+", rule["expr"]))
        assert used <= known, rule["alert"]
    tested = yaml.safe_load((PROMETHEUS / "rules_test.yml").read_text("utf-8"))["tests"]
    fires = {case["alertname"] for test in tested for case in test["alert_rule_test"] if case["exp_alerts"]}
    rests = {case["alertname"] for test in tested for case in test["alert_rule_test"] if not case["exp_alerts"]}
    assert fires == {rule["alert"] for rule in RULES}
    assert rests <= fires


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_who_what_and_what_to_do(rule: dict[str, Any]) -> None:
    """Its link leads to a heading, under which stands what to look at and what to do."""
    assert rule["labels"]["severity"] in {"warning", "critical", "{{ $labels.severity }}"}
    assert rule["annotations"]["summary"].endswith(".")
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert page == "docs/monitoring.md"
    assert anchor == rule["alert"].lower()
    told = re.search(rf"^### {rule['alert']}\n(.*?)(?=^##|\Z)", PAGE, re.M | re.S)
    assert told is not None, f"no heading {rule['alert']}"
    assert "**Look**" in told[1]
    assert "**Do**" in told[1]


def test_alerts_and_their_headings_are_the_same() -> None:
    assert sorted(re.findall(r"^### (Bestbefore\w+)$", PAGE, re.M)) == sorted(rule["alert"] for rule in RULES)


def test_every_query_of_a_board_is_answered(scraped: Scraped) -> None:
    """Nothing is empty that a worker tells from its start on."""
    empty = set()
    for one in PROMQL:
        if not asked(scraped.url, one.target["expr"].replace("$__rate_interval", "30s")):
            empty.add(one.panel["title"])
    assert empty <= {
        "Late, too late, wrong clocks", "Dropped by clients", "Embed: inputs, by where the model runs", "Commits",
        "Labels, by what became of them", "Events taken in", "Age of the newest record, by the broker",
        "Assess: time of a transaction",
    }  # fmt: skip


def test_when_the_worker_that_tells_of_the_models_is_gone_the_other_does(scraped: Scraped) -> None:
    """The last of those that share the workers."""
    (told, *_) = asked(scraped.url, "bestbefore_model_quality")
    teller = told["metric"]["instance"]
    (other,) = scraped.ports.keys() - {teller}
    scraped.workers[teller].kill()

    def instances() -> set[str]:
        return {one["metric"]["instance"] for one in asked(scraped.url, "bestbefore_model_quality")}

    wait_for(lambda: instances() == {other})
    assert len(asked(scraped.url, "max by (model, version) (bestbefore_model_quality)")) == 3
