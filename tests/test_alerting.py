"""A real Alertmanager is told what is open, once, and that it has ended; also when it or the store was away."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import URL

from infra.alerting import MOST, Alert, Sender, alerts_of, post_with
from infra.cli import main
from infra.migrate import upgrade
from models.columns import Subject
from models.lifecycle import resolution_id
from streams.errors import StoreUnreachable
from streams.event_store import EventStore
from streams.overview import KEEP_DAYS, Overview, overview
from streams.records import time_text
from streams.store_rows import Event, StoredEvent
from tests.debian import program
from tests.health_rig import free_port
from tests.monitor_rig import ALERTMANAGER, Notices, alertmanager, ask, wait_for

HOUR_US = 3_600_000_000
BOARD = "http://grafana:3000/d/bestbefore-model?var-model={model}&var-version={version}"


class Telling:
    """A store in which a model version has a mismatch and a trigger, hour by hour."""

    def __init__(self, url: str) -> None:
        upgrade(url)
        self.store = EventStore(url)
        self.hour = (time.time_ns() // 1000) // HOUR_US - 10
        self.trigger = ""

    def pass_hour(self, *, broken: bool = False, model: str = "loan & co", **lifecycle: Any) -> None:
        """One more window: what its status and its verdict say."""
        self.hour += 1
        start, end = self.hour * HOUR_US, (self.hour + 1) * HOUR_US
        body: dict[str, Any] = {
            "registered": True, "window": {"n": 9}, "quality": {"metric": "accuracy"}, "forecast": {},
            "open_mismatches": ["domain-and-schema/age"] if broken else [],
            "open_triggers": {"retrain": self.trigger} if self.trigger else {}, "lifecycle": lifecycle,
        }  # fmt: skip
        verdict = {
            "verdict": "mismatch" if broken else "ok", "field": "age", "message": "age is out of range",
            "left": {"path": "production_data.schema[0]", "value": [0, 99]}, "owner": "data engineer",
            "right": {"path": "telemetry.features.age", "value": 812.5}, "remedy": "mend the source",
            "effect": {"statistic": "share", "estimate": 0.2, "low": 0.1, "high": 0.3, "threshold": 0.0},
            "first_seen": time_text(end - 2 * HOUR_US), "action": "fix-pipeline",
        }  # fmt: skip
        known: dict[str, Any] = {
            "model": model,
            "version": "1",
            "occurred_at_us": end,
            "window_start_us": start,
            "window_end_us": end,
        }
        with self.store.transaction() as tx:
            tx.append_events([
                Event(event_id=f"status-{model}-{end}", kind="status", body=body, **known),
                Event(event_id=f"verdict-{model}-{end}", kind="mismatch", body=verdict, check="domain-and-schema",
                      severity="critical", **known),
            ])  # fmt: skip

    def ask(self, model: str = "loan & co") -> None:
        """A trigger is opened."""
        self.trigger = f"trigger-{self.hour}"
        self._one("trigger", self.trigger, model, {
            "trigger_id": self.trigger, "action": "retrain", "retrain_by": time_text((self.hour + 9) * HOUR_US),
            "created_at": time_text(self.hour * HOUR_US), "reason": {"rule": "below-threshold"}, "forecast": {},
        })  # fmt: skip

    def answer(self, model: str = "loan & co") -> None:
        """The trigger is resolved, and no status says so yet."""
        name = resolution_id(Subject(model, "1"), self.trigger)
        self._one("lifecycle", name, model, {"kind": "trigger-resolved", "trigger_id": self.trigger})

    def _one(self, kind: Any, name: str, model: str, body: dict[str, Any]) -> None:
        with self.store.transaction() as tx:
            tx.append_events([
                Event(event_id=name, kind=kind, model=model, version="1", severity="warning",
                      occurred_at_us=self.hour * HOUR_US, body=body)
            ])  # fmt: skip

    def read(self) -> Overview:
        """What is open."""
        return overview(self.store, time.time_ns() // 1000)

    def sender(self, *to: str, every: float = 30) -> Sender:
        """A process that tells, without its loop."""
        return Sender(to, self.read, post_with(""), every=every, board=BOARD)


@pytest.fixture
def telling(tmp_path: Path) -> Iterator[Telling]:
    """An empty store."""
    made = Telling(URL.create("sqlite", database=str(tmp_path / "store.db")).render_as_string())
    yield made
    made.store.close()


@pytest.fixture
def notices() -> Iterator[Notices]:
    """Where messages of Alertmanager go."""
    made = Notices()
    yield made
    made.close()


def test_a_mismatch_is_told_once_with_both_sides_and_its_end(
    telling: Telling, notices: Notices, tmp_path: Path
) -> None:
    telling.pass_hour(broken=True)
    port = free_port()
    with alertmanager(tmp_path, notices, port) as url:
        one, other = telling.sender(url), telling.sender(url)
        assert [one.round(time.time()), other.round(time.time())] == [1, 1]
        (held,) = ask(f"{url}/api/v2/alerts")
        assert held["labels"] == {
            "alertname": "BestbeforeMismatch", "model": "loan & co", "version": "1", "check": "domain-and-schema",
            "field": "age", "severity": "critical", "owner": "data engineer", "action": "fix-pipeline",
        }  # fmt: skip
        assert held["annotations"]["declared"] == "production_data.schema[0] = [0,99]"
        assert held["annotations"]["seen"] == "telemetry.features.age = 812.5"
        assert held["annotations"]["effect"] == "share 0.2 [0.1, 0.3], threshold 0.0"
        assert held["annotations"]["remedy"] == "mend the source"
        assert held["generatorURL"] == BOARD.format(model="loan%20%26%20co", version="1")
        assert held["startsAt"][:19] == time_text((telling.hour - 1) * HOUR_US)[:19]
        wait_for(lambda: notices.told("firing", check="domain-and-schema"))
        telling.pass_hour(broken=True)
        for sender in (one, other, telling.sender(url)):
            assert sender.round(time.time()) == 1
        telling.ask()
        telling.pass_hour(broken=True)
        assert one.round(time.time()) == 2
        wait_for(lambda: notices.told("firing", alertname="BestbeforeTrigger"))
        # Told again with the group, which has a new member; without one it was not told again.
        assert [len(notice["alerts"]) for notice in notices.taken] == [1, 2]
    telling.answer()
    telling.pass_hour()
    assert one.round(time.time()) == 0, "Alertmanager is away, and nothing is open"
    assert one.failing == {url}
    with alertmanager(tmp_path, notices, port):
        assert one.round(time.time()) == 0
        assert one.failing == set()
        assert wait_for(lambda: notices.told("resolved", alertname="BestbeforeTrigger"))
        assert wait_for(lambda: notices.told("resolved", check="domain-and-schema"))


def test_nothing_ends_while_the_store_is_away() -> None:
    """And what is not told any more ends by itself, should this process die."""
    sent: list[list[Alert]] = []
    found = Overview(mismatches=(mismatch(0),))

    def read() -> Overview:
        if sent:
            raise StoreUnreachable("postgres db:5432/b: connection refused")
        return found

    def post(_: str, alerts: list[Alert]) -> str:
        sent.append(alerts)
        return ""

    sender = Sender(["http://a/"], read, post, every=30)
    assert [sender.round(1_800_000_000.0 + 30 * i) for i in range(3)] == [1, 1, 1]
    assert [alerts[0]["endsAt"] for alerts in sent] == [
        "2027-01-15T08:02:00Z", "2027-01-15T08:02:30Z", "2027-01-15T08:03:00Z"
    ]  # fmt: skip
    assert sender.failing == {"the store"}


def mismatch(number: int, severity: str = "warning") -> StoredEvent:
    """A mismatch of one of many features."""
    return StoredEvent(
        seq=number, event_id=str(number), kind="mismatch", model="m", version="1", check="covariate-drift",
        severity=severity, occurred_at_us=0, body={"field": f"f{number}", "first_seen": "2026-11-01T00:00:00Z"},
    )  # fmt: skip


def test_a_flood_is_cut_and_says_so_with_the_most_severe_first() -> None:
    many = tuple(mismatch(i, "critical" if i == MOST + 8 else "info") for i in range(MOST + 9))
    alerts = alerts_of(Overview(mismatches=many))
    assert len(alerts) == MOST + 1
    assert alerts[0]["labels"]["severity"] == "critical"
    assert alerts[-1]["labels"] == {"alertname": "BestbeforeMore", "severity": "info"}
    assert "9 further" in alerts[-1]["annotations"]["summary"]
    assert alerts_of(Overview(mismatches=many[::-1])) == alerts


@pytest.mark.parametrize("kind", ["retrained", "deployed", "retraining-refused"])
def test_a_trigger_that_was_answered_is_not_told_as_open(telling: Telling, kind: str) -> None:
    """As `bestbefore triggers --open` and every orchestrator see it; who only began may have died."""
    telling.ask()
    telling.pass_hour()
    telling._one("lifecycle", "began", "loan & co", {"kind": "retraining-started", "trigger_id": telling.trigger})
    assert [event.event_id for event in telling.read().triggers] == [telling.trigger]
    telling._one("lifecycle", "answer", "loan & co", {"kind": kind, "trigger_id": telling.trigger})
    telling.pass_hour()
    assert telling.read().triggers == ()


def test_who_is_replaced_forgotten_or_unregistered_is_not_told(telling: Telling) -> None:
    telling.pass_hour(broken=True)
    telling.pass_hour(broken=True, model="replaced", serving=False)
    telling.pass_hour(broken=True, model="retired", retired=True)
    telling.hour -= KEEP_DAYS * 24 + 20
    telling.pass_hour(broken=True, model="forgotten")
    assert {event.model for event in telling.read().mismatches} == {"loan & co"}
    assert {one.model for one in telling.read().models} == {"loan & co"}


def test_the_command_says_what_is_wrong(telling: Telling, tmp_path: Path) -> None:
    telling.pass_hour(broken=True)
    store = f"sqlite:///{tmp_path / 'store.db'}"

    def said(*arguments: str) -> Any:
        return CliRunner().invoke(main, ["--store", store, "alerts", *arguments])

    refused = said("--once", "--to", f"http://127.0.0.1:{free_port()}")
    assert (refused.exit_code, refused.stdout) == (1, "1 alerts are open\n")
    for wrong, told in ((("--to", "alertmanager:9093"), "http://"), (("--to", "http://a", "--board", "{x}"), "braces")):
        result = said("--once", *wrong)
        assert result.exit_code == 2
        assert told in result.stderr


def test_the_deployed_configuration_holds_under_amtool() -> None:
    said = subprocess.run(
        [program("amtool"), "check-config", ALERTMANAGER / "alertmanager.yml"], capture_output=True, check=False
    )
    assert said.returncode == 0, said.stderr
