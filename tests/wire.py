"""Protobuf on the wire, written by hand: what the adapters read must not be written by what they read it with."""

import struct


def varint(n: int) -> bytes:
    """A base-128 number; negative ones as 64 bits of two's complement."""
    n &= 2**64 - 1
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes([*out, n])


def field(number: int, value: bytes | str | float) -> bytes:
    """One field: bytes and text with their length, integers as varint, floats in eight bytes."""
    if isinstance(value, float):
        return varint(number << 3 | 1) + struct.pack("<d", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def packed(number: int, kind: str, *values: float) -> bytes:
    """A packed list: `f` float, `d` double, `v` varints."""
    data = b"".join(varint(int(v)) if kind == "v" else struct.pack(f"<{kind}", v) for v in values)
    return field(number, data)


def oip_tensor(name: str, datatype: str, shape: tuple[int, ...], contents: bytes | None = None) -> bytes:
    """An InferInputTensor or InferOutputTensor."""
    tensor = field(1, name) + field(2, datatype) + packed(3, "v", *shape)
    return tensor if contents is None else tensor + field(5, contents)


def oip_message(name: str, version: str, request: str, tensors: list[bytes], raw: list[bytes], raw_field: int) -> bytes:
    """A ModelInferRequest (raw contents in field 7) or ModelInferResponse (in field 6)."""
    head = field(1, name) + field(2, version) + field(3, request)
    return head + b"".join(field(5, one) for one in tensors) + b"".join(field(raw_field, one) for one in raw)


def tf_tensor(dtype: int, shape: tuple[int, ...], rest: bytes) -> bytes:
    """A TensorProto; `rest` is its tensor_content or list of values."""
    dims = b"".join(field(2, field(1, axis)) for axis in shape)
    return field(1, dtype) + field(2, dims) + rest


def tf_spec(name: str, version: int) -> bytes:
    """A ModelSpec."""
    return field(1, name) + field(2, field(1, version)) + field(3, "serving_default")


def tf_predict(
    spec: bytes, seconds: int, inputs: dict[str, bytes], outputs: dict[str, bytes], rate: float = 0.5
) -> bytes:
    """A PredictionLog of a predict call."""
    metadata = field(1, spec) + field(2, field(1, rate)) + field(4, seconds)
    request = field(1, spec) + b"".join(field(2, field(1, k) + field(2, v)) for k, v in inputs.items())
    response = b"".join(field(1, field(1, k) + field(2, v)) for k, v in outputs.items()) + field(2, spec)
    return field(1, metadata) + field(6, field(1, request) + field(2, response))


def tf_classify(spec: bytes, seconds: int, features: dict[str, float | str], scores: dict[str, float]) -> bytes:
    """A PredictionLog of a classify call with one example."""
    lists = {
        k: field(1, field(1, v)) if isinstance(v, str) else field(2, packed(1, "f", v)) for k, v in features.items()
    }
    example = field(1, b"".join(field(1, field(1, k) + field(2, v)) for k, v in lists.items()))
    classes = b"".join(field(1, field(1, k) + varint(2 << 3 | 5) + struct.pack("<f", v)) for k, v in scores.items())
    request = field(1, spec) + field(2, field(1, field(1, example)))
    response = field(1, field(1, classes)) + field(2, spec)
    return field(1, field(1, spec) + field(4, seconds)) + field(2, field(1, request) + field(2, response))


def tf_record(*logs: bytes) -> bytes:
    """A TFRecord file; its checksums are not looked at."""
    return b"".join(struct.pack("<Q", len(one)) + b"\0\0\0\0" + one + b"\0\0\0\0" for one in logs)
