"""Cached searches and answers over HTTP: what other processes change is seen at once."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from ingestion.progress import SyncProgress
from kb.metrics import CACHE
from kb.settings import Settings
from kb.types import IndexedDocument
from retrieval.embedders.hashing import HashingEmbedder
from serving.app.application import create_app
from serving.bootstrap import Services, open_services
from serving.repair import repair
from serving.sync import ingest_path
from serving.uploads import remove_document

pytestmark = pytest.mark.slow

KETTLE = "# Kitchen\n\nThe kettle in the kitchen must be descaled with vinegar every month.\n"
QUESTION = "How often must the kettle in the kitchen be descaled with vinegar?"


async def hashing(settings: Settings) -> HashingEmbedder:
    return HashingEmbedder(settings.data_dir / "models")


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[Services]:
    """The services of another process, which has indexed one document."""
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "kitchen.md").write_text(KETTLE, "utf-8")
    async with open_services(Settings(data_dir=tmp_path / "data"), hashing) as services:
        await ingest(tmp_path, services)
        yield services


@pytest.fixture
async def http(other: Services) -> AsyncIterator[httpx.AsyncClient]:
    async with open_services(other.settings, hashing) as services:
        transport = httpx.ASGITransport(create_app(services))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            yield client


async def ingest(folder: Path, services: Services) -> None:
    await ingest_path(folder / "docs", "default", services, SyncProgress())


async def search(http: httpx.AsyncClient, **headers: str) -> dict[str, Any]:
    response = await http.post("/v1/search", json={"query": QUESTION}, headers=headers)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


async def ask(http: httpx.AsyncClient, **headers: str) -> dict[str, Any]:
    body = {"model": "kb", "messages": [{"role": "user", "content": QUESTION}]}
    response = await http.post("/v1/chat/completions", json=body, headers=headers)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def streamed(http: httpx.AsyncClient) -> list[dict[str, Any]]:
    body = {"model": "kb", "messages": [{"role": "user", "content": QUESTION}], "stream": True}
    response = await http.post("/v1/chat/completions", json=body)
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    assert lines.pop() == "[DONE]"
    return [orjson.loads(line) for line in lines]


def lookups(cache: str, outcome: str) -> float:
    value: float = CACHE.labels(cache, outcome)._value.get()
    return value


async def test_the_same_search_is_found_once(http: httpx.AsyncClient) -> None:
    hits = lookups("search", "hit")
    first, second = await search(http), await search(http)
    assert first["data"][0]["text"].startswith("The kettle")
    assert (first.pop("kb"), second.pop("kb")) == ({"cached": False}, {"cached": True})
    assert first == second
    assert lookups("search", "hit") == hits + 1


async def test_the_same_question_is_answered_once_whole_or_in_pieces(
    http: httpx.AsyncClient,
) -> None:
    first, second = await ask(http), await ask(http)
    pieces = await streamed(http)
    assert first["kb"].pop("cached") is False
    assert second["kb"].pop("cached") is True
    assert pieces[-1]["kb"].pop("cached") is True
    assert first["id"] != second["id"]
    for part in ("choices", "citations", "kb", "usage"):
        assert second[part] == first[part]
    text = "".join(piece["choices"][0]["delta"].get("content", "") for piece in pieces)
    assert text == first["choices"][0]["message"]["content"]
    assert pieces[-1]["citations"] == first["citations"] != []


async def test_a_request_may_want_nothing_kept(http: httpx.AsyncClient) -> None:
    wish = {"Cache-Control": "no-store"}
    for _ in range(2):
        assert (await search(http, **wish))["kb"]["cached"] is False
        assert (await ask(http, **wish))["kb"]["cached"] is False
    assert (await search(http))["kb"]["cached"] is False
    assert (await search(http, **wish))["kb"]["cached"] is False


async def test_changes_by_another_process_are_seen_at_once(
    http: httpx.AsyncClient, other: Services, tmp_path: Path
) -> None:
    await ask(http)
    (tmp_path / "docs/kitchen.md").write_text(KETTLE.replace("month", "week"), "utf-8")
    await ingest(tmp_path, other)
    changed = await ask(http)
    assert "every week" in changed["choices"][0]["message"]["content"]
    assert (await ask(http))["kb"]["cached"] is True

    (document,) = await other.catalog.documents()
    await remove_document(document, other)
    gone = await ask(http)
    assert gone["citations"] == []
    assert (await search(http))["data"] == []


async def test_what_a_repair_takes_out_of_the_index_is_not_found_in_the_cache(
    http: httpx.AsyncClient, other: Services
) -> None:
    live = await other.live("default")
    (document,) = await other.catalog.documents()
    (chunk,) = await live.index.chunks(document.id)
    stray = replace(chunk, id="1" * 32, document_id="0" * 32)
    vectors = await live.embedder.passages([stray.passage])
    await live.index.replace(
        [IndexedDocument("0" * 32, "file:///stray.md", (), "r", (stray,), vectors)]
    )
    assert await places(http) == {document.uri, "file:///stray.md"}
    await repair("default", other, SyncProgress())
    assert await places(http) == {document.uri}


async def places(http: httpx.AsyncClient) -> set[str]:
    return {hit["uri"] for hit in (await search(http))["data"]}
