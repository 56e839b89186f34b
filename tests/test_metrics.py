"""What is counted has a row in the documentation, few labels, and a form that Prometheus reads."""

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from models.assembly import Assembly
from models.evidence import Evidence
from models.forecast import MEMORY
from models.profile import WEIGHT
from models.subject_state import State
from streams.metrics import MAX_REASONS, OTHER, Metrics
from streams.overview import Overview, Standing
from streams.progress import Seen, Snapshot
from streams.services import Services
from streams.store_rows import StoredEvent

PAGE = Path(__file__).parents[1] / "docs" / "monitoring.md"
PLACE = Seen(
    "p.inference",
    2,
    wanted=5,
    end=9,
    committed=3,
    uncommitted_since=90.0,
    event_us=1,
    received_us=1,
    watermark_us=1,
    windows=4,
)
GOOD = Standing(
    model="digits", version="1", metric="accuracy", window_start=0.0, window_end=3600.0, n=7, estimate=0.9, low=0.8,
    high=1.0, threshold=0.85, good_until=5e8, best_before=6e8, probability=0.1,
)  # fmt: skip
UNKNOWN = Standing(
    model="digits", version="2", metric="", window_start=0.0, window_end=3600.0, n=0, estimate=None, low=None,
    high=None, threshold=None, good_until=None, best_before=None, probability=None,
)  # fmt: skip
CALLS = tuple(
    StoredEvent(
        seq=seq, event_id=str(seq), kind="trigger", model="digits", version="1", severity="critical", occurred_at_us=0,
        body={"action": "retrain", "retrain_by": by},
    )
    for seq, by in enumerate(("1970-01-03T00:00:00Z", "1970-01-02T00:00:00Z"))
)  # fmt: skip
MODELS = Overview(models=(GOOD, UNKNOWN), mismatches=CALLS[:1], triggers=CALLS)


def filled() -> Metrics:
    """Metrics of which each has a value."""
    made = Metrics(lambda model: model == "digits", "p.")
    made.watch(
        lambda: Snapshot(100.0, assigned=True, partitions=(PLACE,)), Services(), lambda: 7, lambda: (MODELS, 1e9)
    )
    made.watch_process(lambda: True)
    made.records("p.inference", 1, missing=2)
    made.unpaired("knative", "request")
    made.lost("p.inference", 1)
    names = ("n", "weight", "late", "capped", "ids_sampled", "ids_repeated", "scores_unusable")
    made.rows("p.inference", {(model, name): WEIGHT for model in ("digits", "x", "y") for name in names})
    made.too_late("digits", 1)
    made.dead_letter("p.labels", "join")
    made.commit(done=True)
    made.commit(done=False)
    made.closed("p.inference", 3)
    made.assessed(2, 0.01)
    made.stored("apply", 0.02)
    made.kept(4, 1)
    made.labels(joined=1, unmatched=2)
    made.heartbeat("digits", 10, 2, {"full": 3}, 1)
    made.embedded("CPUExecutionProvider", 16, 0.1)
    return made


def test_every_metric_has_its_row() -> None:
    """Name and meaning as in streams/metrics.py, and nothing besides."""
    made = filled()
    wanted = set()
    for family in made.registry.collect():
        if family.name.startswith("process_"):
            continue  # of the library, the same in every program
        counter = family.type == "counter"
        labels = sorted({name for one in family.samples for name in one.labels} - {"le"})
        shown = f"`{family.name}{'_total' if counter else ''}`"
        wanted.add(f"| {shown} | {family.type} | {', '.join(labels)} | {family.documentation} |")
    lines = re.findall(r"^\| `bestbefore_.*$", PAGE.read_text("utf-8"), re.M)
    assert sorted(lines) == sorted(wanted)


def test_prometheus_reads_what_is_told() -> None:
    found = {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(filled().text().decode())
        for one in family.samples
    }
    inference = ("topic", "inference")
    assert found["bestbefore_records_total", (inference,)] == 1
    assert found["bestbefore_missing_records_total", (inference,)] == 2
    assert found["bestbefore_events_total", (("model", "digits"), inference)] == WEIGHT
    assert found["bestbefore_event_weight_total", (("model", "digits"), inference)] == 1
    assert found["bestbefore_lag_records", (("partition", "2"), inference)] == 4
    assert found["bestbefore_outbox_records", ()] == 7
    assert found["bestbefore_assess_seconds_count", ()] == 1
    assert all(name.startswith(("bestbefore_", "process_")) for name, _ in found)
    assert found["process_resident_memory_bytes", ()] > 0


def test_a_model_is_told_by_what_is_known_of_it() -> None:
    """No series for what nobody can say honestly, and zeros where something may open or close."""
    text = filled().text().decode()
    one, two = 'model="digits",version="1"', 'model="digits",version="2"'
    assert f'bestbefore_model_quality{{metric="accuracy",{one}}} 0.9' in text
    assert f"bestbefore_model_quality_known{{{two}}} 0.0" in text
    assert f"bestbefore_model_best_before_timestamp_seconds{{{one}}} 6e+08" in text
    assert not [line for line in text.splitlines() if two in line and ("_quality{" in line or "best_before" in line)]
    assert 'bestbefore_model_open_mismatches{model="digits",severity="critical",version="1"} 1.0' in text
    assert 'bestbefore_model_open_mismatches{model="digits",severity="info",version="2"} 0.0' in text
    assert 'bestbefore_model_open_triggers{action="retrain",model="digits",version="1"} 2.0' in text
    assert 'bestbefore_model_retrain_by_timestamp_seconds{action="retrain",model="digits",version="1"} 86400.0' in text


def test_a_worker_that_does_not_tell_of_models_has_none() -> None:
    made = Metrics(lambda _: True, "p.")
    made.watch(lambda: Snapshot(100.0, assigned=True, partitions=()), Services(), lambda: 0, lambda: None)
    assert not [line for line in made.text().decode().splitlines() if line.startswith("bestbefore_model")]


def test_a_model_that_nobody_registered_is_no_label() -> None:
    """Nor is a topic's prefix, and all of them together are one series."""
    text = filled().text().decode()
    assert 'model="x"' not in text
    assert 'model="y"' not in text
    assert f'bestbefore_events_total{{model="{OTHER}",topic="inference"}} {2.0 * WEIGHT}' in text
    assert "p.inference" not in text


def test_reasons_of_clients_are_few_and_plain() -> None:
    made = Metrics(lambda _: True, "")
    made.heartbeat("m", 0, 0, {f"reason-{i}": 1 for i in range(100)}, 0)
    made.heartbeat("m", 0, 0, {'"} 1\nfake 2': 5, "Upper": 1, "x" * 40: 1}, 0)
    reasons = set(re.findall(r'bestbefore_client_dropped_events_total\{.*reason="([^"]*)"', made.text().decode()))
    assert len(reasons) == MAX_REASONS + 1
    assert OTHER in reasons


def test_a_window_that_memory_has_let_go_is_too_late() -> None:
    state = State(Assembly(10), ring=[Evidence(start * 10) for start in range(5, 5 + MEMORY)])
    assert [start for start in (0, 40, 50, 60) if state.forgets(start)] == [0, 40]
    state.ring.pop()
    assert not state.forgets(0)  # there is room for it
    state.life.born_us = 500
    assert state.forgets(480)
    assert not state.forgets(495)
