"""One of everything that a version stores or sends, and what a version reads in it.

    python tests/artefacts.py write FOLDER DESCRIPTORS
    python tests/artefacts.py read FOLDER... DESCRIPTORS      (prints JSON)

Runs under this version and, as it stands here, under the previous one, so it uses only what both have and imports
nothing of the other tests. Whoever reads says everything that counts: contents, and what is concluded from them.
"""

import json
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from bestbefore_client import Repeated, encode_frame

from infra import migrate
from infra.recording import Writer, read_recording, sorted_by_time
from models.assessor import assess
from models.columns import Embedded, Subject
from models.inspection import GoldenResult, Inspection, TensorFact
from models.lifecycle import Change
from models.profile import Profile
from models.reference import Reference
from models.subject_state import State, fresh
from models.window_book import Batch, Clock, Closed, Cut, Key, WindowBook
from streams.batches import Labelled, Stamped, event_batch, frame_batch, kept_of_events, kept_of_frame, outcome_batch
from streams.delivery import decode_clock, encode_clock
from streams.descriptor_files import load_reference
from streams.event_store import EventStore
from streams.frames import decode_frame
from streams.inspecting import decode_inspection, encode_inspection
from streams.lane import ProfileRecord, change_record, profile_record
from streams.records import decode_inference, decode_input, decode_label, decode_lifecycle
from streams.registry import decode_reference, encode_reference
from streams.store_rows import (
    Event,
    LabelRow,
    OutboxMessage,
    PredictionColumns,
    WindowCounts,
    WindowEstimate,
)
from streams.store_rows import State as StoredState

DAY_US = 86_400_000_000
START = 20_000 * DAY_US
DAYS, MORE = 30, 12  # of the state that is written, and how much longer whoever reads it goes on
KEY = ("digits", "1")
TIME = "2026-11-20T10:00:00.123456Z"


# -- what is sent --------------------------------------------------------------------------------------------


def frame(day: int, reserved: bool = False) -> bytes:
    """A day of traffic that gets worse."""
    rng = np.random.default_rng(day)
    n, good = 200, 0.95 - 0.01 * max(day - 10, 0)
    scores = np.full((n, 10), (1 - good) / 9, np.float32)
    best = rng.integers(0, 10, n)
    scores[np.arange(n), best] = good
    columns: dict[str, Any] = {
        "id": [f"d-{day}-{i}" for i in range(n)], "time": START + day * DAY_US + np.sort(rng.integers(0, DAY_US, n)),
        "model": Repeated("digits"), "version": Repeated("1"), "scores": scores, "label": [str(b) for b in best],
        "latency_ms": rng.gamma(4.0, 1.0, n), "status": np.where(rng.random(n) < 0.03, 500, 200),
        "features.brightness": rng.normal(0.305 + 0.002 * day, 0.034, n),
        "features.contrast": rng.normal(0.316, 0.0287, n),
        "features.lamp": [None if v < 0.1 else "day" if v < 0.6 else "night" for v in rng.random(n)],
        "segment.site": [f"s{v}" for v in rng.integers(0, 3, n)], "digest": Repeated("sha256:" + "ab" * 32),
    }  # fmt: skip
    if reserved:
        columns |= {
            "abstained": rng.random(n) < 0.1, "sampling": np.full(n, 0.5), "embedding": np.ones((n, 3), np.float32),
            "experiment": ['{"name": "e", "arm": "a", "propensity": 0.5}'] * n, "served": Repeated("live"),
            "value": rng.normal(size=n), "entity": [f"p-{i}" for i in range(n)],
        }  # fmt: skip
    return encode_frame(columns)


def singles() -> list[tuple[bytes, list[tuple[str, bytes]]]]:
    """Inference events as JSON, as binary and as structured CloudEvents."""
    event = {
        "id": "r-81", "time": TIME, "model": "digits", "version": "1", "segment": {"site": "A"}, "latency_ms": 3.2,
        "features": {"brightness": 0.3, "contrast": None, "lamp": "day"}, "abstained": False, "sampling": 0.5,
        "output": {"label": "7", "scores": {"0": 0.01, "7": 0.93}}, "embedding": [0.5], "served": "live",
        "decision": {"by": "model", "output": "7"}, "flags": {"new": "on"}, "of_a_later_version": {"a": [1]},
    }  # fmt: skip
    body = json.dumps(event).encode()
    about = {"specversion": "1.0", "id": "ce", "source": "/s", "type": "t", "time": TIME}
    return [
        (body, []),
        (body, [(f"ce_{name}", value.encode()) for name, value in about.items()]),
        (json.dumps({**about, "data": event}).encode(), [("content-type", b"application/cloudevents+json")]),
    ]


