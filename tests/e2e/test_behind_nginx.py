"""Two APIs behind nginx: streams pass as they come, and neither a kill nor a restart fails a question."""

import asyncio
import json
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.e2e.site import UPSTREAM, Questions, Replica, Site, nginx_with_tls, site
from tests.misbehaving import Misbehaving, misbehaving_server

pytestmark = [pytest.mark.nginx, pytest.mark.slow, pytest.mark.timeout(900)]

QUESTION = {
    "model": "kb",
    "messages": [{"role": "user", "content": "On which port does Heron listen?"}],
    "stream": True,
}


@pytest.fixture(scope="module")
def model() -> Iterator[Misbehaving]:
    with misbehaving_server() as server:
        yield server


@pytest.fixture(scope="module")
def two(
    model: Misbehaving, models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    documents = folder / "documents"
    documents.mkdir()
    (documents / "heron.md").write_text("# Heron\n\nHeron listens on port 5520.")
    with site(
        folder,
        models,
        documents,
        KB_GENERATION__URL=f"{model.url}/v1",
        KB_GENERATION__FIRST_TOKEN_S="300",
        KB_GENERATION__BETWEEN_TOKENS_S="300",
        KB_GENERATION__TOTAL_S="600",
        KB_SERVER__TRUSTED_PROXIES="127.0.0.1",
        KB_SERVER__DRAIN_S="2",
        KB_SERVER__SHUTDOWN_S="300",
    ) as running:
        yield running


@pytest.fixture
def both(two: Site, model: Misbehaving) -> Site:
    """Both running, whatever the test before did to them."""
    model.mode("good")
    two.start()
    return two


class Stream:
    """An answer that is being read: at least its first word is there."""

    def __init__(self, response: httpx.Response) -> None:
        self.upstream = response.headers[UPSTREAM]
        self._lines = response.aiter_lines()
        self.text = ""
        self.is_done = False

    async def read_first_word(self) -> None:
        while not self.text:
            await self._read_line()

    async def read_on(self) -> None:
        while not self.is_done:
            await self._read_line()

    async def _read_line(self) -> None:
        line = (await anext(self._lines)).removeprefix("data: ")
        self.is_done = line == "[DONE]"
        if line.startswith("{"):
            for choice in json.loads(line)["choices"]:
                self.text += choice["delta"].get("content") or ""


@asynccontextmanager
async def stream(http: httpx.AsyncClient) -> AsyncIterator[Stream]:
    async with http.stream("POST", "/v1/chat/completions", json=QUESTION) as response:
        assert response.status_code == 200
        opened = Stream(response)
        await opened.read_first_word()
        yield opened


def client(of: Site) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=of.url, headers=of.headers, timeout=600, trust_env=False)


async def test_a_stream_passes_word_by_word(both: Site, model: Misbehaving) -> None:
    model.mode("held")
    async with client(both) as http, stream(http) as answer:
        assert answer.text.startswith("Heron listens")
        assert "5520" not in answer.text, "the model has not said it yet"
        model.mode("good")
        await answer.read_on()
        assert "5520" in answer.text


async def test_no_question_fails_when_an_api_is_killed_and_comes_back(both: Site) -> None:
    victim = both.replicas[0]
    async with Questions(both) as questions:
        await questions.answered_by(victim)
        before = both.passed_over()
        victim.kill()
        await questions.more(150)
        await asyncio.to_thread(victim.start)
        await questions.answered_by(victim)
    assert both.passed_over() > before
    assert questions.failed == []


async def test_a_rolling_restart_fails_no_question_and_finishes_streams(
    both: Site, model: Misbehaving
) -> None:
    async with Questions(both) as questions, client(both) as http:
        for replica in both.replicas:
            await questions.answered_by(replica)
            await _restart_during_a_stream(replica, questions, http, model)
    assert questions.failed == []


async def _restart_during_a_stream(
    replica: Replica, questions: Questions, http: httpx.AsyncClient, model: Misbehaving
) -> None:
    model.mode("held")
    while True:
        async with stream(http) as answer:
            if answer.upstream != replica.address:
                model.mode("good")
                await answer.read_on()
                model.mode("held")
                continue
            replica.tell_to_stop()
            await questions.until(lambda: not replica.listens(), "a closed socket")
            await questions.more(50)
            assert replica.process.poll() is None, "it stays for the stream"
            model.mode("good")
            await answer.read_on()
            assert "5520" in answer.text
            break
    assert await asyncio.to_thread(replica.process.wait, 60) == 0
    await asyncio.to_thread(replica.start)


def test_figures_are_not_for_others(both: Site) -> None:
    assert httpx.get(f"{both.url}/metrics", headers=both.headers).status_code == 404
    assert httpx.get(f"{both.url}/healthz").status_code == 200


def test_an_upload_is_taken_once(both: Site) -> None:
    files = {"file": ("kite.md", b"# Kite\n\nKite listens on port 7310.")}
    taken = httpx.post(f"{both.url}/v1/documents", files=files, headers=both.headers)
    assert taken.status_code == 202


def test_a_site_with_tls_hands_out_links_with_tls(both: Site, tmp_path: Path) -> None:
    certificate, key = tmp_path / "fullchain.pem", tmp_path / "key.pem"
    request = "req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost"]
    command: list[str | Path] = [
        "openssl",
        *request.split(),
        *names,
        "-out",
        certificate,
        "-keyout",
        key,
    ]
    subprocess.run(command, check=True, capture_output=True)
    with nginx_with_tls(tmp_path, both) as (http_port, https_port):
        moved = httpx.get(f"http://127.0.0.1:{http_port}/v1/models")
        assert (moved.status_code, moved.headers["location"][:8]) == (301, "https://")
        answer = httpx.post(
            f"https://localhost:{https_port}/v1/chat/completions",
            json=QUESTION | {"stream": False},
            headers=both.headers,
            verify=ssl.create_default_context(cafile=certificate),
            timeout=60,
        )
    assert answer.status_code == 200
    assert answer.headers["strict-transport-security"]
    (citation, *_) = answer.json()["citations"]
    assert citation["url"].startswith(f"https://localhost:{https_port}/documents/")
