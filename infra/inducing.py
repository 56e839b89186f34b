"""`bestbefore induce`: drift is induced on labelled data, and an estimator of quality without labels learns from it.

The model file runs on every corrupted input, so the estimator is of this very file. What is written is one file beside
the descriptors, and the section of `training_data` that names it, whose comments and order stay.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infra.describe_files import read_folder, write_folder
from infra.labelled_data import Labelled, codes_of, read_labelled
from models import alien_images, induction_images, induction_tables
from models.embedder import Embedder, EmbedError, ModelLoadError
from models.event_features import Answers, freeze
from models.induced_quality import InducedQuality
from models.induced_report import LeftOut, left_out, unknown_share
from models.induction import ALIEN_DRAWS, PAIRS, Induce, Induced, Shift, conditions, draw, inducer, run
from models.quality_estimator import PATH
from models.reference import Reference
from models.registrar import Registrar
from streams.descriptor_files import read_set, reference_of
from streams.errors import BadInput, DescriptorError, ModelError
from streams.inspecting import model_bytes
from streams.settings import Settings

FILE = "quality_estimator.bin"
OTHER_SCALE = 10.0  # times as large as golden inputs: no image is so bright, but a forgotten division is
MOST_HELD_OUT, MOST_TRAIN = 1_000, 2_000  # rows; more only take longer
Run = Callable[[NDArray[Any]], tuple[NDArray[np.float32], NDArray[np.float32]]]


class Kinds(NamedTuple):
    """What is done to inputs: shifts of all families, and contents that are no drift at all."""

    shifts: dict[str, Shift]
    aliens: dict[str, Shift]


class Fitted(NamedTuple):
    """An estimator, how good it is by family left out, and what it was made of.

    `n` counts held-out inputs, `accuracy` is the share of them, as they are, that the model gets right.
    """

    quality: InducedQuality
    left_out: list[LeftOut]
    n: int
    registrar: Registrar
    contents: list[Induced]
    induce: Induce
    accuracy: float

    def mean(self, what: str) -> float:
        """The mean over families of `error`, `coverage` or `width`."""
        return float(np.mean([getattr(one, what) for one in self.left_out])) if self.left_out else float("nan")

    def section(self, file: str, content: bytes) -> dict[str, Any]:
        """`training_data.bestbefore.quality_estimator`."""
        found = {
            "file": file,
            "digest": f"sha256:{hashlib.sha256(content).hexdigest()}",
            "model": f"sha256:{self.quality.model}",
            "n": self.n,
            "families": [one.family for one in self.left_out],
            "level": 0.9,
        }
        figures = {what: round(self.mean(what), 4) for what in ("error", "coverage", "width")}
        return found | {name: value for name, value in figures.items() if np.isfinite(value)}


class Done(NamedTuple):
    """What `induce` has done, for people; `outside` is the share of windows of each alien content told as unknown."""

    files: list[Path]
    fitted: Fitted
    outside: dict[str, float]
    notes: list[str]
    seconds: float


def induce(
    folder: Path,
    data: Path,
    settings: Settings,
    *,
    train: Path | None = None,
    label: str | None = None,
    without: Sequence[str] = (),
    seed: int = 0,
    pairs: int = PAIRS,
) -> Done:
    """Fit an estimator on `data`, which the model must not have learnt from, and write it into the folder.

    `train` may be training data; without it a half of `data` stands in for it. Raises DescriptorError and ModelError.
    """
    started = time.monotonic()
    described = read_set(folder)
    reference = reference_of(described, estimator=False)
    model = _model(reference, described.trees, settings)
    held_out = read_labelled(data, described.trees, label)
    names = tuple(reference.classes)
    rng = np.random.default_rng(seed)
    notes: list[str] = []
    parts = _parts(held_out, read_labelled(train, described.trees, label) if train else None, rng, notes)
    inputs = [_fitting(part.inputs, model, path) for part, path in zip(parts, (train or data, data), strict=True)]
    _same_scale(inputs[1], described.trees, data)
    labels = [codes_of(part.labels, names, path) for part, path in zip(parts, (train or data, data), strict=True)]
    try:
        fitted = fit(
            model.outputs_of, inputs[0], labels[0], inputs[1], labels[1],
            kinds_of(inputs[0], inputs[1], _categories(reference, held_out.columns), without),
            model=model.sha256, seed=seed, pairs=pairs,
        )  # fmt: skip
    except (EmbedError, ValueError) as error:
        raise DescriptorError(f"{data}: {error}") from None
    content = fitted.quality.pack()
    files = _write(folder, fitted, content)
    return Done(files, fitted, outside_of(fitted, seed), notes, time.monotonic() - started)


def fit(
    answer: Run, train: NDArray[Any], train_labels: NDArray[np.int64], held_out: NDArray[Any],
    labels: NDArray[np.int64], kinds: Kinds, *, model: str, seed: int = 0, pairs: int = PAIRS,
) -> Fitted:  # fmt: skip
    """The estimator, and what it is worth on families it has not seen. Raises ValueError."""
    rng = np.random.default_rng(seed)
    scores, embedding = answer(held_out)
    reference = freeze(Answers(*answer(train), train_labels), Answers(scores, embedding, labels), rng)
    induce = inducer({**kinds.aliens, **kinds.shifts}, held_out, labels, answer)
    registrar = Registrar(draw(run(reference, induce, conditions(kinds.shifts, rng, pairs), rng), rng))
    contents = run(reference, induce, [((name, 0),) for name in kinds.aliens], rng)
    aliens = draw(contents, rng, times=ALIEN_DRAWS) if contents else None
    quality = InducedQuality(reference, *registrar.parts(aliens), model)
    accuracy = float(np.mean(scores.argmax(axis=1) == labels))
    return Fitted(quality, left_out(registrar), len(labels), registrar, contents, induce, accuracy)


def outside_of(fitted: Fitted, seed: int = 0) -> dict[str, float]:
    """The share of windows of each alien content that reads unknown where this content was not shown before."""
    found = {}
    for one in fitted.contents:
        (name,) = one.families
        rng = np.random.default_rng(seed)
        others = draw([other for other in fitted.contents if other is not one], rng, times=ALIEN_DRAWS)
        quality = InducedQuality(fitted.quality.reference, *fitted.registrar.parts(others), fitted.quality.model)
        scores, embedding, _ = fitted.induce(((name, 0),), seed)
        found[name] = unknown_share(quality, scores, embedding, rng)
    return found


def kinds_of(train: NDArray[Any], held_out: NDArray[Any], categorical: Sequence[int], without: Sequence[str]) -> Kinds:
    """The shifts that fit these inputs: of images (n, h, w) or (n, c, h, w), or of tables (n, d).

    Raises DescriptorError for inputs of another form, and for a family that does not exist.
    """
    if held_out.ndim == 2:
        shifts: dict[str, Shift] = induction_tables.shifts(train, categorical)
        aliens: dict[str, Shift] = {}
    elif held_out.ndim in (3, 4) and min(held_out.shape[-2:]) > 4:
        low, high = float(min(train.min(), held_out.min())), float(max(train.max(), held_out.max()))
        shifts = induction_images.shifts(low, high)
        aliens = alien_images.shifts(low, high)
    else:
        raise DescriptorError(
            f"one input has shape {held_out.shape[1:]}: drift can be induced on tables (columns) and on images "
            "(height, width) or (channels, height, width)"
        )
    odd = [name for name in without if name not in shifts]
    if odd:
        raise DescriptorError(f"there is no family {odd[0]!r} to leave out; there are {', '.join(sorted(shifts))}")
    return Kinds({name: shift for name, shift in shifts.items() if name not in without}, aliens)


class _Model(NamedTuple):
    """The model file as it runs; `sha256` is its digest."""

    embedder: Embedder
    sha256: str

    def outputs_of(self, inputs: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scores and embeddings of inputs that were shifted in floats."""
        dtype = self.embedder.dtype
        if dtype.kind in "iu":
            bounds = np.iinfo(dtype)
            inputs = np.clip(np.rint(inputs), bounds.min, bounds.max)
        taken = inputs.astype(dtype).reshape(len(inputs), *self.embedder.input_shape)
        scores, embedding = self.embedder.outputs(taken)
        if scores is None:
            raise ValueError("the model gives no scores")
        return scores, embedding