LABEL = {
    "inference_id": "r-81", "model": "digits", "version": "1", "time": TIME, "label": "1", "source": "proxy:click",
    "propensity": 0.05, "loss": 0.3, "metric": "m", "annotator": "x", "of_a_later_version": 1,
}  # fmt: skip
LIFECYCLE = {
    "id": "release-2", "time": TIME, "kind": "deployed", "model": "digits", "version": "1", "previous": "0",
    "served": "live", "of_a_later_version": 1,
}  # fmt: skip
INPUT = {
    "inference_id": "r-81", "model": "digits", "version": "1", "time": TIME, "dtype": "float32", "shape": "[1, 16, 16]",
    "propensity": "0.01", "segment": '{"site": "A"}', "of_a_later_version": "1",
}  # fmt: skip


# -- what is computed of it ----------------------------------------------------------------------------------


def closed(batch: Batch, reference: Reference) -> list[Closed]:
    """The windows of some rows, as a partition closes them."""
    book = WindowBook(lambda *_: reference, Clock())
    book.add(batch)
    book.heard(int(batch.time.max()) + 3 * DAY_US)
    return [one for one in book.close() if one.profile is not None]


def day_of(day: int, reference: Reference) -> Profile:
    """All that is seen of a day: answers, labels, sampled inputs."""
    rng, at = np.random.default_rng(1000 + day), START + day * DAY_US
    decoded = decode_frame(frame(day), day)
    right = rng.random(40) < 0.9
    labelled = [Labelled(Subject(*KEY), i, at, at, 0, bool(r), "1", 0.9, 0.5, False) for i, r in enumerate(right)]
    made = Profile()
    for batch in (frame_batch(decoded, day, 0), outcome_batch(labelled, 0)):
        for subject, rows, _ in batch.groups:
            if not subject.segment:
                made.add(rows, reference)
    width = len(reference.embedding.mean) if reference.embedding else 3
    scores = rng.dirichlet(np.ones(10), 60).astype(np.float32)
    embedding = rng.normal(size=(60, width)).astype(np.float32)
    made.add(Embedded(offset=np.arange(60), time=np.zeros(60, np.int64), embedding=embedding, scores=scores), reference)
    return made


def lived(state: State, days: Iterable[int], reference: Reference) -> list[Any]:
    """What is told of these days."""
    told: list[Any] = []
    for day in days:
        start = START + day * DAY_US
        state.assembly.add(start, start, day_of(day, reference))
        state.assembly.heard("inference/0", start + DAY_US)
        notes, conclusions = assess(state, Subject(*KEY), reference)
        told += [msgspec.to_builtins(note) for note in notes]
        told += [[c.start_us, c.estimate.estimate, c.estimate.low, c.best_before_us] for c in conclusions]
    return told


def inspection() -> Inspection:
    """What was found in a model file."""
    return Inspection(
        digest="ab", opset={"": 17}, ir_version=8, producer="p", inputs=(TensorFact("x", "float32", (-1, "n")),),
        runtime="1.2", newest_opset=23, newest_ir=11, providers=("CPUExecutionProvider",), policy="cpu",
        golden=(GoldenResult(0, error=1e-6, label="7", expected="7"),), at_us=START,
    )  # fmt: skip


def fill(store: EventStore, body: bytes, state: bytes) -> None:
    """Rows in every table."""
    store.register(*KEY, "digest", body, START)
    store.save_inspection(*KEY, encode_inspection(inspection()))
    kept = kept_of_frame(decode_frame(frame(3, reserved=True), 0), 1.0)[:20]
    names = PredictionColumns.__struct_fields__
    store.keep_predictions(PredictionColumns(**{name: [getattr(row, name) for row in kept] for name in names}))
    where: dict[str, Any] = {"topic": "labels", "partition": 0, "offset": 4, "time_us": START}
    store.add_labels([LabelRow(inference_id="r-81", source="ground-truth", label="1", propensity=0.5, **where)])
    epoch = store.claim("g", "profiles", 0).epoch
    window: dict[str, Any] = {"model": "digits", "version": "1", "segment": "", "window_start_us": START}
    window["window_end_us"] = START + DAY_US
    with store.transaction() as tx:
        tx.advance("g", "profiles", 0, epoch, 7)
        tx.new_profiles("g", ["a", "b"])
        tx.save_states({(*KEY, ""): StoredState(1, state)})
        tx.append_events([
            Event(event_id=f"{kind}-1", kind=kind, model="digits", version="1", occurred_at_us=START + 1, check="c",
                  severity="critical", window_start_us=START, window_end_us=START + DAY_US, body={"a": {"b": [1, 2.5]}})
            for kind in ("status", "mismatch", "trigger", "lifecycle")
        ])  # fmt: skip
        tx.add_windows([WindowCounts(n=5, n_late=1, n_labelled=2, n_correct=1, weight=7.5, **window)])
        tx.set_estimates([WindowEstimate(estimate=0.9, low=0.8, high=1.0, basis="labels", best_before_us=5, **window)])
        tx.enqueue([OutboxMessage(partition=0, topic="status", key="k", headers={"ce_id": "1"}, value=b"{}")])


