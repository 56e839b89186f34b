"""Spans of a worker's own work, for whoever runs a collector of OpenTelemetry: ingest -> assess -> publish.

One span for each window that leaves a partition, each batch of windows assessed, each batch of events sent; none for
single records. Links lead to example requests, whose traces came with the telemetry. Nothing waits for the collector:
what it does not take is dropped.
"""

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, Protocol

from streams.errors import SettingsError
from streams.settings import Settings
from streams.trace_context import PARENT

log = logging.getLogger(__name__)
Headers = list[tuple[str, bytes]]
PATH = "/v1/traces"
EXPORT_SECONDS = 2.0  # longest that the collector may take; also what the end of a worker may wait for it
WAITING = 2048  # spans that may wait for the collector
KINDS = {"ingest": "CONSUMER", "assess": "CONSUMER", "publish": "PRODUCER"}
Step = Literal["ingest", "assess", "publish"]


class Spans(Protocol):
    """Where a worker tells of its work."""

    def step(self, step: Step, topic: str, links: Iterable[str] = (), parents: Iterable[str] = (), **facts: Any) -> Any:
        """A span for the block below: `links` and `parents` are traceparents; inside, `headers` hand it on."""

    def headers(self) -> Headers:
        """The context of the span around this, for a record that is sent in it."""

    def close(self) -> None:
        """Hand over what waits."""


class Silent:
    """No spans: no collector is configured."""

    @contextmanager
    def step(self, *_: Any, **__: Any) -> Iterator[None]:
        """Nothing."""
        yield

    def headers(self) -> Headers:
        """None."""
        return []

    def close(self) -> None:
        """Nothing."""


class Exported:
    """Spans that go to a collector, from a thread of the SDK's."""

    def __init__(self, settings: Settings, version: str) -> None:
        """Raises SettingsError: the extra `tracing` is not installed."""
        try:
            from opentelemetry import trace  # noqa: PLC0415 -- an extra
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
            from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
            from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415
        except ImportError as error:
            raise SettingsError(
                f"otlp_endpoint: spans need the extra `tracing`, and {error.name} is not installed; install "
                "'bestbefore[tracing]', or leave otlp_endpoint empty"
            ) from None
        about = {"service.name": "bestbefore", "service.namespace": settings.group, "service.version": version}
        self._provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
        exporter = OTLPSpanExporter(_endpoint(settings.otlp_endpoint), timeout=EXPORT_SECONDS)
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, max_queue_size=WAITING, export_timeout_millis=EXPORT_SECONDS * 1000)
        )
        self._tracer = self._provider.get_tracer("bestbefore", version)
        self._trace, self._format = trace, TraceContextTextMapPropagator()

    @contextmanager
    def step(
        self, step: Step, topic: str, links: Iterable[str] = (), parents: Iterable[str] = (), **facts: Any
    ) -> Iterator[None]:
        """A span; of several parents the first is the parent, and the others are links, as of any batch."""
        before = [self._context(text) for text in dict.fromkeys(parents)]
        linked = [self._trace.Link(self._span(context)) for context in before[1:]]
        linked += [self._trace.Link(self._span(self._context(text))) for text in dict.fromkeys(links)]
        attributes = {
            "messaging.system": "kafka", "messaging.operation.type": "send" if step == "publish" else "process",
            "messaging.destination.name": topic,
            **{f"bestbefore.{name}": value for name, value in facts.items()},
        }  # fmt: skip
        kind = getattr(self._trace.SpanKind, KINDS[step])
        with self._tracer.start_as_current_span(
            f"{step} {topic}", before[0] if before else None, kind, attributes, linked,
            # What an error says may quote values; that there was one is in the log.
            record_exception=False, set_status_on_exception=False,
        ):  # fmt: skip
            yield

    def headers(self) -> Headers:
        """The traceparent of the span around this."""
        carrier: dict[str, str] = {}
        self._format.inject(carrier)
        return [(name, text.encode()) for name, text in carrier.items()]

    def close(self) -> None:
        """Hand over what waits, for EXPORT_SECONDS at most: a collector that hangs takes as long for each batch."""
        ending = threading.Thread(target=self._provider.shutdown, name="spans", daemon=True)
        ending.start()
        ending.join(EXPORT_SECONDS)

    def _context(self, traceparent: str) -> Any:
        return self._format.extract({PARENT: traceparent})

    def _span(self, context: Any) -> Any:
        return self._trace.get_current_span(context).get_span_context()


def spans_of(settings: Settings, version: str) -> Spans:
    """What the settings ask for. Raises SettingsError."""
    if not settings.otlp_endpoint:
        return Silent()
    made = Exported(settings, version)
    log.info("spans go to %s", _endpoint(settings.otlp_endpoint))
    return made


def _endpoint(given: str) -> str:
    return given if given.rstrip("/").endswith(PATH) else given.rstrip("/") + PATH
