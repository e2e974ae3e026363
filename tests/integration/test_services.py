"""Use cases over the real catalogue, index and parsing processes; only the model is a fake."""

import asyncio
import io
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from ingestion.progress import SyncProgress
from kb.errors import ConfigError, IndexSchemaMismatch, InvalidQueryError, NotFoundError
from kb.ports import Embedder
from kb.settings import Settings
from kb.types import DocumentStatus, IndexCount, IndexedDocument, RunStatus
from retrieval.embedders.hashing import HashingEmbedder
from serving.bootstrap import Services, open_services
from serving.health import Finding, examine
from serving.repair import repair
from serving.run_queue import RunQueue
from serving.sync import ingest_path, sync_document
from serving.uploads import add_upload, remove_document, take_up_pending

pytestmark = pytest.mark.slow


def settings_in(folder: Path) -> Settings:
    return Settings(data_dir=folder / "data")


async def hashing(settings: Settings) -> Embedder:
    return HashingEmbedder(settings.data_dir / "models")


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    async with open_services(settings_in(tmp_path), hashing) as opened:
        yield opened


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    for name in ("a.md", "sub/b.md", "sub/deep/c.md"):
        path = tmp_path / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {path.stem}\n\nText of {name}.")
    return tmp_path / "docs"


async def ingest(path: Path, services: Services, collection: str = "default") -> SyncProgress:
    progress = SyncProgress()
    await ingest_path(path, collection, services, progress)
    return progress


async def problems(services: Services) -> list[Finding]:
    return [finding async for finding in examine(services) if finding.problem]


async def test_a_run_is_recorded(services: Services, docs: Path) -> None:
    await ingest(docs, services)
    (run,) = await services.catalog.runs(collection="default")
    assert (run.status, run.counts["indexed"]) == (RunStatus.DONE, 3)
    assert run.finished_at


async def test_a_failed_run_says_why(services: Services, docs: Path) -> None:
    await ingest(docs, services)
    await asyncio.to_thread(shutil.rmtree, docs / "sub")
    (docs / "a.md").unlink()
    with pytest.raises(ConfigError, match="Nothing was deleted"):
        await ingest(docs, services)
    run = (await services.catalog.runs(collection="default"))[0]
    assert run.status is RunStatus.FAILED
    assert "Nothing was deleted" in (run.error or "")


async def test_nested_sources_never_index_a_file_twice(services: Services, docs: Path) -> None:
    await ingest(docs / "sub" / "deep" / "c.md", services)
    await ingest(docs / "sub", services)
    await ingest(docs, services)
    uris = [d.uri for d in await services.catalog.documents(collection="default")]
    assert len(uris) == len(set(uris)) == 3
    (docs / "sub" / "deep" / "new.md").write_text("New.")
    assert (await ingest(docs, services)).indexed == 1
    (docs / "sub" / "b.md").write_text("Changed.")
    assert (await ingest(docs / "sub" / "b.md", services)).indexed == 1
    assert await problems(services) == []


async def test_two_syncs_of_one_source_do_not_meet(services: Services, docs: Path) -> None:
    results = await asyncio.gather(
        ingest(docs, services), ingest(docs, services), return_exceptions=True
    )
    assert sum(isinstance(result, ConfigError) for result in results) == 1
    assert (await (await services.index("default")).count()) == IndexCount(3, 3)


async def test_collections_are_apart_and_deleted_whole(services: Services, docs: Path) -> None:
    await ingest(docs, services)
    await ingest(docs / "a.md", services, "other")
    await services.delete_collection("default")
    assert [c.name for c in await services.catalog.collections()] == ["other"]
    assert len(await services.store.names()) == 1
    with pytest.raises(NotFoundError, match="other"):
        await services.index("default")
    await ingest(docs, services)
    assert (await (await services.index("default")).count()).documents == 3


async def test_another_embedder_is_refused(services: Services, docs: Path, tmp_path: Path) -> None:
    await ingest(docs, services)

    async def other(settings: Settings) -> Embedder:
        return HashingEmbedder(settings.data_dir / "models", dimensions=32)

    async with open_services(settings_in(tmp_path), other) as reopened:
        with pytest.raises(IndexSchemaMismatch, match="kb reindex --collection default"):
            await reopened.index("default")
        with pytest.raises(IndexSchemaMismatch):
            await ingest(docs, reopened)


