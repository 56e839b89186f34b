"""Labels that are asked for: the same in every batching and replay, with the probability that they were asked with."""

import asyncio
import itertools
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from bestbefore_client import Repeated, encode_frame
from faust.types import TP

from agents.label import labelled
from infra.migrate import upgrade
from infra.recorded_lines import write_requests
from infra.replay import Engine, Step
from models.columns import Subject
from models.label_sampling import STEP, registered_plan
from models.profile import Profile
from models.reference import Reference, compile_reference
from models.window_book import Clock
from streams.app import create_app
from streams.asking import ask, ask_of_events, ask_of_frame, asked_with, request_of
from streams.batches import Stamped, event_batch, frame_batch, kept_of_events, kept_of_frame, outcome_batch
from streams.event_store import EventStore
from streams.frames import decode_frame
from streams.lane import Lane
from streams.records import decode_inference, decode_label
from streams.runtime import Runtime
from streams.settings import Settings, load
from streams.store_rows import Prediction
from streams.topics import INFERENCE, LABEL_REQUESTS

START, DAY, KEEP, N = 1_795_132_800_000_000, 86_400_000_000, 0.4, 2000
BUDGET = {
    "share": 0.1,
    "segments": [{"segment": {"site": "A"}, "share": 0.9}, {"segment": {"site": "B"}, "share": 0.1}],
}
REFERENCE = compile_reference(
    {
        "trained_model": {"model_name": "m", "model_version": "1"},
        "training_data": {"bestbefore": {"calibration": {"accuracy": 0.9, "n": 500}}},
        "production_data": {"bestbefore": {"labels": {"delay": "7 days", "budget": BUDGET}}},
        "system_context": {"bestbefore": {"window": "1 day"}},
    }
)


def columns(rows: slice = slice(None)) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    top = np.clip(rng.beta(6, 0.8, N), 0.5, 0.999).astype(np.float32)
    made: dict[str, Any] = {
        "id": np.array([f"r-{i}" for i in range(N)]), "time": START + np.arange(N) * 1_000_000,
        "scores": np.stack([top, 1 - top], axis=1),
        "status": rng.choice([200, 500], N, p=[0.97, 0.03]).astype(np.int32),
        "segment.site": rng.choice(["A", "B"], N, p=[0.9, 0.1]),
        "served": rng.choice(["live", "shadow"], N, p=[0.9, 0.1]),
    }  # fmt: skip
    return {k: v[rows] for k, v in made.items()}


def frame(rows: slice = slice(None)) -> bytes:
    made = columns(rows)
    texts = {k: made[k].tolist() for k in ("id", "segment.site", "served")}
    return encode_frame({**made, **texts, "model": Repeated("m"), "version": Repeated("1")}, classes=["no", "yes"])


def events() -> list[Stamped]:
    made, found = columns(), []
    for i in range(N):
        event = {
            "id": str(made["id"][i]), "time": f"2026-11-20T00:{i // 60:02d}:{i % 60:02d}Z", "model": "m",
            "version": "1", "segment": {"site": str(made["segment.site"][i])}, "status": int(made["status"][i]),
            "served": str(made["served"][i]),
            "output": {"scores": dict(zip(("no", "yes"), made["scores"][i].tolist(), strict=True))},
        }  # fmt: skip
        found.append(Stamped(i, START, decode_inference(msgspec.json.encode(event), [])))
    return found


def known(*_: str) -> Reference:
    return REFERENCE


def asked(kept: list[Prediction]) -> dict[str, Any]:
    return {p.inference_id: p.extra["asked"] for p in ask(kept, KEEP, known) if p.extra and "asked" in p.extra}


def test_the_same_labels_are_asked_for_however_the_events_come() -> None:
    whole = asked(kept_of_frame(decode_frame(frame(), 0), KEEP))
    assert len(whole) > 100
    parts: dict[str, Any] = {}
    for first, last in itertools.pairwise([0, 1, 7, 500, 1999, N]):
        parts |= asked(kept_of_frame(decode_frame(frame(slice(first, last)), 0), KEEP))
    assert parts == whole
    assert asked(kept_of_events(events(), KEEP)) == whole
    assert {log["reason"] for log in whole.values()} == {"uniform", "doubt", "scarce"}
    assert all((log["propensity"] / STEP).is_integer() for log in whole.values())


def test_what_is_asked_for_is_what_the_profile_counts() -> None:
    decoded = decode_frame(frame(), 0)
    ask_of_frame(decoded, KEEP, known)
    logs = asked(kept_of_frame(decoded, KEEP))
    stamped = events()
    single = event_batch(stamped, asked=ask_of_events([s.event for s in stamped], KEEP, known))
    for batch in (frame_batch(decoded, 0, START), single):
        profiles: dict[Subject, Profile] = {}
        for subject, rows, _ in batch.groups:
            profiles.setdefault(Subject(*subject), Profile()).add(rows, REFERENCE)
        counts = profiles[Subject("m", "1")].counts
        assert counts["asked.n"] == len(logs)
        cells = profiles[Subject("m", "1")].categories["asked.cells"]
        assert sum(cells.values()) == len(logs)
        assert sum(n / float(cell.split()[1]) for cell, n in cells.items()) == pytest.approx(
            sum(1 / log["propensity"] for log in logs.values())
        )
        # Half of the budget may go where doubt is larger than at registration, and to scarce segments.
        assert 0.05 < counts["asked.propensity"] * STEP / counts["n"] < 0.15
        sites = [profiles[Subject("m", "1", f'{{"site":"{site}"}}')].counts for site in "AB"]
        assert sum(c["asked.n"] for c in sites) == len(logs)
        assert sites[1]["asked.n"] / sites[1]["n"] > 1.2 * sites[0]["asked.n"] / sites[0]["n"]