def _model(reference: Reference, trees: Any, settings: Settings) -> _Model:
    file = reference.file
    if file is None:
        raise DescriptorError(
            "trained_model.bestbefore.file names no ONNX file; the estimator is of the answers of one"
        )
    if not file.scores:
        raise DescriptorError(
            "trained_model.bestbefore.outputs.scores names no tensor; scores are what is judged: write the name of the "
            "tensor there, as in outputs: {scores: probabilities}"
        )
    own = (trees.get("trained_model") or {}).get("bestbefore") or {}
    shape = (own.get("input") or {}).get("shape")
    fixed = isinstance(shape, list) and all(type(side) is int and side > 0 for side in shape)
    try:
        content = model_bytes(file, settings.model_prefixes)
        embedder = Embedder.load(
            content, sha256=file.sha256 or None, embedding=file.embedding, scores=file.scores,
            policy=settings.provider_policy, input_shape=shape if fixed else None,
        )  # fmt: skip
    except (BadInput, ModelError, ModelLoadError, OSError) as error:
        raise DescriptorError(
            f"{file.path} cannot be used: {error}. The tensors are named in trained_model.bestbefore.outputs: `scores` "
            "and `embedding`, which may be an inner one; for a table it is the standardised features"
        ) from None
    return _Model(embedder, str(embedder.provenance["sha256"]))


