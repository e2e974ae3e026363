"""The life of copies over both kinds of index and of database, with real parsing processes, as people see it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import httpx
import pytest

from ingestion.planning import SyncMode
from ingestion.progress import SyncProgress
from ingestion.sources import folder_record
from kb.ports import Embedder
from kb.settings import CatalogSettings, IndexSettings, IngestSettings, Settings
from kb.types import Access, Document, DocumentStatus
from retrieval.embedders.hashing import HashingEmbedder
from retrieval.generations import CopyProgress
from serving.app.application import create_app
from serving.bootstrap import Services, open_services
from serving.health import examine
from serving.keys import create_key
from serving.reindexing import reindex, rollback
from serving.repair import repair
from serving.run_queue import RunQueue
from serving.searching import bound_search
from serving.sources import add_source, remove_source
from serving.sync import SourceResult, request_of, sync_all, wanted_sources
from serving.uploads import add_upload, remove_document

pytestmark = pytest.mark.slow

TEXT = "# Leave\n\nEverybody has thirty days of leave."
QUESTION = "How many days of leave are there?"


@pytest.fixture(
    params=[
        "embedded, SQLite",
        pytest.param(
            "Elasticsearch, PostgreSQL", marks=[pytest.mark.elasticsearch, pytest.mark.postgresql]
        ),
    ]
)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    settings = Settings(data_dir=tmp_path / "data", ingest=IngestSettings(max_delete_share=1))
    if "SQLite" in request.param:
        return settings
    url: str = request.getfixturevalue("postgresql_url")
    index: IndexSettings = request.getfixturevalue("elasticsearch_settings")
    return settings.model_copy(update={"catalog": CatalogSettings(url=url), "index": index})


@pytest.fixture
async def services(settings: Settings) -> AsyncIterator[Services]:
    async def hashing(settings: Settings) -> Embedder:
        return HashingEmbedder(settings.data_dir / "models")

    async with open_services(settings, hashing) as opened:
        yield opened


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    for name in ("one/a.md", "one/b.md", "two/c.md"):
        path = tmp_path / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(TEXT)
    (tmp_path / "docs/one/other.md").write_text("# Travel\n\nTrains are taken before planes.")
    return tmp_path / "docs"


async def sync(services: Services, mode: SyncMode = SyncMode.INCREMENTAL) -> list[SourceResult]:
    results = await sync_all(
        await wanted_sources(services), services, request_of(services, mode, confirm_deletes=True)
    )
    assert [result.error for result in results if result.error] == []
    return results


async def seen(services: Services, access: Access | None = None) -> list[list[str]]:
    """The places of the text, for each time that a search brings it; nothing is ever wrong besides."""
    assert [found async for found in examine(services) if found.problem] == []
    find = bound_search(await services.live("default"), services, access or Access(), 5)
    return [
        sorted(Path(uri).name for uri in (hit.uri, *hit.also_at))
        for hit in await find(QUESTION)
        if "thirty days" in hit.chunk.text
    ]


async def original(services: Services) -> Document:
    documents = await services.catalog.documents()
    (found,) = {d.indexed_as for d in documents if d.title == "Leave" and d.text_hash}
    return await services.catalog.document(found)


def unlink(document: Document) -> None:
    Path(document.uri.removeprefix("file://")).unlink()


async def test_copies_of_two_sources_come_and_go(services: Services, docs: Path) -> None:
    one = await add_source(folder_record("default", docs / "one"), services)
    two = await add_source(folder_record("default", docs / "two"), services)
    results = await sync(services)
    assert sum(result.progress.duplicates for result in results) == 2
    assert await seen(services) == [["a.md", "b.md", "c.md"]]
    assert (await (await services.index("default")).count()).documents == 2

    await sync(services, SyncMode.FULL)
    assert await seen(services) == [["a.md", "b.md", "c.md"]]

    first = await original(services)
    unlink(first)
    results = await sync(services)
    assert sum(result.progress.embedded for result in results) == 0
    names = ["a.md", "b.md", "c.md"]
    names.remove(Path(first.uri).name)
    assert await seen(services) == [names]

    await add_source(replace(two, groups=("hr",)), services)
    await sync(services)
    assert [len(places) for places in await seen(services)] == [len(names)]
    in_two = "c.md" in names
    assert await seen(services, Access(frozenset())) == [[n for n in names if n != "c.md"]]

    await remove_source(one, services)
    assert await seen(services) == ([["c.md"]] if in_two else [])
    assert await seen(services, Access(frozenset())) == []


async def test_a_removed_source_leaves_its_texts_to_the_others(
    services: Services, docs: Path
) -> None:
    for name in ("one", "two"):
        await add_source(folder_record("default", docs / name), services)
        await sync(services)
    (one,) = [s for s in await services.catalog.sources() if s.root.endswith("one")]
    assert (await original(services)).source_id == one.id
    await remove_source(one, services)
    assert await seen(services) == [["c.md"]]


async def test_a_document_taken_out_leaves_its_text_to_the_others(
    services: Services, docs: Path
) -> None:
    await add_source(folder_record("default", docs / "one"), services)
    await sync(services)
    first = await original(services)
    await remove_document(first, services)
    (names,) = await seen(services)
    assert names == [n for n in ("a.md", "b.md") if n != Path(first.uri).name]
    await sync(services, SyncMode.FULL)
    assert await seen(services) == [names]
    await remove_document(await services.catalog.document((await original(services)).id), services)
    assert await seen(services) == []


async def test_an_upload_that_is_replaced_leaves_its_old_text_to_the_others(
    services: Services, docs: Path
) -> None:
    uploads = RunQueue(services)
    await uploads.start()
    try:
        await uploaded(uploads, services, TEXT)
        await uploads.stop()  # It may still hold its area, which the sync wants too.
        await add_source(folder_record("default", docs / "two"), services)
        await sync(services)
        assert await seen(services) == [["c.md", "upload:leave.md"]]
        assert (await original(services)).uri.endswith("leave.md")
        await uploads.start()
        await uploaded(uploads, services, "# Leave\n\nNobody has any.")
        assert await seen(services) == [["c.md"]]
    finally:
        await uploads.stop()


async def uploaded(uploads: RunQueue, services: Services, text: str) -> None:
    content = BytesIO(text.encode())
    document, _ = await add_upload("leave.md", content, "default", services, uploads)
    async with asyncio.timeout(60):
        while True:
            if (await services.catalog.document(document.id)).status is DocumentStatus.INDEXED:
                return
            await asyncio.sleep(0.05)


async def test_reindexing_and_going_back_keep_copies(services: Services, docs: Path) -> None:
    await add_source(folder_record("default", docs), services)
    await sync(services)
    await reindex("default", services, CopyProgress())
    assert await seen(services) == [["a.md", "b.md", "c.md"]]
    unlink(await original(services))
    await sync(services)
    left = await seen(services)
    await rollback("default", services)
    await sync(services)
    assert await seen(services) == left


async def test_what_a_reindex_finds_lost_is_read_again_with_its_duplicates(
    services: Services, docs: Path
) -> None:
    await add_source(folder_record("default", docs), services)
    await sync(services)
    await (await services.index("default")).delete([(await original(services)).id])
    await reindex("default", services, CopyProgress())
    assert await seen(services) == []
    await sync(services)
    assert await seen(services) == [["a.md", "b.md", "c.md"]]


async def test_repair_brings_back_what_the_index_lost(services: Services, docs: Path) -> None:
    await add_source(folder_record("default", docs), services)
    await sync(services)
    index = await services.index("default")
    await index.delete(list(await index.contents()))
    found = await repair("default", services, SyncProgress())
    assert len(found.missing) == 2
    assert await seen(services) == [["a.md", "b.md", "c.md"]]


async def test_the_api_and_the_page_name_all_places(services: Services, docs: Path) -> None:
    await add_source(folder_record("default", docs), services)
    await sync(services)
    app = create_app(services)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        found = (await client.post("/v1/search", json={"query": QUESTION})).json()["data"][0]
        assert len(found["also_at"]) == 2
        asked = {"model": "kb", "messages": [{"role": "user", "content": QUESTION}]}
        answer = (await client.post("/v1/chat/completions", json=asked)).json()
        (citation,) = answer["citations"]
        assert {citation["uri"], *citation["also_at"]} == {found["uri"], *found["also_at"]}
        documents = (await client.get("/v1/documents")).json()["data"]
        duplicates = [d for d in documents if d["duplicate_of"]]
        assert {d["duplicate_of"] for d in duplicates} == {citation["document_id"]}
        for document in duplicates:
            chunks = (await client.get(f"/v1/documents/{document['id']}/chunks")).json()["data"]
            assert [chunk["text"] for chunk in chunks] == [found["text"]]
            page = (await client.get(f"/documents/{document['id']}")).text
            assert "thirty days" in page
            assert all(uri in page for uri in (found["uri"], *found["also_at"]))


async def test_a_key_is_told_only_of_places_it_may_read(services: Services, docs: Path) -> None:
    await add_source(folder_record("default", docs / "one", ("hr",)), services)
    await add_source(folder_record("default", docs / "two"), services)
    await sync(services)
    transport = httpx.ASGITransport(create_app(services))

    async def told(groups: tuple[str, ...]) -> tuple[list[str], str]:
        """What a key with these groups finds, and the page of the first hit."""
        _, key = await create_key(services.catalog.keys, "test", groups=groups)
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1", headers=headers
        ) as client:
            hits = (await client.post("/v1/search", json={"query": QUESTION})).json()["data"]
            hit = next(hit for hit in hits if "thirty days" in hit["text"])
            page = (await client.get(f"/documents/{hit['document_id']}")).text
        return sorted(Path(uri).name for uri in (hit["uri"], *hit["also_at"])), page

    places, page = await told(())
    assert places == ["c.md"]
    assert "a.md" not in page
    places, page = await told(("hr",))
    assert places == ["a.md", "b.md", "c.md"]
    assert "c.md" in page
