"""The demo's sixty days read without labels by two estimators, side by side in one run, through the engine of `replay`.

One is the registered estimator (drift induced on the model, sampled inputs), the other reads calibrated confidences
(average and ATC, with residuals of induced drift). Truth is the accuracy of each day's predictions. Printed per seed and
for all: share of days with a number, share of them whose 90% interval held the truth, mean error, mean width; for the
window's own reading, and for the estimate that labels and filter make of it.

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

from infra.demo.scenario import AUDIT_RATE, DESCRIPTORS, INPUT_RATE, START_US, Day, Label, Scenario
from infra.recording import Sample
from infra.replay import Engine, Step
from models.reference import Reference
from models.units import DAY_US
from streams.descriptor_files import load_reference
from streams.records import InputSample, LabelEvent
from streams.settings import Settings, load
from streams.topics import INFERENCE, INPUTS, LABELS

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SETTINGS = {"oldest_event": "36500 days", "keep_rate": AUDIT_RATE}


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
        yield Step(label.time_us, LABELS, event)


def play(scenario: Scenario, reference: Reference, settings: Settings) -> tuple[list[float], list[dict[str, Any]]]:
    """True accuracy and status line of every day."""
    truth, due = [], list[Label]()
    wanted = {f"scan-{scenario.seed}-{d:03d}-{i:04d}" for d in range(scenario.days) for i in range(2_000)}
    engine = Engine([reference], settings, labelled={name for name in wanted if sampled(name, AUDIT_RATE)})
    for day in scenario:
        truth.append(day.accuracy)
        for step in sorted(steps(day, due), key=lambda one: one.time):
            engine.take(step)
    engine.finish()
    return truth, [note.body for note in engine.notes if note.kind == "status"][: len(truth)]


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


def _moment(us: int) -> datetime:
    return EPOCH + timedelta(microseconds=us)


def main() -> None:
    """Both estimators on every seed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--descriptors", type=Path, default=DESCRIPTORS)
    given = parser.parse_args()
    settings = load({}, Path.cwd(), **SETTINGS)
    induced = load_reference(given.descriptors)
    references = {"induced": induced, "confidence": msgspec.structs.replace(induced, quality_estimator=None)}
    everything: dict[tuple[str, str], list[tuple[float, dict[str, Any]]]] = {}
    print(f"{'seed':6} {'estimator':12} {'of':9} {'spoken':>7} {'coverage':>9} {'error':>8} {'width':>8}")
    for seed in range(7, 7 + given.seeds):
        for name, reference in references.items():
            truth, status = play(Scenario(seed, given.days), reference, settings)
            for of in ("window", "estimate"):
                read = [s["window_quality"]["label_free"] if of == "window" else s["quality"] for s in status]
                everything.setdefault((name, of), []).extend(zip(truth, read, strict=True))
                print(f"{seed:<6} {name:12} {of:9} {figures(truth, read)}")
    for (name, of), days in everything.items():
        print(f"{'all':6} {name:12} {of:9} {figures([t for t, _ in days], [r for _, r in days])}")


if __name__ == "__main__":
    main()
