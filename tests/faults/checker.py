"""Whether what was promised was kept: counts against the oracle, one id for a cause, dead letters equal to poison."""

import json
from collections import Counter
from typing import Any

import msgspec
from sqlalchemy import text as sql

from streams.event_store import EventStore
from streams.store_rows import EventKind, StoredEvent
from tests.faults.rig import Rig
from tests.faults.topic import read_topic
from tests.faults.traffic import Expected


def counted(store: EventStore) -> Expected:
    """What the store has counted, in the oracle's form."""
    with store._reading() as connection:
        rows = connection.execute(
            sql("SELECT model, version, segment, window_start_us, n, n_input, n_labelled, n_correct FROM window_total")
        )
        names = ("n", "n_input", "n_labelled", "n_correct")
        return {
            (r.model, r.version, r.segment, r.window_start_us): Counter({k: v for k in names if (v := getattr(r, k))})
            for r in rows
        }


def differences(expected: Expected, found: Expected) -> list[str]:
    """Windows whose counts are not the oracle's."""
    return [
        f"{key}: expected {dict(expected.get(key, {}))}, found {dict(found.get(key, {}))}"
        for key in sorted(expected.keys() | found.keys())
        if expected.get(key, {}) != found.get(key, {})
    ]


class Verdict(msgspec.Struct, kw_only=True):
    """What was found at the end; every figure but the expected ones is to be 0."""

    lost: int
    counted_twice: int
    windows_that_differ: list[str]
    dead_letters: int
    poison: int
    dead_letters_that_differ: int
    triggers: int
    triggered: list[str]  # versions
    duplicate_triggers: int
    duplicate_events: int
    label_requests: int
    duplicate_requests: int
    requests_that_differ: int
    outputs_that_differ: list[str]

    def broken(self) -> list[str]:
        """The promises that were not kept, in words."""
        wrong = {name: value for name, value in msgspec.structs.asdict(self).items() if name not in EXPECTED and value}
        return [f"{name.replace('_', ' ')}: {value}" for name, value in wrong.items()]


EXPECTED = ("dead_letters", "poison", "triggers", "triggered", "label_requests")


def verdict(rig: Rig) -> Verdict:
    """Compare what the store and the topics hold with what the broker acknowledged."""
    sender, store = rig.sender, EventStore(rig.services.store)
    try:
        found = counted(store)
        dead = dead_letters(rig)
        triggers = store.triggers(limit=100_000)
        requests = read(rig, "label-requests")
        wanted = [str(json.loads(record.value)["inference_id"]) for record in requests]
        return Verdict(
            lost=excess(sender.expected, found),
            counted_twice=excess(found, sender.expected),
            windows_that_differ=differences(sender.expected, found)[:40],
            dead_letters=len(set(dead)),
            poison=len(sender.poison),
            dead_letters_that_differ=len(set(dead) ^ sender.poison),
            triggers=len(triggers),
            triggered=sorted({event.version for event in triggers}),
            duplicate_triggers=repeated([(e.model, e.version, e.body["dedupe_key"]) for e in triggers]),
            duplicate_events=repeated([cause(event) for event in every_event(store)]),
            label_requests=len(set(wanted)),
            duplicate_requests=len(set(ids(requests))) - len(set(wanted)),
            requests_that_differ=len(set(wanted) ^ sender.asked),
            outputs_that_differ=outputs(rig, store),
        )
    finally:
        store.close()


def excess(more: Expected, less: Expected) -> int:
    """By how much the counts of one side are above the other's, over all windows."""
    return sum((counts - less.get(key, Counter())).total() for key, counts in more.items())


def repeated(causes: list[Any]) -> int:
    """How many are there a second time."""
    return len(causes) - len(set(causes))


def every_event(store: EventStore) -> list[StoredEvent]:
    """All that the store recorded."""
    return store.events(limit=1_000_000)


def cause(event: StoredEvent) -> tuple[Any, ...]:
    """What an event is about, apart from its id: two of a cause are a duplicate."""
    subject = event.kind, event.model, event.version, event.segment
    if event.kind == "status":
        return *subject, event.window_start_us
    body = {name: value for name, value in event.body.items() if name != "id"}
    return *subject, event.window_start_us, event.occurred_at_us, event.check, json.dumps(body, sort_keys=True)


def outputs(rig: Rig, store: EventStore) -> list[str]:
    """Output topics that do not hold just what the store has recorded."""
    wrong = []
    kinds: dict[str, EventKind] = {"status": "status", "mismatches": "mismatch", "retrain-triggers": "trigger"}
    for topic, kind in kinds.items():
        sent = set(ids(read(rig, topic)))
        known = {event.event_id for event in store.events(kind=kind, limit=1_000_000)}
        if sent != known:
            wrong.append(f"{topic}: {len(known - sent)} are missing, {len(sent - known)} are not recorded")
    return wrong


def dead_letters(rig: Rig) -> list[tuple[str, int, int]]:
    """Where each dead letter came from."""
    headers = [dict(record.headers) for record in read(rig, "dead-letters")]
    return [
        (h["__connect.errors.topic"].decode(), int(h["__connect.errors.partition"]), int(h["__connect.errors.offset"]))
        for h in headers
    ]


def read(rig: Rig, topic: str) -> list[Any]:
    """Every record of a topic."""
    return read_topic(rig.services.broker, rig.settings.topic(topic))


def ids(records: list[Any]) -> list[str]:
    """The ids of CloudEvents."""
    return [dict(record.headers)["ce_id"].decode() for record in records]
