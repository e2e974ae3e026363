"""Sources, runs and the worker's jobs over the real catalogue, index and parsing processes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from ingestion.planning import SyncMode
from ingestion.progress import SyncProgress
from ingestion.sources import FolderSource, folder_record, upload_record
from kb.errors import BackendError, ConfigError, NotFoundError
from kb.ports import Embedder
from kb.settings import IngestSettings, Settings
from kb.types import DocumentStatus, FailureCategory, Run, RunStatus, SourceRecord, Vectors
from retrieval.embedders.hashing import HashingEmbedder
from serving import jobs
from serving.app.application import create_app
from serving.bootstrap import Services, open_services
from serving.health import examine
from serving.runs import SILENT
from serving.sources import add_source, pause_source, remove_source
from serving.sync import SourceResult, request_of, run_sync, sync_all, wanted_sources

pytestmark = pytest.mark.slow


class Patient(HashingEmbedder):
    """Embeds nothing while it may not."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.may_embed = asyncio.Event()
        self.may_embed.set()

    async def passages(self, texts: Sequence[str]) -> Vectors:
        await self.may_embed.wait()
        return await super().passages(texts)


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    async def patient(settings: Settings) -> Embedder:
        return Patient(settings.data_dir / "models")

    ingest = IngestSettings(free_deletes=1)
    settings = Settings(data_dir=tmp_path / "data", ingest=ingest)
    async with open_services(settings, patient) as opened:
        yield opened


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    for number in range(5):
        path = tmp_path / "docs" / f"{number}.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"# Title {number}\n\nText number {number}.")
    return tmp_path / "docs"


async def sync(services: Services, mode: SyncMode = SyncMode.INCREMENTAL) -> list[SourceResult]:
    return await sync_all(await wanted_sources(services), services, request_of(services, mode))


async def indexed(services: Services) -> int:
    assert [found async for found in examine(services) if found.problem] == []
    return (await (await services.index("default")).count()).documents


async def test_documents_inherit_the_groups_of_their_source(services: Services, docs: Path) -> None:
    record = await add_source(folder_record("default", docs, ("hr",)), services)
    (result,) = await sync(services)
    assert result.progress.new == 5
    await add_source(replace(record, groups=("hr", "board")), services)
    (result,) = await sync(services)
    assert (result.progress.changed, result.progress.embedded) == (5, 0)
    documents = await services.catalog.documents()
    assert {document.groups for document in documents} == {("hr", "board")}
    assert await indexed(services) == 5


async def test_a_paused_source_is_passed_over(services: Services, docs: Path) -> None:
    record = await add_source(folder_record("default", docs), services)
    await pause_source(record.id, True, services)
    assert await sync(services) == []
    with pytest.raises(ConfigError, match="kb sources resume"):
        await wanted_sources(services, record.id)
    with pytest.raises(ConfigError, match="kb sources resume"):
        await run_sync(record, services, SyncProgress(), request_of(services))
    await pause_source(record.id, False, services)
    assert (await sync(services))[0].progress.new == 5


async def test_a_removed_source_takes_its_documents_along(services: Services, docs: Path) -> None:
    record = await add_source(folder_record("default", docs), services)
    await sync(services)
    assert await remove_source(record, services) == 5
    assert await indexed(services) == 0
    assert len(list(FolderSource(record).walk())) == 5, "files stay"
    with pytest.raises(NotFoundError):
        await services.catalog.source(record.id)


async def test_one_source_that_fails_keeps_no_other_from_its_sync(
    services: Services, docs: Path, tmp_path: Path
) -> None:
    lost = tmp_path / "lost"
    lost.mkdir()
    await add_source(folder_record("default", lost), services)
    await add_source(folder_record("default", docs), services)
    lost.rmdir()
    results = {result.source.root: result for result in await sync(services)}
    assert results[str(lost)].failed
    assert results[str(docs)].progress.new == 5
    with pytest.raises(BackendError, match="1 of 2 sources failed"):
        await jobs.sync_sources(services)


async def test_a_refused_deletion_is_the_runs_error(services: Services, docs: Path) -> None:
    record = await add_source(folder_record("default", docs), services)
    await sync(services)
    for number in (0, 1):
        (docs / f"{number}.md").unlink()
    (result,) = await sync(services)
    assert result.error
    assert result.error.code == "deletion_refused"
    (run,) = await services.catalog.runs(limit=1)
    assert (run.status, run.error) == (RunStatus.FAILED, result.error.message)
    confirmed = request_of(services, confirm_deletes=True)
    await run_sync(record, services, SyncProgress(), confirmed)
    assert await indexed(services) == 3


async def running(services: Services) -> Run:
    while True:
        if found := await services.catalog.runs(status=RunStatus.RUNNING):
            return found[0]
        await asyncio.sleep(0.02)


