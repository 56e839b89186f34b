"""`bestbefore demo`: plays the scenario through client, broker, worker and store, all real, and shows it live."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bestbefore_client import Recorder, Repeated, encode_frame
from bestbefore_client.sampling import sampled

from infra import show
from infra.demo.board import Board, closing
from infra.demo.scenario import AUDIT_RATE, DESCRIPTORS, INPUT_RATE, START_US, Day, Label, Scenario
from infra.local.services import ephemeral
from infra.migrate import upgrade
from infra.recorded_lines import write_notes
from infra.recording import Writer
from infra.registering import register
from infra.topic_admin import create_topics
from models.units import DAY_US
from streams.connection import security_options
from streams.descriptor_files import load_reference
from streams.errors import ServiceError
from streams.event_store import EventStore
from streams.records import time_text
from streams.settings import Settings, load

CHUNKS = 4  # frames a day
SETTINGS = {
    "group": "bestbefore-demo",
    "keep_rate": AUDIT_RATE,
    "oldest_event": "36500 days",  # the demo's dates are fixed, so that its ids repeat
    "idle_after": "6 s",
    "assess_grace": "60 s",
    "commit_every": "0.5 s",
    "provider_policy": "prefer",
}
PATIENCE = 60.0  # seconds for the last windows to close


def run(out: Path, *, seed: int, days: int, seconds: float) -> None:
    """Play the scenario; leaves the recording, the lines, a plot and the store's figures in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(out / "recording", ignore_errors=True)
    scenario = Scenario(seed, days)
    show.progress("starting a real Kafka broker and a real Postgres (the first start downloads them)")
    with ephemeral(out / "services", report=show.progress) as services:
        settings = load({}, out, broker=services.broker, store=services.store, **SETTINGS)
        upgrade(settings.store)
        create_topics(settings)
        store = EventStore(settings.store)
        reference = load_reference(DESCRIPTORS)
        register(DESCRIPTORS, settings, lambda: store)
        if store.latest_status():
            raise ServiceError(f"{out} holds the events of an earlier demo; remove it or choose another --out")
        board = Board(scenario, reference.threshold or 0.0, reference.lead_time_us / DAY_US)
        with _worker(settings, out) as process, board.live():
            _play(scenario, settings, store, board, out, seconds=seconds, process=process)
        _finish(scenario, store, board, out)
    shutil.rmtree(out / "services", ignore_errors=True)


@contextmanager
def _worker(settings: Settings, out: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The worker of production, in a process of its own."""
    config = out / "services" / "bestbefore.toml"
    lines = [f'{key} = "{value}"' for key, value in SETTINGS.items() if isinstance(value, str)]
    lines += [f"keep_rate = {AUDIT_RATE}", f'broker = "{settings.broker}"', f'store = "{settings.store}"']
    config.write_text("\n".join(lines) + "\n", "utf-8")
    config.chmod(0o600)
    with (out / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "infra.cli", "worker"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env=_environment(config), start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _environment(config: Path) -> dict[str, str]:
    import os  # noqa: PLC0415 -- the process's own environment is handed on, nothing is read from it

    kept = {k: v for k, v in os.environ.items() if not k.startswith("BESTBEFORE_")}
    root = str(Path(__file__).parents[2])
    return {**kept, "BESTBEFORE_CONFIG": str(config), "PYTHONPATH": root + os.pathsep + kept.get("PYTHONPATH", "")}


def _play(
    scenario: Scenario, settings: Settings, store: EventStore, board: Board, out: Path, *, seconds: float,
    process: subprocess.Popen[bytes],
) -> None:  # fmt: skip
    """Each day as it comes: its inferences and sampled inputs, and the labels that are due by then."""
    writer = Writer(out / "recording")
    due: list[Label] = []
    recorder = Recorder(
        settings.broker,
        model="digits",
        version="1",
        digest=scenario.digest,
        input_rate=INPUT_RATE,
        frame_rows=500,
        frame_seconds=0.2,
        key=None,
        producer_options=security_options(settings),
    )
    pace = seconds / (scenario.days * CHUNKS)
    started = time.monotonic()
    with recorder:
        for day in scenario:
            board.day(day)
            for part in range(CHUNKS):
                _send(recorder, writer, day, part, scenario.digest)
                until = START_US + day.number * DAY_US + (part + 1) * DAY_US // CHUNKS
                due = _label(recorder, writer, [*due, *(day.labels if part == 0 else [])], until)
                ahead = started + (day.number * CHUNKS + part + 1) * pace - time.monotonic()
                board.look(store)
                time.sleep(max(ahead, 0.0))
            if process.poll() is not None:
                raise ServiceError(f"the worker has ended (exit {process.returncode}); its log is {out}/worker.log")
        if not recorder.flush(30) or recorder.dropped:
            raise ServiceError(f"not everything could be sent: {recorder.dropped}, {recorder.last_error}")
    writer.close()
    board.sent(recorder.delivered)
    deadline = time.monotonic() + PATIENCE
    while board.windows < scenario.days and time.monotonic() < deadline:
        board.look(store)
        time.sleep(0.5)


def _send(recorder: Recorder, writer: Writer, day: Day, part: int, digest: str) -> None:
    size = len(day.ids) // CHUNKS
    rows = slice(part * size, (part + 1) * size)
    features = {name: values[rows] for name, values in day.features.items()}
    recorder.record_many(
        day.ids[rows], times_us=day.times_us[rows], features=features, scores=day.scores[rows],
        latency_ms=day.latency_ms[rows], inputs=day.images[rows],
    )  # fmt: skip
    columns = {f"features.{name}": values for name, values in features.items()}
    writer.frame(
        encode_frame(
            {
                "id": day.ids[rows], "time": day.times_us[rows], "model": Repeated("digits"), "version": Repeated("1"),
                "digest": Repeated(digest), **columns, "scores": day.scores[rows], "latency_ms": day.latency_ms[rows],
            }
        )
    )  # fmt: skip
    for i in range(rows.start, rows.stop):
        if sampled(day.ids[i], INPUT_RATE):
            writer.input(
                {
                    "inference_id": day.ids[i], "model": "digits", "version": "1",
                    "time": time_text(int(day.times_us[i])), "dtype": "float32",
                    "shape": list(day.images[i].shape), "propensity": INPUT_RATE,
                    "data": day.images[i].tobytes(),
                }
            )  # fmt: skip


def _label(recorder: Recorder, writer: Writer, labels: list[Label], until_us: int) -> list[Label]:
    """Send the labels that are due by now; returns the others."""
    for label in sorted(x for x in labels if x.time_us <= until_us):
        recorder.label(label.inference_id, time_us=label.time_us, label=label.label, propensity=AUDIT_RATE)
        body = {"inference_id": label.inference_id, "model": "digits", "version": "1", "time": time_text(label.time_us)}
        writer.label({**body, "label": label.label, "source": "ground-truth", "propensity": AUDIT_RATE})
    return [x for x in labels if x.time_us > until_us]


def _finish(scenario: Scenario, store: EventStore, board: Board, out: Path) -> None:
    events = store.events(limit=1_000_000)
    lines = [event for event in events if event.kind in ("status", "mismatch", "trigger", "lifecycle")]
    write_notes(lines, out)
    closing(
        scenario,
        board,
        [e.body for e in lines if e.kind == "status"],
        [e.body for e in lines if e.kind == "trigger"],
        store,
        out,
    )
