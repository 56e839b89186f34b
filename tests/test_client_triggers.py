"""Triggers as the client reads and answers them, the query for those that are open, and the memory of what was done."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bestbefore_client.runs import Runs
from bestbefore_client.triggers import (
    ANSWERS,
    OPEN_TRIGGERS,
    NotATrigger,
    Trigger,
    answer,
    open_triggers,
    read_trigger,
)
from click.testing import CliRunner
from sqlalchemy import create_engine

from infra import migrate
from infra.cli import main
from streams.event_store import EventStore
from streams.records import decode_lifecycle
from streams.store_rows import Event
from tests.faults.crew import HERE

T0 = 1_795_000_000_000_000
BODY: dict[str, Any] = {
    "trigger_id": "t-1", "action": "retrain", "model_name": "loan", "model_version": "3", "severity": "critical",
    "retrain_by": "2026-11-20T10:00:00Z", "created_at": "2026-11-19T10:00:00Z", "forecast": {}, "reason": {"rule": "r"},
}  # fmt: skip
CLOUD = {"specversion": "1.0", "id": "t-1", "source": "/bestbefore/x", "type": "io.bestbefore.retrain-trigger.v1"}


def test_a_trigger_is_read_however_it_comes() -> None:
    plain = json.dumps(BODY).encode()
    binary = [("ce_specversion", b"1.0"), ("CE_Type", CLOUD["type"].encode())]
    forms = [
        read_trigger(plain), read_trigger(plain.decode()), read_trigger(BODY), read_trigger(plain, binary),
        read_trigger({**CLOUD, "data": BODY}), read_trigger(json.dumps({**CLOUD, "data": BODY}).encode()),
    ]  # fmt: skip
    assert set(forms) == {forms[0]}
    assert (forms[0].model, forms[0].version, forms[0].severity) == ("loan", "3", "critical")
    assert all(form.body == BODY and not form.advice for form in forms)
    assert read_trigger({**BODY, "reason": {"rule": "schedule-not-needed"}}).advice


@pytest.mark.parametrize(
    ("value", "headers", "told"),
    [
        (None, None, "no JSON object"),
        (b"\xff{", None, "no JSON"),
        (b"[" * 100_000, None, "no JSON"),
        (b"[1]", None, "no JSON object"),
        ({**BODY, "trigger_id": 7}, None, "lacks trigger_id"),
        ({"action": "retrain"}, None, "lacks trigger_id, model_name, model_version"),
        (BODY, [("ce_type", b"io.bestbefore.mismatch.v1")], "io.bestbefore.mismatch.v1"),
        ({**CLOUD, "type": "other", "data": BODY}, None, "other"),
    ],
)
def test_what_is_no_trigger_says_why(value: Any, headers: Any, told: str) -> None:
    with pytest.raises(NotATrigger, match=told):
        read_trigger(value, headers)


def test_an_answer_is_a_lifecycle_event_with_an_id_that_follows_from_it() -> None:
    trigger = read_trigger(BODY)
    for kind in ANSWERS:
        told = answer(trigger, kind, "4", message="m" * 2000)
        event = decode_lifecycle(told.value, ())
        assert (told.key, event.id, event.kind, event.trigger_id) == (b"loan", told.id, kind, "t-1")
        assert event.version == ("4" if kind in ("retrained", "deployed") else "3")
        assert event.previous == ("3" if kind == "deployed" else "")
        assert answer(trigger, kind, "4").id == told.id
    assert len({answer(trigger, kind, v).id for kind in ANSWERS for v in "45"}) == 6
    with pytest.raises(ValueError, match="name the version"):
        answer(trigger, "retrained")
    with pytest.raises(ValueError, match="not 'done'"):
        answer(trigger, "done")


@pytest.fixture
def filled(any_store_url: str) -> str:
    """Seven triggers: resolved, refused, advice, another model's, started, retrained, new."""
    migrate.upgrade(any_store_url)
    store = EventStore(any_store_url)
    with store.transaction() as tx:
        for number, name in enumerate(["resolved", "refused", "advice", "other", "started", "retrained", "new"]):
            reason = {"rule": "schedule-not-needed"} if name == "advice" else {"rule": "newsvendor"}
            model = "fraud" if name == "other" else "loan"
            body = {**BODY, "trigger_id": name, "model_name": model, "reason": reason}
            tx.append_events([event(name, "trigger", body, number)])
        for kind, name in (
            ("trigger-resolved", "resolved"), ("retraining-refused", "refused"), ("retraining-started", "started"),
            ("retrained", "retrained"), ("forecast-outcome", "new"),
        ):  # fmt: skip
            body = {"id": name, "kind": kind, "model": "loan", "version": "3", "trigger_id": name}
            tx.append_events([event(f"{kind}-{name}", "lifecycle", body, 10)])
    store.close()
    return any_store_url


def event(name: str, kind: Any, body: dict[str, Any], number: int) -> Event:
    model = body.get("model_name") or body["model"]
    return Event(event_id=name, kind=kind, model=model, version="3", occurred_at_us=T0 + number, body=body)


def test_open_is_what_nobody_finished_and_nothing_resolved(filled: str) -> None:
    engine = create_engine(filled)
    connection: Any = engine.raw_connection()
    found: list[Trigger] = open_triggers(connection)
    connection.close()
    engine.dispose()
    assert [trigger.trigger_id for trigger in found] == ["other", "started", "new"]
    assert {trigger.model for trigger in found} == {"loan", "fraud"}
    assert "v_triggers" in OPEN_TRIGGERS

    def shown(*options: str) -> list[str]:
        run = CliRunner().invoke(main, ["--store", filled, "triggers", "--open", "--format", "json", *options])
        assert run.exit_code == 0, run.output
        return [line["trigger_id"] for line in json.loads(run.output)]

    assert shown() == ["other", "started", "new"]
    assert shown("--model", "loan") == ["started", "new"]
    assert shown("--limit", "1") == ["other"]


def test_what_nobody_answers_hides_nothing_that_is_new(tmp_path: Path) -> None:
    """Those that nobody answers stay open; whoever catches up must be told of the newest all the same."""
    url = f"sqlite:///{tmp_path}/store.db"
    migrate.upgrade(url)
    store = EventStore(url)
    with store.transaction() as tx:
        tx.append_events([
            event(f"t{i:02d}", "trigger", {**BODY, "trigger_id": f"t{i:02d}"}, i) for i in range(60)
        ])  # fmt: skip
    store.close()
    run = CliRunner().invoke(main, ["--store", url, "triggers", "--open", "--format", "json"])
    assert [line["trigger_id"] for line in json.loads(run.output)][-1] == "t59"


def test_runs_are_remembered_and_no_id_leads_out_of_the_folder(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "a" / "runs")
    assert runs.read("../../x") == {}
    runs.write("../../x", {"finished": True})
    assert Runs(tmp_path / "a" / "runs").read("../../x") == {"finished": True}
    assert [path.parent.name for path in tmp_path.rglob("*.json")] == ["runs"]


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    held = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": HERE}
    )
    assert held.stdout is not None
    assert held.stdout.readline() == "held\n"
    held.kill()
    with Runs(tmp_path).locked("t"):
        held.wait()
    held.stdout.close()


HOLD = """
import sys, time
from bestbefore_client.runs import Runs
with Runs(sys.argv[1]).locked("t"):
    print("held", flush=True)
    time.sleep(600)
"""
