"""Writes into an event store as a worker does, until told to stop; run under this version or under the previous one.

python tests/store_writer.py URL NAME      (goes on until its input ends; prints how often it has written)
"""

import sys
import threading
from typing import Any

from streams.errors import StoreUnreachable
from streams.event_store import EventStore
from streams.store_rows import Event, LabelRow, OutboxMessage, PredictionColumns, State, WindowCounts

DAY_US = 86_400_000_000
START = 20_000 * DAY_US


def apply(store: EventStore, name: str, epoch: int, step: int) -> None:
    """What `assess` does for a batch."""
    window: dict[str, Any] = {"model": name, "version": "1", "segment": "", "window_start_us": START}
    with store.transaction() as tx:
        tx.advance(name, "profiles", 0, epoch, step + 1)
        if not all(tx.new_profiles(name, [f"{step}"])):
            return
        before = tx.load_states([(name, "1", "")]).get((name, "1", ""), State(1, b"")).body
        tx.append_events(
            [Event(event_id=f"{name}-{step}", kind="status", model=name, version="1", occurred_at_us=START, body={})]
        )
        tx.add_windows([WindowCounts(n=1, window_end_us=START + DAY_US, **window)])
        tx.save_states({(name, "1", ""): State(1, before + b"x")})
        tx.enqueue([OutboxMessage(partition=0, topic="t", key=name, headers={}, value=b"{}")])


def take_in(store: EventStore, name: str, step: int) -> None:
    """What the agents that read telemetry do."""
    one = [f"{name}-{step}"]
    store.keep_predictions(
        PredictionColumns(model=[name], version=["1"], inference_id=one, segment=[""], time_us=[START])
    )
    where: dict[str, Any] = {"topic": "labels", "partition": 0, "offset": step, "time_us": START}
    store.add_labels([LabelRow(inference_id=one[0], source="s", label="1", **where)])
    store.save_inspection(name, "1", b"{}")
    store.registrations()


def main(url: str, name: str) -> None:
    """Write, and try again what the store did not take."""
    store, stop, step = EventStore(url), threading.Event(), 0

    def listen() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=listen, daemon=True).start()
    epoch = store.claim(name, "profiles", 0).epoch
    print("ready", flush=True)  # noqa: T201 -- for whoever waits
    while not stop.is_set():
        try:
            apply(store, name, epoch, step)
            take_in(store, name, step)
        except StoreUnreachable as error:
            print(error, file=sys.stderr)  # noqa: T201 -- shown when the test fails
            continue
        step += 1
    print(step)  # noqa: T201 -- the result


if __name__ == "__main__":
    main(*sys.argv[1:])
