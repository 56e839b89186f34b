"""TensorFlow Serving's PredictionLog and what it is made of, read from the wire without TensorFlow.

Source: tensorflow_serving/apis/*.proto, tensorflow/core/framework/tensor.proto and example.proto, their field numbers.
"""

from typing import Any

import numpy as np

from streams.adapters.contract import Row
from streams.adapters.messages import messages
from streams.adapters.tensors import Tensor, from_raw, readable
from streams.errors import Unadaptable

_SCHEMA = {
    "Int64Value": "int64 value = 1",
    "ModelSpec": "string name = 1; Int64Value version = 2; string signature_name = 3; string version_label = 4",
    "SamplingConfig": "double sampling_rate = 1",
    "LogMetadata": "ModelSpec model_spec = 1; SamplingConfig sampling_config = 2; int64 timestamp_secs = 4",
    "Dim": "int64 size = 1",
    "Shape": "repeated Dim dim = 2; bool unknown_rank = 3",
    "TensorProto": (
        "int32 dtype = 1; Shape tensor_shape = 2; bytes tensor_content = 4; repeated float float_val = 5; "
        "repeated double double_val = 6; repeated int32 int_val = 7; repeated bytes string_val = 8; "
        "repeated int64 int64_val = 10; repeated bool bool_val = 11; repeated int32 half_val = 13; "
        "repeated uint32 uint32_val = 16; repeated uint64 uint64_val = 17"
    ),
    "NamedTensor": "string key = 1; TensorProto value = 2",
    "PredictRequest": "ModelSpec model_spec = 1; repeated NamedTensor inputs = 2",
    "PredictResponse": "repeated NamedTensor outputs = 1; ModelSpec model_spec = 2",
    "BytesList": "repeated bytes value = 1",
    "FloatList": "repeated float value = 1",
    "Int64List": "repeated int64 value = 1",
    "Feature": "BytesList bytes_list = 1; FloatList float_list = 2; Int64List int64_list = 3",
    "NamedFeature": "string key = 1; Feature value = 2",
    "Features": "repeated NamedFeature feature = 1",
    "Example": "Features features = 1",
    "ExampleList": "repeated Example examples = 1; Example context = 2",
    "Input": "ExampleList example_list = 1; ExampleList example_list_with_context = 2",
    "Class": "string label = 1; float score = 2",
    "Classifications": "repeated Class classes = 1",
    "ClassificationResult": "repeated Classifications classifications = 1",
    "Regression": "float value = 1",
    "RegressionResult": "repeated Regression regressions = 1",
    "ExampleRequest": "ModelSpec model_spec = 1; Input input = 2",
    "ClassificationResponse": "ClassificationResult result = 1; ModelSpec model_spec = 2",
    "RegressionResponse": "RegressionResult result = 1; ModelSpec model_spec = 2",
    "ClassifyLog": "ExampleRequest request = 1; ClassificationResponse response = 2",
    "RegressLog": "ExampleRequest request = 1; RegressionResponse response = 2",
    "PredictLog": "PredictRequest request = 1; PredictResponse response = 2",
    "PredictionLog": (
        "LogMetadata log_metadata = 1; ClassifyLog classify_log = 2; RegressLog regress_log = 3; "
        "bytes multi_inference_log = 4; bytes session_run_log = 5; PredictLog predict_log = 6; "
        "bytes predict_streamed_log = 7"
    ),
}
MESSAGES = messages("bestbefore.tensorflow_serving", _SCHEMA)
# DataType: how the elements lie in tensor_content, and the list they stand in otherwise.
_TYPES = {
    1: ("FP32", "float_val"), 2: ("FP64", "double_val"), 3: ("INT32", "int_val"), 4: ("UINT8", "int_val"),
    5: ("INT16", "int_val"), 6: ("INT8", "int_val"), 7: ("", "string_val"), 9: ("INT64", "int64_val"),
    10: ("BOOL", "bool_val"), 14: ("BF16", "half_val"), 17: ("UINT16", "int_val"), 19: ("FP16", "half_val"),
    22: ("UINT32", "uint32_val"), 23: ("UINT64", "uint64_val"),
}  # fmt: skip


def tensor_of(name: str, proto: Any) -> Tensor:
    """A TensorProto. Raises Unadaptable."""
    datatype, field = _TYPES.get(proto.dtype, ("", ""))
    if not field:
        raise Unadaptable(f"tensor {name[:60]!r}: data type {proto.dtype} is not read")
    shape = [dim.size for dim in proto.tensor_shape.dim]
    if proto.tensor_content and datatype:
        return from_raw(name, datatype, shape, proto.tensor_content)
    values = [readable(one) for one in getattr(proto, field)]
    if field == "half_val":
        raw = np.asarray(values, "<i4").astype("<u2").tobytes()
        values = list(from_raw(name, datatype, [len(values)], raw).values)
    wanted = _elements(shape)
    if len(values) == 1 and 1 < wanted <= 2**20:
        values = values * wanted  # one element stands for all
    return Tensor(name, shape, values)


def _elements(shape: list[int]) -> int:
    product = 1
    for axis in shape:
        product *= max(axis, 0)
    return product


def examples_of(request: Any) -> list[Row]:
    """The rows of a request of examples, each with the context that all share."""
    given = request.input
    listed = given.example_list if given.HasField("example_list") else given.example_list_with_context
    context = _example(listed.context)
    return [{**context, **_example(one)} for one in listed.examples]


def _example(example: Any) -> Row:
    row: Row = {}
    for one in example.features.feature:
        lists = (one.value.bytes_list, one.value.float_list, one.value.int64_list)
        values = [readable(v) for v in next((found.value for found in lists if found.value), [])]
        row[one.key] = values[0] if len(values) == 1 else values or None
    return row
