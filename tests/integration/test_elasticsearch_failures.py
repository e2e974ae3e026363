"""Elasticsearch halted, killed and started again; and what we send to one that only listens."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from ingestion.progress import SyncProgress
from kb.errors import ConfigError, IndexUnavailable
from kb.ports import Embedder
from kb.settings import EmbedderSettings, IndexSettings, Settings
from kb.types import DocumentStatus, IndexCount, IndexQuery, RunStatus
from retrieval.elasticsearch_index import ElasticsearchIndex
from retrieval.elasticsearch_store import ElasticsearchStore
from retrieval.embedders.hashing import HashingEmbedder
from retrieval.generations import CopyProgress
from serving.bootstrap import Services, open_services
from serving.health import examine
from serving.reindexing import reindex
from serving.repair import compare, repair
from serving.searching import bound_search
from serving.sync import ingest_path
from tests.conformance.indexed_documents import SCHEMA, document, unit
from tests.conftest import start_elasticsearch, throw_away_elasticsearch

NAME = "kb-test-1"
QUERY = IndexQuery(unit(1), ("x",), 5)


@pytest.fixture
def own_server() -> Iterator[tuple[str, Path]]:
    """One that may be killed, whatever server the other tests have."""
    with throw_away_elasticsearch() as server:
        yield server


@pytest.mark.slow
@pytest.mark.elasticsearch
async def test_halted_killed_and_started_again(own_server: tuple[str, Path]) -> None:
    url, folder = own_server
    store = ElasticsearchStore(IndexSettings(url=url, search_timeout_s=1, write_timeout_s=2))
    index = await store.create(NAME, SCHEMA)
    await index.replace([document("d", ["x"])])
    server = int((folder / "pid").read_text())

    os.kill(server, signal.SIGSTOP)
    begun = time.monotonic()
    with pytest.raises(IndexUnavailable, match="did not answer in time") as raised:
        await index.search(QUERY)
    assert time.monotonic() - begun < 20, "it did not wait for the server, which would be for ever"
    assert raised.value.retryable
    with pytest.raises(IndexUnavailable, match="did not answer in time"):
        await index.replace([document("e", ["x"])])
    os.kill(server, signal.SIGCONT)
    assert await _found_again(index) == 1

    _kill(folder)
    await asyncio.sleep(1)
    with pytest.raises(IndexUnavailable, match="can't be reached"):
        await index.search(QUERY)
    (problem,) = await store.problems()
    assert "can't be reached" in problem

    assert await asyncio.to_thread(start_elasticsearch, folder) == url
    assert await asyncio.to_thread(start_elasticsearch, folder) == url, "twice is harmless"
    assert await index.count() == IndexCount(1, 1)
    await store.close()


@pytest.mark.slow
@pytest.mark.elasticsearch
async def test_an_ingest_waits_for_a_killed_server_and_goes_on(
    own_server: tuple[str, Path], tmp_path: Path
) -> None:
    url, folder = own_server
    documents = _documents(tmp_path, 400)
    async with open_services(_settings(url, tmp_path), hashing) as services:
        progress = SyncProgress()
        ingest = asyncio.create_task(ingest_path(documents, "default", services, progress))
        while not progress.indexed:  # noqa: ASYNC110 - what is counted sets no event
            await asyncio.sleep(0.01)
        _kill(folder)
        await asyncio.sleep(2)
        assert not ingest.done()
        (run,) = await services.catalog.runs(collection="default")
        assert run.status is RunStatus.RUNNING
        assert await asyncio.to_thread(start_elasticsearch, folder) == url
        await ingest
        await _check_nothing_differs(services, 400)


@pytest.mark.slow
@pytest.mark.elasticsearch
@pytest.mark.parametrize("model", ["", "other"], ids=["vectors copied", "embedded anew"])
async def test_a_reindex_of_a_killed_server_is_gone_on_with(
    own_server: tuple[str, Path], tmp_path: Path, model: str
) -> None:
    url, folder = own_server
    documents = _documents(tmp_path, 600)
    other = EmbedderSettings(kind="sentence-transformers", model=model) if model else None
    async with open_services(_settings(url, tmp_path), hashing) as services:
        await ingest_path(documents, "default", services, SyncProgress())
        before = await services.live("default")
        progress = CopyProgress()
        reindexing = asyncio.create_task(reindex("default", services, progress, other))
        while not progress.copied:  # noqa: ASYNC110 - what is counted sets no event
            await asyncio.sleep(0.001)
        _kill(folder)
        with pytest.raises(IndexUnavailable, match="can't be reached"):
            await reindexing
        assert progress.copied < 600
        assert (await services.catalog.live_generation("default")) == before.generation

        assert await asyncio.to_thread(start_elasticsearch, folder) == url
        await _check_nothing_differs(services, 600)
        again = CopyProgress()
        generation = await reindex("default", services, again, other)
        assert generation.number == before.generation.number + 1, "the one begun, not another"
        assert again.copied <= 600 - progress.copied, "what was acknowledged is kept"
        await _check_nothing_differs(services, 600)
        assert await bound_search(await services.live("default"), services)("item 7")


@pytest.mark.elasticsearch
async def test_a_missing_alias_is_found_and_mended(
    elasticsearch_settings: IndexSettings, elasticsearch_server: str, tmp_path: Path
) -> None:
    """Searches go by the catalogue and do without it; other tools do not."""
    settings = Settings(data_dir=tmp_path / "data", index=elasticsearch_settings)
    prefix = elasticsearch_settings.prefix
    async with open_services(settings, hashing) as services:
        await ingest_path(_documents(tmp_path, 2), "default", services, SyncProgress())
        url = f"{elasticsearch_server}/{prefix}*/_alias/{prefix}kb-default"
        async with httpx.AsyncClient(trust_env=False) as admin:
            (await admin.delete(url)).raise_for_status()
        (found,) = [finding async for finding in examine(services) if finding.problem]
        assert "the alias is missing" in (found.problem or "")
        assert "kb doctor --repair" in (found.problem or "")
        assert await bound_search(await services.live("default"), services)("item 1")
        await repair("default", services, SyncProgress())
        assert (await compare("default", services)).alias_right


def _documents(folder: Path, count: int) -> Path:
    documents = folder / "documents"
    documents.mkdir()
    for number in range(count):
        (documents / f"{number}.md").write_text(f"# Item {number}\n\nText of item {number}.")
    return documents


def _settings(url: str, folder: Path) -> Settings:
    index = IndexSettings(url=url, write_timeout_s=5)
    return Settings(data_dir=folder / "data", index=index)


async def hashing(settings: Settings) -> Embedder:
    return HashingEmbedder(settings.data_dir / "models", 96 if settings.embedder.model else 64)


def _kill(folder: Path) -> None:
    os.kill(int((folder / "pid").read_text()), signal.SIGKILL)


async def _check_nothing_differs(services: Services, count: int) -> None:
    """What `kb doctor` compares."""
    rows = await services.catalog.documents(collection="default", status=DocumentStatus.INDEXED)
    assert len(rows) == count
    compared = await compare("default", services)
    assert not compared.documents.documents
    assert compared.alias_right


async def _found_again(index: ElasticsearchIndex) -> int:
    """A server that was halted has old requests to answer first."""
    for _ in range(30):
        try:
            return len(await index.search(QUERY))
        except IndexUnavailable:
            await asyncio.sleep(0.5)
    return 0


# --- What is sent --------------------------------------------------------------------------------


@asynccontextmanager
async def _listener() -> AsyncIterator[tuple[str, list[bytes]]]:
    """An address that answers every request as Elasticsearch would a mapping, and the requests."""
    requests: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(
            b"HTTP/1.1 200 OK\r\nX-Elastic-Product: Elasticsearch\r\nConnection: close\r\n"
            b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
        )
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        yield f"{host}:{port}", requests


@pytest.mark.parametrize(
    ("address", "api_key", "header"),
    [
        ("http://{}", "bGV0OiBtZSBpbg==", b"Authorization: ApiKey bGV0OiBtZSBpbg=="),
        ("http://me:s%40crt@{}", "", b"Authorization: Basic bWU6c0BjcnQ="),
    ],
)
async def test_credentials_go_into_one_header(address: str, api_key: str, header: bytes) -> None:
    async with _listener() as (host, requests):
        settings = IndexSettings(url=address.format(host), api_key=api_key)
        store = ElasticsearchStore(settings)
        assert await store.names() == []
        await store.close()
    assert header.lower() in requests[0].lower()
    assert requests[0].lower().count(b"authorization:") == 1


@pytest.mark.parametrize("url", ["", "localhost", "http://localhost", "ftp://localhost:1", " , "])
async def test_an_address_that_cannot_be_one_is_a_mistake_of_settings(url: str) -> None:
    store = ElasticsearchStore(IndexSettings(url=url))
    with pytest.raises(ConfigError, match="KB_INDEX__URL"):
        await store.names()
    assert len(await store.problems()) == 1
    await store.close()


async def test_nobody_listening_is_told_at_once() -> None:
    store = ElasticsearchStore(IndexSettings(url="http://127.0.0.1:1"))
    with pytest.raises(IndexUnavailable, match="can't be reached"):
        await store.open(NAME, SCHEMA)
    await store.close()
