"""A collector of OpenTelemetry in loopback: takes OTLP over HTTP, and decodes it as the protocol's own library does."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Span(NamedTuple):
    """A span as it arrived; ids are hexadecimal."""

    name: str
    trace: str
    span: str
    parent: str
    links: list[str]  # traceparent without version and flags: trace-span
    attributes: dict[str, Any]
    service: str


class Receiver:
    """What arrived."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.endpoint = ""
        self.bodies = b""

    def take(self, body: bytes) -> None:
        """Decode one request."""
        self.bodies += body
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            about = {a.key: a.value.string_value for a in resource.resource.attributes}
            for scope in resource.scope_spans:
                for s in scope.spans:
                    values = {a.key: a.value.string_value or a.value.int_value for a in s.attributes}
                    links = [f"{link.trace_id.hex()}-{link.span_id.hex()}" for link in s.links]
                    ids = (s.trace_id.hex(), s.span_id.hex(), s.parent_span_id.hex())
                    self.spans.append(Span(s.name, *ids, links, values, about["service.name"]))


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on a free port."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            good = self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf"
            if good:
                receiver.take(body)
            self.send_response(200 if good else 404)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
