"""Recomputes embeddings from sampled inputs with ONNX Runtime: what was hashed is what runs, on the provider asked for.

Batch sizes are padded to powers of two and every size runs once at load, because a GPU takes up to a second for the
first batch of each new shape and memory grows with the number of shapes seen. TF32 stays off: a drift monitor must not
create drift by precision.
"""

import contextlib
import ctypes
import hashlib
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as native

Policy = Literal["require", "prefer", "cpu"]
Floats = NDArray[np.float32]

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
# What ONNX Runtime raises; each of its own derives from Exception directly. What happens in C++ outside of its kernels,
# such as a CUDA call that finds no memory while a session is made, comes as one of the two built-in ones.
REFUSALS = (
    RuntimeError,
    MemoryError,
    native.Fail,
    native.InvalidArgument,
    native.InvalidGraph,
    native.InvalidProtobuf,
    native.NotImplemented,
    native.RuntimeException,
    native.EPFail,
    native.NoSuchFile,
)
# Name on the wire -> little-endian layout. Nothing with objects or strings in it can be named.
WIRE_TYPES: Mapping[str, np.dtype[Any]] = MappingProxyType(
    {
        name: np.dtype(name).newbyteorder("<")
        for name in ("uint8", "int8", "uint16", "int16", "int32", "int64", "float16", "float32", "float64")
    }
)
MODEL_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "tensor(float)": "float32",
        "tensor(float16)": "float16",
        "tensor(double)": "float64",
        "tensor(uint8)": "uint8",
        "tensor(int8)": "int8",
        "tensor(int32)": "int32",
        "tensor(int64)": "int64",
    }
)


class ModelLoadError(ValueError):
    """An ONNX file is corrupt, was swapped, lacks the named tensor, or cannot run where it was told to."""


class EmbedError(RuntimeError):
    """The model failed on a batch it was given, for example for lack of GPU memory; a smaller one may pass."""