async def test_a_run_is_cancelled_over_the_api_and_the_next_goes_on(
    services: Services, docs: Path
) -> None:
    embedder = await services.embedder()
    assert isinstance(embedder, Patient)
    embedder.may_embed.clear()
    await add_source(folder_record("default", docs), services)
    transport = httpx.ASGITransport(create_app(services))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        syncing = asyncio.create_task(sync(services))
        run = await running(services)
        assert (await http.get(f"/v1/admin/runs/{run.id}")).json()["status"] == "running"
        answer = await http.post(f"/v1/admin/runs/{run.id}/cancel")
        assert answer.json()["cancel_requested"] is True
        (result,) = await syncing
        assert result.error
        assert result.error.code == "run_cancelled"
        (ended,) = (await http.get("/v1/admin/runs", params={"limit": 1})).json()["data"]
        assert (ended["id"], ended["status"]) == (run.id, "cancelled")
        assert (await http.post("/v1/admin/runs/nothing/cancel")).status_code == 404
    embedder.may_embed.set()
    assert (await sync(services))[0].progress.new == 5
    assert await indexed(services) == 5


async def test_a_stopped_run_is_recorded_and_the_next_goes_on(
    services: Services, docs: Path
) -> None:
    embedder = await services.embedder()
    assert isinstance(embedder, Patient)
    embedder.may_embed.clear()
    await add_source(folder_record("default", docs), services)
    syncing = asyncio.create_task(sync(services))
    run = await running(services)
    syncing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await syncing
    assert (await services.catalog.run(run.id)).status is RunStatus.INTERRUPTED
    embedder.may_embed.set()
    await jobs.sync_sources(services)
    assert await indexed(services) == 5


async def test_the_run_of_a_killed_process_is_closed(services: Services, docs: Path) -> None:
    record = await add_source(folder_record("default", docs), services)
    await services.catalog.start_run(killed_run("r1", record))
    await services.catalog.start_run(killed_run("r2", record))
    transport = httpx.ASGITransport(create_app(services))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        answer = await http.post("/v1/admin/runs/r1/cancel")
    assert answer.json()["status"] == "interrupted"
    await sync(services)
    assert (await services.catalog.run("r2")).status is RunStatus.INTERRUPTED


def killed_run(run_id: str, record: SourceRecord) -> Run:
    long_ago = datetime.now(UTC) - 2 * SILENT
    return Run(run_id, record.collection, record.id, "full", RunStatus.RUNNING, long_ago)


async def test_the_retry_job_reads_what_could_not_be_read(services: Services, docs: Path) -> None:
    record = await add_source(folder_record("default", docs), services)
    (docs / "link.md").symlink_to(docs / "away.md")
    await sync(services)
    (document, *_) = await services.catalog.documents()
    lost = replace(
        document,
        status=DocumentStatus.FAILED,
        error_category=FailureCategory.TIMEOUT,
        error_message="It took too long.",
        attempts=1,
    )
    await services.catalog.save_documents([lost])
    (docs / "new.md").write_text("New.")
    await jobs.retry_documents(services)
    assert (await services.catalog.document(document.id)).status is DocumentStatus.INDEXED
    (run,) = await services.catalog.runs(source_id=record.id, limit=1)
    assert (run.kind, run.counts["indexed"]) == ("retry", 1)


async def test_pruning_forgets_old_runs_and_leaves_unfinished_generations(
    services: Services, docs: Path
) -> None:
    record = await add_source(folder_record("default", docs), services)
    await sync(services)
    old = replace(killed_run("old", record), status=RunStatus.DONE)
    finished_at = datetime.now(UTC) - timedelta(days=91)
    await services.catalog.start_run(replace(old, finished_at=finished_at))
    live = await services.live("default")
    await services.catalog.add_generation("default", live.generation.schema)
    await jobs.prune(services)
    assert [g.number for g in await services.catalog.generations("default")] == [1, 2]
    assert [run.id for run in await services.catalog.runs() if run.id == "old"] == []
    await jobs.log_health(services)


async def test_uploads_have_the_groups_of_their_area(services: Services) -> None:
    area = upload_record("default", services.upload_folder("default"), ("hr",))
    await add_source(area, services)
    (services.upload_folder("default")).mkdir(parents=True, exist_ok=True)
    (services.upload_folder("default") / "tea.md").write_text("Oolong.")
    await sync(services)
    (document,) = await services.catalog.documents()
    assert (document.groups, document.uri) == (("hr",), "upload:tea.md")
    assert await remove_source(area, services) == 1
    assert await services.catalog.sources() == []
    assert list(services.settings.data_dir.glob("uploads/*")) == []
