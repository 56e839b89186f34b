"""Loads a model file once, to see what it really is: digest, signature, versions, providers, golden records replayed.

What the installed runtime can run is found by trial: a model of one Identity node is loaded under ever newer opset and
IR versions until the runtime refuses. The tables of the `onnx` package would tell what that package knows, which is
another thing.
"""

import contextlib
import functools
import hashlib
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import TensorProto, helper

from models.embedder import REFUSALS, ModelLoadError, Policy, _refuse_external, _session
from models.inspection import GoldenResult, Inspection, TensorFact

TOLERANCE = 1e-3  # of a golden record that names none
LEAST = 1e-6  # sizes below this do not make an error larger
MOST = 1e9  # the error of an output that is no number
_OLDEST_OPSET, _OLDEST_IR = 7, 3  # of every ONNX Runtime since 1.0
_TRIED = 64  # versions beyond the oldest
_PARTS = ("scores", "value", "embedding")
# What numpy, onnx and ONNX Runtime raise for facts that a descriptor or a file may hold.
_TROUBLE = (
    *REFUSALS, onnx.shape_inference.InferenceError, ArithmeticError, AttributeError, LookupError, MemoryError,
    RuntimeError, TypeError, ValueError,
)  # fmt: skip


def inspect(
    content: bytes,
    *,
    golden_records: Sequence[Mapping[str, Any]] = (),
    outputs: Mapping[str, str] | None = None,
    declared_digest: str = "",
    policy: Policy = "cpu",
    at_us: int = 0,
) -> Inspection:
    """Everything that loading `content` tells. Never raises for what is in it: `error` says what is wrong.

    `outputs` names the tensors that are read (`scores`, `embedding`, `label`), also inner ones. The inputs of a golden
    record are one row per tensor, with or without the batch axis; scores by class stand in the order of the columns.
    A file with another digest than the declared one is inspected all the same, and the error says so where it fails.
    """
    newest_opset, newest_ir = newest_versions()
    found = Inspection(
        digest=f"sha256:{hashlib.sha256(content).hexdigest()}", runtime=str(ort.__version__), newest_opset=newest_opset,
        newest_ir=newest_ir, policy=policy, at_us=at_us,
    )  # fmt: skip
    named = {part: str(name) for part, name in (outputs or {}).items() if name}
    try:
        found = _described(found, content)
        session, missing = _opened(content, named, policy)
        found = _with(found, providers=tuple(session.get_providers()))
        golden = tuple(_replayed(index, record, session, named, missing) for index, record in enumerate(golden_records))
    except (DecodeError, *_TROUBLE) as error:
        strange = declared_digest and declared_digest.lower().removeprefix("sha256:") != found.digest[7:]
        note = "; it is not the file that was declared" if strange else ""
        return _with(found, error=_brief(error) + note)
    return _with(found, golden=golden)


def _with(found: Inspection, **facts: Any) -> Inspection:
    return Inspection(**({name: getattr(found, name) for name in found.__struct_fields__} | facts))


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:400] or type(error).__name__


def _described(found: Inspection, content: bytes) -> Inspection:
    """What the file says of itself."""
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise ModelLoadError(f"the file is no ONNX model or is damaged ({error}): export it again") from error
    if not model.graph.node:
        raise ModelLoadError("the file holds no ONNX graph: export it again")
    weights = {w.name for w in model.graph.initializer}
    return _with(
        found,
        opset={one.domain or "ai.onnx": int(one.version) for one in model.opset_import},
        ir_version=int(model.ir_version),
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        inputs=tuple(_tensor(i) for i in model.graph.input if i.name not in weights),
        outputs=tuple(_tensor(o) for o in model.graph.output),
    )


def _tensor(value: Any) -> TensorFact:
    kind = str(value.type.WhichOneof("value") or "")
    if kind != "tensor_type":  # a sequence or map, as classical classifiers give their scores
        return TensorFact(value.name, kind.removesuffix("_type"))
    tensor = value.type.tensor_type
    shape: tuple[int | str, ...] = tuple(
        int(axis.dim_value) if axis.HasField("dim_value") else str(axis.dim_param) or -1 for axis in tensor.shape.dim
    )
    try:
        dtype = str(np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name)
    except (KeyError, TypeError):
        dtype = ""
    return TensorFact(value.name, dtype, shape)


@functools.cache
def newest_versions() -> tuple[int, int]:
    """The newest opset and IR version that the installed runtime loads."""
    return _newest(lambda v: _identity(v, _OLDEST_IR), _OLDEST_OPSET), _newest(
        lambda v: _identity(_OLDEST_OPSET, v), _OLDEST_IR
    )


def _newest(made: Callable[[int], bytes], oldest: int) -> int:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    for version in range(oldest, oldest + _TRIED):
        try:
            ort.InferenceSession(made(version), options, providers=["CPUExecutionProvider"])
        except REFUSALS:
            return version - 1
    return oldest + _TRIED - 1


