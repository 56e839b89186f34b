"""The OpenTelemetry SDK with its own OTLP exporter, which packs with gzip: `otel_logs.py URL`."""

import sys
import time
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

provider = LoggerProvider(resource=Resource.create({"service.name": "chat"}))
exporter = OTLPLogExporter(endpoint=sys.argv[1], compression=Compression.Gzip)
provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
logger = provider.get_logger("chat")
span = SpanContext(0x5B8EFFF798038103D269B633813FC60C, 0xEEE19B7EC3C1B174, False, TraceFlags(1))
context = set_span_in_context(NonRecordingSpan(span))
now = time.time_ns()


def emit(name: str, body: Any = None, **attributes: Any) -> None:
    """One log record; `__` in a name stands for a dot."""
    given = {key.replace("__", "."): value for key, value in attributes.items()}
    logger.emit(
        LogRecord(
            timestamp=now, context=context, severity_number=SeverityNumber.INFO, body=body, attributes=given,
            event_name=name,
        )
    )  # fmt: skip


emit(
    "gen_ai.client.inference.operation.details",
    gen_ai__operation__name="chat", gen_ai__provider__name="openai", gen_ai__request__model="gpt-5",
    gen_ai__response__model="gpt-5-2026-08-07", gen_ai__response__id="chatcmpl-123", gen_ai__request__temperature=0.5,
    gen_ai__usage__input_tokens=100, gen_ai__usage__output_tokens=180, gen_ai__response__finish_reasons=["stop"],
    gen_ai__input__messages="[secret]", bestbefore__latency_ms=830.5, bestbefore__features__tenant="a",
)  # fmt: skip
emit(
    "gen_ai.evaluation.result",
    gen_ai__response__id="chatcmpl-123", gen_ai__evaluation__name="relevance", gen_ai__evaluation__score__label="pass",
)  # fmt: skip
emit(
    "bestbefore.inference",
    {"model": "loan", "version": "3", "features": {"age": 41}, "output": {"scores": {"yes": 0.75, "no": 0.25}}},
    bestbefore__segment__site="rome",
)
emit("bestbefore.inference", {"id": "broken"})
emit("app.started", "an ordinary line of a log")
provider.shutdown()