async def test_doctor_sees_what_differs(services: Services, docs: Path) -> None:
    await ingest(docs, services)
    documents = await services.catalog.documents(collection="default")
    index = await services.index("default")
    await index.delete([documents[0].id])
    await services.catalog.delete_documents([documents[1].id])
    live = await services.live("default")
    chunks = await index.chunks(documents[2].id)
    vectors = await live.embedder.passages([chunk.passage for chunk in chunks])
    await index.replace(
        [IndexedDocument(documents[2].id, "file:///x", (), "another", tuple(chunks), vectors)]
    )
    await services.store.create("kb-default.9", live.generation.schema)
    await services.store.alias("kb-default", "kb-default.9")
    found = {finding.detail: finding.problem or "" for finding in await problems(services)}
    assert "missing" in found[documents[0].uri]
    assert "does not know it" in found[documents[1].id]
    assert "other content" in found[documents[2].uri]
    assert "another index" in found["kb-default > kb-default.9"]
    assert all("kb doctor --repair" in problem for problem in found.values())


async def test_repair_makes_the_index_hold_what_the_catalogue_says(
    services: Services, docs: Path
) -> None:
    await ingest(docs, services)
    documents = await services.catalog.documents(collection="default")
    before = await (await services.index("default")).contents()
    await (await services.index("default")).delete([documents[0].id])
    lost = replace(documents[1], id="0" * 32)
    live = await services.live("default")
    chunk = replace((await live.index.chunks(documents[1].id))[0], id="1" * 32, document_id=lost.id)
    vectors = await live.embedder.passages([chunk.passage])
    await live.index.replace([IndexedDocument(lost.id, lost.uri, (), "1", (chunk,), vectors)])
    await services.store.create("kb-default.9", live.generation.schema)
    await services.store.alias("kb-default", "kb-default.9")
    mended = await repair("default", services, SyncProgress())
    assert mended.missing == {documents[0].id}
    assert mended.orphaned == {lost.id}
    assert await problems(services) == []
    assert await (await services.index("default")).contents() == before
    assert not (await repair("default", services, SyncProgress())).documents


async def test_document_that_is_taken_out_can_come_back(services: Services, docs: Path) -> None:
    await ingest(docs, services)
    document = (await services.catalog.documents(collection="default"))[0]
    excluded = await remove_document(document, services)
    assert excluded
    assert (await ingest(docs, services)).unchanged == 3
    assert (await (await services.index("default")).count()).documents == 2
    pending = replace(excluded, status=DocumentStatus.PENDING)
    await services.catalog.save_documents([pending])
    await sync_document(pending, services, SyncProgress())
    assert (await (await services.index("default")).count()).documents == 3


async def settled(services: Services, document_id: str) -> DocumentStatus:
    while True:
        status = (await services.catalog.document(document_id)).status
        if status is not DocumentStatus.PENDING:
            return status
        await asyncio.sleep(0.05)


async def test_upload_queue_takes_up_what_was_left(services: Services) -> None:
    content = io.BytesIO(b"# Tea\n\nOolong.")
    stopped = RunQueue(services)
    document, run = await add_upload("tea.md", content, "default", services, stopped)
    await services.catalog.cancel_run(run.id)
    half, older = (services.upload_folder("default") / f".{n}.partial" for n in (1, 2))
    for partial in (half, older):
        partial.write_bytes(b"half")
    os.utime(older, (0, 0))
    queue = RunQueue(services)
    await take_up_pending(services, queue)
    await queue.start()
    assert await settled(services, document.id) is DocumentStatus.INDEXED
    await queue.stop()
    assert not older.exists()
    half.unlink()  # Another server may be writing it at this moment.
    assert await remove_document(await services.catalog.document(document.id), services) is None
    assert list(services.upload_folder("default").iterdir()) == []


async def test_upload_into_a_collection_of_no_name(services: Services) -> None:
    with pytest.raises(InvalidQueryError, match="No Name"):
        await add_upload("x.md", io.BytesIO(b"x"), "No Name", services, RunQueue(services))
