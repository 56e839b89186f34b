"""The pages of a real worker: what is lost, late, sampled, missing or dropped is seen within ten seconds of it."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from aiokafka import AIOKafkaProducer
from bestbefore_client.sampling import u64
from sqlalchemy import URL, create_engine, text
from trustme import CA

from infra.health import Health
from infra.worker import create_worker
from streams.event_store import EventStore
from streams.heartbeats import HEARTBEAT
from streams.settings import Settings, load
from streams.watchdog import EXIT_WEDGED
from tests.broker_rig import BASE, fresh_settings, produce, until
from tests.faults.crew import Worker
from tests.faults.traffic import HOUR_US
from tests.faults.traffic import text as time_text
from tests.health_rig import Samples, get, listening, page, samples, within, workplace
from tests.page_rig import Story, reference, tell, write

PROMISED = 10.0  # seconds within which every loss is seen
TOKEN = "open-sesame"  # noqa: S105 -- of a test
SAMPLED = next(name for i in count() if u64(name := f"twice-{i}") < (1 << 64) // 64)


class Live(NamedTuple):
    """A worker that runs, and where its pages are."""

    settings: Settings
    port: int
    worker: Worker

    def samples(self) -> Samples:
        """Its metrics."""
        return samples(self.port, TOKEN)


@contextmanager
def living(broker: str, folder: Path) -> Iterator[Live]:
    """A worker on a store of its own."""
    store = URL.create("sqlite", database=str(folder / "store.db")).render_as_string()
    settings = msgspec.structs.replace(
        fresh_settings(broker, store), keep_rate=1.0, label_patience="1 s", commit_every="1 s"
    )
    environment, port = workplace(settings, web_token=TOKEN)
    worker = Worker(folder, "live", environment)
    try:
        within(60, lambda: get(port, "/ready")[0] == 200)
        yield Live(settings, port, worker)
    finally:
        worker.kill()


def event(name: str, hours: float, **fields: Any) -> bytes:
    """An inference event some hours after BASE."""
    at = time_text(BASE + int(hours * HOUR_US))
    return msgspec.json.encode({"id": name, "time": at, "model": "m", "version": "1", **fields})


def label(name: str, source: str = "ground-truth") -> bytes:
    """A label of an inference."""
    at = time_text(BASE)
    return msgspec.json.encode({"inference_id": name, "time": at, "correct": True, "source": source})


def heartbeat(seq: int, **fields: Any) -> bytes:
    """A heartbeat of one recorder."""
    at = time_text(BASE + 30 * HOUR_US)
    return msgspec.json.encode(
        {"recorder": "r", "seq": seq, "time": at, "model": "m", "version": "1", "recorded": 10, **fields}
    )


async def send(live: Live) -> None:
    """Everything that can go wrong with a record, in one transaction whose marker is an offset without a record."""
    producer = AIOKafkaProducer(bootstrap_servers=live.settings.broker, transactional_id=live.settings.group)
    told = [("content-type", HEARTBEAT.encode())]
    await producer.start()
    try:
        topic = live.settings.topic("inference")
        async with producer.transaction():
            for value in (
                event("a", 24), event("b", 24, sampling=0.25), event(SAMPLED, 24), event(SAMPLED, 24), event("old", 1),
                event("soon", 24 * 400_000), b"{no json", b'{"id": "x"}',
            ):  # fmt: skip
                await producer.send(topic, value)
            for value in (heartbeat(1), heartbeat(4, dropped={"full": 3, "weird \n": 1}, sampled_out=5), b"{}"):
                await producer.send(topic, value, headers=told)
    finally:
        await producer.stop()


EXPECTED = {
    ("records", "topic=inference"): 12,
    ("events", "model=other topic=inference"): 7,
    ("event_weight", "model=other topic=inference"): 10,
    ("late_events", "model=other topic=inference"): 1,
    ("capped_clocks", "model=other topic=inference"): 1,
    ("ids_compared", "model=other"): 2,
    ("ids_repeated", "model=other"): 1,
    ("missing_records", "topic=inference"): 1,
    ("dead_letters", "stage=decode topic=inference"): 1,
    ("dead_letters", "stage=validate topic=inference"): 2,
    ("dead_letters", "stage=join topic=labels"): 1,
    ("client_dropped_events", "model=other reason=full"): 3,
    ("client_dropped_events", "model=other reason=other"): 1,
    ("client_sampled_out_events", "model=other"): 5,
    ("client_recorded_events", "model=other"): 20,
    ("heartbeats", "model=other"): 2,
    ("heartbeats_missing", "model=other"): 2,
    ("predictions", "result=kept"): 7,
    ("labels", "result=joined"): 1,
    ("labels", "result=repeated"): 1,
    ("labels", "result=unmatched"): 1,
}


def counted(found: Samples) -> dict[tuple[str, str], float]:
    """The counters in the short form of EXPECTED."""
    return {
        (name.removeprefix("bestbefore_").removesuffix("_total"), " ".join(f"{k}={v}" for k, v in labels)): value
        for (name, labels), value in found.items()
    }


def test_what_the_pages_of_a_worker_say(broker: str, tmp_path: Path) -> None:
    """One after the other, because a worker takes seconds to start."""
    with living(broker, tmp_path) as live:
        what_is_lost_late_sampled_or_missing_is_seen_within_ten_seconds(live)
        progress_tells_how_far_each_partition_has_come(live)
        only_who_has_the_token_sees_metrics_and_progress(live)
        the_live_page_shows_what_the_worker_concludes_and_follows_the_store(live)
        a_second_worker_on_the_same_port_says_so_and_goes_on(live, tmp_path)


def what_is_lost_late_sampled_or_missing_is_seen_within_ten_seconds(live: Live) -> None:
    """Every counter of EXPECTED."""
    asyncio.run(send(live))
    produce(live.settings, "inference", [event("c", 30)])
    produce(live.settings, "labels", [label("a"), label("a"), label("nobody")])

    def seen() -> bool:
        found = counted(live.samples())
        return all(found.get(key) == value for key, value in EXPECTED.items())

    try:
        took = within(PROMISED, seen)
    except AssertionError:
        found = counted(live.samples())
        assert {key: found.get(key) for key in EXPECTED} == EXPECTED
        raise
    assert took <= PROMISED


def progress_tells_how_far_each_partition_has_come(live: Live) -> None:
    """Offsets, times and windows, in `/progress` and as gauges."""

    def done() -> bool:
        found = {part["topic"]: part for part in page(live.port, TOKEN)["partitions"]}
        return bool(found["inference"]["lag"] == 0 and found["inference"]["committed"] > 0)

    within(PROMISED, done)
    said = page(live.port, TOKEN)
    parts = {part["topic"]: part for part in said["partitions"]}
    assert set(parts) == {"inference", "inputs", "labels", "lifecycle", "profiles"}
    inference = parts["inference"]
    assert inference["last_event"] == time_text(BASE + 30 * HOUR_US)
    assert inference["watermark"] == time_text(BASE + 30 * HOUR_US - 300_000_000)
    assert inference["open_windows"] >= 1
    assert 0 <= inference["last_record_age_seconds"] < 120
    assert 0 < inference["committed"] <= inference["wanted"]
    assert said["ready"] is True
    assert said["live"] is True
    assert said["store"]["reachable"]
    assert said["broker"]["reachable"]
    gauges = live.samples()
    place = (("partition", "0"), ("topic", "inference"))
    assert gauges["bestbefore_lag_records", place] == 0
    assert gauges["bestbefore_reachable", (("service", "store"),)] == 1
    assert gauges["bestbefore_commits_total", (("result", "done"),)] >= 1
    assert gauges["bestbefore_windows_closed_total", (("topic", "inference"),)] >= 1


def only_who_has_the_token_sees_metrics_and_progress(live: Live) -> None:
    """The others see only whether it lives and is ready."""
    for path in ("/metrics", "/progress"):
        assert get(live.port, path)[0] == 401
        assert get(live.port, path, "wrong")[0] == 401
        assert get(live.port, path, TOKEN)[0] == 200
    assert get(live.port, "/live") == (200, "live\n")
    assert get(live.port, "/ready") == (200, "ready\n")
    assert TOKEN not in live.worker.log.read_text()


def the_live_page_shows_what_the_worker_concludes_and_follows_the_store(live: Live) -> None:
    """Another worker concludes something: within a few seconds whoever looks is told. What came in is told too."""
    assert get(live.port, "/")[0] == get(live.port, "/models.json")[0] == get(live.port, "/stream")[0] == 401
    with listening(live.port, TOKEN) as messages:
        (row,) = next(body for kind, body in messages if kind == "overview")["models"]
        assert (row["model"], row["version"], row["state"], row["registered"]) == ("m", "1", "silent", False)
        store = EventStore(live.settings.store)
        write(store, list(tell(Story(reference("other", "2"), lambda _: 0.95, days=1), BASE)))
        store.close()
        began = time.monotonic()
        (row,) = next(body for kind, body in messages if kind == "changed")["models"]
        assert (row["model"], row["version"], row["window"]["n"]) == ("other", "2", 400)
        assert time.monotonic() - began <= PROMISED
        worker = next(body for kind, body in messages if kind == "beat")["worker"]
    topics = {topic["topic"]: topic for topic in worker["topics"]}
    assert topics["inference"]["last_event"] == time_text(BASE + 30 * HOUR_US)
    assert {(letter["topic"], letter["stage"]): letter["n"] for letter in worker["dead_letters"]} == {
        ("inference", "decode"): 1, ("inference", "validate"): 2, ("labels", "join"): 1
    }  # fmt: skip
    assert {service["service"]: service["answers"] for service in worker["services"]} == {"broker": True, "store": True}


def a_second_worker_on_the_same_port_says_so_and_goes_on(live: Live, tmp_path: Path) -> None:
    """It has no pages, and takes its share of the partitions."""
    environment, _ = workplace(live.settings, web_token=TOKEN)
    worker = Worker(tmp_path, "two", {**environment, "BESTBEFORE_WEB_PORT": str(live.port)})
    try:
        within(60, lambda: "give each worker of a machine its own web_port" in worker.log.read_text())
        assert worker.process.poll() is None
    finally:
        worker.kill()


def test_a_store_call_that_never_returns_ends_the_worker_with_the_reason(
    broker: str, store_url: str, tmp_path: Path
) -> None:
    """The store answers, and yet one call hangs: somebody has locked a table and gone home."""
    settings = msgspec.structs.replace(fresh_settings(broker, store_url), keep_rate=1.0, watchdog_after="4 s")
    environment, port = workplace(settings)
    engine = create_engine(store_url)
    worker = Worker(tmp_path, "one", environment)
    try:
        within(60, lambda: get(port, "/ready")[0] == 200)
        with engine.connect() as other:
            other.execute(text("LOCK TABLE label IN ACCESS EXCLUSIVE MODE"))
            produce(settings, "labels", [label("a")] * 600)
            seen = ""
            began = time.monotonic()
            while worker.process.poll() is None and time.monotonic() - began < 30:
                status, said = get(port, "/live")
                seen = said if status == 503 else seen
            assert worker.process.wait(5) == EXIT_WEDGED, worker.log.read_text()
            other.rollback()
    finally:
        worker.kill()
        engine.dispose()
    told = worker.log.read_text().split("worker is wedged and ends itself: ")[1]
    assert "the call add_labels of the store has not returned for" in told or "none was worked off for" in told
    assert not seen or " for " in seen


def test_a_certificate_file_that_is_being_replaced_does_not_end_the_worker(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    CA().cert_pem.write_to_path(authority)
    told = {"broker": "127.0.0.1:1", "broker_security": "SSL", "broker_ca": str(authority), "web_port": 0}

    async def story() -> None:
        _, runtime = create_worker(load({}, tmp_path, store=f"sqlite:///{tmp_path}/store.db", **told), ())
        broker = runtime.services.broker
        asking = asyncio.ensure_future(Health(runtime, [])._ask_broker())
        for _ in range(2):
            await until(lambda: asking.done() or not broker.reachable(time.monotonic()))
            authority.unlink(missing_ok=True)
            assert not asking.done()
            broker.answered()
        asking.cancel()
        runtime.store.close()

    asyncio.run(story())
