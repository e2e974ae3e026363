"""A collector of spans, as OpenTelemetry's own: OTLP over HTTP, kept in memory."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

PATIENCE_S = 60


class Collector:
    """Listens until it is closed; the spans of a trace are found by the trace's id in hex digits."""

    def __init__(self, port: int = 0) -> None:
        self.payloads: list[bytes] = []
        self.services: set[str] = set()
        self._spans: dict[str, list[Span]] = defaultdict(list)
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def trace(self, trace_id: str, is_whole: Callable[[dict[str, Span]], bool]) -> dict[str, Span]:
        """The spans of a trace by their names, once it is whole."""
        deadline = time.monotonic() + PATIENCE_S
        while not is_whole(found := {span.name: span for span in list(self._spans[trace_id])}):
            assert time.monotonic() < deadline, f"only {sorted(found)}"
            time.sleep(0.05)
        return found

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            # HTTP/1.0: no connection outlives a closed collector.

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/v1/traces":
                    collector._keep(body)
                self.send_response(200 if self.path == "/v1/traces" else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                return

        return Handler

    def _keep(self, body: bytes) -> None:
        self.payloads.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            attributes = {
                each.key: each.value.string_value for each in resource.resource.attributes
            }
            self.services.add(attributes["service.name"])
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self._spans[span.trace_id.hex()].append(span)


def attributes_of(span: Span) -> dict[str, str | int]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


def parents(spans: dict[str, Span]) -> dict[str, str]:
    """The name of each span's parent, or the parent's id where it is not among them."""
    names = {span.span_id: span.name for span in spans.values()}
    return {
        span.name: names.get(span.parent_span_id, span.parent_span_id.hex())
        for span in spans.values()
    }