# -- writing and reading -------------------------------------------------------------------------------------


def write(folder: Path, descriptors: Path) -> None:
    """One of everything, into the folder."""
    folder.mkdir(parents=True)
    reference = load_reference(descriptors)
    pieces: dict[str, bytes] = {f"frame-{day}": frame(day, reserved=day == 3) for day in (2, 3)}
    first = decode_frame(pieces["frame-3"], 9)
    for i, one in enumerate(closed(frame_batch(first, 9, START + 4 * DAY_US, lambda _: True), reference)):
        pieces[f"profile-{i}"] = msgspec.msgpack.encode(profile_record("inference/0", one))
    change = Change(id="release-2", at_us=START, kind="deployed", version="1", previous="0")
    pieces["profile-change"] = msgspec.msgpack.encode(change_record(change, *KEY))
    news = Closed(Key(Subject(*KEY), START, START, DAY_US), None, START + DAY_US)
    pieces["profile-news"] = msgspec.msgpack.encode(profile_record("inference/0", news))
    state = fresh(reference, ["inference/0"])
    lived(state, range(DAYS), reference)
    pieces["state"] = state.encode()
    pieces["reference"] = encode_reference(reference)
    pieces["inspection"] = encode_inspection(inspection())
    pieces["clock"] = encode_clock(Clock(START, START - 5, [Cut(7, START - 9)])).encode()
    for name, content in pieces.items():
        (folder / name).write_bytes(content)
    record(folder / "recording")
    url = f"sqlite:///{folder / 'store.db'}"
    migrate.upgrade(url)
    store = EventStore(url, now_us=lambda: START)
    fill(store, pieces["reference"], pieces["state"])
    store.close()


def record(folder: Path) -> None:
    """Recorded telemetry, as `demo` and users keep it."""
    writer = Writer(folder)
    writer.frame(frame(2))
    writer.label(LABEL)
    writer.input({**INPUT, "shape": [1, 16, 16], "segment": {"site": "A"}, "propensity": 0.01, "data": bytes(1024)})
    writer.close()
    (folder / "events.jsonl").write_bytes(singles()[0][0] + b"\n" + json.dumps(LIFECYCLE).encode() + b"\n")


def plain(profile: Profile) -> Any:
    """What a profile holds."""
    body = profile.encode()
    for kind in ("histograms", "sums"):
        body[kind] = {name: np.frombuffer(value, "<i8").tolist() for name, value in body[kind].items()}
    return body


def read_profile(body: bytes) -> Any:
    """A record of the profiles topic."""
    found = msgspec.msgpack.decode(body, type=ProfileRecord)
    fields = set(ProfileRecord.__struct_fields__) - {"profile"}
    return {
        **{name: msgspec.to_builtins(getattr(found, name)) for name in fields}, "identity": found.identity(),
        "profile": None if found.profile is None else plain(Profile.unpack(found.profile)),
    }  # fmt: skip


def read_frame(body: bytes, reference: Reference) -> Any:
    """A frame, by what is kept of it and what is counted."""
    decoded = decode_frame(body, 9)
    batch = frame_batch(decoded, 9, START + 4 * DAY_US, lambda _: True)
    return {
        "kept": [msgspec.to_builtins(row) for row in kept_of_frame(decoded, 1.0)],
        "counted": {repr(one.key): plain(one.profile or Profile()) for one in closed(batch, reference)},
    }


