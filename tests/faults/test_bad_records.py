"""Bad records on every topic that workers read: each lies apart with the reason, and stops nobody."""

import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from infra.dead_letters import DeadLetter, read, resend
from streams.event_store import EventStore
from streams.settings import Settings
from tests.broker_rig import environment, fresh_settings
from tests.faults.bad_records import (
    INPUTS,
    Sent,
    Wire,
    behind,
    dressed,
    inference,
    label,
    lifecycle,
    sampled,
    unreadable,
)
from tests.faults.crew import Worker
from tests.faults.traffic import HOUR_US, window

PARTITIONS, LIMIT, SEED = 2, 64 << 10, 7
SINGLES, LABELS, TENSORS, CHANGES = 3000, 200, 100, 20
NOW = time.time_ns() // 1000 // HOUR_US * HOUR_US - 30 * HOUR_US


@pytest.fixture
def settings(broker: str, store_url: str) -> Settings:
    """The topics take more than the worker reads."""
    made = fresh_settings(broker, store_url, partitions=PARTITIONS)
    return msgspec.structs.replace(
        made, idle_after="2 s", assess_grace="5 s", commit_every="500 ms", keep_rate=1.0, max_record_bytes=LIMIT,
        default_lateness="0 s", label_patience="20 s", provider_policy="cpu", watchdog_after="20 s",
    )  # fmt: skip


@pytest.fixture
def worker(settings: Settings, tmp_path: Path) -> Iterator[Worker]:
    """Killed at the end, if it still lives."""
    made = Worker(tmp_path, "one", environment(settings))
    yield made
    made.kill()


def padded(name: str, at: int, size: int) -> bytes:
    """An event of exactly so many bytes."""
    bare = inference(name, at, note="")
    return inference(name, at, note="x" * (size - len(bare)))


def good(rng: np.random.Generator) -> Iterator[tuple[Sent, list[tuple[str, int]]]]:
    """Good records and what each adds: six hours of events, in and out of order, late, some sent twice."""
    for i in range(SINGLES):
        late = int(rng.integers(0, 5 * HOUR_US)) if rng.random() < 0.05 else 0
        at = NOW + i * 6 * HOUR_US // SINGLES - late
        event = Sent("inference", rng.bytes(3), inference(f"e-{i}", at), [])
        yield event, [("n", at)]
        if i % 10 == 3:  # the client sent it again, because an answer was lost
            yield event, [("n", at)]
        if i < LABELS:
            said = Sent("labels", b"k", label(f"e-{i}", at), [])
            yield said, [("n_labelled", at)]
            if i % 5 == 0:
                yield said, []
        if i < TENSORS:
            # Of headers that come twice the first counts.
            headers = [*sampled(f"e-{i}", at), ("time", b"noon"), ("shape", b"[2,")]
            yield Sent("inputs", None, np.array([i, 1], np.float32).tobytes(), headers), [("n_input", at)]
        if i < CHANGES:
            change = Sent("lifecycle", b"m", lifecycle(f"c-{i}", at), [])
            yield from ((change, []), (change, []), (Sent("lifecycle", b"m", None, []), []))


def oversized() -> list[Sent]:
    """As large as is read, larger, and larger than what the worker may send; by value, key or headers."""
    large = 3 << 20
    return [
        Sent("inference", None, padded("fits", NOW, LIMIT), []),
        Sent("inference", None, padded("beyond", NOW, LIMIT + 1), [], "Undecodable"),
        Sent("inference", None, padded("large", NOW, large), [], "Undecodable"),
        Sent("labels", b"k" * large, b"?", [], "Undecodable"),
        Sent("inputs", b"k", b"?", [("x", b"x" * large)], "Invalid"),
        Sent("lifecycle", b"k", b"?", [(f"h-{i}", b"x" * 20_000) for i in range(80)], "Undecodable"),
        Sent("profiles", b"k" * 2 * LIMIT, b"\xc1" * large, [], "Undecodable"),
    ]


