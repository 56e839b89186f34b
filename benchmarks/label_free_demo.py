"""Accuracy without labels over the days of a deployment, read by two estimators side by side in one run.

One is the registered estimator (drift induced on the model, sampled inputs), the other reads calibrated confidences of
all events (average and ATC, with residuals of induced drift). Both see the same days through the engine of `replay`:
the demo's lens that loses its clarity, and decays by other families of corruption (`benchmarks.demo_worlds`). Truth is
the accuracy of each day's predictions. Printed: share of days with a number, share of these whose 90% interval held the
truth, mean error and mean width in points; of the window's own reading, and of the estimate that the filter makes of it
and of labels that come days later.

    python -m benchmarks.label_free_demo --seeds 3
"""

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
from bestbefore_client import Repeated, encode_frame
from bestbefore_client.sampling import sampled

from benchmarks import demo_worlds
from benchmarks.demo_worlds import Pool, drawn, families, model, true_accuracy
from infra.demo.scenario import AUDIT_RATE, DESCRIPTORS, INPUT_RATE, START_US, Day, Label, Scenario
from infra.recording import Sample
from infra.replay import Engine, Step
from models.reference import Reference
from models.units import DAY_US
from streams.descriptor_files import load_reference
from streams.records import InputSample, LabelEvent
from streams.settings import load
from streams.topics import INFERENCE, INPUTS, LABELS

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Days = list[tuple[float, dict[str, Any]]]  # true accuracy, and {estimate, low, high}


class Played(NamedTuple):
    """A day: its true accuracy, and what a recording of it holds."""

    truth: float
    steps: list[Step]


class Figures(NamedTuple):
    """Of one estimator over some days: share with a number, coverage, mean error and mean width in points."""

    spoken: float
    coverage: float
    error: float
    width: float

    def __str__(self) -> str:
        return f"{self.spoken:7.0%} {self.coverage:9.0%} {self.error:8.1f} {self.width:8.1f}"


def steps(day: Day, due: list[Label]) -> Iterator[Step]:
    """What a recording holds of a day; labels in `due` that fall into it are taken out."""
    columns: dict[str, Any] = {
        "id": day.ids, "time": day.times_us, "model": Repeated("digits"), "version": Repeated("1"),
        **{f"features.{name}": values for name, values in day.features.items()}, "scores": day.scores,
        "latency_ms": day.latency_ms,
    }  # fmt: skip
    with pa.ipc.open_stream(pa.py_buffer(encode_frame(columns))) as reader:
        yield Step(int(day.times_us[0]), INFERENCE, next(iter(reader)))
    for name, time, image in zip(day.ids, day.times_us.tolist(), day.images, strict=True):
        if sampled(name, INPUT_RATE):
            meta = InputSample(
                inference_id=name, model="digits", version="1", time=_moment(time), dtype="float32",
                shape=list(image.shape), propensity=INPUT_RATE,
            )  # fmt: skip
            yield Step(time, INPUTS, Sample(meta, image.tobytes()))
    end = START_US + (day.number + 1) * DAY_US
    due += day.labels
    for label in [one for one in due if one.time_us < end]:
        due.remove(label)
        event = LabelEvent(
            inference_id=label.inference_id, model="digits", version="1", time=_moment(label.time_us),
            label=label.label, propensity=AUDIT_RATE,
        )  # fmt: skip
        yield Step(label.time_us, LABELS, [event])


def demo(seed: int, days: int) -> Iterator[Played]:
    """The days of `make demo`."""
    due = list[Label]()
    for day in Scenario(seed, days):
        yield Played(day.accuracy, sorted(steps(day, due), key=lambda one: one.time))


def world(seed: int, choice: list[str], threshold: float) -> Iterator[Played]:
    """The days of another decay."""
    decay = drawn(seed, choice)
    pool = Pool(decay.family, model())
    for day, found in demo_worlds.steps(decay, pool, threshold, seed):
        yield Played(true_accuracy(decay, pool, threshold, day + 0.5), found)


def play(days: list[Played], reference: Reference) -> list[dict[str, Any]]:
    """The status line of every day."""
    known = {label.inference_id for day in days for step in day.steps if step.kind == LABELS for label in step.rows}
    engine = Engine([reference], load({}, Path.cwd(), keep_rate=AUDIT_RATE), labelled=known)
    for day in days:
        for step in day.steps:
            engine.take(step)
    engine.finish()
    return [note.body for note in engine.notes if note.kind == "status"][: len(days)]


def figures(truth: list[float], read: list[dict[str, Any]]) -> Figures:
    """How good readings {estimate, low, high} were."""
    spoken = [(t, r) for t, r in zip(truth, read, strict=True) if r["estimate"] is not None]
    if not spoken:
        return Figures(0.0, np.nan, np.nan, np.nan)
    inside = [r["low"] <= t <= r["high"] for t, r in spoken]
    error = [abs(r["estimate"] - t) for t, r in spoken]
    width = [r["high"] - r["low"] for _, r in spoken]
    return Figures(
        len(spoken) / len(truth), float(np.mean(inside)), 100 * float(np.mean(error)), 100 * float(np.mean(width))
    )


def told(name: str, of: str, days: Days) -> None:
    """One row of the table."""
    print(f"{name:22} {of:22} {figures([t for t, _ in days], [r for _, r in days])}")


def _moment(us: int) -> datetime:
    return EPOCH + timedelta(microseconds=us)


def main() -> None:
    """Both estimators on the same days."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3, help="of the demo")
    parser.add_argument("--worlds", type=int, default=6, help="other decays")
    parser.add_argument("--days", type=int, default=60, help="of the demo")
    parser.add_argument("--descriptors", type=Path, default=DESCRIPTORS)
    given = parser.parse_args()
    induced = load_reference(given.descriptors)
    references = {"induced": induced, "confidence": msgspec.structs.replace(induced, quality_estimator=None)}
    threshold = induced.threshold or 0.0
    choice = families(model(), threshold) if given.worlds else []
    runs = [("demo", demo(seed, given.days)) for seed in range(7, 7 + given.seeds)]
    runs += [("worlds", world(seed, choice, threshold)) for seed in range(given.worlds)]
    everything: dict[tuple[str, str], Days] = {}
    print(f"{'days':22} {'reading':22} {'spoken':>7} {'coverage':>9} {'error':>8} {'width':>8}")
    for name, played in runs:
        days = list(played)
        for estimator, reference in references.items():
            status = play(days, reference)
            for of in ("window", "estimate"):
                read = [s["window_quality"]["label_free"] if of == "window" else s["quality"] for s in status]
                found = everything.setdefault((name, f"{estimator}, {of}"), [])
                found += zip([day.truth for day in days], read, strict=True)
    for (name, of), found in everything.items():
        told(f"{name} ({len(found)} days)", of, found)


if __name__ == "__main__":
    main()
