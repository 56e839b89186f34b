"""Random features as the last nodes of the ONNX graph itself: what `models.random_features` computes in numpy.

Kept beside the benchmark that compares the two, which is why the pipeline uses numpy: see `benchmarks.embedding_drift`.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.random_features import NEAR, KernelReference, Projection
from models.reference import EmbeddingReference

FEATURES = "random_features"
LEAST_OPSET = 11  # Clip with its limits as inputs


def fused(content: bytes, embedding: str, known: EmbeddingReference, kernel: KernelReference) -> bytes:
    """The model with a further output `random_features` (n, features), float32.

    Raises ValueError where the graph cannot be extended: an opset before 11, no such tensor, or half precision.
    """
    model = onnx.load_model_from_string(content)
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if opset < LEAST_OPSET:
        raise ValueError(f"opset {opset} has no Clip with limits as inputs, {LEAST_OPSET} is the first that has")
    made = {name for node in model.graph.node for name in node.output}
    if embedding not in made:
        raise ValueError(f"the graph computes no tensor {embedding!r}")
    types = {v.name: v.type.tensor_type.elem_type for v in [*model.graph.output, *model.graph.value_info]}
    if types.get(embedding, TensorProto.FLOAT) != TensorProto.FLOAT:
        raise ValueError(f"tensor {embedding!r} is not float32: features would be rounded twice")
    sd = np.array(known.sd)
    scale = np.maximum(sd, 1e-3 * sd.max())
    projection = Projection(kernel.features, kernel.seed, kernel.dimension, kernel.bandwidth)
    constants = {
        "mean": np.array(known.mean), "scale": scale, "low": np.array(-NEAR), "high": np.array(NEAR),
        "weights": projection.weights, "phases": projection.phases, "norm": np.array(projection.scale),
    }  # fmt: skip
    model.graph.initializer.extend(
        numpy_helper.from_array(value.astype(np.float32), f"rff_{name}") for name, value in constants.items()
    )
    steps = [
        ("Flatten", [embedding]), ("Sub", ["flat", "rff_mean"]), ("Div", ["centred", "rff_scale"]),
        ("Clip", ["z", "rff_low", "rff_high"]), ("MatMul", ["near", "rff_weights"]), ("Add", ["turned", "rff_phases"]),
        ("Cos", ["phase"]), ("Mul", ["cosine", "rff_norm"]),
    ]  # fmt: skip
    results = ["flat", "centred", "z", "near", "turned", "phase", "cosine", FEATURES]
    for (operator, inputs), result in zip(steps, results, strict=True):
        named = [f"rff_{name}" if name in results else name for name in inputs]
        output = result if result == FEATURES else f"rff_{result}"
        model.graph.node.append(helper.make_node(operator, named, [output]))
    model.graph.output.append(helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, ["n", kernel.features]))
    return bytes(model.SerializeToString())
