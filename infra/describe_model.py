"""The ONNX file that is described: run over sampled inputs, for the reference of embeddings and golden records."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray

from infra.describe_events import Recorded
from infra.recording import Sample
from models.columns import Categories
from models.describing_columns import Embeddings, texts_of
from models.describing_features import rounded
from models.descriptors.paths import Trees, value_at
from models.embedder import Embedder, EmbedError, ModelLoadError, decode_tensor
from streams.errors import DescriptorError

GOLDEN, TOLERANCE = 3, 1e-3
AGREEING = 0.95  # of the labels served; servers may round or break ties in another way
LARGEST_GOLDEN = 20_000  # numbers in one input; more would make a descriptor that nobody can read
EMBEDDING_NAMES, SCORE_NAMES = ("embedding",), ("scores", "probabilities")
Section = dict[str, Any]


class ModelArtefact(NamedTuple):
    """An ONNX file: where it is seen from the descriptors, and which of its tensors are read."""

    path: Path
    content: bytes
    relative: str
    digest: str
    input_name: str
    input_shape: tuple[int, ...] | None
    embedding: str
    scores: str


class _Answers(NamedTuple):
    samples: list[Sample]
    tensors: NDArray[Any]
    scores: NDArray[np.float32] | None
    embedding: NDArray[np.float32]


def load_model(path: Path, content: bytes, relative: str, digest: str, known: Trees) -> ModelArtefact:
    """The file's tensors: those that `known` names, else outputs by their usual names; empty where there is none."""
    try:
        graph = onnx.load_model_from_string(content).graph
    except DecodeError as error:
        raise DescriptorError(f"{path} is no ONNX file or is damaged ({error}); export it again") from None
    weights = {w.name for w in graph.initializer}
    inputs = [i.name for i in graph.input if i.name not in weights]
    made = {name for node in graph.node for name in node.output} | {o.name for o in graph.output}
    named = value_at(known, "trained_model.bestbefore.outputs") or {}
    declared = value_at(known, "trained_model.bestbefore.input.shape")
    fixed = isinstance(declared, list) and all(type(side) is int and side > 0 for side in declared)
    return ModelArtefact(
        path=path,
        content=content,
        relative=relative,
        digest=digest,
        input_name=inputs[0] if inputs else "",
        input_shape=tuple(declared) if fixed else None,
        embedding=str(named.get("embedding") or next((n for n in EMBEDDING_NAMES if n in made), "")),
        scores=str(named.get("scores") or next((n for n in SCORE_NAMES if n in made), "")),
    )


def examined(model: ModelArtefact, seen: Recorded | None, notes: list[str]) -> Section:
    """What is measured of the file for `trained_model.bestbefore`; embeddings are put into `seen.columns`.

    Raises DescriptorError where the file does not run.
    """
    embedder, own = _loaded(model, notes)
    if embedder is None or seen is None or not seen.inputs:
        notes.append("training_data.bestbefore.embedding, golden_records: no sampled inputs were run through the model")
        return own
    answers = _run(embedder, model, seen.inputs, notes)
    if answers is None:
        return own
    served = _served(seen, answers.samples)
    names = _class_names(seen.columns.classes, answers.scores, served, notes)
    predicted = served if names is None or answers.scores is None else _by_score(answers.scores, names)
    weight = 1.0 / np.array([s.meta.propensity for s in answers.samples])
    if model.embedding:
        seen.columns.embeddings = Embeddings(
            answers.embedding, predicted, None if (weight == weight[0]).all() else weight, embedder.provenance
        )
    if answers.scores is not None and names is not None:
        own["golden_records"] = _golden(model.input_name, answers, names, notes)
    return own


def _loaded(model: ModelArtefact, notes: list[str]) -> tuple[Embedder | None, Section]:
    outputs = {name: tensor for name, tensor in (("scores", model.scores), ("embedding", model.embedding)) if tensor}
    own: Section = {"file": model.relative, "digest": model.digest, "outputs": outputs}
    if not model.embedding:
        notes.append(
            "trained_model.bestbefore.outputs.embedding: no tensor is called `embedding`; name one to compare inputs"
        )
    if not outputs:
        return None, own
    try:
        embedder = Embedder.load(
            model.content,
            sha256=None,
            embedding=model.embedding or model.scores,
            scores=model.scores if model.embedding else None,
            input_shape=model.input_shape,
        )
    except ModelLoadError as error:
        notes.append(f"{model.path.name}: {error}")
        return None, own
    own["input"] = {"name": model.input_name, "shape": list(embedder.input_shape), "dtype": embedder.dtype.name}
    return embedder, own


