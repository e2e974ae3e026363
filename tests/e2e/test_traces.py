"""Spans of a running server, as a collector gets them; and what a collector that is gone does to it: nothing."""

import json
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.collector import Collector, attributes_of, parents
from tests.e2e.kb_process import RunKB, Server, printed_json, start_server, stop_server
from tests.misbehaving import misbehaving_server

pytestmark = pytest.mark.slow

QUESTION = "Which port does Brindle listen on?"
DOCUMENT = "# Brindle\n\nBrindle listens on port 5520."
PATIENCE_S = 60
PARENT = "00f067aa0ba902b7"
"""The caller's own span."""


@contextmanager
def serving(
    collector: str, data_dir: Path, folder: Path, **settings: str
) -> Iterator[tuple[Server, Path]]:
    """A server that sends its spans there, and its log. It is stopped at the end, as it must be able to."""
    log = folder / "log.jsonl"
    often = {"KB_TRACING__ENDPOINT": collector, "OTEL_BSP_SCHEDULE_DELAY": "50"}
    server = start_server(["serve"], data_dir, folder, log, **often, **settings)
    try:
        yield server, log
    finally:
        status = stop_server(server)
    assert status == 0


def logged(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text("utf-8").splitlines()]


class Caller:
    """Asks within a trace of its own each time."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def ask(self, path: str, **content: Any) -> tuple[str, httpx.Response]:
        """The id of the trace, and the answer, read to its end."""
        trace_id = secrets.token_hex(16)
        headers = {"traceparent": f"00-{trace_id}-{PARENT}-01"}
        response = self._http.post(path, headers=headers, **content)
        assert response.is_success, response.text
        return trace_id, response

    def search(self) -> tuple[str, list[dict[str, Any]]]:
        trace_id, response = self.ask("/v1/search", json={"query": QUESTION})
        return trace_id, response.json()["data"]

    def upload(self) -> tuple[str, dict[str, Any]]:
        """Waits until it is indexed."""
        trace_id, response = self.ask(
            "/v1/documents", files={"file": ("brindle-facts.md", DOCUMENT.encode())}
        )
        document = response.json()
        deadline = time.monotonic() + PATIENCE_S
        while (
            self._http.get(f"/v1/documents/{document['id']}/status").json()["status"] == "pending"
        ):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        return trace_id, document


@pytest.fixture
def collector() -> Iterator[Collector]:
    opened = Collector()
    yield opened
    opened.close()


def test_a_request_its_stages_and_its_run_are_one_trace_of_the_caller(
    collector: Collector, data_dir: Path, tmp_path: Path, run_kb: RunKB
) -> None:
    key = printed_json(
        run_kb("keys", "create", "tracer", "--scope", "query", "--scope", "ingest", "--json")
    )["key"]
    with (
        misbehaving_server() as model,
        serving(collector.url, data_dir, tmp_path, KB_GENERATION__URL=f"{model.url}/v1") as (
            server,
            log,
        ),
    ):
        with httpx.Client(
            base_url=server.url, headers={"Authorization": f"Bearer {key}"}, timeout=60
        ) as http:
            caller = Caller(http)
            uploading, document = caller.upload()
            searching, hits = caller.search()
            chatting, chat = caller.ask(
                "/v1/chat/completions",
                json={
                    "model": "kb",
                    "messages": [{"role": "user", "content": QUESTION}],
                    "stream": True,
                },
            )
            http.get(f"/{QUESTION}", headers={"traceparent": f"00-{'5' * 32}-{PARENT}-01"})
            http.get("/healthz")
            run = http.get(f"/v1/runs/{document['run_id']}").json()
        asked_of_the_model = model.state()["traceparent"]
    assert run["status"] == "done", run
    assert [hit["document_id"] for hit in hits] == [document["id"]]
    assert "port" in chat.text

    route = "POST /v1/search"
    spans = collector.trace(searching, lambda found: route in found)
    assert parents(spans) == {route: PARENT, "embed": route, "index": route, "rank": route}
    described = attributes_of(spans[route])
    assert described["http.request.method"] == "POST"
    assert described["http.route"] == "/v1/search"
    assert described["http.response.status_code"] == 200

    route = "POST /v1/chat/completions"
    spans = collector.trace(chatting, lambda found: route in found)
    assert parents(spans) == {
        route: PARENT,
        "retrieve": route,
        "embed": "retrieve",
        "index": "retrieve",
        "rank": "retrieve",
        "generate": route,
    }
    assert [event.name for event in spans[route].events] == ["first_text"]
    assert attributes_of(spans["generate"])["kb.rung"] == "generator"
    assert asked_of_the_model == f"00-{chatting}-{spans['generate'].span_id.hex()}-01"

    route = "POST /v1/documents"
    spans = collector.trace(uploading, lambda found: "run upload" in found)
    assert parents(spans) == {route: PARENT, "run upload": route}
    assert attributes_of(spans["run upload"])["kb.run.id"] == run["id"]

    assert set(collector.trace("5" * 32, bool)) == {"GET"}
    assert collector.services == {"kb"}
    everything = b"".join(collector.payloads)
    for words in (*QUESTION.split()[1:], "Brindle", "5520", "brindle-facts", key):
        assert words.encode() not in everything
    assert b"/healthz" not in everything

    lines = logged(log)
    (line,) = (line for line in lines if line.get("route") == "/v1/search")
    assert line["trace_id"] == searching
    (line,) = (line for line in lines if line["event"] == "run_finished")
    assert (line["trace_id"], line["run"]) == (uploading, run["id"])


def test_without_its_collector_the_server_answers_says_so_once_and_stops(
    collector: Collector, data_dir: Path, tmp_path: Path
) -> None:
    with (
        serving(collector.url, data_dir, tmp_path, OTEL_EXPORTER_OTLP_TIMEOUT="0.5") as (
            server,
            log,
        ),
        httpx.Client(base_url=server.url, timeout=60) as http,
    ):
        caller = Caller(http)
        caller.upload()
        searching, hits = caller.search()
        collector.trace(searching, lambda found: "POST /v1/search" in found)
        collector.close()
        assert caller.search()[1] == hits
        deadline = time.monotonic() + PATIENCE_S
        while not any(line["event"] == "spans_not_sent" for line in logged(log)):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        for _ in range(3):
            assert caller.search()[1] == hits
            time.sleep(0.1)  # Another batch, most likely.
    warnings = [line for line in logged(log) if line["level"] in ("warning", "error")]
    assert [line["event"] for line in warnings] == ["spans_not_sent"]


def test_a_collector_that_never_answers_does_not_hold_up_a_stop(
    data_dir: Path, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with (
            serving(url, data_dir, tmp_path, OTEL_EXPORTER_OTLP_TIMEOUT="3600") as (server, _),
            httpx.Client(base_url=server.url, timeout=60) as http,
        ):
            Caller(http).search()


def test_without_the_setting_a_caller_s_trace_is_nothing(
    collector: Collector, data_dir: Path, tmp_path: Path
) -> None:
    with (
        serving("", data_dir, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url) as (server, log),
        httpx.Client(base_url=server.url, timeout=60) as http,
    ):
        Caller(http).search()
    assert collector.payloads == []
    assert not any("trace_id" in line for line in logged(log))
