"""Every board of Grafana: its form, and each of its queries against a store that is filled, as a reader of it."""

import json
import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any, NamedTuple

import pytest
import yaml
from sqlalchemy import Connection, create_engine, text

from infra.migrations import roles
from streams.store_engine import parse_url
from tests.deploy_rig import DEPLOY, found_by_others
from tests.filled_store import SITE
from tests.test_metrics import filled as filled_metrics

GRAFANA = DEPLOY / "grafana"
BOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text("utf-8")) for path in sorted((GRAFANA / "boards").glob("*.json"))
}
STORE, PROMETHEUS = "bestbefore-store", "bestbefore-prometheus"
CHOSEN = {"model": "digits", "version": "1", "segment": ""}
OF_PROMETHEUS = {"up", "ALERTS", "process_resident_memory_bytes", "process_cpu_seconds_total"}


class Asked(NamedTuple):
    """One query of a board."""

    board: str
    panel: dict[str, Any]
    target: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.board}: {self.panel['title']} {self.target['refId']}"


ASKED = [Asked(name, panel, t) for name, board in BOARDS.items() for panel in board["panels"] for t in panel["targets"]]
SQL = [one for one in ASKED if one.target["datasource"]["uid"] == STORE]
PROMQL = [one for one in ASKED if one.target["datasource"]["uid"] == PROMETHEUS]


@pytest.fixture(scope="module")
def reader(filled_store: str) -> Iterator[Connection]:
    """A connection to the filled store with the rights that Grafana has."""
    url = parse_url(filled_store)
    engine = create_engine(url)
    with engine.connect() as connection:
        connection.execute(text(f"SET ROLE {roles.quoted(roles.names_of(str(url.database)).reader)}"))
        connection.execute(text("SET TIME ZONE 'UTC'"))
        yield connection
    engine.dispose()


def rows(reader: Connection, sql: str, **chosen: str) -> list[dict[str, Any]]:
    """What a query gives, with Grafana's macros and variables put in as Grafana does it."""
    values = CHOSEN | chosen
    sql = re.sub(r"\$__timeFilter\(([^()]*)\)", r"\1 BETWEEN now() - interval '60 days' AND now()", sql)
    sql = sql.replace("$__timeFrom()", "(now() - interval '60 days')").replace("$__timeTo()", "now()")
    sql = re.sub(r"\$\{(\w+):sqlstring\}", lambda found: "'" + values[found[1]].replace("'", "''") + "'", sql)
    assert "$" not in sql, f"a macro or variable that is not known: {sql}"
    return [dict(row) for row in reader.exec_driver_sql(sql.replace("%", "%%")).mappings()]


def test_boards_are_read_by_the_sdk_of_grafana_and_written_back_without_loss() -> None:
    assert sorted(BOARDS) == ["fleet", "model", "operations"]
    assert found_by_others("boards", BOARDS) == []


@pytest.mark.parametrize("asked", SQL, ids=lambda one: one.name)
def test_sql_runs_as_a_reader_and_gives_the_columns_that_the_panel_names(asked: Asked, reader: Connection) -> None:
    found = rows(reader, asked.target["rawSql"])
    assert found or asked.panel["title"] == "What happened", "nothing is shown of a store that has everything"
    columns = {name for target in asked.panel["targets"] for row in rows(reader, target["rawSql"]) for name in row}
    named = {
        override["matcher"]["options"]
        for override in asked.panel["fieldConfig"]["overrides"]
        if override["matcher"]["id"] == "byName"
    }
    if found:
        assert named <= columns
    if asked.panel["type"] == "timeseries":
        assert next(iter(found[0])) == "time"
        assert [row["time"] for row in found] == sorted(row["time"] for row in found)
        texts = {type(value) for row in found for name, value in row.items() if name not in ("time", "metric")}
        assert str not in texts
    if asked.panel["type"] == "stat":
        assert len(found) == 1
        assert len(found[0]) == 1


