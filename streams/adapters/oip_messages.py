"""ModelInferRequest and ModelInferResponse of the Open Inference Protocol, from protobuf.

Source: Open Inference Protocol v2, gRPC. Contents stand in the list of their type, or raw, in the order of the tensors.
"""

from collections.abc import Sequence
from typing import Any

from streams.adapters.contract import Row
from streams.adapters.messages import messages, parsed
from streams.adapters.payloads import Half
from streams.adapters.tensors import DATATYPES, Tensor, from_raw, readable, rows
from streams.errors import Unadaptable

_TENSOR = "string name = 1; string datatype = 2; repeated int64 shape = 3; Contents contents = 5"
_HEAD = "string model_name = 1; string model_version = 2; string id = 3; repeated Parameter parameters = 4"
_MESSAGES = messages(
    "bestbefore.oip",
    {
        "Choice": "bool bool_param = 1; int64 int64_param = 2; string string_param = 3; double double_param = 4",
        "Parameter": "string key = 1; Choice value = 2",
        "Contents": (
            "repeated bool bool_contents = 1; repeated int32 int_contents = 2; repeated int64 int64_contents = 3; "
            "repeated uint32 uint_contents = 4; repeated uint64 uint64_contents = 5; repeated float fp32_contents = 6; "
            "repeated double fp64_contents = 7; repeated bytes bytes_contents = 8"
        ),
        "Tensor": _TENSOR,
        "ModelInferRequest": f"{_HEAD}; repeated Tensor inputs = 5; repeated bytes raw_input_contents = 7",
        "ModelInferResponse": f"{_HEAD}; repeated Tensor outputs = 5; repeated bytes raw_output_contents = 6",
    },
)
_FIELDS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip


def message_of(value: bytes, side: Half) -> tuple[dict[str, Any], list[Row]]:
    """The message as a tree like that of the JSON form, and its rows. Raises Unadaptable."""
    what = "ModelInferRequest" if side == "request" else "ModelInferResponse"
    found = parsed(_MESSAGES[what], value, f"a {what}")
    tensors, raw = (
        (found.inputs, found.raw_input_contents) if side == "request" else (found.outputs, found.raw_output_contents)
    )
    if not tensors or any(one.datatype not in DATATYPES for one in tensors):
        raise Unadaptable(f"not a {what}: it has no tensors of a known datatype")
    tree = {
        "model_name": found.model_name,
        "model_version": found.model_version,
        "id": found.id,
        "parameters": {one.key: _chosen(one.value) for one in found.parameters},
    }
    return tree, rows(_tensors(tensors, raw))


def _chosen(value: Any) -> Any:
    listed = value.ListFields()
    return listed[0][1] if listed else None


def _tensors(tensors: Sequence[Any], raw: Sequence[bytes]) -> list[Tensor]:
    if raw and len(raw) != len(tensors):
        raise Unadaptable(f"{len(tensors)} tensors and {len(raw)} raw contents; there must be one for each")
    if raw:
        return [from_raw(one.name, one.datatype, one.shape, bytes_) for one, bytes_ in zip(tensors, raw, strict=True)]
    return [Tensor(one.name, one.shape, [readable(v) for v in _contents(one)]) for one in tensors]


def _contents(tensor: Any) -> list[Any]:
    field = _FIELDS.get(tensor.datatype)
    if field is None:
        raise Unadaptable(f"tensor {tensor.name[:60]!r}: {tensor.datatype} has raw contents only, and there are none")
    return list(getattr(tensor.contents, field))
