"""The fast offline form of the demo: other decays for every seed, without a broker, through the very same engine.

What makes the demo slow is corrupting 2 000 images a day and asking the model about each. Here all 697 held-out images
are corrupted once per family and severity; a day then draws rows. Between two severities it draws from both, so the
true accuracy of a day is known exactly and follows the drawn path: fresh, then from an onset on down to the threshold
after some days and further, evenly, or slowly first, or fast first. Onset, duration, shape and family are the seed's.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from bestbefore_client import Repeated, encode_frame
from bestbefore_client.sampling import u64_many
from numpy.typing import NDArray

from infra.demo.images import CORRUPTIONS, corrupt, image_features, load
from infra.demo.scenario import AUDIT_RATE, DESCRIPTORS, INPUT_RATE, LABEL_DELAY_DAYS, PER_DAY, START_US
from infra.recording import Sample
from infra.replay import Step
from models.embedder import Embedder
from models.units import DAY_US
from streams.batches import threshold as sampling_threshold
from streams.records import InputSample, LabelEvent
from streams.topics import INFERENCE, INPUTS, LABELS

Floats = NDArray[np.float64]

SEVERITIES = np.linspace(0, 1, 41)
ONSETS, DURATIONS, POWERS = (10.0, 40.0), (20.0, 60.0), (0.7, 2.0)  # days, days, exponent of the loss over time
AFTERWARDS = 15  # days played after the crossing
CALM_DAYS = 90  # days of a seed in which nothing decays
LENS = "blur, then noise"  # what the demo itself does to its images


class Decay(NamedTuple):
    """What a seed draws; `duration` infinite: nothing decays. Days are counted from the first."""

    family: str
    onset: float
    duration: float
    power: float

    def lost(self, day: float) -> float:
        """The share of the gap between fresh accuracy and threshold that is lost by then; above 1 it is crossed."""
        return float((max(day - self.onset, 0.0) / self.duration) ** self.power)

    @property
    def crossing(self) -> int | None:
        """Number of the first day whose middle lies below the threshold."""
        if np.isinf(self.duration):
            return None
        return int(np.floor(self.onset + self.duration - 0.5)) + 1

    @property
    def days(self) -> int:
        """Days to play."""
        return CALM_DAYS if self.crossing is None else self.crossing + AFTERWARDS


class Pool:
    """All held-out images under one family of corruptions, at every severity, with what the model says of them."""

    def __init__(self, family: str, model: Embedder) -> None:
        self.family = family
        held_out = load().held_out
        blocks = [_corrupted(held_out.images, family, float(s)) for s in SEVERITIES]
        answers = [model.outputs(block[:, None])[0] for block in blocks]
        scores = np.stack([a for a in answers if a is not None])
        self.truth = held_out.labels
        self.images, self.scores = np.stack(blocks), scores
        self.features = {
            name: np.stack([image_features(block)[name] for block in blocks]) for name in image_features(blocks[0])
        }
        self.accuracy: Floats = (scores.argmax(axis=2) == self.truth).mean(axis=1)

    def mixture(self, target: float) -> tuple[int, float]:
        """The severity (its number) and the share of the next one that together have the accuracy `target`."""
        below = np.flatnonzero(self.accuracy[1:] <= target)
        if target >= self.accuracy[0]:
            return 0, 0.0
        if not len(below):
            return len(SEVERITIES) - 2, 1.0
        first = int(below[0])
        high, low = self.accuracy[first], self.accuracy[first + 1]
        return first, float((high - target) / (high - low)) if high > low else 1.0


def families(model: Embedder, threshold: float) -> list[str]:
    """Families of corruption whose worst takes the model clearly below the threshold."""
    images, labels = load().held_out
    found = []
    for family in (LENS, *CORRUPTIONS):
        scores = model.outputs(_corrupted(images, family, 1.0)[:, None])[0]
        if scores is not None and (scores.argmax(axis=1) == labels).mean() < threshold - 0.05:
            found.append(family)
    return found


def model() -> Embedder:
    """The model of the demo."""
    content = (DESCRIPTORS.parent / "digits.onnx").read_bytes()
    return Embedder.load(content, sha256=None, embedding="embedding", scores="scores")


def drawn(seed: int, choice: list[str], *, calm: bool = False) -> Decay:
    """The decay of a seed; `calm`: none."""
    rng = np.random.default_rng([seed, 1])
    family = choice[int(rng.integers(len(choice)))]
    onset = float(rng.uniform(*ONSETS))
    duration, power = (float(np.exp(rng.uniform(*np.log(limits)))) for limits in (DURATIONS, POWERS))
    return Decay(family, onset, np.inf if calm else duration, power)


def true_accuracy(decay: Decay, pool: Pool, threshold: float, day: float) -> float:
    """Expected accuracy at a moment, as `steps` plays it."""
    fresh = pool.accuracy[0]
    first, share = pool.mixture(fresh - (fresh - threshold) * decay.lost(day))
    return float((1 - share) * pool.accuracy[first] + share * pool.accuracy[first + 1])


def steps(decay: Decay, pool: Pool, threshold: float, seed: int) -> Iterator[tuple[int, list[Step]]]:
    """Day by day what a recording of it would hold, in event time: inferences, sampled inputs, labels when due."""
    rng, due = np.random.default_rng([seed, 2]), []
    for day in range(decay.days):
        fresh = pool.accuracy[0]
        first, share = pool.mixture(fresh - (fresh - threshold) * decay.lost(day + 0.5))
        level = first + (rng.random(PER_DAY) < share)
        image = rng.integers(0, len(pool.truth), PER_DAY)
        ids = [f"scan-{seed}-{day:03d}-{i:04d}" for i in range(PER_DAY)]
        times = START_US + day * DAY_US + np.sort(rng.integers(0, DAY_US, PER_DAY))
        hashes = u64_many(np.frombuffer("".join(ids).encode(), np.uint8), np.arange(PER_DAY + 1) * len(ids[0]))
        chosen = np.flatnonzero(hashes <= sampling_threshold(AUDIT_RATE))
        delay = (rng.uniform(*LABEL_DELAY_DAYS, PER_DAY) * DAY_US).astype(np.int64)
        due += [_label(ids[i], int(times[i] + delay[i]), int(pool.truth[image[i]])) for i in chosen]
        found = [
            _frame(pool, ids, times, level, image),
            *(_sample(ids[i], int(times[i]), pool.images[level[i], image[i]]) for i in chosen),
        ]
        end = START_US + (day + 1) * DAY_US
        now = sorted((step for step in due if step.time < end), key=lambda step: step.time)
        if now:  # labels of a day together: the engine closes no window between them
            found.append(Step(now[-1].time, LABELS, [step.rows for step in now]))
        due = [step for step in due if step.time >= end]
        yield day, sorted(found, key=lambda step: step.time)


def _corrupted(images: NDArray[np.float32], family: str, severity: float) -> NDArray[np.float32]:
    rng = np.random.default_rng(1)
    if family != LENS:
        return corrupt(images, family, severity, rng)
    return corrupt(corrupt(images, "blur", severity, rng), "gauss", 0.5 * severity, rng)


def _frame(
    pool: Pool, ids: list[str], times: NDArray[np.int64], level: NDArray[np.int64], image: NDArray[np.int64]
) -> Step:
    features = {f"features.{name}": values[level, image] for name, values in pool.features.items()}
    columns: dict[str, Any] = {
        "id": ids, "time": times, "model": Repeated("digits"), "version": Repeated("1"), **features,
        "scores": pool.scores[level, image], "latency_ms": np.full(len(ids), 3.6, dtype=np.float32),
    }  # fmt: skip
    with pa.ipc.open_stream(pa.py_buffer(encode_frame(columns))) as reader:
        return Step(int(times[0]), INFERENCE, next(iter(reader)))


def _sample(name: str, time: int, image: NDArray[np.float32]) -> Step:
    meta = InputSample(
        inference_id=name, model="digits", version="1", time=_moment(time), dtype="float32", shape=[1, *image.shape],
        propensity=INPUT_RATE,
    )  # fmt: skip
    return Step(time, INPUTS, Sample(meta, image.tobytes()))


def _moment(us: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)


def _label(name: str, time: int, truth: int) -> Step:
    label = LabelEvent(
        inference_id=name, model="digits", version="1", time=_moment(time), label=str(truth), propensity=AUDIT_RATE
    )
    return Step(time, LABELS, label)
