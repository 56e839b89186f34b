"""Traffic that brings its own oracle: every record knows what it adds to the counts once the broker has taken it.

Records come from sources, functions of a traffic and a day. `Traffic(seed, sources=(*SOURCES, mine))` adds another;
each source has random numbers of its own, so the others stay as they were. The oracle knows what a window is, but
shares no code with the project's own.
"""

import heapq
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
from bestbefore_client import CONTENT_TYPE, Repeated, encode_frame
from bestbefore_client.sampling import unit
from numpy.typing import NDArray

PARTITIONS = 4
HOUR_US, DAY_US = 3_600_000_000, 86_400_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ASKED = 0.01  # share of the predictions of `digits` that labels are asked for

Key = tuple[str, str, str, int]  # model, version, segment, window start
Adds = list[tuple[Key, str, int]]
Expected = dict[Key, Counter[str]]


class Record(NamedTuple):
    """One Kafka record, and what it adds to the oracle once it is acknowledged."""

    due_us: int  # event time at which it is sent
    name: str  # for the log of what was sent
    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    adds: Adds
    events: int = 0
    asks: tuple[str, ...] = ()  # inferences that labels must be asked for
    poison: bool = False  # must be found in the dead letters, and nowhere else


def text(time_us: int) -> str:
    """RFC 3339."""
    return (EPOCH + timedelta(microseconds=time_us)).isoformat().replace("+00:00", "Z")


def window(time_us: int, length_us: int) -> int:
    """Start of the window of a time."""
    return time_us - time_us % length_us