def _fitting(inputs: NDArray[Any], model: _Model, path: Path) -> NDArray[Any]:
    """Inputs as the shifts take them: without axes of length one in front, in floats. Raises DescriptorError."""
    wanted = model.embedder.input_shape
    core = tuple(side for i, side in enumerate(wanted) if side != 1 or any(s != 1 for s in wanted[:i]))
    if inputs.shape[1:] not in (wanted, core):
        raise DescriptorError(f"{path}: one input has shape {inputs.shape[1:]}, the model takes {wanted}")
    if inputs.dtype.kind not in "fiub":
        raise DescriptorError(f"{path}: inputs are {inputs.dtype}; give numbers")
    return inputs.reshape(len(inputs), *core).astype(np.float64 if len(core) == 1 else np.float32)


def _same_scale(inputs: NDArray[Any], trees: Any, path: Path) -> None:
    """Raises DescriptorError for images on another scale than those the model is served, as golden records show them.

    A model often reads such images well enough, and the estimator would then take real traffic for content unknown.
    """
    own = (trees.get("trained_model") or {}).get("bestbefore") or {}
    records = [r for r in own.get("golden_records") or () if isinstance(r, dict) and isinstance(r.get("inputs"), dict)]
    golden = [np.abs(np.asarray(v, dtype=np.float64)).max() for r in records for v in r["inputs"].values()]
    if inputs.ndim < 3 or not golden or max(golden) <= 0:
        return
    reach = float(np.abs(inputs).max())
    if not 1 / OTHER_SCALE <= reach / max(golden) <= OTHER_SCALE:
        raise DescriptorError(
            f"{path}: values reach {reach:.4g}, those of trained_model.bestbefore.golden_records {max(golden):.4g}; "
            "give inputs as the server hands them to the model, normalised alike"
        )


def _parts(
    data: Labelled, train: Labelled | None, rng: np.random.Generator, notes: list[str]
) -> tuple[Labelled, Labelled]:
    order = rng.permutation(len(data.labels))
    if train is None:
        notes.append("a half of the data stands in for training data; give --train for a better estimator")
        first, second = order[::2], order[1::2]
        return _rows(data, first[:MOST_TRAIN]), _rows(data, second[:MOST_HELD_OUT])
    if train.columns != data.columns:
        raise DescriptorError(f"the columns of both files differ: {train.columns[:8]} and {data.columns[:8]}")
    if len(order) > MOST_HELD_OUT:
        notes.append(f"{MOST_HELD_OUT:,} of {len(order):,} rows were drawn to induce drift on")
    return _rows(train, rng.permutation(len(train.labels))[:MOST_TRAIN]), _rows(data, order[:MOST_HELD_OUT])


def _rows(data: Labelled, rows: NDArray[np.int64]) -> Labelled:
    rows = np.sort(rows)
    return Labelled(data.inputs[rows], data.labels[rows], data.columns)


def _categories(reference: Reference, columns: Sequence[str]) -> list[int]:
    """Numbers of the columns that are described as categories: they hold codes."""
    return [i for i, name in enumerate(columns) if name in reference.categorical]


def _write(folder: Path, fitted: Fitted, content: bytes) -> list[Path]:
    existing = read_folder(folder)
    tree = dict(existing.get("training_data") or {"version": "1.2"})
    own = dict(tree.get("bestbefore") or {})
    own[PATH.rpartition(".")[2]] = fitted.section(FILE, content)
    tree["bestbefore"] = own
    path = folder / FILE
    try:
        path.write_bytes(content)
    except OSError as error:
        raise DescriptorError(f"{path} cannot be written: {error.strerror}") from None
    return [path, *write_folder({**existing, "training_data": tree}, existing, folder)]
