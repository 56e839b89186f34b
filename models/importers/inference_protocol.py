"""Model metadata of the Open Inference Protocol, version 2: what a model server says it serves.

Source: Open Inference Protocol, `GET v2/models/{name}` (KServe, Triton, MLServer, Seldon). -1 is an axis of any size.
"""

from models.importers.document import Node
from models.importers.item_types import item, of_dtype, tensor
from models.importers.part import Tree, Trees, stamped

_FORMAT = "Open Inference Protocol metadata"
_PLATFORMS = (("onnx", "ONNX"), ("tensorflow", "TensorFlow"), ("pytorch", "PyTorch"), ("tensorrt", "TensorRT"),
              ("sklearn", "scikit-learn"), ("xgboost", "XGBoost"), ("lightgbm", "LightGBM"))  # fmt: skip
_DATATYPES = frozenset(
    "BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 FP32 FP64 BF16 BYTES".split()  # noqa: SIM905
)


def trees_of(content: bytes, notes: list[str]) -> Trees:
    """trained_model and data_pipeline of one metadata answer (JSON). Raises ValueError with the place."""
    root = Node.of(_FORMAT, content, as_json=True)
    versions = root["versions"].texts()
    if len(versions) > 1:
        notes.append(f"versions: {len(versions)} are served, so model_version is left out; ask for one of them")
    platform = root["platform"].text().lower()
    frameworks = [name for word, name in _PLATFORMS if word in platform]
    if platform and not frameworks:
        notes.append(f"platform {platform[:60]!r}: not known here, ml_frameworks is left out")
    inputs, outputs = (_tensors(root[key], notes) for key in ("inputs", "outputs"))
    return stamped(
        {
            "trained_model": {
                "model_name": root["name"].name(),
                "model_version": versions[0] if len(versions) == 1 else "",
                "ml_frameworks": frameworks,
                "output_spec": [item(one["name"], of_dtype(one.get("dtype", "")).item_type) for one in outputs],
                "bestbefore": {"signature": {"inputs": inputs, "outputs": outputs}},
            },
            "data_pipeline": {
                "input_spec": [item(one["name"], of_dtype(one.get("dtype", "")).item_type) for one in inputs]
            },
        },
        "Open Inference Protocol",
    )


def _tensors(node: Node, notes: list[str]) -> list[Tree]:
    if not node.elements():
        notes.append(f"{node.path}: the server names none")
    found = []
    for one in node.objects():
        datatype = one["datatype"].name()
        if datatype.upper() not in _DATATYPES:
            raise one["datatype"].wrong("one of BOOL, UINT8 to UINT64, INT8 to INT64, FP16 to FP64, BF16, BYTES")
        found.append(tensor(one["name"].name(), of_dtype(datatype).dtype, one["shape"].shape()))
    return found