class Signature(NamedTuple):
    """The one input of a model: `shape` is without the batch axis, `batch` its fixed batch size or None."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    batch: int | None


class Embedder:
    """A model that turns inputs into the embeddings it computes on the way to its scores.

    `input_shape` and `dtype` are those of one input, `dimension` is the length of one embedding, `provider` the
    execution provider that really runs, and `provenance` what to store beside every reference: embeddings of other
    precision or provider are not to be compared without a test. Use `load`.
    """

    def __init__(
        self, session: Any, signature: Signature, outputs: tuple[str, ...], max_batch: int, sha256: str
    ) -> None:
        self._session, self._signature, self._outputs = session, signature, outputs
        self.buckets = (signature.batch,) if signature.batch else _powers(max_batch)
        self.input_shape, self.dtype = signature.shape, signature.dtype
        self.provider: str = session.get_providers()[0]
        self.dimension = self.warm_up()
        self.provenance = {
            "provider": self.provider,
            "onnxruntime": str(ort.__version__),
            "dtype": self.dtype.name,
            "sha256": sha256,
            "embedding": outputs[0],
        }

    @classmethod
    def load(
        cls,
        content: bytes,
        *,
        sha256: str | None,
        embedding: str,
        scores: str | None = None,
        policy: Policy = "cpu",
        max_batch: int = 256,
        threads: int = 1,
        input_shape: Sequence[int] | None = None,
        gpu_mem_limit: int | None = None,
    ) -> Self:
        """Makes a session from the very bytes that were hashed, and runs every batch size once.

        `embedding` and `scores` name outputs or inner tensors. `sha256` may carry the prefix `sha256:`; None skips the
        comparison. `policy` `require` refuses to run without CUDA, `prefer` falls back to the CPU, `cpu` never tries.
        `input_shape` (without batch) fixes the axes that the model leaves open; `gpu_mem_limit` is in bytes.
        Raises ModelLoadError, which says what is wrong and what to do.
        """
        digest = _verified(content, sha256)
        wanted = (embedding, scores) if scores else (embedding,)
        if max_batch < 1:
            raise ModelLoadError(f"max_batch is {max_batch}: give the largest batch to run, 1 or more")
        graph = _exposed(content, wanted)
        try:
            session = _session(graph, policy, threads, gpu_mem_limit)
            return cls(session, _signature(session, input_shape), wanted, max_batch, digest)
        except UnicodeDecodeError as error:  # of a name in the file, or of what ONNX Runtime says about it
            raise ModelLoadError(f"the file has a name that is no text ({error}): export it again") from error

    def embed(self, batch: NDArray[Any]) -> Floats:
        """Inputs (n, *input_shape) to embeddings (n, dimension), whatever n.

        Raises ValueError for another shape or a type that does not convert, EmbedError when the model fails.
        """
        return self._run(batch, self._outputs[:1])[0]

    def outputs(self, batch: NDArray[Any]) -> tuple[Floats | None, Floats]:
        """Scores (n, classes), or None when none were named, and embeddings (n, dimension) of the same inputs."""
        embedding, *scores = self._run(batch, self._outputs)
        return (scores[0] if scores else None), embedding

    def warm_up(self) -> int:
        """Runs every batch size once and returns the length of an embedding; raises ModelLoadError if one fails."""
        dimension = 0
        for size in self.buckets:
            try:
                embedding, *_ = self._batch(np.zeros((size, *self.input_shape), self.dtype), self._outputs)
            except EmbedError as error:
                raise ModelLoadError(f"{error}; export the model with an open batch axis") from error
            dimension = embedding.shape[1]
        return dimension

    def _run(self, batch: NDArray[Any], names: tuple[str, ...]) -> list[Floats]:
        fitted, largest = self._fitted(batch), self.buckets[-1]
        if not len(fitted):
            return [rows[:0] for rows in self._batch(self._padded(np.zeros((1, *self.input_shape), self.dtype)), names)]
        parts = [fitted[start : start + largest] for start in range(0, len(fitted), largest)]
        results = [[rows[: len(part)] for rows in self._batch(self._padded(part), names)] for part in parts]
        return results[0] if len(results) == 1 else [np.concatenate(column) for column in zip(*results, strict=True)]

    def _fitted(self, batch: NDArray[Any]) -> NDArray[Any]:
        if batch.shape[1:] != self.input_shape:
            raise ValueError(
                f"inputs have shape {batch.shape[1:]}, the model takes {self.input_shape}: check the resize"
            )
        if not np.can_cast(batch.dtype, self.dtype, "same_kind"):
            raise ValueError(f"inputs are {batch.dtype}, the model takes {self.dtype}: send a type that converts to it")
        return np.ascontiguousarray(batch, dtype=self.dtype)

    def _padded(self, part: NDArray[Any]) -> NDArray[Any]:
        missing = next(size for size in self.buckets if size >= len(part)) - len(part)
        # The last row again rather than zeros: no input the model never sees, such as the norm of nothing.
        return np.concatenate([part, np.repeat(part[-1:], missing, 0)]) if missing else part

    def _batch(self, batch: NDArray[Any], names: tuple[str, ...]) -> list[Floats]:
        try:
            results = self._session.run(list(names), {self._signature.name: batch})
        except REFUSALS as error:
            raise EmbedError(
                f"the model fails on a batch of {len(batch)} on {self.provider}: {_brief(error)}"
            ) from error
        for name, rows in zip(names, results, strict=True):
            if not np.ndim(rows) or len(rows) != len(batch):
                raise ModelLoadError(
                    f"tensor {name!r} has shape {np.shape(rows)} for a batch of {len(batch)}: "
                    "name one that has a row per input"
                )
        return [np.asarray(rows, dtype=np.float32).reshape(len(batch), -1) for rows in results]


def decode_tensor(value: bytes, dtype: str, shape: Sequence[int], expected: Sequence[int]) -> NDArray[Any]:
    """One sampled input from its raw little-endian bytes, shaped as the model expects it (without batch axis).

    Leading axes of length one are optional on both sides. Raises ValueError, saying which of type, shape, size or
    values is wrong.
    """
    layout = WIRE_TYPES.get(dtype)
    if layout is None:
        raise ValueError(f"input dtype {dtype!r} is not supported: send one of {', '.join(WIRE_TYPES)}")
    if not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError(
            f"input shape {list(shape)!r} is no list of lengths: send the array's shape, such as [1, 28, 28]"
        )
    needed = math.prod(shape) * layout.itemsize
    if len(value) != needed:
        raise ValueError(
            f"input has {len(value)} bytes, but shape {list(shape)} of {dtype} takes {needed}: "
            "send the array's own bytes, C order, uncompressed"
        )
    if _trimmed(shape) != _trimmed(expected):
        raise ValueError(
            f"input has shape {list(shape)}, the model takes {list(expected)}: check resize and axis order"
        )
    tensor = np.frombuffer(value, layout).reshape(tuple(expected))
    if layout.kind == "f" and (bad := int(np.count_nonzero(~np.isfinite(tensor)))):
        raise ValueError(f"input has {bad} of {tensor.size} values that are not finite: check the preprocessing")
    return tensor


def missing_cuda() -> str | None:
    """Why CUDA cannot run in this process, or None when the driver finds a device.

    Asks the driver itself: a session that was refused CUDA goes on silently on the CPU.
    """
    if CUDA not in ort.get_available_providers():
        return "this ONNX Runtime was built without CUDA: install onnxruntime-gpu"
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return "no NVIDIA driver was found: run on a machine, or in a container, with a GPU"
    devices = ctypes.c_int()
    if (code := driver.cuInit(0)) or (code := driver.cuDeviceGetCount(ctypes.byref(devices))):
        return f"the NVIDIA driver reports error {code}: check nvidia-smi"
    return None if devices.value else "the NVIDIA driver sees no GPU: check CUDA_VISIBLE_DEVICES"


def _powers(largest: int) -> tuple[int, ...]:
    sizes = [1]
    while sizes[-1] < largest:
        sizes.append(min(2 * sizes[-1], largest))
    return tuple(sizes)


def _trimmed(shape: Sequence[int]) -> tuple[int, ...]:
    sides = tuple(shape)
    while sides and sides[0] == 1:
        sides = sides[1:]
    return sides


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _verified(content: bytes, sha256: str | None) -> str:
    found = hashlib.sha256(content).hexdigest()
    declared = found if sha256 is None else sha256.lower().removeprefix("sha256:")
    if found != declared:
        raise ModelLoadError(
            f"the model file hashes to sha256 {found}, but {declared} is declared: put the declared file back, "
            "or register the new one under a new model version"
        )
    return found


def _exposed(content: bytes, wanted: Sequence[str]) -> bytes:
    """The model with exactly the wanted tensors as outputs; unchanged when they already are."""
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise ModelLoadError(f"the model file is no ONNX model or is damaged ({error}): export it again") from error
    if not model.graph.node:
        raise ModelLoadError("the model file holds no ONNX graph: export it again")
    _refuse_external(model)
    declared = {output.name for output in model.graph.output}
    if declared == set(wanted):
        return content
    made = [name for node in model.graph.node for name in node.output if name]
    for name in wanted:
        if name not in made and name not in declared:
            listed = ", ".join([*sorted(declared), *(n for n in reversed(made) if n not in declared)][:20])
            raise ModelLoadError(f"the model has no tensor {name!r}: name one of {listed}")
    return bytes(_cut(model, wanted).SerializeToString())


def _refuse_external(model: onnx.ModelProto) -> None:
    outside = [t.name for t in _tensors(model) if t.data_location == onnx.TensorProto.EXTERNAL]
    if outside:
        raise ModelLoadError(
            f"{len(outside)} weights (first: {outside[0]!r}) are kept outside of the model file, where its digest does "
            "not cover them: save it again in one file (onnx.save with save_as_external_data=False)"
        )


def _tensors(message: Any) -> Iterator[onnx.TensorProto]:
    """Every tensor anywhere in a message: in subgraphs, functions, sparse weights and attributes too."""
    waiting = [message]
    while waiting:
        one = waiting.pop()
        if isinstance(one, onnx.TensorProto):
            yield one
            continue
        for field, value in one.ListFields():
            if field.message_type is not None:
                waiting.extend([value] if isinstance(value, Message) else value)


def _cut(model: onnx.ModelProto, wanted: Sequence[str]) -> onnx.ModelProto:
    """The part of the model that leads to the wanted tensors; the whole of it where cutting is not possible."""
    inferred = onnx.shape_inference.infer_shapes(model)
    graph = inferred.graph
    # The extractor does not see what a branch or loop body reads from around it.
    if not any(a.HasField("g") or a.graphs for node in graph.node for a in node.attribute):
        weights = {w.name for w in graph.initializer}
        inputs = [i.name for i in graph.input if i.name not in weights]
        with contextlib.suppress(ValueError):  # sparse or quantised weights, tensors of unknown type
            return onnx.utils.Extractor(inferred).extract_model(inputs, list(wanted))
    known = {v.name: v for v in graph.value_info}
    present = {output.name for output in graph.output}
    graph.output.extend(known.get(name, onnx.ValueInfoProto(name=name)) for name in wanted if name not in present)
    return inferred


def _session(graph: bytes, policy: Policy, threads: int, gpu_mem_limit: int | None) -> Any:
    reason = None if policy == "cpu" else missing_cuda()
    if policy == "require" and reason:
        raise ModelLoadError(f"CUDA is required, but {reason}; or set the policy to `prefer` or `cpu`")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # Spinning threads would take the core of the event loop beside them.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    providers: list[Any] = [CPU] if policy == "cpu" or reason else [(CUDA, _cuda_options(gpu_mem_limit)), CPU]
    if len(providers) > 1 and hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(sys.stderr):  # it prints, and stdout may carry a document
            ort.preload_dlls()
    try:
        session = ort.InferenceSession(graph, options, providers=providers)
    except REFUSALS as error:
        raise ModelLoadError(f"ONNX Runtime {ort.__version__} refuses the model: {_brief(error)}") from error
    if policy == "require" and session.get_providers()[0] != CUDA:
        raise ModelLoadError(
            "CUDA is required and a GPU is there, but ONNX Runtime could not load its CUDA libraries: install the "
            "extra `gpu` (cuBLAS, cuDNN) in the versions it was built for; its own message is in the log"
        )
    return session


def _cuda_options(gpu_mem_limit: int | None) -> dict[str, str]:
    options = {
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "use_tf32": "0",
    }
    return options if gpu_mem_limit is None else {**options, "gpu_mem_limit": str(gpu_mem_limit)}


def _signature(session: Any, declared: Sequence[int] | None) -> Signature:
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise ModelLoadError(
            f"the model takes {len(inputs)} inputs ({', '.join(i.name for i in inputs)}): export one with one"
        )
    only = inputs[0]
    if only.type not in MODEL_TYPES or not only.shape:
        raise ModelLoadError(f"input {only.name!r} is {only.type} of shape {only.shape}: export a batch of numbers")
    batch, *sides = only.shape
    shape = tuple(declared) if declared is not None else tuple(sides)
    fits = len(shape) == len(sides) and all(a == b for a, b in zip(shape, sides, strict=True) if isinstance(b, int))
    if not fits or not all(isinstance(side, int) and side > 0 for side in shape):
        raise ModelLoadError(
            f"input {only.name!r} has shape {only.shape} and {list(shape)} is to be used for one input: declare a "
            "shape without the batch axis that fixes every open axis"
        )
    return Signature(only.name, shape, np.dtype(MODEL_TYPES[only.type]), batch if isinstance(batch, int) else None)
