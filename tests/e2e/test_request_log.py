"""The log of a running server: a line for each request, found by its id, and nobody's words in it."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.kb_process import RunKB, printed_json, start_server, stop_server

pytestmark = pytest.mark.slow

QUESTION = "Where is the blue heron?"


def logged(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("with_questions", [False, True])
def test_every_request_has_a_line_that_its_answer_names(
    data_dir: Path, tmp_path: Path, run_kb: RunKB, with_questions: bool
) -> None:
    made = printed_json(run_kb("keys", "create", "heron-lover", "--scope", "query", "--json"))
    log = tmp_path / "log.jsonl"
    server = start_server(["serve"], data_dir, tmp_path, log, KB_LOG__QUESTIONS=str(with_questions))
    headers = {"Authorization": f"Bearer {made['key']}"}
    chat = {"model": "kb", "messages": [{"role": "user", "content": QUESTION}]}
    with httpx.Client(base_url=server.url, headers=headers) as http:
        asked = http.post(
            "/v1/search", json={"query": QUESTION}, headers={"X-Request-ID": "our-proxys-1"}
        )
        http.post("/v1/chat/completions", json=chat)
        wrong = http.get(
            "/v1/models",
            headers={"Authorization": f"Bearer {made['key']}x", "X-Request-ID": "a\tb"},
        )
        lost = http.get(f"/{QUESTION}")
        http.get("/healthz")
    assert stop_server(server) == 0
    lines = {line["request_id"]: line for line in logged(log) if line["event"] == "request"}
    assert asked.headers["X-Request-ID"] == "our-proxys-1"
    line = lines["our-proxys-1"]
    assert (line["method"], line["route"], line["status"]) == (
        "POST",
        "/v1/search",
        asked.status_code,
    )
    assert line["key"] == made["key"].split("-")[1]
    assert line["ms"] > 0
    refused = lines[wrong.headers["X-Request-ID"]]
    assert (refused["status"], refused["key"]) == (401, None)
    assert lines[lost.headers["X-Request-ID"]]["route"] == "none"
    assert len(lines) == 4, "whether we live is not worth a line"
    whole = log.read_text("utf-8")
    assert made["key"] not in whole
    questions = [line for line in logged(log) if line["event"] == "question"]
    assert ("heron?" in whole) == with_questions
    assert [line["text"] for line in questions] == [QUESTION] * 2 * with_questions
