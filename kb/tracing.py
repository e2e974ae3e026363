"""Spans (OpenTelemetry) of requests, their stages and runs: nothing at all until `record_with` is called.

Names and attributes never hold questions, texts, keys or names of documents, nor do errors: of those
only the code is kept. Until there is a tracer, nothing of OpenTelemetry is imported.
"""

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from kb.errors import KBError

if TYPE_CHECKING:
    from opentelemetry.trace import Span, SpanContext, Tracer

Value = str | int
T = TypeVar("T")


class Recording:
    """A span while it lasts, or none."""

    def __init__(self, span: "Span | None" = None) -> None:
        self._span = span

    def rename(self, name: str) -> None:
        if self._span:
            self._span.update_name(name)

    def add(self, attribute: str, value: Value) -> None:
        if self._span:
            self._span.set_attribute(attribute, value)

    def fail(self, code: str) -> None:
        if self._span:
            from opentelemetry.trace import StatusCode

            self._span.set_attribute("error.type", code)
            self._span.set_status(StatusCode.ERROR)


_tracer: "Tracer | None" = None


def record_with(tracer: "Tracer | None") -> None:
    """From now on, in this process; None ends it."""
    global _tracer
    _tracer = tracer


@contextmanager
def begun(
    name: str,
    carrier: Mapping[str, Any],
    attributes: Mapping[str, Value],
    *,
    is_server: bool = False,
) -> Iterator[Recording]:
    """A span that goes on with the trace of the carrier's `traceparent`, or of what is around it, or begins one."""
    if _tracer is None:
        yield Recording()
        return
    from opentelemetry.context import get_current
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    span = _tracer.start_span(
        name,
        TraceContextTextMapPropagator().extract(carrier, get_current()),
        SpanKind.SERVER if is_server else SpanKind.INTERNAL,
        attributes,
    )
    with _around(span, ends=True) as recording:
        yield recording


@contextmanager
def part(name: str) -> Iterator[None]:
    """A span within the current one; without one there is none."""
    with _around(_started(name), ends=True):
        yield


async def part_of_each(
    items: AsyncGenerator[T, None], name: str, attributes: Mapping[str, Value]
) -> AsyncGenerator[T, None]:
    """The items, with a span as `part` around the making of each, but not around what is done with them."""
    span = _started(name, attributes)
    async with aclosing(items):
        try:
            while True:
                try:
                    with _around(span):
                        item = await anext(items)
                except StopAsyncIteration:
                    return
                yield item
        finally:
            if span is not None:
                span.end()


def happened(name: str) -> None:
    """Marks a moment of the current span."""
    if _tracer is not None:
        from opentelemetry.trace import get_current_span

        get_current_span().add_event(name)


def carrier() -> dict[str, str]:
    """The current span as headers (W3C Trace Context) for whoever goes on with its trace."""
    headers: dict[str, str] = {}
    if _tracer is not None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        TraceContextTextMapPropagator().inject(headers)
    return headers


def ids() -> dict[str, str]:
    """Of the current span, as the log has them."""
    current = _current()
    if current is None:
        return {}
    return {"trace_id": f"{current.trace_id:032x}", "span_id": f"{current.span_id:016x}"}


def _current() -> "SpanContext | None":
    if _tracer is None:
        return None
    from opentelemetry.trace import get_current_span

    context = get_current_span().get_span_context()
    return context if context.is_valid else None


def _started(name: str, attributes: Mapping[str, Value] | None = None) -> "Span | None":
    if _tracer is None or _current() is None:
        return None
    return _tracer.start_span(name, attributes=attributes)


@contextmanager
def _around(span: "Span | None", *, ends: bool = False) -> Iterator[Recording]:
    """The span is the current one, and knows of an error by its code: messages quote texts and names."""
    recording = Recording(span)
    if span is None:
        yield recording
        return
    from opentelemetry.trace import use_span

    with use_span(span, ends, record_exception=False, set_status_on_exception=False):
        try:
            yield recording
        except StopAsyncIteration:
            raise
        except Exception as error:
            recording.fail(error.code if isinstance(error, KBError) else type(error).__name__)
            raise
