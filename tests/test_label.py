"""Labels and the predictions they are about: what counts as right, in which window, and how long one is waited for."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
import pytest
from bestbefore_client import encode_frame
from faust.types import TP

from agents.label import Label, labelled
from infra.migrate import upgrade
from models.columns import Outcomes
from models.window_book import Clock, Cut, WindowBook
from streams.app import create_app
from streams.batches import Stamped, kept_of_events, kept_of_frame, outcome_batch
from streams.event_store import EventStore
from streams.frames import decode_frame
from streams.lane import Lane
from streams.records import decode_inference, decode_label
from streams.registry import Registry
from streams.runtime import Runtime
from streams.settings import load
from streams.store_rows import LabelRow, Prediction, PredictionColumns

NOW = 1_795_168_800_000_000
HOUR, DAY = 3_600_000_000, 86_400_000_000


def label(name: str = "a", when: str = "2026-11-20T10:00:00Z", offset: int = 0, received: int = NOW) -> Stamped:
    event = decode_label(msgspec.json.encode({"inference_id": name, "time": when, "label": "x"}), [])
    message = SimpleNamespace(topic="labels", partition=0, offset=offset, key=None, value=b"{}", headers=[])
    return Stamped(offset, received, (event, message))


def prediction(time_us: int = NOW, **fields: Any) -> Prediction:
    return Prediction(
        **{"model": "m", "version": "1", "inference_id": "a", "segment": "", "time_us": time_us, "label": "x", **fields}
    )


# -- what is kept --------------------------------------------------------------------------------------------


def event(**fields: Any) -> Stamped:
    base = {"id": "a", "time": "2026-11-20T10:00:00Z", "model": "m", "version": "1", "output": {"label": "x"}}
    return Stamped(0, NOW, decode_inference(msgspec.json.encode(base | fields), []))


def test_of_single_events_only_live_ones_are_kept_and_those_without_an_answer_marked() -> None:
    sent = [event(), event(served="shadow"), event(served="holdout"), event(status=500), event(abstained=True)]
    kept = kept_of_events([*sent, event(output={}, entity="e")], 1.0)
    assert [(k.label, k.extra) for k in kept] == [
        ("x", None), (None, {"failed": True}), (None, {"failed": True}), (None, {"entity": "e", "failed": True}),
    ]  # fmt: skip


def test_of_a_frame_only_live_rows_are_kept_and_those_without_an_answer_marked() -> None:
    frame = encode_frame(
        {
            "id": list("abcde"), "time": np.full(5, NOW), "model": ["n", "m", "n", "m", "m"], "version": ["1"] * 5,
            "label": ["x"] * 5, "value": np.arange(5.0), "status": np.array([200, 500, 200, 200, 200], np.int16),
            "abstained": np.array([False, False, False, False, True]),
            "served": ["live", "live", "shadow", "live", "live"],
        }
    )  # fmt: skip
    kept = {
        k.inference_id: (k.label, k.value, (k.extra or {}).get("failed"))
        for k in kept_of_frame(decode_frame(frame, 0), 1.0)
    }
    assert kept == {"a": ("x", 0.0, None), "b": (None, None, True), "d": ("x", 3.0, None), "e": (None, None, True)}


def test_a_prediction_without_an_answer_is_wrong_whatever_the_label_says() -> None:
    said = label().event[0]
    for right in (said, msgspec.structs.replace(said, label=None, correct=True)):
        stamped = label()._replace(event=(right, None))
        assert labelled(stamped, prediction()).correct
        assert not labelled(stamped, prediction(label=None, extra={"failed": True})).correct


def test_a_label_keeps_what_was_predicted() -> None:
    batch = outcome_batch([labelled(label(), prediction()), labelled(label(), prediction(label=None))], 0)
    ((_, rows, _),) = batch.groups
    assert isinstance(rows, Outcomes)
    assert rows.predicted is not None
    assert (rows.predicted.codes.tolist(), rows.predicted.values) == ([0, -1], ("x",))


@pytest.mark.parametrize("when", ["1970-01-01T00:00:00Z", "2026-11-20T00:00:00Z", "2100-01-01T00:00:00Z"])
def test_the_time_of_the_prediction_decides_unless_it_is_absurd(when: str) -> None:
    for time_us in (NOW - 1, NOW - 399 * DAY, NOW + 299_000_000):
        assert labelled(label(when=when), prediction(time_us)).event_time == time_us
    for absurd in (0, NOW - 401 * DAY, NOW + 301_000_000):
        assert labelled(label(when=when), prediction(absurd)).event_time == NOW


def test_the_labellers_clock_does_not_move_an_outcome() -> None:
    """A date without a time, or 1970: it counts in the window of its inference, and arrives in none before that."""
    for when in ("1970-01-01T00:00:00Z", "2026-11-20T00:00:00Z"):
        book = WindowBook(Registry(window_us=HOUR, lateness_us=0).get, Clock())
        book.add(outcome_batch([labelled(label(when=when), prediction())], 0))
        book.apply(Cut(0, NOW + 2 * HOUR))
        (key,) = [closed.key for closed in book.close() if closed.profile is not None]
        assert key.start == key.arrival == NOW // HOUR * HOUR


# -- joining -------------------------------------------------------------------------------------------------


class Quiet(Runtime):
    """A worker without a broker: it remembers what it would bury, and knows how far its inferences have been read."""

    buried: list[int]

    async def bury(self, message: Any, error: Exception, agent: str) -> None:
        """Remember."""
        self.buried.append(message.offset)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    url = f"sqlite:///{tmp_path}/store.db"
    upgrade(url)
    opened = EventStore(url)
    yield opened
    opened.close()


async def agent_of(store: EventStore, tmp_path: Path, patience: str) -> tuple[Label, Lane]:
    settings = load({}, tmp_path, store=f"sqlite:///{tmp_path}/store.db", keep_rate=1.0, label_patience=patience)
    runtime = Quiet(settings, create_app(settings, loop=asyncio.get_running_loop()), store)
    runtime.buried = []
    return Label(runtime), Lane(runtime, TP("labels", 0), 1, 0, Clock())


def row(name: str, offset: int, topic: str = "labels") -> LabelRow:
    return LabelRow(inference_id=name, source="s", topic=topic, partition=0, offset=offset, time_us=NOW)


def test_a_label_that_gave_its_place_back_may_come_in_another_record(any_store_url: str) -> None:
    upgrade(any_store_url)
    store = EventStore(any_store_url)
    assert store.add_labels([row("a", 1), row("b", 2)]) == [True, True]
    assert store.release_labels([row("a", 1), row("b", 7), row("b", 2, "other")]) == 1
    assert store.release_labels([row("a", 1)]) == 0
    assert store.add_labels([row("a", 9), row("b", 9)]) == [True, False]
    store.close()


def keep(store: EventStore, name: str) -> None:
    store.keep_predictions(
        PredictionColumns(model=["m"], version=["1"], inference_id=[name], segment=[""], time_us=[NOW], label=["x"])
    )


def test_a_buried_label_is_joined_when_it_is_replayed_after_its_prediction(store: EventStore, tmp_path: Path) -> None:
    async def play() -> None:
        agent, lane = await agent_of(store, tmp_path, "0 s")
        lane.queued(label(offset=0))
        await agent._join(lane)
        await asyncio.sleep(0)
        assert cast(Quiet, agent.runtime).buried == [0]
        assert len(lane.book) == 0
        keep(store, "a")
        lane.queued(label(offset=1))
        lane.queued(label(offset=2))
        await agent._join(lane)
        (window,) = lane.book._windows.values()
        assert window.profile.counts["audit.n"] == 1
        found = store.label("a", "ground-truth")
        assert found is not None
        assert found.offset == 1

    asyncio.run(play())


def test_old_labels_without_a_prediction_do_not_wait_and_new_ones_do(store: EventStore, tmp_path: Path) -> None:
    async def play() -> None:
        agent, lane = await agent_of(store, tmp_path, "1 hour")
        lane.opened -= 7200
        now = time.time_ns() // 1000
        assert await agent._predictions(lane, [label("old", received=now - 3_601_000_000)]) == {}
        waiting = asyncio.ensure_future(agent._predictions(lane, [label("new", received=now)]))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        keep(store, "new")
        assert list(await waiting) == ["new"]
        lane.opened += 7200  # a worker that has only just begun reads labels before their predictions
        waiting = asyncio.ensure_future(agent._predictions(lane, [label("restart", received=now - 3_601_000_000)]))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        keep(store, "restart")
        assert list(await waiting) == ["restart"]

    asyncio.run(play())