def test_nothing_is_asked_for_beyond_what_is_kept_and_without_a_budget() -> None:
    few = ask(kept_of_frame(decode_frame(frame(), 0), 0.03), 0.03, known)
    assert all((asked_with(p) or 0.0) <= 0.03 for p in few)
    plain = msgspec.structs.replace(REFERENCE, labels=msgspec.structs.replace(REFERENCE.labels, plan=None))
    decoded = decode_frame(frame(), 0)
    ask_of_frame(decoded, KEEP, lambda *_: plain)
    assert decoded.rows.asked is None
    assert all(
        p.extra is None or "asked" not in p.extra for p in ask(kept_of_frame(decoded, KEEP), KEEP, lambda *_: plain)
    )


def test_a_label_that_answers_a_request_has_its_propensity() -> None:
    def label(**fields: Any) -> Stamped:
        body = {"inference_id": "a", "time": "2026-11-20T10:00:00Z", "label": "x"} | fields
        return Stamped(0, START, (decode_label(msgspec.json.encode(body), []), None))

    row = Prediction(model="m", version="1", inference_id="a", segment="", time_us=START, label="x", propensity=KEEP)
    wanted = msgspec.structs.replace(row, extra={"asked": {"propensity": 0.25, "reason": "doubt"}})
    answer = labelled(label(), wanted, asking=True)
    assert (answer.propensity, answer.asked, answer.feedback, answer.kept) == (0.25, True, False, 1.0)
    own = labelled(label(propensity=0.5), wanted, asking=True)
    assert (own.propensity, own.asked, own.feedback) == (0.5, False, False)  # an audit by itself; the request is open
    rounded = labelled(label(propensity=0.2512), wanted, asking=True)
    assert (rounded.propensity, rounded.asked) == (0.25, True)  # or its cell would count as missing, and come too
    assert labelled(label(source="feedback"), wanted, asking=True).feedback
    # Nobody asked, and nobody says how likely it was: volunteered, so evidence at most.
    assert labelled(label(), row, asking=True).feedback
    assert not labelled(label(propensity=0.5), row, asking=True).feedback
    assert (labelled(label(), row).feedback, labelled(label(), row).propensity) == (False, 1.0)
    (_, rows, _), *_ = outcome_batch([answer], 0).groups
    made = Profile()
    made.add(rows, REFERENCE)
    assert made.counts["audit.asked"] == 1
    assert made.categories["audit.cells"] == {"1 1 -1 0.25": 1}


def test_replay_writes_the_requests_that_a_worker_sends(tmp_path: Path) -> None:
    settings = load({}, tmp_path, store=f"sqlite:///{tmp_path}/store.db", keep_rate=KEEP)
    upgrade(settings.store)

    async def live() -> list[tuple[str, bytes, dict[str, str]]]:
        store = EventStore(settings.store)
        runtime = Runtime(settings, create_app(settings, loop=asyncio.get_running_loop()), store)
        runtime.registry.put(REFERENCE)
        sent: list[tuple[str, bytes, dict[str, str]]] = []

        async def send(topic: str, key: Any, value: bytes, headers: Any = ()) -> None:
            # The prediction is in the store before anybody is asked about it.
            assert topic != LABEL_REQUESTS or store.find_predictions([key.decode()])
            sent.append((topic, value, {k: v.decode() for k, v in headers}))

        runtime.send = send  # type: ignore[method-assign,assignment]
        lane = Lane(runtime, TP("inference", 0), 1, 0, Clock())
        decoded = decode_frame(frame(), 0)
        ask_of_frame(decoded, KEEP, runtime.registry.get)
        kept = ask(kept_of_frame(decoded, KEEP), KEEP, runtime.registry.get)
        await lane.add(frame_batch(decoded, 0, START), kept)
        await lane.settle()
        store.close()
        return sent

    sent = [m for m in asyncio.run(live()) if m[0] == LABEL_REQUESTS]
    assert len({headers["ce_id"] for *_, headers in sent}) == len(sent)
    engine = Engine([REFERENCE], Settings(keep_rate=KEEP), set())
    with pa.ipc.open_stream(frame()) as reader:
        engine.take(Step(START, INFERENCE, reader.read_next_batch()))
    assert write_requests(engine.requests.values(), tmp_path) == len(sent) > 100
    lines = (tmp_path / "label-requests.jsonl").read_bytes().splitlines()
    assert sorted(lines) == sorted(value for _, value, _ in sent)
    first = msgspec.json.decode(lines[0])
    assert set(first) == {"inference_id", "model", "version", "segment", "time", "propensity", "reason", "due"}
    assert first["due"][:10] == "2026-11-27"


def test_requests_come_from_the_log_alone() -> None:
    row = Prediction(model="m", version="1", inference_id="a", segment="", time_us=START)
    assert request_of(row, REFERENCE) is None
    assert asked_with(row) is None


@pytest.mark.parametrize(
    ("budget", "told"),
    [
        ({}, "give share"),
        ({"per_day": 20}, "needs production_data.bestbefore.rate"),
        ({"share": 2.0}, "give share"),
        ({"share": 0.1, "per_day": 20}, "are both given"),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused(budget: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        registered_plan(budget, accuracy=0.9)
    assert registered_plan({"per_day": 20}, accuracy=0.9, rate={"mean": 1000, "unit": "1/day"}).rate == 0.02
    assert registered_plan({"per_day": 24}, accuracy=None, rate={"mean": 1, "unit": "1/minute"}).rate == pytest.approx(
        1 / 60
    )