def read_singles(reference: Reference) -> Any:
    """Single records of every kind, by their contents."""
    stamped = [Stamped(i, START, decode_inference(*single)) for i, single in enumerate(singles())]
    headers = [(name, value.encode()) for name, value in INPUT.items()]
    return {
        "events": [msgspec.to_builtins(one.event) for one in stamped],
        "kept": [msgspec.to_builtins(row) for row in kept_of_events(stamped, 1.0)],
        "counted": {repr(one.key): plain(one.profile or Profile()) for one in closed(event_batch(stamped), reference)},
        "label": msgspec.to_builtins(decode_label(json.dumps(LABEL).encode(), [])),
        "lifecycle": msgspec.to_builtins(decode_lifecycle(json.dumps(LIFECYCLE).encode(), [])),
        "input": msgspec.to_builtins(decode_input(headers)),
    }


def read_state(body: bytes, reference: Reference) -> Any:
    """A state, what it says when the version goes on, and what it is in the end."""
    state = State.decode(body)
    return {
        "read": msgspec.msgpack.decode(state.encode()),
        "told": lived(state, range(DAYS, DAYS + MORE), reference),
        "after": msgspec.msgpack.decode(state.encode()),
    }


def read_reference(reference: Reference) -> Any:
    """What the workers know of a version, and what its estimator of quality says of some rows."""
    found = msgspec.to_builtins(reference)
    if reference.quality_estimator is not None:
        quality = reference.quality_estimator.unpacked()
        rng = np.random.default_rng(5)
        scores = rng.dirichlet(np.ones(quality.classes), 200).astype(np.float32)
        sums = quality.sums(scores, rng.normal(size=(200, len(quality.unlike.centre))).astype(np.float32))
        found["estimated"] = [sums.tolist(), str(quality.read(sums, n=200))]
    return found


def read_store(url: str) -> Any:
    """Every row, as the readers of the store tell it."""
    store = EventStore(url, now_us=lambda: START)
    with store.transaction() as tx:
        states = {"/".join(k): [s.format_version, s.body] for k, s in tx.load_states([(*KEY, "")]).items()}
        states |= {"/".join(k): [s.format_version, s.body] for k, s in tx.load_versions("digits").items()}
        applied = tx.new_profiles("g", ["a", "b"])
    found = {
        "registrations": store.registrations(), "inspections": list(store.inspections().values()), "states": states,
        "predictions": store.find_predictions([f"d-3-{i}" for i in range(20)]), "outbox": store.outbox([0]),
        "label": store.label("r-81", "ground-truth"), "status": store.latest_status(), "events": store.events(),
        "triggers": store.triggers(), "windows": store.windows(*KEY), "by_id": store.by_id(["status-1"]),
        "new": applied, "claim": store.claim("g", "profiles", 0).next_offset,
    }  # fmt: skip
    store.close()
    return msgspec.to_builtins(found)


def read_recorded(folder: Path) -> Any:
    """Recorded telemetry."""
    found = read_recording([folder])
    return {
        "rows": [table.to_pylist() for table in found.tables], "size": found.size(), "rejected": found.rejected,
        "rest": msgspec.to_builtins([found.events, sorted_by_time(found.labels), found.lifecycle]),
        "inputs": [[msgspec.to_builtins(one.meta), one.data] for one in found.inputs],
    }  # fmt: skip


def read(folder: Path, descriptors: Path) -> dict[str, Any]:
    """What this version finds in everything that some version has written; bytes as base64."""
    reference = decode_reference((folder / "reference").read_bytes())
    readers: list[tuple[str, Callable[[bytes], Any]]] = [
        ("frame-*", lambda body: read_frame(body, reference)),
        ("profile-*", read_profile),
        ("state", lambda body: read_state(body, reference)),
        ("reference", lambda body: read_reference(decode_reference(body))),
        ("inspection", lambda body: msgspec.to_builtins(decode_inspection(body))),
        ("clock", lambda body: msgspec.to_builtins(decode_clock(body.decode()))),
    ]
    found = {path.name: reader(path.read_bytes()) for glob, reader in readers for path in sorted(folder.glob(glob))}
    found["singles"] = read_singles(reference)
    found["descriptors"] = read_reference(load_reference(descriptors))
    found["recording"] = read_recorded(folder / "recording")
    copy = folder / "copy.db"
    shutil.copy(folder / "store.db", copy)
    found["store"] = read_store(f"sqlite:///{copy}")
    copy.unlink()
    plainly: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(found))
    return plainly


if __name__ == "__main__":
    task, *paths = sys.argv[1:]
    if task == "write":
        write(*map(Path, paths))
    else:
        *folders, descriptors = map(Path, paths)
        sys.stdout.buffer.write(msgspec.json.encode({folder.name: read(folder, descriptors) for folder in folders}))
