"""ONNX model files: what the graph takes and gives, its operator set, its digest. Exact, and nobody has to write it.

Source: ONNX intermediate representation (onnx.proto). Weights are not looked at, and nothing in the file is run.
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from models.importers.item_types import OTHER, ItemType, item, of_dtype, tensor
from models.importers.part import Tree, Trees, stamped

_PRODUCERS = {
    "pytorch": "PyTorch", "tf2onnx": "TensorFlow", "keras2onnx": "Keras", "skl2onnx": "scikit-learn",
    "onnxmltools": "onnxmltools", "paddlepaddle": "PaddlePaddle",
}  # fmt: skip
_NAMES = {"model_name": "model_name", "model_version": "model_version", "description": "model_description"}
_ORDERS = {"Rgb8": "RGB", "Bgr8": "BGR", "Rgba8": "RGBA", "Bgra8": "BGRA", "Gray8": "gray", "Gray16": "gray"}
_PIXELS = "Image.BitmapPixelFormat"
_MAX_PROPERTY = 2_000  # characters; some exporters store whole configurations in a property


def trees_of(content: bytes, notes: list[str]) -> Trees:
    """trained_model and data_pipeline of one ONNX file. Raises ValueError where it is no ONNX model.

    `digest` is the SHA-256 of the file as it is; weights that are stored beside it are outside of it, which is noted.
    """
    model = _model(content)
    graph = model.graph
    weights = {one.name for one in graph.initializer} | {one.values.name for one in graph.sparse_initializer}
    taken = [(one, _type(one)) for one in graph.input if one.name not in weights]
    given = [(one, _type(one)) for one in graph.output]
    for value, found in taken + given:
        if found is OTHER:
            notes.append(
                f"{value.name}: a {value.type.WhichOneof('value') or 'value of no type'}, no tensor: its type is left "
                "out; from scikit-learn, export with options={'zipmap': False} to have one"
            )
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    if any(one.data_location == onnx.TensorProto.EXTERNAL for one in graph.initializer):
        notes.append("weights are stored in another file, which the digest does not cover")
    properties = _properties(model, notes)
    names = {target: properties[key] for key, target in _NAMES.items() if properties.get(key)}
    order = _ORDERS.get(properties.get(_PIXELS, ""))
    producer = model.producer_name.strip()
    return stamped(
        {
            "trained_model": {
                "model_description": model.doc_string[:_MAX_PROPERTY].strip(),
                **names,
                "ml_frameworks": ["ONNX", *filter(None, [_PRODUCERS.get(producer.lower())])],
                "output_spec": [_item(value, found) for value, found in given],
                "bestbefore": {
                    "digest": digest,
                    "signature": {"inputs": _tensors(taken), "outputs": _tensors(given), "digest": digest},
                    "opset": _opset(model),
                    "ir_version": model.ir_version,
                    "producer": f"{producer} {model.producer_version}".strip(),
                },
            },
            "data_pipeline": {
                "input_spec": [_item(value, found) for value, found in taken],
                "bestbefore": {"preprocessing": {"channel_order": order}},
            },
        },
        "onnx",
    )


def _model(content: bytes) -> onnx.ModelProto:
    try:
        model: onnx.ModelProto = onnx.ModelProto.FromString(content)
    except (DecodeError, ValueError, RecursionError):
        raise ValueError(
            "ONNX: the bytes are no ONNX model; export it again, or check that it was copied whole"
        ) from None
    # Protocol buffers read nearly anything, so what every ONNX model has must be there.
    for there, what in (
        (0 < model.ir_version < 1 << 31, "ir_version"),
        (bool(model.opset_import), "opset_import"),
        (bool(model.graph.output), "graph.output"),
        (all(0 < one.version < 1 << 31 for one in model.opset_import), "opset_import.version"),
        (all(one.name for one in (*model.graph.input, *model.graph.output)), "name of an input or output"),
    ):
        if not there:
            raise ValueError(f"ONNX: {what} is missing or of no use, so this is no ONNX model; export it again")
    # What is no UTF-8 comes out of protocol buffers as bytes, without an error.
    wrong = next((text for text in _texts(model) if not isinstance(text, str)), None)
    if wrong is not None:
        raise ValueError(f"ONNX: {wrong[:40]!r} is no UTF-8 text, so the file is damaged; export it again")
    return model


def _texts(model: onnx.ModelProto) -> Iterator[Any]:
    """Every text that is read here."""
    yield from (model.producer_name, model.producer_version, model.doc_string)
    for one in model.opset_import:
        yield one.domain
    for entry in model.metadata_props:
        yield from (entry.key, entry.value)
    for value in (*model.graph.input, *model.graph.output):
        yield from (value.name, value.doc_string, value.type.denotation)
        yield from (axis.dim_param for axis in value.type.tensor_type.shape.dim)


def _type(value: onnx.ValueInfoProto) -> ItemType:
    if value.type.WhichOneof("value") != "tensor_type":
        return OTHER
    code = value.type.tensor_type.elem_type
    if code not in onnx.TensorProto.DataType.values() or code == onnx.TensorProto.UNDEFINED:
        return OTHER
    return of_dtype(onnx.TensorProto.DataType.Name(code))


def _shape(value: onnx.ValueInfoProto) -> list[int | str] | None:
    """The axes; an open one is a name, or -1 where it has none. None where not even their number is known."""
    kind = value.type.tensor_type
    if value.type.WhichOneof("value") != "tensor_type" or not kind.HasField("shape"):
        return None
    return [
        axis.dim_value if axis.HasField("dim_value") and axis.dim_value >= 0 else axis.dim_param or -1
        for axis in kind.shape.dim
    ]


def _tensors(values: Iterable[tuple[onnx.ValueInfoProto, ItemType]]) -> list[Tree]:
    return [tensor(value.name, found.dtype, _shape(value)) for value, found in values]


def _item(value: onnx.ValueInfoProto, found: ItemType) -> Tree:
    """An item; only a declared image (type denotation IMAGE, axes N, C, H, W) is one."""
    if value.type.denotation != "IMAGE":
        return item(value.name, found.item_type, value.doc_string[:_MAX_PROPERTY])
    axes = _shape(value) or []
    sizes = dict(zip(("channels", "resolution_y", "resolution_x"), axes[1:], strict=True)) if len(axes) == 4 else {}
    known = {key: size for key, size in sizes.items() if isinstance(size, int) and size > 0}
    return {**item(value.name, "Image", value.doc_string[:_MAX_PROPERTY]), "item_specification": known}


def _opset(model: onnx.ModelProto) -> int | dict[str, int]:
    found = {one.domain or "ai.onnx": one.version for one in model.opset_import}
    return found["ai.onnx"] if set(found) == {"ai.onnx"} else found


def _properties(model: onnx.ModelProto, notes: list[str]) -> dict[str, Any]:
    found = {one.key: one.value.strip() for one in model.metadata_props if len(one.value) <= _MAX_PROPERTY}
    left = sorted(key for key in found if key not in _NAMES and key != _PIXELS)
    left += sorted(one.key for one in model.metadata_props if one.key not in found)
    if left:
        notes.append(f"metadata_props {', '.join(left)[:200]}: not known here, left out")
    return found
