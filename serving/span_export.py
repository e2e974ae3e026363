"""Sends spans to a collector (OTLP over HTTP), in a thread of its own. Needs the extra [otel].

What `tracing.endpoint` does not say, OpenTelemetry's own variables do: OTEL_SERVICE_NAME,
OTEL_EXPORTER_OTLP_HEADERS, OTEL_TRACES_SAMPLER, OTEL_BSP_*.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Final

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

from kb.tracing import record_with

FLUSH_S: Final = 2.0
"""How long a stop waits for the last spans; a collector that is gone would hold it up for 10 s."""
_PATH: Final = "/v1/traces"
_SAID_BY_US: Final = (
    "opentelemetry.exporter.otlp",
    "opentelemetry.sdk._shared_internal",
    "urllib3.connectionpool",
)
"""Loggers that say with every batch that the collector is gone, or that spans are dropped for it."""

log = structlog.get_logger(__name__)


@contextmanager
def sending_spans(endpoint: str) -> Iterator[None]:
    """Spans of this process are sent until the end, and the last of them then."""
    for name in _SAID_BY_US:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    named = Resource.create({"service.name": "kb", "service.version": version("kb-server")})
    provider = TracerProvider(
        resource=named.merge(OTELResourceDetector().detect()), shutdown_on_exit=False
    )
    provider.add_span_processor(
        BatchSpanProcessor(_Exporter(endpoint.rstrip("/").removesuffix(_PATH) + _PATH))
    )
    record_with(provider.get_tracer("kb", version("kb-server")))
    try:
        yield
    finally:
        record_with(None)
        last = threading.Thread(target=provider.shutdown, name="last-spans", daemon=True)
        last.start()
        last.join(FLUSH_S)


class _Exporter(OTLPSpanExporter):
    """Says once that spans are lost, and once that they arrive again."""

    _is_failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        failed = result is not SpanExportResult.SUCCESS
        if failed and not self._is_failing:
            log.warning("spans_not_sent", reason="The collector at tracing.endpoint takes none.")
        elif self._is_failing and not failed:
            log.info("spans_sent_again")
        self._is_failing = failed
        return result
