"""A store with four weeks of three models in it, as the assessor itself concludes them, ending today.

`digits` decays and asks for a retraining; `letters` is as declared; `faces` sends features in another unit and has no
labels.
"""

import time
from typing import Any, NamedTuple

import msgspec
import numpy as np
from bestbefore_client import Repeated, encode_frame

from agents.assessed import event_of
from infra.migrate import upgrade
from models.assessor import assess
from models.columns import Subject
from models.notes import Note
from models.profile import Profile
from models.reference import Reference
from models.subject_state import fresh
from streams.batches import Labelled, frame_batch, outcome_batch
from streams.descriptor_files import load_reference
from streams.event_store import EventStore
from streams.frames import decode_frame
from streams.registry import encode_reference
from streams.store_rows import OutboxMessage, WindowCounts, WindowEstimate
from tests.faults.crew import ROOT

DAY_US = 86_400_000_000
DAYS = 28
SITE = '{"site":"north"}'
LABELS = 60  # a day
DIGEST = "sha256:12e4646b1ed19908835b16aa4c647c410f592b20f8420d3ee3283046504d2cbd"
# Mean and deviation in training, as examples/digits/descriptors/training_data.yaml has them.
FEATURES = {
    "brightness": (0.305, 0.034), "contrast": (0.316, 0.0287), "ink": (0.315, 0.0416), "centre_y": (7.45, 0.785),
    "centre_x": (7.65, 0.604),
}  # fmt: skip


class Story(NamedTuple):
    """How a model fares: what share of its answers is right on each day, and how its inputs are scaled."""

    model: str
    loss: float  # of the share of right answers, by day
    labels: int = LABELS
    scale: float = 1.0


STORIES = (Story("digits", 0.006), Story("letters", 0.0), Story("faces", 0.0, labels=0, scale=10.0))


def filled(url: str) -> EventStore:
    """The store at `url`, migrated and filled."""
    upgrade(url)
    store = EventStore(url)
    reference = load_reference(ROOT / "examples" / "digits" / "descriptors")
    first = (time.time_ns() // 1000) // DAY_US * DAY_US - DAYS * DAY_US
    for story in STORIES:
        own = msgspec.structs.replace(reference, model=story.model)
        store.register(story.model, own.version, own.digest, encode_reference(own), first)
        for segment in ("", SITE) if story.loss else ("",):
            _live(store, story, Subject(story.model, own.version, segment), own, first)
    return store


def _live(store: EventStore, story: Story, subject: Subject, reference: Reference, first: int) -> None:
    state = fresh(reference, ["inference/0"])
    counts, estimates, notes = [], [], list[Note]()
    for day in range(DAYS):
        start = first + day * DAY_US
        profile = _day(story, subject, reference, day, start)
        window: dict[str, Any] = {**subject._asdict(), "window_start_us": start, "window_end_us": start + DAY_US}
        counts.append(WindowCounts(n=profile.n, n_labelled=story.labels, weight=float(profile.n), **window))
        state.assembly.add(start, start, profile)
        state.assembly.heard("inference/0", start + DAY_US)
        told, concluded = assess(state, subject, reference)
        notes += told
        estimates += [
            WindowEstimate(
                **one.subject._asdict(), window_start_us=one.start_us, window_end_us=one.end_us,
                estimate=one.estimate.estimate, low=one.estimate.low, high=one.estimate.high,
                basis=one.estimate.basis, best_before_us=one.best_before_us,
            )
            for one in concluded
        ]  # fmt: skip
    with store.transaction() as tx:
        tx.add_windows(counts)
        tx.append_events([event_of(note) for note in notes])
        tx.set_estimates(estimates)
        tx.enqueue([OutboxMessage(partition=0, topic="status", key=subject.model, headers={}, value=b"{}")])


def _day(story: Story, subject: Subject, reference: Reference, day: int, start: int) -> Profile:
    """What is seen of a day."""
    rng, n = np.random.default_rng(day), 300
    right = 0.95 - story.loss * day
    scores = np.full((n, 10), (1 - right) / 9, np.float32)
    best = rng.integers(0, 10, n)
    scores[np.arange(n), best] = right
    frame = encode_frame({
        "id": [f"d-{day}-{i}" for i in range(n)], "time": start + np.sort(rng.integers(0, DAY_US, n)),
        "model": Repeated(subject.model), "version": Repeated(subject.version), "scores": scores,
        "label": [str(b) for b in best], "latency_ms": rng.gamma(4.0, 1.0, n), "status": np.full(n, 200),
        "digest": Repeated(DIGEST),
        **{f"features.{name}": rng.normal(mean, std, n) * story.scale for name, (mean, std) in FEATURES.items()},
    })  # fmt: skip
    labels = [
        Labelled(
            Subject(subject.model, subject.version),
            i,
            start,
            start,
            0,
            bool(hit),
            str(i % 10),
            min(right + 0.03, 0.99),
            0.2,
            False,
        )
        for i, hit in enumerate(rng.random(story.labels) < right)
    ]
    made = Profile()
    for batch in (frame_batch(decode_frame(frame, day), day, 0), *([outcome_batch(labels, 0)] if labels else [])):
        for _, rows, _ in batch.groups:
            made.add(rows, reference)
    return made