def _identity(opset: int, ir: int) -> bytes:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "ab"]
    graph = helper.make_graph([helper.make_node("Identity", ["a"], ["b"])], "identity", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
    return bytes(model.SerializeToString())


def _opened(content: bytes, named: Mapping[str, str], policy: Policy) -> tuple[Any, frozenset[str]]:
    """A session that also gives the inner tensors that are named, and the names that the model does not have."""
    model = onnx.load_model_from_string(content)
    _refuse_external(model)
    given = {output.name for output in model.graph.output}
    made = {name for node in model.graph.node for name in node.output}
    wanted = set(named.values()) - given
    inner = sorted(wanted & made)
    if inner:
        inferred = {v.name: v for v in onnx.shape_inference.infer_shapes(model).graph.value_info}
        model.graph.output.extend(inferred.get(name, onnx.ValueInfoProto(name=name)) for name in inner)
        content = bytes(model.SerializeToString())
    with contextlib.redirect_stdout(sys.stderr):  # a refusal may be printed, and stdout may carry a document
        return _session(content, policy, 1, None), frozenset(wanted - made)


def _replayed(
    index: int, record: Mapping[str, Any], session: Any, named: Mapping[str, str], missing: frozenset[str]
) -> GoldenResult:
    """One golden record; a `reason` where it cannot be replayed."""
    tolerance = TOLERANCE
    try:
        given = record.get("tolerance")
        tolerance = TOLERANCE if given is None else float(given)
        expected = dict(record.get("outputs") or {})
        wanted = {part: expected[part] for part in _PARTS if expected.get(part) is not None}
        if not wanted and expected.get("label") is None:
            return GoldenResult(index, None, tolerance, reason="it names no output to compare with")
        lost = sorted(missing & {named[part] for part in (*wanted, "label") if part in named})
        if lost:
            return GoldenResult(index, None, tolerance, reason=f"the model has no tensor {', '.join(lost)}")
        names = [output.name for output in session.get_outputs()]
        answers = dict(zip(names, session.run(names, _feed(record.get("inputs"), session)), strict=True))
        errors = [_error(_answer(part, answers, named), value) for part, value in wanted.items()]
        label, told = _labels(expected, answers, named)
        return GoldenResult(index, max(errors, default=None), tolerance, label, told)
    except _TROUBLE as error:
        return GoldenResult(index, None, tolerance, reason=_brief(error))


def _feed(given: Any, session: Any) -> dict[str, NDArray[Any]]:
    """A batch of one for every input of the session."""
    values = dict(given or {})
    feed = {}
    for tensor in session.get_inputs():
        if tensor.name not in values:
            raise ValueError(f"it has no input {tensor.name!r}; it has {', '.join(sorted(map(str, values))) or 'none'}")
        text = tensor.type == "tensor(string)"
        array = np.asarray(values[tensor.name], dtype=object if text else _dtype(tensor.type))
        rank = len(tensor.shape)
        feed[tensor.name] = array[None] if array.ndim == rank - 1 else array
    return feed


def _dtype(declared: str) -> np.dtype[Any]:
    name = declared.removeprefix("tensor(").removesuffix(")")
    return np.dtype({"float": "float32", "double": "float64"}.get(name, name))


def _answer(part: str, answers: Mapping[str, Any], named: Mapping[str, str]) -> Any:
    """The output that answers `part`: the tensor named for it, for a value else the only one."""
    name = named.get(part) or (named.get("scores") if part == "value" else None)
    if name is None and len(answers) == 1:
        name = next(iter(answers))
    if name is None or name not in answers:
        raise ValueError(f"trained_model.bestbefore.outputs does not say which tensor the {part} are")
    answer = answers[name]
    return answer[0] if isinstance(answer, list) else np.asarray(answer, np.float64).reshape(-1)


def _error(answer: Any, expected: Any) -> float:
    """The largest difference, relative to the largest expected size: small scores are not held to more digits."""
    if isinstance(expected, Mapping):
        if isinstance(answer, Mapping):  # by class, as a sequence of maps gives them
            known = {str(key): value for key, value in answer.items()}
            answer = np.array([known[str(key)] for key in expected], np.float64)
        expected = list(expected.values())
    right = np.asarray(expected, np.float64).reshape(-1)
    left = np.asarray(list(answer.values()) if isinstance(answer, Mapping) else answer, np.float64)
    if left.shape != right.shape:
        raise ValueError(f"the model gives {left.size} numbers where the record has {right.size}")
    error = float(np.max(np.abs(left - right), initial=0.0) / max(float(np.max(np.abs(right), initial=0.0)), LEAST))
    return min(error, MOST) if math.isfinite(error) else MOST


def _labels(
    expected: Mapping[str, Any], answers: Mapping[str, Any], named: Mapping[str, str]
) -> tuple[str | None, str | None]:
    """The label that the model gives and the one that is expected; None twice where none is."""
    if expected.get("label") is None:
        return None, None
    told = str(expected["label"])
    if named.get("label") in answers:
        return str(np.asarray(answers[named["label"]]).reshape(-1)[0]), told
    scores = _answer("scores", answers, named)
    if isinstance(scores, Mapping):
        return str(max(scores, key=lambda key: scores[key])), told
    classes = expected.get("scores")
    names = [str(key) for key in classes] if isinstance(classes, Mapping) else [str(i) for i in range(len(scores))]
    return names[int(np.argmax(scores))], told