def _run(embedder: Embedder, model: ModelArtefact, samples: Sequence[Sample], notes: list[str]) -> _Answers | None:
    kept, tensors, wrong = [], [], ""
    for sample in samples:
        try:
            tensor = decode_tensor(sample.data, sample.meta.dtype, sample.meta.shape, embedder.input_shape)
        except ValueError as error:
            wrong = wrong or str(error)
            continue
        kept.append(sample)
        tensors.append(tensor)
    if wrong:
        notes.append(f"{len(samples) - len(kept)} sampled inputs do not fit {model.path.name}; first: {wrong}")
    if not kept:
        return None
    try:
        stacked = np.stack(tensors)
        scores, embedding = embedder.outputs(stacked)
    except (EmbedError, ModelLoadError, ValueError) as error:
        raise DescriptorError(f"{model.path}: {error}") from None
    return _Answers(kept, stacked, scores if model.embedding else embedding, embedding)


def _served(seen: Recorded, samples: Sequence[Sample]) -> Categories:
    """The label that the events say was answered to each sampled input; -1 where its event is not recorded."""
    rows = pc.index_in(pa.array([s.meta.inference_id for s in samples], pa.string()), value_set=seen.ids)
    codes, values = seen.columns.predicted
    return texts_of([None if r is None or codes[r] < 0 else values[codes[r]] for r in rows.to_pylist()])


def _class_names(
    classes: tuple[str, ...], scores: NDArray[np.float32] | None, served: Categories, notes: list[str]
) -> tuple[str, ...] | None:
    """Names of the model's score columns: those of the events, where the answers served bear them out.

    Events in JSON name scores in no order, so names are taken only if the best column tells the label that was served.
    """
    known = served.codes >= 0
    if scores is None or not known.any():
        why = "no output with scores is named" if scores is None else "no event answers a sampled input"
        notes.append(f"trained_model.bestbefore.golden_records: {why}")
        return None
    best = scores.argmax(axis=1)[known].tolist()
    told = [served.values[code] for code in served.codes[known].tolist()]
    width = scores.shape[1]
    for names in (classes, tuple(sorted(classes, key=_natural)), tuple(str(i) for i in range(width))):
        if len(names) != width:
            continue
        if sum(names[i] == label for i, label in zip(best, told, strict=True)) >= AGREEING * len(told):
            return names
    notes.append(
        "trained_model.bestbefore.golden_records: the best scores of the file do not tell the labels that were served; "
        "check that this is the file that served"
    )
    return None


def _natural(name: str) -> tuple[bool, int, str]:
    whole = name.isdecimal()
    return not whole, int(name) if whole else 0, name


def _by_score(scores: NDArray[np.float32], names: tuple[str, ...]) -> Categories:
    finite = np.isfinite(scores).all(axis=1)
    return Categories(np.where(finite, scores.argmax(axis=1), -1).astype(np.int32), names)


def _golden(name: str, answers: _Answers, classes: tuple[str, ...], notes: list[str]) -> list[Section]:
    """The first sampled inputs with the outputs that this very file gives, so that a swapped file shows."""
    size = answers.tensors[0].size
    if size > LARGEST_GOLDEN or answers.scores is None:
        notes.append(f"trained_model.bestbefore.golden_records: an input has {size} numbers, at most {LARGEST_GOLDEN}")
        return []
    notes.append("trained_model.bestbefore.golden_records hold real inputs; replace them where they are personal data")
    return [
        {
            "inputs": {name: _exact(tensor)},
            "outputs": {
                "label": classes[int(row.argmax())],
                "scores": {k: rounded(p) for k, p in zip(classes, row, strict=True)},
            },
            "tolerance": TOLERANCE,
        }
        for tensor, row in zip(answers.tensors[:GOLDEN], answers.scores[:GOLDEN], strict=True)
    ]


def _exact(tensor: NDArray[Any]) -> Any:
    """Nested lists with as many digits as give the same single-precision numbers back."""
    if tensor.dtype.kind != "f":
        return tensor.tolist()
    digits = 17 if tensor.dtype.itemsize > 4 else 9
    return np.array([rounded(v, digits) for v in tensor.ravel()]).reshape(tensor.shape).tolist()