class Traffic:
    """Days of two models: `digits` (described, decaying) and `edge` (nobody described it, three sites).

    Iterating makes the records day by day, in the order in which they are due; nothing but late labels is held. Every
    `generation` days a new version of `digits` is deployed, good again; it decays as the one before.
    """

    frames_per_day, frame_rows, singles_per_day = 10, 450, 500

    def __init__(
        self, seed: int, days: int = 40, sources: tuple["Source", ...] | None = None, generation: int = 40
    ) -> None:
        self.seed, self.days, self.generation = seed, days, generation
        self.sources = SOURCES if sources is None else sources
        now = time.time_ns() // 1000
        self.start = now - now % DAY_US - (days + 15) * DAY_US
        self.rng = np.random.default_rng(seed)  # of the source that is asked at the moment
        self._turn = 0

    def __iter__(self) -> Iterator[Record]:
        later: list[tuple[int, int, Record]] = []
        made = 0
        for day in range(self.days):
            for place, source in enumerate(self.sources):
                self.rng = np.random.default_rng((self.seed, day, place))
                for record in source(self, day):
                    heapq.heappush(later, (record.due_us, made := made + 1, record))
            while later and later[0][0] < self.start + (day + 1) * DAY_US:
                yield heapq.heappop(later)[2]
        while later:
            yield heapq.heappop(later)[2]

    @property
    def versions(self) -> list[str]:
        """Of `digits`, in the order of their deployment; to be registered beforehand."""
        return [str(n + 1) for n in range(-(-self.days // self.generation))]

    def version(self, day: int) -> str:
        """The version of `digits` that serves on a day."""
        return str(day // self.generation + 1)

    def decayed(self, due_us: int) -> list[str]:
        """The versions of `digits` that have served to their end by then: each must have led to a trigger."""
        return self.versions[: max(due_us - self.start, 0) // (self.generation * DAY_US)]

    def turn(self) -> int:
        """The next partition."""
        self._turn += 1
        return self._turn % PARTITIONS

    def times(self, day: int, share: float, width: float, rows: int) -> NDArray[np.int64]:
        """Event times around a share of a day: out of order by up to an hour, one in a hundred late by days."""
        begin = self.start + day * DAY_US
        within = (share + width * np.sort(self.rng.random(rows))) * DAY_US
        jitter = self.rng.random(rows) * HOUR_US * (self.rng.random(rows) < 0.2)
        late = self.rng.integers(1, 4, rows) * DAY_US * (self.rng.random(rows) < 0.01)
        times = np.int64(begin) + (within - jitter - late).astype(np.int64)
        times[times < self.start] = self.start
        return times

    def answers(self, day: int, rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Truth, prediction and scores; the accuracy falls from 0.96 to 0.6 in the later part of a generation."""
        accuracy = 0.96 - 0.36 * max(0.0, day % self.generation / self.generation - 0.4) / 0.6
        truth = self.rng.integers(0, 10, rows)
        wrong = self.rng.random(rows) > accuracy
        predicted = np.where(wrong, (truth + 1 + self.rng.integers(0, 9, rows)) % 10, truth)
        scores = np.full((rows, 10), (1 - accuracy) / 9, dtype=np.float32)
        scores[np.arange(rows), predicted] = accuracy
        return truth, predicted, scores


Source = Callable[[Traffic, int], Iterator[Record]]


def adds(model: str, version: str, at: int, site: Any, what: str = "n") -> Adds:
    """One more of `what` in the windows of an event: of the model, and of its segment if it has one."""
    if model == "digits":
        return [(("digits", version, "", window(at, DAY_US)), what, 1)]
    segment = json.dumps({"site": f"s{site}"}, separators=(",", ":"))
    return [((model, version, name, window(at, 6 * HOUR_US)), what, 1) for name in ("", segment)]


def asked(model: str, names: list[str]) -> tuple[str, ...]:
    """The inferences of the described model whose hash says that a label is asked for."""
    return tuple(name for name in names if unit(name) < ASKED) if model == "digits" else ()


# -- sources -------------------------------------------------------------------------------------------------


def frames(traffic: Traffic, day: int) -> Iterator[Record]:
    """Frames of some hundred events; every other day the last one is of `edge`."""
    for part in range(traffic.frames_per_day):
        edge = part == traffic.frames_per_day - 1 and day % 2 == 0
        model, version = ("edge", "7") if edge else ("digits", traffic.version(day))
        rows, width, rng = traffic.frame_rows, 1 / traffic.frames_per_day, traffic.rng
        times = traffic.times(day, part * width, width, rows)
        truth, predicted, scores = traffic.answers(day, rows)
        ids = [f"f-{day}-{part}-{i}" for i in range(rows)]
        site = rng.integers(0, 3, rows)
        columns: dict[str, Any] = {
            "id": ids, "time": times, "model": Repeated(model), "version": Repeated(version), "scores": scores,
            "label": [str(p) for p in predicted], "latency_ms": rng.gamma(4.0, 1.0, rows),
            "features.brightness": rng.normal(0.305, 0.034, rows),
            "features.contrast": rng.normal(0.316, 0.0287, rows),
        }  # fmt: skip
        if edge:
            columns["segment.site"] = [f"s{s}" for s in site]
        due = int(traffic.start + (day + (part + 1) * width) * DAY_US)
        yield Record(
            due, f"f-{day}-{part}", "inference", traffic.turn(), None, encode_frame(columns),
            [("content-type", CONTENT_TYPE.encode())],
            [add for i in range(rows) for add in adds(model, version, int(times[i]), site[i])], rows, asked(model, ids),
        )  # fmt: skip
        for i in range(rows):
            yield from follow_up(
                traffic, model, version, ids[i], int(times[i]), site[i], str(truth[i]), str(predicted[i]), due
            )


def singles(traffic: Traffic, day: int) -> Iterator[Record]:
    """Single events of both models in turn, as plain JSON and as CloudEvents."""
    for i in range(traffic.singles_per_day):
        model, version = (("edge", "7"), ("digits", traffic.version(day)))[i % 2]
        at = int(traffic.times(day, i / traffic.singles_per_day, 0.01, 1)[0])
        truth, predicted, scores = traffic.answers(day, 1)
        site, name = int(traffic.rng.integers(0, 3)), f"e-{day}-{i}"
        event: dict[str, Any] = {
            "id": name, "time": text(at), "model": model, "version": version, "latency_ms": 3.0,
            "features": {"brightness": 0.3, "contrast": 0.31},
            "output": {"label": str(predicted[0]), "scores": {str(k): float(s) for k, s in enumerate(scores[0])}},
        }  # fmt: skip
        if model == "edge":
            event["segment"] = {"site": f"s{site}"}
        due = int(traffic.start + (day + i / traffic.singles_per_day) * DAY_US)
        value, headers = dressed(event, i)
        yield Record(
            due, name, "inference", traffic.turn(), name.encode(), value, headers, adds(model, version, at, site), 1,
            asked(model, [name]),
        )  # fmt: skip
        yield from follow_up(traffic, model, version, name, at, site, str(truth[0]), str(predicted[0]), due)


def dressed(event: dict[str, Any], i: int) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Plain JSON, a binary CloudEvent or a structured one."""
    about = {"specversion": "1.0", "id": event["id"], "source": "/rig", "type": "t", "time": event["time"]}
    if i % 3 == 0:
        return json.dumps(event).encode(), []
    if i % 3 == 1:
        return json.dumps(event).encode(), [(f"ce_{name}", value.encode()) for name, value in about.items()]
    return (
        json.dumps({**about, "data": event}).encode(),
        [("content-type", b"application/cloudevents+json; charset=utf-8")],
    )


def follow_up(
    traffic: Traffic, model: str, version: str, name: str, at: int, site: Any, truth: str, predicted: str, due: int
) -> Iterator[Record]:
    """A label for one in twenty, two to four days later (sent twice now and then); an input for one in 400."""
    rng, key = traffic.rng, name.encode()
    if rng.random() < 0.05:
        labelled = at + int(rng.uniform(2, 4) * DAY_US)
        body = {
            "inference_id": name, "model": model, "version": version, "time": text(labelled), "label": truth,
            "propensity": 0.05,
        }  # fmt: skip
        counts = adds(model, version, at, site, "n_labelled")
        if truth == predicted:
            counts += adds(model, version, at, site, "n_correct")
        sent = max(labelled, due)
        record = Record(
            sent, f"l-{name}", "labels", sum(key) % PARTITIONS, key, json.dumps(body).encode(), [], counts
        )  # fmt: skip
        yield record
        if rng.random() < 0.02:
            yield record._replace(due_us=sent + HOUR_US, adds=[])
    if model == "digits" and rng.random() < 1 / 400:
        tensor = rng.random((1, 16, 16)).astype(np.float32)
        fields = {
            "inference_id": name, "model": model, "version": version, "time": text(at), "dtype": "float32",
            "shape": "[1, 16, 16]", "propensity": "0.0025",
        }  # fmt: skip
        headers = [(field, value.encode()) for field, value in fields.items()]
        yield Record(
            due, f"i-{name}", "inputs", traffic.turn(), key, tensor.tobytes(), headers,
            adds(model, version, at, site, "n_input"),
        )  # fmt: skip


def unreadable(traffic: Traffic, day: int) -> Iterator[Record]:
    """Bytes that are no JSON, on every other day."""
    if day % 2:
        due = traffic.start + day * DAY_US + int(traffic.rng.integers(0, DAY_US))
        yield Record(due, f"p-{day}", "inference", traffic.turn(), None, b"{no json", [], [], poison=True)


def deployments(traffic: Traffic, day: int) -> Iterator[Record]:
    """A lifecycle event where a generation begins."""
    if day and day % traffic.generation == 0:
        due, version = traffic.start + day * DAY_US, traffic.version(day)
        body = {
            "id": f"d-{day}", "time": text(due), "kind": "deployed", "model": "digits", "version": version,
            "previous": traffic.version(day - 1),
        }  # fmt: skip
        yield Record(due, f"d-{day}", "lifecycle", 0, b"digits", json.dumps(body).encode(), [], [])


SOURCES: tuple[Source, ...] = (frames, singles, unreadable, deployments)
