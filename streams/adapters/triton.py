"""Triton's trace files (`--trace-config triton,file=…`): a JSON array of models, time stamps and tensors, tied by `id`.

Trace level TIMESTAMPS tells latencies, TENSORS inputs and outputs. Tensors are text, cut into elements at commas.
Time stamps count from the start of the machine, so the record's own time stands for the moment; where they count from
1970 they are used. The rate of tracing is not in the file: say `sampling: {fixed: 0.001}` for one in a thousand.
"""

from typing import Annotated, Any

import msgspec

from streams.adapters.contract import MOST_PARTS, Adapter, Part, Record, Row, json_of, refused
from streams.adapters.tensors import DATATYPES, Tensor, rows
from streams.errors import Unadaptable

_EXPECTED = "a trace file of Triton (a JSON array)"
_INPUT, _OUTPUT = "TENSOR_QUEUE_INPUT", "TENSOR_BACKEND_OUTPUT"
_EPOCH_NS = 10**18  # uptimes are shorter, times since 1970 longer


class _Stamp(msgspec.Struct):
    name: str
    ns: Annotated[int, msgspec.Meta(ge=0, le=2**62)]


class _Tensor(msgspec.Struct):
    name: str
    data: str
    dtype: str
    shape: str = ""


class _Entry(msgspec.Struct):
    id: int
    model_name: str = ""
    model_version: int | str = ""
    request_id: str = ""
    parent_id: int | None = None
    timestamps: list[_Stamp] = []
    activity: str = ""
    tensor: _Tensor | None = None


def read(record: Record, _: Any = None) -> list[Part]:
    """One part for each trace that names its model. Raises Unadaptable."""
    value = record.value or b""
    if value.lstrip()[:1] != b"[":
        raise refused("a record that is no JSON array", _EXPECTED)
    entries: list[_Entry] = json_of(value, _EXPECTED, list[_Entry])
    traces: dict[int, list[_Entry]] = {}
    for entry in entries:
        traces.setdefault(entry.id, []).append(entry)
    if not traces or len(traces) > MOST_PARTS:
        raise Unadaptable(f"{len(traces)} traces in one record; expected 1 to {MOST_PARTS}")
    return [_part(key, trace) for key, trace in traces.items()]


def _part(key: int, trace: list[_Entry]) -> Part:
    model = next((entry for entry in trace if entry.model_name), None)
    if model is None:
        raise Unadaptable(f"trace {key} names no model; was the file cut, or is it {_EXPECTED}?")
    stamps = {stamp.name.upper().replace(" ", "_"): stamp.ns for entry in trace for stamp in entry.timestamps}
    start, end = stamps.get("REQUEST_START"), stamps.get("REQUEST_END")
    return Part(
        side="both", id=model.request_id, source=f"trace {key}",
        time=end // 1000 if end is not None and end > _EPOCH_NS else None,
        model=model.model_name, version=str(model.model_version),
        request=_rows(trace, _INPUT), response=_rows(trace, _OUTPUT),
        trees={"envelope": {"parent_id": model.parent_id, "trace_id": key}},
        latency_ms=(end - start) / 1e6 if start is not None and end is not None and end >= start else None,
    )  # fmt: skip


def _rows(trace: list[_Entry], activity: str) -> list[Row] | None:
    found = [_tensor(entry.tensor) for entry in trace if entry.activity == activity and entry.tensor is not None]
    return rows(found) if found else None


def _tensor(tensor: _Tensor) -> Tensor:
    if tensor.dtype not in DATATYPES:
        raise Unadaptable(f"tensor {tensor.name[:60]!r}: its dtype is none of Triton's")
    texts = tensor.data.split(",") if tensor.data else []
    try:
        shape = [int(axis) for axis in tensor.shape.split(",")] if tensor.shape else [len(texts)]
        values: list[Any] = texts if tensor.dtype == "BYTES" else [float(text) for text in texts]
    except ValueError:
        raise Unadaptable(f"tensor {tensor.name[:60]!r}: data or shape holds what is no number") from None
    return Tensor(tensor.name, shape, values)


ADAPTER = Adapter("triton", "Triton trace files", read)