def send(wire: Wire) -> Counter[tuple[str, int]]:
    """Send good and bad ones; what the broker took must add up to this."""
    rng = np.random.default_rng(SEED)
    expected: Counter[tuple[str, int]] = Counter()
    bad = [sent for _ in range(2) for topic in INPUTS for sent in unreadable(rng, topic)]
    for i, (sent, adds) in enumerate(good(rng)):
        # What is sent again comes to the same partition, as a client's key would have it.
        wire.send(dressed(rng, sent), zlib.crc32(sent.value or b"") % PARTITIONS)
        expected.update((name, window(at, HOUR_US)) for name, at in adds)
        if i % 50 == 0 and bad:
            wire.send(dressed(rng, bad.pop()), i // 50 % PARTITIONS)
    for sent in (*bad, *oversized()):
        for partition in range(PARTITIONS):
            wire.send(sent, partition)
    expected["n", NOW] += PARTITIONS
    wire.raw(Sent("inference", None, inference("raw", NOW), [("name", b"1")]), 0)
    wire.raw(Sent("labels", None, b"raw", [("name", b"1")], "Undecodable"), 0)
    expected["n", NOW] += 1
    wire.send(Sent("inference", None, padded("refused", NOW, 5 << 20), []), 0)
    wire.send(Sent("inference", None, inference("last", NOW), []), 0)
    wire.flush()
    expected["n", NOW] += 1
    assert wire.refused == ["MSG_SIZE_TOO_LARGE"], "what the broker does not take is no record"
    return expected


def counted(store: EventStore) -> Counter[tuple[str, int]]:
    """What the store has."""
    found: Counter[tuple[str, int]] = Counter()
    for row in store.windows("m", "1"):
        for name in ("n", "n_labelled", "n_input"):
            found[name, row.window_start_us] += getattr(row, name)
    return +found


def wait(true: Callable[[], bool], worker: Worker, what: Callable[[], Any]) -> None:
    """Until it is true, for as long as the worker lives."""
    ends = time.monotonic() + 90
    while not true():
        told = worker.log.read_text(errors="replace")[-3000:]
        assert worker.process.poll() is None, f"the worker ended:\n{told}"
        assert time.monotonic() < ends, f"{what()}\n{told}"
        time.sleep(0.2)


@pytest.mark.timeout(200)
def test_bad_records_lie_apart_and_every_other_one_counts(settings: Settings, worker: Worker) -> None:
    """Counts equal the oracle, dead letters what was bad, and a replay of them changes neither."""
    wire, store = Wire(settings), EventStore(settings.store)
    expected = send(wire)
    wait(lambda: counted(store) == expected, worker, lambda: (counted(store) - expected, expected - counted(store)))
    wait(lambda: len(read(settings, None)) == len(wire.dead), worker, lambda: missing(settings, wire))
    wait(lambda: behind(settings, INPUTS) == 0, worker, lambda: behind(settings, INPUTS))
    letters = {(x.topic, x.partition, x.offset): x for x in read(settings, None)}
    assert letters.keys() == wire.dead.keys()
    for place, sent in wire.dead.items():
        check(letters[place], sent)
    recorded = [e.body["id"] for e in store.events(kind="lifecycle", limit=1000)]
    assert sorted(recorded) == sorted(f"c-{i}" for i in range(CHANGES)), "sent twice, recorded once"
    rates = [rate for e in store.events(kind="status", limit=1000) if (rate := e.body.get("duplicate_rate"))]
    assert rates, "one event in ten came twice"
    assert max(rates) <= 0.5
    wire.close()
    whole = [letter for letter in letters.values() if not letter.truncated]
    assert resend(settings, whole) == len(whole)
    wait(lambda: len(read(settings, None)) == len(wire.dead) + len(whole), worker, lambda: len(read(settings, None)))
    assert counted(store) == expected
    store.close()


def missing(settings: Settings, wire: Wire) -> list[Any]:
    """What should be among the dead letters and is not, or the other way round."""
    found = {(x.topic, x.partition, x.offset) for x in read(settings, None)}
    return sorted(found ^ wire.dead.keys())


def check(letter: DeadLetter, sent: Sent) -> None:
    """It is the record as it came, or the beginning of it, with the reason."""
    assert (letter.error, bool(letter.stage), bool(letter.message)) == (sent.error, True, True), (letter, sent)
    if letter.truncated:
        size = len(sent.value or b"") + len(sent.key or b"") + sum(len(v or b"") for _, v in sent.headers)
        assert size > LIMIT
        assert (sent.value or b"").startswith(letter.value or b"")
        return
    assert (letter.key, letter.value or b"") == (sent.key, sent.value or b"")
    if letter.headers and "\ufffd" not in letter.headers[0][0]:
        assert [one for one in letter.headers if not one[0].startswith("bestbefore.")] == sent.headers