def test_a_board_shows_what_the_store_has(reader: Connection) -> None:
    """The nearest date comes first; an interval lies around its estimate; a mismatch has both sides."""
    by_title = {one.panel["title"]: one.target["rawSql"] for one in SQL if one.board == "fleet"}
    dates = rows(reader, by_title["Best-before dates, the nearest first"])
    assert [row["model"] for row in dates] == ["digits", "faces", "letters"]
    assert dates[0]["asked for"]
    assert re.fullmatch(r"\[0\.\d{3}, [01]\.\d{3}\]", dates[0]["90% interval, or why unknown"])
    wrong = [row for row in rows(reader, by_title["Open mismatches"]) if row["model"] == "faces"]
    assert {"domain-and-schema", "covariate-drift"} <= {row["check"] for row in wrong}
    assert all(row["declared at"] and row["seen"] and row["owner"] and row["remedy"] for row in wrong[:5])
    (trigger, *_) = rows(reader, by_title["Triggers, the newest first"])
    assert (trigger["model"], trigger["state"]) == ("digits", "open")


def test_what_somebody_chooses_on_the_board_of_a_model(reader: Connection) -> None:
    """The lists of the variables, a segment, and names that were made to break out of a query."""
    lists = {one["name"]: one["query"] for one in BOARDS["model"]["templating"]["list"]}
    assert [row["model"] for row in rows(reader, lists["model"])] == ["digits", "faces", "letters"]
    assert [row["version"] for row in rows(reader, lists["version"])] == ["1"]
    assert [row["segment"] for row in rows(reader, lists["segment"])] == ["", SITE]
    for asked in (one for one in SQL if one.board == "model"):
        rows(reader, asked.target["rawSql"], segment=SITE)
        assert not rows(reader, asked.target["rawSql"], model="' OR 1 = 1 --", segment="';")
    for annotation in BOARDS["model"]["annotations"]["list"]:
        found = rows(reader, annotation["target"]["rawSql"])
        assert all({"time", "text"} <= set(row) for row in found)
        assert found or annotation["name"] == "Deployments"


@pytest.mark.parametrize("asked", PROMQL, ids=lambda one: one.name)
def test_promql_asks_for_metrics_and_labels_that_exist(asked: Asked) -> None:
    families = list(filled_metrics().registry.collect())
    known = {f"{f.name}_total" if f.type == "counter" else f.name for f in families}
    known |= {f"{f.name}_bucket" for f in families if f.type == "histogram"}
    labels = {name for f in families for sample in f.samples for name in sample.labels}
    used = set(re.findall(r"\b(?:bestbefore|process)_\w+", asked.target["expr"]))
    assert used <= known | OF_PROMETHEUS
    assert used or re.search(r"\b(up|ALERTS)\b", asked.target["expr"])
    shown = re.findall(r"\{\{(\w+)\}\}", asked.target["legendFormat"])
    by = set(re.findall(r"by \(([^)]*)\)", asked.target["expr"]))
    assert {name.strip() for part in by for name in part.split(",")} <= labels | {"le"}
    assert set(shown) <= labels | {"instance"}


@pytest.mark.parametrize("name", BOARDS)
def test_panels_have_a_place_a_name_and_a_unit_of_their_own(name: str) -> None:
    board = BOARDS[name]
    assert board["uid"] == f"bestbefore-{name}"
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert len({panel["title"] for panel in board["panels"]}) == len(board["panels"])
    for one, other in combinations([panel["gridPos"] for panel in board["panels"]], 2):
        apart = (
            one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        )  # fmt: skip
        assert apart, (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in board["panels"])


def test_links_lead_to_boards_and_variables_that_exist() -> None:
    variables = {one["name"] for one in BOARDS["model"]["templating"]["list"]}
    links = re.findall(r"/d/(bestbefore-\w+)\?([^\"]*)", json.dumps(BOARDS))
    assert links
    for uid, query in links:
        assert uid == BOARDS["model"]["uid"]
        assert set(re.findall(r"var-(\w+)=", query)) <= variables


def test_data_sources_of_the_boards_are_provisioned() -> None:
    folder = GRAFANA / "provisioning"
    made = {
        source["uid"]: source["type"]
        for source in yaml.safe_load((folder / "datasources" / "bestbefore.yml").read_text("utf-8"))["datasources"]
    }
    for one in ASKED:
        assert made[one.target["datasource"]["uid"]] == one.target["datasource"]["type"]
        assert one.panel["datasource"] == one.target["datasource"]
    (provider,) = yaml.safe_load((folder / "dashboards" / "bestbefore.yml").read_text("utf-8"))["providers"]
    assert provider["type"] == "file"
