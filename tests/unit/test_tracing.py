"""Spans: what is in them, who is within them, and what there is without the setting or the extra."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from kb import tracing
from kb.errors import ConfigError, ModelUnavailable
from kb.metrics import stage
from kb.settings import TracingSettings
from serving.cli.running import traced

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CARRIER = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}


@pytest.fixture
def recorded() -> Iterator[InMemorySpanExporter]:
    kept = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracing.record_with(provider.get_tracer("test"))
    yield kept
    tracing.record_with(None)


def names(recorded: InMemorySpanExporter) -> list[str]:
    return [span.name for span in recorded.get_finished_spans()]


def test_a_stage_is_a_span_only_within_another(recorded: InMemorySpanExporter) -> None:
    with stage("embed"):
        assert tracing.carrier() == {}
    with tracing.begun("request", CARRIER, {}), stage("index"):
        ids = tracing.ids()
        assert tracing.carrier() == {"traceparent": f"00-{TRACE}-{ids['span_id']}-01"}
        assert ids["trace_id"] == TRACE
    assert names(recorded) == ["index", "request"]
    assert tracing.ids() == {}


@pytest.mark.usefixtures("recorded")
def test_without_a_caller_s_trace_what_is_around_goes_on() -> None:
    with tracing.begun("job", {}, {}):
        around = tracing.ids()["trace_id"]
        with tracing.begun("run", {"traceparent": "nonsense", "scope": ["x"]}, {}):
            assert tracing.ids()["trace_id"] == around


def test_of_an_error_only_its_code_is_kept(recorded: InMemorySpanExporter) -> None:
    with pytest.raises(ModelUnavailable), tracing.begun("request", {}, {}), stage("embed"):
        raise ModelUnavailable("the secret question")
    for span in recorded.get_finished_spans():
        assert span.attributes == {"error.type": ModelUnavailable.code}
        assert not span.status.is_ok
        assert "secret" not in span.to_json()


def test_being_stopped_is_no_error(recorded: InMemorySpanExporter) -> None:
    with pytest.raises(asyncio.CancelledError), tracing.begun("request", {}, {}):
        raise asyncio.CancelledError
    (span,) = recorded.get_finished_spans()
    assert not span.attributes


async def next_of(items: AsyncGenerator[int, None]) -> int:
    """As a coroutine, which a task wants."""
    return await anext(items)


async def test_who_takes_items_is_not_within_their_span(recorded: InMemorySpanExporter) -> None:
    within: list[str] = []

    async def items() -> AsyncGenerator[int, None]:
        for number in range(3):
            within.append(tracing.ids()["span_id"])
            yield number

    with tracing.begun("request", {}, {}):
        outside = tracing.ids()
        async with aclosing(tracing.part_of_each(items(), "generate", {"kb.rung": "x"})) as parts:
            assert await anext(parts) == 0
            assert await asyncio.create_task(next_of(parts)) == 1
            assert tracing.ids() == outside
        assert names(recorded) == ["generate"], "left early, it has ended all the same"
    assert len(set(within)) == 1
    assert within[0] != outside["span_id"]
    assert recorded.get_finished_spans()[0].attributes == {"kb.rung": "x"}


@pytest.mark.slow
def test_importing_and_timing_need_no_opentelemetry() -> None:
    code = (
        "import sys\nfrom kb import logs, tracing\nfrom kb.metrics import stage\n"
        "with tracing.begun('request', {}, {}), stage('embed'): tracing.happened('x')\n"
        "assert tracing.ids() == tracing.carrier() == {}\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "serving.span_export", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigError, match=r"kb-server\[otel\]"):
        traced(TracingSettings.model_validate({"endpoint": "http://127.0.0.1:4318"}))


def test_an_endpoint_that_is_none_is_refused_without_being_repeated() -> None:
    with pytest.raises(ConfigError, match="is no address") as raised:
        traced(TracingSettings.model_validate({"endpoint": "user:secret@host"}))
    assert "secret" not in raised.value.message
