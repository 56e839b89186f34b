"""Sampled inputs after the embedder, as a `Batch` for the window book."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.columns import Categories, Embedded, Subject
from models.reference import Reference
from models.skew import Skew, compared
from models.window_book import Batch
from streams.batches import Stamped
from streams.event_columns import encoded
from streams.records import InputSample, segment_key, time_us

if TYPE_CHECKING:
    from models.embedder import Embedder


class Recomputed(NamedTuple):
    """What the model file makes of one input: its embedding, its scores, and the column of the highest of them."""

    embedding: NDArray[np.float32]
    best: int = -1
    classes: int = 0
    scores: NDArray[np.float32] | None = None


NOTHING = Recomputed(np.empty(0, np.float32))  # there is no model file


def recomputed(embedder: "Embedder", inputs: NDArray[Any]) -> list[Recomputed]:
    """Embeddings and predicted classes of a block of inputs. Raises ValueError and EmbedError as the embedder does."""
    scores, embeddings = embedder.outputs(inputs)
    if scores is None or scores.shape[1] < 2:
        return [Recomputed(row) for row in embeddings]
    best = np.where(np.isfinite(scores).all(axis=1), scores.argmax(axis=1), -1).tolist()
    columns = scores.shape[1]
    return [Recomputed(row, top, columns, own) for row, top, own in zip(embeddings, best, scores, strict=True)]


def embedded_batch(
    stamped: Sequence[Stamped], found: Sequence[Recomputed], last: int, reference_of: Callable[[str, str], Reference]
) -> Batch:
    """The batch of sampled inputs; `found[i]` belongs to `stamped[i]`."""
    by_subject: dict[Subject, list[int]] = {}
    for i, (_, _, event) in enumerate(stamped):
        for segment in {"", segment_key(event.segment)}:
            by_subject.setdefault(Subject(event.model, event.version, segment), []).append(i)
    offset = np.array([s.offset for s in stamped], dtype=np.int64)
    time = np.array([time_us(s.event.time) for s in stamped], dtype=np.int64)
    groups: list[Any] = []
    for subject, where in sorted(by_subject.items()):
        index = np.array(where)
        samples: list[InputSample] = [stamped[i].event for i in where]
        mine = [found[i] for i in where]
        rows = Embedded(
            offset=offset[index],
            time=time[index],
            weight=1.0 / np.array([s.propensity for s in samples]),
            embedding=np.stack([one.embedding for one in mine]),
            label=_labels(mine, reference_of(subject.model, subject.version)),
            scores=_scores(mine),
            segment=None if subject.segment else _segments(samples),
            **_skew(samples, mine),
        )
        groups.append((subject, rows, index))
    return Batch(offset, time, np.array([s.received for s in stamped], dtype=np.int64), groups, last)


def _labels(found: Sequence[Recomputed], reference: Reference) -> Categories | None:
    """Names of the predicted classes: those of `training_data.bestbefore.classes`, in their order, else numbers."""
    names = tuple(reference.classes)
    labels = [
        None if one.best < 0 else names[one.best] if len(names) == one.classes else str(one.best) for one in found
    ]
    return None if all(label is None for label in labels) else encoded(labels)


def _scores(found: Sequence[Recomputed]) -> NDArray[np.float32] | None:
    """Scores (n, classes), as many columns as the first input has that has some; NaN for inputs with other ones."""
    classes = next((one.classes for one in found if one.scores is not None), 0)
    if not classes:
        return None
    none = np.full(classes, np.nan, np.float32)
    return np.stack([one.scores if one.scores is not None and one.classes == classes else none for one in found])


def _segments(samples: Sequence[InputSample]) -> Categories | None:
    """The segment of each row; none where no sample has one."""
    keys = [segment_key(sample.segment) or None for sample in samples]
    return None if all(key is None for key in keys) else encoded(keys)


def _skew(samples: Sequence[InputSample], found: Sequence[Recomputed]) -> dict[str, Any]:
    """The columns about embeddings that servers sent; none where no sample has one."""
    if all(sample.embedding is None for sample in samples):
        return {}
    skews: list[Skew] = [compared(s.embedding, one.embedding) for s, one in zip(samples, found, strict=True)]
    return {
        "skew": np.array([skew.error for skew in skews]),
        "cosine": np.array([skew.cosine for skew in skews]),
        "misfit": np.array([skew.misfit for skew in skews]),
        "origin": encoded([None if sample.embedding is None else _origin(sample) for sample in samples]),
    }


def _origin(sample: InputSample) -> str:
    return f"{sample.provider or '?'}|{sample.batch_size or '?'}"
