"""TensorFlow Serving's request log: a PredictionLog in each record, or a TFRecord file of many.

Read are `predict_log`, `classify_log` and `regress_log`. A log has no id of the request, and its time is in whole
seconds, of when it was written. The sampling rate it names is used.
"""

import struct
from typing import Any

from streams.adapters.contract import MOST_PARTS, Adapter, Part, Record, Row, refused
from streams.adapters.messages import parsed
from streams.adapters.tensorflow_messages import MESSAGES, examples_of, tensor_of
from streams.adapters.tensors import rows
from streams.errors import Unadaptable

_EXPECTED = "a PredictionLog of TensorFlow Serving"
_NOT_READ = ("multi_inference_log", "session_run_log", "predict_streamed_log")


def read(record: Record, _: Any = None) -> list[Part]:
    """One part for each log. Raises Unadaptable."""
    if not record.value:
        raise Unadaptable(f"the record is empty; expected {_EXPECTED}")
    framed = _tf_record(record.value)
    if framed is None:
        return [_part(record.value, "")]
    if len(framed) > MOST_PARTS:
        raise Unadaptable(f"{len(framed)} logs in one record; at most {MOST_PARTS} are read")
    return [_part(one, f"log {i}") for i, one in enumerate(framed)]


def _tf_record(value: bytes) -> list[bytes] | None:
    """The records of a TFRecord file (length, checksum, bytes, checksum); None for anything else."""
    found, at = [], 0
    while at < len(value):
        if at + 16 > len(value):
            return None
        (length,) = struct.unpack_from("<Q", value, at)
        if length > len(value) - at - 16:
            return None
        found.append(value[at + 12 : at + 12 + length])
        at += length + 16
    return found


def _part(value: bytes, source: str) -> Part:
    log = parsed(MESSAGES["PredictionLog"], value, _EXPECTED)
    kind = next((name for name in ("predict_log", "classify_log", "regress_log") if log.HasField(name)), "")
    if not kind:
        other = next((name for name in _NOT_READ if getattr(log, name)), "")
        raise refused(
            f"a log of kind {other}" if other else "bytes without any log", f"{_EXPECTED} (predict, classify, regress)"
        )
    found, spec = getattr(log, kind), log.log_metadata.model_spec
    asked, served = found.request.model_spec, found.response.model_spec
    name = spec.name or served.name or asked.name
    if not name:
        raise Unadaptable(f"the log names no model; expected {_EXPECTED}")
    rate = log.log_metadata.sampling_config.sampling_rate
    seconds = log.log_metadata.timestamp_secs
    return Part(
        side="both", source=source, time=seconds * 1_000_000 if seconds > 0 else None, model=name,
        version=_version(spec) or _version(served) or _version(asked),
        request=_requests(found, kind) or None, response=_responses(found, kind) or None,
        trees={"envelope": {"kind": kind, "signature_name": spec.signature_name or asked.signature_name}},
        sampling=rate if rate > 0 else 1.0,
    )  # fmt: skip


def _version(spec: Any) -> str:
    return str(spec.version.value) if spec.HasField("version") else spec.version_label


def _requests(log: Any, kind: str) -> list[Row]:
    if kind != "predict_log":
        return examples_of(log.request)
    return _tensors(log.request.inputs)


def _responses(log: Any, kind: str) -> list[Row]:
    if kind == "predict_log":
        return _tensors(log.response.outputs)
    if kind == "regress_log":
        return [{"value": one.value} for one in log.response.result.regressions]
    return [_scores(one.classes) for one in log.response.result.classifications]


def _scores(classes: Any) -> Row:
    named = all(one.label for one in classes)
    return {"scores": {one.label: one.score for one in classes} if named else [one.score for one in classes]}


def _tensors(named: Any) -> list[Row]:
    return rows([tensor_of(one.key, one.value) for one in named]) if named else []


ADAPTER = Adapter("tensorflow-serving", "TensorFlow Serving PredictionLog (protobuf, TFRecord)", read)
